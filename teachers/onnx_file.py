"""An ONNX file as a teacher, run by onnxruntime. What onnxruntime does not say is read with onnx: which other files hold weights, and how many.

ONNX computes with channels first. Where a model does not say where its channels stand, [N, 3, H, W] is taken.
"""

import logging
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from distill.errors import DistillError, how_to_install
from distill.runtime.quiet import quiet_import
from teachers import Teacher, asked_threads
from teachers.causes import reason
from teachers.feed import Constant, pick
from teachers.flops import of_onnx
from teachers.foreign import check_whole
from teachers.loaded import Model, Shape, call_failed, choose, list_signatures, text_of

Tensors = dict[str, tuple[str, Shape | None]]  # name: (type in NumPy's word or onnxruntime's, shape)

log = logging.getLogger("distill")
OUTPUT, CALL = "output", "model"
TYPES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}
PYTHONIC = {"float": "float32", "double": "float64"}
HALVES = (10, 16)  # FLOAT16, BFLOAT16
# With ranges that stand in the model. DynamicQuantizeLinear takes them from the whole batch, so that its answers are no matter of rounding.
QUANTISING = ("QuantizeLinear", "QLinearConv", "QLinearMatMul")
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
# onnxruntime's default times cuDNN's algorithms at each start and takes the fastest: not always the same, so not always the same bits.
CUDA_OPTIONS = {"cudnn_conv_algo_search": "HEURISTIC"}


@dataclass(frozen=True)
class Contents:
    """What stands in an ONNX file. names: of the files beside it that hold weights. parameters: how many numbers its weights are.

    rough: whether it computes in floats of 16 bits or in whole numbers, so that a last digit of an answer may weigh more than in float32: weights of
    that type, casts to it, or nodes that quantise.
    """

    names: frozenset[str]
    parameters: int
    rough: bool


def load(teacher: Teacher) -> Model:
    """The model as a function of one array. Raises DistillError with the reason where the file is no such model."""
    where, (session, inputs, outputs) = f"teacher {teacher.path}", _start(teacher)
    contents = look_inside(teacher.local, teacher.path)
    signatures = {CALL: {"inputs": _texts(inputs), "outputs": _texts(outputs)}}
    listing = list_signatures(signatures)
    if teacher.preprocessing.signature is not None:
        way_out = "Leave --signature away, choose with --output."
        raise DistillError(f"{where} is an ONNX file, which has no signatures; received {teacher.preprocessing.signature!r}. {way_out}{listing}")
    name, feed = pick(teacher, {name: (PYTHONIC.get(dtype, dtype), shape) for name, (dtype, shape) in inputs.items()}, listing)
    output = choose(teacher, "output", teacher.preprocessing.output, OUTPUT, outputs, listing)
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
        parameters=contents.parameters,
        feed=feed,
        rough=lambda: CUDA in session.get_providers() or contents.rough,
        flops=lambda shape: of_onnx(teacher.local, name, shape),
    )


def external_files(path: Path, named: str = "") -> list[tuple[str, Path]]:
    """(name, path) of the files beside an .onnx file that hold weights of it, under the names it has for them: relative to its folder.

    named: where the model comes from, for messages, if `path` is a copy. DistillError where a name leaves the folder, where such a file is not
    there, and where `path` is no ONNX file.
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
    names = sorted(look_inside(path, named).names)
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
        raise DistillError(f"{where} needs onnxruntime: {how_to_install('onnx')} ({error})") from error
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


def look_inside(path: Path, named: str = "") -> Contents:
    """Returns what stands in an ONNX file. named: where the model comes from, for messages. DistillError where it is no ONNX file."""
    where = f"teacher {named or path}"
    check_whole(path, named or path)
    try:
        import onnx  # noqa: F401
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise DistillError(f"{where} needs the package onnx beside onnxruntime: pip install onnx ({error})") from error
    status = path.stat()
    try:
        return _contents(path, status.st_size, status.st_mtime_ns)
    except (DecodeError, UnicodeDecodeError) as error:
        raise DistillError(f"{where} is no ONNX file, or it is damaged or cut off ({reason(error)}).") from error


@lru_cache(maxsize=16)  # a file of 160 MB takes 0.25 s, and is asked about several times in a process
def _contents(path: Path, size: int, changed: int) -> Contents:
    """As `look_inside`. size, changed: those of the file, so that another one under its name is read anew."""
    import onnx

    names, parameters, rough = set[str](), 0, False
    for part in _parts(onnx.load(path, format="protobuf", load_external_data=False)):
        if isinstance(part, onnx.GraphProto):
            parameters += sum(math.prod(weights.dims) for weights in part.initializer)
        elif isinstance(part, onnx.TensorProto):
            names |= {entry.value for entry in part.external_data if entry.key == "location"}
            rough = rough or part.data_type in HALVES
        elif isinstance(part, onnx.NodeProto):
            rough = rough or part.op_type in QUANTISING
        elif isinstance(part, onnx.AttributeProto):
            rough = rough or part.name == "to" and part.i in HALVES  # of a cast
    return Contents(frozenset(names), parameters, rough)


def _parts(message: Any) -> Iterator[Any]:
    """A protobuf message and all messages in it: graphs, nodes, functions and tensors, wherever they stand."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in [value] if hasattr(value, "ListFields") else value:  # one, or a list
                yield from _parts(part)
