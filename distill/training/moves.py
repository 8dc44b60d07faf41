"""How the weights of each stage move: checked before the first step of the first one, and in words."""

import math

from distill.config.optimizer import Optimizer
from distill.runtime.lines import many
from distill.training.layers import find_layers, freeze_layers
from distill.training.model import Parts, Training
from distill.training.stages import StageData

LEFT = 0.01  # of the weights that an average began with: more of them at the end of a stage is told as a warning


def check_moves(stages: list[StageData], parts: Parts) -> None:
    """Raises DistillError where the layers of a stage cannot be frozen, or multiplied, as it says."""
    for data in stages:
        if data.stage.freeze or data.stage.multipliers:
            freeze_layers(Training(parts, data), data.number, data.stage)


def describe_moves(model: Training, data: StageData) -> list[str]:
    """Returns the lines that say what is frozen, multiplied, accumulated and averaged in a stage; none where nothing is."""
    optimizer, steps = data.stage.optimizer, data.stage.epochs * data.steps
    return [*find_layers(model, data.number, data.stage).in_words(), *_accumulated(optimizer, steps), *_averaged(optimizer, steps // optimizer.accumulate)]


def _accumulated(optimizer: Optimizer, steps: int) -> list[str]:
    if optimizer.accumulate == 1:
        return []
    updates, unused = divmod(steps, optimizer.accumulate)
    last = f"; the last {many(unused, 'batches')} of the stage make none" if unused else ""
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
