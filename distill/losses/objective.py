"""What a term computes in a training: for most a pure function; for some an object with state, such as centres of classes, moving means or a queue.

State begins anew with each stage, as the optimizer's does. It stands in checkpoints, so that a run goes on with it, and in no export.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from distill.config.losses import Term
from distill.losses.adaptive import magface
from distill.losses.embedding import cosine_distance, kl, length, mse, sum_of_squares
from distill.losses.margin import arcface, cosface, linear_softmax, softmax, sphereface
from distill.losses.metric import centre, centre_mean, moved_centres, moved_centres_mean, triplet_all, triplet_hard
from distill.losses.relations import rkd_angle, rkd_distance
from distill.losses.stateful import Adaptive, Centres, Curricular, TeacherQueue

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


@dataclass(frozen=True)
class OfLengths(Stateless):
    """The same, of a function that is also given how long the embeddings are: function(wanted, predicted, norms [B], **options) -> [B]."""

    def __call__(self, batch: Mapping[str, Tensor], predicted: Mapping[str, Tensor], training: bool) -> Tensor:
        return self.function(batch[self.term.needs], predicted[self.term.takes], length(predicted["student"]), **self.term.options)


def _sphereface(label: Tensor, cosines: Tensor, norms: Tensor, scale: float = 30.0, angle_mult: float = 1.7, free_norm: bool = False) -> Tensor:
    return sphereface(label, cosines, scale, angle_mult, norms if free_norm else None)


def _triplet(label: Tensor, embedding: Tensor, margin: float = 0.35, distance: str = "cosine", mining: str = "hard", rows: int = 256) -> Tensor:
    return triplet_hard(label, embedding, margin, distance) if mining == "hard" else triplet_all(label, embedding, margin, distance, rows)


OBJECTIVES: dict[str, Callable[[Any], Objective]] = {
    "mse": partial(Stateless, mse),
    "cosine": partial(Stateless, cosine_distance),
    "sum_of_squares": partial(Stateless, sum_of_squares),
    "kl": partial(Stateless, kl),
    "rkd_distance": partial(Stateless, rkd_distance),
    "rkd_angle": partial(Stateless, rkd_angle),
    "queue": TeacherQueue,
    "softmax": partial(Stateless, softmax),
    "linear_softmax": partial(Stateless, linear_softmax),
    "sphereface": partial(OfLengths, _sphereface),
    "cosface": partial(Stateless, cosface),
    "arcface": partial(Stateless, arcface),
    "curricularface": Curricular,
    "adaface": Adaptive,
    "magface": partial(OfLengths, magface),
    "centre": partial(Centres, centre, moved_centres),
    "centre_mean": partial(Centres, centre_mean, moved_centres_mean),
    "triplet": partial(Stateless, _triplet),
}
