"""What compare returns."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from distill.results.result import Result, text_table
from distill.runtime.lines import html_table, many

if TYPE_CHECKING:
    import numpy as np

MOST_VERDICTS = 50  # pairs of photos up to which all are listed


@dataclass(frozen=True)
class Verdict:
    """Two photos: their cosine, and whether that reaches the threshold."""

    first: str
    second: str
    cosine: float
    same: bool


@dataclass(frozen=True, repr=False, eq=False)
class CompareResult(Result):
    """The cosines of all photos with all: float64 [N, N], symmetric, 1 on the diagonal.

    threshold: the cosine from which on two photos count as the same person, None for none; turned: photos with an EXIF rotation that was
    not applied.
    """

    SHOWN: ClassVar[tuple[str, ...]] = ("images", "threshold", "verdicts")
    images: tuple[str, ...]
    cosines: np.ndarray
    threshold: float | None = None
    turned: tuple[str, ...] = ()

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """A verdict for each pair of photos; () without a threshold."""
        cut = self.threshold
        return () if cut is None else tuple(self._verdict(row, column, cut) for row, column in self._places())

    def _places(self) -> list[tuple[int, int]]:
        """Returns (row, column) of each pair in the matrix, each pair once."""
        return [(row, column) for row in range(len(self.images)) for column in range(row + 1, len(self.images))]

    def _verdict(self, row: int, column: int, threshold: float) -> Verdict:
        cosine = float(self.cosines[row, column])
        return Verdict(self.images[row], self.images[column], cosine, cosine >= threshold)

    def as_dict(self) -> dict[str, Any]:
        found = {"images": list(self.images), "cosines": self.cosines.round(6).tolist()}
        return found if self.threshold is None else {**found, "threshold": self.threshold, "verdicts": [asdict(one) for one in self.verdicts]}

    def in_words(self) -> str:
        lines = [text_table(*self._table())]
        if self.threshold is None:
            return lines[0]
        verdicts = self.verdicts
        same = sum(one.same for one in verdicts)
        for (row, column), one in zip(self._places(), verdicts, strict=True):
            if one.same or len(verdicts) <= MOST_VERDICTS:
                lines.append(f"{row + 1} and {column + 1}: {'same' if one.same else 'different'} ({one.cosine:.3f})")
        lines.append(f"{same:,} of {len(verdicts):,} pairs reach the threshold of {self.threshold:g} (*): taken for the same person")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"CompareResult({len(self.images)} images, threshold={self.threshold}, {many(sum(one.same for one in self.verdicts), 'pairs')} the same)"

    def _repr_html_(self) -> str:
        return html_table(*self._table())

    def _table(self) -> tuple[list[str], list[list[str]]]:
        numbers = [str(number) for number in range(1, len(self.images) + 1)]
        rows = []
        for row, image in enumerate(self.images):
            cells = [f"{value:.3f}{self._mark(row, column, value)}" for column, value in enumerate(self.cosines[row].tolist())]
            rows.append([f"{numbers[row]} {image if len(image) <= 40 else f'...{image[-37:]}'}", *cells])
        return ["", *(f"{number} " * (self.threshold is not None) or number for number in numbers)], rows

    def _mark(self, row: int, column: int, cosine: float) -> str:
        """Returns the mark after a cosine: * where two photos count as the same person."""
        return "" if self.threshold is None else "*" if row != column and cosine >= self.threshold else " "
