"""A SavedModel folder as a teacher, through one of its signatures. Keras-made or a plain tf.Module: only what the signature says counts."""

import atexit
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distill.errors import DistillError
from teachers import Teacher, start_tensorflow
from teachers.causes import reason
from teachers.feed import Constant, pick
from teachers.flops import of_tensorflow
from teachers.foreign import check_whole
from teachers.loaded import Model, Shape, call_failed, choose, list_signatures, text_of

SIGNATURE, OUTPUT, SERVE = "serving_default", "output", ("serve",)
HALVES = (14, 19)  # DT_BFLOAT16, DT_HALF: tensorflow/core/framework/types.proto


def load(teacher: Teacher) -> Model:
    """The chosen signature as a function of one array. Raises DistillError with all that the model has where the choice does not fit."""
    where, saved = f"teacher {teacher.path}", _read(teacher)
    functions = _functions(teacher, saved)
    signatures = {name: _describe(function) for name, function in functions.items()}
    if not signatures:
        raise DistillError(f"{where} has no signatures. Save it again with tf.saved_model.save(model, path, signatures=...).")
    listing = list_signatures(signatures)
    name = choose(teacher, "signature", teacher.preprocessing.signature, SIGNATURE, signatures, listing)
    function = functions[name]
    inputs = _inputs(function)
    key, feed = pick(teacher, {name: (_dtype(spec), _shape(spec)) for name, spec in sorted(inputs.items())}, listing)
    output = choose(teacher, "output", teacher.preprocessing.output, OUTPUT, signatures[name]["outputs"], listing)
    return Model(
        run=_runner(teacher, saved, (name, function), key, output, feed),
        dtype=_dtype(inputs[key]),
        shape=_shape(inputs[key]),
        output=_shape(function.structured_outputs[output]),
        named=(key, output),
        signature=name,
        signatures=signatures,
        parameters=sum(int(np.prod(variable.shape)) for variable in function.variables),
        feed=feed,
        rough=lambda: _is_rough(function),
        flops=_counter(saved, function, key, output, feed),
    )


def _read(teacher: Teacher) -> Any:
    for _, path in teacher.files():
        if path.name == "saved_model.pb" or path.stat().st_size < 1000 and path.parent.name == "variables" and path.stat().st_size:
            check_whole(path, teacher.path)
    tf = start_tensorflow()
    tags = _tags(teacher)
    try:
        return tf.saved_model.load(_plain(teacher.local), tags=tags)
    except MemoryError:
        raise
    except Exception as error:  # of any class: what is in the folder decides which part of TensorFlow fails
        where = f"teacher {teacher.path} cannot be read by TensorFlow {tf.__version__} as a SavedModel"
        if not (teacher.local / "variables" / "variables.index").is_file():
            raise DistillError(f"{where}: its folder lacks variables/variables.index, where its weights stand. Copy the whole folder.") from error
        raise DistillError(f"{where}: {reason(error)}") from error


def _tags(teacher: Teacher) -> list[str] | None:
    """The tags to load by: those asked for, else of several sets `serve`, else the empty one. None where the only one is loaded whatever it is."""
    where, there = f"teacher {teacher.path}", _tag_sets(teacher)
    listed = ", ".join(f'"{",".join(tags)}"' for tags in there)
    if teacher.preprocessing.tags is None:
        if len(there) < 2:
            return None
        chosen = next((tags for tags in (SERVE, ()) if tags in there), None)
        if chosen is None:
            raise DistillError(f"{where} has {len(there)} graphs. Choose one by its tags: --tags, one of {listed}.")
        return list(chosen)
    if teacher.preprocessing.tags not in there:
        raise DistillError(f'{where} has no graph with the tags "{",".join(teacher.preprocessing.tags)}". Choose with --tags from: {listed}.')
    return list(teacher.preprocessing.tags) if len(there) > 1 else None


def _tag_sets(teacher: Teacher) -> list[tuple[str, ...]]:
    """Returns the tags of each graph in a SavedModel, in its order."""
    return [tuple(sorted(graph.meta_info_def.tags)) for graph in _graphs(teacher)]


def _graphs(teacher: Teacher) -> Any:
    """Returns what saved_model.pb says of each graph."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    try:
        return SavedModel.FromString((teacher.local / "saved_model.pb").read_bytes()).meta_graphs
    except DecodeError as error:
        raise DistillError(f"teacher {teacher.path}: saved_model.pb is damaged or cut off: {reason(error)} Copy it again.") from error


def _plain(path: Path) -> str:
    """A path that TensorFlow takes letter by letter: it reads the weights by a pattern, in which [ ] * ? and \\ mean something else."""
    if not re.search(r"[][*?\\]", str(path.absolute())):
        return str(path.absolute())
    folder = tempfile.mkdtemp(prefix="distill-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # assets may be read as long as the model lives
    link = Path(folder) / "model"
    link.symlink_to(path.absolute(), target_is_directory=True)
    return str(link)


def _runner(teacher: Teacher, saved: Any, signature: tuple[str, Any], key: str, output: str, feed: dict[str, Constant]) -> Any:
    import tensorflow as tf

    name, function = signature

    def run(images: np.ndarray, saved: Any = saved) -> np.ndarray:
        # `saved` is held here, as long as this function lives: a signature alone does not keep its variables alive.
        try:
            others = {name: tf.constant(constant.fill(len(images))) for name, constant in feed.items()}
            return function(**{key: tf.constant(images)}, **others)[output].numpy()
        except Exception as error:
            raise call_failed(f"teacher {teacher.path}: signature {name!r}", images, error) from error

    return run


def _functions(teacher: Teacher, saved: Any) -> dict[str, Any]:
    """Returns the signatures by name, sorted, because their own order is another each time; with those that only servers list (an export of distill has such)."""
    functions = dict(saved.signatures.items())
    for name in {name for graph in _graphs(teacher) for name in graph.signature_def} - functions.keys():
        if found := getattr(getattr(saved, name, None), "concrete_functions", None):
            functions[name] = found[0]
    return dict(sorted(functions.items()))


def _inputs(function: Any) -> dict[str, Any]:
    positional, named = function.structured_input_signature
    return {**{spec.name: spec for spec in positional}, **named}


def _counter(saved: Any, function: Any, key: str, output: str, feed: dict[str, Constant]) -> Callable[[Sequence[int]], int]:
    def count(shape: Sequence[int], saved: Any = saved) -> int:
        others = {name: constant.fill(shape[0]) for name, constant in feed.items()}
        return of_tensorflow(lambda images: function(**{key: images}, **others)[output], shape, _dtype(_inputs(function)[key]))

    return count


def _describe(function: Any) -> dict[str, dict[str, str]]:
    sides = {"inputs": _inputs(function), "outputs": function.structured_outputs}
    return {side: {name: text_of(spec.dtype.name, _shape(spec)) for name, spec in sorted(specs.items())} for side, specs in sides.items()}


def _is_rough(function: Any) -> bool:
    """Whether it computes on a GPU, or some of it in half precision."""
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        return True
    graph = function.graph.as_graph_def()
    nodes = [*graph.node, *(node for inner in graph.library.function for node in inner.node_def)]
    return any(value.type in HALVES for node in nodes for value in node.attr.values())


def _dtype(spec: Any) -> np.dtype:
    return np.dtype(spec.dtype.as_numpy_dtype)


def _shape(spec: Any) -> Shape | None:
    return None if spec.shape.rank is None else tuple(spec.shape.as_list())
