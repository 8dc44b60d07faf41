"""A graph of TensorFlow 1 as a teacher: a checkpoint with its graph (.meta, .index, .data), or a frozen graph (.pb), run by a session.

Nothing in such a file says what to call, so tensors are named: --input, --output, and --feed for what else the output depends on. Unnamed, the
output is `embeddings` or the only one that may be; the input is the only placeholder of images, or `input`: so are FaceNet's models written. Of a
graph only what the output depends on is read, and of a checkpoint only the variables in it; no code that the file names is run.
"""

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from distill.errors import DistillError
from distill.storage.path import as_path
from teachers import Teacher, asked_threads, start_tensorflow
from teachers.causes import reason
from teachers.checkpoint import find_graph, find_parts
from teachers.feed import Constant, pick
from teachers.foreign import check_whole
from teachers.loaded import Call, Model, Shape, call_failed, list_signatures, text_of
from teachers.saved_model import HALVES

OUTPUT, INPUT = "embeddings", "input"  # FaceNet's names
FROZEN = ".pb"
VARIABLES = ("VariableV2", "Variable", "VarHandleOp")
# They wait for somebody who fills a queue or a data set; asked for one image, they wait for ever.
WAITING = ("QueueDequeue", "IteratorGetNext", "ReaderRead", "StagePeek", "Unstage")
MOST = 8  # names that a message lists
LISTED = "graph"


def load(teacher: Teacher) -> Model:
    """The tensors that are named as a function of one array. Raises DistillError with what else the graph has where the choice does not fit."""
    where, asked = f"teacher {teacher.path}", teacher.preprocessing
    if asked.signature is not None:
        raise DistillError(f"{where} is a graph of TensorFlow 1, which has no signatures; received {asked.signature!r}. Name its tensors: --input, --output.")
    tf = start_tensorflow()
    given = _read(teacher)
    graph = _imported(tf, where, _upstream(given, asked.output or OUTPUT))
    output = _output(graph, where, asked.output)
    fed = {name: tensor for name in dict(asked.feed) if (tensor := _tensor(graph, name)) is not None}
    image = _input(graph, where, asked.input, output, fed.values())
    needed = _needed(output, [image, *fed.values()])
    known = {tensor.name for tensor in (image, *fed.values())}
    others = {op.outputs[0].name: op.outputs[0] for op in needed if op.type == "Placeholder" and op.outputs[0].name not in known}
    inputs = {asked.input or _shown(image): image, **fed, **{_shown(tensor): tensor for tensor in others.values()}}
    listing = _listing(inputs, [output])
    name, feed = pick(teacher, {key: (_dtype(tensor), _shape(tensor)) for key, tensor in inputs.items()}, listing)
    if waiting := next((op for op in needed if any(word in op.type for word in WAITING)), None):
        raise DistillError(f"{where} takes its images from a queue ({waiting.name}). Name the tensor of decoded images with --input.{listing}")
    session = _session(tf, graph)
    _restore(tf, teacher, session, [op for op in needed if op.type in VARIABLES])
    return Model(
        run=_runner(where, session, output, inputs[name], {inputs[key]: constant for key, constant in feed.items()}),
        dtype=_dtype(image),
        shape=_shape(image),
        output=_shape(output),
        named=(name, asked.output or _shown(output)),
        signature=None,
        signatures=_sides(inputs, [output]),
        parameters=_parameters(needed),
        feed=feed,
        rough=lambda: bool(tf.config.list_physical_devices("GPU")) or any(value.type in HALVES for op in needed for value in op.node_def.attr.values()),
    )


def names_beside(path: Path, named: str = "") -> list[str]:
    """The names of the other files of a checkpoint; none for a frozen graph. named: where it comes from, if `path` is a copy."""
    index = as_path(named or path)
    if index.suffix.lower() == FROZEN:
        return []
    graph = find_graph(index)
    return [one.name for one in (*([graph] if graph else []), *find_parts(index))]


def external_files(path: Path, named: str = "") -> list[tuple[str, Path]]:
    """(name, path) of the other files of a checkpoint; the names say what each is for and nothing of what it is called."""
    if path.suffix.lower() == FROZEN:
        return []
    graph = find_graph(path)
    if graph is None:
        raise DistillError(f"teacher {named or path} holds weights without a graph, expected as a .meta file in the same folder. Put that file there too.")
    parts = [(f"weights{number}", path.parent / part.name) for number, part in enumerate(find_parts(path))]
    return [("graph", path.parent / graph.name), *parts]


