"""Runs the stages of a run: one student, one source a stage, the terms summed, a checkpoint after every epoch.

The same command again goes on after the last whole epoch, with weights, optimizer, learning rate and dropout as they were. What cannot
work (a term that its source has no field for, images of two sizes, one class only) is refused before the first step. After each epoch batch norm's
averages are taken anew, so that what is judged on held-out rows is what is saved. Nothing here is of one backend.
"""

import itertools
import math
import shlex
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from distill.config.run import Run, Term
from distill.data.folders import check_apart, check_folder
from distill.errors import DistillError, Interrupted, Unfinished
from distill.images.views import find_recipe
from distill.losses.terms import TERMS, cosine, hits
from distill.models.students import ClassHead, build_student, layers_of, projection, settle_averages, settle_scales, weights_file
from distill.runtime.lines import many
from distill.runtime.process import grow_gpu_memory, keep_memory
from distill.runtime.progress import phase
from distill.storage.files import committed, temporary_for
from distill.training.optimizers import Rate, build_optimizer
from distill.training.origin import origin_of, trained_names
from distill.training.run_folder import Progress, RunFolder
from distill.training.stages import SMALL, Lesson, OpenTeacher, few_steps, identities, open_lessons, prove_teacher, told_at_start
from distill.training.table import Extent, Screen

# What batch norm's averages are taken from after each epoch: so many rows tell a mean to 1/45 of its deviation, and as 16 batches cost five steps
AVERAGED_ROWS = 2048


def train(run: Run, out: str | Path, *, open_teacher: OpenTeacher | None = None, quiet: bool = False) -> dict[str, Any]:
    """Train the run in the folder `out`, or go on with it, or say that it is finished; the figures of summary.json.

    open_teacher turns the path of a noise stage's teacher into a callable, uint8 [B, H, W, 3] -> float32 [B, D]; what the stage's reading
    sets (signature, output, scale, offset, color) comes by keyword. Keys of the result: parameters, seconds, epochs, steps, rows (of each
    stage: its source, how many rows it trained on, how many were held out and judged), student, best,
    history (paths), last (the last row of the history), and where images were left out, left_out.
    DistillError: the run cannot work, or another process works on it. Unfinished: the loss was not finite, or somebody stopped it; the last good checkpoint stays.
    """
    screen = Screen(quiet)
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
                return _train(folder.by_its_rule(run), folder, open_teacher, screen)
    screen.line(f"{folder.path} is finished: {many(done['epochs'], 'epochs')}, {many(done['parameters'], 'parameters')}. Nothing to do.")
    return done


def _train(run: Run, folder: RunFolder, open_teacher: OpenTeacher | None, screen: Screen) -> dict[str, Any]:
    screen.line(f"device: {prepare_device()}, {run.student.precision}")
    lessons = open_lessons(run, open_teacher)
    for line in [*few_steps(run, lessons), *prove_teacher(run, open_teacher)]:
        screen.line(line)
    parts, progress, arrays = _begin(run, folder, lessons, screen)
    screen.plan([extent(lesson) for lesson in lessons])
    logs = shlex.quote(str(folder.path))
    screen.line(f"Ctrl-C stops; the same command goes on after the last finished epoch. To watch it in a browser: tensorboard --logdir {logs}")
    for number in range(progress.stage, len(lessons)):
        if number > progress.stage:
            progress = replace(progress, stage=number, epoch=0, best=None, waited=0)
        if progress.epoch < lessons[number].stage.epochs:
            train_stage(run, lessons[number], parts, folder, progress, arrays if progress.epoch else None, screen)
    save_student(parts.student, folder.student, folder.checkpoints)
    summary = {
        "parameters": parts.student.count_params(),
        "seconds": round(progress.seconds, 3),
        "epochs": len(progress.history),
        "steps": sum(lesson.stage.epochs * lesson.steps for lesson in lessons),
        "rows": [
            {"stage": each.number, "source": each.name, "trained_on": each.train.rows, "held_out": each.held_out.rows if each.held_out else 0}
            for each in lessons
        ],
        "student": str(folder.student),
        "best": str(folder.best),
        "best_epoch": best_epoch(progress.history),
        "history": str(folder.history),
        "last": progress.history[-1],
    }
    if progress.left_out:
        summary["left_out"] = progress.left_out
        screen.line("left out: " + ", ".join(f"{many(count, 'images')} ({kind})" for kind, count in progress.left_out.items()))
    folder.finish(summary)
    return summary


