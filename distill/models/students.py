"""Students: functional models of stock Keras layers from an image of 0..255 to a float32 embedding, which load without our code.

Scaling is the first layer, so that a student takes raw pixels. Parts for training only (class heads, the projection to a
teacher's dimension) are separate and never in the saved file.
"""

import difflib
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import keras
from keras import layers

from distill.config.student import Student
from distill.errors import DistillError
from distill.storage.path import as_path, local_copy

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

# MobileFaceNet (Chen et al. 2018, table 1): bottlenecks as (expansion, channels, how many, stride of the first).
MOBILEFACENET = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))
SMALL_CONV_WIDTHS = (12, 24, 32, 40)


def build_student(student: Student, image_shape: tuple[int, int, int]) -> keras.Model:
    """Returns the student as a functional model: images uint8 or float32 [B, H, W, 3], 0..255 RGB -> embedding float32 [B, student.embedding].

    The top is global pooling, batch norm, dropout and one dense layer; mobilefacenet pools by its global depthwise convolution.
    The embedding is not normalised. Raises DistillError for an unknown backbone, an image too small for it, and weights that do not fit.
    """
    weights = weights_file(student)
    build = BACKBONES.get(student.backbone) or _application
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(student.precision)
    try:
        images = keras.Input(image_shape, dtype="float32", name="image")
        pooled = build(images, student)
        if student.dropout:
            pooled = layers.Dropout(student.dropout, name="dropout", dtype="float32")(pooled)
        embedding = layers.Dense(student.embedding, name="embedding", dtype="float32")(pooled)
        model = keras.Model(images, embedding, name="student")
    finally:
        keras.config.set_dtype_policy(previous)
    if weights and weights.suffix != ".h5":
        _copy_weights(model, weights)
    return model


def weights_file(student: Student) -> Path | None:
    """Returns the file of student.weights, None where it is not set. Raises DistillError where it is missing."""
    if student.weights is None:
        return None
    given = as_path(student.weights)
    path = given / "student.keras" if given.is_dir() else given
    if not path.is_file():
        expected = "a finished run's folder, a student's .keras file, or an .h5 file with the weights of a keras.applications backbone"
        raise DistillError(f"student.weights: {path} is not there. Expected {expected}.")
    return local_copy(str(path))


def layers_of(model: Any, kind: type) -> list[Any]:
    """Returns all layers of a kind in a model and in the models inside it."""
    inside = [each for layer in model.layers for each in ([layer] if isinstance(layer, kind) else layers_of(layer, kind) if hasattr(layer, "layers") else [])]
    return list({id(each): each for each in inside}.values())


def settle_averages(student: keras.Model, batches: Iterable[Any]) -> None:
    """Computes batch norm's averages for inference anew, with the weights as they are now and each batch weighing the same.

    In training they lag behind the weights and keep a share of their start at 0 and 1: .55 after 60 steps with Keras' momentum of .99. Dropout
    is off meanwhile, as in inference. Runs layer by layer, so that no graph is made for it.

    Args:
        batches: uint8 [B, H, W, 3] each; some thousand rows in all are enough.
    """
    norms, dropouts = layers_of(student, layers.BatchNormalization), layers_of(student, layers.Dropout)
    momenta, rates = [norm.momentum for norm in norms], [dropout.rate for dropout in dropouts]
    try:
        for dropout in dropouts:
            dropout.rate = 0.0
        for number, images in enumerate(batches if norms else ()):
            for norm in norms:
                norm.momentum = number / (number + 1)  # gives the mean of all so far
            student(images, training=True)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for dropout, rate in zip(dropouts, rates, strict=True):
            dropout.rate = rate


def projection(dimension: int) -> layers.Layer:
    """Returns the bias-free linear map from a student's embedding to a teacher's dimension: [B, D] -> float32 [B, dimension]."""
    return layers.Dense(dimension, use_bias=False, name=f"projection_{dimension}", dtype="float32")


def _scaled(images: Tensor, kind: str) -> Tensor:
    """Returns 0..255 RGB scaled for a network, always in float32: half precision is for later layers."""
    if kind == "signed":
        return layers.Rescaling(1 / 127.5, offset=-1.0, name="scale", dtype="float32")(images)
    if kind == "standard":
        mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        variance = [(255 * value) ** 2 for value in deviation]
        return layers.Normalization(mean=[255 * value for value in mean], variance=variance, name="scale", dtype="float32")(images)
    if kind == "centred_bgr":
        blue_first = keras.ops.flip(images, axis=-1)
        return layers.Normalization(mean=[103.939, 116.779, 123.68], variance=[1.0] * 3, name="scale", dtype="float32")(blue_first)
    return images


def _pooled(features: Tensor) -> Tensor:
    vector = layers.GlobalAveragePooling2D(name="pool", dtype="float32")(features)
    return layers.BatchNormalization(name="pool_norm", dtype="float32")(vector)


