"""Local paths and paths of object stores (gs://, s3://), and what both have in common (StoragePath)."""

from __future__ import annotations

import atexit
import difflib
import io
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Protocol

from distill.errors import DistillError
from distill.storage.client import SCHEMES, RemoteFile
from distill.storage.objects import RemotePath

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")  # anything else with a colon in it is a local path


class StoragePath(Protocol):
    """The methods that local and remote paths share. Code that needs more (a lock, a rename, a name for another program) takes
    pathlib.Path, and narrows to it by isinstance."""

    @property
    def name(self) -> str: ...

    @property
    def stem(self) -> str: ...

    @property
    def suffix(self) -> str: ...

    @property
    def parent(self) -> StoragePath: ...

    @property
    def parents(self) -> Sequence[StoragePath]: ...

    def __truediv__(self, name: str, /) -> StoragePath: ...

    def __lt__(self, other: Any, /) -> bool: ...

    def __hash__(self) -> int: ...

    def with_name(self, name: str, /) -> StoragePath: ...

    def with_suffix(self, suffix: str, /) -> StoragePath: ...

    def resolve(self) -> StoragePath: ...

    def exists(self) -> bool: ...

    def is_file(self) -> bool: ...

    def is_dir(self) -> bool: ...

    def stat(self) -> Stat: ...

    def iterdir(self) -> Iterator[StoragePath]: ...

    def glob(self, pattern: str, /) -> Iterator[StoragePath]: ...

    def open(self, mode: Literal["rb"], /) -> io.BufferedReader | RemoteFile: ...

    def read_bytes(self) -> bytes: ...

    def read_text(self, encoding: str = ...) -> str: ...

    def unlink(self, missing_ok: bool = ...) -> None: ...

    def mkdir(self, *, parents: bool = ..., exist_ok: bool = ...) -> None: ...


class Stat(Protocol):
    """Bytes, and when they were written (nanoseconds)."""

    @property
    def st_size(self) -> int: ...

    @property
    def st_mtime_ns(self) -> int: ...


def as_path(path: str | os.PathLike[str] | StoragePath) -> Path | RemotePath:
    """Returns a local path as pathlib.Path, one of gs:// or s3:// as RemotePath. Both are a StoragePath."""
    if isinstance(path, RemotePath):
        return path
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{path!r} is no path. Expected a str or an os.PathLike.")
    text = os.fspath(path)
    match = _ADDRESS.match(text)
    if match is None:
        if text.startswith(("gs:/", "s3:/")) and not os.path.lexists(text[:3]):  # surely not meant as a new folder "gs:"
            raise DistillError(f"{path}: expected two slashes, as in {text[:3]}//BUCKET/NAME.")
        return Path(path)
    scheme, rest = match[1], "/".join(part for part in text[match.end() :].split("/") if part)
    if scheme not in SCHEMES:
        way_out = " Leave file:// out." if scheme == "file" else ""
        raise DistillError(
            f"{path}: {scheme}:// is no place that distill reads or writes. Expected a local path, gs://BUCKET/NAME or s3://BUCKET/NAME.{way_out}"
        )
    if not rest:
        raise DistillError(f"{path} names no bucket. Expected {scheme}://BUCKET/NAME.")
    return RemotePath(scheme, rest)


def close_to(path: str | StoragePath) -> str:
    """Returns a similar name beside a missing path as a sentence, " Did you mean runs/student?"; "" where there is none."""
    wanted = as_path(path)
    if not isinstance(wanted, Path):
        return ""
    with suppress(OSError):
        names = [entry.name for entry in os.scandir(wanted.parent) if not entry.name.startswith(".") or wanted.name.startswith(".")]
        close = [name for name in names if name.lower() == wanted.name.lower()] or difflib.get_close_matches(wanted.name, names, 1)
        return f" Did you mean {wanted.parent / close[0]}?" if close else ""
    return ""


def readable(path: StoragePath) -> Any:
    """Returns what pyarrow and h5py open: a remote path as a file that fetches ranges, a local path as an absolute one.

    pyarrow takes a relative path with a colon ("out-10:30/...") for an address. Raises DistillError for a name that is not UTF-8, which it cannot open.
    """
    if not isinstance(path, Path):
        return path.open("rb")
    found = path.absolute()
    if "\\udc" in ascii(str(found)):
        raise DistillError(f"{ascii(str(found))}: this name is not UTF-8, and Parquet files are opened by names that are. Rename the folder.")
    return found


def is_remote(path: object) -> bool:
    """Returns whether a path, or its text, is one of an object store."""
    return isinstance(path, RemotePath) or isinstance(path, str) and _ADDRESS.match(path) is not None


@lru_cache(maxsize=64)
def local_copy(path: str, beside: Callable[[Path, str], Iterable[str]] = lambda copy, path: ()) -> Path:
    """Returns a local path with the bytes of `path`: itself where it is local, else a copy of the object, or of all below it, until the process ends.

    Args:
        beside: returns the names of other objects that belong to an object, of (its copy, its path); those that exist are copied too.
    """
    there = as_path(path)
    if isinstance(there, Path):
        return there
    folder = Path(tempfile.mkdtemp(prefix="distill-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    if there.is_file():
        _copy(there, folder / there.name)
        for name in (PurePosixPath(name).as_posix() for name in beside(folder / there.name, path)):
            if (there.parent / name).is_file():
                _copy(there.parent / name, folder / name)
        return folder / there.name
    for found, is_file in there.entries(recursive=True):
        if is_file:
            _copy(found, folder / there.name / found.path.removeprefix(f"{there.path}/"))
    return folder / there.name


def _copy(there: RemotePath, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    there.download(target)
