"""Lists of paths and arrays of embeddings that other programs wrote side by side, as checked rows. Nothing in them is trusted or run.

    N_img.foo + N_emb.npy     a list of paths, and float [n, D]: row n of one is row n of the other; N counts the pairs of a folder
    NAME.npz                  image_names, image_embs float [n, D] and, where there are any, image_classes: whole numbers from 0

A list of paths is text with one path a line, a JSON list, an .npy array of strings, or a pickled list of strings. From a pickle only lists, tuples and
strings are built, and no code that it names is ever called.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from distill.errors import Damaged, DistillError

_LIST, _EMBEDDINGS = re.compile(r"(\d+)_img\.(.+)"), re.compile(r"(\d+)_emb\.npy")
_MAX_RATIO = 1100  # deflate makes at most 1,032 bytes of one
_BLOCK = 1 << 14  # rows hashed at a time
_AS_TEXT = "Write the paths as text, one a line: open(NAME, 'w').write('\\n'.join(paths))"


@dataclass(frozen=True)
class Part:
    """The rows of one pair of files, or of one .npz.

    Attributes:
        name: of the files, for messages.
        paths: n paths as they were written.
        embeddings: float [n, D]; of an .npy a view of the file.
        classes: int64 [n], None where there are none.
    """

    name: str
    paths: list[str]
    embeddings: np.ndarray
    classes: np.ndarray | None = None


def read_parts(source: Path) -> tuple[list[Part], list[str]]:
    """Returns the parts of a folder, or of one .npz, in order, and notes on anything unusual.

    Raises:
        DistillError: something is missing, damaged, or does not belong together.
    """
    if source.is_file() and source.suffix.lower() == ".npz":
        return [_read_npz(source)], []
    if not source.is_dir():
        what = "names one file of a pair; name the folder that both lie in" if source.is_file() else "is not there"
        raise DistillError(f"{source} {what}. Expected a folder with 0_img.foo and 0_emb.npy, or an .npz with image_names and image_embs.")
    names = sorted(path.name for path in source.iterdir() if not path.name.startswith("."))
    lists = [(int(match[1]), name) for name in names if (match := _LIST.fullmatch(name))]
    found = [(int(match[1]), name) for name in names if (match := _EMBEDDINGS.fullmatch(name))]
    for what, numbered in (("lists", lists), ("arrays", found)):
        if len({number for number, _ in numbered}) < len(numbered):
            raise DistillError(f"{source} holds two {what} of one number among {', '.join(name for _, name in numbered)}. Leave one of each.")
    arrays = dict(found)
    for number in sorted({number for number, _ in lists} ^ arrays.keys()):
        there = arrays.get(number) or dict(lists)[number]
        raise DistillError(f"{source}: {there} is there without {number}_{'img.foo' if number in arrays else 'emb.npy'}. Put it back, or take {there} away.")
    parts = [_read_pair(source / name, source / arrays[number]) for number, name in sorted(lists)]
    parts += [_read_npz(source / name) for name in names if name.lower().endswith(".npz")]
    if not parts:
        raise DistillError(f"{source} holds no pair N_img.foo and N_emb.npy and no .npz, so nothing can be imported.")
    return parts, _gaps(sorted(arrays))


def read_embeddings(path: Path) -> tuple[list[str] | None, np.ndarray]:
    """Returns the embeddings of one .npy, a view of the file, or of one .npz (of an .npz's only array, or image_embs with image_names): float [n, D]."""
    if path.suffix.lower() == ".npy":
        found = _read_npy(path)
    else:
        with _opened_npz(path) as file:
            if len(members := file.infolist()) != 1:
                part = _read_npz(path)
                return part.paths, part.embeddings
            found = np.asarray(_member(path, file, members[0]))
    _check(str(path), found)
    return None, found


def sha256_of(parts: Sequence[Part]) -> str:
    """Returns a hash of dtype and values row by row, however the rows are split into files."""
    digest = hashlib.sha256(" ".join(sorted({part.embeddings.dtype.str for part in parts})).encode())
    for part in parts:
        for start in range(0, len(part.embeddings), _BLOCK):
            digest.update(np.ascontiguousarray(part.embeddings[start : start + _BLOCK]).data)
    return digest.hexdigest()


def check_parts(parts: list[Part]) -> None:
    """Raises DistillError where parts have embeddings of different lengths, or only some have classes."""
    first = parts[0]
    for part in parts:
        if part.embeddings.shape[1] != first.embeddings.shape[1]:
            raise DistillError(
                f"{part.name} has embeddings of {part.embeddings.shape[1]:,} numbers, {first.name} of {first.embeddings.shape[1]:,}. One set has one teacher: "
                "import them into two folders."
            )
        if (part.classes is None) != (first.classes is None):
            some, none = (part, first) if first.classes is None else (first, part)
            raise DistillError(f"{some.name} has classes and {none.name} has none. Import them into two folders, or take image_classes out.")


def _gaps(numbers: list[int]) -> list[str]:
    number = numbers[-1] - numbers[0] + 1 - len(numbers) if numbers else 0
    if not number:
        return []
    between = (missing for low, high in pairwise(numbers) for missing in range(low + 1, high))  # lazily: a name may have any number
    more = f" and {number - 5:,} more" if number > 5 else ""
    which = "number {} is" if number == 1 else "numbers {} are"
    return [f"{which.format(', '.join(map(str, islice(between, 5))) + more)} missing between {numbers[0]} and {numbers[-1]}; the others are imported"]


def _read_pair(listed: Path, array: Path) -> Part:
    paths, embeddings = read_paths(listed), _read_npy(array)
    _check(array.name, embeddings)
    if len(embeddings) != len(paths):
        raise DistillError(
            f"{array} has {len(embeddings):,} rows, {listed.name} lists {len(paths):,} paths. Expected one embedding for each path: put the two files back "
            "that were written together, or take this pair away."
        )
    return Part(f"{listed.name} and {array.name}", paths, embeddings)


def _check(name: str, embeddings: np.ndarray) -> None:
    if embeddings.ndim != 2 or not embeddings.shape[1] or embeddings.dtype.kind != "f":
        raise DistillError(f"{name} holds {embeddings.dtype} {list(embeddings.shape)}; expected floating-point embeddings [rows, numbers].")


def _read_npz(path: Path) -> Part:
    with _opened_npz(path) as file:
        there = {info.filename.removesuffix(".npy"): info for info in file.infolist()}
        missing = [name for name in ("image_names", "image_embs") if name not in there]
        if missing:
            found_names = ", ".join(sorted(there)[:6])
            raise DistillError(f"{path} holds {found_names or 'nothing'}; expected image_names, image_embs and perhaps image_classes. {missing[0]} is missing.")
        found = {name: _member(path, file, there[name]) for name in ("image_names", "image_embs", "image_classes") if name in there}
    for name in ("image_embs", "image_classes"):
        if not isinstance(found.get(name, np.empty(0)), np.ndarray):
            raise DistillError(f"{path}: {name} holds Python objects; expected numbers. Store it with astype({'float' if name == 'image_embs' else 'int'}).")
    paths, embeddings, classes = _strings(path, found["image_names"]), found["image_embs"], found.get("image_classes")
    _check(f"image_embs of {path}", embeddings)
    lengths = {"image_names": len(paths), "image_embs": len(embeddings), **({} if classes is None else {"image_classes": classes.size})}
    if len(set(lengths.values())) > 1:
        raise DistillError(f"{path}: {', '.join(f'{name} has {number:,} rows' for name, number in lengths.items())}. Expected as many of each.")
    if classes is not None and (classes.dtype.kind not in "iu" or (classes.size and classes.min() < 0)):
        raise DistillError(f"{path}: image_classes holds {classes.dtype}, or numbers below 0. Expected whole numbers from 0.")
    return Part(path.name, paths, embeddings, None if classes is None else classes.reshape(-1).astype(np.int64))


@contextmanager
def _opened_npz(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as file:
            yield file
    except (zipfile.BadZipFile, EOFError, NotImplementedError, zlib.error) as error:
        raise Damaged(f"{path} is no .npz that can be read ({error}). Copy it again.") from error


def _member(path: Path, file: zipfile.ZipFile, info: zipfile.ZipInfo) -> Any:
    """Returns an array of an .npz, an object array as a list. Its size is compared with its bytes before memory is reserved."""
    if info.file_size > _MAX_RATIO * max(info.compress_size, 1):
        raise Damaged(f"{path}: {info.filename} claims {info.file_size:,} bytes in {info.compress_size:,}. Copy the file again.")
    with file.open(info) as opened:
        return _array(f"{info.filename} of {path}", io.BytesIO(opened.read()), info.file_size)


def _read_npy(path: Path) -> np.ndarray:
    """Returns an array of numbers as a view of its file."""
    with path.open("rb") as file:
        shape, fortran, dtype = _header(str(path), file, path.stat().st_size)
        start = file.tell()
    if dtype.hasobject:
        raise DistillError(f"{path} holds Python objects; expected floating-point embeddings [rows, numbers].")
    return np.memmap(path, dtype, "r", start, shape, "F" if fortran else "C") if np.prod(shape) else np.empty(shape, dtype)


def _header(name: str, file: Any, size: int) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Returns shape, order and dtype from the header of an .npy. Raises Damaged where they do not fit its bytes."""
    try:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
        if read is None:
            raise ValueError(f"version {version} of the format")
        shape, fortran, dtype = read(file)
    except Exception as error:  # NumPy parses a header as Python literals, whose tokenizer raises of many classes
        raise Damaged(f"{name} is no .npy that can be read ({(str(error).splitlines() or ['?'])[0]}). Copy it again.") from error
    if not all(isinstance(side, int) for side in shape):
        raise Damaged(f"{name} says {dtype} {list(shape)}, which is no shape. Copy it again.")
    needed = dtype.itemsize * int(np.prod([int(side) for side in shape], dtype=object))
    if any(side < 0 for side in shape) or not dtype.hasobject and (needed != size - file.tell() or not dtype.itemsize):
        raise Damaged(f"{name} says {dtype} {list(shape)}, which are {needed:,} bytes; {size - file.tell():,} are there. Copy it again.")
    return shape, fortran, dtype


def _array(name: str, file: io.BytesIO, size: int) -> Any:
    shape, fortran, dtype = _header(name, file, size)
    if dtype.hasobject:
        return _unpickled(name, file.read())
    return np.frombuffer(file.read(), dtype).reshape(shape, order="F" if fortran else "C")


def read_paths(path: Path) -> list[str]:
    """Returns the paths of a list in any of the known formats."""
    data = path.read_bytes()
    if data.startswith(b"\x93NUMPY"):
        return _strings(path, _array(str(path), io.BytesIO(data), len(data)))
    if re.match(rb"\x80[\x02-\x05]|\(lp0\n|\]q\x00", data):
        return _strings(path, _unpickled(str(path), data))
    if data[:1] == b"[":
        try:
            return _strings(path, json.loads(data))
        except (ValueError, RecursionError):
            pass  # a text list with a folder that begins with "["
    return _lines(path, data)


def _lines(path: Path, data: bytes) -> list[str]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DistillError(f"{path} is neither text in UTF-8 nor a list that is known. {_AS_TEXT}.") from error
    if "\0" in text:
        raise DistillError(f"{path} is neither text nor a list that is known: it holds zero bytes. {_AS_TEXT}.")
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n") if text else []
    blank = next((number for number, line in enumerate(lines, 1) if not line.strip()), None)
    if blank is not None:
        raise DistillError(f"{path}: line {blank} is blank, so it is not clear which embedding belongs to which path. Take it out if it belongs to none.")
    return lines


def _strings(path: Path, found: Any) -> list[str]:
    if isinstance(found, np.ndarray):
        if found.ndim != 1 or found.dtype.kind not in "US":
            raise DistillError(f"{path}: the paths are {found.dtype} {list(found.shape)}; expected strings [rows].")
        found = found.tolist()
    if not isinstance(found, (list, tuple)):
        raise DistillError(f"{path}: the paths are one {type(found).__name__}; expected a list of strings.")
    try:
        values = [value.decode() if isinstance(value, bytes) else value for value in found]
    except UnicodeDecodeError as error:
        raise DistillError(f"{path}: a path is not UTF-8 ({error}). {_AS_TEXT}.") from error
    odd = next((number for number, value in enumerate(values) if not isinstance(value, str)), None)
    if odd is not None:
        raise DistillError(f"{path}: row {odd} is {type(values[odd]).__name__}; expected a list of strings.")
    return values


class _Array:
    """Stands for an object array of NumPy: its values as a list."""

    values: Any = None

    def __setstate__(self, state: Any) -> None:
        self.values = state[-1]


class _Ignored:
    """Stands for NumPy's dtype and class of arrays, which are not used."""

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


def _an_array(*_: Any) -> _Array:
    return _Array()


class _Lists(pickle._Unpickler):  # in Python: the one in C reserves memory for any size in the file
    """Builds lists, tuples, strings and object arrays of these; refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return _an_array
        if module == "numpy" and name in ("ndarray", "dtype"):
            return _Ignored
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def _unpickled(name: str, data: bytes) -> Any:
    try:
        found = _Lists(io.BytesIO(data)).load()
    except Exception as error:  # damaged opcodes raise of many classes
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DistillError(f"{name} is a pickle of something else than a list of strings ({reason}), and is not loaded. {_AS_TEXT}.") from error
    return found.values if isinstance(found, _Array) else found
