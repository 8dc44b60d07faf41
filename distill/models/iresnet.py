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
    signal = prelu(norm(_conv(scaled(images, "signed"), WIDTHS[0], 3)))
    for channels, blocks in zip(WIDTHS, BLOCKS[student.backbone], strict=True):
        for number in range(blocks):
            signal = _block(signal, channels, 2 if number == 0 else 1)
    signal = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name="pool_norm", dtype="float32")(signal)
    return layers.Flatten(name="flat", dtype="float32")(signal)


def _block(signal: Tensor, channels: int, stride: int) -> Tensor:
    """Batch norm, 3x3 convolution, batch norm, PReLU, 3x3 convolution that may halve the map, batch norm; and a way past them."""
    inside = prelu(norm(_conv(norm(signal), channels, 3)))
    inside = norm(_conv(inside, channels, 3, stride))
    if stride > 1 or signal.shape[-1] != channels:
        signal = norm(_conv(signal, channels, 1, stride))
    return layers.Add()([signal, inside])


def _conv(signal: Tensor, channels: int, kernel: int, stride: int = 1) -> Tensor:
    if kernel > 1 and stride > 1:  # as PyTorch pads, where Keras' "same" has nothing on the left and above
        return layers.Conv2D(channels, kernel, strides=stride, use_bias=False)(layers.ZeroPadding2D(kernel // 2)(signal))
    return layers.Conv2D(channels, kernel, strides=stride, padding="same", use_bias=False)(signal)
