"""A .tflite file as a teacher, run by LiteRT: the interpreter of ai-edge-litert where that is installed, else TensorFlow's own.

A quantised input takes round(x / scale) + zero point, cut to the range of its type, of the pixels x that the preprocessing gives; a quantised
output answers (q - zero point) * scale. Both numbers stand in the file (https://ai.google.dev/edge/litert/models/quantization_spec).
"""

import importlib
import math
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from distill.errors import DistillError, how_to_install
from distill.images.preprocessing import Preprocessing
from distill.runtime.quiet import quiet_import
from teachers import Teacher, asked_threads, start_tensorflow
from teachers.causes import reason
from teachers.feed import pick
from teachers.flops import of_litert
from teachers.foreign import check_whole, first_bytes
from teachers.loaded import Call, Model, Shape, choose, in_turns, list_signatures, text_of

SIGNATURE, OUTPUT, CALL = "serving_default", "output", "model"
MAGIC = b"TFL3"  # bytes 5 to 8 of each such file
FLOATS, WHOLE = ("FLOAT32", "FLOAT64", "FLOAT16", "BFLOAT16"), ("INT8", "UINT8", "INT16", "INT4", "INT32")
HALVES = ("FLOAT16", "BFLOAT16")
FOREIGN = "has operations of TensorFlow (SELECT_TF_OPS), which this interpreter lacks. Convert it with TFLITE_BUILTINS alone, or name the SavedModel that it came from."
LEAST_LEVELS = 32  # of a quantised input that pixels have to reach: of 256, fewer leave nothing of a photo


@dataclass(frozen=True)
class Tensor:
    """An input or output. scale: 0 where it is not quantised; dtype: of the file, where `kind` is what it means."""

    index: int
    dtype: np.dtype
    shape: Shape
    scale: float
    zero: int

    @property
    def kind(self) -> np.dtype:
        return np.dtype(np.float32) if self.scale else self.dtype

    def given(self, values: np.ndarray) -> np.ndarray:
        """What is put in for float values.

        >>> Tensor(0, np.dtype(np.int8), (None,), 0.5, -128).given(np.float32([0, 1, 200]))
        array([-128, -126,  127], dtype=int8)
        """
        if not self.scale:
            return values
        range_ = np.iinfo(self.dtype)
        return np.clip(np.rint(values / np.float32(self.scale)) + self.zero, range_.min, range_.max).astype(self.dtype)

    def meant(self, values: np.ndarray) -> np.ndarray:
        """The float values of what came out.

        >>> Tensor(0, np.dtype(np.int8), (None,), 0.5, -128).meant(np.int8([-128, -126, 127]))
        array([  0. ,   1. , 127.5], dtype=float32)
        """
        return (values.astype(np.float32) - np.float32(self.zero)) * np.float32(self.scale) if self.scale else values

    def __str__(self) -> str:
        text = text_of(self.dtype.name, self.shape)
        return f"{text} (scale {self.scale:.3g}, zero point {self.zero})" if self.scale else text


Tensors = dict[str, Tensor]


def load(teacher: Teacher) -> Model:
    """The model as a function of one array. Raises DistillError with the reason where the file is no such model."""
    where, data = f"teacher {teacher.path}", _read(teacher)
    interpreter, start = _first(teacher, data)
    sides = _sides(interpreter)
    listing = list_signatures(_texts(sides))
    wanted = teacher.preprocessing.signature
    if CALL in sides and wanted is not None:
        raise DistillError(f"{where} has no signatures; received {wanted!r}. Leave --signature away, choose with --output.{listing}")
    signature = CALL if CALL in sides else choose(teacher, "signature", wanted, SIGNATURE, sides, listing)
    inputs, outputs = sides[signature]
    name, feed = pick(teacher, {name: (tensor.kind, tensor.shape) for name, tensor in inputs.items()}, listing)
    output = choose(teacher, "output", teacher.preprocessing.output, OUTPUT, outputs, listing)
    _check_pixels(where, name, inputs[name], teacher.preprocessing)
    (parameters, rough), named = _weights(data), None if CALL in sides else signature

    def call(interpreter: Any) -> Call:
        engine = _Engine(interpreter, named, inputs, outputs[output], output)
        return lambda images: engine({name: images, **{key: constant.fill(len(images)) for key, constant in feed.items()}})

    return Model(
        run=in_turns(where, call(interpreter), lambda: call(start())),
        dtype=inputs[name].kind,
        shape=inputs[name].shape,
        output=outputs[output].shape,
        named=(name, output),
        signature=named,
        signatures=_texts(sides),
        parameters=parameters,
        feed=feed,
        rough=lambda: rough,
        flops=lambda shape: of_litert(_schema_there(), data, named, shape),
    )


