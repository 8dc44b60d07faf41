"""Plots: every function takes numbers and returns the bytes of a PNG, without files, runs or pages.

A plot is for light or for dark paper (`dark`). A model has one colour and one line style in every plot, from the
Okabe-Ito palette, which colour-blind readers can distinguish. Agg draws into memory, without pyplot's global state, so this works in any
thread and without a display.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

COLOURS = {  # by `dark`, where the same hues are lighter
    False: ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"),
    True: ("#3D9DDB", "#F0803C", "#2DBE92", "#E29BC4", "#F0B840", "#8CCFF5"),
}
LINES = ("-", "-", "--", "-.", ":", "--")
INK = {False: ("#1f2933", "#d5dbe1", "#9aa5b1"), True: ("#e4e9ee", "#3a444f", "#7b8794")}  # text, grid, impostors; by `dark`
LOOK = {
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "grid.linewidth": 0.6,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
}
# A figure is shown about 510 pixels wide on a laptop and 340 on a phone, where letters of 10 points are 10 pixels high.
WIDTH, PIXELS_PER_INCH = 4.8, 220
MARKS = (1e-2, 1e-3)  # FARs that are marked

History = Mapping[str, np.ndarray]
SHARES = ("agreement", "accuracy")  # at most 1: a logarithmic axis would hide what is between 0.9 and 1


def plotted(draw: Callable[[Any, bool], None], size: tuple[float, float], dark: bool) -> bytes:
    """Runs `draw(figure, dark)` on an empty figure of `size` inches with a transparent background, and returns it as PNG."""
    return _small_png(drawn(draw, size, dark))


def drawn(draw: Callable[[Any, bool], None], size: tuple[float, float], dark: bool) -> np.ndarray:
    """Returns the same as pixels, uint8 [H, W, 4]."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    text, grid, _ = INK[dark]
    look: Any = {
        **dict.fromkeys(["text.color", "axes.labelcolor", "xtick.color", "ytick.color"], text),
        **dict.fromkeys(["axes.edgecolor", "grid.color"], grid),
        **dict.fromkeys(["axes.facecolor", "figure.facecolor"], "none"),
        **dict.fromkeys(["axes.spines.top", "axes.spines.right", "legend.frameon"], False),
        **dict.fromkeys(["font.size", "axes.titlesize"], 10),
        **dict.fromkeys(["xtick.major.size", "ytick.major.size", "xtick.minor.size", "ytick.minor.size"], 0),
        **LOOK,
    }
    with mpl.rc_context(look):
        figure = Figure(figsize=size, layout="constrained")
        figure.set_dpi(PIXELS_PER_INCH)
        canvas = FigureCanvasAgg(figure)
        draw(figure, dark)
        canvas.draw()
        return np.array(canvas.buffer_rgba())


