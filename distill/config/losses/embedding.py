"""Terms on the teacher's embeddings: one class a kind, with exactly the options that its formula in distill/losses takes.

The first line of a class is what `distill init --list` says of it.
"""

from typing import ClassVar, Literal

from distill.config.fields import AboveZero
from distill.config.losses.term import Term


class Mse(Term):
    """Mean squared difference from the teacher's numbers."""

    needs: ClassVar[str] = "embedding"
    heading: ClassVar[str] = "mse"
    by_length: ClassVar[bool] = True
    name: Literal["mse"] = "mse"

    def gradient_scale(self, dimension: int, norm: float) -> float:
        return 2 * norm**2 / dimension  # |t - p|^2 / D with |t| = |p| = norm is 2 norm^2 (1 - cos) / D


class Cosine(Term):
    """Cosine distance from the teacher's direction: 1 - cosine similarity."""

    needs: ClassVar[str] = "embedding"
    heading: ClassVar[str] = "cosine distance"
    name: Literal["cosine"] = "cosine"


class SumOfSquares(Term):
    """Sum of the squared differences from the teacher's numbers: mse times their count."""

    needs: ClassVar[str] = "embedding"
    heading: ClassVar[str] = "sum of squares"
    by_length: ClassVar[bool] = True
    name: Literal["sum_of_squares"] = "sum_of_squares"

    def gradient_scale(self, dimension: int, norm: float) -> float:
        return 2 * norm**2


class Kl(Term):
    """Divergence from the teacher's softmax, where its numbers are scores of classes and no embedding (Hinton).

    temperature: the higher, the more classes count that the teacher takes for unlikely.
    """

    needs: ClassVar[str] = "embedding"
    heading: ClassVar[str] = "kl"
    name: Literal["kl"] = "kl"
    temperature: AboveZero = 4.0
