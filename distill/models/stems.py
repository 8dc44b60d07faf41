"""A network of keras.applications whose first convolution keeps the size of the image. Short, because it is one change."""

from collections.abc import Callable

import keras
from keras import layers

from distill.errors import DistillError

Shape = tuple[int, int, int]

UNPADDED = ("Inception", "NASNet", "Xception")  # begin with a 3x3 convolution without padding


def with_unit_stem(name: str, build: Callable[[Shape], keras.Model], image_shape: Shape) -> keras.Model:
    """Returns a network with stride 1 in its first convolution, where it has 2: a last map of 7x7 instead of 4x4 for images of 112x112.

    It is the stock network for images twice as large, so that all that depends on the size of a map (padding, cropping) is as it must be,
    built again with that stride. Its layers, their names and the shapes of their weights are those of the stock network.

    Args:
        name: of the network, for messages.
        build: the stock network for images of a shape.
    Raises:
        DistillError: the first convolution has another stride than 2.
    """
    height, width, channels = image_shape
    less = 2 if name.startswith(UNPADDED) else 0  # (2 (H - 2) + 2 - 3) // 2 + 1 = H - 2
    stock = build((2 * height - less, 2 * width - less, channels))
    place = next(place for place, layer in enumerate(stock.layers) if isinstance(layer, layers.Conv2D))
    stem, before = stock.layers[place], stock.layers[place - 1]
    if stem.strides != (2, 2):
        raise DistillError(f"student.stem_stride: the first convolution of {name} has strides {stem.strides}, expected (2, 2). Leave stem_stride out.")

    def changed(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        if layer is stem:
            config["strides"] = (1, 1)
        elif layer is before and isinstance(layer, layers.ZeroPadding2D):
            config["padding"] = tuple((size // 2, size // 2) for size in stem.kernel_size)
        return layer.__class__.from_config(config)

    return keras.models.clone_model(stock, input_tensors=keras.Input(image_shape, dtype=stock.input.dtype), clone_function=changed)
