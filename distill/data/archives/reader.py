"""A key becomes bytes: a file below a folder or in an object store, or one image of a record file or a tar. The only place where that happens."""

import errno
import os
import stat
from functools import lru_cache
from typing import Any

from distill.data.archives.recordio import read_record
from distill.data.archives.tar import read_member
from distill.errors import BadImage, DistillError
from distill.images.codec import MAX_BYTES
from distill.storage.path import as_path, is_remote

_MISSING = {errno.ENOENT, errno.ENOTDIR}
_UNREADABLE = {errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.ENXIO}


def read_bytes(root: str, key: str) -> bytes:
    """Returns the bytes of the file `key` (relative, parts separated by "/") in the folder `root`, or of one image in the archive `root`.

    Raises:
        BadImage: the key or a link on its way leaves the root, or the file is missing, empty, unreadable, no regular file or over 256 MiB.
        DistillError: the root is missing, which is not the image's fault.
        OSError: the storage fails, which is not either.
    """
    if root.lower().endswith(".rec") and key.startswith("rec:"):
        return read_record(root, key)
    if root.lower().endswith(".tar") and key.startswith("tar:"):
        return read_member(root, key)
    if is_remote(root):
        return _read_object(root, key)
    parts = key.split("/")
    if not key or "\0" in key or os.path.isabs(key) or ".." in parts:
        raise BadImage("the key is not a path below the root", "unreadable")
    path = os.path.join(root, key)
    if not _stays_inside(root, os.path.dirname(path)):
        raise BadImage("a link in the path leads out of the root", "unreadable")
    try:
        descriptor = _open(root, path)
    except OSError as error:
        if error.errno in _MISSING:
            if not os.path.isdir(root):
                raise DistillError(f"{root}: no such folder, so no image can be read. Name the images' root folder with --root.") from error
            raise BadImage("no such file under the root", "missing") from error
        if error.errno in _UNREADABLE:
            raise BadImage(f"the file cannot be opened: {os.strerror(error.errno)}", "unreadable") from error
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise BadImage("not a regular file", "unreadable")
        if status.st_size > MAX_BYTES:
            raise BadImage(f"the file has {status.st_size:,} bytes, {MAX_BYTES:,} at most are read", "large")
        with open(descriptor, "rb", buffering=0, closefd=False) as file:
            data = file.readall()
    finally:
        os.close(descriptor)
    if not data:
        raise BadImage("the file is empty", "empty")
    return data


def _read_object(root: str, key: str) -> bytes:
    """Reads from an object store, where no link can lead out of the root; see `read_bytes`."""
    if not key or key.startswith("/") or ".." in key.split("/"):
        raise BadImage("the key is not a path below the root", "unreadable")
    try:
        opened: Any = (as_path(root) / key).open("rb")  # knows its size without another request
        with opened as file:
            size = file.size()
            if size > MAX_BYTES:
                raise BadImage(f"the file has {size:,} bytes, {MAX_BYTES:,} at most are read", "large")
            data: bytes = file.read()
    except FileNotFoundError as error:
        raise BadImage("no such file under the root", "missing") from error
    if not data:
        raise BadImage("the file is empty", "empty")
    return data


def _open(root: str, path: str) -> int:
    # NONBLOCK: opening a named pipe must not wait for its writer. NOFOLLOW: the whole path is resolved only for a link, which is rare.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    try:
        return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0))
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
    real = os.path.realpath(path)
    if not _below(os.path.realpath(root), real):
        raise BadImage("the file is a link that leads out of the root", "unreadable")
    return os.open(real, flags)


@lru_cache(maxsize=4096)  # resolving takes about 20 us, decoding 90; keys of one folder follow one another
def _stays_inside(root: str, folder: str) -> bool:
    return _below(os.path.realpath(root), os.path.realpath(folder))


def _below(root: str, path: str) -> bool:
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)
