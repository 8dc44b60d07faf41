"""A .keras or .h5 file as a teacher. Keras' safe mode stays on: a file that brings code of its own is refused, never run."""

from collections.abc import Callable
from typing import Any

import numpy as np

from distill import DistillError
from distill.process import quiet_import
from teachers import Teacher, start_tensorflow
from teachers.loaded import Model, choose, list_signatures, text_of

OUTPUT, CALL = "output", "model"


def load(teacher: Teacher) -> Model:
    """The model as a function of one array, in inference mode. Raises DistillError with the reason where the file is not such a model."""
    where = f"teacher {teacher.path}"
    if teacher.signature is not None:
        raise DistillError(f"{where} is a Keras file, which has no signatures; received {teacher.signature!r}. Leave --signature away.")
    model = _read(teacher)
    inputs, outputs = getattr(model, "inputs", None), _outputs(model)
    if not inputs or not outputs:
        raise DistillError(f"{where} does not say what it takes. Save it as a functional model, or with model.export(path).")
    signatures = {CALL: {"inputs": _texts({tensor.name: tensor for tensor in inputs}), "outputs": _texts(outputs)}}
    listing = list_signatures(signatures)
    if len(inputs) != 1:
        raise DistillError(f"{where} takes {len(inputs)} inputs, expected one.{listing}")
    output = choose(teacher, "output", teacher.output, OUTPUT, outputs, listing)
    given = inputs[0]
    return Model(
        run=_runner(teacher, model, output, list(outputs)),
        dtype=np.dtype(object if given.dtype == "string" else given.dtype),
        shape=tuple(given.shape),
        output=tuple(outputs[output].shape),
        named=(given.name, output),
        signature=None,
        signatures=signatures,
        parameters=int(model.count_params()),
    )


def _read(teacher: Teacher) -> Any:
    with quiet_import():
        import keras

    if keras.backend.backend() == "tensorflow":
        start_tensorflow()
    try:
        return keras.saving.load_model(teacher.local, compile=False, safe_mode=True)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ImportError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise DistillError(f"teacher {teacher.path} cannot be read by Keras {keras.__version__} in safe mode: {reason[:400]}") from error


def _outputs(model: Any) -> dict[str, Any]:
    """{name: symbolic tensor}: a dict's outputs under their keys, others under the names of their layers."""
    output = getattr(model, "output", None)
    if isinstance(output, dict):
        return dict(output)
    tensors = list(output) if isinstance(output, list | tuple) else [] if output is None else [output]
    return dict(zip(model.output_names, tensors, strict=True)) if tensors else {}


def _texts(tensors: dict[str, Any]) -> dict[str, str]:
    return {name: text_of(str(tensor.dtype), tensor.shape) for name, tensor in tensors.items()}


def _runner(teacher: Teacher, model: Any, output: str, names: list[str]) -> Callable[[np.ndarray], np.ndarray]:
    import keras

    def call(images: Any) -> Any:
        answer = model(images, training=False)
        if isinstance(answer, dict):
            return answer[output]
        return answer[names.index(output)] if isinstance(answer, list | tuple) else answer

    if keras.backend.backend() != "tensorflow":
        return lambda images: np.asarray(keras.ops.convert_to_numpy(call(images)))

    tf = start_tensorflow()
    # One graph for every batch, without the callbacks and the data set that model.predict makes for each call.
    graph = tf.function(call, input_signature=[tf.TensorSpec(model.inputs[0].shape, model.inputs[0].dtype)]).get_concrete_function()

    def run(images: np.ndarray) -> np.ndarray:
        try:
            return graph(tf.constant(images)).numpy()
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise DistillError(f"teacher {teacher.path} fails on {text_of(images.dtype.name, images.shape)}: {reason}") from error

    return run
