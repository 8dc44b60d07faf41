"""MobileFaceNet (Chen et al. 2018): inverted bottlenecks with PReLU, and a global depthwise convolution in place of average pooling."""

from typing import Any

from keras import layers

from distill.config.student import Student
from distill.models.blocks import prelu
from distill.models.scaling import scaled
from distill.models.tops import pooled

Tensor = Any

# Table 1 of the paper: bottlenecks as (expansion, channels, how many, stride of the first).
MOBILEFACENET = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))


def mobilefacenet(images: Tensor, student: Student) -> Tensor:
    """Builds MobileFaceNet, for 112x112; other sizes change only the kernel of the global depthwise convolution. Returns float32 [B, 512]."""
    signal = _conv(scaled(images, "signed"), 64, 3, strides=2)
    signal = _depthwise(signal, 3)
    for expansion, channels, repeats, stride in MOBILEFACENET:
        for number in range(repeats):
            signal = _bottleneck(signal, expansion, channels, stride if number == 0 else 1)
    return pooled(_conv(signal, 512, 1), "depthwise")


def _conv(signal: Tensor, channels: int, kernel: int, strides: int = 1, linear: bool = False) -> Tensor:
    signal = layers.Conv2D(channels, kernel, strides=strides, padding="same", use_bias=False)(signal)
    signal = layers.BatchNormalization()(signal)
    return signal if linear else prelu(signal)


def _depthwise(signal: Tensor, kernel: int, strides: int = 1) -> Tensor:
    signal = layers.DepthwiseConv2D(kernel, strides=strides, padding="same", use_bias=False)(signal)
    return prelu(layers.BatchNormalization()(signal))


def _bottleneck(signal: Tensor, expansion: int, channels: int, stride: int) -> Tensor:
    inside = _conv(signal, expansion * signal.shape[-1], 1)
    inside = _conv(_depthwise(inside, 3, stride), channels, 1, linear=True)
    return layers.Add()([signal, inside]) if stride == 1 and signal.shape[-1] == channels else inside
