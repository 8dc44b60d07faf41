"""What a term computes in a training: for most a pure function; for some an object with state, such as centres of classes, moving means or a queue.

State begins anew with each stage, as the optimizer's does. It stands in checkpoints, so that a run goes on with it, and in no export.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from distill.config.losses import Term
from distill.losses.embedding import cosine_distance, mse
from distill.losses.margin import arcface, softmax

Tensor = Any


class Objective(Protocol):
    """A term of a stage at work.

    Attributes:
        term: its options, and which field of a batch it needs.
        variables: its state, keras.Variable, in an order that is the same in each process; empty before `build`.
    """

    @property
    def term(self) -> Term: ...

    @property
    def variables(self) -> Sequence[Any]: ...

    def build(self, dimension: int, embedding: int, classes: int) -> None:
        """Makes the state, once, before the first step.

        Args:
            dimension: of the teacher's embeddings; that of the student's where there is no teacher.
            embedding: of the student's embeddings.
            classes: how many there are, 0 where rows have no labels.
        """

    def __call__(self, batch: Mapping[str, Tensor], predicted: Mapping[str, Tensor], training: bool) -> Tensor:
        """Returns one value a row.

        Args:
            batch: "embedding" [B, D] of the teacher and "label" int [B], those of them that the stage learns from.
            predicted: "student" [B, E], the embedding as it leaves the student; "embedding" [B, D], the same in the teacher's space; and of each head of
                the stage, under its name, the scores [B, C] of all classes.
            training: whether state may change; held-out rows change none.

        Returns:
            float32 [B], or of some of the rows.
        """


@dataclass(frozen=True)
class Stateless:
    """A pure function of the field that its term needs and the prediction that it takes: function(wanted, predicted, **options) -> [B]."""

    function: Callable[..., Tensor]
    term: Term
    variables: tuple[()] = ()

    def build(self, dimension: int, embedding: int, classes: int) -> None:
        pass

    def __call__(self, batch: Mapping[str, Tensor], predicted: Mapping[str, Tensor], training: bool) -> Tensor:
        return self.function(batch[self.term.needs], predicted[self.term.takes], **self.term.options)


OBJECTIVES: dict[str, Callable[[Any], Objective]] = {
    "mse": partial(Stateless, mse),
    "cosine": partial(Stateless, cosine_distance),
    "softmax": partial(Stateless, softmax),
    "arcface": partial(Stateless, arcface),
}