def best_epoch(history: list[dict[str, Any]]) -> int:
    """Returns the epoch of the last stage whose student is checkpoints/best.keras: the first of the lowest loss, held-out where there is one.

    >>> best_epoch([{"stage": 1, "epoch": 1, "loss": 1.0}, {"stage": 2, "epoch": 1, "loss": 3.0}, {"stage": 2, "epoch": 2, "loss": 2.0}])
    2
    """
    last = [row for row in history if row["stage"] == history[-1]["stage"]]
    return int(min(last, key=lambda row: row.get("held_out_loss", row["loss"]))["epoch"])


def extent(lesson: Lesson) -> Extent:
    """How much a stage has to do."""
    judged = lesson.held_out.steps if lesson.held_out else 0
    return Extent(lesson.stage.epochs, lesson.steps, lesson.train.batch, averaged_batches(lesson) + judged)


def averaged_batches(lesson: Lesson) -> int:
    """Batches that batch norm's averages are taken from after an epoch, where it has so many."""
    return math.ceil(AVERAGED_ROWS / lesson.train.batch)


def people(run: Run, lessons: list[Lesson]) -> set[str] | None:
    """The names of all that a run's student is trained on, its donor's too; None where nobody knows them all."""
    donor = origin_of(run.student.weights).identities if run.student.weights else frozenset()
    tables = [lesson.train.class_names for lesson in lessons]
    if donor is None or None in tables:
        return None
    return {*donor, *(name for table in tables for name in trained_names(table, run.data.holdout))}


@dataclass
class Parts:
    """All weights of a run: the student, and what stands beside it in training. The same for every stage, so one checkpoint fits all."""

    student: keras.Model
    heads: dict[str, ClassHead] = field(default_factory=dict)
    projections: dict[int, keras.layers.Layer] = field(default_factory=dict)

    def variables(self) -> dict[str, Any]:
        """Every variable (dropout's random state too) by a name that is the same in each process."""
        layers = {"student": self.student, **self.heads, **{f"projection_{size}": layer for size, layer in self.projections.items()}}
        return {f"{name}/{number}": variable for name, layer in layers.items() for number, variable in enumerate(layer.variables)}


def build_parts(run: Run, lessons: list[Lesson]) -> Parts:
    """The student, a head for each class table, a projection for each other teacher dimension, built and ready."""
    parts = Parts(build_student(run.student, lessons[0].train.image_shape))
    for lesson in lessons:
        if lesson.head and lesson.head not in parts.heads:
            parts.heads[lesson.head] = ClassHead(lesson.train.classes, name=lesson.head)
        if "embedding" in lesson.fields and lesson.train.dimension not in (run.student.embedding, *parts.projections):
            parts.projections[lesson.train.dimension] = projection(lesson.train.dimension)
    for layer in (*parts.heads.values(), *parts.projections.values()):
        layer.build((None, run.student.embedding))
    return parts


def _begin(run: Run, folder: RunFolder, lessons: list[Lesson], screen: Screen) -> tuple[Parts, Progress, dict[str, np.ndarray] | None]:
    """All weights of the run as its last checkpoint has them, how far that is, and its arrays; a run without one begins."""
    saved = folder.load()
    progress, arrays = saved if saved else (Progress(), None)
    with phase("proving that the rows are those of the run"):
        folder.prove(run, progress, identities(lessons))
    if not saved:
        folder.people = people(run, lessons)
    keras.utils.set_random_seed(run.seed)
    student = run.student.model_copy(update={"weights": None}) if saved else run.student  # a checkpoint has every weight, so the donor may be gone
    with phase("building the student"):
        parts = build_parts(run.model_copy(update={"student": student}), lessons)
    for line in check_batches(lessons, parts.student):
        screen.line(line)
    screen.line(f"student: {run.student.backbone}, {parts.student.count_params():,} parameters, embedding {run.student.embedding}")
    if arrays is not None:
        restore(parts.variables(), arrays, folder.checkpoints)
        settle_scales(parts.student)
        folder.write_history(progress.history)  # a kill may have come between the checkpoint and this
        screen.line(f"going on after stage {progress.stage + 1}, epoch {progress.epoch}")
    return parts, progress, arrays


