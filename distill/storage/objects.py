"""Objects of gs:// and s3:// as paths.

An object appears whole or not at all, so there are no temporary names here: what is committed is written to local disk, then uploaded in
one go. Folders are only common prefixes of names; making one does nothing.

Credentials and regions are found as Google's and Amazon's own tools find them (environment, files, the machine's role). Another service
or an emulator is given as to those tools: AWS_ENDPOINT_URL, STORAGE_EMULATOR_HOST.
"""

from __future__ import annotations

import errno
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from distill.errors import DistillError, StoreError
from distill.storage.client import NO_BUCKET, NO_UPLOAD, Ranges, RemoteFile, asked_again, filesystem, google, google_retry, translated_errors

UPLOADS = 3  # attempts for one object where the store loses an upload
BLOCK = 8 << 20


@dataclass(frozen=True, order=True)
class RemotePath:
    """scheme: "gs" or "s3"; path: bucket/name, without a slash at either end.

    Methods raise DistillError where the bucket is missing, FileNotFoundError where the object is, and StoreError where the store fails.
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
        """The folders above, the bucket last; none for a bucket."""
        return () if self.parent == self else (self.parent, *self.parent.parents)

    def with_name(self, name: str) -> RemotePath:
        return self.parent / name

    def with_suffix(self, suffix: str) -> RemotePath:
        return self.parent / (self.stem + suffix)

    @property
    def fs(self) -> Any:
        return filesystem(self.scheme)

    def _info(self) -> Any:
        with translated_errors(self):
            info = asked_again(lambda: self.fs.get_file_info(self.path))
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
        return bool(self._info().type.name == "Directory")

    def stat(self) -> RemoteStat:
        info = self._info()
        if not info.is_file:
            raise FileNotFoundError(errno.ENOENT, "No such object", str(self))
        return RemoteStat(info.size, info.mtime_ns or 0)

    def entries(self, recursive: bool = False) -> list[tuple[RemotePath, bool]]:
        """Returns (path, is a file) of what is below, in the store's own order; empty where nothing is."""
        from pyarrow.fs import FileSelector

        if self.scheme == "gs" and not recursive:
            return [(path, is_file) for path, is_file, _, _ in self._list_google() if path != self]
        with translated_errors(self):
            found = asked_again(lambda: self.fs.get_file_info(FileSelector(self.path, recursive=recursive, allow_not_found=True)))
        if not found:
            self._check_bucket()
        return [(RemotePath(self.scheme, info.path), bool(info.is_file)) for info in found]

    def listed(self) -> list[tuple[str, bool, int, int]]:
        """Returns (name, is a file, bytes, nanoseconds) of all that is directly in this folder.

        The name "" stands for names with an empty part (a//b), which a RemotePath cannot name. An object with the name of the folder
        and a slash only marks the folder and is left out.
        """
        if self.scheme == "gs":
            entries = self._list_google(sized=True)
            return [("" if path == self else path.name, is_file, size, time) for path, is_file, size, time in entries if path != self or not is_file]
        from pyarrow.fs import FileSelector

        with translated_errors(self):
            found = asked_again(lambda: self.fs.get_file_info(FileSelector(self.path, allow_not_found=True)))
        if not found:
            self._check_bucket()
        return [(info.path.removeprefix(self.path).strip("/"), bool(info.is_file), info.size or 0, info.mtime_ns or 0 if info.is_file else 0) for info in found]

    def _list_google(self, most: int | None = None, sized: bool = False) -> Iterator[tuple[RemotePath, bool, int, int]]:
        """Yields the entries of a folder, and the folder itself where an object has its name and a slash, or where names have an empty part."""
        bucket, _, folder = self.path.partition("/")
        prefix = f"{folder}/" if folder else ""
        try:
            with translated_errors(self):
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
        """Returns paths directly in this folder, as pathlib's glob does without **."""
        return (path for path in self.iterdir() if fnmatchcase(path.name, pattern))

    def open(self, mode: str = "rb") -> RemoteFile:
        """Returns a seekable file that fetches ranges as they are read. It cannot be written."""
        if mode != "rb":
            raise ValueError(f"{self}: opened for {mode!r}; objects are written in one go, by upload")
        return RemoteFile(self)

    def ranges(self) -> Ranges:
        """Returns the bytes of the object as it is now, by offset, for many threads."""
        return Ranges(self)

    def read_bytes(self, most: int | None = None) -> bytes:
        """Returns the whole object; of one larger than `most` only a beginning that is longer than `most`."""
        blocks, size = [], 0
        for block in self._blocks():
            blocks.append(block)
            size += len(block)
            if most is not None and size > most:
                break
        return b"".join(blocks)

    def _blocks(self) -> Iterator[bytes]:
        try:
            # compression=None: by default an object named .zst or .gz is unpacked
            with (
                translated_errors(self),
                self.fs.open_input_stream(self.path, compression=None) if self.scheme == "gs" else self.fs.open_input_file(self.path) as source,
            ):
                size = 0
                while block := source.read(BLOCK) if self.scheme == "gs" else asked_again(partial(source.read_at, BLOCK, size)):
                    size += len(block)
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
        """Uploads a local file under this name in one go, replacing an object there."""
        size = local.stat().st_size
        for attempt in range(UPLOADS):
            if attempt:
                time.sleep(2**attempt * (0.5 + zlib.crc32(f"{self} {attempt}".encode()) / 2**32))  # so that writers do not retry all at once
            if self._upload(local, size):
                return
        raise StoreError(self, f"the store lost an upload of {size:,} bytes {UPLOADS} times")

    def _upload(self, local: Path, size: int) -> bool:
        """Returns whether the object is whole in the store; False where the store lost the upload, so that all has to be sent again.

        One call of pyarrow, because a stream that is open when Python raises (Ctrl-C) would be closed, and so published although short. And
        s3:// with its defaults for writing: synchronous writes and streams that open late publish a part when
        a request fails (measured, with each request of an upload failing in turn).
        """
        from pyarrow import ArrowInvalid
        from pyarrow.fs import LocalFileSystem, copy_files

        try:
            with translated_errors(self, FileNotFoundError, ArrowInvalid):
                copy_files(str(local), self.path, source_filesystem=LocalFileSystem(), destination_filesystem=self.fs, chunk_size=BLOCK)
        except (FileNotFoundError, ArrowInvalid):  # gs:// lost the upload, or counts other bytes
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
        with suppress(FileNotFoundError), translated_errors(self):  # also where the answer to a deletion was lost and it was repeated
            self.fs.delete_file(self.path)

    def mkdir(self, **_: bool) -> None:
        """Does nothing: a folder exists when something is in it."""

    def resolve(self) -> RemotePath:
        return self


@dataclass(frozen=True)
class RemoteStat:
    """Bytes, and when the object was written (nanoseconds)."""

    st_size: int
    st_mtime_ns: int


def _nanoseconds(moment: Any) -> int:
    """Returns a datetime in nanoseconds, 0 for None."""
    return round(moment.timestamp() * 1_000_000) * 1000 if moment else 0


@lru_cache(maxsize=64)
def _has_bucket(scheme: str, bucket: str) -> bool:
    try:
        return bool(asked_again(lambda: filesystem(scheme).get_file_info(bucket)).type.name != "NotFound")
    except OSError:  # permission to read objects does not include the bucket itself
        return True
