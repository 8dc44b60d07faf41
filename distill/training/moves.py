"""How the weights of each stage move: checked before the first step of the first one, and in words."""

import math

from distill.config.optimizer import Optimizer
from distill.config.run import Run
from distill.runtime.lines import many
from distill.training.layers import find_layers, freeze_layers
from distill.training.model import Parts, Training
from distill.training.stages import StageData

LEFT = 0.01  # of the weights that an average began with: more of them at the end of a stage is told as a warning


def check_moves(run: Run, stages: list[StageData], parts: Parts) -> list[str]:
    """Returns a warning for each stage that freezes layers which nothing has trained before it.

    Raises:
        DistillError: the layers of a stage cannot be frozen, or multiplied, as it says.
    """
    told, learned = list[str](), set[str]()
    for data in stages:
        found = find_layers(model := Training(parts, data), data.number, data.stage)
        if data.stage.freeze or data.stage.multipliers:
            freeze_layers(model, data.number, data.stage)
        random = [each.name for each in found.frozen if each.name not in learned]
        if random and not run.student.weights:
            told.append(
                f"warning: stage {data.number}: {many(len(random), 'frozen layers')} ({random[0]}, for one) begin at random, and no stage before trains them. "
                "Name a student to start from (weights in [student]), or freeze them later."
            )
        learned |= {each.name for each in found.layers if each not in found.frozen}
    return told


def describe_moves(model: Training, data: StageData) -> list[str]:
    """Returns the lines that say what is frozen, multiplied, accumulated and averaged in a stage; none where nothing is."""
    optimizer, steps = data.stage.optimizer, data.stage.epochs * data.steps
    return [*find_layers(model, data.number, data.stage).in_words(), *_accumulated(optimizer, steps), *_averaged(optimizer, steps // optimizer.accumulate)]


def _accumulated(optimizer: Optimizer, steps: int) -> list[str]:
    if optimizer.accumulate == 1:
        return []
    updates, unused = divmod(steps, optimizer.accumulate)
    last = f"; of the last {many(unused, 'batches')} of the stage none is made" if unused else ""
    return [f"  accumulated: one update for each {optimizer.accumulate:,} batches, {many(updates, 'updates')} in all{last}"]


def _averaged(optimizer: Optimizer, updates: int) -> list[str]:
    if optimizer.ema is None:
        return []
    lines = [f"  averaged: evaluated and saved are the weights as averaged with ema = {optimizer.ema:g}"]
    left = optimizer.ema ** max(0, updates - 1)
    if updates > 1 and left > LEFT:
        enough = math.floor(1e4 * LEFT ** (1 / (updates - 1))) / 1e4
        lines.append(
            f"  warning: after {many(updates, 'updates')} with ema = {optimizer.ema:g} {left:.0%} of the average are still the weights of the first update. "
            f"{LEFT:.0%} or less takes ema = {enough:g} or less, or more epochs."
        )
    return lines
