"""Runs the stages of a run: one student, one source a stage, the terms summed, a checkpoint after every epoch.

The same command again goes on after the last whole epoch, with weights, optimizer, learning rate and dropout as they were. What cannot
work (a term that its source has no field for, images of two sizes, one class only) is refused before the first step. After each epoch batch norm's
averages are taken anew, so that what is evaluated on held-out rows is what is saved. Nothing here is of one backend.
"""

import math
import shlex
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from distill.config.run import Run
from distill.data.folders import check_apart, check_folder
from distill.data.sources.centres import class_means
from distill.errors import Interrupted
from distill.images.augmentation import find_recipe
from distill.models.scaling import settle_scales
from distill.models.transfer import weights_file
from distill.runtime.lines import many
from distill.runtime.process import grow_gpu_memory
from distill.runtime.progress import phase
from distill.training.batches import endless_batches
from distill.training.callbacks import StageRun, averaged_batches, stage_callbacks
from distill.training.checkpoint import Progress, restore, save_student
from distill.training.describe import check_batches, describe_stage, few_steps
from distill.training.donor import class_tables, keep_heads
from distill.training.model import Parts, build_parts, compiled
from distill.training.moves import check_moves, describe_moves
from distill.training.origin import origin_of, trained_names
from distill.training.run_folder import RunFolder
from distill.training.stages import OpenTeacher, StageData, identities, open_stages, prove_teacher
from distill.training.table import Extent, TrainingDisplay


def train(run: Run, out: str | Path, *, open_teacher: OpenTeacher | None = None, quiet: bool = False) -> dict[str, Any]:
    """Train the run in the folder `out`, or go on with it, or say that it is finished; the figures of summary.json.

    open_teacher turns the path of a noise stage's teacher into a callable, uint8 [B, H, W, 3] -> float32 [B, D]; it is given
    the path and the stage's Preprocessing. Keys of the result: parameters, seconds, epochs, steps, rows (of each
    stage: its source, how many rows it trained on, how many were held out and evaluated), student, best,
    history (paths), last (the last row of the history), and where images were left out, left_out.
    DistillError: the run cannot work, or another process works on it. Unfinished: the loss was not finite, or somebody stopped it; the last good checkpoint stays.
    """
    display = TrainingDisplay(quiet)
    check_folder(out, "run", "evaluation")
    if run.data.images is not None:
        check_apart(run.data.images, out, "run")
    if isinstance(run.data.augment, str) and run.data.augment.endswith(".toml"):  # the run keeps what the file says now
        run = run.model_copy(update={"data": run.data.model_copy(update={"augment": find_recipe(run.data.augment)})})
    if not (Path(out) / "run.toml").exists():
        weights_file(run.student)  # before the folder is taken for this run
    folder = RunFolder(out)
    folder.check(run)
    done = folder.summary()
    if done is None:  # of a finished run nothing is written, also where nothing can be
        with folder.held(run):
            done = folder.summary()
            if done is None:
                return _train(folder.by_its_rule(run), folder, open_teacher, display)
    display.line(f"{folder.path} is finished: {many(done['epochs'], 'epochs')}, {many(done['parameters'], 'parameters')}. Nothing to do.")
    return done


def _train(run: Run, folder: RunFolder, open_teacher: OpenTeacher | None, display: TrainingDisplay) -> dict[str, Any]:
    display.line(f"device: {prepare_device()}, {run.student.precision}")
    stages = open_stages(run, open_teacher)
    for line in [*few_steps(run, stages), *prove_teacher(run, open_teacher)]:
        display.line(line)
    parts, progress, arrays = _begin(run, folder, stages, display)
    display.plan([extent(data) for data in stages])
    logs = shlex.quote(str(folder.path))
    display.line(f"Ctrl-C stops; the same command goes on after the last finished epoch. To watch it in a browser: tensorboard --logdir {logs}")
    for number in range(progress.stage, len(stages)):
        if number > progress.stage:
            progress = replace(progress, stage=number, epoch=0, best=None, waited=0)
        if progress.epoch < stages[number].stage.epochs:
            train_stage(run, stages[number], parts, folder, progress, arrays if progress.epoch else None, display)
    save_student(parts.student, folder.student, folder.checkpoints)
    summary = {
        "parameters": parts.student.count_params(),
        "seconds": round(progress.seconds, 3),
        "epochs": len(progress.history),
        "steps": sum(data.stage.epochs * data.steps for data in stages),
        "rows": [
            {"stage": each.number, "source": each.name, "trained_on": each.train.rows, "held_out": each.held_out.rows if each.held_out else 0}
            for each in stages
        ],
        "student": str(folder.student),
        "best": str(folder.best),
        "best_epoch": best_epoch(progress.history),
        "history": str(folder.history),
        "last": progress.history[-1],
    }
    if progress.left_out:
        summary["left_out"] = progress.left_out
        display.line("left out: " + ", ".join(f"{many(count, 'images')} ({kind})" for kind, count in progress.left_out.items()))
    folder.finish(summary)
    return summary


def best_epoch(history: list[dict[str, Any]]) -> int:
    """Returns the epoch of the last stage whose student is checkpoints/best.keras: the first of the lowest loss, held-out where there is one.

    >>> best_epoch([{"stage": 1, "epoch": 1, "loss": 1.0}, {"stage": 2, "epoch": 1, "loss": 3.0}, {"stage": 2, "epoch": 2, "loss": 2.0}])
    2
    """
    last = [row for row in history if row["stage"] == history[-1]["stage"]]
    return int(min(last, key=lambda row: row.get("held_out_loss", row["loss"]))["epoch"])


