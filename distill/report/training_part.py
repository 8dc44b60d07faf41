"""The part of a run's page on its training: curves, shares of terms, and what was held still."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from distill.report import figures, plots
from distill.report.page import Block, Figure, Section, Text
from distill.report.run_files import RunFiles
from distill.runtime.lines import many

CURVES = {  # columns of history.csv: label of the axis; caption; what is added where rows were held out
    "loss": (
        "loss",
        "The loss that training lowers: the sum of the terms, each times its weight, as the mean over an epoch.",
        "The dashed one has those terms alone that can be computed for held-out rows. Where it stops falling while the solid one goes on, "
        "the student learns the training rows by heart.",
    ),
    "agreement": (
        "mean cosine",
        "Agreement with the teacher: the cosine of the student's and the teacher's embedding, as the mean over rows. 1 is the same direction.",
        "",
    ),
    "accuracy": ("share of rows", "Accuracy on labels: the share of rows for which the class head names the right class of all classes trained on.", ""),
    "learning_rate": ("learning rate", "The learning rate at the end of each epoch.", ""),
}
TRAINING, BOTH = "Solid: rows trained on.", "Solid: rows trained on; dashed: rows held out."
SHARES = "How much each term moves the embedding: the norm of its gradient there, times its weight, as a share of that of all terms. A term below 1 % hardly teaches."


def training(run: RunFiles) -> Section:
    """Returns the section of the curves of a run."""
    history = run.history
    blocks: list[Block] = []
    for name, (unit, caption, advice) in CURVES.items():
        if name not in history:
            continue
        held_out = np.isfinite(history.get(f"held_out_{name}", np.array([np.nan]))).any()
        words = [caption] if name == "learning_rate" else [caption, BOTH if held_out else TRAINING]
        alt = f"Plot of {name.replace('_', ' ')} over {many(len(history[name]), 'epochs')}: {_ends(history[name])}"
        blocks.append(Figure(figures.both(figures.curve, history, name, unit), " ".join([*words, *([advice] if held_out and advice else [])]), alt))
    blocks += _shares(history)
    if len(np.unique(history.get("stage", np.ones(1)))) > 1:
        blocks.append(Text("Epochs are counted through all stages; a vertical line marks where a stage begins."))
    return Section("Training", blocks)


def _shares(history: Mapping[str, np.ndarray]) -> list[Block]:
    names = [name.removeprefix("share_") for name in history if name.startswith("share_")]
    if not names:
        return [Text("Shares of terms in the gradient: there are none, because each stage has one term. A stage of several terms writes them each epoch.")]
    last = {name: values[np.isfinite(values)] for name in names if (values := history[f"share_{name}"]) is not None}
    alt = f"Plot of the shares of terms over epochs; at the end {', '.join(f'{name} {values[-1]:.0%}' for name, values in last.items() if len(values))}"
    return [Figure(figures.both(plots.shares, history, names), SHARES, alt)]


def _ends(values: np.ndarray) -> str:
    """([3, 2, 1]) -> "from 3 to 1"."""
    seen = values[np.isfinite(values)]
    return f"from {seen[0]:.4g} to {seen[-1]:.4g}" if len(seen) else "no figures"
