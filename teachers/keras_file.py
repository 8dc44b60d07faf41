"""A .keras or .h5 file as a teacher. Keras' safe mode stays on: a file that brings code of its own is refused, never run."""

import json
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from distill.errors import DistillError
from distill.runtime.progress import phase
from distill.runtime.quiet import quiet_import
from teachers import Teacher, start_tensorflow
from teachers.causes import reason
from teachers.feed import pick
from teachers.flops import of_tensorflow
from teachers.foreign import keras_suffix
from teachers.loaded import Model, call_failed, choose, list_signatures, text_of

OUTPUT, CALL = "output", "model"
HALVES = ("float16", "bfloat16")
WAY_OUT = "Export it as a SavedModel with the Keras that made it: model.export(FOLDER), in Keras 2 model.save(FOLDER)."
# Arguments that Keras 2 wrote into files and Keras 3 does not take, where they change nothing; None: whatever they say, it did nothing.
OLD: dict[str, dict[str, Any]] = {
    "DepthwiseConv2D": {"groups": 1},
    "Conv2DTranspose": {"groups": 1},
    "SeparableConv2D": {"groups": 1, "kernel_initializer": None, "kernel_regularizer": None, "kernel_constraint": None},
}


def load(teacher: Teacher) -> Model:
    """The model as a function of one array, in inference mode. Raises DistillError with the reason where the file is not such a model."""
    where = f"teacher {teacher.path}"
    if teacher.preprocessing.signature is not None:
        raise DistillError(f"{where} is a Keras file, which has no signatures; received {teacher.preprocessing.signature!r}. Leave --signature away.")
    model = _read(teacher)
    inputs, outputs = _inputs(model), _outputs(model)
    if not inputs or not outputs:
        raise DistillError(
            f"{where} does not say what it takes: a {type(model).__name__} without an input of a known shape. Begin it with keras.Input(shape), "
            "or write it with model.export(FOLDER)."
        )
    signatures = {CALL: {"inputs": _texts(inputs), "outputs": _texts(outputs)}}
    listing = list_signatures(signatures)
    name, feed = pick(teacher, {key: (_dtype(tensor), tuple(tensor.shape)) for key, tensor in inputs.items()}, listing)
    output = choose(teacher, "output", teacher.preprocessing.output, OUTPUT, outputs, listing)
    call = _Call(name, feed, output, list(inputs), list(outputs))
    return Model(
        run=_runner(teacher, model, call),
        dtype=_dtype(inputs[name]),
        shape=tuple(inputs[name].shape),
        output=tuple(outputs[output].shape),
        named=(name, output),
        signature=None,
        signatures=signatures,
        parameters=int(model.count_params()),
        feed=feed,
        rough=lambda: _on_gpu() or any(layer.compute_dtype in HALVES for layer in model._flatten_layers()),
        flops=_counter(model, call, _dtype(inputs[name])),
    )


def _read(teacher: Teacher) -> Any:
    with phase("importing TensorFlow"), quiet_import():
        import keras

    if keras.backend.backend() == "tensorflow":
        start_tensorflow()
    return read_model(teacher.local, teacher.path)


def read_model(path: Path, named: str) -> Any:
    """Returns the Keras model in a .keras or .h5 file, of Keras 2 too. named: the model, for messages. DistillError with the reason where there is none."""
    import keras

    where = f"teacher {named} cannot be read by Keras {keras.__version__}"
    try:
        with _readable(path, named) as plain:
            return keras.saving.load_model(plain, compile=False, safe_mode=True)
    except (DistillError, MemoryError):
        raise
    except Exception as error:  # of any class: what is in the file decides which part of which library fails
        said = reason(error)
        if re.search(r"(?<!TFOp)Lambda", said):  # a ValueError of Keras 3.15, as all that it refuses
            raise DistillError(f"{where}: it has a Lambda layer, code of its own, which is never run here. {WAY_OUT}") from error
        raise DistillError(f"{where}: {said} {WAY_OUT}") from error


@contextmanager
def _readable(path: Path, named: str) -> Iterator[str]:
    """The path to give Keras: under the suffix of what the file holds, and without the arguments of OLD, in a copy where it has any."""
    suffix = keras_suffix(path, named)
    config = _config(path, suffix)
    changed = config and _without_old(config)
    if not changed and path.suffix.lower() == suffix:
        yield str(path.absolute())
        return
    with tempfile.TemporaryDirectory(prefix="distill-") as folder:
        copy = Path(folder) / f"model{suffix}"
        if changed:
            _copy(path, copy, json.dumps(config))
        else:
            copy.symlink_to(path.absolute())
        yield str(copy)


