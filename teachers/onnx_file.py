"""An ONNX file as a teacher, run by onnxruntime. Which other files hold its weights is read here, from the file itself.

ONNX computes with channels first. Where a model does not say where its channels stand, [N, 3, H, W] is taken.
"""

import logging
import math
import mmap
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from distill.errors import DistillError
from distill.runtime.process import quiet_import
from teachers import Teacher, asked_threads
from teachers.causes import reason
from teachers.feed import Constant, pick
from teachers.foreign import check_whole
from teachers.loaded import Model, Shape, call_failed, choose, list_signatures, text_of
from teachers.protobuf import fields, numbers

Tensors = dict[str, tuple[str, Shape | None]]  # name: (type in NumPy's word or onnxruntime's, shape)

log = logging.getLogger("distill")
OUTPUT, CALL = "output", "model"
TYPES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}
PYTHONIC = {"float": "float32", "double": "float64"}
HALVES = (10, 16)  # FLOAT16, BFLOAT16
HALF_AT = {"weights": 2, "tensor": 2, "attribute": 3}  # where a type stands: TensorProto.data_type, AttributeProto.i of a cast
# With ranges that stand in the model. DynamicQuantizeLinear takes them from the whole batch, so that its answers are no matter of rounding.
QUANTISING = (b"QuantizeLinear", b"QLinearConv", b"QLinearMatMul")
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
# onnxruntime's default times cuDNN's algorithms at each start and takes the fastest: not always the same, so not always the same bits.
CUDA_OPTIONS = {"cudnn_conv_algo_search": "HEURISTIC"}
# Where tensors stand in a model: {message: {number of a field: the message in it}}, from onnx/onnx.proto of github.com/onnx/onnx.
PARTS = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "weights", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "weights": {1: "sizes", 13: "external"},
    "tensor": {13: "external"},
}


def load(teacher: Teacher) -> Model:
    """The model as a function of one array. Raises DistillError with the reason where the file is no such model."""
    where, (session, inputs, outputs) = f"teacher {teacher.path}", _start(teacher)
    signatures = {CALL: {"inputs": _texts(inputs), "outputs": _texts(outputs)}}
    listing = list_signatures(signatures)
    if teacher.signature is not None:
        way_out = "Leave --signature away, choose with --output."
        raise DistillError(f"{where} is an ONNX file, which has no signatures; received {teacher.signature!r}. {way_out}{listing}")
    name, feed = pick(teacher, {name: (PYTHONIC.get(dtype, dtype), shape) for name, (dtype, shape) in inputs.items()}, listing)
    output = choose(teacher, "output", teacher.output, OUTPUT, outputs, listing)
    dtype, shape = inputs[name]
    if dtype not in TYPES.values():
        raise DistillError(f"{where}: input {name!r} is {dtype}; expected pixels as float or uint8.{listing}")
    shape = shape or (None, None, None, None)
    if len(shape) == 4 and shape[1] is shape[3] is None:
        shape = (shape[0], 3, *shape[2:])
    return Model(
        run=_runner(teacher, session, name, output, feed),
        dtype=np.dtype(dtype),
        shape=shape,
        output=outputs[output][1],
        named=(name, output),
        signature=None,
        signatures=signatures,
        parameters=_look_inside(teacher.local, teacher.path)[1],
        feed=feed,
        rough=lambda: CUDA in session.get_providers() or is_rough(teacher.local),
    )


def external_files(path: Path, named: str = "") -> list[tuple[str, Path]]:
    """(name, path) of the files beside an .onnx file that hold weights of it, under the names it has for them: relative to its folder.

    named: where the model comes from, for messages, if `path` is a copy. Takes milliseconds (8 for 51 convolutions), however large the
    weights are. DistillError where a name leaves the folder, where such a file is not there, and where `path` is no ONNX file.
    """
    found = []
    for name in names_beside(path, named):
        if not (path.parent / name).is_file():
            kept = f"teacher {named or path} keeps weights in {name!r}"
            raise DistillError(f"{kept}, expected in the same folder, where it is not. Put that file there too.")
        found.append((name, path.parent / name))
    return found


def names_beside(path: Path, named: str = "") -> list[str]:
    """The names alone, whether such files are there or not. Each stays within the folder of `path`; DistillError otherwise."""
    names = sorted(_look_inside(path, named)[0])
    for name in names:
        plain, kept = PurePosixPath(name), f"teacher {named or path} keeps weights in {name!r}"
        if plain.is_absolute() or ".." in plain.parts or "\\" in name or not name.isprintable():
            raise DistillError(f"{kept}; expected a name within its own folder. Save it with its weights beside it.")
    return names


