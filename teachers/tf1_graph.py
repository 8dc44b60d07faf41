"""A graph of TensorFlow 1 as a teacher: a checkpoint with its graph (.meta, .index, .data), or a frozen graph (.pb), run by a session.

Nothing in such a file says what to call, so tensors are named: --input, --output, and --feed for what else the output depends on. Unnamed, the
output is `embeddings` or the only one that may be; the input is the only placeholder of images, or `input`: so are FaceNet's models written. Of a
graph only what the output depends on is read, and of a checkpoint only the variables in it; no code that the file names is run.
"""

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from teachers.flops import of_operations
from teachers.foreign import check_whole
from teachers.loaded import Call, Model, call_failed
from teachers.saved_model import HALVES
from teachers.tf1_names import OUTPUT, dtype_of, find_input, find_output, listing_of, needed_for, shape_of, shown, sides_of, tensor_of

FROZEN = ".pb"
VARIABLES = ("VariableV2", "Variable", "VarHandleOp")
# They wait for somebody who fills a queue or a data set; asked for one image, they wait for ever.
# They read or write files, or run Python that the process has: no model needs them to answer.
REFUSED = (
    "WriteFile",
    "ReadFile",
    "MatchingFiles",
    "PyFunc",
    "Save",
    "Restore",
    "Checkpoint",
    "FromTextFile",
    "WholeFile",
    "TextLine",
    "RecordReader",
    "SummaryWriter",
)
WAITING = ("QueueDequeue", "IteratorGetNext", "ReaderRead", "StagePeek", "Unstage")


def load(teacher: Teacher) -> Model:
    """The tensors that are named as a function of one array. Raises DistillError with what else the graph has where the choice does not fit."""
    where, asked = f"teacher {teacher.path}", teacher.preprocessing
    if asked.signature is not None:
        raise DistillError(f"{where} is a graph of TensorFlow 1, which has no signatures; received {asked.signature!r}. Name its tensors: --input, --output.")
    tf = start_tensorflow()
    given = _read(teacher)
    part = _upstream(given, asked.output or OUTPUT)
    graph = _imported(tf, where, part)
    output = find_output(graph, where, asked.output)
    fed = {name: tensor for name in dict(asked.feed) if (tensor := tensor_of(graph, name)) is not None}
    image = find_input(graph, where, asked.input, output, fed.values())
    needed = needed_for(output, [image, *fed.values()])
    known = {tensor.name for tensor in (image, *fed.values())}
    others = {op.outputs[0].name: op.outputs[0] for op in needed if op.type == "Placeholder" and op.outputs[0].name not in known}
    inputs = {asked.input or shown(image): image, **fed, **{shown(tensor): tensor for tensor in others.values()}}
    listing = listing_of(inputs, [output])
    name, feed = pick(teacher, {key: (dtype_of(tensor), shape_of(tensor)) for key, tensor in inputs.items()}, listing)
    if waiting := next((op for op in needed if any(word in op.type for word in WAITING)), None):
        raise DistillError(f"{where} takes its images from a queue ({waiting.name}). Name the tensor of decoded images with --input.{listing}")
    _check_operations(where, [*((op.name, op.type) for op in needed), *((node.name, node.op) for each in part.library.function for node in each.node_def)])
    session = _session(tf, graph)
    _restore(tf, teacher, session, [op for op in needed if op.type in VARIABLES])
    return Model(
        run=_runner(where, session, output, inputs[name], {inputs[key]: constant for key, constant in feed.items()}),
        dtype=dtype_of(image),
        shape=shape_of(image),
        output=shape_of(output),
        named=(name, asked.output or shown(output)),
        signature=None,
        signatures=sides_of(inputs, [output]),
        parameters=_parameters(needed),
        feed=feed,
        rough=lambda: bool(tf.config.list_physical_devices("GPU")) or any(value.type in HALVES for op in needed for value in op.node_def.attr.values()),
        flops=lambda shape: _flops(tf, part, image, output, shape),
    )


def _check_operations(where: str, operations: Iterable[tuple[str, str]]) -> None:
    """Raises DistillError where one of the operations (name, type) that the output depends on, or of functions in the file, reads or writes files."""
    for name, kind in operations:
        if any(word in kind for word in REFUSED):
            raise DistillError(f"{where}: operation {name} is {kind}, and a model that reads or writes files is not run. Name another --output.")


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


def _flops(tf: Any, part: Any, image: Any, output: Any, shape: Sequence[int]) -> int:
    """Operations for images of a shape: of the graph as it is for that shape, so that all sizes are known."""
    with tf.Graph().as_default():
        given = tf.compat.v1.placeholder(image.dtype, shape)
        (answer,) = tf.graph_util.import_graph_def(part, {image.name: given}, [output.name], name="counted")
        return of_operations(needed_for(answer, [given]))


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
