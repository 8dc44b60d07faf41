"""What export returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from distill.results.result import Result

MOST_VERDICTS = 50  # pairs of photos up to which all are listed


@dataclass(frozen=True, repr=False)
class ExportResult(Result):
    """An export, loaded again and equal to its student. card: its model card, with the path and the bytes on disk."""

    SHOWN: ClassVar[tuple[str, ...]] = ("path", "format", "height", "width", "dimension", "parameters", "bytes")
    path: Path
    format: str
    height: int
    width: int
    dimension: int
    parameters: int
    bytes: int
    card_file: Path
    card: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        return dict(self.card)

    def in_words(self) -> str:
        model = f"{self.height}x{self.width} to {self.dimension} numbers, {self.parameters:,} parameters, {self.bytes / 1e6:.1f} MB"
        return f"{self.path}: {self.format}, loaded again and equal to the student; {model}\nmodel card: {self.card_file}"
