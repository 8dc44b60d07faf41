"""What all results have in common, and the tables that they print."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from distill.runtime.lines import html_table


class Result:
    """What all results have. SHOWN: the names of the fields and properties that `repr` and a notebook show."""

    SHOWN: ClassVar[tuple[str, ...]] = ()

    def as_dict(self) -> dict[str, Any]:
        """Returns plain values that JSON can hold, as `--json` prints them."""
        raise NotImplementedError

    def in_words(self) -> str:
        """Returns the lines that the command line prints."""
        raise NotImplementedError

    def __str__(self) -> str:
        return self.in_words()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={_short(getattr(self, name))}' for name in self.SHOWN)})"

    def _repr_html_(self) -> str:
        return html_table(("", type(self).__name__), [(name.replace("_", " "), _short(getattr(self, name))) for name in self.SHOWN])


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]], paint: Callable[[int, int, str], str] | None = None) -> str:
    """Returns aligned columns as lines, the first column to the left and the others to the right.

    paint: (row, column, cell) -> the cell in colours, of a cell that has its width already; rows are counted from 0, the head is row -1.
    """
    widths = [max(len(cell) for cell in column) for column in zip(head, *rows, strict=True)]
    lines = []
    for number, row in enumerate((head, *rows), -1):
        cells = [cell.ljust(width) if place == 0 else cell.rjust(width) for place, (cell, width) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells if paint is None else [paint(number, place, cell) for place, cell in enumerate(cells)]).rstrip())
    return "\n".join(lines)


def _short(value: Any) -> str:
    """Returns a value in short for a `repr` of one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_short(one)}" for key, one in value.items()) + "}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, tuple) and len(value) > 3:
        return f"({', '.join(map(_short, value[:3]))}, ... {len(value)} in all)"
    return str(value) if isinstance(value, Path) else repr(value)