def _application(images: Tensor, student: Student) -> Tensor:
    kind = next((kind for kind, names in INPUTS.items() if student.backbone in names), None)
    if kind is None:
        known = [*BACKBONES, *(name for names in INPUTS.values() for name in names)]
        close = difflib.get_close_matches(student.backbone, known, 3, 0.5)
        hint = f"Near it: {', '.join(close)}. " if close else ""
        raise DistillError(f'student.backbone: received "{student.backbone}". {hint}Known: {", ".join(known)}.')
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on the size of the published weights
        try:
            backbone = getattr(keras.applications, student.backbone)(include_top=False, weights=None, input_shape=images.shape[1:])
        except ValueError as error:
            height, width = images.shape[1:3]
            raise DistillError(f"student.backbone: {student.backbone} cannot be built for images of {height}x{width}: {error}") from None
    weights = weights_file(student)
    if weights and weights.suffix == ".h5":
        try:
            backbone.load_weights(weights)
        except Exception as error:  # Keras and h5py raise of many classes
            reason = " ".join(str(error).split()) or type(error).__name__
            way_out = "Expected the weights of that network without its top (..._notop.h5)."
            raise DistillError(f"student.weights: {weights} cannot be loaded into {student.backbone}: {reason} {way_out}") from None
        if student.backbone.startswith("EfficientNetB") and _is_published(weights):
            _divide_as_published(backbone)
    return _pooled(backbone(_scaled(images, kind)))


def _is_published(weights: Path) -> bool:
    """Returns whether weights are of a network with the division after the normalization. A .weights.h5 file of Keras 3 lists all
    layers; one in the layout of the published files is assumed to be of such a network."""
    import h5py

    with h5py.File(weights, "r") as file:
        return "layer_names" in file.attrs or "layers/rescaling_1" in file or "layers/rescaling" not in file


def _divide_as_published(backbone: keras.Model) -> None:
    """Puts the division into the variance of the normalization: (x - mean) / sqrt(variance) / sqrt(deviation), without other layers."""
    (norm,) = (layer for layer in backbone.layers if isinstance(layer, layers.Normalization))
    norm.adapt_variance.assign(norm.adapt_variance * keras.ops.convert_to_tensor(PUBLISHED_DEVIATION))
    norm.finalize_state()


def settle_scales(model: keras.Model) -> None:
    """Must be called after weights were assigned: a Normalization computes with a copy that was made when it was built or loaded."""
    for layer in layers_of(model, layers.Normalization):
        layer.finalize_state()


def _small_conv(images: Tensor, student: Student) -> Tensor:
    """Builds a network for CPUs: a 3x3 convolution of stride 2, batch norm and ReLU for each width."""
    signal = _scaled(images, "signed")
    for number, width in enumerate(student.widths or SMALL_CONV_WIDTHS, 1):
        signal = layers.Conv2D(width, 3, strides=2, padding="same", use_bias=False, name=f"conv{number}")(signal)
        signal = layers.BatchNormalization(name=f"norm{number}")(signal)
        signal = layers.ReLU(name=f"relu{number}")(signal)
    return _pooled(signal)


def _mobilefacenet(images: Tensor, student: Student) -> Tensor:
    """Builds MobileFaceNet (Chen et al. 2018), for 112x112; other sizes change only the kernel of the global depthwise convolution."""
    signal = _conv(_scaled(images, "signed"), 64, 3, strides=2)
    signal = _depthwise(signal, 3)
    for expansion, channels, repeats, stride in MOBILEFACENET:
        for number in range(repeats):
            signal = _bottleneck(signal, expansion, channels, stride if number == 0 else 1)
    signal = _conv(signal, 512, 1)
    signal = layers.DepthwiseConv2D(signal.shape[1:3], use_bias=False, name="pool")(signal)
    return layers.BatchNormalization(name="pool_norm", dtype="float32")(layers.Flatten(name="flat", dtype="float32")(signal))


def _conv(signal: Tensor, channels: int, kernel: int, strides: int = 1, linear: bool = False) -> Tensor:
    signal = layers.Conv2D(channels, kernel, strides=strides, padding="same", use_bias=False)(signal)
    signal = layers.BatchNormalization()(signal)
    return signal if linear else layers.PReLU(shared_axes=[1, 2], alpha_initializer=keras.initializers.Constant(0.25))(signal)


def _depthwise(signal: Tensor, kernel: int, strides: int = 1) -> Tensor:
    signal = layers.DepthwiseConv2D(kernel, strides=strides, padding="same", use_bias=False)(signal)
    signal = layers.BatchNormalization()(signal)
    return layers.PReLU(shared_axes=[1, 2], alpha_initializer=keras.initializers.Constant(0.25))(signal)


def _bottleneck(signal: Tensor, expansion: int, channels: int, stride: int) -> Tensor:
    inside = _conv(signal, expansion * signal.shape[-1], 1)
    inside = _conv(_depthwise(inside, 3, stride), channels, 1, linear=True)
    return layers.Add()([signal, inside]) if stride == 1 and signal.shape[-1] == channels else inside


BACKBONES: dict[str, Callable[[Tensor, Student], Tensor]] = {"small_conv": _small_conv, "mobilefacenet": _mobilefacenet}


def _copy_weights(model: keras.Model, path: Path) -> None:
    try:
        donor = keras.models.load_model(path, compile=False)
    except Exception as error:  # of any class; Keras has the cause at the end
        cause = str(error).rpartition("Exception encountered:")[2].strip() or type(error).__name__
        raise DistillError(f"student.weights: {path} cannot be loaded: {cause.splitlines()[0]}") from None
    mine, theirs = ([tuple(weight.shape) for weight in each.weights] for each in (model, donor))
    if mine != theirs:
        place = next((place for place, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), min(len(mine), len(theirs)))
        shapes = [str(each[place]) if place < len(each) else "none" for each in (theirs, mine)]
        raise DistillError(
            f"student.weights: {path} is another student: weight {place + 1} has shape {shapes[0]} there and {shapes[1]} here. "
            "Use the same backbone, widths and embedding as it was made with."
        )
    model.set_weights(donor.get_weights())
    settle_scales(model)
