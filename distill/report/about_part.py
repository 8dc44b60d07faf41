"""The part of a run's page on what it is made of: student, teacher, rows, stages, seeds, versions, fingerprints."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from distill import __version__
from distill.config.losses import Term
from distill.config.run import Run
from distill.config.stage import NoiseStage, Stage
from distill.errors import DistillError
from distill.report.page import Facts, Section
from distill.report.run_files import RunFiles
from distill.report.words import duration
from distill.runtime.lines import many
from distill.storage.files import sha256_file


def about(run: RunFiles) -> Section:
    """Returns the section of facts of a run."""
    return Section("Data and fingerprints", [Facts(_facts(run))])


def _facts(run: RunFiles) -> list[tuple[str, list[str]]]:
    file = run.folder / "student.keras"
    student = [str(file), *_of_file(file)] if file.is_file() else ["not written yet: the run is not finished"]
    if run.run_file is None:
        return [("student", student)]
    count = f", {run.summary['parameters']:,} parameters" if "parameters" in run.summary else ""
    facts = [("student", [f"{run.run_file.student.backbone}{count}, embeddings of {run.run_file.student.numbers}", *student])]
    facts.append(("teacher", _teacher(run.run_file)))
    if shards := _shards(run.run_file):
        facts.append(("shards", shards))
    if rows := run.summary.get("rows"):
        facts.append(("rows", [_rows_in_words(one, run.run_file) for one in rows]))
    facts.append(("stages", [f"{number}: {stage_in_words(stage)}" for number, stage in enumerate(run.run_file.stage, 1)]))
    took = duration(float(np.nansum(run.history["seconds"]))) if "seconds" in run.history else "a time that is not known"
    facts.append(("training", [f"{many(len(run.history['loss']), 'epochs')} in {took}"]))
    return [*facts, ("seed", [str(run.run_file.seed)]), ("this page", [f"distill {__version__}"])]


def _of_file(path: Path) -> list[str]:
    """Returns the fingerprint of a .keras file, and what wrote it."""
    told = [f"sha256 {sha256_file(path)}"] if path.stat().st_size else []
    try:
        with zipfile.ZipFile(path) as file:
            meta = json.loads(file.read("metadata.json"))
        return [*told, f"written by Keras {meta['keras_version']}, {meta['date_saved'].replace('@', ' at ')}"]
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, AttributeError, TypeError):
        return told


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


def _shards(run_file: Run) -> list[str]:
    """Returns what the set of shards is; [] where there is none, or it cannot be opened."""
    from distill.data.shards import open_shards

    try:
        found = open_shards(run_file.data.shards) if run_file.data.shards else None
    except (DistillError, OSError):
        return []
    if found is None:
        return []
    size = f"{found.image.height}x{found.image.width}"
    people = f", {many(len(found.classes), 'identities')}" if found.classes else ""
    views = f", {found.meta.views} views" if found.meta.views > 1 else ""
    return [
        f"{many(found.rows, 'rows')}, {many(found.rejects, 'rejects')}{people}, images of {size}{views}, embeddings of {found.dimension} numbers, {found.meta.dtype}",
        f"fingerprint {found.identity}",
    ]


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


def stage_in_words(stage: Stage) -> str:
    """Returns a stage in one line: its source, length, terms, optimizer, schedule, and what is frozen or multiplied."""
    terms = " + ".join(f"{term.weight if isinstance(term.weight, str) else f'{term.weight:g}'} × {term.name}{_centres(term)}" for term in stage.terms)
    epochs = f"{stage.epochs} epoch{'s' * (stage.epochs != 1)}"
    words = f"source {stage.source}, {epochs}, loss {terms}, {stage.optimizer.name} at {stage.optimizer.learning_rate:g}, schedule {stage.schedule.name}"
    frozen = f", frozen: {stage.freeze if isinstance(stage.freeze, str) else ', '.join(stage.freeze)}" if stage.freeze else ""
    return words + frozen + "".join(f", {each.layers} at {each.learning_rate:g} times the rate" for each in stage.multipliers if each.learning_rate != 1)