def _read(teacher: Teacher) -> bytes:
    """The whole file, so that all interpreters share it, and nobody can shorten what one has mapped."""
    check_whole(teacher.local, teacher.path)
    found = first_bytes(teacher.local)[4:8]
    if found != MAGIC:
        raise DistillError(f"teacher {teacher.path} is no TensorFlow Lite file: its bytes 5 to 8 are {found!r}, expected {MAGIC!r}.")
    return teacher.local.read_bytes()


def _first(teacher: Teacher, data: bytes) -> tuple[Any, Callable[[], Any]]:
    """An interpreter of the file, and how to make another one like it. DistillError with the reason where there is none."""
    threads = asked_threads()[0] or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    engine = _litert() or _tensorflow()
    if engine is None:
        raise DistillError(f"teacher {teacher.path} needs LiteRT: {how_to_install('litert')}")
    start = _starter(engine, data, threads)
    try:
        return start(), start
    except MemoryError:
        raise
    except Exception as error:  # of any class: what is in the file decides what fails
        if "Flex delegate" in str(error):
            raise DistillError(f"teacher {teacher.path} {FOREIGN}") from error
        way_out = "If it was cut off on its way, copy it again."
        raise DistillError(f"teacher {teacher.path} cannot be read by LiteRT: {reason(error)} {way_out}") from error


def _litert() -> Any:
    try:
        with quiet_import():
            from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        return None
    return Interpreter


def _tensorflow() -> Any:
    return getattr(getattr(start_tensorflow(), "lite", None), "Interpreter", None)


def _starter(make: Any, data: bytes, threads: int) -> Callable[[], Any]:
    def start() -> Any:
        error: Exception | None = None
        with quiet_import(), warnings.catch_warnings():  # C++ says that it computes on the CPU, and TensorFlow that LiteRT has moved
            warnings.simplefilter("ignore")
            try:
                made = make(model_content=data, num_threads=threads)
                made.allocate_tensors()
            except Exception as raised:
                error = raised
        if error is not None:
            raise error
        return made

    return start


def _sides(interpreter: Any) -> dict[str, tuple[Tensors, Tensors]]:
    """{signature: (inputs, outputs)}, each by name; under CALL those of a file without signatures."""
    called = {name: interpreter.get_signature_runner(name) for name in sorted(interpreter.get_signature_list())}
    if not called:
        inputs, outputs = ({one["name"]: _tensor(one) for one in side} for side in (interpreter.get_input_details(), interpreter.get_output_details()))
        return {CALL: (inputs, outputs)}
    return {name: (_tensors(one.get_input_details()), _tensors(one.get_output_details())) for name, one in called.items()}


def _tensors(told: Mapping[str, Mapping[str, Any]]) -> Tensors:
    return {name: _tensor(one) for name, one in told.items()}


