"""`.tar` files of images with labels, as WebDataset writes them: `n01/17.jpg` and, for its label, `n01/17.cls`.

A row is a file with the suffix of an image, in the order of the tar; its key is `tar:<name>`. The name up to its first dot is the sample,
and the text of `<sample>.cls` its label: a class number, or a class name, as in a text list. Either every image has a label or none has.
A tar has no index, so each process goes through all headers once and keeps the names: it suits tars of some 100,000 images.
"""

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distill import DistillError
from distill.holders import HeldFile, held
from distill.images import MAX_BYTES, BadImage

PREFIX = "tar:"
LABEL = ".cls"

_IMAGE = re.compile(r"(.*/)?[^./][^/]*\.(jpe?g|png|webp|bmp|gif|tiff?|p[gp]m|jp2|avif)", re.IGNORECASE | re.DOTALL)
_LABEL = re.compile(r"(?!-[0-9])[^\x00-\x1f\x7f]{1,1000}")
_NUMBER = re.compile("0|[1-9][0-9]*")
_PATH = re.compile(rb"(?:\A|\n)[0-9]+ path=([^\n]*)\n")


@dataclass
class TarList:
    """A tar; see `distill.imagelist.ImageList`. root: the file itself. labels: int32 [n], None where images have none."""

    root: Path
    rows: int
    classes: list[str]
    skipped: dict[str, int]
    keys: list[str]
    labels: np.ndarray | None

    def batches(self, rows: int) -> Iterator[tuple[list[str], np.ndarray | None]]:
        for start in range(0, self.rows, rows):
            yield self.keys[start : start + rows], None if self.labels is None else self.labels[start : start + rows]


class TarFile(HeldFile):
    """A tar and where its regular files lie: members {name: (start, size)}, in their order."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.members: dict[str, tuple[int, int]] = {}
        self._texts: dict[str, bytes] = {}  # of files that hold a label
        at, long_name, source = 0, "", self.forward()
        while any(head := source.read(at, tarfile.BLOCKSIZE)):  # a block of zeros, or none, is the end
            try:
                info = tarfile.TarInfo.frombuf(head, "utf-8", "strict")
                start, size = at + tarfile.BLOCKSIZE, 0 if info.type in b"123456" else info.size  # links, devices and folders have no bytes
                at = start + -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
                if size < 0 or at > self.size:
                    raise DistillError(f"{path} is truncated: {info.name!r} has {size:,} bytes, {self.size - start:,} are there.")
                name, long_name = long_name or info.name, ""
                if info.type in b"Lx":  # the next name does not fit its header; GNU's way, and that of POSIX
                    data = source.read(start, min(size, 2**16))
                    long_name = (data.rstrip(b"\0") if info.type == b"L" else (_PATH.search(data) or [b"", b""])[1]).decode()
            except (tarfile.HeaderError, UnicodeDecodeError) as error:
                raise DistillError(f"{path}: no tar header at byte {at:,} ({error}). Expected a whole tar without compression.") from error
            if not info.isreg() or info.issparse():
                continue
            if self.members.setdefault(name, (start, size)) != (start, size):
                raise DistillError(f"{path} holds {name!r} twice. Each file may be in a tar once.")
            if name.endswith(LABEL):  # far away each would be a request of its own, later
                self._texts[name] = source.read(start, min(size, 4096))
        if any(source.read(at, 2**16)):
            raise DistillError(f"{path} goes on behind its end at byte {at:,}. Expected one tar, not several in one file.")

    def text(self, name: str) -> str:
        """The label that a file holds."""
        text = self._texts[name].decode(errors="replace").removeprefix("\ufeff").strip()
        if not _LABEL.fullmatch(text):
            raise DistillError(f"{self.path}: {name!r} holds {text[:40]!r}. Expected a class number from 0, or a class name.")
        return text


def open_tar(path: Path, max_classes: int) -> TarList:
    """The list of a tar. DistillError names the file in it that is wrong."""
    file = held(str(path), TarFile)
    file.confirm()
    names = [name for name in file.members if _IMAGE.fullmatch(name)]
    if not names:
        raise DistillError(f"{path}: no images among {len(file.members)} files. Expected names such as 17.jpg, and 17.cls for its label.")
    labels = {_sample(name): name for name in file.members if name.endswith(LABEL)}
    for name in names:
        if re.search(r"[\x00-\x1f\x7f]", name):
            raise DistillError(f"{path}: the name {name!r} holds a control character. Rename it.")
        if labels and _sample(name) not in labels:
            raise DistillError(f"{path}: {name!r} has no label, there is no {_sample(name) + LABEL!r}. Give every image a label, or none.")
    texts = [file.text(labels[_sample(name)]) for name in names] if labels else []
    classes = _class_table(path, set(texts), max_classes)
    number = {name: number for number, name in enumerate(classes)}
    others = len(file.members) - len(names) - len(labels)
    skipped = {"files that are no images": others} if others else {}
    numbers = np.array([number[text] for text in texts], np.int32) if labels else None
    return TarList(path, len(names), classes, skipped, [PREFIX + name for name in names], numbers)


def read_member(path: str, key: str) -> bytes:
    """The bytes of the file that `key` ("tar:n01/17.jpg") names. Raises BadImage where they cannot be had.

    A tar that is not there or is damaged is a DistillError, and failing storage an OSError.
    """
    file = held(path, TarFile)
    start, size = file.members.get(key.removeprefix(PREFIX), (0, -1))
    if size < 0:
        raise BadImage("no such file in the tar")
    if size > MAX_BYTES:
        raise BadImage(f"the file has {size:,} bytes, {MAX_BYTES:,} at most are read")
    data = file.read(start, size)
    if not data or len(data) < size:
        raise BadImage("truncated: the tar ends inside the file" if size else "the file is empty")
    return data


def _sample(name: str) -> str:
    folder, slash, last = name.rpartition("/")
    return folder + slash + last.partition(".")[0]


def _class_table(path: Path, names: set[str], max_classes: int) -> list[str]:
    """As for a text list: "0" to the largest number where all are numbers, else the names by their UTF-8 bytes."""
    numbers = {name for name in names if _NUMBER.fullmatch(name)}
    if numbers == names:
        large = next((name for name in numbers if len(name) > 9 or int(name) >= max_classes), None)
        if large is not None:
            raise DistillError(f"{path}: label {large[:40]!r}: class numbers end at {max_classes - 1:,}; for a name, add a letter.")
        return [str(number) for number in range(max(map(int, numbers), default=-1) + 1)]
    if numbers and not any(name.isascii() and name.isdigit() for name in names - numbers):
        mixed = f"numbers ({min(numbers)!r}) and names ({min(names - numbers)!r})"
        raise DistillError(f"{path}: labels are a mix of {mixed}. Write all as numbers from 0, or all as names.")
    return sorted(names, key=str.encode)
