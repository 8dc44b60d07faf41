"""What compare returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from distill.results.result import Result, text_table
from distill.runtime.lines import html_table, many

if TYPE_CHECKING:
    import numpy as np

MOST_VERDICTS = 50  # pairs of photos up to which all are listed
# Cosines from which on a cell has a background, and that with the letters on it, of the 256 colours of a terminal: from pale to dark blue.
COLOURS = ((0.8, 17, 231), (0.65, 25, 231), (0.5, 67, 231), (0.35, 110, 16), (0.2, 153, 16), (0.0, 255, 16))


@dataclass(frozen=True)
class Verdict:
    """Two photos: their cosine, and whether that reaches the threshold."""

    first: str
    second: str
    cosine: float
    same: bool


@dataclass(frozen=True, eq=False)
class Beside:
    """What another model, the teacher, says of the same photos: its cosines, float64 [N, N], and its own threshold, None for none."""

    path: str
    cosines: np.ndarray
    threshold: float | None = None

    def as_dict(self) -> dict[str, Any]:
        found = {"path": self.path, "cosines": self.cosines.round(6).tolist()}
        return found if self.threshold is None else {**found, "threshold": self.threshold}


@dataclass(frozen=True, repr=False, eq=False)
class CompareResult(Result):
    """The cosines of all photos with all: float64 [N, N], symmetric, 1 on the diagonal.

    Attributes:
        threshold: the cosine from which on two photos count as the same person, None for none; source: where it is from, "" where it was given.
        turned: photos with an EXIF rotation that was not applied; resized: those that had another size than the model takes.
        model: its path; teacher: what another one says of the same photos.
        plot: the picture that was written, "" for none.
    """

    SHOWN: ClassVar[tuple[str, ...]] = ("images", "threshold", "verdicts")
    images: tuple[str, ...]
    cosines: np.ndarray
    threshold: float | None = None
    turned: tuple[str, ...] = ()
    resized: tuple[str, ...] = ()
    model: str = ""
    source: str = ""
    teacher: Beside | None = None
    plot: str = ""

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
        found: dict[str, Any] = {"images": list(self.images), "cosines": self.cosines.round(6).tolist()}
        if self.threshold is not None:
            found |= {"threshold": self.threshold, "verdicts": [asdict(one) for one in self.verdicts]}
        if self.teacher is not None:
            found["teacher"] = self.teacher.as_dict()
        said = {"source": self.source, "resized": list(self.resized), "plot": self.plot}
        return found | {name: value for name, value in said.items() if value}

    def in_words(self, colours: bool = False) -> str:
        """Returns the lines that the command line prints. colours: with the escape codes of a terminal, a darker cell for a higher cosine."""
        lines = [self._matrix(self.cosines, self.threshold, colours)]
        if self.teacher is not None:
            teacher = self._matrix(self.teacher.cosines, self.teacher.threshold, colours)
            lines = [self.model, *lines, "", f"{self.teacher.path} (teacher)", teacher, "", self._differences()]
        if self.threshold is not None:
            lines += self._verdicts()
        return "\n".join(lines)

    def _verdicts(self) -> list[str]:
        verdicts, lines = self.verdicts, list[str]()
        same = sum(one.same for one in verdicts)
        for (row, column), one in zip(self._places(), verdicts, strict=True):
            if one.same or len(verdicts) <= MOST_VERDICTS:
                lines.append(f"{row + 1} and {column + 1}: {'same' if one.same else 'different'} ({one.cosine:.3f}){self._teacher_says(row, column, one.same)}")
        lines.append(f"{same:,} of {len(verdicts):,} pairs reach the threshold of {self.threshold:.4g} (*): taken for the same person")
        if self.teacher is not None and (cut := self.teacher.threshold) is not None:
            same = sum(float(self.teacher.cosines[place]) >= cut for place in self._places())
            lines.append(f"teacher: {same:,} of {len(verdicts):,} pairs reach its threshold of {cut:.4g} (*)")
        return [*lines, *([f"the threshold is that of {self.source}"] if self.source else [])]

    def _teacher_says(self, row: int, column: int, same: bool) -> str:
        if self.teacher is None or self.teacher.threshold is None:
            return ""
        cosine = float(self.teacher.cosines[row, column])
        own = cosine >= self.teacher.threshold
        return f"; teacher: {'same' if own else 'different'} ({cosine:.3f})" + ("" if own == same else "  <- they differ")

    def _differences(self) -> str:
        """How far the two models are apart: on average, and most."""
        teacher = self.teacher.cosines if self.teacher is not None else self.cosines
        apart = [(abs(float(self.cosines[place] - teacher[place])), place) for place in self._places()]
        most, (row, column) = max(apart)
        mean = sum(one for one, _ in apart) / len(apart)
        return f"the models' cosines differ by {mean:.3f} on average, most by {most:.3f} ({row + 1} and {column + 1})"

    def __repr__(self) -> str:
        return f"CompareResult({len(self.images)} images, threshold={self.threshold}, {many(sum(one.same for one in self.verdicts), 'pairs')} the same)"

    def _repr_html_(self) -> str:
        tables = html_table(*self._table(self.cosines, self.threshold))
        return tables if self.teacher is None else tables + html_table(*self._table(self.teacher.cosines, self.teacher.threshold))

    def _matrix(self, cosines: np.ndarray, threshold: float | None, colours: bool) -> str:
        return text_table(*self._table(cosines, threshold), _paint(cosines, threshold) if colours else None)

    def _table(self, cosines: np.ndarray, threshold: float | None) -> tuple[list[str], list[list[str]]]:
        numbers = [str(number) for number in range(1, len(self.images) + 1)]
        rows = []
        for row, image in enumerate(self.images):
            cells = [f"{value:.3f}{_mark(row, column, value, threshold)}" for column, value in enumerate(cosines[row].tolist())]
            rows.append([f"{numbers[row]} {image if len(image) <= 40 else f'...{image[-37:]}'}", *cells])
        return ["", *(f"{number} " * (threshold is not None) or number for number in numbers)], rows


def _mark(row: int, column: int, cosine: float, threshold: float | None) -> str:
    """Returns the mark after a cosine: * where two photos count as the same person."""
    return "" if threshold is None else "*" if row != column and cosine >= threshold else " "


def _paint(cosines: np.ndarray, threshold: float | None) -> Callable[[int, int, str], str]:
    """Returns what gives a cell of the matrix its colours; one of two photos that count as the same person is bold too."""

    def paint(row: int, column: int, cell: str) -> str:
        if row < 0 or column == 0:
            return cell
        cosine = float(cosines[row, column - 1])
        back, letters = next(((back, letters) for least, back, letters in COLOURS if cosine >= least), (None, None))
        bold = "1;" if threshold is not None and row != column - 1 and cosine >= threshold else ""
        return cell if back is None else f"\033[{bold}38;5;{letters};48;5;{back}m{cell}\033[0m"

    return paint
