"""A model in memory as a teacher: the one place where uint8 images become what a model takes, and its answer float32 embeddings.

What differs between kinds of files ends at `Model`, which a loader hands over. Errors name the model and list what it has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from distill.errors import DistillError, NoMemory
from distill.images.preprocessing import Preprocessing, Scalar
from teachers.causes import reason

if TYPE_CHECKING:
    from teachers import Teacher
    from teachers.feed import Constant

Shape = tuple[int | None, ...]
Call = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Model:
    """What a loader hands over: one function of one array, and what the model says of itself.

    run: array of `dtype`, [N, H, W, 3] or [N, 3, H, W], to the chosen output as an array; thread safe.
    shape: of the input, None where free; None as a whole where the model does not say. output: the same of the answer.
    named: the names of input and output; signatures: {name: {"inputs": {name: text}, "outputs": {name: text}}}, texts as of `text_of`.
    flops: operations for images of a shape, as `teachers.flops` counts them; None where nobody counts them.
    feed: what its other inputs get; rough: whether it computes in half precision, in int8 or on a GPU, where the last digits differ more.
    """

    run: Call
    dtype: np.dtype
    shape: Shape | None
    output: Shape | None
    named: tuple[str, str]
    signature: str | None
    signatures: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)
    parameters: int | None = None
    feed: dict[str, Constant] = field(default_factory=dict)
    rough: Callable[[], bool] = lambda: False
    flops: Callable[[Sequence[int]], int] | None = None


class LoadedTeacher:
    """A model in memory: `teacher(images)` is uint8 [B, H, W, 3], RGB, to float32 [B, D]. Any B, also 0. Safe in many threads.

    height, width: what the model takes, None where it takes any; dimension: D; batch: its fixed batch size, None where it has none.
    """

    def __init__(self, teacher: Teacher, model: Model):
        self.teacher = teacher
        self._model = model
        self._channels_first = self._has_channels_first()
        shape = model.shape or (None, None, None, None)
        self.batch = shape[0]
        self.height, self.width = shape[2:] if self._channels_first else shape[1:3]
        seen, given = teacher.preprocessing, f"teacher {teacher.path}: input {model.named[0]!r} is {model.dtype}"
        if model.dtype != np.uint8 and not _is_float(model.dtype):
            raise DistillError(f"{given}; expected pixels as float or uint8. Choose another with --signature.{self._listing()}")
        if model.dtype == np.uint8 and (seen.scale, seen.offset) != (1.0, 0.0):
            raise DistillError(f"{given}, which pixels * {seen.scale:g} + {seen.offset:g} are not. Leave --preset, --scale and --offset away.")
        self.dimension = self._dimension()

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 [B, H, W, 3], RGB, 0 to 255 -> float32 [B, D], as the model gives it.

        A model of a fixed batch size is called as often as needed, the last time with black images added. The same batch on the same
        number of threads gives the same bits. Another batch size, another place in the batch, or another number of threads within an
        operation moves a row by up to 4e-7 of its norm (measured on ResNet50, MobileNetV2 and a small net).
        """
        self._check(images)
        if not len(images):
            return np.zeros((0, self.dimension), np.float32)
        step = self.batch or len(images)
        parts = [self._rows(images[start : start + step]) for start in range(0, len(images), step)]
        rows = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if rows.shape[1] != self.dimension:
            raise self._no_embeddings(text_of("float32", rows.shape), f"{len(images)} images, but says that D is {self.dimension}")
        return rows

    def __repr__(self) -> str:
        size = text_of("uint8", (None, self.height, self.width, 3))
        return f"<model {self.teacher.path}: {size} -> float32 [N, {self.dimension}]>"

    @property
    def pixels(self) -> str:
        """What it sees, in words."""
        seen = self.teacher.preprocessing
        return f"{seen.color} * {seen.scale:g} + {seen.offset:g}"

    @property
    def feed(self) -> dict[str, Scalar]:
        """The constants of its other inputs, each of the type that the input has."""
        return {name: constant.value for name, constant in sorted(self._model.feed.items())}

    @property
    def preprocessing(self) -> Preprocessing:
        """What a set keeps of how it was asked: constants as the model's inputs take them."""
        asked = self.teacher.preprocessing
        return Preprocessing(**{**asked.said, "feed": self.feed}) if self.feed else asked

    @property
    def rough(self) -> bool:
        """Whether it computes in half precision, in int8 or on a GPU, so that answers to equal images differ by more than rounding of a float32."""
        return self._model.rough()

    @property
    def parameters(self) -> int | None:
        """How many numbers its weights are; None where the file does not say."""
        return self._model.parameters

    def flops(self, size: tuple[int, int] | None = None) -> int:
        """Floating-point operations for one image, 2 for each multiply-add (`teachers.flops`). size: (height, width) where it takes any.

        Raises DistillError with the reason where they are not known.
        """
        height, width = self.height or (size or (0, 0))[0], self.width or (size or (0, 0))[1]
        if self._model.flops is None:
            raise DistillError(f"nobody counts the operations of a model of kind {self.teacher.kind}")
        if not height or not width:
            raise DistillError("it takes images of any size, and none is given")
        rows, sides = self.batch or 1, (3, height, width) if self._channels_first else (height, width, 3)
        return self._model.flops((rows, *sides)) // rows

    def describe(self) -> dict[str, Any]:
        """What `distill inspect` says of a teacher; plain values that JSON can hold."""
        model, teacher = self._model, self.teacher
        return {
            "path": teacher.path,
            "kind": teacher.kind,
            "fingerprint": teacher.fingerprint(),
            "bytes": sum(path.stat().st_size for _, path in teacher.files()),
            "parameters": model.parameters,
            "signature": model.signature,
            "input": f"{model.named[0]}: {text_of(model.dtype.name, model.shape)}",
            "output": f"{model.named[1]}: float32 [N, {self.dimension}]",
            "height": self.height,
            "width": self.width,
            "dimension": self.dimension,
            "channels": "first" if self._channels_first else "last",
            "pixels": self.pixels,
            "signatures": model.signatures,
        }

    def _rows(self, images: np.ndarray) -> np.ndarray:
        rows, dtype, seen = len(images), self._model.dtype, self.teacher.preprocessing
        pixels = images[..., ::-1] if seen.color == "bgr" else images
        if self._channels_first:
            pixels = pixels.transpose(0, 3, 1, 2)
        # NumPy casts, not TensorFlow: convert_to_tensor([images], "float32") takes 300 times as long.
        given: np.ndarray[Any, Any] = np.ascontiguousarray(pixels, np.uint8 if dtype == np.uint8 else np.float32)
        if (seen.scale, seen.offset) != (1.0, 0.0):
            given *= np.float32(seen.scale)
            given += np.float32(seen.offset)
        given = given.astype(dtype, copy=False)
        if self.batch and rows < self.batch:
            given = np.concatenate([given, np.zeros((self.batch - rows, *given.shape[1:]), dtype)])
        return self._embeddings(self._model.run(given), len(given))[:rows]

    def _embeddings(self, answer: np.ndarray, rows: int) -> np.ndarray:
        """[N, D], [N, 1, 1, D] or [N, D, 1, 1] of any float -> float32 [N, D]; all else is no embedding."""
        shape = answer.shape
        if shape[:1] != (rows,) or not _is_flat(shape) or not answer.size or not _is_float(answer.dtype):
            raise self._no_embeddings(text_of(answer.dtype.name, shape), f"{rows} image{'s' if rows > 1 else ''}")
        return np.asarray(answer, np.float32).reshape(rows, -1)

    def _dimension(self) -> int:
        """From the output's own shape where it says, else from one black image (112x112 where the model takes any size)."""
        shape = self._model.output
        if shape is not None:
            if not _is_flat(shape):
                raise self._no_embeddings(text_of("", shape), "N images")
            if None not in shape[1:]:
                return math.prod(size or 0 for size in shape[1:])
        return self._rows(np.zeros((1, self.height or 112, self.width or 112, 3), np.uint8)).shape[1]

    def _check(self, images: np.ndarray) -> None:
        size = (self.height, self.width)
        right = isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.ndim == 4 and images.shape[3] == 3
        if not right or any(want not in (None, got) for want, got in zip(size, images.shape[1:3], strict=True)):
            got = text_of(images.dtype.name, images.shape) if isinstance(images, np.ndarray) else type(images).__name__
            raise DistillError(f"teacher {self.teacher.path} received {got}; expected {text_of('uint8', (None, *size, 3))}.")

    def _has_channels_first(self) -> bool:
        """Whether the input is [N, 3, H, W]. Raises DistillError where it is neither that nor [N, H, W, 3]."""
        shape, name = self._model.shape, self._model.named[0]
        if shape is None or (len(shape) == 4 and (shape[3] == 3 or (shape[3] is None and shape[1] != 3))):
            return False
        if len(shape) == 4 and shape[1] == 3:
            return True
        received, expected = text_of(self._model.dtype.name, shape), "[N, height, width, 3] or [N, 3, height, width]"
        raise DistillError(f"teacher {self.teacher.path}: input {name!r} is {received}; expected {expected}.{self._listing()}")

    def _no_embeddings(self, got: str, asked: str) -> DistillError:
        given = f"teacher {self.teacher.path}: output {self._model.named[1]!r} gives {got} for {asked}"
        return DistillError(f"{given}; expected float [N, D]. Choose another with --output or --signature.{self._listing()}")

    def _listing(self) -> str:
        return list_signatures(self._model.signatures)