class Training(keras.Model):
    """The student with what one stage needs beside it. Fed with (images, {"embedding", "label"}); the loss is the weighted sum of terms.

    Terms whose field a batch does not have are left out, of the loss and of the metrics: held-out identities have no trained class.
    """

    def __init__(self, parts: Parts, lesson: Lesson) -> None:
        super().__init__(name=f"stage_{lesson.number}")
        self.student = parts.student
        self.head = parts.heads[lesson.head] if lesson.head else None
        self.projection = parts.projections.get(lesson.train.dimension) if "embedding" in lesson.fields else None
        self.terms: tuple[Term, ...] = lesson.stage.terms
        self.needs: dict[str, str] = {term.name: TERMS[term.name].needs for term in self.terms}
        self.needs |= {name: need for name, need in (("accuracy", "label"), ("agreement", "embedding")) if need in lesson.fields}
        self.means = [keras.metrics.Mean(name=name) for name in self.needs]
        self.built = True  # its parts are

    def call(self, images: Any, training: bool = False) -> dict[str, Any]:
        embedding = self.student(images, training=training)
        predicted = {"embedding": self.projection(embedding) if self.projection else embedding}
        if self.head:
            predicted["label"] = self.head(embedding)
        return predicted

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True) -> Any:
        rows: dict[str, Any] = {
            term.name: TERMS[term.name].function(y[self.needs[term.name]], y_pred[self.needs[term.name]], **term.options)
            for term in self.terms
            if self.needs[term.name] in y
        }
        loss = sum(term.weight * ops.mean(rows[term.name]) for term in self.terms if term.name in rows)
        if training:  # what layers ask for by themselves: regularisers of weights and activities; no part of how good held-out rows are met
            loss = loss + sum(ops.sum(ops.cast(each, "float32")) for each in self.losses)
        if "label" in y:
            rows["accuracy"] = hits(y["label"], y_pred["label"])
        if "embedding" in y:
            rows["agreement"] = cosine(y["embedding"], y_pred["embedding"])
        for mean in self.means:
            if mean.name in rows:
                mean.update_state(rows[mean.name])
        return loss

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        told = self.get_metrics_result()
        return {name: value for name, value in told.items() if self.needs.get(name) in (None, *y)}


def compiled(run: Run, lesson: Lesson, parts: Parts) -> tuple[Training, Rate]:
    """Returns the model of one stage, ready for its first step, and its learning rate."""
    stage = lesson.stage
    model = Training(parts, lesson)
    rate = Rate(stage.schedule, stage.optimizer.learning_rate, stage.epochs * lesson.steps)
    optimizer = build_optimizer(stage.optimizer, rate, model.trainable_variables, run.student.precision)
    # XLA on CPU was measured at 0.08 to 0.84 times the speed
    model.compile(optimizer=optimizer, jit_compile=False if on_cpu() else "auto")
    return model, rate


def train_stage(run: Run, lesson: Lesson, parts: Parts, folder: RunFolder, progress: Progress, arrays: dict[str, np.ndarray] | None, screen: Screen) -> None:
    """Train one stage from progress.epoch on; `arrays` is the checkpoint to take the optimizer's state from."""
    keras.utils.set_random_seed(run.seed + lesson.number)
    stage = lesson.stage
    model, rate = compiled(run, lesson, parts)
    state = {f"optimizer/{number}": variable for number, variable in enumerate(model.optimizer.variables)}
    if arrays is not None:
        restore(state, arrays, folder.checkpoints)
    for line in told_at_start(run, lesson, model.projection is not None):
        screen.line(line)
    before = sum(each.epochs for each in run.stage[: lesson.number - 1])
    feed = Feed(lesson, lesson.fields, before + progress.epoch)
    held_out = Feed(lesson.held_out, lesson.held_out_fields, 0, again=True) if lesson.held_out else None
    recorder = Recorder(lesson, folder, progress, parts, {**parts.variables(), **state}, rate, before, screen)
    try:
        model.fit(
            feed.batches(),
            steps_per_epoch=lesson.steps,
            epochs=stage.epochs,
            initial_epoch=progress.epoch,
            validation_data=held_out.batches() if held_out else None,
            validation_steps=lesson.held_out.steps if lesson.held_out else None,
            callbacks=[recorder],
            shuffle=False,
            verbose=0,
        )
    except KeyboardInterrupt:
        raise Interrupted(f"in stage {lesson.number}, epoch {progress.epoch + 1}: {_kept(progress)}") from None
    except Exception as error:  # a backend wraps what a generator raises into its own error and loses the message for the person
        raise next((each.error for each in (feed, held_out) if each and each.error), error) from None
    finally:
        screen.stop()
        recorder.close()


