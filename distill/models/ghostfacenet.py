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
    signal = _conv(scaled(images, "signed"), "stem", divisible(16 * width), 3, student.stem_stride or STEM_STRIDE)
    signal = prelu(norm(signal, "stem_norm"), "stem_prelu")
    for number, (kernel, expansion, channels, excited, stride) in enumerate(GHOSTNET, 1):
        signal = _bottleneck(signal, f"block{number}", kernel, divisible(expansion * width), divisible(channels * width), excited, stride)
    signal = _conv(signal, "last", divisible(LAST * width), 1)
    return pooled(prelu(norm(signal, "last_norm"), "last_prelu"), "depthwise")


def divisible(number: float, by: int = 4) -> int:
    """Returns the multiple of `by` that is nearest to a number of channels, the next one where that is less than .9 of it.

    >>> [divisible(number) for number in (20.8, 93.6, 31.2, 5.0)]
    [20, 92, 32, 8]
    """
    nearest = max(by, int(number + by / 2) // by * by)
    return nearest + by if nearest < 0.9 * number else nearest


def _ghost(signal: Tensor, name: str, channels: int, active: bool) -> Tensor:
    """A ghost module (section 3.1): half of the channels from a 1x1 convolution, the other half from these by a cheap 3x3 depthwise one."""
    own = norm(_conv(signal, f"{name}_own", channels // 2, 1), f"{name}_own_norm")
    own = prelu(own, f"{name}_own_prelu") if active else own
    cheap = norm(_depthwise(own, f"{name}_cheap", 3), f"{name}_cheap_norm")
    return layers.Concatenate(name=name)([own, prelu(cheap, f"{name}_cheap_prelu") if active else cheap])


def _bottleneck(signal: Tensor, name: str, kernel: int, expansion: int, channels: int, excited: bool, stride: int) -> Tensor:
    """A ghost bottleneck (section 3.2): two ghost modules, a depthwise convolution between them where the map becomes smaller, and a way past them."""
    inside = _ghost(signal, f"{name}_ghost1", expansion, active=True)
    if stride > 1:
        inside = norm(_depthwise(inside, f"{name}_down", kernel, stride), f"{name}_down_norm")
    inside = _ghost(_excited(inside, f"{name}_excited") if excited else inside, f"{name}_ghost2", channels, active=False)
    if stride > 1 or signal.shape[-1] != channels:
        signal = norm(_depthwise(signal, f"{name}_past_down", kernel, stride), f"{name}_past_down_norm")
        signal = norm(_conv(signal, f"{name}_past_conv", channels, 1), f"{name}_past_norm")
    return layers.Add(name=f"{name}_add")([signal, inside])


def _excited(signal: Tensor, name: str) -> Tensor:
    """Weighs each channel by what all channels are on average (Hu et al. 2018), through a quarter of their number."""
    channels = signal.shape[-1]
    weights = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_pool")(signal)
    weights = prelu(layers.Conv2D(divisible(channels / 4), 1, kernel_initializer=_start(), name=f"{name}_few")(weights), f"{name}_prelu")
    weights = layers.Conv2D(channels, 1, activation="hard_sigmoid", kernel_initializer=_start(), name=f"{name}_weights")(weights)
    return layers.Multiply(name=name)([signal, weights])


def _conv(signal: Tensor, name: str, channels: int, kernel: int, stride: int = 1) -> Tensor:
    return layers.Conv2D(channels, kernel, strides=stride, padding="same", use_bias=False, kernel_initializer=_start(), name=name)(signal)


def _depthwise(signal: Tensor, name: str, kernel: int, stride: int = 1) -> Tensor:
    return layers.DepthwiseConv2D(kernel, strides=stride, padding="same", use_bias=False, depthwise_initializer=_start(), name=name)(signal)


def _start() -> keras.Initializer:
    return keras.initializers.VarianceScaling(2.0, "fan_out", "truncated_normal")  # a new one each time: one that is shared gives equal weights
