"""What the callbacks of a stage share: the epoch that is trained, and the run around it. Short, because each duty is in `callbacks`."""

import time
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import ops

from distill.training.checkpoint import Progress
from distill.training.rate import Rate
from distill.training.run_folder import RunFolder
from distill.training.stages import StageData
from distill.training.table import TrainingDisplay


@dataclass
class Epoch:
    """What is known of the epoch that is trained. number: over all stages, from 0; the loss of `figures` that counts is `evaluated_loss`; shares: of the
    terms in the gradient, where there are several."""

    number: int = 0
    started: float = field(default_factory=time.monotonic)
    trained: float = 0.0  # seconds of its steps
    seconds: float = 0.0  # until it was evaluated
    figures: dict[str, float] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    shares: dict[str, float] = field(default_factory=dict)
    moving: dict[str, np.ndarray] = field(default_factory=dict)  # weights as training has them, while their averages stand in their place
    better: bool = False
    row: dict[str, Any] = field(default_factory=dict)

    @property
    def evaluated_loss(self) -> float:
        return self.figures.get("held_out_loss", self.figures["loss"])


@dataclass
class StageRun:
    """What the callbacks of a stage share. before: epochs of the stages before it; variables: all that a checkpoint stores, by name."""

    data: StageData
    folder: RunFolder
    progress: Progress
    student: keras.Model
    variables: dict[str, Any]
    rate: Rate
    before: int
    display: TrainingDisplay
    epoch: Epoch = field(default_factory=Epoch)


class StageCallback(keras.callbacks.Callback):
    """A callback of a stage."""

    # Under JAX and torch Keras then calls on_train_batch_end in other threads, where the loss is waited for while the next steps run. What it
    # raises there stops fit() at a later step, or before on_epoch_end stores anything. Under TensorFlow Keras itself waits for the figures
    # of every step to make them floats, so that looking at each costs nothing more.
    async_safe = True

    def __init__(self, run: StageRun) -> None:
        super().__init__()
        self.run = run

    def arrays(self, prefix: str = "") -> dict[str, np.ndarray]:
        """Returns the variables whose names begin so, as they are now."""
        _ = self.model  # asking for it brings the variables up to date under JAX
        return {name: ops.convert_to_numpy(variable) for name, variable in self.run.variables.items() if name.startswith(prefix)}

    def close(self) -> None:
        """Called when the stage has ended, after an error too, of which Keras tells no callback."""