def check_batches(lessons: list[Lesson], student: keras.Model) -> list[str]:
    """What is to be said of batches too small for the student's batch norm. DistillError where they are of one row."""
    told = []
    for lesson in lessons if layers_of(student, keras.layers.BatchNormalization) else ():
        rows = min(lesson.train.batch, lesson.train.rows)
        given = (
            f"stage {lesson.number}: batches of {many(rows, 'rows')} (batch = {lesson.train.batch} in [data], {many(lesson.train.rows, 'rows')} to learn from)"
        )
        if rows == 1:
            raise DistillError(f"{given}: batch norm makes a single row 0 whatever it shows, so nothing would be learned. Use {SMALL} rows or more.")
        if rows < SMALL:
            told.append(f"warning: {given}: batch norm knows a row by the others of its batch. Use {SMALL} rows or more.")
    return told


def _kept(progress: Progress) -> str:
    """What a run that is broken off now goes on from."""
    if not progress.history:
        return "no epoch was finished, so nothing is kept; the same command begins anew."
    last = progress.history[-1]
    return f"the checkpoint of stage {last['stage']}, epoch {last['epoch']} stays, and the same command goes on from there; the epoch begun is lost."


class Feed:
    """A source as the endless generator that fit() wants: (images, {field: array}), epoch after epoch. Keeps what the source raised."""

    def __init__(self, source: Any, fields: tuple[str, ...], first: int, again: bool = False) -> None:
        self.source, self.fields, self.first, self.again = source, fields, first, again
        self.error: Exception | None = None

    def batches(self) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        number = self.first
        try:
            while True:
                steps = 0
                for images, values in self.source.epoch(number):
                    steps += 1
                    if steps == 2:  # TensorFlow's generator dataset takes the setting back when it starts: 28,000 page faults a step, 1.25 times the CPU time
                        keep_memory()
                    yield images, {name: values[name] for name in self.fields}
                if steps != self.source.steps:
                    promised = self.source.steps
                    raise DistillError(f'source "{self.source.name}" gave {steps} batches in epoch {number}, but promised {promised}.')
                number += not self.again
        except Exception as error:  # kept for train_stage, then raised as it was
            self.error = error
            raise


