"""What all terms of a stage have, and the head that those on classes learn by. Nothing here computes with tensors."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Discriminator, Tag, model_validator

from distill.config.fields import AboveZero, Positive, later
from distill.storage.frozen import Frozen


def _auto(word: str) -> str:
    if word != "auto":
        raise ValueError('should be a number above 0, or "auto"')
    return word


Weight = Annotated[  # told apart by what was written, so that a wrong one is answered by one line
    Annotated[AboveZero, Tag("number")] | Annotated[str, AfterValidator(_auto), Tag("word")],
    Discriminator(lambda value: "word" if isinstance(value, str) else "number"),
]
Centres = Literal["learned", "mean", "adaptive"]


@dataclass(frozen=True)
class Head:
    """What makes scores of all classes of an embedding. Terms of equal heads share one, in all stages on the same classes.

    Attributes:
        kind: "cosine" to a direction a class, or "linear": weights and bias, of free norms.
        centres: where the directions come from: "learned" as other weights are; "mean" of a class's stored teacher embeddings; "adaptive": such means
            that move with the teacher's embeddings in training.
        sub_centres: directions a class, of which the nearest counts.
        batch_norm: whether linear scores go through batch norm.
    """

    kind: Literal["cosine", "linear"] = "cosine"
    centres: Centres = "learned"
    sub_centres: int = 1
    batch_norm: bool = False

    @property
    def name(self) -> str:
        """Returns "cosine", "linear", "linear_norm", "cosine_mean", "cosine_adaptive" or "cosine_3" (sub-centres)."""
        if self.kind == "linear":
            return "linear_norm" if self.batch_norm else "linear"
        if self.centres != "learned":
            return f"cosine_{self.centres}"
        return "cosine" if self.sub_centres == 1 else f"cosine_{self.sub_centres}"

    @property
    def taught(self) -> bool:
        """Returns whether it stands in the teacher's space and comes from the teacher's embeddings."""
        return self.centres != "learned"


class Term(Frozen):
    """One summand of the loss: weight times the mean over the batch.

    weight: a number, or "auto": so much that at the start of the stage the term's gradient at the embedding is `share` times that of the others, in
    the mean of those that have a number, or of the first term where none has.
    needs: the field of a batch that it learns from. heading: of its column in the table of a training; the last word may stand on a line of its own.
    by_length: whether its gradient grows with the length of the teacher's embeddings. in_class: whether it compares rows of a class with one another.
    """

    needs: ClassVar[str]
    heading: ClassVar[str]
    by_length: ClassVar[bool] = False
    in_class: ClassVar[bool] = False
    name: str
    weight: Weight = 1.0
    share: AboveZero = later(1.0)

    @model_validator(mode="after")
    def _share_of_auto(self) -> Self:
        if self.share != 1.0 and self.weight != "auto":
            raise ValueError(f'share = {self.share:g} belongs to weight = "auto", but weight is {self.weight:g}; leave one of them out')
        return self

    @classmethod
    def in_words(cls) -> str:
        """Returns what it computes and its keys, with what is taken where nothing is said.

        >>> Mse.in_words()
        "mean squared difference from the teacher's numbers; weight = 1"
        """
        words = (cls.__doc__ or "").partition("\n")[0].rstrip(".")
        keys = ", ".join(f"{key} = {_value(field.default)}" for key, field in cls.model_fields.items() if key not in ("name", "share"))
        return f"{words[:1].lower()}{words[1:]}; {keys}"

    @property
    def fields(self) -> tuple[str, ...]:
        """All fields of a batch that it looks at."""
        return (self.needs,)

    @property
    def head(self) -> Head | None:
        """The head whose scores it looks at; None where it looks at embeddings."""
        return None

    @property
    def takes(self) -> str:
        """Which prediction it looks at: "embedding" in the teacher's space, "student" as it leaves the student, or the scores of the head of this name."""
        return self.head.name if self.head else "embedding"

    @property
    def options(self) -> dict[str, float | str | bool]:
        """The keyword arguments of the term's function."""
        return {
            name: getattr(self, name) for name in type(self).model_fields if name not in ("name", "weight", "share", "centres", "sub_centres", "batch_norm")
        }

    def gradient_scale(self, dimension: int, norm: float) -> float:
        """Returns the largest change of the unweighted term for a change of one cosine, the unit in which terms compare.

        Args:
            dimension: of the embeddings.
            norm: their mean length.
        """
        return 1.0


class ClassTerm(Term):
    """A term on the cosines to the centres of all classes.

    centres, sub_centres: as of `Head`. scale: what the cosines are multiplied with.
    """

    needs: ClassVar[str] = "label"
    centres: Centres = later("learned")
    sub_centres: Positive = later(1)
    scale: AboveZero = 64.0

    @model_validator(mode="after")
    def _one_centre(self) -> Self:
        if self.sub_centres > 1 and self.centres != "learned":
            raise ValueError(f'sub_centres = {self.sub_centres} are learned, but centres = "{self.centres}" gives one centre a class; leave one of them out')
        return self

    @property
    def head(self) -> Head:
        return Head(centres=self.centres, sub_centres=self.sub_centres)

    @property
    def fields(self) -> tuple[str, ...]:
        return ("label", "embedding") if self.head.taught else ("label",)

    def gradient_scale(self, dimension: int, norm: float) -> float:
        return self.scale


def _value(default: object) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, (int, float)) else f'"{default}"'
