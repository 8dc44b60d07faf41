"""What trains: the student with the heads, projections and terms of a stage, as one Keras model. None of it but the student is ever exported."""

from dataclasses import dataclass, field
from typing import Any

import keras
from keras import ops

from distill.config.run import Run
from distill.losses.embedding import cosine
from distill.losses.margin import hits
from distill.losses.objective import OBJECTIVES, Objective
from distill.models.students import ClassHead, build_student, projection
from distill.training.optimizers import Rate, build_optimizer
from distill.training.stages import StageData


@dataclass
class Parts:
    """All weights of a run: the student, and what stands beside it in training. The same for every stage, so one checkpoint fits all.

    objectives: of each stage, by its number.
    """

    student: keras.Model
    heads: dict[str, ClassHead] = field(default_factory=dict)
    projections: dict[int, keras.layers.Layer] = field(default_factory=dict)
    objectives: dict[int, tuple[Objective, ...]] = field(default_factory=dict)

    def variables(self) -> dict[str, Any]:
        """Every variable (dropout's random state too) by a name that is the same in each process."""
        layers = {"student": self.student, **self.heads, **{f"projection_{size}": layer for size, layer in self.projections.items()}}
        objectives = {f"stage_{stage}_{each.term.name}": each for stage, several in self.objectives.items() for each in several}
        return {f"{name}/{number}": variable for name, each in (layers | objectives).items() for number, variable in enumerate(each.variables)}


def build_parts(run: Run, stages: list[StageData]) -> Parts:
    """The student, a head for each class table, a projection for each other teacher dimension, built and ready."""
    parts = Parts(build_student(run.student, stages[0].train.image_shape))
    for data in stages:
        if data.head and data.head not in parts.heads:
            parts.heads[data.head] = ClassHead(data.train.classes, name=data.head)
        if "embedding" in data.fields and data.train.dimension not in (run.student.embedding, *parts.projections):
            parts.projections[data.train.dimension] = projection(data.train.dimension)
    for layer in (*parts.heads.values(), *parts.projections.values()):
        layer.build((None, run.student.embedding))
    for data in stages:
        parts.objectives[data.number] = tuple(OBJECTIVES[term.name](term) for term in data.stage.terms)
        for objective in parts.objectives[data.number]:
            objective.build(data.train.dimension or run.student.embedding, data.train.classes)
    return parts


class Training(keras.Model):
    """The student with what one stage needs beside it. Fed with (images, {"embedding", "label"}); the loss is the weighted sum of terms.

    Terms whose field a batch does not have are left out, of the loss and of the metrics: held-out identities have no trained class.
    """

    def __init__(self, parts: Parts, data: StageData) -> None:
        super().__init__(name=f"stage_{data.number}")
        self.student = parts.student
        self.head = parts.heads[data.head] if data.head else None
        self.projection = parts.projections.get(data.train.dimension) if "embedding" in data.fields else None
        self.objectives = parts.objectives[data.number]
        self.state = [variable for objective in self.objectives for variable in objective.variables]  # so that Keras knows them
        self.needs: dict[str, str] = {term.name: term.needs for term in data.stage.terms}
        self.needs |= {name: need for name, need in (("accuracy", "label"), ("agreement", "embedding")) if need in data.fields}
        self.means = [keras.metrics.Mean(name=name) for name in self.needs]
        self.built = True  # its parts are

    def call(self, images: Any, training: bool = False) -> dict[str, Any]:
        embedding = self.student(images, training=training)
        predicted = {"embedding": self.projection(embedding) if self.projection else embedding}
        if self.head:
            predicted["label"] = self.head(embedding)
        return predicted

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True) -> Any:
        objectives = [each for each in self.objectives if each.term.needs in y]
        rows: dict[str, Any] = {each.term.name: each(y, y_pred, training) for each in objectives}
        loss = sum(each.term.weight * ops.mean(rows[each.term.name]) for each in objectives)
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


def compiled(run: Run, data: StageData, parts: Parts) -> tuple[Training, Rate]:
    """Returns the model of one stage, ready for its first step, and its learning rate."""
    stage = data.stage
    model = Training(parts, data)
    rate = Rate(stage.schedule, stage.optimizer.learning_rate, stage.epochs * data.steps)
    optimizer = build_optimizer(stage.optimizer, rate, model.trainable_variables, run.student.precision)
    # XLA on CPU was measured at 0.08 to 0.84 times the speed
    model.compile(optimizer=optimizer, jit_compile=False if on_cpu() else "auto")
    return model, rate


def on_cpu() -> bool:
    return all(name.startswith("cpu") for name in keras.distribution.list_devices())