class Recorder(keras.callbacks.Callback):
    """After every batch: is the loss finite? After every epoch: one row of history, plateau, best student, checkpoint, events."""

    # Under JAX and torch Keras then calls on_train_batch_end in other threads, where the loss is waited for while the next steps run. What it
    # raises there stops fit() at a later step, or before on_epoch_end stores anything. Under TensorFlow Keras itself waits for the figures
    # of every step to make them floats, so that looking at each costs nothing more.
    async_safe = True

    def __init__(
        self, lesson: Lesson, folder: RunFolder, progress: Progress, parts: Parts, variables: dict[str, Any], rate: Rate, before: int, screen: Screen
    ) -> None:
        super().__init__()
        self.lesson, self.folder, self.progress, self.parts, self.variables = lesson, folder, progress, parts, variables
        self.rate, self.before, self.screen = rate, before, screen
        self.started = time.monotonic()
        self.writer: Any = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.started = time.monotonic()
        self.number = self.before + epoch
        self.screen.start(self.lesson.number - 1, epoch)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if not math.isfinite(logs["loss"]):
            raise Unfinished(self._bad("the loss is not finite", batch + 1))
        self.screen.tick(batch + 1, logs)

    def on_test_begin(self, logs: Any = None) -> None:
        self.screen.doing("held-out rows")
        self._settle()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if not self.lesson.held_out:
            self._settle()
        seconds = time.monotonic() - self.started
        arrays = {name: ops.convert_to_numpy(variable) for name, variable in self._current().items()}
        figures = {name.replace("val_", "held_out_"): float(value) for name, value in logs.items()}
        if not all(map(math.isfinite, figures.values())) or not all(np.isfinite(each).all() for each in arrays.values()):
            raise Unfinished(self._bad("a weight or a figure is not finite", self.lesson.steps))
        shown = self.lesson.train.rows - self._count()
        row = {"stage": self.lesson.number, "epoch": epoch + 1, "seconds": seconds, "images_per_second": shown / self.trained}
        row |= {"learning_rate": self._rate(), **figures}
        self.judge(figures)
        arrays |= {name: ops.convert_to_numpy(variable) for name, variable in self._current().items() if name.startswith("optimizer/")}
        self.progress.epoch = epoch + 1
        self.progress.seconds += time.monotonic() - self.started
        self.progress.history.append(row)
        self.folder.save(self.progress, arrays)
        self._events(row)
        self.screen.epoch(row)

    def _count(self) -> int:
        """How many images this process left out; what an earlier one counted, of which not all may have come again, stays."""
        found, known = self.lesson.train.left_out, self.progress.left_out
        known |= {kind: max(count, known.get(kind, 0)) for kind, count in found.items()}
        return sum(found.values())

    def _settle(self) -> None:
        """Make the student what it would be if it was saved now, before it is judged: by the first batches of the epoch that was just trained."""
        self.trained = time.monotonic() - self.started
        lesson, _ = self.lesson, self._current()
        with closing(lesson.pictures(self.number)) as pictures:
            settle_averages(self.parts.student, itertools.islice(pictures, averaged_batches(lesson)))

    def close(self) -> None:
        if self.writer:
            self.writer.close()

    def _current(self) -> dict[str, Any]:
        _ = self.model  # asking for it brings the variables up to date under JAX
        return self.variables

    def judge(self, figures: dict[str, float]) -> None:
        """Keep the best student of the stage; lower the rate where the loss stays on a plateau."""
        progress, schedule = self.progress, self.lesson.stage.schedule
        loss = figures.get("held_out_loss", figures["loss"])
        better = progress.best is None or loss < progress.best
        if better:
            progress.best = loss
            save_student(self.parts.student, self.folder.best, self.folder.checkpoints)
        if schedule.name == "plateau":
            progress.waited = 0 if better else progress.waited + 1
            if progress.waited >= (schedule.patience or 1):
                progress.waited = 0
                self.rate.factor.assign(self.rate.factor * schedule.factor)

    def _rate(self) -> float:
        optimizer = self.model.optimizer
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        return float(ops.convert_to_numpy(self.rate(ops.maximum(optimizer.iterations - 1, 0))))

    def _events(self, row: dict[str, Any]) -> None:
        """The row for TensorBoard, by its own writer, which no backend has to be there for."""
        if self.writer is None:
            from tensorboard.summary import Writer

            self.writer = Writer(str(self.folder.path / "events"))
        for name, value in row.items():
            if isinstance(value, float):
                self.writer.add_scalar(name, value, self.before + row["epoch"])
        self.writer.flush()

    def _bad(self, what: str, step: int) -> str:
        last = self.progress.history[-1] if self.progress.history else None
        kept = f"the checkpoint of stage {last['stage']}, epoch {last['epoch']} stays" if last else "there is no checkpoint yet"
        return (
            f"stage {self.lesson.number}, epoch {self.progress.epoch + 1}, step {step} of {self.lesson.steps}: {what}; {kept} in "
            f"{self.folder.checkpoints}. Use a lower learning_rate, a longer warmup or another precision, in another folder."
        )


def prepare_device() -> str:
    """The devices by name, after memory growth was turned on where a GPU would otherwise be taken whole."""
    keep_memory()
    grows = keras.backend.backend() != "tensorflow" or grow_gpu_memory()
    return ", ".join(keras.distribution.list_devices()) + ("" if grows else " (in use already, its memory settings stay)")


def on_cpu() -> bool:
    return all(name.startswith("cpu") for name in keras.distribution.list_devices())


def restore(variables: dict[str, Any], arrays: dict[str, np.ndarray], where: Path) -> None:
    """Assign the arrays of a checkpoint; DistillError where it was made by other code or another Keras."""
    for name, variable in variables.items():
        array = arrays.get(name)
        if array is None or tuple(array.shape) != tuple(variable.shape):
            found = "missing" if array is None else f"of shape {array.shape}"
            expected = f"expected shape {tuple(variable.shape)}"
            raise DistillError(f"{where}/last.npz does not fit: {name} ({variable.path}) is {found}, {expected}. Use another folder.")
        variable.assign(array)


def save_student(student: keras.Model, path: Path, folder: Path) -> None:
    """The student as a .keras file, whole or not at all."""
    draft = temporary_for(folder / path.stem).with_suffix(".keras")  # Keras saves under its own suffix only
    try:
        student.save(draft)
        with committed(path) as temporary:
            draft.replace(temporary)
    finally:
        draft.unlink(missing_ok=True)
