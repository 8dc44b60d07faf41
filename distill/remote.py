"""gs:// and s3:// as paths: those methods of pathlib.Path that the rooms use, over pyarrow.fs, which pages listings and tries again.

An object appears whole or not at all, so nothing here has temporary names: what is committed is written to local disk, then uploaded in
one go. Folders are only common beginnings of names; making one does nothing.

Credentials and regions are found as Google's and Amazon's own tools find them (environment, files, the machine's role). Another service
or an emulator is named as those tools name it: AWS_ENDPOINT_URL, STORAGE_EMULATOR_HOST.
"""

from __future__ import annotations

import atexit
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from distill import DistillError

SCHEMES = ("gs", "s3")
ATTEMPTS = 8  # of a request that failed for the store's reasons (503, a cut connection), with growing pauses: about a minute
PATIENCE = timedelta(minutes=2)  # the same for gs://
BLOCK = 8 << 20


def place(path: str | os.PathLike[str]) -> Path:
    """A local path as pathlib.Path; one of gs:// or s3:// as a RemotePath, which has those of its methods that the rooms use."""
    if isinstance(path, RemotePath):
        return cast(Path, path)
    scheme, _, rest = os.fspath(path).partition("://")
    if not rest:
        return Path(path)
    if scheme not in SCHEMES:
        raise DistillError(f"{path}: {scheme}:// is no place that distill reads. Expected a local path, gs://BUCKET/NAME or s3://BUCKET/NAME.")
    return cast(Path, RemotePath(scheme, "/".join(part for part in rest.split("/") if part)))


def readable(path: Path) -> Any:
    """What pyarrow and h5py open: a local path as it is, an object as a file that reads ranges."""
    return path.open("rb") if isinstance(path, RemotePath) else path


def is_remote(path: object) -> bool:
    """Whether a path, or the text of one, lies in an object store."""
    return isinstance(path, RemotePath) or isinstance(path, str) and "://" in path


@dataclass(frozen=True, order=True)
class RemotePath:
    """scheme: "gs" or "s3"; path: bucket/name, without a slash at either end."""

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
    def suffix(self) -> str:
        return Path(self.name).suffix

    @property
    def parent(self) -> RemotePath:
        return RemotePath(self.scheme, self.path.rpartition("/")[0] or self.path)

    @property
    def fs(self) -> Any:
        return filesystem(self.scheme)

    def _info(self) -> Any:
        return self.fs.get_file_info(self.path)

    def exists(self) -> bool:
        return self._info().type.name != "NotFound"

    def is_file(self) -> bool:
        return bool(self._info().is_file)

    def is_dir(self) -> bool:
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
            return self._entries_of_google()

        found = self.fs.get_file_info(FileSelector(self.path, recursive=recursive, allow_not_found=True))
        return [(RemotePath(self.scheme, info.path), bool(info.is_file)) for info in found]

    def _entries_of_google(self) -> list[tuple[RemotePath, bool]]:
        """pyarrow gives the objects directly in a folder of gs://, but not the folders in it, which are only beginnings of names."""
        bucket, _, folder = self.path.partition("/")
        prefix = f"{folder}/" if folder else ""
        found = _google().list_blobs(bucket, prefix=prefix, delimiter="/", fields="items(name),prefixes,nextPageToken")
        files = [blob.name for blob in found if blob.name != prefix]
        names = [(name, True) for name in files] + [(name.rstrip("/"), False) for name in found.prefixes]
        return [(RemotePath("gs", f"{bucket}/{name}"), is_file) for name, is_file in names]

    def iterdir(self) -> Iterator[RemotePath]:
        return (path for path, _ in self.entries())

    def glob(self, pattern: str) -> Iterator[RemotePath]:
        """Names of this folder alone, as pathlib's glob without ** gives them."""
        return (path for path in self.iterdir() if fnmatchcase(path.name, pattern))

    def open(self, mode: str = "rb") -> Any:
        """A seekable file that reads the ranges it is asked for. Nothing is written this way."""
        if mode != "rb":
            raise ValueError(f"{self}: opened for {mode!r}; objects are written in one go, by upload")
        return self.fs.open_input_file(self.path)

    def read_bytes(self) -> bytes:
        with self.open() as file:
            return file.read()

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def unlink(self, missing_ok: bool = False) -> None:
        try:
            self.fs.delete_file(self.path)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def mkdir(self, **_: bool) -> None:
        """Nothing: a folder is there when something lies in it."""

    def resolve(self) -> RemotePath:
        return self

    def upload(self, local: Path) -> None:
        """The bytes of a local file under this name, in one go, replacing an object there."""
        wanted = local.stat().st_size
        try:
            with local.open("rb") as source, self.fs.open_output_stream(self.path) as target:
                while block := source.read(BLOCK):
                    target.write(block)
            arrived = self.stat().st_size
            if arrived != wanted:
                raise OSError(errno.EIO, f"{arrived} bytes arrived of {wanted}", str(self))
        except BaseException:  # a stream that failed publishes what it had when it is closed: a short object must not stay
            with suppress(OSError):
                self.unlink(missing_ok=True)
            raise

    def download(self, local: Path) -> None:
        with self.open() as source, local.open("wb") as target:
            while block := source.read(BLOCK):
                target.write(block)

    def remove_tree(self) -> None:
        for path, is_file in self.entries(recursive=True):
            if is_file:
                path.unlink(missing_ok=True)


@dataclass(frozen=True)
class RemoteStat:
    """Bytes, and when the object was written (nanoseconds)."""

    st_size: int
    st_mtime_ns: int


@lru_cache(maxsize=64)
def local_copy(path: str) -> Path:
    """A path on this machine with the bytes of `path`: itself where it is local, else a copy of the object, or of all below it, that lasts
    as long as the process."""
    there = place(path)
    if not isinstance(there, RemotePath):
        return there
    folder = Path(tempfile.mkdtemp(prefix="distill-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    if there.is_file():
        there.download(folder / there.name)
        return folder / there.name
    for found, is_file in there.entries(recursive=True):
        if is_file:
            target = folder / there.name / found.path.removeprefix(f"{there.path}/")
            target.parent.mkdir(parents=True, exist_ok=True)
            found.download(target)
    return folder / there.name


@lru_cache(maxsize=len(SCHEMES))
def filesystem(scheme: str) -> Any:
    """The pyarrow filesystem of a scheme, one a process."""
    from pyarrow import fs

    try:
        if scheme == "s3":
            given = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
            retry = fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS)
            return fs.S3FileSystem(retry_strategy=retry, **_endpoint(given))
        given = os.environ.get("STORAGE_EMULATOR_HOST")
        return fs.GcsFileSystem(anonymous=bool(given), retry_time_limit=PATIENCE, **_endpoint(given))
    except AttributeError as error:
        raise DistillError(f"{scheme}://: this pyarrow was built without it. Install the pyarrow of PyPI, or use local paths.") from error


@lru_cache(maxsize=1)
def _google() -> Any:
    """Google's own client, for listings."""
    try:
        from google.cloud import storage
    except ImportError as error:
        raise DistillError("Listing a folder of gs:// needs Google's client. Install it: pip install 'distill[gs]'.") from error
    return storage.Client.create_anonymous_client() if os.environ.get("STORAGE_EMULATOR_HOST") else storage.Client()


def _endpoint(given: str | None) -> dict[str, str]:
    if not given:
        return {}
    parts = urlsplit(given if "://" in given else f"http://{given}")
    return {"endpoint_override": parts.netloc, "scheme": parts.scheme}
