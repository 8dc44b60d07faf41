"""What trains: the student with the heads, projections and terms of a stage, as one Keras model. None of it but the student is ever exported."""

from dataclasses import dataclass, field
from typing import Any

import keras
from keras import ops

from distill.config.run import Run
from distill.errors import DistillError
from distill.losses.embedding import cosine, mean_absolute
from distill.losses.margin import hits
from distill.losses.objective import OBJECTIVES, Objective
from distill.models.heads import AnyHead, build_head
from distill.models.students import begin_student, projection
from distill.training.layers import freeze_layers
from distill.training.optimizers import build_optimizer
from distill.training.rate import Rate
from distill.training.stages import StageData


@dataclass
class Parts:
    """All weights of a run: the student, and what stands beside it in training. The same for every stage, so one checkpoint fits all.

    objectives: of each stage, by its number. balanced: of each stage the weights of its terms that have weight = "auto", by the terms' names.
    notes: what a person should know of how they began.
    """

    student: keras.Model
    heads: dict[str, AnyHead] = field(default_factory=dict)
    projections: dict[int, keras.layers.Layer] = field(default_factory=dict)
    objectives: dict[int, tuple[Objective, ...]] = field(default_factory=dict)
    balanced: dict[int, dict[str, keras.Variable]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def variables(self) -> dict[str, Any]:
        """Every variable (dropout's random state too) by a name that is the same in each process."""
        layers = {"student": self.student, **self.heads, **{f"projection_{size}": layer for size, layer in self.projections.items()}}
        objectives = {f"stage_{stage}_{each.term.name}": each for stage, several in self.objectives.items() for each in several}
        found = {f"{name}/{number}": variable for name, each in (layers | objectives).items() for number, variable in enumerate(each.variables)}
        return found | {f"stage_{stage}_weight_{name}/0": each for stage, weights in self.balanced.items() for name, each in weights.items()}


def build_parts(run: Run, stages: list[StageData]) -> Parts:
    """The student, a head of each kind for each class table, a projection for each other teacher dimension, built and ready."""
    student, notes = begin_student(run.student, stages[0].train.image_shape, _exported_dimension(run, stages))
    parts = Parts(student, notes=notes)
    size = parts.student.output_shape[-1]
    for data in stages:
        for head, name in data.heads.items():
            if name not in parts.heads:
                parts.heads[name] = build_head(head, data.train.classes, name, size, data.train.dimension)
        if "embedding" in data.fields and data.train.dimension not in (size, *parts.projections):
            parts.projections[data.train.dimension] = projection(data.train.dimension)
            parts.projections[data.train.dimension].build((None, size))
    for data in stages:
        parts.objectives[data.number] = tuple(OBJECTIVES[term.name](term) for term in data.stage.terms)
        for objective in parts.objectives[data.number]:
            objective.build(data.train.dimension or size, size, data.train.classes)
        auto = [term.name for term in data.stage.terms if term.weight == "auto"]
        parts.balanced[data.number] = {name: keras.Variable(1.0, trainable=False, dtype="float32", name=f"weight_{name}") for name in auto}
    return parts


def _exported_dimension(run: Run, stages: list[StageData]) -> int | None:
    """Returns the dimension of the teacher in whose space the student ends; None where it ends in its embedding. DistillError where there is no such one."""
    if run.student.projection == "train":
        return None
    asked = [data for data in stages if "embedding" in data.fields] or [data for data in stages if "embedding" in data.train.fields]
    dimensions = {data.train.dimension: f"{data.train.dimension} numbers (stage {data.number})" for data in asked}
    if len(dimensions) == 1:
        return next(iter(dimensions))
    gives = (
        f"embeddings of {' and '.join(dimensions.values())}" if dimensions else " and ".join(sorted({name for data in stages for name in data.train.fields}))
    )
    raise DistillError(
        f'student.projection = "export" ends in the space of one teacher\'s embeddings, but the sources give: {gives}. Use projection = "train".'
    )


class Training(keras.Model):
    """The student with what one stage needs beside it. Fed with (images, {"embedding", "label"}); the loss is the weighted sum of terms.

    Terms whose field a batch does not have are left out, of the loss and of the metrics: held-out identities have no trained class.
    """

    def __init__(self, parts: Parts, data: StageData) -> None:
        super().__init__(name=f"stage_{data.number}")
        self.student = parts.student
        self.heads = {head.name: parts.heads[name] for head, name in data.heads.items()}
        self.projection = parts.projections.get(data.train.dimension) if "embedding" in data.fields else None
        self.objectives = parts.objectives[data.number]
        self.balanced = parts.balanced[data.number]
        self.state = [variable for objective in self.objectives for variable in objective.variables]  # so that Keras knows them
        measured: dict[str, tuple[str, ...]] = {"accuracy": ("label",)} if self.heads else {}
        measured |= {"agreement": ("embedding",)} if "embedding" in data.fields else {}
        measured |= dict.fromkeys(data.stage.metrics, ("embedding",))
        self.needs = {term.name: term.fields for term in data.stage.terms} | measured
        self.means = [keras.metrics.Mean(name=name) for name in self.needs]
        self.built = True  # its parts are

    def call(self, images: Any, training: bool = False) -> dict[str, Any]:
        embedding = self.student(images, training=training)
        return {"student": embedding, "embedding": self.projection(embedding) if self.projection else embedding}

    def rows_of(self, y: Any, predicted: Any, training: bool, only: str | None = None) -> dict[str, Any]:
        """Returns one value a row of each term (of `only` that one) and each other figure whose fields a batch has, by name."""
        objectives = [each for each in self.objectives if {*each.term.fields} <= y.keys() and only in (None, each.term.name)]
        heads = {each.term.head.name for each in objectives if each.term.head}
        scores = {name: head.scores(y, predicted, training) for name, head in self.heads.items() if name in heads}
        rows = {each.term.name: each(y, predicted | scores, training) for each in objectives}
        if scores:
            rows["accuracy"] = hits(y["label"], next(iter(scores.values())))
        if "embedding" in y:
            rows["agreement"] = cosine(y["embedding"], predicted["embedding"])
        if "mae" in self.needs and "embedding" in y:
            rows["mae"] = mean_absolute(y["embedding"], predicted["embedding"])
        return rows

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True) -> Any:
        rows = self.rows_of(y, y_pred, training)
        terms = [each.term for each in self.objectives if each.term.name in rows]
        loss = sum(self.balanced.get(term.name, term.weight) * ops.mean(rows[term.name]) for term in terms)
        if training:  # what layers ask for by themselves: regularisers of weights and activities; no part of how good held-out rows are met
            loss = loss + sum(ops.sum(ops.cast(each, "float32")) for each in self.losses)
        for mean in self.means:
            if mean.name in rows:
                mean.update_state(rows[mean.name])
        return loss

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        told = self.get_metrics_result()
        return {name: value for name, value in told.items() if {*self.needs.get(name, ())} <= y.keys()}


def compiled(run: Run, data: StageData, parts: Parts) -> tuple[Training, Rate]:
    """Returns the model of one stage, ready for its first step, and its learning rate."""
    stage = data.stage
    model = Training(parts, data)
    layers = freeze_layers(model, data.number, stage)
    rate = Rate(stage.schedule, stage.optimizer.learning_rate, stage.epochs * data.steps, data.steps)
    optimizer = build_optimizer(stage.optimizer, rate, model.trainable_variables, run.student.precision, layers.multiplied_variables())
    # XLA on CPU was measured at 0.08 to 0.84 times the speed
    model.compile(optimizer=optimizer, jit_compile=False if on_cpu() else "auto")
    return model, rate


def on_cpu() -> bool:
    return all(name.startswith("cpu") for name in keras.distribution.list_devices())
