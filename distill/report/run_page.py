"""The page of a run: whether the student may replace its teacher, from what it was made, how it learned, and what it is worth, in that order.

It reads the files of the run folder and computes no new figures. A part that has nothing to show says in a line which command fills it.
`distill/report/runs_page.py` is the page of several runs, `distill/report/demo_page.py` that of the demo.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from distill.data.folders import check_folder, check_page
from distill.report.about_part import about
from distill.report.page import Block, Callout, Code, Section, Tiles, write_page
from distill.report.pairs_part import differing, groups, on_pairs
from distill.report.run_files import RunFiles, sets_of
from distill.report.shipping_part import costs, exports, following
from distill.report.teacher_part import agreement, asymmetric, leaks, probe
from distill.report.training_part import training
from distill.report.verdict import differences, judge, ratios
from distill.report.words import duration, figure_name, signed, times
from distill.runtime.progress import phase


@phase("drawing the report")
def write_run_report(run: Path) -> Path:
    """Writes RUN/report.html and returns its path.

    Reads history.csv and, where they exist, summary.json, run.toml, exports.json, and evaluation.json with scores-*.npz (which
    `distill evaluate RUN --out RUN` writes, or `--out RUN/evaluation`).
    """
    if os.path.lexists(run / "report.html"):
        check_folder(run, "run")
        check_page(run / "report.html")
    return write_page_of(RunFiles.read(run), run / "report.html")


def write_page_of(run: RunFiles, path: Path) -> Path:
    """Writes the page of a run to a file, and returns its path."""
    verdict = judge(run)
    top: list[Block] = [Callout(verdict.kind, verdict.headline, verdict.lines), Tiles(_tiles(run))]
    parts = [about, training, on_pairs, differing, agreement, asymmetric, leaks, groups, probe, costs, exports, following]
    sections = [Section("", top), *(part(run) for part in parts)]
    if run.text:
        sections.append(Section("", [Code("run.toml: the run file with every value", run.text)]))
    return write_page(path, f"Run {run.name}", sections)


def _tiles(run: RunFiles) -> list[tuple[str, str]]:
    """Returns the tiles, best figure first: on pairs where it was evaluated, else on rows held out, else on rows trained on."""
    tiles = []
    if pairs := sets_of(run.student):
        for each in differences(pairs[0])[:1]:
            between = f"{signed(100 * each.low)} to {signed(100 * each.high)}"
            tiles.append((signed(100 * each.value), f"points of {figure_name(each.figure)} against the teacher; 95\u00a0% interval {between}"))
        tiles.append((f"{pairs[0]['accuracy']:.1%}", "of the pairs of its evaluation judged right"))
    tiles += [(times(ratio), words) for name, ratio in ratios(run).items() if (words := SMALLER.get(name))]
    last = {name: values[np.isfinite(values)][-1] for name, values in run.history.items() if np.isfinite(values).any()}
    for name, words in (("agreement", "mean cosine to the teacher"), ("accuracy", "accuracy on labels")):
        column, rows = (f"held_out_{name}", "held-out rows") if f"held_out_{name}" in last else (name, "rows trained on")
        if column in last:
            tiles.append((f"{last[column]:.4f}", f"{words}, {rows}, last epoch"))
    if pairs:
        return tiles
    tiles += [(f"{run.summary['parameters']:,}", "parameters of the student")] if "parameters" in run.summary else []
    return [*tiles, (str(len(run.history["loss"])), "epochs"), (duration(float(np.nansum(run.history["seconds"]))), "of training")]


SMALLER = {"bytes": "smaller on disk than the teacher", "latency": "faster than the teacher, one image on one thread"}
