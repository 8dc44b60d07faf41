"""The matrix of photos as a picture: thumbnails on both axes, a darker cell for a higher cosine. As `figures`, numbers in and the bytes of a PNG out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distill.report.figures import COLOURS, plotted

CELL, SMALLEST, LONGEST = 0.62, 0.2, 14.0  # inches: of a cell, of one where there are many, and of a whole matrix
MOST_NUMBERS, MOST_NAMES = 24, 40  # photos up to which cells have their cosine, and rows the names of files
MOST = 60
NARROWEST = 3.0  # inches of one matrix, for its title
DARK = 0.6  # from which on letters on a cell are white


@dataclass(frozen=True)
class Matrix:
    """What one model says: title, cosines float [N, N], and the threshold from which on a cell is framed, None for none."""

    title: str
    cosines: np.ndarray
    threshold: float | None = None


def photos_matrix(thumbnails: np.ndarray, names: Sequence[str], matrices: Sequence[Matrix]) -> np.ndarray:
    """Draws the matrices of one or two models side by side, uint8 [H, W, 3] on white.

    Args:
        thumbnails: uint8 [N, h, w, 3].
        names: of the photos, for the rows.
    """
    count = len(names)
    cell = max(SMALLEST, min(CELL, LONGEST / (count + 1)))
    named = count <= MOST_NAMES
    size = (len(matrices) * max((count + 1) * cell + 0.7, NARROWEST) + (1.3 if named else 0.2), (count + 1) * cell + 0.6)

    def draw(figure: Any, dark: bool) -> None:
        shown: Any = None
        for place, (axis, matrix) in enumerate(zip(figure.subplots(1, len(matrices), squeeze=False)[0], matrices, strict=True)):
            shown = _draw_one(axis, thumbnails, names if named and not place else [""] * count, matrix, cell)
        bar = figure.colorbar(shown, ax=figure.axes, shrink=min(1.0, 2.2 / size[1]), aspect=14, pad=0.02, ticks=[0, 0.25, 0.5, 0.75, 1])
        bar.outline.set_visible(False)
        bar.ax.set_yticklabels(["0 and below", "0.25", "0.5", "0.75", "1"], fontsize=7)
        bar.ax.set_title("cosine", fontsize=8, fontweight="normal", loc="left")

    return _on_white(plotted(draw, size, dark=False))


def _draw_one(axis: Any, thumbnails: np.ndarray, names: Sequence[str], matrix: Matrix, cell: float) -> Any:
    """Row and column i of the matrix are from i to i + 1 of both axes; thumbnails stand from -1 to 0."""
    from matplotlib.patches import Rectangle

    count, letters = len(names), max(4.0, min(9.0, 11.5 * cell))
    shown = axis.imshow(matrix.cosines, cmap="Blues", vmin=0, vmax=1, extent=(0, count, count, 0))
    for place, thumbnail in enumerate(thumbnails):
        for left, top in ((-1, place), (place, -1)):
            axis.imshow(thumbnail, extent=_fitted(left, top, *thumbnail.shape[:2]), interpolation="antialiased")
        if names[place]:
            axis.text(-1.12, place + 0.5, names[place], ha="right", va="center", fontsize=min(7.5, letters))
    for row, column in np.ndindex(count, count):
        cosine = float(matrix.cosines[row, column])
        if count <= MOST_NUMBERS:
            axis.text(column + 0.5, row + 0.5, f"{cosine:.2f}", ha="center", va="center", fontsize=letters, color="white" if cosine > DARK else "#1f2933")
        if matrix.threshold is not None and row != column and cosine >= matrix.threshold:
            axis.add_patch(Rectangle((column + 0.06, row + 0.06), 0.88, 0.88, fill=False, edgecolor=COLOURS[False][1], linewidth=max(0.8, 3 * cell)))
    axis.set(xlim=(-1.05, count), ylim=(count, -1.05), aspect="equal")
    axis.set_title(matrix.title if matrix.threshold is None else f"{matrix.title}\nframed: the same person, from {matrix.threshold:.3g} on", fontsize=8)
    axis.set_axis_off()
    return shown


def _fitted(left: float, top: float, height: int, width: int) -> tuple[float, float, float, float]:
    """The extent (left, right, bottom, top) of a picture in a cell, with a margin, its proportions kept."""
    tall, wide = 0.46 * height / max(height, width), 0.46 * width / max(height, width)
    return left + 0.5 - wide, left + 0.5 + wide, top + 0.5 + tall, top + 0.5 - tall


def _on_white(png: bytes) -> np.ndarray:
    import io

    from PIL import Image

    picture = Image.open(io.BytesIO(png)).convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB"))
