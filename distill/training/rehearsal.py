"""What a training would take, before it begins: rows, steps, parameters, memory, and time measured on some real steps. Writes nothing.

Times are of this machine as busy as it is now. Memory is counted, not measured: weights, gradients, the optimizer's state, activations of one
batch, and the encoded images that are shuffled together; TensorFlow itself comes on top.
"""

import itertools
import math
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

import keras

from distill.config.run import Run
from distill.data.shards import GROUP_ROWS
from distill.data.sources import POOL_GROUPS, QUEUE
from distill.models.norms import settle_averages
from distill.runtime.lines import many
from distill.runtime.process import keep_memory_again
from distill.training.batches import endless_batches
from distill.training.callbacks import averaged_batches
from distill.training.describe import check_batches, describe_stage, few_steps
from distill.training.donor import keep_heads
from distill.training.model import Parts, Training, build_parts, compiled
from distill.training.moves import check_moves, describe_moves
from distill.training.stages import OpenTeacher, StageData, open_stages
from distill.training.trainer import prepare_device

WARM, TIMED, LONGEST = 2, 30, 8.0  # steps before the clock runs, steps that it runs for, and seconds after which it stops


@dataclass(frozen=True)
class StageFigures:
    """One stage. rows: to learn from in an epoch; step_seconds: of one step with its batch, epoch_seconds: of an epoch with all that ends it."""

    source: str
    terms: tuple[str, ...]
    rows: int
    held_out: int
    batch: int
    steps: int
    epochs: int
    step_seconds: float
    epoch_seconds: float


@dataclass(frozen=True)
class Rehearsal:
    """A training that did not take place. memory: bytes by what they are for; notes: what the training would say before its first step."""

    stages: tuple[StageFigures, ...]
    student: str
    parameters: int
    embedding: int
    device: str
    memory: dict[str, int]
    notes: tuple[str, ...]

    @property
    def steps(self) -> int:
        return sum(stage.steps * stage.epochs for stage in self.stages)

    @property
    def seconds(self) -> float:
        return sum(stage.epoch_seconds * stage.epochs for stage in self.stages)

    def as_dict(self) -> dict[str, Any]:
        """Returns plain values that JSON can hold."""
        return {"dry_run": True, **asdict(self), "steps": self.steps, "seconds": round(self.seconds, 1), "memory_bytes": sum(self.memory.values())}

    def in_words(self) -> str:
        """Returns the lines that the command line prints."""
        lines = [f"student: {self.student}, {self.parameters:,} parameters, embedding {self.embedding}"]
        for number, stage in enumerate(self.stages, 1):
            held_out = f"{stage.held_out:,} held out" if stage.held_out else "none held out"
            lines.append(
                f"stage {number}: {stage.source}, {' + '.join(stage.terms)}: {many(stage.rows, 'rows')} to learn from, {held_out}; "
                f"{many(stage.epochs, 'epochs')} of {many(stage.steps, 'steps')} with {many(stage.batch, 'images')}, {1000 * stage.step_seconds:.0f} ms a step"
            )
        parts = ", ".join(f"{name} {_megabytes(size)}" for name, size in self.memory.items())
        return "\n".join(
            [
                *lines,
                f"steps: {self.steps:,} in all",
                f"memory: about {_megabytes(sum(self.memory.values()))} beside TensorFlow itself ({parts})",
                f"time: about {_duration(self.seconds)} on this machine ({self.device})",
                *self.notes,
                "A dry run: nothing was trained and nothing was written.",
            ]
        )


def rehearse(run: Run, *, open_teacher: OpenTeacher | None = None) -> Rehearsal:
    """Opens what a run learns from, builds its student, and takes some steps of each stage, which are thrown away.

    Args:
        open_teacher: as for `distill.training.trainer.train`.
    Raises:
        DistillError: the run cannot work, as `train` would say before its first step.
    """
    device = prepare_device()
    stages = open_stages(run, open_teacher)
    keras.utils.set_random_seed(run.seed)
    parts = build_parts(run, stages)
    moves = check_moves(run, stages, parts)
    notes = [line.strip() for line in [*few_steps(run, stages), *moves, *check_batches(stages, parts.student), *parts.notes, *keep_heads(run, stages, parts)]]
    figures, learned, kept = [], 0, 0
    for data in stages:
        notes += [line.strip() for line in describe_stage(run, data, False) if "warning: " in line]
        notes += [f"stage {data.number}: {line.strip()}" for line in describe_moves(Training(parts, data), data)]
        figures.append(_figures(run, data, parts))
        size = sum(_bytes(each) for each in Training(parts, data).trainable_variables)  # as the stage has just frozen it
        learned, kept = max(learned, size), max(kept, size * data.stage.optimizer.slots)
    ends = f", projected to {parts.student.output_shape[-1]}" if run.student.projection == "export" else ""
    shape = f"{run.student.backbone} for {'x'.join(map(str, stages[0].train.image_shape[:2]))}{ends}"
    return Rehearsal(tuple(figures), shape, parts.student.count_params(), run.student.embedding, device, _memory(stages, parts, learned, kept), tuple(notes))