def _small_png(pixels: np.ndarray) -> bytes:
    """Returns uint8 [H, W, 4] as a PNG of 256 colours, which has a third of the bytes and shows a plot as well."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).quantize(256, method=Image.Quantize.FASTOCTREE).save(file, "PNG")
    return file.getvalue()


def looks_of(names: Iterable[str], dark: bool) -> dict[str, dict[str, Any]]:
    return {name: {"color": COLOURS[dark][at % 6], "linestyle": LINES[at % 6]} for at, name in enumerate(names)}


# ------------------------------------------------------------------------------------------------------------- training


def curve(history: History, name: str, unit: str, dark: bool = False) -> bytes:
    """Plots one column of a run over epochs, with `held_out_<name>` dashed beside it and a line between stages.

    history: columns of history.csv as float64 [epochs], NaN where empty. unit: label of the axis.
    """

    def draw(figure: Any, dark: bool) -> None:
        axis = figure.subplots()
        draw_columns(axis, history, name, COLOURS[dark][0], dark)
        axis.set(title=name.replace("_", " "), xlabel="epoch", ylabel=unit)
        if name not in SHARES:
            log_where_wide(axis, history[name])
        if f"held_out_{name}" in history:
            axis.legend(loc="best")

    return plotted(draw, (WIDTH, 2.8), dark)


def losses(runs: Mapping[str, History], dark: bool = False) -> bytes:
    """Plots the loss of each run in its own panel with its own axis, because runs minimise different losses."""

    def draw(figure: Any, dark: bool) -> None:
        columns = min(2, len(runs))
        axes = figure.subplots(-(-len(runs) // columns), columns, squeeze=False).ravel()
        for axis, (name, history), look in zip(axes, runs.items(), looks_of(runs, dark).values(), strict=False):
            draw_columns(axis, history, "loss", look["color"], dark)
            axis.set(title=name, xlabel="epoch", ylabel="loss")
            log_where_wide(axis, history["loss"])
        for axis in axes[len(runs) :]:
            axis.set_axis_off()

    return plotted(draw, (WIDTH, 2.1 * -(-len(runs) // min(2, len(runs)))), dark)


def draw_columns(axis: Any, history: History, name: str, colour: str, dark: bool) -> None:
    """Draws a column and its held-out twin over the epochs of all stages; a run of few epochs gets markers."""
    epochs = np.arange(1, len(history[name]) + 1)
    mark = "o" if len(epochs) <= 3 else ""
    starts = np.flatnonzero(np.diff(history.get("stage", epochs * 0))) + 1
    for column, style, label in ((name, "-", "training"), (f"held_out_{name}", "--", "held out")):
        if column in history and np.isfinite(history[column]).any():
            for part in np.split(np.arange(len(epochs)), starts):  # no line from one stage to the next, where rates jump
                drawn = axis.plot(epochs[part], history[column][part], style, color=colour, marker=mark, markersize=5)
            drawn[0].set_label(label)
    for start in starts:
        axis.axvline(start + 0.5, color=INK[dark][2], linewidth=1)
        label = f"stage {int(history['stage'][start])}"
        axis.annotate(label, (start + 0.5, 1.01), xycoords=("data", "axes fraction"), va="bottom", ha="center", fontsize=8.5)
    if len(epochs) <= 3:
        axis.set(xlim=(0.5, len(epochs) + 0.5), xticks=epochs)
    else:
        axis.set_xlim(1, len(epochs))
        axis.xaxis.get_major_locator().set_params(integer=True)


def log_where_wide(axis: Any, values: np.ndarray) -> None:
    """Makes the axis logarithmic where the values span more than a factor of 20, with plain numbers on it (0.01, not 10^-2)."""
    seen = values[np.isfinite(values)]
    if len(seen) and seen.min() > 0 and seen.max() > 20 * seen.min():
        axis.set_yscale("log")
        axis.set_ylabel(f"{axis.get_ylabel()}, logarithmic")
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        narrow = seen.max() < 200 * seen.min()  # few powers of ten, so that some numbers between them have room
        axis.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if narrow and f"{value:e}"[0] in "25" else "")
        axis.grid(axis="y", which="major")


# --------------------------------------------------------------------------------------------------------- verification


def histograms(scores: Mapping[str, tuple[np.ndarray, np.ndarray, float]], dark: bool = False) -> bytes:
    """Plots, for each model (scores [N], same bool [N], threshold), the cosines of genuine and of impostor pairs on one common axis."""
    lowest = min(float(values.min()) for values, _, _ in scores.values())
    edges = np.linspace(np.floor(lowest * 10) / 10, 1.0, 71)

    def draw(figure: Any, dark: bool) -> None:
        looks = looks_of(scores, dark)
        axes = figure.subplots(len(scores), 1, sharex=True, squeeze=False)[:, 0]
        for axis, (name, (values, same, threshold)) in zip(axes, scores.items(), strict=True):
            for kind, colour, label in ((~same, INK[dark][2], "different people"), (same, looks[name]["color"], "same person")):
                weights = np.full(int(kind.sum()), 100 / max(1, kind.sum()))
                axis.hist(values[kind], edges, weights=weights, color=colour, alpha=0.75, label=label, histtype="stepfilled")  # one outline: 0.3 of the time
            axis.axvline(threshold, color=INK[dark][0], linewidth=1.2, linestyle=":", label="threshold")
            axis.set(title=f"{name}, threshold {threshold:.2f}", ylabel="pairs (%)")
        axes[-1].set_xlabel("cosine of the two embeddings")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, handlelength=1.4)

    return plotted(draw, (WIDTH, 1.45 * len(scores) + 0.5), dark)


def rocs(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], impostors: int, height: float = 4.9, dark: bool = False) -> bytes:
    """Plots, for each model (far [K], tar [K], both rising), TAR over a logarithmic FAR, from one impostor pair on, with marks at 1e-2 and 1e-3.

    height: of the figure, in inches.
    """
    floor = 1 / max(2, impostors)

    def draw(figure: Any, dark: bool) -> None:
        axis = figure.subplots()
        for name, look in looks_of(curves, dark).items():
            far, tar = curves[name]
            start = float(tar[far <= floor].max(initial=0.0))
            inside = far > floor
            axis.step(np.append(floor, far[inside]), 100 * np.append(start, tar[inside]), where="post", label=name, **look)
        for mark in MARKS:
            if mark > floor:
                axis.axvline(mark, color=INK[dark][2], linewidth=1, linestyle=":")
        chance = np.geomspace(floor, 1, 100)
        axis.plot(chance, 100 * chance, color=INK[dark][2], linewidth=1, label="chance")
        axis.set(xscale="log", xlim=(floor, 1), ylim=(0, 101))
        axis.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
        axis.set(xlabel="impostor pairs accepted (FAR)", ylabel="genuine pairs accepted (TAR, %)")
        figure.legend(loc="outside upper center", ncols=3)

    return plotted(draw, (WIDTH, height), dark)


def agreements(cosines: Mapping[str, np.ndarray], dark: bool = False) -> bytes:
    """Plots, for each model, the cosines of all rows to the teacher's embeddings, with the median marked."""
    lowest = min(float(np.quantile(values, 0.002)) for values in cosines.values())
    edges = np.linspace(min(lowest, 0.95), 1.0, 61)

    def draw(figure: Any, dark: bool) -> None:
        axis = figure.subplots()
        for (name, values), look in zip(cosines.items(), after_teacher(cosines, dark), strict=True):
            weights = np.full(len(values), 100 / len(values))
            axis.hist(np.clip(values, edges[0], 1), edges, weights=weights, color=look["color"], alpha=0.75, label=name, histtype="stepfilled")
            axis.axvline(float(np.median(values)), color=look["color"], linewidth=1.5, linestyle="--")
        axis.set(xlabel="cosine of student's and teacher's embedding", ylabel="rows (%)", xlim=(edges[0], 1))
        axis.legend(loc="upper left")

    return plotted(draw, (WIDTH, 3.8), dark)


