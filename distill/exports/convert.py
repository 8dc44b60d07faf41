"""A student as a single file for other engines, by Keras' own `export`. Runs in a process that has TensorFlow.

All take `images`, float32 [N, H, W, 3], RGB, 0 to 255 (int8: the same as uint8), and return `output`, float32 [N, D].
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from distill.errors import DistillError
from distill.runtime.quiet import import_openvino, quiet_import


def served_model(model: Any) -> Any:
    """Returns a student as a Keras model with named input and output, all in float32, and no training in it."""
    import keras

    height, width = model.inputs[0].shape[1:3]
    images = keras.Input((height, width, 3), name="images", dtype="float32")
    (embedding,) = keras.tree.flatten(_in_float32(model)(images, training=False))  # a model of one output may give a list of one
    output = keras.layers.Activation("linear", dtype="float32", name="output")(embedding)
    served = keras.Model(images, {"output": output})
    served(np.zeros((1, height, width, 3), np.float32))  # Keras exports what was called once
    return served


def _in_float32(model: Any) -> Any:
    """Returns a model that computes in float32: itself, or a copy of one trained in half precision, for which LiteRT has no kernels."""
    if all(layer.compute_dtype == "float32" for layer in _layers(model)):
        return model
    copy = type(model).from_config(_with_float32(model.get_config()))
    copy.set_weights(model.get_weights())
    return copy


def _layers(model: Any) -> Iterator[Any]:
    """Yields all layers of a model, those of models within it too."""
    for layer in model.layers:
        yield layer
        yield from _layers(layer) if hasattr(layer, "layers") else ()


def _with_float32(config: Any) -> Any:
    """Returns the configuration of a model with every dtype policy replaced."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return "float32"
        return {name: "float32" if _is_policy(name, value) else _with_float32(value) for name, value in config.items()}
    return type(config)(_with_float32(one) for one in config) if isinstance(config, (list, tuple)) else config


def _is_policy(name: str, value: Any) -> bool:
    return name == "dtype" and isinstance(value, str) and value.startswith(("mixed", "float", "bfloat"))


def _onnx(served: Any, path: Path, calibration: np.ndarray | None) -> None:
    import onnx

    served.export(path, format="onnx", verbose=False)
    made = onnx.load(path)
    for tensor in (*made.graph.input, *made.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_param = "N"  # tf2onnx gives input and output names of their own
    onnx.save(made, path)


def _litert(served: Any, path: Path, calibration: np.ndarray | None) -> None:
    served.export(path, format="litert", verbose=False)


def _litert_float16(served: Any, path: Path, calibration: np.ndarray | None) -> None:
    """Weights in half precision; computes in float32."""
    import tensorflow as tf

    served.export(path, format="litert", verbose=False, optimizations=[tf.lite.Optimize.DEFAULT], target_spec={"supported_types": [tf.float16]})


def _litert_int8(served: Any, path: Path, calibration: np.ndarray | None) -> None:
    """Weights and all between input and output in int8; the input is uint8, the output is made float32 again at the end."""
    import tensorflow as tf

    if calibration is None:
        raise DistillError("an int8 export needs images.")
    pixels = calibration.astype(np.float32)
    pixels[0, 0, 0], pixels[0, 0, 1] = 0, 255  # so that a step of the input is one level

    def images() -> Iterator[list[np.ndarray]]:
        return ([image[None]] for image in pixels)

    whole = {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]}
    options = {"optimizations": [tf.lite.Optimize.DEFAULT], "representative_dataset": images, "inference_input_type": tf.uint8}
    served.export(path, format="litert", verbose=False, target_spec=whole, **options)


def _openvino(served: Any, path: Path, calibration: np.ndarray | None) -> None:
    import_openvino()
    served.export(str(path), format="openvino", verbose=False)


CONVERTERS: dict[str, Callable[[Any, Path, np.ndarray | None], None]] = {
    "onnx": _onnx,
    "litert": _litert,
    "litert_float16": _litert_float16,
    "litert_int8": _litert_int8,
    "openvino": _openvino,
}


def convert(name: str, served: Any, path: Path, calibration: np.ndarray | None) -> None:
    """Writes one file. DistillError where the converter refuses the student."""
    error: Exception | None = None
    with quiet_import():
        try:
            CONVERTERS[name](served, path, calibration)
        except Exception as raised:  # of any class: what is in the student decides which part of which converter fails
            error = raised
    if isinstance(error, (DistillError, OSError)):
        raise error
    if error is not None:
        raise DistillError(f"cannot be written as {name}: {_cause(error)}") from error
    if not path.is_file() or not os.path.getsize(path):
        raise DistillError(f"cannot be written as {name}: the converter left no {path.name}.")


def _cause(error: Exception) -> str:
    """Returns the line of a converter's error that names it: the last one with "...Error:", behind what stands above it, else the first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"\w+Error: ", line)]
    return (named[-1] if named else f"{type(error).__name__}: {lines[0] if lines else 'without a word'}")[:500].rstrip(".") + "."
