"""The verification files of the field (LFW, CFP-FP, AgeDB-30 and others): one `.bin` with encoded images and which pairs of them are the same person.

A `.bin` is a pickle of (list of 2N encoded images, list of N bools), written by Python 2 or 3. A pickle may name any code to be run while it is loaded,
so it is read here by a reader that knows no code: of the opcodes of pickles those for lists, tuples, bytes, texts, bools, whole numbers and NumPy arrays,
and nothing else. It reserves no memory by the sizes that a file names: all that it builds together is at most as large as the file.
"""

from __future__ import annotations

import io
import math
import pickle
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from distill.errors import Damaged, DistillError
from distill.storage.path import StoragePath

_EXPECTED = "Expected a pickle of (list of 2N encoded images, list of N bools), as lfw.bin of insightface is"


class _Refused(Exception):
    """The file is a pickle of something else; the text says what it asks for."""


class _Name(Enum):
    """What a pickle may name; each is done here, and nothing that has the name is called."""

    ENCODE = "text to bytes"  # how Python 3 writes bytes in the protocols of Python 2
    BYTES = "no bytes"
    ARRAY = "an array whose state follows"
    FROM_BUFFER = "an array of bytes"  # protocol 5
    CLASS = "the class of arrays"
    DTYPE = "the type of an array"


_NAMES = {
    ("_codecs", "encode"): _Name.ENCODE,
    ("__builtin__", "bytes"): _Name.BYTES,
    ("builtins", "bytes"): _Name.BYTES,
    ("numpy", "ndarray"): _Name.CLASS,
    ("numpy", "dtype"): _Name.DTYPE,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Name.ARRAY for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _Name.FROM_BUFFER for core in ("core", "_core")},
}


class _Type:
    """Stands for a dtype: of bools and whole numbers only."""

    def __init__(self, name: Any) -> None:
        text = name.decode("ascii") if isinstance(name, bytes) else name
        if text not in ("b1", "?", "bool", "u1", "uint8", "i1", "i2", "u2", "i4", "u4", "i8", "u8"):
            raise _Refused(f"holds an array of {text}")
        self.dtype = np.dtype(text)

    def set(self, state: Any) -> None:
        order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "|", "="):
            raise _Refused(f"holds an array of the byte order {order}")
        self.dtype = np.dtype(order + self.dtype.str[1:])


@dataclass
class _Array:
    """Stands for an array: its bytes as the file holds them, with what it says of them."""

    raw: Any = None
    type: Any = None
    shape: Any = None

    def set(self, state: Any) -> None:
        *_, self.shape, self.type, _fortran, self.raw = state

    def values(self) -> np.ndarray:
        """Returns the values in one row. Raises _Refused where the shape is not that of the bytes."""
        shape = self.shape if isinstance(self.shape, tuple) else (self.shape,)
        known = isinstance(self.raw, bytes) and isinstance(self.type, _Type) and all(type(side) is int and side >= 0 for side in shape)
        if not known or math.prod(shape) * self.type.dtype.itemsize != len(self.raw) or sum(side != 1 for side in shape) > 1:
            raise _Refused(f"holds an array of the shape {shape} that is no row of so many numbers")
        return np.frombuffer(self.raw, self.type.dtype)


