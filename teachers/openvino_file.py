"""An OpenVINO model as a teacher: an .xml file, which says what is computed, and the .bin file of the same name beside it with its weights."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from distill.errors import DistillError, how_to_install
from distill.runtime.quiet import import_openvino
from teachers import Teacher, asked_threads
from teachers.causes import reason
from teachers.feed import pick
from teachers.flops import of_openvino
from teachers.foreign import check_whole, first_bytes
from teachers.loaded import Call, Model, Shape, choose, in_turns, list_signatures, text_of

OUTPUT, CALL = "output", "model"
COARSE = ("f16", "bf16", "i8", "u8", "i4", "u4")  # types of weights that keep fewer digits than float32
# As float32, whatever the processor would rather do: on one with bfloat16 a cosine to the model's own answer was 0.99996, with this 0.9999999.
OPTIONS = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": "1"}


def load(teacher: Teacher) -> Model:
    """The model as a function of one array. Raises DistillError with the reason where the files are no such model."""
    where, (model, compiled) = f"teacher {teacher.path}", _start(teacher)
    inputs, outputs = ({_name(port): port for port in side} for side in (model.inputs, model.outputs))
    signatures = {CALL: {side: {name: _text(port) for name, port in ports.items()} for side, ports in (("inputs", inputs), ("outputs", outputs))}}
    listing = list_signatures(signatures)
    if teacher.preprocessing.signature is not None:
        way_out = "Leave --signature away, choose with --output."
        raise DistillError(f"{where} is an OpenVINO model, which has no signatures; received {teacher.preprocessing.signature!r}. {way_out}{listing}")
    name, feed = pick(teacher, {name: (_dtype(port), _shape(port)) for name, port in inputs.items()}, listing)
    output = choose(teacher, "output", teacher.preprocessing.output, OUTPUT, outputs, listing)
    places = {key: list(inputs).index(key) for key in (name, *feed)}
    answer = list(outputs).index(output)

    def call() -> Call:
        request = compiled.create_infer_request()

        def run(images: np.ndarray) -> np.ndarray:
            given = {places[name]: images, **{places[key]: constant.fill(len(images)) for key, constant in feed.items()}}
            return np.array(request.infer(given)[answer])

        return run

    parameters, rough = _weights(model)
    return Model(
        run=in_turns(where, call(), call),
        dtype=_dtype(inputs[name]),
        shape=_shape(inputs[name]),
        output=_shape(outputs[output]),
        named=(name, output),
        signature=None,
        signatures=signatures,
        parameters=parameters,
        feed=feed,
        rough=lambda: rough,
        flops=lambda shape: of_openvino(model, name, shape),
    )


def names_beside(path: Path, named: str = "") -> list[str]:
    """The name of the file with its weights, whether it is there or not."""
    return [path.with_suffix(".bin").name]


def external_files(path: Path, named: str = "") -> list[tuple[str, Path]]:
    """[("weights", path)] of the .bin file of an .xml file; the name says nothing of either's, as two files that were renamed are the same model.

    named: where the model comes from, for messages, if `path` is a copy. DistillError where it is not there.
    """
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise DistillError(f"teacher {named or path} has its weights in {weights.name}, expected in the same folder, where it is not. Put that file there too.")
    return [("weights", weights)]


def _start(teacher: Teacher) -> tuple[Any, Any]:
    """The model as it was read, and as it is run, with the threads that were asked for."""
    where = f"teacher {teacher.path}"
    check_whole(teacher.local, teacher.path)
    if b"<net" not in first_bytes(teacher.local):
        raise DistillError(f"{where} is no OpenVINO model: an .xml file, but none that begins with <net ...>.")
    try:
        openvino = import_openvino()
    except ImportError as error:
        raise DistillError(f"{where} needs OpenVINO: {how_to_install('openvino')} ({error})") from error
    ((_, weights),) = external_files(teacher.local, teacher.path)
    threads = {"INFERENCE_NUM_THREADS": str(asked_threads()[0])} if asked_threads()[0] else {}
    try:
        core = openvino.Core()
        core.set_property({"ENABLE_MMAP": False})  # a file that is shortened meanwhile would end the process
        model = core.read_model(str(teacher.local.absolute()), str(weights.absolute()))
        return model, core.compile_model(model, "CPU", {**OPTIONS, **threads})
    except MemoryError:
        raise
    except Exception as error:  # of any class: what is in the files decides what fails
        way_out = "If one of its two files was cut off on its way, copy both again."
        raise DistillError(f"{where} cannot be read by OpenVINO {openvino.__version__.partition('-')[0]}: {reason(error)} {way_out}") from error


def _name(port: Any) -> str:
    return port.get_any_name() if port.get_names() else port.get_node().get_friendly_name()


def _dtype(port: Any) -> np.dtype:
    return np.dtype(port.element_type.to_dtype())


def _shape(port: Any) -> Shape | None:
    shape = port.partial_shape
    return None if shape.rank.is_dynamic else tuple(size.get_length() if size.is_static else None for size in shape)


def _text(port: Any) -> str:
    return text_of(_dtype(port).name, _shape(port))


def _weights(model: Any) -> tuple[int, bool]:
    """How many numbers its weights are, and whether some of them, or what is computed, keep fewer digits than float32."""
    kept = [node for node in model.get_ordered_ops() if node.get_type_name() == "Constant"]
    kinds = [node.get_element_type().get_type_name() for node in kept]
    parameters = sum(math.prod(node.shape) for node, kind in zip(kept, kinds, strict=True) if kind.startswith(("f", "bf", "i8", "u8", "i4", "u4")))
    return parameters, any(kind in COARSE for kind in kinds) or any(node.get_type_name() == "FakeQuantize" for node in model.get_ordered_ops())
