"""Terms on the teacher's embeddings: one class a kind, with exactly the options that its formula in distill/losses takes.

The first line of a class is what `distill init --list` says of it.
"""

from typing import ClassVar, Literal

from distill.config.losses.term import Term


class Mse(Term):
    """Mean squared difference from the teacher's numbers."""

    needs: ClassVar[str] = "embedding"
    heading: ClassVar[str] = "mse"
    name: Literal["mse"] = "mse"

    def gradient_scale(self, dimension: int, norm: float) -> float:
        return 2 * norm**2 / dimension  # |t - p|^2 / D with |t| = |p| = norm is 2 norm^2 (1 - cos) / D


class Cosine(Term):
    """Cosine distance from the teacher's direction: 1 - cosine similarity."""

    needs: ClassVar[str] = "embedding"
    heading: ClassVar[str] = "cosine distance"
    name: Literal["cosine"] = "cosine"
