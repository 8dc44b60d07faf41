"""The matrix of photos as a picture: thumbnails on both axes, a darker cell for a higher cosine. As `figures`, numbers in and a picture out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distill.report.figures import COLOURS, drawn

CELL, SMALLEST, LONGEST = 0.62, 0.2, 14.0  # inches: of a cell, of one where there are many, and of a whole matrix
MOST_NUMBERS, MOST_NAMES = 24, 40  # photos up to which cells have their cosine, and rows the names of files
MOST = 60
EDGE = 0.05  # cells beside a matrix without names
# Inches: of the narrowest matrix, for its title; between and around them; of the bar of colours with its numbers; of a title of two lines.
NARROWEST, GAP, BAR, TITLE = 3.0, 0.2, 1.0, 0.5
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
    rooms = [_room(names, cell), *[EDGE] * (len(matrices) - 1)]
    widths, tall = [(count + 1 + room) * cell for room in rooms], (count + 1 + EDGE) * cell
    slots = [max(width, NARROWEST) + GAP for width in widths]
    whole = (GAP + sum(slots) + BAR, GAP + tall + TITLE)  # placed by hand, so that the cells of both matrices have one size

    def draw(figure: Any, dark: bool) -> None:
        def axes(left: float, bottom: float, width: float, height: float) -> Any:
            return figure.add_axes((left / whole[0], bottom / whole[1], width / whole[0], height / whole[1]))

        figure.set_layout_engine("none")
        shown: Any = None
        for place, (room, matrix) in enumerate(zip(rooms, matrices, strict=True)):
            axis = axes(GAP + sum(slots[:place]), GAP, widths[place], tall)
            shown = _draw_one(axis, thumbnails, names if room > EDGE else [""] * count, room, matrix, cell)
        height = min(2.0, count * cell)
        bar = figure.colorbar(shown, cax=axes(GAP + sum(slots), GAP + count * cell - height, 0.14, height), ticks=[0, 0.25, 0.5, 0.75, 1])
        bar.outline.set_visible(False)
        bar.ax.set_yticklabels(["0 and below", "0.25", "0.5", "0.75", "1"], fontsize=7)
        bar.ax.set_title("cosine", fontsize=8, fontweight="normal", loc="left")

    return _on_white(drawn(draw, whole, dark=False))


def _room(names: Sequence[str], cell: float) -> float:
    """Cells that names of files take beside a matrix, of which a letter is 0.6 of its size wide."""
    return max(map(len, names)) * 0.6 * _letters(cell) / 72 / cell + 0.2 if len(names) <= MOST_NAMES else EDGE


def _letters(cell: float) -> float:
    """Points of the letters of names."""
    return max(4.0, min(7.5, 11.5 * cell))


def _draw_one(axis: Any, thumbnails: np.ndarray, names: Sequence[str], room: float, matrix: Matrix, cell: float) -> Any:
    """Row and column i of the matrix are from i to i + 1 of both axes; thumbnails stand from -1 to 0."""
    from matplotlib.patches import Rectangle

    count, letters = len(names), max(4.0, min(9.0, 11.5 * cell))
    shown = axis.imshow(matrix.cosines, cmap="Blues", vmin=0, vmax=1, extent=(0, count, count, 0))
    for place, thumbnail in enumerate(thumbnails):
        for left, top in ((-1, place), (place, -1)):
            axis.imshow(thumbnail, extent=_fitted(left, top, *thumbnail.shape[:2]), interpolation="antialiased")
        if names[place]:
            axis.text(-1.12, place + 0.5, names[place], ha="right", va="center", fontsize=_letters(cell))
    for row, column in np.ndindex(count, count):
        cosine = float(matrix.cosines[row, column])
        if count <= MOST_NUMBERS:
            axis.text(column + 0.5, row + 0.5, f"{cosine:.2f}", ha="center", va="center", fontsize=letters, color="white" if cosine > DARK else "#1f2933")
        if matrix.threshold is not None and row != column and cosine >= matrix.threshold:
            axis.add_patch(Rectangle((column + 0.06, row + 0.06), 0.88, 0.88, fill=False, edgecolor=COLOURS[False][1], linewidth=max(0.8, 3 * cell)))
    axis.set(xlim=(-1 - room, count), ylim=(count, -1.05), aspect="equal")
    axis.set_title(matrix.title if matrix.threshold is None else f"{matrix.title}\nframed: the same person, from {matrix.threshold:.3g} on", fontsize=8)
    axis.set_axis_off()
    return shown


def _fitted(left: float, top: float, height: int, width: int) -> tuple[float, float, float, float]:
    """The extent (left, right, bottom, top) of a picture in a cell, with a margin, its proportions kept."""
    tall, wide = 0.46 * height / max(height, width), 0.46 * width / max(height, width)
    return left + 0.5 - wide, left + 0.5 + wide, top + 0.5 + tall, top + 0.5 - tall


def _on_white(pixels: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 4] over white."""
    share = pixels[..., 3:] / np.float32(255)
    return np.rint(pixels[..., :3] * share + 255 * (1 - share)).astype(np.uint8)
