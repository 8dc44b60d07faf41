"""`.tar` files of images with labels, as WebDataset writes them: `n01/17.jpg` and, for its label, `n01/17.cls`.

The rows are those of the same files in a folder (`distill.data.lists.folder`: suffixes, system folders, leading dots), in the order of the tar; a key is
`tar:<name>`. The name up to its first dot is the sample, and the text of `<sample>.cls` is its label: a class number, or a class name, as in a
text list. Either every image has a label or none has; where there are labels, a file without a suffix is no image. A hard link is another name of
an earlier file; a symbolic link is followed inside the tar, to a file or to all files below a folder, and these rows come last. Names that are no
rows are counted by reason.
A tar has no index, so each process reads all headers once and keeps the names: this suits tars of some 100,000 images.
"""

import posixpath
import re
import tarfile
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from distill.data.archives.archive import Archive, open_archive
from distill.data.names import BROKEN, DOT, NO_IMAGE, ODD, OUT, SYSTEMS, UP, is_image, is_system
from distill.errors import BadImage, DistillError
from distill.images.codec import MAX_BYTES
from distill.runtime.lines import many
from distill.storage.path import StoragePath

PREFIX = "tar:"
LABEL = ".cls"
MOST_LINKS = 40  # links to links that are followed, as operating systems do
MOST = 10_000_000  # names, links included
UNUSED = "labels without an image"

_LABEL = re.compile(r"(?!-[0-9])[^\x00-\x1f\x7f]{1,1000}")
_NUMBER = re.compile("0|[1-9][0-9]*")
_LONG = re.compile(rb"(?:\A|\n)[0-9]+ (path|linkpath)=([^\n]*)(?=\n)")


@dataclass
class TarList:
    """A tar; see `distill.data.lists.image_list.ImageList`. root: the file itself. labels: int32 [n], None where images have none."""

    root: StoragePath
    rows: int
    classes: list[str]
    skipped: dict[str, int]
    keys: list[str]
    labels: np.ndarray | None

    def batches(self, rows: int) -> Iterator[tuple[list[str], np.ndarray | None]]:
        for start in range(0, self.rows, rows):
            yield self.keys[start : start + rows], None if self.labels is None else self.labels[start : start + rows]


