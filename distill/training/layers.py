"""The layers of a stage by name: which are frozen in it, and whose learning rate and weight decay are multiplied.

Frozen layers keep their weights and the averages of batch norm, which computes with these as in inference. Layers are frozen for one stage, and in
no saved file.
"""

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from distill.config.layers import ALL_BUT_HEAD, PARTS, Multiplier
from distill.config.stage import Stage
from distill.errors import DistillError
from distill.runtime.lines import many

IN_STUDENT = {"embedding": "embedding", "projection": "projection", "projection_norm": "projection"}  # parts of a student's layers that are not "backbone"
SHOWN = 60  # names in a message; of more the first ones


@dataclass(frozen=True)
class Named:
    """A layer that has weights. name: as patterns find it; part: one of PARTS."""

    name: str
    part: str
    layer: Any

    @property
    def weights(self) -> int:
        """How many numbers its weights are."""
        return sum(math.prod(weight.shape) for weight in self.layer.weights)


@dataclass(frozen=True)
class StageLayers:
    """The layers of a stage with weights, those of them that are frozen, and those that have a multiplier, each with the first one that names it."""

    layers: tuple[Named, ...]
    frozen: tuple[Named, ...] = ()
    multiplied: tuple[tuple[Multiplier, tuple[Named, ...]], ...] = ()

    def multiplied_variables(self) -> list[tuple[Any, float, float]]:
        """Returns each variable that has a multiplier, with that of its learning rate and that of its weight decay."""
        return [
            (variable, multiplier.learning_rate, multiplier.weight_decay)
            for multiplier, layers in self.multiplied
            for each in layers
            if each not in self.frozen
            for variable in each.layer.trainable_variables
        ]

    def in_words(self) -> list[str]:
        """Returns the lines that say what is frozen and what is multiplied; none where nothing is."""
        lines = []
        if self.frozen:
            weights, of = (sum(each.weights for each in group) for group in (self.frozen, self.layers))
            lines.append(f"  frozen: {len(self.frozen):,} of {many(len(self.layers), 'layers')}, {weights:,} of {many(of, 'weights')}")
        if self.multiplied:
            several = [f'"{each.layers}" ({many(len(layers), "layers")}) {_times(each)}' for each, layers in self.multiplied]
            lines.append(f"  multiplied: {'; '.join(several)}")
        return lines


def _times(multiplier: Multiplier) -> str:
    both = {"learning rate": multiplier.learning_rate, "weight decay": multiplier.weight_decay}
    return ", ".join(f"{name} x {factor:g}" for name, factor in both.items() if factor != 1)


def freeze_layers(model: Any, number: int, stage: Stage) -> StageLayers:
    """Freezes the layers of a stage that it says are frozen, and frees all others of it. Keras wants that before the model is compiled.

    Args:
        model: the stage's `Training`.
        number: of the stage, for messages.
    Raises:
        DistillError: as `find_layers`, or nothing is left to train.
    """
    found = find_layers(model, number, stage)
    for each in found.layers:
        each.layer.trainable = each not in found.frozen
    if not model.trainable_variables:
        asked = stage.freeze if isinstance(stage.freeze, str) else ", ".join(stage.freeze)
        raise DistillError(
            f'stage {number}: freeze ("{asked}") leaves nothing to train: it freezes {len(found.frozen):,} of {many(len(found.layers), "layers")} with weights, '
            f"which are: {_listed(found.layers)}. Freeze less, or add a term whose class head learns."
        )
    return found


def find_layers(model: Any, number: int, stage: Stage) -> StageLayers:
    """Returns the layers of a stage, and which of them it freezes and multiplies. Changes nothing.

    Raises:
        DistillError: a pattern has no layer, or none that an earlier one or freeze leaves it.
    """
    beside = [each for each in model.layers if each is not model.student and each.weights]
    layers = (*_named(model.student), *(Named(each.name, "projection" if each.name.startswith("projection") else "head", each) for each in beside))
    patterns = {ALL_BUT_HEAD: ("backbone", "embedding")}.get(stage.freeze, (stage.freeze,)) if isinstance(stage.freeze, str) else stage.freeze
    found = [_matching(pattern, layers, f"stage {number}: freeze") for pattern in patterns]
    frozen = tuple(each for each in layers if any(each in group for group in found))
    multiplied: list[tuple[Multiplier, tuple[Named, ...]]] = []
    for place, multiplier in enumerate(stage.multipliers, 1):
        where = f"stage {number}: multipliers {place}"
        matching = _matching(multiplier.layers, layers, where)
        own = tuple(each for each in matching if not any(each in group for _, group in multiplied))
        if not own:
            raise DistillError(f'{where}: all layers that "{multiplier.layers}" matches have an earlier multiplier, and the first one counts. Put it first.')
        if all(each in frozen for each in own):
            raise DistillError(
                f'{where}: all layers that "{multiplier.layers}" matches are frozen by freeze, so nothing of them moves. Leave out one or the other.'
            )
        multiplied.append((multiplier, own))
    return StageLayers(layers, frozen, tuple(multiplied))


def _matching(pattern: str, layers: Sequence[Named], where: str) -> tuple[Named, ...]:
    found = tuple(each for each in layers if (each.part == pattern if pattern in PARTS else fnmatchcase(each.name, pattern)))
    if not found:
        raise DistillError(f'{where}: no layer matches "{pattern}". This stage has: {_listed(layers)}. Words for several: {", ".join(PARTS)}.')
    return found


def _listed(layers: Sequence[Named]) -> str:
    """Returns names with their part where that is not the backbone."""
    names = [each.name if each.part in ("backbone", each.name) else f"{each.name} ({each.part})" for each in layers]
    return ", ".join(names if len(names) <= SHOWN else [*names[:SHOWN], f"and {len(names) - SHOWN} more"])


def _named(student: Any) -> Iterator[Named]:
    """Yields the layers of a student that have weights, also those of models inside it.

    Names that Keras gave by itself go on from one network of a process to the next; here they count from the student's first, as in a file of it.
    """
    layers = leaves(student)
    automatic: dict[str, list[Any]] = {}
    for layer in layers:
        stem = re.sub(r"_\d+$", "", layer.name)
        if stem.replace("_", "") == type(layer).__name__.lower():
            automatic.setdefault(stem, []).append(layer)
    names = {id(layer): layer.name for layer in layers}
    for stem, several in automatic.items():
        several.sort(key=lambda layer: int(layer.name[len(stem) + 1 :] or 0))
        names |= {id(layer): f"{stem}_{place}" if place else stem for place, layer in enumerate(several)}
    for layer in layers:
        if layer.weights:
            name = names[id(layer)]
            yield Named(name, IN_STUDENT.get(name, "backbone"), layer)


def leaves(model: Any) -> list[Any]:
    """Returns the layers of a model that are no models themselves, each once, those of models inside it too."""
    inside = [leaf for layer in model.layers for leaf in (leaves(layer) if hasattr(layer, "layers") else [layer])]
    return list({id(each): each for each in inside}.values())


@contextmanager
def all_trainable(model: Any) -> Iterator[None]:
    """Frees all layers of a model, as who loads a file of it expects them, and leaves them as they were."""
    frozen = [layer for layer in leaves(model) if not layer.trainable]
    for layer in frozen:
        layer.trainable = True
    try:
        yield
    finally:
        for layer in frozen:
            layer.trainable = False
