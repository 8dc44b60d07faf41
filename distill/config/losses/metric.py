"""Terms on the student's embeddings and their classes, without a class head: one class a kind, with exactly the options that its formula takes.

The first line of a class is what `distill init --list` says of it.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, FiniteFloat

from distill.config.fields import NotNegative, Share
from distill.config.losses.term import Term


class OwnSpace(Term):
    """A term on the embedding as it leaves the student."""

    needs: ClassVar[str] = "label"

    @property
    def takes(self) -> str:
        return "student"


class Centre(OwnSpace):
    """Half the squared distance from the centre of the row's class, which follows its rows (center loss).

    alpha: how far a centre goes with each batch: alpha * n / (n + 1) of the way to the mean of its n rows.
    """

    heading: ClassVar[str] = "centre loss"
    name: Literal["centre"] = "centre"
    alpha: Annotated[FiniteFloat, Field(gt=0, le=1)] = 0.5


class CentreMean(OwnSpace):
    """Mean squared difference from the centre of the row's class, which follows its rows.

    alpha: how much of a centre stays at each row: it goes (1 - alpha) n of the way to the mean of its n rows, all of it at most.
    """

    heading: ClassVar[str] = "centre mean"
    name: Literal["centre_mean"] = "centre_mean"
    alpha: Share = 0.9


class Triplet(OwnSpace):
    """Rows of the same class nearer than those of others, by a margin.

    mining: "hard", the farthest of the same class and the nearest of others for each row; "all", the mean over all triplets that are not met yet.
    rows: of mining = "all": the first so many of a batch are compared: 512 of them take 0.5 GB, and as much for each step of the formula.
    """

    heading: ClassVar[str] = "triplet loss"
    in_class: ClassVar[bool] = True
    name: Literal["triplet"] = "triplet"
    margin: NotNegative = 0.35
    distance: Literal["cosine", "squared_euclidean"] = "cosine"
    mining: Literal["hard", "all"] = "hard"
    rows: Annotated[int, Field(ge=3, le=512)] = 256
