"""Class heads: scores of all classes for an embedding, [B, D] -> float32 [B, C]. They stand beside the student in training, and are never saved with it."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import layers, ops

from distill.config.losses import Head
from distill.losses.centres import adapted_centres
from distill.losses.embedding import unit
from distill.losses.margin import best_sub_centre

Tensor = Any


class ClassHead(layers.Layer):
    """Cosines between an embedding and one learned direction a class: [B, D] -> float32 [B, classes], in [-1, 1].

    Both sides are normalised (NormFace, Wang et al. 2017), so that acos of it, and with it every margin, is defined.

    Args:
        sub_centres: directions a class, of which the nearest counts (Deng et al. 2020); those of a class stand together.
    """

    def __init__(self, classes: int, sub_centres: int = 1, name: str | None = None) -> None:
        super().__init__(name=name, dtype="float32")
        self.classes, self.sub_centres = classes, sub_centres

    def build(self, input_shape: tuple[int | None, int]) -> None:
        # Length about 1 whatever D is: the gradient of a normalised row goes with 1 / length
        start = keras.initializers.RandomNormal(stddev=input_shape[-1] ** -0.5)
        self.kernel = self.add_weight(shape=(self.classes * self.sub_centres, input_shape[-1]), initializer=start, name="kernel")

    def call(self, embedding: Tensor) -> Tensor:
        cosines = ops.matmul(unit(embedding), ops.transpose(unit(self.kernel)))
        return cosines if self.sub_centres == 1 else best_sub_centre(ops.reshape(cosines, (-1, self.classes, self.sub_centres)))

    def scores(self, batch: Mapping[str, Tensor], predicted: Mapping[str, Tensor], training: bool) -> Tensor:
        """Returns the scores of a batch, whose fields and predictions are as for `distill.losses.objective.Objective`."""
        return self(predicted["student"])


class LinearHead(layers.Layer):
    """Weights and a bias a class, as a classifier ends in: [B, D] -> float32 [B, classes], of any size, through batch norm where that is asked for."""

    def __init__(self, classes: int, batch_norm: bool = False, name: str | None = None) -> None:
        super().__init__(name=name, dtype="float32")
        self.dense = layers.Dense(classes, name="dense", dtype="float32")
        # .9: the moving averages of the embedding's own norms are settled after each epoch, these are not
        self.norm = layers.BatchNormalization(momentum=0.9, name="norm", dtype="float32") if batch_norm else None

    def build(self, input_shape: tuple[int | None, int]) -> None:
        self.dense.build(input_shape)
        if self.norm:
            self.norm.build((None, self.dense.units))

    def call(self, embedding: Tensor, training: bool = False) -> Tensor:
        scores = self.dense(ops.cast(embedding, "float32"))
        return self.norm(scores, training=training) if self.norm else scores

    def scores(self, batch: Mapping[str, Tensor], predicted: Mapping[str, Tensor], training: bool) -> Tensor:
        """Returns the scores of a batch, as `ClassHead.scores`."""
        return self(predicted["student"], training=training)


class TaughtHead(layers.Layer):
    """Cosines between an embedding in the teacher's space and a centre a class that comes from the teacher's embeddings: no gradient, no optimizer slots.

    Args:
        adaptive: whether the centres move with the teacher's embeddings in training (AdaDistill, Boutros et al. 2024).
    """

    def __init__(self, classes: int, adaptive: bool, name: str | None = None) -> None:
        super().__init__(name=name, dtype="float32")
        self.classes, self.adaptive = classes, adaptive

    def build(self, input_shape: tuple[int | None, int]) -> None:
        self.centres = self.add_weight(shape=(self.classes, input_shape[-1]), initializer="zeros", trainable=False, name="centres")

    def call(self, embedding: Tensor) -> Tensor:
        return ops.matmul(unit(embedding), ops.transpose(ops.stop_gradient(unit(self.centres))))

    def scores(self, batch: Mapping[str, Tensor], predicted: Mapping[str, Tensor], training: bool) -> Tensor:
        """Returns the scores of a batch, as `ClassHead.scores`; in training the centres move first."""
        if self.adaptive and training and self.trainable:
            self.centres.assign(adapted_centres(self.centres, batch["label"], predicted["embedding"], batch["embedding"]))
        return self(predicted["embedding"])


AnyHead = ClassHead | LinearHead | TaughtHead


def build_head(head: Head, classes: int, name: str, embedding: int, dimension: int | None) -> AnyHead:
    """Returns a head with its weights.

    Args:
        embedding: numbers of the student's embedding.
        dimension: of the teacher's, for one that is taught.
    """
    made: AnyHead
    if head.kind == "linear":
        made = LinearHead(classes, head.batch_norm, name)
    elif head.taught:
        made = TaughtHead(classes, head.centres == "adaptive", name)
    else:
        made = ClassHead(classes, head.sub_centres, name)
    made.build((None, dimension if head.taught and dimension else embedding))
    return made
