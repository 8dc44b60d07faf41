"""gs:// and s3:// as paths, and what they have in common with a local one (StoragePath).

An object appears whole or not at all, so nothing here has temporary names: what is committed is written to local disk, then uploaded in
one go. Folders are only common beginnings of names; making one does nothing.

Credentials and regions are found as Google's and Amazon's own tools find them (environment, files, the machine's role). Another service
or an emulator is named as those tools name it: AWS_ENDPOINT_URL, STORAGE_EMULATOR_HOST.
"""

from __future__ import annotations

import atexit
import difflib
import errno
import io
import os
import re
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Protocol

from distill.errors import DistillError, StoreError
from distill.storage.client import NO_BUCKET, NO_UPLOAD, SCHEMES, Ranges, RemoteFile, filesystem, google, google_retry, told

UPLOADS = 3  # of one object, where the store has lost what it had of it
BLOCK = 8 << 20
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")  # anything else with a colon in it is a local path


class StoragePath(Protocol):
    """What a local path and one in an object store both can. Who needs more (a lock, a rename, a name for another program) asks for
    pathlib.Path, and gets it by isinstance."""

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


def place(path: str | os.PathLike[str] | StoragePath) -> Path | RemotePath:
    """A local path as pathlib.Path; one of gs:// or s3:// as a RemotePath. Each is a StoragePath."""
    if isinstance(path, RemotePath):
        return path
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{path!r} is no path. Expected a str or an os.PathLike.")
    text = os.fspath(path)
    match = _ADDRESS.match(text)
    if match is None:
        if text.startswith(("gs:/", "s3:/")) and not os.path.lexists(text[:3]):  # nobody means a new folder called "gs:"
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
    """A name beside a path that is not there and that may be meant, as a sentence: " Did you mean runs/student?"; "" where none is like it."""
    wanted = place(path)
    if not isinstance(wanted, Path):
        return ""
    with suppress(OSError):
        names = [entry.name for entry in os.scandir(wanted.parent) if not entry.name.startswith(".") or wanted.name.startswith(".")]
        close = [name for name in names if name.lower() == wanted.name.lower()] or difflib.get_close_matches(wanted.name, names, 1)
        return f" Did you mean {wanted.parent / close[0]}?" if close else ""
    return ""


def readable(path: StoragePath) -> Any:
    """What pyarrow and h5py open: an object as a file that reads ranges, a local path from the root on.

    To pyarrow a relative path with a colon ("out-10:30/...") is an address. DistillError for a name that is not UTF-8, which it cannot open.
    """
    if not isinstance(path, Path):
        return path.open("rb")
    found = path.absolute()
    if "\\udc" in ascii(str(found)):
        raise DistillError(f"{ascii(str(found))}: this name is not UTF-8, and Parquet files are opened by names that are. Rename the folder.")
    return found


def is_remote(path: object) -> bool:
    """Whether a path, or the text of one, lies in an object store."""
    return isinstance(path, RemotePath) or isinstance(path, str) and _ADDRESS.match(path) is not None