def extent(data: StageData) -> Extent:
    """How much a stage has to do."""
    evaluated = math.ceil(data.held_out.rows / data.train.batch) if data.held_out else 0
    return Extent(data.stage.epochs, data.steps, data.train.batch, averaged_batches(data) + evaluated)


def people(run: Run, stages: list[StageData]) -> set[str] | None:
    """The names of all that a run's student is trained on, its donor's too; None where nobody knows them all."""
    donor = origin_of(run.student.weights).identities if run.student.weights else frozenset()
    tables = [data.train.class_names for data in stages]
    if donor is None or None in tables:
        return None
    return {*donor, *(name for table in tables for name in trained_names(table, run.data.holdout))}


def _begin(run: Run, folder: RunFolder, stages: list[StageData], display: TrainingDisplay) -> tuple[Parts, Progress, dict[str, np.ndarray] | None]:
    """All weights of the run as its last checkpoint has them, how far that is, and its arrays; a run without one begins."""
    saved = folder.load()
    progress, arrays = saved if saved else (Progress(), None)
    with phase("proving that the rows are those of the run"):
        folder.prove(run, progress, identities(stages))
    if not saved:
        folder.people = people(run, stages)
    keras.utils.set_random_seed(run.seed)
    student = run.student.model_copy(update={"weights": None}) if saved else run.student  # a checkpoint has every weight, so the donor may be gone
    with phase("building the student"):
        parts = build_parts(run.model_copy(update={"student": student}), stages)
    moves = check_moves(run, stages, parts)
    for line in [*([] if saved else moves), *check_batches(stages, parts.student)]:
        display.line(line)
    ends = f", projected to {parts.student.output_shape[-1]}" if run.student.projection == "export" else ""
    display.line(f"student: {run.student.backbone}, {parts.student.count_params():,} parameters, embedding {run.student.embedding}{ends}")
    folder.tables = class_tables(stages)
    if arrays is None:
        for line in [*parts.notes, *keep_heads(run, stages, parts)]:
            display.line(line)
        teach_centres(run, stages, parts, folder)
    else:
        restore(parts.variables(), arrays, folder.checkpoints)
        settle_scales(parts.student)
        folder.write_history(progress.history)  # a kill may have come between the checkpoint and this
        display.line(f"going on after stage {progress.stage + 1}, epoch {progress.epoch}")
    return parts, progress, arrays


def teach_centres(run: Run, stages: list[StageData], parts: Parts, folder: RunFolder) -> None:
    """Gives the heads that come from the teacher the means of its embeddings of each class, over the rows that train."""
    for data in stages:
        for head, name in data.heads.items():
            if head.taught:
                holdout = run.data.holdout.model_dump_json() if run.data.holdout else ""
                with phase("averaging the teacher's embeddings of each class"):
                    centres = folder.centres(name, f"{data.train.identity()} {holdout}", partial(class_means, data.train))
                parts.heads[name].set_weights([centres])


def train_stage(
    run: Run, data: StageData, parts: Parts, folder: RunFolder, progress: Progress, arrays: dict[str, np.ndarray] | None, display: TrainingDisplay
) -> None:
    """Train one stage from progress.epoch on; `arrays` is the checkpoint to take the optimizer's state from."""
    keras.utils.set_random_seed(run.seed + data.number)
    stage = data.stage
    model, rate = compiled(run, data, parts)
    optimizer = {f"optimizer/{number}": variable for number, variable in enumerate(model.optimizer.variables)}
    if arrays is not None:
        restore(optimizer, arrays, folder.checkpoints)
    for line in [*describe_stage(run, data, model.projection is not None), *describe_moves(model, data)]:
        display.line(line)
    before = sum(each.epochs for each in run.stage[: data.number - 1])
    errors: list[Exception] = []
    held_out = endless_batches(data.held_out, data.held_out_fields, 0, errors, again=True) if data.held_out else None
    callbacks = stage_callbacks(StageRun(data, folder, progress, parts.student, {**parts.variables(), **optimizer}, rate, before, display))
    try:
        model.fit(
            endless_batches(data, data.fields, before + progress.epoch, errors),
            steps_per_epoch=data.steps,
            epochs=stage.epochs,
            initial_epoch=progress.epoch,
            validation_data=held_out,
            validation_steps=data.held_out.steps if data.held_out else None,
            callbacks=callbacks,
            shuffle=False,
            verbose=0,
        )
    except KeyboardInterrupt:
        kept = f"{progress.kept}, and the same command goes on from there; the epoch begun is lost."
        none = "no epoch was finished, so nothing is kept; the same command begins anew."
        raise Interrupted(f"in stage {data.number}, epoch {progress.epoch + 1}: {kept if progress.history else none}") from None
    except Exception as error:  # of any kind: where a generator raised it, what it raised is for the person, not what the backend made of it
        raise next(iter(errors), error) from None
    finally:
        display.stop()
        for callback in callbacks:
            callback.close()


def prepare_device() -> str:
    """The devices by name, after memory growth was turned on where a GPU would otherwise be taken whole."""
    grows = keras.backend.backend() != "tensorflow" or grow_gpu_memory()
    return ", ".join(keras.distribution.list_devices()) + ("" if grows else " (in use already, its memory settings stay)")
