"""Terms on what the teacher's embeddings are to one another: one class a kind, with exactly the options that its formula in distill/losses takes.

The first line of a class is what `distill init --list` says of it.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from distill.config.fields import AboveZero
from distill.config.losses.term import Term


class RkdDistance(Term):
    """Distances between the rows of a batch, in units of their mean, as the teacher has them (RKD-D).

    rows: the first so many of a batch are compared, all pairs.
    """

    needs: ClassVar[str] = "embedding"
    heading: ClassVar[str] = "rkd distance"
    name: Literal["rkd_distance"] = "rkd_distance"
    rows: Annotated[int, Field(ge=2, le=4096)] = 256


class RkdAngle(Term):
    """Angles between the rows of a batch, as the teacher has them (RKD-A).

    rows: the first so many of a batch are compared, all triples: 512 of them take 0.5 GB, and as much for each step of the formula.
    """

    needs: ClassVar[str] = "embedding"
    heading: ClassVar[str] = "rkd angle"
    name: Literal["rkd_angle"] = "rkd_angle"
    rows: Annotated[int, Field(ge=2, le=512)] = 128


class Queue(Term):
    """How like the teacher's last embeddings a row is, as the teacher has it (SEED).

    size: how many of the teacher's embeddings are kept, the last ones. temperature: the lower, the more the nearest ones count.
    """

    needs: ClassVar[str] = "embedding"
    heading: ClassVar[str] = "queue loss"
    name: Literal["queue"] = "queue"
    size: Annotated[int, Field(ge=2)] = 4096
    temperature: AboveZero = 0.07

    def gradient_scale(self, dimension: int, norm: float) -> float:
        return 1 / self.temperature
