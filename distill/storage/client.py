"""The clients of object stores, one a process, with their errors translated to those of distill.

pyarrow.fs does the work, and for gs:// Google's own client what pyarrow cannot: pyarrow lists the objects of a folder but not the folders
in it, takes a failed listing for a folder, and keeps Python's lock while its gs:// files wait for the network (a slow answer stops
all threads meanwhile; measured). Whole objects are read by pyarrow: 0.4 ms of CPU each, 2 with Google's client.

Each client retries by itself, with growing pauses, when a connection is cut (even in the middle of an answer) or a store answers 503.
"""

from __future__ import annotations

import errno
import io
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from distill.errors import DistillError, StoreError, how_to_install

if TYPE_CHECKING:
    from distill.storage.objects import RemotePath

SCHEMES = ("gs", "s3")
# How long a store may fail before a request is given up. With no server it takes 23 to 47 s for gs://, 26 s for s3:// (measured).
PATIENCE = timedelta(seconds=20)
ATTEMPTS = 10
WINDOW = 1 << 16  # bytes that a small read fetches: HDF5 reads its headers a few bytes at a time
NO_BUCKET, NO_UPLOAD = "NO_SUCH_BUCKET", "NO_SUCH_UPLOAD"  # their names in the texts of pyarrow (25), which has them nowhere else
Answer = TypeVar("Answer")
LOST = "Failed to flush response stream"  # an answer that the AWS client could not take in, on a busy machine; it does not ask for it again
_CODE = re.compile(f"{NO_BUCKET}|{NO_UPLOAD}")


@lru_cache(maxsize=len(SCHEMES))
def filesystem(scheme: str) -> Any:
    """Returns the pyarrow filesystem of a scheme."""
    from pyarrow import fs

    try:
        if scheme == "s3":
            # not the standard strategy: pyarrow never refills its budget of retries, so after 101 retries (or 3 in a row on cut
            # connections) a process never retries again (measured)
            retry = fs.AwsDefaultS3RetryStrategy(max_attempts=ATTEMPTS)
            return fs.S3FileSystem(retry_strategy=retry, **_endpoint("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"))
        given = _endpoint("STORAGE_EMULATOR_HOST")
        return fs.GcsFileSystem(anonymous=bool(given), retry_time_limit=PATIENCE, **given)
    except AttributeError as error:
        raise DistillError(f"{scheme}://: this pyarrow was built without it. Install the pyarrow of PyPI, or use local paths.") from error


CONNECTIONS = 256  # kept open to one host, for as many threads; urllib3 keeps ten, and warns of each that it throws away


@lru_cache(maxsize=1)
def google() -> Any:
    """Returns Google's own client."""
    try:
        from google.auth.credentials import AnonymousCredentials
        from google.cloud.storage import Client
    except ImportError as error:
        raise DistillError(f"gs:// needs Google's client. Install it: {how_to_install('gs')}.") from error
    if given := _endpoint("STORAGE_EMULATOR_HOST"):
        url = f"{given['scheme']}://{given['endpoint_override']}"
        client = Client(project=None, credentials=AnonymousCredentials(), client_options={"api_endpoint": url})  # type: ignore[no-untyped-call]
    else:
        client = Client(project=None)
    for adapter in client._http.adapters.values():
        adapter.poolmanager.connection_pool_kw["maxsize"] = CONNECTIONS
    return client


def google_retry() -> Any:
    """Returns how Google's client retries; its default takes two minutes."""
    from google.cloud.storage.retry import DEFAULT_RETRY

    return DEFAULT_RETRY.with_timeout(PATIENCE.total_seconds())


