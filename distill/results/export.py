"""What export returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from distill.data.kinds import CARD, MODEL_CARD, MODEL_PAGE
from distill.results.result import Result, text_table


@dataclass(frozen=True, repr=False)
class ExportResult(Result):
    """An export, of which each file was loaded again and is equal to its student.

    Attributes:
        exports: {format: {"file", "bytes", "cosine_q01", "cosine_min", "images", "ms_per_image", ...}}.
        left_out: {format: reason}, of format "all".
        card_file, card: its card as JSON (model.json; of format "saved_model" that in the SavedModel), and its content with the path and the bytes on disk.
    """

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

    @classmethod
    def of(cls, path: Path, card: Mapping[str, Any]) -> ExportResult:
        """Returns the result of what `distill.exports.export.export` returned."""
        sizes = (card["height"], card["width"], card["dimension"], card["parameters"], card["bytes"])
        return cls(path, card["format"], *sizes, path / (CARD if card["format"] == "saved_model" else MODEL_CARD), card)

    @property
    def exports(self) -> Mapping[str, Mapping[str, Any]]:
        return self.card["exports"]

    @property
    def left_out(self) -> Mapping[str, str]:
        return self.card["left_out"]

    def files(self) -> dict[str, Path]:
        """Returns the main file of each format."""
        return {name: self.path / one["files"][0] for name, one in self.exports.items()}

    def as_dict(self) -> dict[str, Any]:
        return dict(self.card)

    def in_words(self) -> str:
        model = f"{self.height}x{self.width} to {self.dimension} numbers, {self.parameters:,} parameters, {self.bytes / 1e6:.1f} MB"
        proof = self.card["proof"]
        rows = [
            (name, one["files"][0], f"{one['bytes'] / 1e6:.2f}", f"{one['cosine_q01']:.6f}", f"{one['ms_per_image']:.2f}") for name, one in self.exports.items()
        ]
        return "\n".join(
            [
                f"{self.path}: {self.format}, loaded again and equal to the student; {model}",
                text_table(("format", "file", "MB", "cosine", "ms"), rows),
                f"cosine: that to the student which 99 % of {proof['images']} images have at least ({proof['source']}); ms: one image alone",
                *self._lost(),
                *(f"left out: {name}, because {reason}" for name, reason in self.left_out.items()),
                f"model card: {self.path / MODEL_PAGE}",
            ]
        )

    def _lost(self) -> list[str]:
        """Returns what each format lost on pairs, a line for each set of them."""
        lines: dict[str, list[str]] = {}
        for name, one in self.exports.items():
            for found in one.get("pairs", []):
                told = "too few impostor pairs" if found["tar"] is None else f"{100 * found['difference']:+.2f}"
                lines.setdefault(found["pairs"], []).append(f"{name} {told}")
        return [f"points of TAR at FAR 1 % against the student, on {pairs}: {', '.join(told)}" for pairs, told in lines.items()]
