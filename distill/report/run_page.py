"""The page of a run: how good the student is, what it learned from, what to do next, and the figures of training by epoch.

It reads the files of the run folder and computes no new figures. `distill/report/demo_page.py` is the page of the demo.
"""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from distill.config.files import load_run
from distill.config.losses import Term
from distill.config.run import Run
from distill.config.stage import NoiseStage, Stage
from distill.data.folders import check_folder
from distill.errors import DistillError
from distill.report import figures
from distill.report.page import Block, Code, Commands, Facts, Figure, Section, Text, Tiles, write_page
from distill.runtime.lines import many
from distill.runtime.progress import phase

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


def read_history(path: Path) -> dict[str, np.ndarray]:
    """Returns the columns of a history.csv: float64 [epochs] each, NaN where a stage has no such figure."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        raise DistillError(f"{path}: no such file. Expected the history of a run that has trained for at least one epoch.") from None
    if not rows:
        raise DistillError(f"{path}: no epochs in it. Expected the history of a run that has trained for at least one.")
    return {name: np.array([float(row[name]) if row[name] else np.nan for row in rows]) for name in rows[0]}


@phase("drawing the report")
def write_run_report(run: Path) -> Path:
    """Writes RUN/report.html and returns its path.

    Reads history.csv and, where they exist, summary.json, run.toml and evaluation.json (which `distill evaluate RUN --out RUN` writes).
    """
    if (run / "report.html").exists():
        check_folder(run, "run")
    history, summary, evaluation = read_history(run / "history.csv"), read_json_of(run / "summary.json"), _own_evaluation(run)
    run_file = _run_file(run)
    blocks: list[Block] = [Tiles(_tiles(history, summary, evaluation)), Facts(_facts(run, run_file, summary, evaluation))]
    sections = [Section("", blocks), Section("Next", [Commands(_next(run, run_file, evaluation))]), Section("Training", _curves(history))]
    file = run / "run.toml"
    if file.is_file():
        sections.append(Section("", [Code("run.toml: the run file with every value", file.read_text(encoding="utf-8"))]))
    return write_page(run / "report.html", f"Run {run.resolve().name}", sections)


def read_json_of(path: Path) -> dict[str, Any]:
    """Returns the content of a JSON file; {} where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _own_evaluation(run: Path) -> dict[str, Any]:
    """Returns the evaluation.json of this run; {} where it is of another model."""
    evaluation = read_json_of(run / "evaluation.json")
    model = Path(str(evaluation.get("model", {}).get("path", "")))
    elsewhere = model.exists() and not model.resolve().is_relative_to(run.resolve()) and model.resolve() != Path.cwd()
    return {} if elsewhere else evaluation


def _run_file(run: Path) -> Run | None:
    """Returns the run file; None where there is none, or one of another version."""
    try:
        return load_run(run / "run.toml")
    except (DistillError, OSError):
        return None


# ------------------------------------------------------------------------------------------------------------ at the top