class TarFile(Archive):
    """An open tar. members: {name: (start, size)} in the order of the tar. skipped: how many names are neither file nor folder, by reason."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.members: dict[str, tuple[int, int]] = {}
        self.skipped: dict[str, int] = {}
        self.originals: dict[str, str] = {}  # {name of a link: name of its file}
        links: dict[str, str] = {}
        self._texts: dict[str, bytes] = {}  # of label files
        at, long, source = 0, dict[str, str](), self.forward()
        while any(head := source.read(at, tarfile.BLOCKSIZE)):  # a block of zeros, or none, is the end
            try:
                info = tarfile.TarInfo.frombuf(head, "utf-8", "strict")
                start, size = at + tarfile.BLOCKSIZE, 0 if info.type in b"123456" else info.size  # links, devices and folders have no bytes
                at = start + -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
                if size < 0 or at > self.size:
                    raise DistillError(f"{path} is truncated: {info.name!r} has {size:,} bytes, {self.size - start:,} are there.")
                if info.type in b"LKxgX":
                    if info.type != b"g":  # names too long for the next header, as GNU and POSIX write them
                        long |= _long(info.type, source.read(start, min(size, 2**16)))
                    continue
            except (tarfile.HeaderError, UnicodeDecodeError) as error:
                raise DistillError(f"{path}: no tar header at byte {at:,} ({error}). Expected a whole tar without compression.") from error
            name, target, long = long.get("path") or info.name, long.get("linkpath") or info.linkname, {}
            if info.islnk() or info.issym():
                target = posixpath.normpath(target if info.islnk() else posixpath.join(posixpath.dirname(name), target))
                if links.setdefault(name, target) != target or name in self.members:
                    raise DistillError(f"{path} holds {name!r} twice. Each name may be in a tar once.")
                continue
            if info.isdir():
                continue
            if not info.isreg() or info.issparse():
                self.skipped[ODD] = self.skipped.get(ODD, 0) + 1
                continue
            if self.members.setdefault(name, (start, size)) != (start, size) or name in links:
                raise DistillError(f"{path} holds {name!r} twice. Each file may be in a tar once.")
            if name.endswith(LABEL):  # read now: in a store each would be a request of its own later
                self._texts[name] = source.read(start, min(size, 4096))
        if any(source.read(at, 2**16)):
            raise DistillError(f"{path} goes on behind its end at byte {at:,}. Expected one tar, not several in one file.")
        self._follow(links)

    def _follow(self, links: dict[str, str]) -> None:
        """Adds a name for each file that a link leads to, or that lies below the folder it leads to. links: {name: target}."""
        files = {posixpath.normpath(name): name for name in self.members}
        targets = {posixpath.normpath(name): target for name, target in links.items()}
        waiting: dict[str, str] = {}  # to folders, or nowhere
        for name in links:
            target, reason = _resolved(posixpath.normpath(name), targets)
            if target in files and not reason:
                self._alias(name, files[target], files)
            elif not reason:
                waiting[name] = target
            else:
                self.skipped[reason] = self.skipped.get(reason, 0) + 1
        while waiting:  # a folder that contains a link to another folder waits for that one
            inside = sorted(map(posixpath.normpath, waiting))
            ready = {name: target for name, target in waiting.items() if not _below(inside, target) and target != "."}
            for name, target in ready.items():
                below = _below(sorted(files), target)
                for one in below:
                    self._alias(name + one.removeprefix(target), files[one], files)
                if not below:
                    self.skipped[BROKEN] = self.skipped.get(BROKEN, 0) + 1
                del waiting[name]
            if not ready:
                self.skipped[UP] = self.skipped.get(UP, 0) + len(waiting)
                return

    def _alias(self, name: str, of: str, files: dict[str, str]) -> None:
        if len(self.members) >= MOST:
            raise DistillError(f"{self.path}: its links make over {MOST:,} names of {len(files):,} files. Unpack it, and name the folder.")
        if name in self.members:
            return
        self.members[name], self.originals[name] = self.members[of], self.originals.get(of, of)
        files.setdefault(posixpath.normpath(name), name)
        if of in self._texts:
            self._texts.setdefault(name, self._texts[of])

    def text(self, name: str) -> str:
        """Returns the label in the file `name`."""
        text = self._texts[name].decode(errors="replace").removeprefix("\ufeff").strip()
        if not _LABEL.fullmatch(text):
            raise DistillError(f"{self.path}: {name!r} holds {text[:40]!r}. Expected a class number from 0, or a class name.")
        return text


def open_tar(path: StoragePath, max_classes: int) -> TarList:
    """Returns the list of a tar. Raises DistillError with the file in it that is wrong."""
    file = open_archive(str(path), TarFile)
    file.confirm()
    labels = {_sample(name): name for name in file.members if name.endswith(LABEL)}
    names, skipped = _images(file, labelled=bool(labels))
    if not names:
        raise DistillError(f"{path}: no images among {many(len(file.members), 'files')}. Expected names such as 17.jpg, and 17.cls for its label.")
    for name in names:
        if re.search(r"[\x00-\x1f\x7f]", name):
            raise DistillError(f"{path}: the name {name!r} holds a control character. Rename it.")
        if labels and _label_of(file, name, labels) is None:
            raise DistillError(f"{path}: {name!r} has no label, there is no {_sample(name) + LABEL!r}. Give every image a label, or none.")
    texts = [file.text(_label_of(file, name, labels) or "") for name in names] if labels else []
    classes = _class_table(path, set(texts), max_classes)
    number = {name: number for number, name in enumerate(classes)}
    if unused := len(labels.keys() - {_sample(name) for name in names}):
        skipped[UNUSED] = unused
    numbers = np.array([number[text] for text in texts], np.int32) if labels else None
    return TarList(path, len(names), classes, skipped, [PREFIX + name for name in names], numbers)


def _images(file: TarFile, labelled: bool) -> tuple[list[str], dict[str, int]]:
    """Returns the names that are rows, by the rule of folders (`distill.data.lists.folder`), and how many others there are, by reason."""
    names, skipped = [], dict(file.skipped)
    for name in file.members:
        *folders, last = (part for part in name.split("/") if part != ".")
        if any(part.startswith(".") and part != ".." for part in (*folders, last)):
            reason = DOT
        elif any(is_system(part.encode()) for part in folders):
            reason = SYSTEMS
        elif last.endswith(LABEL):
            continue
        elif not is_image(last.encode()) or labelled and "." not in last:
            reason = NO_IMAGE
        else:
            names.append(name)
            continue
        skipped[reason] = skipped.get(reason, 0) + 1
    return names, skipped


def _below(names: list[str], folder: str) -> list[str]:
    """Returns those of the sorted names that lie below a folder."""
    start = bisect_left(names, f"{folder}/")
    return names[start : bisect_left(names, f"{folder}0", start)]  # "0" follows "/"


def _long(kind: bytes, data: bytes) -> dict[str, str]:
    """Returns the long names {"path": ..., "linkpath": ...} from the header before a file."""
    if kind in b"LK":
        return {"path" if kind == b"L" else "linkpath": data.rstrip(b"\0").decode()}
    return {found[1].decode(): found[2].decode() for found in _LONG.finditer(data)}


def _resolved(name: str, links: dict[str, str]) -> tuple[str, str]:
    """Returns (final target of a name, why it cannot be followed, or ""). Each part of the name may be a link itself."""
    for _ in range(MOST_LINKS):
        parts = name.split("/")
        link = next((head for count in range(1, len(parts) + 1) if (head := "/".join(parts[:count])) in links), None)
        if link is None:
            return name, OUT if name.startswith(("/", "../")) or name == ".." else ""
        name = posixpath.normpath(posixpath.join(links[link], *parts[link.count("/") + 1 :]))
    return name, UP


def read_member(path: str, key: str) -> bytes:
    """Returns the bytes of the file that `key` ("tar:n01/17.jpg") names.

    Raises BadImage where it is missing, empty, too large or truncated, DistillError where the tar is missing or damaged, OSError where the storage fails.
    """
    file = open_archive(path, TarFile)
    start, size = file.members.get(key.removeprefix(PREFIX), (0, -1))
    if size < 0:
        raise BadImage("no such file in the tar", "missing")
    if size > MAX_BYTES:
        raise BadImage(f"the file has {size:,} bytes, {MAX_BYTES:,} at most are read", "large")
    data = file.read(start, size)
    if not size:
        raise BadImage("the file is empty", "empty")
    if len(data) < size:
        raise BadImage("truncated: the tar ends inside the file")
    return data


def _label_of(file: TarFile, name: str, labels: dict[str, str]) -> str | None:
    """Returns the name of an image's label file: its own, or that of the file that a link leads to."""
    return labels.get(_sample(name)) or labels.get(_sample(file.originals.get(name, name)))


def _sample(name: str) -> str:
    folder, slash, last = name.rpartition("/")
    return folder + slash + last.partition(".")[0]


def _class_table(path: StoragePath, names: set[str], max_classes: int) -> list[str]:
    """Returns the classes as for a text list: "0" to the largest number where all are numbers, else the names by their UTF-8 bytes."""
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
