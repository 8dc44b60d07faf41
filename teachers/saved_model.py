"""A SavedModel folder as a teacher, through one of its signatures. Keras-made or a plain tf.Module: only what the signature says counts."""

from typing import Any

import numpy as np

from distill import DistillError
from teachers import Teacher, start_tensorflow
from teachers.loaded import Model, Shape, choose, list_signatures, text_of

SIGNATURE, OUTPUT = "serving_default", "output"


def load(teacher: Teacher) -> Model:
    """The chosen signature as a function of one array. Raises DistillError with all that the model has where the choice does not fit."""
    where, saved = f"teacher {teacher.path}", _read(teacher)
    signatures = {name: _describe(function) for name, function in sorted(saved.signatures.items())}  # their own order is another each time
    if not signatures:
        raise DistillError(f"{where} has no signatures. Save it again with tf.saved_model.save(model, path, signatures=...).")
    listing = list_signatures(signatures)
    name = choose(teacher, "signature", teacher.signature, SIGNATURE, signatures, listing)
    function = saved.signatures[name]
    inputs = function.structured_input_signature[1]
    if len(inputs) != 1:
        raise DistillError(f"{where}: signature {name!r} takes {len(inputs)} inputs, expected one. Choose another with --signature.{listing}")
    output = choose(teacher, "output", teacher.output, OUTPUT, signatures[name]["outputs"], listing)
    ((key, given),) = inputs.items()
    return Model(
        run=_runner(teacher, saved, name, key, output),
        dtype=np.dtype(given.dtype.as_numpy_dtype),
        shape=_shape(given),
        output=_shape(function.structured_outputs[output]),
        named=(key, output),
        signature=name,
        signatures=signatures,
        parameters=sum(int(np.prod(variable.shape)) for variable in function.variables),
    )


def _read(teacher: Teacher) -> Any:
    tf = start_tensorflow()
    try:
        return tf.saved_model.load(str(teacher.local))
    except (OSError, ValueError, RuntimeError, KeyError, AttributeError, tf.errors.OpError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise DistillError(f"teacher {teacher.path} cannot be read by TensorFlow {tf.__version__} as a SavedModel: {reason}") from error


def _runner(teacher: Teacher, saved: Any, name: str, key: str, output: str) -> Any:
    import tensorflow as tf

    function = saved.signatures[name]

    def run(images: np.ndarray, saved: Any = saved) -> np.ndarray:
        # `saved` is held here, as long as this function lives: a signature alone does not keep its variables alive.
        try:
            return function(**{key: tf.constant(images)})[output].numpy()
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as error:
            reason = str(error).strip().partition("\n")[0]
            received = text_of(images.dtype.name, images.shape)
            raise DistillError(f"teacher {teacher.path}: signature {name!r} fails on {received}: {reason}") from error

    return run


def _describe(function: Any) -> dict[str, dict[str, str]]:
    sides = {"inputs": function.structured_input_signature[1], "outputs": function.structured_outputs}
    return {side: {name: text_of(spec.dtype.name, _shape(spec)) for name, spec in sorted(specs.items())} for side, specs in sides.items()}


def _shape(spec: Any) -> Shape | None:
    return None if spec.shape.rank is None else tuple(spec.shape.as_list())