def _read(teacher: Teacher) -> Any:
    """The whole graph as it stands in the file: a GraphDef."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.framework.graph_pb2 import GraphDef
    from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef

    frozen = teacher.local.suffix.lower() == FROZEN
    path = teacher.local if frozen else dict(teacher.files())["graph"]
    check_whole(path, teacher.path)
    try:
        graph = GraphDef.FromString(path.read_bytes()) if frozen else MetaGraphDef.FromString(path.read_bytes()).graph_def
    except (DecodeError, UnicodeDecodeError) as error:
        raise DistillError(f"teacher {teacher.path}: {path.name} is no graph of TensorFlow 1, or it is damaged or cut off ({reason(error)})") from error
    if not graph.node:
        raise DistillError(f"teacher {teacher.path}: {path.name} is no graph of TensorFlow 1: it has no operations.")
    kept = sum(node.op in VARIABLES for node in graph.node)
    if frozen and kept:
        way_out = "Name the checkpoint (its .meta file), or freeze the graph where it was made."
        raise DistillError(f"teacher {teacher.path} is a graph without weights: its {kept} variables stand in a checkpoint. {way_out}")
    return graph


def _upstream(given: Any, output: str) -> Any:
    """What one operation depends on, as a graph of its own, so that what it was trained with need not be known here; the whole where there is none."""
    nodes, name = {node.name: node for node in given.node}, output.partition(":")[0]
    if name not in nodes:
        return given
    found, todo = set[str](), [name]
    while todo:
        if (at := todo.pop()) not in found and at in nodes:
            found.add(at)
            todo += [source.lstrip("^").partition(":")[0] for source in nodes[at].input]
    part = type(given)()
    part.versions.CopyFrom(given.versions)
    part.library.CopyFrom(given.library)
    part.node.extend(node for node in given.node if node.name in found)
    return part


def _imported(tf: Any, where: str, given: Any) -> Any:
    graph = tf.Graph()
    for node in given.node:
        node.device = ""  # of a machine that is not this one
    try:
        with graph.as_default():
            tf.graph_util.import_graph_def(given, name="")
    except MemoryError:
        raise
    except Exception as error:  # of any class: what is in the file decides what fails
        raise DistillError(f"{where} cannot be read by TensorFlow {tf.__version__}: {reason(error)}") from error
    return graph


def _output(graph: Any, where: str, wanted: str | None) -> Any:
    candidates = [tensor for op in graph.get_operations() for tensor in op.outputs if not tensor.consumers() and _may_be_embeddings(tensor)]
    found = _tensor(graph, wanted or OUTPUT)
    if found is None and wanted is None and len(candidates) == 1:
        found = candidates[0]
    if found is None:
        named = f"has no tensor {wanted!r}" if wanted else f"has no tensor {OUTPUT!r}, and does not say which one is the embedding"
        listing = _listing({_shown(op.outputs[0]): op.outputs[0] for op in _placeholders(graph.get_operations())}, candidates)
        raise DistillError(f"{where} {named}. Name it with --output.{listing}")
    return found


def _input(graph: Any, where: str, wanted: str | None, output: Any, fed: Iterable[Any]) -> Any:
    """The tensor that takes the images: the wanted one, else the only placeholder that can, else the one of FaceNet's name."""
    if wanted is not None:
        found = _tensor(graph, wanted)
        if found is None:
            listing = _listing({_shown(op.outputs[0]): op.outputs[0] for op in _placeholders(graph.get_operations())}, [output])
            raise DistillError(f"{where} has no tensor {wanted!r} that {_shown(output)} depends on. Choose another with --input.{listing}")
        return found
    needed, names = _needed(output, fed), {tensor.name for tensor in fed}
    there = [op.outputs[0] for op in _placeholders(needed) if op.outputs[0].name not in names]
    for fits in (_takes_images, _may_take_images):
        if len(found := [tensor for tensor in there if fits(tensor)]) == 1:
            return found[0]
    usual = _tensor(graph, INPUT)
    if usual is None or usual.op not in needed:
        raise DistillError(
            f"{where} does not say which tensor takes the images. Name it with --input.{_listing({_shown(one): one for one in there}, [output])}"
        )
    return usual


def _needed(output: Any, known: Iterable[Any]) -> list[Any]:
    """The operations that are run for `output` where `known` tensors are given."""
    known = list(known)
    names, ends, found, todo = {tensor.name for tensor in known}, {tensor.op.name for tensor in known}, dict[str, Any](), [output.op]
    while todo:
        if (op := todo.pop()).name not in found:
            found[op.name] = op
            todo += [tensor.op for tensor in op.inputs if tensor.name not in names]
            todo += [before for before in op.control_inputs if before.name not in ends]
    return list(found.values())


def _session(tf: Any, graph: Any) -> Any:
    intra, inter = asked_threads()
    config = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=intra, inter_op_parallelism_threads=inter, allow_soft_placement=True)
    config.gpu_options.allow_growth = True
    return tf.compat.v1.Session(graph=graph, config=config)