def _figures(run: Run, data: StageData, parts: Parts) -> StageFigures:
    model, _ = compiled(run, data, parts)
    step = _seconds_of_a_step(data, lambda images, values: model.train_on_batch(images, values))
    settled = _seconds_to_settle(data, parts)
    evaluated = 0.0
    if data.held_out:
        images, values = next(endless_batches(data.held_out, data.held_out_fields, 0, [], again=True))
        model.test_on_batch(images, values)
        started = time.monotonic()
        model.test_on_batch(images, values)
        evaluated = (time.monotonic() - started) * data.held_out.steps
    return StageFigures(
        data.train.name,
        tuple(term.name for term in data.stage.terms),
        data.train.rows,
        data.held_out.rows if data.held_out else 0,
        data.train.batch,
        data.steps,
        data.stage.epochs,
        step,
        data.steps * step + settled + evaluated,
    )


def _seconds_of_a_step(data: StageData, take: Any) -> float:
    """Returns how long a step takes with the batch that it waits for, on real batches, the first steps left out."""
    fields, taken, started = data.fields, 0, time.monotonic()
    endless = (batch for number in itertools.count() for batch in data.epoch(number))
    usual = min(data.train.batch, data.train.rows)
    with closing(endless):
        for images, values in endless:
            if len(images) != usual and data.steps > 1:  # a batch of another size makes a graph of its own here, as it does not in fit()
                continue
            take(images, {name: values[name] for name in fields})
            taken += 1
            if taken <= WARM:
                keep_memory_again()
                started = time.monotonic()
            elif taken - WARM >= TIMED or time.monotonic() - started > LONGEST:
                break
    return (time.monotonic() - started) / max(1, taken - WARM)


def _seconds_to_settle(data: StageData, parts: Parts) -> float:
    """Returns how long it takes to make batch norm's averages anew, as after each epoch."""
    batches = min(data.steps, averaged_batches(data))
    before = parts.student.get_weights()
    started = time.monotonic()
    with closing(data.epoch_images(0)) as images:
        settle_averages(parts.student, itertools.islice(images, min(2, batches)))
    passed = time.monotonic() - started
    parts.student.set_weights(before)
    return passed * batches / min(2, batches)


def _memory(stages: list[StageData], parts: Parts, learned: int, kept: int) -> dict[str, int]:
    """Returns bytes: weights with gradients, the optimizer's state, activations of a batch, and images that wait to be shown.

    Args:
        learned, kept: bytes of the weights that learn, and of what the optimizer keeps for them, in the stage that has most.
    """
    weights = sum(_bytes(variable) for variable in parts.variables().values())
    height, width, _ = stages[0].train.image_shape
    batch = max(data.train.batch for data in stages)
    waiting = (QUEUE + 2) * batch * height * width * 3 + max(_pool(data) for data in stages)
    return {"weights": weights + learned, "optimizer": kept, "activations": _activations(parts.student) * batch, "images": waiting}


def _bytes(variable: Any) -> int:
    return math.prod(variable.shape) * 4


def _activations(student: keras.Model) -> int:
    """Returns the bytes of all layers' outputs for one image, twice: forward, and their gradients."""
    layers = [layer for outer in student.layers for layer in (outer.layers if isinstance(outer, keras.Model) else [outer])]
    outputs = [output for layer in layers for output in keras.tree.flatten(layer.output)]
    return 2 * 4 * sum(math.prod(output.shape[1:]) for output in outputs)


def _pool(data: StageData) -> int:
    """Returns the bytes of the encoded images that a source of shards shuffles together."""
    shards = getattr(data.train, "set", None)
    if shards is None:
        return 0
    each = sum(record.shard_bytes for record in shards.records) / max(1, shards.rows)
    balance = data.train.balance
    return int(each * min(shards.rows, max(POOL_GROUPS, balance.groups if balance else 0) * GROUP_ROWS))


def _megabytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB" if size >= 10e6 else f"{size / 1e6:.1f} MB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, seconds):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