def _tensor(told: Mapping[str, Any]) -> Tensor:
    scales, zeros = told["quantization_parameters"]["scales"], told["quantization_parameters"]["zero_points"]
    quantised = len(scales) == 1 and np.dtype(told["dtype"]).kind in "iu"
    shape = told["shape_signature"] if len(told["shape_signature"]) else told["shape"]
    sizes = tuple(None if size < 0 else int(size) for size in shape)
    return Tensor(told["index"], np.dtype(told["dtype"]), sizes, float(scales[0]) if quantised else 0.0, int(zeros[0]) if quantised else 0)


def _texts(sides: Mapping[str, tuple[Tensors, Tensors]]) -> dict[str, dict[str, dict[str, str]]]:
    return {name: {"inputs": _listed(inputs), "outputs": _listed(outputs)} for name, (inputs, outputs) in sides.items()}


def _listed(tensors: Tensors) -> dict[str, str]:
    return {name: str(tensor) for name, tensor in tensors.items()}


def _check_pixels(where: str, name: str, tensor: Tensor, seen: Preprocessing) -> None:
    """DistillError where a quantised input cannot hold the pixels that it would be given: it then sees next to nothing of a photo."""
    if not tensor.scale:
        return
    range_, ends = np.iinfo(tensor.dtype), sorted((seen.offset, 255 * seen.scale + seen.offset))
    least, most = (float(tensor.meant(np.asarray(end))) for end in (range_.min, range_.max))
    shared = min(ends[1], most) - max(ends[0], least)
    if shared < (ends[1] - ends[0]) / 2 or shared / tensor.scale < LEAST_LEVELS:
        raise DistillError(
            f"{where}: input {name!r} is {tensor}: {least:.4g} to {most:.4g}, but pixels * {seen.scale:g} + {seen.offset:g} are {ends[0]:.4g} to {ends[1]:.4g}. "
            "Say what it was trained on: --preset, or --scale and --offset."
        )


class _Engine:
    """One interpreter with the signature and output that are meant. For one thread at a time."""

    def __init__(self, interpreter: Any, signature: str | None, inputs: Tensors, answer: Tensor, output: str):
        self._interpreter, self._inputs, self._answer, self._output = interpreter, inputs, answer, output
        self._runner = None if signature is None else interpreter.get_signature_runner(signature)

    def __call__(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        given = {name: self._inputs[name].given(array) for name, array in values.items()}
        if self._runner is not None:
            return self._answer.meant(self._runner(**given)[self._output])
        for name, array in given.items():
            self._interpreter.resize_tensor_input(self._inputs[name].index, array.shape)
        self._interpreter.allocate_tensors()
        for name, array in given.items():
            self._interpreter.set_tensor(self._inputs[name].index, array)
        self._interpreter.invoke()
        return self._answer.meant(self._interpreter.get_tensor(self._answer.index))


def _weights(data: bytes) -> tuple[int | None, bool]:
    """How many numbers the weights of a file that was read are, and whether it computes in whole numbers or keeps some in 16 bits."""
    schema = _schema_there()
    if schema is None:
        return None, True
    kinds = {value: name for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
    model, sizes, rough = schema.Model.GetRootAsModel(data, 0), dict[int, int](), False
    for tensor in (graph.Tensors(place) for graph in map(model.Subgraphs, range(model.SubgraphsLength())) for place in range(graph.TensorsLength())):
        kind, buffer = kinds.get(tensor.Type(), ""), model.Buffers(tensor.Buffer())
        told = tensor.Quantization()
        quantised = kind in WHOLE and told is not None and told.ScaleLength() > 0
        rough = rough or quantised or kind in HALVES
        if (buffer.DataLength() or buffer.Size()) and (kind in FLOATS or quantised):
            sizes[tensor.Buffer()] = math.prod(tensor.Shape(place) for place in range(tensor.ShapeLength()))
    return sum(sizes.values()), rough


def _schema_there() -> Any:
    return next((found for found in map(_schema, ("ai_edge_litert", "tensorflow.lite.python")) if found), None)


def _schema(package: str) -> Any:
    try:
        return importlib.import_module(f"{package}.schema_py_generated")
    except ImportError:
        return None
