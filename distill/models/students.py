"""Students: functional models of stock Keras layers from an image of 0..255 to a float32 embedding, which load without our code.

Scaling is the first layer, so that a student takes raw pixels. Parts for training only (class heads, the projection to a
teacher's dimension) are separate and never in the saved file.
"""

import difflib
from collections.abc import Callable
from typing import Any

import keras
from keras import layers

from distill.config.student import Student
from distill.errors import DistillError
from distill.models.applications import INPUTS, application
from distill.models.ghostfacenet import ghostfacenet_v1
from distill.models.iresnet import BLOCKS as IRESNETS
from distill.models.iresnet import iresnet
from distill.models.mobilefacenet import mobilefacenet
from distill.models.small_conv import small_conv
from distill.models.transfer import start, weights_file

Tensor = Any

# Each takes images float32 [B, H, W, 3], 0..255, and the student's options, and returns one float32 vector of each image. Beside them: INPUTS.
BACKBONES: dict[str, Callable[[Tensor, Student], Tensor]] = {
    "small_conv": small_conv,
    "mobilefacenet": mobilefacenet,
    "ghostfacenet_v1": ghostfacenet_v1,
    **dict.fromkeys(IRESNETS, iresnet),
}


def build_student(student: Student, image_shape: tuple[int, int, int], dimension: int | None = None) -> keras.Model:
    """Returns the student of `begin_student` alone."""
    return begin_student(student, image_shape, dimension)[0]


def begin_student(student: Student, image_shape: tuple[int, int, int], dimension: int | None = None) -> tuple[keras.Model, list[str]]:
    """Returns the student as a functional model: images uint8 or float32 [B, H, W, 3], 0..255 RGB -> embedding float32 [B, student.embedding].

    The top is one vector of the last map (`tops`: pooled by average, or as student.top says; iresnet takes all places), dropout and one dense layer.
    The embedding is not normalised. With student.projection = "export" a linear map and batch norm come behind it: [B, dimension].

    Args:
        dimension: numbers of the teacher's embeddings, where the student is to end in their space.
    Returns:
        The model, and what begins anew although the student starts from other weights (`transfer.start`).
    Raises:
        DistillError: the backbone is unknown, an image is too small for it, weights do not fit, or a dimension is missing.
    """
    weights_file(student)  # whether it is there, before seconds are spent
    build = _backbone(student.backbone)
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(student.precision)
    try:
        images = keras.Input(image_shape, dtype="float32", name="image")
        pooled = build(images, student)
        if student.dropout:
            pooled = layers.Dropout(student.dropout, name="dropout", dtype="float32")(pooled)
        embedding = layers.Dense(student.embedding, name="embedding", dtype="float32")(pooled)
        if student.projection == "export":
            embedding = _projected(embedding, dimension)
        model = keras.Model(images, embedding, name="student")
    finally:
        keras.config.set_dtype_policy(previous)
    return model, start(model, student)


def _backbone(name: str) -> Callable[[Tensor, Student], Tensor]:
    known = [*BACKBONES, *(name for names in INPUTS.values() for name in names)]
    if name not in known:
        close = difflib.get_close_matches(name, known, 3, 0.5)
        hint = f"Near it: {', '.join(close)}. " if close else ""
        raise DistillError(f'student.backbone: received "{name}". {hint}Known: {", ".join(known)}.')
    return BACKBONES.get(name, application)


def _projected(embedding: Tensor, dimension: int | None) -> Tensor:
    """Returns an embedding in the teacher's space, by a linear map with batch norm: [B, D] -> float32 [B, dimension]."""
    if dimension is None:
        raise DistillError('student.projection = "export" ends in the dimension of a teacher, and none is given. Use projection = "train".')
    mapped = layers.Dense(dimension, use_bias=False, name="projection", dtype="float32")(embedding)
    return layers.BatchNormalization(name="projection_norm", dtype="float32")(mapped)


def projection(dimension: int) -> layers.Layer:
    """Returns the bias-free linear map from a student's embedding to a teacher's dimension: [B, D] -> float32 [B, dimension]."""
    return layers.Dense(dimension, use_bias=False, name=f"projection_{dimension}", dtype="float32")
