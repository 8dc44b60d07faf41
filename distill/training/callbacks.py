"""What happens in a stage beside its steps: Keras callbacks, one duty each, which Keras calls in the order of `stage_callbacks`.

At an epoch's end the averages are settled first, because everything after is of the student as it is saved. Then nothing that is not finite gets
further, and what is stored of the epoch is stored before it is shown. What one callback finds and another needs lies in `Epoch`.
"""

import itertools
import math
import time
from contextlib import closing
from typing import Any

import numpy as np
from keras import ops

from distill.config.schedule import Plateau as PlateauSchedule
from distill.errors import Unfinished
from distill.models.norms import settle_averages
from distill.training.checkpoint import save_student
from distill.training.optimizers import last_rate
from distill.training.shares import balanced_weights, gradient_norms, shares_of, weak_terms
from distill.training.stage_run import Epoch, StageCallback, StageRun
from distill.training.stages import StageData

# What batch norm's averages are taken from after each epoch: so many rows tell a mean to 1/45 of its deviation, and as 16 batches cost five steps
AVERAGED_ROWS = 2048


def averaged_batches(data: StageData) -> int:
    """Returns from how many batches batch norm's averages are taken after an epoch, where it has so many."""
    return math.ceil(AVERAGED_ROWS / data.train.batch)


class ShowSteps(StageCallback):
    """The bar of the epoch."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.run.epoch = Epoch(self.run.before + epoch)
        self.run.display.start(self.run.data.number - 1, epoch)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.run.display.tick(batch + 1, logs)

    def on_test_begin(self, logs: Any = None) -> None:
        self.run.display.doing("held-out rows")


class AverageWeights(StageCallback):
    """Puts the averages of an optimizer with `ema` where the weights are, before the epoch is evaluated. Training goes on from what it keeps of these.

    Not Keras' SwapEMAWeights: under TensorFlow it swaps by adding and subtracting, which leaves other bits.
    """

    def on_test_begin(self, logs: Any = None) -> None:
        self.put()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if not self.run.data.held_out:
            self.put()

    def put(self) -> None:
        model = self.model  # asked for before the variables, as in `arrays`
        moving = {name: variable for name, variable in self.run.variables.items() if variable.trainable}
        self.run.epoch.moving = {name: np.array(ops.convert_to_numpy(variable)) for name, variable in moving.items()}
        model.optimizer.finalize_variable_values(model.trainable_variables)


class SettleAverages(StageCallback):
    """Makes the student what it would be if it was saved now, before it is evaluated: by the first batches of the epoch that was just trained."""

    def on_test_begin(self, logs: Any = None) -> None:
        self.settle()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if not self.run.data.held_out:
            self.settle()
        self.run.epoch.seconds = time.monotonic() - self.run.epoch.started

    def settle(self) -> None:
        epoch, data = self.run.epoch, self.run.data
        epoch.trained = time.monotonic() - epoch.started
        _ = self.model  # as in `arrays`
        with closing(data.epoch_images(epoch.number)) as images:
            settle_averages(self.run.student, itertools.islice(images, averaged_batches(data)))


class TermShares(StageCallback):
    """Measures how much each term moves the embedding, where there are several, and says where one hardly does."""

    told: frozenset[str] = frozenset()

    def on_train_begin(self, logs: Any = None) -> None:
        run = self.run
        if run.progress.epoch:
            return
        with closing(run.data.epoch_images(run.before)) as images:  # an embedding by averages that were never taken says nothing
            settle_averages(run.student, itertools.islice(images, 4))
        norms = self.norms(run.before)
        for name, weight in balanced_weights(run.data.stage.terms, norms).items():
            self.model.balanced[name].assign(weight)
        shares = shares_of(self.weights(), norms)
        auto = "".join(f", weight of {name} {value:.4g}" for name, value in self.weights().items() if name in self.model.balanced)
        run.display.line(f"  shares of the gradient at the embedding: {', '.join(f'{name} {100 * share:.3g} %' for name, share in shares.items())}{auto}")
        self.warn(shares)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.run.epoch.shares = shares_of(self.weights(), self.norms(self.run.epoch.number))
        self.warn(self.run.epoch.shares)

    def norms(self, epoch: int) -> dict[str, float]:
        data = self.run.data
        with closing(data.epoch(epoch)) as batches:
            images, values = next(batches)
        return gradient_norms(self.model, images, {name: values[name] for name in data.fields})

    def weights(self) -> dict[str, float]:
        balanced = {name: float(ops.convert_to_numpy(weight)) for name, weight in self.model.balanced.items()}
        return {term.name: balanced[term.name] if isinstance(term.weight, str) else term.weight for term in self.run.data.stage.terms}

    def warn(self, shares: dict[str, float]) -> None:
        """Says each warning once a stage, whatever the figures in it."""
        for name, line in weak_terms(self.weights(), shares, self.model.balanced).items():
            if name not in self.told:
                self.told |= {name}
                self.run.display.line(line)


class FiniteGuard(StageCallback):
    """Stops a stage whose loss, figures or weights are not finite, before they are stored. Passes on the figures and weights that it has seen."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if not math.isfinite(logs["loss"]):
            raise Unfinished(self._message("the loss is not finite", batch + 1))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        arrays = self.arrays()
        figures = {name.replace("val_", "held_out_"): float(value) for name, value in logs.items()}
        if not all(map(math.isfinite, figures.values())) or not all(np.isfinite(each).all() for each in arrays.values()):
            raise Unfinished(self._message("a weight or a figure is not finite", self.run.data.steps))
        self.run.epoch.figures, self.run.epoch.arrays = figures, arrays

    def _message(self, what: str, step: int) -> str:
        run = self.run
        return (
            f"stage {run.data.number}, epoch {run.progress.epoch + 1}, step {step} of {run.data.steps}: {what}; "
            f"{run.progress.kept or 'there is no checkpoint yet'} in {run.folder.checkpoints}. "
            "Use a lower learning_rate, a longer warmup or another precision, in another folder."
        )