class Ranges:
    """The bytes of an object, by offset, for many threads at once.

    From s3:// pyarrow reads the object that has this name at the time of the read, and where that is shorter, it returns memory that nobody wrote
    (measured, pyarrow 25): where this matters, the caller compares the mark again afterwards.

    size: bytes. mark: the store's version of them (an ETag, or the number of the generation), "" where it was not asked for. pinned: of gs:// no
    bytes of a later object are read, which is a FileNotFoundError then; opening takes 2 ms of CPU instead of 0.4.
    """

    def __init__(self, path: RemotePath, pinned: bool = True) -> None:
        self.path, self.mark = path, ""
        self._file: Any = None  # of s3://, which knows the size too
        self._generation: int | None = None
        try:
            with translated_errors(path):
                if path.scheme == "s3":
                    self._file = asked_again(lambda: path.fs.open_input_file(path.path))
                    self.size, self.mark = self._file.size(), str(self._file.metadata().get("ETag", ""))
                elif pinned:
                    blob = self._blob()
                    blob.reload(retry=google_retry())
                    self._generation, self.size, self.mark = blob.generation, blob.size, str(blob.generation)
                else:
                    self.size = path.stat().st_size
        except FileNotFoundError:
            path.stat()  # raises DistillError where the bucket is missing
            raise

    def read(self, start: int, size: int) -> bytes:
        """Returns `size` bytes from `start` on, which must all be within the object."""
        if not size:
            return b""
        with translated_errors(self.path):
            if self._file is not None:
                data: bytes = asked_again(lambda: self._file.read_at(size, start))
            else:
                end = start + size - 1
                data = self._blob().download_as_bytes(start=start, end=end, raw_download=True, checksum=None, retry=google_retry())
        if len(data) != size:
            raise StoreError(self.path, f"{len(data):,} bytes came where {size:,} lay when it was opened")
        return data

    def _blob(self) -> Any:
        """Returns a new blob for each request, because an answer changes it."""
        bucket, _, name = self.path.path.partition("/")
        return google().bucket(bucket).blob(name, generation=self._generation)


class RemoteFile(io.RawIOBase):
    """An object as a file for reading. A read returns all that was asked for, or all up to the end."""

    def __init__(self, path: RemotePath) -> None:
        self.name = str(path)
        self._path, self._at, self._window = path, 0, (0, b"")
        self._ranges = Ranges(path, pinned=False)
        self._size: int = self._ranges.size

    def size(self) -> int:
        return self._size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence])
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._size - self._at)
        data = self._bytes(self._at, left if size is None or size < 0 else min(size, left))
        self._at += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def _bytes(self, start: int, size: int) -> bytes:
        if size > WINDOW or size == self._size:
            return self._fetch(start, size)
        begin, window = self._window
        if not begin <= start <= start + size <= begin + len(window):
            begin = max(0, min(start, self._size - WINDOW))
            window = self._fetch(begin, min(WINDOW, self._size - begin))
            self._window = begin, window
        return window[start - begin : start - begin + size]

    def _fetch(self, start: int, size: int) -> bytes:
        if not size or size < self._size or self._path.scheme == "s3":
            return self._ranges.read(start, size)
        data = self._path.read_bytes()
        if len(data) != size:
            raise StoreError(self.name, f"{len(data):,} bytes came where {size:,} lay when it was opened")
        return data


def asked_again(read: Callable[[], Answer]) -> Answer:
    """Returns what a read or a listing gives. It is done again where the AWS client lost the answer within itself, which it does not repeat by itself."""
    for _ in range(ATTEMPTS - 1):
        try:
            return read()
        except OSError as error:
            if LOST not in str(error):
                raise
    return read()


@contextmanager
def translated_errors(where: object, *passing: type[Exception]) -> Iterator[None]:
    """Translates what the clients raise in the block to FileNotFoundError or StoreError; `passing` is raised unchanged."""
    untouched: tuple[type[BaseException], ...] = (*passing, DistillError)
    try:
        yield
    except untouched:
        raise
    except _errors() as error:
        if isinstance(error, FileNotFoundError) or getattr(error, "code", None) == 404:
            raise FileNotFoundError(errno.ENOENT, "No such object", str(where)) from error
        code = _CODE.search(str(error))
        raise StoreError(where, f"the store fails or refuses ({_reason(error)})", code[0] if code else "") from error


def _reason(error: Exception) -> str:
    """Returns the core of an error text: Google's client for C++ wraps it several times."""
    text = " ".join(str(error).split()).partition(" error_info=")[0].rpartition("google::cloud::Status(")[2]
    for words in ("Permanent error", "Retry policy exhausted"):
        text = text.replace(f"{words}, with a last message of ", "")
    return text[:500].rstrip(".")


def _errors() -> tuple[type[Exception], ...]:
    from pyarrow import ArrowException

    if "google.cloud.storage" not in sys.modules:
        return OSError, ArrowException
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError
    from google.cloud.storage.exceptions import DataCorruption

    return OSError, ArrowException, GoogleAPIError, GoogleAuthError, DataCorruption


def _endpoint(*names: str) -> dict[str, str]:
    given = next((value for name in names if (value := os.environ.get(name))), "")
    parts = urlsplit(given if "://" in given else f"http://{given}")
    return {"endpoint_override": parts.netloc, "scheme": parts.scheme} if given else {}