def _tiles(history: Mapping[str, np.ndarray], summary: Mapping[str, Any], evaluation: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns the tiles, best figure first: on pairs where it was evaluated, else on rows held out, else on rows trained on."""
    tiles = []
    if pairs := evaluation.get("model", {}).get("pairs"):
        tiles.append((f"{pairs['accuracy']:.1%}", "of the pairs of its evaluation judged right"))
    last = {name: values[np.isfinite(values)][-1] for name, values in history.items() if np.isfinite(values).any()}
    for name, words in (("agreement", "mean cosine to the teacher"), ("accuracy", "accuracy on labels")):
        for column, rows in ((f"held_out_{name}", "held-out rows"), (name, "rows trained on")):
            if column in last:
                tiles.append((f"{last[column]:.4f}", f"{words}, {rows}, last epoch"))
    tiles += [(f"{summary['parameters']:,}", "parameters of the student")] if "parameters" in summary else []
    return [*tiles, (str(len(history["loss"])), "epochs"), (duration(float(np.nansum(history["seconds"]))), "of training")]


def _facts(run: Path, run_file: Run | None, summary: Mapping[str, Any], evaluation: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    facts: list[tuple[str, list[str]]] = []
    student = str(run / "student.keras") if (run / "student.keras").is_file() else "not written yet: the run is not finished"
    if run_file is None:
        return [("student", [student]), ("evaluation", _evaluated(run, evaluation))]
    count = f", {summary['parameters']:,} parameters" if "parameters" in summary else ""
    facts.append(("student", [f"{run_file.student.backbone}{count}, embeddings of {run_file.student.numbers}", student]))
    facts.append(("teacher", _teacher(run_file)))
    if rows := summary.get("rows"):
        facts.append(("rows", [_rows_in_words(one, run_file) for one in rows]))
    facts.append(("stages", [f"{number}: {_stage_in_words(stage)}" for number, stage in enumerate(run_file.stage, 1)]))
    return [*facts, ("evaluation", _evaluated(run, evaluation))]


def _teacher(run_file: Run) -> list[str]:
    """Returns the teacher of the stages: the fingerprint in the shards, and the path where the run file has one."""
    from distill.data.shards import open_shards

    lines = []
    if run_file.data.shards and any(stage.source == "shards" for stage in run_file.stage):
        try:
            lines.append(f"fingerprint {open_shards(run_file.data.shards).meta.teacher}, of the shards in {run_file.data.shards}")
        except (DistillError, OSError):
            lines.append(f"of the shards in {run_file.data.shards}, which cannot be opened now")
        lines += [f"at {run_file.data.teacher}"] if run_file.data.teacher else []
    lines += [f"stage {number}: at {stage.teacher}, asked about noise" for number, stage in enumerate(run_file.stage, 1) if isinstance(stage, NoiseStage)]
    return lines or ["none: it learned from labels alone"]


def _rows_in_words(rows: Mapping[str, Any], run_file: Run) -> str:
    number, of = rows["trained_on"], {"shards": "of the shards", "images": "of the images", "noise": "of noise, other ones in each epoch"}
    words = f"stage {rows['stage']}: {many(number, 'rows')} {of[rows['source']]} trained on"
    holdout = run_file.data.holdout
    if rows["source"] == "noise" or holdout is None:
        return f"{words}, none held out"
    kept = f"{holdout.fraction:.3g} of all {'identities' if holdout.by == 'identity' else 'images'}"
    return f"{words}, {rows['held_out']:,} held out ({kept})" if rows["held_out"] else f"{words}; those held out ({kept}) were not judged"


def _centres(term: Term) -> str:
    """Where the class centres of a term come from, where they are not learned."""
    return f" (centres: {term.head.centres} of the teacher's embeddings)" if term.head and term.head.taught else ""


def _stage_in_words(stage: Stage) -> str:
    terms = " + ".join(f"{term.weight if isinstance(term.weight, str) else f'{term.weight:g}'} × {term.name}{_centres(term)}" for term in stage.terms)
    epochs = f"{stage.epochs} epoch{'s' * (stage.epochs != 1)}"
    words = f"source {stage.source}, {epochs}, loss {terms}, {stage.optimizer.name} at {stage.optimizer.learning_rate:g}, schedule {stage.schedule.name}"
    frozen = f", frozen: {stage.freeze if isinstance(stage.freeze, str) else ', '.join(stage.freeze)}" if stage.freeze else ""
    return words + frozen + "".join(f", {each.layers} at {each.learning_rate:g} times the rate" for each in stage.multipliers if each.learning_rate != 1)


def _evaluated(run: Path, evaluation: Mapping[str, Any]) -> list[str]:
    if not evaluation:
        return [f"none in {run} yet; the command below writes it, and this page anew with its figures"]
    lines = []
    for who, model in evaluation.items():
        if pairs := model.get("pairs"):
            tars = [f"TAR {point['tar']:.1%} at FAR {float(far):.1%}" for far, point in pairs["tar"].items() if point["tar"] is not None]
            number = pairs["genuine"] + pairs["impostors"]
            right = f"{pairs['accuracy']:.2%} ± {pairs['std']:.2%} of {number:,} pairs judged right"
            lines.append(f"{who}: {', '.join([right, *tars])} (pairs of {pairs['folder']})")
        if agreement := model.get("agreement"):
            lines.append(f"{who}: mean cosine {agreement['mean']:.4f} to the stored embeddings over {many(agreement['rows'], 'rows')} ({agreement['part']})")
    return lines


def _next(run: Path, run_file: Run | None, evaluation: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns (purpose, line) of the commands that come next."""
    shards = ["--shards", run_file.data.shards] if run_file and run_file.data.shards else []
    purpose = f"evaluate it{' on other pairs' if evaluation else ''}: FOLDER holds a folder of images for each identity, and it was trained on none of them"
    return [
        (purpose, shlex.join(["distill", "evaluate", str(run), "--pairs", "FOLDER", *shards, "--out", str(run)])),
        ("write it as a SavedModel for others to load", shlex.join(["distill", "export", str(run), f"{run}-export"])),
    ]


# --------------------------------------------------------------------------------------------------------- epoch by epoch


def _curves(history: Mapping[str, np.ndarray]) -> list[Block]:
    blocks: list[Block] = []
    for name, (unit, caption, advice) in CURVES.items():
        if name not in history:
            continue
        held_out = np.isfinite(history.get(f"held_out_{name}", np.array([np.nan]))).any()
        words = [caption] if name == "learning_rate" else [caption, BOTH if held_out else TRAINING]
        blocks.append(Figure(figures.both(figures.curve, history, name, unit), " ".join([*words, *([advice] if held_out and advice else [])])))
    if len(np.unique(history.get("stage", np.ones(1)))) > 1:
        blocks.append(Text("Epochs are counted through all stages; a vertical line marks where a stage begins."))
    return blocks


def duration(seconds: float) -> str:
    """Returns a time as 12 s, 3 min 20 s or 2 h 05 min.

    >>> duration(200)
    '3 min 20 s'
    """
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    return f"{seconds // 60} min {seconds % 60:02d} s" if seconds < 3600 else f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