def after_teacher(names: Iterable[str], dark: bool) -> list[dict[str, Any]]:
    """Returns the looks of models without their teacher, whose colour stays reserved."""
    return list(looks_of(["", *names], dark).values())[1:]


# --------------------------------------------------------------------------------------------------------------- images


def contact_sheet(images: np.ndarray, columns: int = 10, gap: int = 2) -> bytes:
    """Returns uint8 [N, H, W, 3] as one PNG, `columns` in a row, with a transparent gap of `gap` pixels between them."""
    rows, (height, width) = -(-len(images) // columns), images.shape[1:3]
    sheet = np.zeros((rows * (height + gap) - gap, columns * (width + gap) - gap, 4), np.uint8)
    for number, image in enumerate(images):
        top, left = number // columns * (height + gap), number % columns * (width + gap)
        sheet[top : top + height, left : left + width, :3] = image
        sheet[top : top + height, left : left + width, 3] = 255
    return png_of(sheet)


def png_of(pixels: np.ndarray) -> bytes:
    """Returns uint8 [H, W, 3 or 4] as a PNG, pixel for pixel."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG", optimize=True)
    return file.getvalue()


def jpeg_of(pixels: np.ndarray) -> bytes:
    """Returns uint8 [H, W, 3] as a small JPEG, for thumbnails."""
    from distill.images.codec import encode_jpeg

    return encode_jpeg(np.ascontiguousarray(pixels), quality=82)


def both(draw: Callable[..., bytes], *arguments: Any) -> tuple[bytes, bytes]:
    """Returns the plot for light and for dark paper."""
    return draw(*arguments, dark=False), draw(*arguments, dark=True)
