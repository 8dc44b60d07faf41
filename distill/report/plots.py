"""Plots that set several things side by side: shares of terms, two models on the same pairs, models by size and time, runs on common axes.

As `figures`: each takes numbers and returns the bytes of a PNG.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distill.report.figures import COLOURS, INK, WIDTH, History, log_where_wide, looks_of, plotted

MOST_POINTS = 20_000  # of a scatter; more are drawn as every n-th of each kind


def shares(history: History, names: Sequence[str], dark: bool = False) -> bytes:
    """Plots the shares of terms in the gradient over epochs, stacked to 100 %. names: of the columns share_<name> of a history; NaN counts as nothing."""

    def draw(figure: Any, dark: bool) -> None:
        axis = figure.subplots()
        tops = np.nan_to_num(np.array([history[f"share_{name}"] for name in names])) * 100
        epochs, bottom = np.arange(1, tops.shape[1] + 1), np.zeros(tops.shape[1])
        for name, values, look in zip(names, tops, looks_of(names, dark).values(), strict=True):
            axis.bar(epochs, values, width=0.9, bottom=bottom, color=look["color"], label=name)
            bottom = bottom + values
        axis.set(title="shares of terms", xlabel="epoch", ylabel="share of the gradient (%)", ylim=(0, 100), xlim=(0.5, len(epochs) + 0.5))
        axis.xaxis.get_major_locator().set_params(integer=True)
        figure.legend(loc="outside lower center", ncols=2)

    return plotted(draw, (WIDTH, 2.8 + 0.2 * ((len(names) + 1) // 2)), dark)


def scatter(teacher: np.ndarray, student: np.ndarray, same: np.ndarray, cuts: tuple[float, float], dark: bool = False) -> bytes:
    """Plots the student's cosine of each pair over the teacher's, float [N] each, with the thresholds of both, `cuts` = (teacher's, student's)."""
    every = -(-len(same) // MOST_POINTS)

    def draw(figure: Any, dark: bool) -> None:
        axis = figure.subplots()
        for kind, colour, label in ((~same, INK[dark][2], "different people"), (same, COLOURS[dark][0], "same person")):
            rows = np.flatnonzero(kind)[::every]
            axis.scatter(teacher[rows], student[rows], s=5 if len(rows) > 1000 else 12, color=colour, alpha=0.45, linewidths=0, label=label)
        low = min(float(teacher.min()), float(student.min()))
        axis.plot([low, 1], [low, 1], color=INK[dark][0], linewidth=0.8)
        axis.axvline(cuts[0], color=INK[dark][0], linewidth=1, linestyle=":")
        axis.axhline(cuts[1], color=INK[dark][0], linewidth=1, linestyle=":")
        axis.set(xlabel="cosine of the teacher", ylabel="cosine of the student")
        legend = figure.legend(loc="outside upper center", ncols=2, markerscale=3)
        for handle in legend.legend_handles:
            handle.set_alpha(1)

    return plotted(draw, (WIDTH, 4.4), dark)


@dataclass(frozen=True)
class Place:
    """A model in a plot: its name, how much it costs, its accuracy (a share), and the interval of that, None for none."""

    name: str
    cost: float
    accuracy: float
    between: tuple[float, float] | None = None


def costs(models: Sequence[Place], unit: str, dark: bool = False) -> bytes:
    """Plots accuracy over what models cost, on a logarithmic axis; unit: its label. The first of them has the colour of the teacher."""

    def draw(figure: Any, dark: bool) -> None:
        axis = figure.subplots()
        for one, look, mark in zip(models, looks_of([str(at) for at in range(len(models))], dark).values(), "osD^vP" * 99, strict=False):
            error = None if one.between is None else np.abs(np.array([[one.between[0]], [one.between[1]]]) - one.accuracy) * 100
            axis.errorbar([one.cost], [100 * one.accuracy], yerr=error, fmt=mark, color=look["color"], capsize=4, markersize=8, elinewidth=1.2, label=one.name)
        axis.set_xscale("log")
        least, most = min(one.cost for one in models), max(one.cost for one in models)
        axis.set_xlim(least / 2, most * 2)
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if most < 8 * least and f"{value:e}"[0] in "25" else "")
        axis.set(xlabel=f"{unit}, logarithmic", ylabel="pairs judged right (%)")
        figure.legend(loc="outside upper center", ncols=2)

    return plotted(draw, (WIDTH, 3.4 + 0.2 * ((len(models) + 1) // 2)), dark)


def runs(histories: Mapping[str, History], name: str, unit: str, dark: bool = False) -> bytes:
    """Plots one column of several runs over epochs on common axes, with the held-out twin dashed; runs without it are left out."""

    def draw(figure: Any, dark: bool) -> None:
        axis = figure.subplots()
        seen = []
        for (run, history), look in zip(histories.items(), looks_of(histories, dark).values(), strict=True):
            if name not in history or not np.isfinite(history[name]).any():
                continue
            epochs = np.arange(1, len(history[name]) + 1)
            mark = "o" if len(epochs) <= 3 else ""
            axis.plot(epochs, history[name], color=look["color"], marker=mark, markersize=5, label=run)
            if f"held_out_{name}" in history:
                axis.plot(epochs, history[f"held_out_{name}"], color=look["color"], marker=mark, markersize=5, linestyle="--")
            seen.append(history[name])
        axis.set(title=name.replace("_", " "), xlabel="epoch", ylabel=unit)
        axis.xaxis.get_major_locator().set_params(integer=True)
        if name in ("loss", "learning_rate"):
            log_where_wide(axis, np.concatenate(seen))
        figure.legend(loc="outside lower center", ncols=2)

    return plotted(draw, (WIDTH, 2.9 + 0.2 * ((len(histories) + 1) // 2)), dark)
