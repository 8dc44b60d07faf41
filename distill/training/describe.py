"""What a training says of its stages before their first step, in words: how many steps, which batches, rows, weights of terms, and warnings."""

import math
from typing import Any

import keras
import numpy as np

from distill.config.run import Run
from distill.data.sources.balance import described
from distill.errors import DistillError
from distill.models.norms import layers_of
from distill.runtime.lines import many
from distill.training.batches import SMALL
from distill.training.stages import StageData

USUAL_STEPS, FEW_STEPS = 2000, 500  # of a student that begins from nothing: what it gets without a run file; fewer than it can do with


def few_steps(run: Run, stages: list[StageData]) -> list[str]:
    """Returns a warning where a student that begins from nothing has fewer steps than it needs, in one line; else nothing."""
    steps = sum(data.stage.epochs * data.steps for data in stages)
    if steps >= FEW_STEPS or run.student.weights:
        return []
    longer = " ".join(f"--set stage.{data.number}.epochs={math.ceil(data.stage.epochs * USUAL_STEPS / steps)}" for data in stages)
    return [
        f"warning: {steps:,} step{'s' * (steps > 1)} in all {'are' if steps > 1 else 'is'} few; a student usually needs {USUAL_STEPS:,}. "
        f"To train longer: --steps {USUAL_STEPS}, or with a run file {longer}"
    ]


def check_batches(stages: list[StageData], student: keras.Model) -> list[str]:
    """What is to be said of batches too small for the student's batch norm. DistillError where they are of one row."""
    told = []
    for data in stages if layers_of(student, keras.layers.BatchNormalization) else ():
        rows = min(data.train.batch, data.train.rows)
        balanced = getattr(data.train, "balanced", None)
        asked = described(balanced) if balanced else f"batch = {data.train.batch} in [data], {many(data.train.rows, 'rows')} to learn from"
        given = f"stage {data.number}: batches of {many(rows, 'rows')} ({asked})"
        if rows == 1:
            raise DistillError(f"{given}: batch norm makes a single row 0 whatever it shows, so nothing would be learned. Use {SMALL} rows or more.")
        if rows < SMALL:
            told.append(f"warning: {given}: batch norm knows a row by the others of its batch. Use {SMALL} rows or more.")
    return told


def describe_stage(run: Run, data: StageData, projected: bool) -> list[str]:
    """What a stage will do, in words: rows, held-out part, and the gradient scale of each term, in one common unit."""
    stage, source, held_out = data.stage, data.train, data.held_out
    norm = 1.0
    if any(term.by_length for term in stage.terms):
        _, values = next(iter(source.epoch(0)))
        norm = float(np.linalg.norm(values["embedding"], axis=1).mean())
    scales = []
    for term in stage.terms:
        weight, scale = term.weight, term.gradient_scale(source.dimension or 0, norm)
        told, given = ("auto", "auto") if isinstance(weight, str) else (f"{weight * scale:.4g}", f"{weight:g}")
        scales.append(f"{term.name} {told}" + (f" (weight {given}, dimension {source.dimension}, mean norm {norm:.3g})" if term.by_length else ""))
    lines = [
        f"stage {data.number}: {many(source.rows, 'rows')} of {source.name}{_shown_of(source)}, {many(data.steps, 'steps')} an epoch, {many(stage.epochs, 'epochs')}"
        + (f"; the last batch has {data.joined} more rows" if data.joined else ""),
        f"  effective weights (gradient scale: largest change of the loss per change of one cosine): {', '.join(scales)}",
    ]
    if source.name == "shards" and getattr(source, "augment", None) and "embedding" in data.fields:
        lines.append(
            "  augmented: images are changed anew each epoch, while their embeddings are those of the unchanged images. "
            "A set made with distill embed --views has an embedding for each view and teaches more."
        )
    lines += [f"  {line}" for line in source.balance.warnings()] if getattr(source, "balance", None) else []
    if any(term.in_class for term in stage.terms) and not getattr(source, "balanced", None):
        lines.append(
            f"  warning: rows of a class meet by chance alone in batches of {source.batch} rows of {source.classes:,} classes, and term "
            f'"{next(term.name for term in stage.terms if term.in_class)}" compares them. Use balanced = {{ identities = 30, images = 4 }} in the stage.'
        )
    if projected:
        lines.append(f"  a projection {run.student.embedding} -> {source.dimension} stands before the teacher; agreement is behind it")
    if held_out:
        lines.append(f"  held out: {many(held_out.rows, 'rows')}, judged by {', '.join(data.held_out_fields)}")
    elif data.not_evaluated:
        lines.append(f"  held-out rows are not judged: {data.not_evaluated}")
    elif run.data.holdout is None:
        lines.append("  no rows are held out, so all figures are of rows that the student learns from")
    return lines


def _shown_of(source: Any) -> str:
    """What is shown of the rows, and in which batches, behind their number."""
    views, balance = getattr(source, "views", "plain"), getattr(source, "balance", None)
    said = (
        ""
        if views == "plain"
        else f" ({source.set.meta.views} views of each)"
        if views == "all"
        else f" (one of {source.set.meta.views} views of each an epoch)"
    )
    return said + (f" in batches of {balance.batch.identities} identities with {balance.batch.images} images each" if balance else "")