@dataclass(frozen=True, order=True)
class RemotePath:
    """scheme: "gs" or "s3"; path: bucket/name, without a slash at either end.

    A bucket that is not there is a DistillError, an object that is not there a FileNotFoundError, a store that fails a StoreError.
    """

    scheme: str
    path: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.path}"

    def __truediv__(self, name: str) -> RemotePath:
        return RemotePath(self.scheme, f"{self.path}/{name}".rstrip("/"))

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def stem(self) -> str:
        return Path(self.name).stem

    @property
    def suffix(self) -> str:
        return Path(self.name).suffix

    @property
    def parent(self) -> RemotePath:
        return RemotePath(self.scheme, self.path.rpartition("/")[0] or self.path)

    @property
    def parents(self) -> tuple[RemotePath, ...]:
        """The folders above, the bucket last; of a bucket none."""
        return () if self.parent == self else (self.parent, *self.parent.parents)

    def with_name(self, name: str) -> RemotePath:
        return self.parent / name

    def with_suffix(self, suffix: str) -> RemotePath:
        return self.parent / (self.stem + suffix)

    @property
    def fs(self) -> Any:
        return filesystem(self.scheme)

    def _info(self) -> Any:
        with told(self):
            info = self.fs.get_file_info(self.path)
        if info.type.name == "NotFound":
            self._check_bucket()
        return info

    def _check_bucket(self) -> None:
        bucket = self.path.partition("/")[0]
        if not _has_bucket(self.scheme, bucket):
            raise DistillError(f"{self}: there is no bucket {bucket}. Make it first, or name another one.")

    def exists(self) -> bool:
        return self.is_file() or self.is_dir()

    def is_file(self) -> bool:
        return "/" in self.path and bool(self._info().is_file)

    def is_dir(self) -> bool:
        if self.scheme == "gs":
            return any(True for _ in self._list_google(most=1))
        return self._info().type.name == "Directory"

    def stat(self) -> RemoteStat:
        info = self._info()
        if not info.is_file:
            raise FileNotFoundError(errno.ENOENT, "No such object", str(self))
        return RemoteStat(info.size, info.mtime_ns or 0)

    def entries(self, recursive: bool = False) -> list[tuple[RemotePath, bool]]:
        """(path, is a file) of what lies below, in the store's own order; empty where nothing does."""
        from pyarrow.fs import FileSelector

        if self.scheme == "gs" and not recursive:
            return [(path, is_file) for path, is_file, _, _ in self._list_google() if path != self]
        with told(self):
            found = self.fs.get_file_info(FileSelector(self.path, recursive=recursive, allow_not_found=True))
        if not found:
            self._check_bucket()
        return [(RemotePath(self.scheme, info.path), bool(info.is_file)) for info in found]

    def listed(self) -> list[tuple[str, bool, int, int]]:
        """Returns (name, is a file, bytes, nanoseconds) of what lies directly in this folder; nothing is left out.

        The name "" stands for names with an empty part (a//b): no path of this house leads there. An object that is called as the folder
        itself, with a slash behind, is the folder's sign and is not told.
        """
        if self.scheme == "gs":
            google_says = self._list_google(sized=True)
            return [("" if path == self else path.name, is_file, size, time) for path, is_file, size, time in google_says if path != self or not is_file]
        from pyarrow.fs import FileSelector

        with told(self):
            found = self.fs.get_file_info(FileSelector(self.path, allow_not_found=True))
        if not found:
            self._check_bucket()
        return [(info.path.removeprefix(self.path).strip("/"), bool(info.is_file), info.size or 0, info.mtime_ns or 0 if info.is_file else 0) for info in found]

    def _list_google(self, most: int | None = None, sized: bool = False) -> Iterator[tuple[RemotePath, bool, int, int]]:
        """The entries of a folder, and itself where a tool has made an object of its name and a slash, or where names have an empty part."""
        bucket, _, folder = self.path.partition("/")
        prefix = f"{folder}/" if folder else ""
        try:
            with told(self):
                fields = f"items(name{',size,updated' * sized}),prefixes,nextPageToken"
                found = google().list_blobs(bucket, prefix=prefix, delimiter="/", fields=fields, max_results=most, retry=google_retry())
                files = [(blob.name, True, blob.size or 0, _nanoseconds(blob.updated)) for blob in found]
        except FileNotFoundError:
            self._check_bucket()
            raise
        for name, is_file, size, time_ns in [*files, *((name, False, 0, 0) for name in found.prefixes)]:
            yield RemotePath("gs", f"{bucket}/{name}".rstrip("/")), is_file, size, time_ns

    def iterdir(self) -> Iterator[RemotePath]:
        return (path for path, _ in self.entries())

    def glob(self, pattern: str) -> Iterator[RemotePath]:
        """Names of this folder alone, as pathlib's glob without ** gives them."""
        return (path for path in self.iterdir() if fnmatchcase(path.name, pattern))

    def open(self, mode: str = "rb") -> RemoteFile:
        """A seekable file that reads the ranges it is asked for. Nothing is written this way."""
        if mode != "rb":
            raise ValueError(f"{self}: opened for {mode!r}; objects are written in one go, by upload")
        return RemoteFile(self)

    def ranges(self) -> Ranges:
        """The bytes of the object that lies here now, by their place and for many threads."""
        return Ranges(self)

    def read_bytes(self, most: int | None = None) -> bytes:
        """The whole object. Of one larger than `most` only the beginning, which is longer than `most`."""
        blocks, size = [], 0
        for block in self._blocks():
            blocks.append(block)
            size += len(block)
            if most is not None and size > most:
                break
        return b"".join(blocks)

    def _blocks(self) -> Iterator[bytes]:
        try:
            # compression=None: by its default an object called .zst or .gz is unpacked
            with told(self), self.fs.open_input_stream(self.path, compression=None) if self.scheme == "gs" else self.fs.open_input_file(self.path) as source:
                while block := source.read(BLOCK):
                    yield block
        except FileNotFoundError:
            self._check_bucket()
            raise

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def download(self, local: Path) -> None:
        with local.open("wb") as target:
            for block in self._blocks():
                target.write(block)

    def upload(self, local: Path) -> None:
        """The bytes of a local file under this name, in one go, replacing an object there."""
        size = local.stat().st_size
        for attempt in range(UPLOADS):
            if attempt:
                time.sleep(2**attempt * (0.5 + zlib.crc32(f"{self} {attempt}".encode()) / 2**32))  # not all writers at once
            if self._upload(local, size):
                return
        raise StoreError(self, f"the store lost an upload of {size:,} bytes {UPLOADS} times")

    def _upload(self, local: Path, size: int) -> bool:
        """Whether the object is there and whole; False where the store lost what it had so far, so that all has to be sent again.

        One call of pyarrow's, because what is open when Python raises (Ctrl-C) would be closed, and so published, short as it is. And
        s3:// with its defaults for writing: writes that wait for their answers, and streams that open late, publish what they have when
        a request fails (measured, with each request of an upload failing in turn).
        """
        from pyarrow import ArrowInvalid
        from pyarrow.fs import LocalFileSystem, copy_files

        try:
            with told(self, FileNotFoundError, ArrowInvalid):
                copy_files(str(local), self.path, source_filesystem=LocalFileSystem(), destination_filesystem=self.fs, chunk_size=BLOCK)
        except (FileNotFoundError, ArrowInvalid):  # gs:// forgot the upload, or counts its bytes otherwise
            self._check_bucket()
            return False
        except StoreError as error:
            if error.code == NO_BUCKET:
                self._check_bucket()
            if error.code == NO_UPLOAD:
                return False
            raise
        info = self._info()
        if info.is_file and info.size != size:
            self.unlink(missing_ok=True)
        return bool(info.is_file) and info.size == size

    def unlink(self, missing_ok: bool = False) -> None:
        if not missing_ok:
            self.stat()
        with suppress(FileNotFoundError), told(self):  # also where the answer to a deletion was lost and it was asked for again
            self.fs.delete_file(self.path)

    def mkdir(self, **_: bool) -> None:
        """Nothing: a folder is there when something lies in it."""

    def resolve(self) -> RemotePath:
        return self


@dataclass(frozen=True)
class RemoteStat:
    """Bytes, and when the object was written (nanoseconds)."""

    st_size: int
    st_mtime_ns: int


def _nanoseconds(moment: Any) -> int:
    """A datetime, or 0 where none was asked for."""
    return round(moment.timestamp() * 1_000_000) * 1000 if moment else 0


@lru_cache(maxsize=64)
def _has_bucket(scheme: str, bucket: str) -> bool:
    try:
        return filesystem(scheme).get_file_info(bucket).type.name != "NotFound"
    except OSError:  # who may read objects may not always ask about the bucket
        return True


@lru_cache(maxsize=64)
def local_copy(path: str, beside: Callable[[Path, str], Iterable[str]] = lambda copy, path: ()) -> Path:
    """A path on this machine with the bytes of `path`: itself where it is local, else a copy of the object, or of all below it, that lasts
    as long as the process.

    beside: (copy of an object, path) to the names of those beside it that belong to it, which are copied too; one that is not there is not.
    """
    there = place(path)
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
