"""A step of a class head with centres from the teacher against one of the learned head: forward, backward and the optimizer, on embeddings in memory.

The student is one dense layer, so that the head is what is timed. Optimizer slots are counted beside: centres from the teacher have none.
"""

import keras
import numpy as np

from benchmarks.bench import interleaved, rate, save, show
from distill.config.stage import ShardsStage
from distill.losses.objective import OBJECTIVES
from distill.models.heads import build_head
from distill.runtime.process import keep_memory
from distill.training.model import Parts, Training
from distill.training.optimizers import Rate, build_optimizer
from distill.training.stages import StageData

BATCH, DIMENSION, STEPS = 128, 512, {1_000: 20, 85_742: 3}


class Embeddings:
    """What a stage asks of a source, of embeddings in memory."""

    name, fields, dimension, rows, steps, batch = "shards", ("embedding", "label"), DIMENSION, BATCH, 1, BATCH

    def __init__(self, classes: int) -> None:
        self.classes = classes


def training_of(classes: int, centres: str) -> tuple[Training, tuple]:
    """Returns the model of a stage on so many classes, and a batch for it."""
    stage = ShardsStage.model_validate({"terms": [{"name": "arcface", "centres": centres}], "optimizer": {"name": "sgd", "momentum": 0.9}})
    data = StageData(1, stage, Embeddings(classes), None, ("embedding", "label"), ())
    images = keras.Input((DIMENSION,))
    parts = Parts(keras.Model(images, keras.layers.Dense(DIMENSION)(images)), balanced={1: {}})
    rng = np.random.default_rng(0)
    for head, name in data.heads.items():
        parts.heads[name] = build_head(head, classes, name, DIMENSION, DIMENSION)
        if head.taught:
            parts.heads[name].set_weights([rng.normal(size=(classes, DIMENSION)).astype("float32")])
    parts.objectives[1] = tuple(OBJECTIVES[term.name](term) for term in stage.terms)
    model = Training(parts, data)
    learning = Rate(stage.schedule, 1e-3, 1000)
    model.compile(optimizer=build_optimizer(stage.optimizer, learning, model.trainable_variables, "float32"), jit_compile=False)
    values = {"embedding": rng.normal(size=(BATCH, DIMENSION)).astype("float32"), "label": rng.integers(0, classes, BATCH).astype("int32")}
    return model, (rng.normal(size=(BATCH, DIMENSION)).astype("float32"), values)


def main() -> None:
    keep_memory()
    results = {}
    for classes, steps in STEPS.items():
        ways, slots = {}, {}
        for centres in ("learned", "mean", "adaptive"):
            model, batch = training_of(classes, centres)
            slots[centres] = sum(int(np.prod(variable.shape)) for variable in model.optimizer.variables)
            ways[centres] = lambda model=model, batch=batch, steps=steps: rate(steps, lambda: [model.train_on_batch(*batch) for _ in range(steps)])
        results[f"{classes}"] = show(f"{classes:,} classes, batch {BATCH}, {DIMENSION} numbers", interleaved(ways, 5), "learned", "steps/s")
        print("numbers that the optimizer keeps: " + ", ".join(f"{name} {count:,}" for name, count in slots.items()))
    save("bench_heads", {"ratios": results, "backend": keras.backend.backend()})


if __name__ == "__main__":
    main()