def _restore(tf: Any, teacher: Teacher, session: Any, variables: list[Any]) -> None:
    """Gives variables what stands in the checkpoint under their names."""
    if not variables:
        return
    where = f"teacher {teacher.path}"
    try:
        with _reading(tf, teacher.local) as reader, session.graph.as_default():
            there = reader.get_variable_to_shape_map()
            if missing := sorted(_key(op) for op in variables if _key(op) not in there):
                of = f"{len(missing)} of {len(variables)} variables of its graph"
                raise DistillError(f"{where} has no weights for {missing[0]!r} ({of}). Is it of another graph?")
            for op in variables:
                value, resource = tf.compat.v1.placeholder(tf.as_dtype(op.get_attr("dtype"))), op.type == "VarHandleOp"
                assign = tf.raw_ops.AssignVariableOp(resource=op.outputs[0], value=value) if resource else tf.raw_ops.Assign(ref=op.outputs[0], value=value)
                session.run(assign, {value: reader.get_tensor(_key(op))})
    except (DistillError, MemoryError):
        raise
    except Exception as error:  # of any class: what is in the files decides what fails
        raise DistillError(f"{where}: its weights cannot be read: {reason(error)} If a file was cut off on its way, copy all of them again.") from error


@contextmanager
def _reading(tf: Any, index: Path) -> Iterator[Any]:
    """What is in a checkpoint, read through links: of its own name TensorFlow makes a pattern, in which [ ] * ? and \\ are no letters."""
    with tempfile.TemporaryDirectory(prefix="distill-") as folder:
        for name in (index.name, *(part.name for part in find_parts(index))):
            (Path(folder) / f"model{name.removeprefix(index.stem)}").symlink_to(index.parent.absolute() / name)
        yield tf.train.load_checkpoint(f"{folder}/model")


def _key(op: Any) -> str:
    return (op.type == "VarHandleOp" and op.get_attr("shared_name").decode()) or op.name


def _runner(where: str, session: Any, output: Any, image: Any, feed: Mapping[Any, Constant]) -> Call:
    call: Callable[..., np.ndarray] = session.make_callable(output, [image, *feed])

    def run(images: np.ndarray) -> np.ndarray:
        try:
            return call(images, *(constant.fill(len(images)) for constant in feed.values()))
        except Exception as error:
            raise call_failed(where, images, error) from error

    return run


def _parameters(needed: Iterable[Any]) -> int:
    """How many numbers its variables are; of a frozen graph, its constants of floats that are no single ones."""
    sizes = [op.get_attr("shape") if op.type == "VarHandleOp" else op.outputs[0].shape for op in needed if op.type in VARIABLES]
    sizes += [op.outputs[0].shape for op in needed if op.type == "Const" and op.outputs[0].dtype.is_floating and op.outputs[0].shape.rank]
    return sum(math.prod(size.as_list() if hasattr(size, "as_list") else [dim.size for dim in size.dim]) for size in sizes)


def _placeholders(operations: Iterable[Any]) -> list[Any]:
    return [op for op in operations if op.type in ("Placeholder", "PlaceholderWithDefault")]


def _takes_images(tensor: Any) -> bool:
    return tensor.shape.rank == 4 and _may_take_images(tensor)


def _may_take_images(tensor: Any) -> bool:
    sizes = tensor.shape.as_list() if tensor.shape.rank is not None else [None] * 4
    return (tensor.dtype.is_floating or tensor.dtype.name == "uint8") and len(sizes) == 4 and any(size in (3, None) for size in (sizes[1], sizes[3]))


def _may_be_embeddings(tensor: Any) -> bool:
    """Float [N, D], where the number of images is not fixed to another one."""
    return tensor.dtype.is_floating and tensor.shape.rank == 2 and tensor.shape.as_list()[0] is None


def _tensor(graph: Any, name: str) -> Any:
    try:
        return graph.get_tensor_by_name(name if ":" in name else f"{name}:0")
    except (KeyError, ValueError):
        return None


def _shown(tensor: Any) -> str:
    return tensor.name.removesuffix(":0")


def _sides(inputs: Mapping[str, Any], outputs: Iterable[Any]) -> dict[str, dict[str, dict[str, str]]]:
    texts = {name: text_of(tensor.dtype.name, _shape(tensor)) for name, tensor in inputs.items()}
    return {LISTED: {"inputs": texts, "outputs": {_shown(tensor): text_of(tensor.dtype.name, _shape(tensor)) for tensor in outputs}}}


def _listing(inputs: Mapping[str, Any], outputs: Iterable[Any]) -> str:
    return list_signatures(_sides(dict(list(inputs.items())[:MOST]), list(outputs)[:MOST]))


def _dtype(tensor: Any) -> np.dtype:
    return np.dtype(tensor.dtype.as_numpy_dtype)


def _shape(tensor: Any) -> Shape | None:
    return None if tensor.shape.rank is None else tuple(tensor.shape.as_list())