class HistoryRow(StageCallback):
    """Makes the row of history.csv."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        now, data = self.run.epoch, self.run.data
        shown = data.train.rows - count_left_out(data.train.left_out, self.run.progress.left_out)
        now.row = {"stage": data.number, "epoch": epoch + 1, "seconds": now.seconds, "images_per_second": shown / now.trained}
        learning_rate = last_rate(self.run.rate, self.model.optimizer)
        now.row |= {"learning_rate": learning_rate, **now.figures, **{f"share_{name}": share for name, share in now.shares.items()}}


def count_left_out(found: dict[str, int], known: dict[str, int]) -> int:
    """Returns how many images this process left out. In `known` stays what an earlier one counted, of which not all may have come again."""
    known |= {kind: max(count, known.get(kind, 0)) for kind, count in found.items()}
    return sum(found.values())


class BestStudent(StageCallback):
    """Keeps the student with the lowest loss of its stage."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        now, progress = self.run.epoch, self.run.progress
        now.better = progress.best is None or now.evaluated_loss < progress.best
        if now.better:
            progress.best = now.evaluated_loss
            save_student(self.run.student, self.run.folder.best, self.run.folder.checkpoints)


class MovingWeights(StageCallback):
    """Puts back what trains, where averages stood in its place; after the last epoch of a stage these stay, for the next stage."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch + 1 < self.run.data.stage.epochs:
            for name, array in self.run.epoch.moving.items():
                self.run.variables[name].assign(array)
            self.run.epoch.arrays |= self.run.epoch.moving


class Plateau(StageCallback):
    """Lowers the learning rate where the loss was not better for `patience` epochs."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        progress, schedule, rate = self.run.progress, self.run.data.stage.schedule, self.run.rate
        progress.waited = 0 if self.run.epoch.better else progress.waited + 1
        if isinstance(schedule, PlateauSchedule) and progress.waited >= schedule.patience:
            progress.waited = 0
            rate.factor.assign(rate.factor * schedule.factor)


class Checkpoint(StageCallback):
    """Writes last.npz and history.csv: from here on the epoch is done."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        now, progress = self.run.epoch, self.run.progress
        arrays = now.arrays | self.arrays("optimizer/")  # again, because of the plateau
        progress.epoch = epoch + 1
        progress.seconds += time.monotonic() - now.started
        progress.history.append(now.row)
        self.run.folder.save(progress, arrays)


class TensorBoardEvents(StageCallback):
    """Writes the row for TensorBoard, by its own writer, which no backend has to be there for."""

    writer: Any = None

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self.writer is None:
            from tensorboard.summary import Writer

            self.writer = Writer(str(self.run.folder.path / "events"))
        for name, value in self.run.epoch.row.items():
            if isinstance(value, float):
                self.writer.add_scalar(name, value, self.run.before + epoch + 1)
        self.writer.flush()

    def close(self) -> None:
        if self.writer:
            self.writer.close()


class ShowRow(StageCallback):
    """The row of the table."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.run.display.epoch(self.run.epoch.row)


def stage_callbacks(run: StageRun) -> list[StageCallback]:
    """Returns the callbacks of a stage, in their order."""
    kinds = [ShowSteps, AverageWeights, SettleAverages, TermShares, FiniteGuard, HistoryRow, BestStudent, MovingWeights, Plateau, Checkpoint]
    kinds += [TensorBoardEvents, ShowRow]
    stage = run.data.stage
    needless: dict[type[StageCallback], bool] = {Plateau: not isinstance(stage.schedule, PlateauSchedule), TermShares: len(stage.terms) == 1}
    needless |= dict.fromkeys((AverageWeights, MovingWeights), stage.optimizer.ema is None)
    return [kind(run) for kind in kinds if not needless.get(kind)]