class _Reader(pickle._Unpickler):  # in Python: the one in C reserves memory for any size in the file
    """Builds plain values and stand-ins for arrays. What a file names is looked up in _NAMES; no other opcode is known."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="bytes")
        self.room = len(data)  # bytes that may still be made of texts: a short file could ask for the same ones for ever

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise _Refused(f"names {module}.{name}")
        return _NAMES[module, name]

    def made(self, name: Any, arguments: Any) -> Any:
        """Returns what stands for name(*arguments)."""
        if name is _Name.ENCODE and len(arguments) == 2 and isinstance(arguments[0], str) and arguments[1] in ("latin1", b"latin1"):
            self.room -= len(arguments[0])
            if self.room < 0:
                raise _Refused("would become larger than it is")
            return arguments[0].encode("latin-1")
        if name is _Name.BYTES and arguments == ():
            return b""
        if name is _Name.ARRAY:
            return _Array()
        if name is _Name.FROM_BUFFER and len(arguments) == 4:
            return _Array(*arguments[:3])
        if name is _Name.DTYPE and arguments:
            return _Type(arguments[0])
        raise _Refused(f"calls {name.value if isinstance(name, _Name) else type(name).__name__} with {type(arguments).__name__}")


def _reduce(self: Any) -> None:
    arguments = self.stack.pop()
    self.stack[-1] = self.made(self.stack[-1], arguments)


def _build(self: Any) -> None:
    state = self.stack.pop()
    if not isinstance(self.stack[-1], (_Array, _Type)) or not isinstance(state, tuple):
        raise _Refused(f"changes a {type(self.stack[-1]).__name__}")
    self.stack[-1].set(state)


def _global(self: Any) -> None:
    module, name = self.readline(), self.readline()
    if name[-1:] != b"\n":
        raise EOFError
    self.append(self.find_class(module[:-1].decode(), name[:-1].decode()))


def _bytearray(self: Any) -> None:
    self.append(self.read(int.from_bytes(self.read(8), "little")))  # Python's own reserves as many bytes as the file says


def _known() -> dict[int, Any]:
    """Returns the opcodes that are known."""
    names = (
        "MARK STOP PROTO FRAME MEMOIZE PUT BINPUT LONG_BINPUT GET BINGET LONG_BINGET NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 "
        "STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 "
        "EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 STACK_GLOBAL"
    )
    theirs: dict[int, Any] = pickle._Unpickler.dispatch
    codes = [getattr(pickle, name)[0] for name in names.split()]
    ours = {pickle.REDUCE: _reduce, pickle.BUILD: _build, pickle.BYTEARRAY8: _bytearray, pickle.GLOBAL: _global}
    return {code: theirs[code] for code in codes} | {code[0]: one for code, one in ours.items()}


class _Opcodes(dict[int, Any]):
    def __missing__(self, code: int) -> Any:
        raise _Refused(f"uses the opcode {chr(code)!r}")


_Reader.dispatch = _Opcodes(_known())


def read_bin(path: StoragePath) -> tuple[list[bytes], np.ndarray]:
    """Returns the 2N encoded images of a `.bin` and bool [N]: pair i is of the images 2i and 2i + 1.

    Raises:
        Damaged: the file is cut off, or its bytes are no pickle.
        DistillError: it is a pickle of something else. Nothing that it names was run.
    """
    data = path.read_bytes()
    if data[:1] not in (b"\x80", b"("):  # Python 2 begins protocol 0 and 1 with the mark of the tuple
        raise DistillError(f"{path} is no pickle. {_EXPECTED}.")
    try:
        found = _Reader(data).load()
        images, same = _parts(found)
    except _Refused as error:
        raise DistillError(f"{path} {_in_one_line(error)}, and was not loaded. {_EXPECTED}.") from None
    except MemoryError:
        raise
    except Exception as error:  # damaged bytes raise of many classes
        reason = _in_one_line(error) or "it ends too early"
        raise Damaged(f"{path} is cut off or damaged ({reason}). Copy it again.") from error
    if len(images) != 2 * len(same):
        raise DistillError(f"{path} holds {len(images):,} images and {len(same):,} answers; expected two images for each answer. {_EXPECTED}.")
    return images, same


def _in_one_line(error: Exception) -> str:
    """Returns what is wrong, without what a file could do to a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(error)[:200])


def _parts(found: Any) -> tuple[list[bytes], np.ndarray]:
    if not isinstance(found, (tuple, list)) or len(found) != 2 or not isinstance(found[0], (tuple, list)) or not isinstance(found[1], (tuple, list, _Array)):
        raise _Refused("holds something else than two lists")
    answers = found[1].values().tolist() if isinstance(found[1], _Array) else found[1]
    odd = next((row for row, answer in enumerate(answers) if not isinstance(answer, int) or answer not in (0, 1)), None)
    if odd is not None:
        raise _Refused(f"holds {str(answers[odd])[:40]!r} as the answer of pair {odd}")
    return [_image(row, entry) for row, entry in enumerate(found[0])], np.array(answers, bool)


def _image(row: int, entry: Any) -> bytes:
    if isinstance(entry, _Array) and entry.values().dtype == np.uint8:
        entry = entry.raw
    if not isinstance(entry, bytes):
        raise _Refused(f"holds {type(entry).__name__.strip('_').lower()} as image {row}, where bytes are expected")
    return entry
