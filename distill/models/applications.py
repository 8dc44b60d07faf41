"""The networks of keras.applications as backbones: how each wants its images, and published weights that give what Keras gives with them."""

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import keras
from keras import layers

from distill.config.student import Student
from distill.errors import DistillError
from distill.models.scaling import scaled
from distill.models.stems import with_unit_stem
from distill.models.tops import pooled
from distill.models.transfer import of_backbone, weights_file

Tensor = Any

# Input of each keras.applications network, after the preprocess_input of its module. "own": the network scales 0..255 itself.
INPUTS: dict[str, tuple[str, ...]] = {
    "own": (
        *(f"ConvNeXt{size}" for size in ("Tiny", "Small", "Base", "Large", "XLarge")),
        *(f"EfficientNetB{number}" for number in range(8)),
        *(f"EfficientNetV2{size}" for size in ("B0", "B1", "B2", "B3", "S", "M", "L")),
        "MobileNetV3Small",
        "MobileNetV3Large",
    ),
    "signed": (
        *("InceptionResNetV2", "InceptionV3", "MobileNet", "MobileNetV2", "NASNetLarge", "NASNetMobile"),
        *("ResNet50V2", "ResNet101V2", "ResNet152V2", "Xception"),
    ),
    "standard": ("DenseNet121", "DenseNet169", "DenseNet201"),
    "centred_bgr": ("ResNet50", "ResNet101", "ResNet152", "VGG16", "VGG19"),
}

# EfficientNet B0 to B7 with weights="imagenet" divide by the root of these after their normalization; without weights they do not.
PUBLISHED_DEVIATION = (0.229, 0.224, 0.225)


def application(images: Tensor, student: Student) -> Tensor:
    """Builds a network of keras.applications without its top, with the weights of an .h5 file where the student names one. Returns float32 [B, C]."""
    backbone = _network(student, images.shape[1:])
    weights = weights_file(student)
    if weights and of_backbone(weights, student):
        _load(backbone, student.backbone, weights)
    kind = next(kind for kind, names in INPUTS.items() if student.backbone in names)
    return pooled(backbone(scaled(images, kind)), student.top)


def _network(student: Student, image_shape: tuple[int, int, int]) -> keras.Model:
    name = student.backbone
    build = partial(getattr(keras.applications, name), include_top=False, weights=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on the size of the published weights
        try:
            return with_unit_stem(name, lambda shape: build(input_shape=shape), image_shape) if student.stem_stride == 1 else build(input_shape=image_shape)
        except ValueError as error:
            height, width, _ = image_shape
            raise DistillError(f"student.backbone: {name} cannot be built for images of {height}x{width}: {error}") from None


def _load(backbone: keras.Model, name: str, weights: Path) -> None:
    try:
        backbone.load_weights(weights)
    except Exception as error:  # Keras and h5py raise of many classes
        reason = " ".join(str(error).split()) or type(error).__name__
        way_out = "Expected the weights of that network without its top (..._notop.h5)."
        raise DistillError(f"student.weights: {weights} cannot be loaded into {name}: {reason} {way_out}") from None
    if name.startswith("EfficientNetB") and is_published(weights):
        divide_as_published(backbone)


def is_published(weights: Path) -> bool:
    """Returns whether weights are of a network with the division after the normalization. A .weights.h5 file of Keras 3 lists all
    layers; one in the layout of the published files is assumed to be of such a network."""
    import h5py

    with h5py.File(weights, "r") as file:
        return "layer_names" in file.attrs or "layers/rescaling_1" in file or "layers/rescaling" not in file


def divide_as_published(backbone: keras.Model) -> None:
    """Puts the division into the variance of the normalization: (x - mean) / sqrt(variance) / sqrt(deviation), without other layers."""
    (norm,) = (layer for layer in backbone.layers if isinstance(layer, layers.Normalization))
    norm.adapt_variance.assign(norm.adapt_variance * keras.ops.convert_to_tensor(PUBLISHED_DEVIATION))
    norm.finalize_state()