def _config(path: Path, suffix: str) -> Any:
    """The model's layers as JSON; None where it is none, which Keras will tell."""
    import h5py

    try:
        if suffix == ".h5":
            with h5py.File(path, "r") as file:
                return json.loads(file.attrs["model_config"])
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read("config.json"))
    except Exception:  # whatever is wrong with it, Keras comes upon it too
        return None


def _without_old(config: Any) -> bool:
    """Take the arguments of OLD out, at any depth. Whether there were any."""
    if isinstance(config, list):
        return sum(map(_without_old, config)) > 0
    if not isinstance(config, dict):
        return False
    inner, old = config.get("config"), OLD.get(str(config.get("class_name")), {})
    taken = [name for name, harmless in old.items() if isinstance(inner, dict) and name in inner and harmless in (None, inner[name])]
    for name in taken:
        del inner[name]  # type: ignore[union-attr]
    return bool(taken) + sum(map(_without_old, config.values())) > 0


def _copy(path: Path, copy: Path, config: str) -> None:
    import shutil

    import h5py

    if copy.suffix == ".h5":
        shutil.copyfile(path, copy)
        with h5py.File(copy, "r+") as file:
            file.attrs["model_config"] = config
        return
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(copy, "w") as target:
        for item in archive.infolist():
            if item.filename == "config.json":
                target.writestr("config.json", config)
                continue
            with archive.open(item) as source, target.open(item.filename, "w", force_zip64=True) as sink:
                shutil.copyfileobj(source, sink, 1 << 20)


def _inputs(model: Any) -> dict[str, Any]:
    try:
        return {tensor.name: tensor for tensor in model.inputs or ()}
    except (AttributeError, ValueError):  # a Sequential that was never built, a class of its own
        return {}


def _outputs(model: Any) -> dict[str, Any]:
    """{name: symbolic tensor}: a dict's outputs under their keys, others under the names of their layers."""
    import keras

    if isinstance(model, keras.Sequential) and _inputs(model):
        model = keras.Model(model.inputs, model.outputs)  # which names them
    output = getattr(model, "output", None)
    if isinstance(output, dict):
        return dict(output)
    tensors = list(output) if isinstance(output, list | tuple) else [] if output is None else [output]
    return dict(zip(model.output_names, tensors, strict=True)) if tensors else {}


def _texts(tensors: dict[str, Any]) -> dict[str, str]:
    return {name: text_of(str(tensor.dtype), tensor.shape) for name, tensor in tensors.items()}


def _dtype(tensor: Any) -> np.dtype:
    return np.dtype(object if tensor.dtype == "string" else tensor.dtype)


def _on_gpu() -> bool:
    import keras

    return any(not name.startswith("cpu") for name in keras.distribution.list_devices())


class _Call:
    """How a model is called: the images under `name` among constants, and which of its answers is meant."""

    def __init__(self, name: str, feed: dict[str, Any], output: str, inputs: list[str], outputs: list[str]):
        self.name, self.feed, self.output, self.inputs, self.outputs = name, feed, output, inputs, outputs

    def given(self, images: Any, rows: int) -> list[Any]:
        return [images if name == self.name else self.feed[name].fill(rows) for name in self.inputs]

    def __call__(self, model: Any, given: list[Any]) -> Any:
        answer = model(given if len(given) > 1 else given[0], training=False)
        if isinstance(answer, dict):
            return answer[self.output]
        return answer[self.outputs.index(self.output)] if isinstance(answer, list | tuple) else answer


def _counter(model: Any, call: _Call, dtype: np.dtype) -> Callable[[Sequence[int]], int] | None:
    import keras

    if keras.backend.backend() != "tensorflow":
        return None
    return lambda shape: of_tensorflow(lambda images: call(model, call.given(images, shape[0])), shape, dtype)


def _runner(teacher: Teacher, model: Any, call: _Call) -> Callable[[np.ndarray], np.ndarray]:
    import keras

    if keras.backend.backend() != "tensorflow":
        return lambda images: np.asarray(keras.ops.convert_to_numpy(call(model, call.given(images, len(images)))))

    tf = start_tensorflow()
    # One graph for every batch, without the callbacks and the data set that model.predict makes for each call.
    specs = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in model.inputs]
    try:
        graph = tf.function(lambda *given: call(model, list(given)), input_signature=specs).get_concrete_function()
    except Exception as error:
        raise DistillError(f"teacher {teacher.path} cannot be called: {reason(error)} {WAY_OUT}") from error

    def run(images: np.ndarray) -> np.ndarray:
        try:
            return graph(*map(tf.constant, call.given(images, len(images)))).numpy()
        except Exception as error:
            raise call_failed(f"teacher {teacher.path}", images, error) from error

    return run
