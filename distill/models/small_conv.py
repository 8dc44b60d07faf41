"""The small network for CPUs. Short, because it is."""

from typing import Any

from keras import layers

from distill.config.student import Student
from distill.models.scaling import scaled
from distill.models.tops import pooled

Tensor = Any

WIDTHS = (12, 24, 32, 40)


def small_conv(images: Tensor, student: Student) -> Tensor:
    """Builds a network for CPUs: a 3x3 convolution of stride 2, batch norm and ReLU for each width. Returns float32 [B, last width]."""
    signal = scaled(images, "signed")
    for number, width in enumerate(student.widths or WIDTHS, 1):
        signal = layers.Conv2D(width, 3, strides=2, padding="same", use_bias=False, name=f"conv{number}")(signal)
        signal = layers.BatchNormalization(name=f"norm{number}")(signal)
        signal = layers.ReLU(name=f"relu{number}")(signal)
    return pooled(signal, student.top)