def _start(teacher: Teacher) -> tuple[Any, Tensors, Tensors]:
    """A session of onnxruntime and its inputs and outputs. It has the threads that were asked for, and runs one operation at a time."""
    where = f"teacher {teacher.path}"
    try:
        with quiet_import():
            import onnxruntime
    except ImportError as error:
        raise DistillError(f'{where} needs onnxruntime: pip install "distill[onnx]" ({error})') from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = asked_threads()[0], 1
    options.log_severity_level = 4  # what matters comes as a Python exception
    wanted = [(CUDA, CUDA_OPTIONS)] if CUDA in onnxruntime.get_available_providers() else []
    try:
        # Its own way back to the CPU prints to stdout.
        session = onnxruntime.InferenceSession(str(teacher.local), options, [*wanted, CPU], enable_fallback=False)
        inputs, outputs = ({one.name: _tensor(one) for one in side} for side in (session.get_inputs(), session.get_outputs()))
    except (DistillError, MemoryError):
        raise
    except Exception as error:  # of its own many classes, and Python's
        raise DistillError(f"{where} cannot be read by onnxruntime {onnxruntime.__version__}: {reason(error)}") from error
    if wanted and CUDA not in session.get_providers():
        log.warning("%s: onnxruntime was built for CUDA, but finds none that it can use; it computes on the CPU.", where)
    return session, inputs, outputs


def _runner(teacher: Teacher, session: Any, name: str, output: str, feed: dict[str, Constant]) -> Callable[[np.ndarray], np.ndarray]:
    def run(images: np.ndarray) -> np.ndarray:
        try:
            others = {name: constant.fill(len(images)) for name, constant in feed.items()}
            return np.asarray(session.run([output], {name: images, **others})[0])
        except Exception as error:
            raise call_failed(f"teacher {teacher.path}", images, error) from error

    return run


def _texts(tensors: Tensors) -> dict[str, str]:
    return {name: text_of(dtype, shape) for name, (dtype, shape) in tensors.items()}


def _tensor(described: Any) -> tuple[str, Shape | None]:
    """Its type, and its shape: None for a size that is a name or free, None as a whole where onnxruntime has [], its word for unknown."""
    dtype = TYPES.get(described.type, re.sub(r"^tensor\((\w+)\)$", r"\1", described.type))
    return dtype, tuple(size if isinstance(size, int) else None for size in described.shape) or None


def _look_inside(path: Path, named: str = "") -> tuple[set[str], int]:
    """The names of the files that hold weights, and how many numbers the weights are. Reads past the weights themselves."""
    names, total = set[str](), 0
    check_whole(path, named or path)
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            waiting = [("model", 0, len(data))]
            while waiting:
                message, start, stop = waiting.pop()
                size = 1
                for number, at, end in fields(data, start, stop):
                    part = PARTS[message].get(number)
                    if part == "sizes":
                        size *= math.prod(numbers(data, at, end))
                    elif part == "external":
                        entry = {key: data[first:last] for key, first, last in fields(data, at, end)}
                        names |= {entry[2].decode()} if entry.get(1) == b"location" and 2 in entry else set()
                    elif part is not None:
                        waiting.append((part, at, end))
                total += size if message == "weights" else 0
    except ValueError as error:  # also that of a name that is not UTF-8
        raise DistillError(f"teacher {named or path} is no ONNX file: {error}.") from error
    return names, total


def is_rough(path: Path) -> bool:
    """Whether it computes in floats of 16 bits or in whole numbers, so that a last digit of an answer may weigh more than in float32.

    Told by weights of that type, wherever they stand (TensorProto.data_type, field 2), by casts to it, and by nodes that quantise.
    """
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        waiting = [("model", 0, len(data))]
        while waiting:
            message, start, stop = waiting.pop()
            for number, at, end in fields(data, start, stop):
                if message == "node" and number == 4 and data[at:end] in QUANTISING:
                    return True
                if number == HALF_AT.get(message) and next(numbers(data, at, end), 0) in HALVES and (message != "attribute" or _is_cast(data, start, stop)):
                    return True
                part = PARTS.get(message, {}).get(number)
                if part in PARTS:
                    waiting.append((part, at, end))
    return False


def _is_cast(data: mmap.mmap, start: int, stop: int) -> bool:
    """Whether an attribute is called `to`, as that of Cast, which says the type."""
    return any(number == 1 and data[at:end] == b"to" for number, at, end in fields(data, start, stop))
