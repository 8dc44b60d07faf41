"""What stands between the last map of a network and the embedding: one vector of an image, batch-normed. Short, because there are two."""

from typing import Any

from keras import layers

Tensor = Any


def pooled(features: Tensor, top: str = "average") -> Tensor:
    """Returns one batch-normed vector of each map: [B, H, W, C] -> float32 [B, C].

    Args:
        top: "average" of all places, or "depthwise": a weighted sum with a weight for each place of each channel, the global depthwise convolution
            of MobileFaceNet (Chen et al. 2018, section 3.2). It has H x W x C weights more: 25,088 of a map of 7x7 and 512 channels.
    """
    if top == "depthwise":
        signal = layers.DepthwiseConv2D(features.shape[1:3], use_bias=False, name="pool")(features)
        vector = layers.Flatten(name="flat", dtype="float32")(signal)
    else:
        vector = layers.GlobalAveragePooling2D(name="pool", dtype="float32")(features)
    return layers.BatchNormalization(name="pool_norm", dtype="float32")(vector)
