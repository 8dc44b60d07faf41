"""IResNet, the residual network of ArcFace's public nets (Deng et al. 2019; blocks after Duta et al. 2020), for 112x112."""

from typing import Any

from keras import layers

from distill.config.student import Student
from distill.models.blocks import norm, prelu
from distill.models.scaling import scaled

Tensor = Any

WIDTHS = (64, 128, 256, 512)
BLOCKS = {"iresnet18": (2, 2, 2, 2), "iresnet34": (3, 4, 6, 3), "iresnet50": (3, 4, 14, 3), "iresnet100": (3, 13, 30, 3)}  # of each width


def iresnet(images: Tensor, student: Student) -> Tensor:
    """Builds the IResNet that student.backbone names: a 3x3 stem of stride 1, blocks of which the first of each width halves the map, and all
    places of the last map side by side, so that other sizes of images change the embedding layer: 25,088 numbers for 112x112.

    The public nets have a batch norm without gamma behind the embedding layer; here the embedding is what that layer gives, as that of every
    student. With 512 numbers the weights that are trained are theirs but for that: 43,590,848 - 1,024 of iresnet50.

    Returns:
        float32 [B, 512 x H/16 x W/16], rounded up.
    """
    signal = prelu(norm(_conv(scaled(images, "signed"), "conv", WIDTHS[0], 3), "norm"), "prelu")
    for stage, (channels, blocks) in enumerate(zip(WIDTHS, BLOCKS[student.backbone], strict=True), 1):
        for number in range(1, blocks + 1):
            signal = _block(signal, f"stage{stage}_block{number}", channels, 2 if number == 1 else 1)
    signal = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name="pool_norm", dtype="float32")(signal)
    return layers.Flatten(name="flat", dtype="float32")(signal)


def _block(signal: Tensor, name: str, channels: int, stride: int) -> Tensor:
    """Batch norm, 3x3 convolution, batch norm, PReLU, 3x3 convolution that may halve the map, batch norm; and a way past them."""
    inside = _conv(norm(signal, f"{name}_norm1"), f"{name}_conv1", channels, 3)
    inside = _conv(prelu(norm(inside, f"{name}_norm2"), f"{name}_prelu"), f"{name}_conv2", channels, 3, stride)
    inside = norm(inside, f"{name}_norm3")
    if stride > 1 or signal.shape[-1] != channels:
        signal = norm(_conv(signal, f"{name}_past_conv", channels, 1, stride), f"{name}_past_norm")
    return layers.Add(name=f"{name}_add")([signal, inside])


def _conv(signal: Tensor, name: str, channels: int, kernel: int, stride: int = 1) -> Tensor:
    padding = "same"
    if kernel > 1 and stride > 1:  # as PyTorch pads, where Keras' "same" has nothing on the left and above
        signal, padding = layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(signal), "valid"
    return layers.Conv2D(channels, kernel, strides=stride, padding=padding, use_bias=False, name=name)(signal)