def in_turns(where: str, first: Call, another: Callable[[], Call]) -> Call:
    """A function for many threads, of functions that are for one at a time: as many are made as threads have called at once.

    One that has failed is not called again, because nobody knows its state. where: the model, for messages.
    """
    idle = [first]

    def run(images: np.ndarray) -> np.ndarray:
        try:
            try:
                call = idle.pop()
            except IndexError:
                call = another()
            answer = call(images)
        except Exception as error:
            raise call_failed(where, images, error) from error
        idle.append(call)
        return answer

    return run


def call_failed(where: str, images: np.ndarray, error: Exception) -> DistillError:
    """What a model's own error means, in one line."""
    received = text_of(images.dtype.name, images.shape)
    # TensorFlow 2.21 has a class for it, which not every teacher loads; onnxruntime 1.32 has the text alone
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError" or "Failed to allocate memory" in str(error):
        return NoMemory(f"{where}: the memory does not suffice for {received}. Ask for fewer images at a time, with a smaller --batch.")
    return DistillError(f"{where} fails on {received}: {reason(error)}")


def choose(teacher: Teacher, what: str, wanted: str | None, default: str, there: Iterable[str], listing: str) -> str:
    """The name to use: the wanted one, else the default, else the only one there is. Raises DistillError with all that the model has."""
    names = list(there)
    if wanted is None:
        wanted = names[0] if len(names) == 1 else default
    if wanted not in names:
        choice = f"Choose with --{what} from: {', '.join(names)}." if names else f"It has no {what}."
        raise DistillError(f"teacher {teacher.path} has no {what} {wanted!r}. {choice}{listing}")
    return wanted


def text_of(dtype: str, shape: Iterable[int | None] | None) -> str:
    """A tensor in words.

    >>> text_of("float32", (None, 112, 112, 3))
    'float32 [N, 112, 112, 3]'
    """
    if shape is None:
        return f"{dtype} of any shape"
    sizes = [str(size) if size is not None else "any" if place else "N" for place, size in enumerate(shape)]
    return f"{dtype} [{', '.join(sizes)}]".lstrip()


def list_signatures(signatures: Mapping[str, Mapping[str, Mapping[str, str]]]) -> str:
    """Everything that a model has, to stand behind an error message."""
    lines = []
    for name, sides in signatures.items():
        given, answer = (", ".join(f"{key}: {text}" for key, text in sides[side].items()) for side in ("inputs", "outputs"))
        lines.append(f"{name}({given}) -> {answer}")
    return f" It has: {'; '.join(lines)}."


def _is_flat(shape: Shape) -> bool:
    """Whether it is [N, D], or that with a height and a width of 1; a free size may be either."""
    return len(shape) in (2, 4) and sum(size not in (1, None) for size in shape[1:]) <= 1


def _is_float(dtype: np.dtype) -> bool:
    return dtype.kind == "f" or dtype.name == "bfloat16"
