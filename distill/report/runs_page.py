"""The page of several runs: their figures in one table, curves on common axes, and the settings in which they differ."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from distill.config.files import settings
from distill.report import figures, plots
from distill.report.page import Block, Callout, Commands, Facts, Figure, Section, Table, Text, write_page
from distill.report.run_files import Figures, RunFiles, set_name, sets_of
from distill.report.training_part import CURVES
from distill.report.verdict import judge
from distill.report.words import duration, figure_range

Row = list[str | tuple[str, float]]


def write_runs_report(runs: Sequence[RunFiles], path: Path) -> Path:
    """Writes one page that sets runs side by side, and returns its path."""
    named = names_of(runs)
    sections = [
        Section("", [_verdicts(named), _table(named)]),
        Section("Training", _curves(named)),
        Section("What differs", _differences(named)),
        Section("The runs", [Facts([(name, [str(run.folder), "finished" if run.finished else "not finished"]) for name, run in named.items()])]),
    ]
    together = shlex.join(["distill", "evaluate", *(str(run.folder) for run in runs), "--pairs", "PAIRS"])
    sections.append(Section("Next", [Commands([("all of them on the same pairs, with intervals of their differences", together)])]))
    return write_page(path, f"{len(runs)} runs", sections)


def names_of(runs: Sequence[RunFiles]) -> dict[str, RunFiles]:
    """Returns the runs by so many of the last parts of their paths as make them different.

    >>> list(names_of([RunFiles.read(Path("a/run")), RunFiles.read(Path("b/run"))]))
    ['a/run', 'b/run']
    """
    parts = [run.folder.resolve().parts for run in runs]
    depth = 1
    while len({each[-depth:] for each in parts}) < len(parts):
        depth += 1
    return {"/".join(each[-depth:]): run for each, run in zip(parts, runs, strict=True)}


def _verdicts(named: Mapping[str, RunFiles]) -> Callout:
    """Returns what each run is worth, and whether their figures may be compared."""
    lines = [f"{name}: {judge(run).headline}" for name, run in named.items()]
    judged = {name: sets_of(run.student)[0] for name, run in named.items() if sets_of(run.student)}
    if len(judged) < 2:
        return Callout("open", "Not to be compared on pairs yet: fewer than two of these runs were evaluated.", lines)
    if len({_of_pairs(one) for one in judged.values()}) > 1:
        return Callout("open", "Not to be compared on pairs: they were evaluated on different ones.", lines)
    best = max(judged, key=lambda name: judged[name]["accuracy"])
    shown = figure_range("accuracy", *_interval(judged[best])) or "no interval"
    rivals = [name for name, one in judged.items() if name != best and _overlap(one, judged[best])]
    told = f"Highest accuracy on {set_name(judged[best])}: {best}, {judged[best]['accuracy']:.2%} (95 % interval {shown})."
    near = f"Its interval meets that of {', '.join(rivals)}, so this may be chance: the command at the end of this page tells, on the same pairs."
    return Callout("open" if rivals else "equal", told, [*([near] if rivals else []), *lines])


def _of_pairs(one: Figures) -> tuple[object, ...]:
    return one.get("folder"), one["genuine"], one["impostors"]


def _interval(one: Figures) -> tuple[float | None, float | None]:
    within = ((one.get("intervals") or {}).get("figures") or {}).get("accuracy") or {}
    return within.get("low"), within.get("high")


def _overlap(one: Figures, other: Figures) -> bool:
    """Whether two intervals meet, or one of them is not known."""
    (low, high), (least, most) = _interval(one), _interval(other)
    return low is None or high is None or least is None or most is None or (low <= most and least <= high)


def _table(named: Mapping[str, RunFiles]) -> Table:
    rows: list[Row] = []
    for name, run in named.items():
        pairs, agreed = sets_of(run.student), run.student.get("agreement") or {}
        cells = ["-"] * 4
        if pairs:
            shown = figure_range("accuracy", *_interval(pairs[0]))
            tar = (pairs[0]["tar"].get("0.01") or {}).get("tar")
            cells = [set_name(pairs[0]), f"{pairs[0]['accuracy']:.2%}", shown or "-", "-" if tar is None else f"{tar:.1%}"]
        held = run.history.get("held_out_agreement", run.history.get("agreement", np.array([np.nan])))
        last = held[np.isfinite(held)]
        parameters = f"{run.summary['parameters']:,}" if "parameters" in run.summary else "-"
        row = [name, *cells, f"{agreed['mean']:.4f}" if agreed else "-", f"{last[-1]:.4f}" if len(last) else "-"]
        rows.append([*row, parameters, str(len(run.history["loss"])), duration(float(np.nansum(run.history["seconds"])))])
    caption = (
        "Accuracy, its 95 % interval and TAR are of the first set of pairs of each run's evaluation. Agreement: the mean cosine to the stored embeddings, by "
        "distill evaluate --shards; in training: the mean of the last epoch, on held-out rows where there are any."
    )
    columns = ["", "pairs", "accuracy", "95 % interval", "TAR at FAR 1 %", "agreement", "in training", "parameters", "epochs", "training"]
    return Table(columns, rows, caption)


def _curves(named: Mapping[str, RunFiles]) -> list[Block]:
    histories = {name: run.history for name, run in named.items()}
    blocks: list[Block] = []
    for name, (unit, caption, _) in CURVES.items():
        if any(name in history for history in histories.values()):
            more = " Losses of other terms or weights are other figures, and their height says nothing." if name == "loss" else ""
            dashed = " Dashed: rows held out." if any(f"held_out_{name}" in history for history in histories.values()) else ""
            blocks.append(Figure(figures.both(plots.runs, histories, name, unit), f"{caption}{dashed}{more}", f"Plot of {name} of {len(histories)} runs"))
    return blocks


def _differences(named: Mapping[str, RunFiles]) -> list[Block]:
    """Returns the settings that are not the same in all run files."""
    known = {name: settings(run.run_file) for name, run in named.items() if run.run_file is not None}
    lost = [name for name in named if name not in known]
    blocks: list[Block] = [Text(f"The run file of {', '.join(lost)} cannot be read, so it is not compared.")] if lost else []
    keys = list(dict.fromkeys(key for one in known.values() for key in one))
    rows: list[Row] = []
    for key in keys:
        values = [str(one.get(key, "not set")) for one in known.values()]
        if len(set(values)) > 1:
            rows.append([key, *values])
    if not rows:
        return [*blocks, Text("Their run files are equal.")]
    return [*blocks, Table(["setting", *known], rows, "Only what differs; all else is equal in these run files.", wraps=True)]
