"""GhostFaceNet-V1 (Alansari et al. 2023): GhostNet (Han et al. 2020) with PReLU, and a global depthwise convolution in place of average pooling."""

from typing import Any

import keras
from keras import layers

from distill.config.student import Student
from distill.models.blocks import norm, prelu
from distill.models.scaling import scaled
from distill.models.tops import pooled

Tensor = Any

# Bottlenecks of GhostNet (table 1) as (kernel, expansion, channels, squeeze and excitation, stride). GhostNet's last two numbers are 960.
GHOSTNET = (
    (3, 16, 16, False, 1),
    (3, 48, 24, False, 2),
    (3, 72, 24, False, 1),
    (5, 72, 40, True, 2),
    (5, 120, 40, True, 1),
    (3, 240, 80, False, 2),
    (3, 200, 80, False, 1),
    (3, 184, 80, False, 1),
    (3, 184, 80, False, 1),
    (3, 480, 112, True, 1),
    (3, 672, 112, True, 1),
    (5, 672, 160, True, 2),
    (5, 960, 160, False, 1),
    (5, 960, 160, True, 1),
    (5, 960, 160, False, 1),
    (5, 512, 160, True, 1),
)
LAST = 512
WIDTH, STEM_STRIDE = 1.3, 1


def ghostfacenet_v1(images: Tensor, student: Student) -> Tensor:
    """Builds GhostFaceNetV1-W-S with W = student.width (1.3 where it is not set) and S = student.stem_stride (1), for 112x112.

    With an embedding of 512 numbers W = 1.3 has 4,086,764 parameters for S = 1 and 4,064,852 for S = 2, where the paper has 4.09 and 4.06 million.

    Returns:
        float32 [B, 664] for W = 1.3, [B, 512] for W = 1.
    """
    width = student.width or WIDTH
    signal = prelu(norm(_conv(scaled(images, "signed"), divisible(16 * width), 3, student.stem_stride or STEM_STRIDE)))
    for kernel, expansion, channels, excited, stride in GHOSTNET:
        signal = _bottleneck(signal, kernel, divisible(expansion * width), divisible(channels * width), excited, stride)
    return pooled(prelu(norm(_conv(signal, divisible(LAST * width), 1))), "depthwise")


def divisible(number: float, by: int = 4) -> int:
    """Returns the multiple of `by` that is nearest to a number of channels, the next one where that is less than .9 of it.

    >>> [divisible(number) for number in (20.8, 93.6, 31.2, 5.0)]
    [20, 92, 32, 8]
    """
    nearest = max(by, int(number + by / 2) // by * by)
    return nearest + by if nearest < 0.9 * number else nearest


def _ghost(signal: Tensor, channels: int, active: bool) -> Tensor:
    """A ghost module (section 3.1): half of the channels from a 1x1 convolution, the other half from these by a cheap 3x3 depthwise one."""
    own = norm(_conv(signal, channels // 2, 1))
    own = prelu(own) if active else own
    cheap = norm(_depthwise(own, 3))
    return layers.Concatenate()([own, prelu(cheap) if active else cheap])


def _bottleneck(signal: Tensor, kernel: int, expansion: int, channels: int, excited: bool, stride: int) -> Tensor:
    """A ghost bottleneck (section 3.2): two ghost modules, a depthwise convolution between them where the map becomes smaller, and a way past them."""
    inside = _ghost(signal, expansion, active=True)
    if stride > 1:
        inside = norm(_depthwise(inside, kernel, stride))
    inside = _ghost(_excited(inside) if excited else inside, channels, active=False)
    if stride > 1 or signal.shape[-1] != channels:
        signal = norm(_conv(norm(_depthwise(signal, kernel, stride)), channels, 1))
    return layers.Add()([signal, inside])


def _excited(signal: Tensor) -> Tensor:
    """Weighs each channel by what all channels are on average (Hu et al. 2018), through a quarter of their number."""
    channels = signal.shape[-1]
    weights = layers.GlobalAveragePooling2D(keepdims=True)(signal)
    weights = prelu(layers.Conv2D(divisible(channels / 4), 1, kernel_initializer=_start())(weights))
    weights = layers.Conv2D(channels, 1, activation="hard_sigmoid", kernel_initializer=_start())(weights)
    return layers.Multiply()([signal, weights])


def _conv(signal: Tensor, channels: int, kernel: int, stride: int = 1) -> Tensor:
    return layers.Conv2D(channels, kernel, strides=stride, padding="same", use_bias=False, kernel_initializer=_start())(signal)


def _depthwise(signal: Tensor, kernel: int, stride: int = 1) -> Tensor:
    return layers.DepthwiseConv2D(kernel, strides=stride, padding="same", use_bias=False, depthwise_initializer=_start())(signal)


def _start() -> keras.Initializer:
    return keras.initializers.VarianceScaling(2.0, "fan_out", "truncated_normal")  # a new one each time: one that is shared gives equal weights
