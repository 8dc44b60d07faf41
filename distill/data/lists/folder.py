"""A folder of class folders, or of photos alone, as files in one fixed order. Memory grows with the files of one folder, not with all.

Every regular file below a class folder, at any depth, is a row if its name ends as an image's does (SUFFIXES, in any case) or has no suffix;
its key is the path below the root, parts separated by "/". Order: UTF-8 bytes of the class, then UTF-8 bytes of the key. Links are followed
as long as they stay in the root. A folder without class folders that have rows is flat: the files in it are the rows, without labels.

What is no row is counted by its reason: rows + skipped names = names, where a folder that is passed over (of a system, a leading dot, or one
that distill wrote: a set, chunks, a run, an export) counts once with all that is in it. A class folder without rows is no class. With
`all_files`, by which earlier versions listed, a file of any suffix is a row, and every other folder without a leading dot a class.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distill.data.kinds import KINDS, SIGNS, kind_of
from distill.data.names import BESIDE, BROKEN, DOT, EMPTY, NO_IMAGE, ODD, OUT, OWN, PART, SLASH, SUFFIXES, SYSTEMS, UP, is_image, is_system
from distill.errors import DistillError
from distill.images.codec import ahead
from distill.runtime.lines import many
from distill.storage.objects import RemotePath
from distill.storage.path import StoragePath, place

LISTERS = 16  # class folders listed at a time: what is far away waits for most of the time


_SIGNS = frozenset(sign.encode() for sign in SIGNS)  # names that a folder of ours has one of
_CONTROLS = bytes(range(32)) + b"\x7f"

_Entry = tuple[bytes, bool, int, int]  # key (a folder's ends in "/"), is a folder, bytes, nanoseconds
Files = tuple[list[str], list[int], list[int]]  # keys, bytes, nanoseconds of their last change; 0 where they were not asked for


@dataclass
class FolderList:
    """A folder as an image list; see `distill.data.lists.image_list.ImageList`. No classes: a flat folder."""

    root: StoragePath
    classes: list[str]
    rows: int
    skipped: dict[str, int]
    all_files: bool = False

    def batches(self, rows: int) -> Iterator[tuple[list[str], np.ndarray | None]]:
        for keys, labels, _, _ in self._batches(rows, sized=False):
            yield keys, labels

    def sized_batches(self, rows: int) -> Iterator[tuple[list[str], np.ndarray | None, list[int], list[int]]]:
        """As `batches`, with the size and the time (ns) of each file."""
        return self._batches(rows, sized=True)

    def _batches(self, rows: int, sized: bool) -> Iterator[tuple[list[str], np.ndarray | None, list[int], list[int]]]:
        number = {name: number for number, name in enumerate(self.classes)}
        keys, labels, sizes, times = list[str](), list[int](), list[int](), list[int]()
        done = 0
        for name, (new, new_sizes, new_times) in _Walk(self.root, self.all_files, sized).files(flat=not self.classes):
            if self.classes and new and name not in number:
                raise _changed(self.root, f"the class folder {name!r} has images now")
            keys += new
            labels += [number.get(name, -1)] * len(new)
            sizes += new_sizes
            times += new_times
            done += len(new)
            whole = len(keys) // rows * rows
            for start in range(0, whole, rows):
                part = slice(start, start + rows)
                yield keys[part], self._labels(labels[part]), sizes[part], times[part]
            if whole:
                keys, labels, sizes, times = keys[whole:], labels[whole:], sizes[whole:], times[whole:]
        if done != self.rows:
            raise _changed(self.root, f"{self.rows:,} files at first, then {done:,}")
        if keys:
            yield keys, self._labels(labels), sizes, times

    def _labels(self, labels: list[int]) -> np.ndarray | None:
        return np.array(labels, np.int32) if self.classes else None


def open_folder(root: StoragePath, all_files: bool = False) -> FolderList:
    """Returns the list of a folder, which is gone through once. DistillError says what lies there where nothing can be a row."""
    walk = _Walk(root, all_files)
    counts = {name: len(keys) for name, (keys, _, _) in walk.files()}
    rows = sum(counts.values())
    flat = not rows
    if flat:
        rows = len(walk.loose)
        walk.skip(NO_IMAGE, walk.others)
    else:
        if not all_files:
            _refuse_beside(walk, counts, rows)
        walk.skip(BESIDE, len(walk.loose) + walk.others)
    classes = [] if flat else [name for name, count in counts.items() if count or all_files]
    if not all_files:
        walk.skip(EMPTY, len(counts) - len(classes))
    if not rows:
        raise DistillError(_no_images(walk))
    return FolderList(root, classes, rows, walk.skipped, all_files)


def _refuse_beside(walk: _Walk, counts: dict[str, int], rows: int) -> None:
    """DistillError where more photos lie beside the class folders than in them: a flat folder with some other folder in it."""
    photos = sum(b"." in key and key.rpartition(b".")[2].lower() in SUFFIXES for key, _, _, _ in walk.loose)
    if photos > rows:
        inside = next(name for name, count in counts.items() if count)
        raise DistillError(
            f"{walk.root}: {photos:,} images lie beside the class folders, and only {rows:,} in them ({inside!r} for one), so which are meant is not clear. "
            "Move those beside them into a folder of their own in it, or the others out of it, or name a text list of the files."
        )


def list_files(root: StoragePath, all_files: bool = False) -> Iterator[Files]:
    """Keys, sizes and times of all rows in their order, in one pass: what lies there now, for holding it against what lay there."""
    walk, rows = _Walk(root, all_files, sized=True), 0
    for _, files in walk.files():
        rows += len(files[0])
        yield files
    if not rows:
        yield walk.flat()


# ------------------------------------------------------------------------------------------------------------------------- going through


class _Walk:
    """A folder, its own entries read: names of the folders in it, `loose` files that would be rows of a flat folder, how many `others` lie
    beside them. skipped grows while `files` goes on. sized: ask for sizes and times too, 2 us a file."""

    def __init__(self, root: StoragePath, all_files: bool, sized: bool = False) -> None:
        self.root, self.all_files, self.sized = place(root), all_files, sized
        self.skipped: dict[str, int] = {}
        self.others = 0
        self._real = _real(self.root, b"")
        found = self._entries(b"", (self._real,), self.skipped, top=True)
        if found is None:
            raise DistillError(f"{root} holds {KINDS[str(kind_of(root))].what}, and no images that are listed. Name the folder of the images.")
        self.loose = [entry for entry in found if not entry[1]]
        self.names = sorted(entry[0].rstrip(b"/") for entry in found if entry[1])  # without the "/", so that "a" comes before "a b"

    def skip(self, reason: str, count: int) -> None:
        if count:
            self.skipped[reason] = self.skipped.get(reason, 0) + count

    def files(self, flat: bool = False) -> Iterator[tuple[str, Files]]:
        """(class, its files), class by class in their order; of a flat folder all at once, as the class ""."""
        if flat:
            yield "", self.flat()
            return

        def list_class(name: bytes) -> tuple[Files | None, dict[str, int]]:
            passed: dict[str, int] = {}
            below = self._below(name + b"/", (self._real,), passed)
            return None if below is None else self._texts(below), passed

        names = _texts(self.root, self.names)
        with ThreadPoolExecutor(LISTERS) as pool:
            for name, (files, passed) in zip(names, ahead(pool, list_class, self.names, 2 * LISTERS), strict=True):
                for reason, count in passed.items():
                    self.skip(reason, count)
                if files is None:
                    self.skip(OWN, 1)
                else:
                    yield name, files

    def flat(self) -> Files:
        return self._texts(self.loose)

    def _texts(self, found: Iterable[_Entry]) -> Files:
        keys, _, sizes, times = zip(*found, strict=True) if (found := list(found)) else ((), (), (), ())
        return _texts(self.root, keys), list(sizes), list(times)

    def _below(self, folder: bytes, above: tuple[bytes, ...], skipped: dict[str, int]) -> list[_Entry] | None:
        """All files below a folder; None where it is one that distill wrote."""
        above = (*above, _real(self.root, folder))
        entries = self._entries(folder, above, skipped)
        if entries is None or not any(entry[1] for entry in entries):
            return entries
        found: list[_Entry] = []
        for entry in entries:
            below = self._below(entry[0], above, skipped) if entry[1] else [entry]
            if below is None:
                skipped[OWN] = skipped.get(OWN, 0) + 1
            else:
                found += below
        return found

    def _entries(self, folder: bytes, above: tuple[bytes, ...], skipped: dict[str, int], top: bool = False) -> list[_Entry] | None:
        """What lies in a folder and is not skipped, in the order that all keys below it have: a folder counts with its "/". None where distill
        wrote the folder.

        above: the real paths of the root and of the folders on the way here.
        """
        found: list[_Entry] = []
        passed, signs = list[str](), list[str]()
        listed = _far(self.root, folder) if isinstance(self.root, RemotePath) else _near(self.root, folder, above, self.sized)
        for name, is_folder, reason, size, time in listed:
            if name in _SIGNS:
                signs.append(name.decode())
            if not reason and not self.all_files:
                if is_folder and is_system(name):
                    reason = SYSTEMS
                elif not is_folder and not is_image(name):
                    reason = NO_IMAGE
            if reason == NO_IMAGE and top:  # told when it is known whether there are classes
                self.others += 1
            elif reason:
                passed.append(reason)
            else:
                found.append((folder + name + b"/" if is_folder else folder + name, is_folder, size, time))
        if signs and kind_of(self.root / os.fsdecode(folder), signs):
            return None
        for reason in passed:
            skipped[reason] = skipped.get(reason, 0) + 1
        found.sort()
        return found


def _near(root: Path, folder: bytes, above: tuple[bytes, ...], sized: bool) -> Iterator[tuple[bytes, bool, str, int, int]]:
    """(name, is a folder, why it is skipped, bytes, nanoseconds) of what lies in a folder of this machine, in no order."""
    try:
        with os.scandir(os.path.join(os.fsencode(root), folder)) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith(b"."):
                    yield name, False, DOT, 0, 0
                    continue
                is_folder, reason = (False, "") if entry.is_file(follow_symlinks=False) else _kind(entry, above)
                if sized and not is_folder and not reason:
                    try:
                        status = entry.stat()
                    except FileNotFoundError:  # removed in this moment
                        continue
                    yield name, False, "", status.st_size, status.st_mtime_ns
                else:
                    yield name, is_folder, reason, 0, 0
    except OSError as error:
        where = f"the folder {os.fsdecode(folder)!r}" if folder else "the folder"
        raise DistillError(f"{root}: {where} cannot be read: {error.strerror}. Let it be read, or move it out of there.") from error


def _far(root: RemotePath, folder: bytes) -> Iterator[tuple[bytes, bool, str, int, int]]:
    """As `_near`, in an object store, where no name is a link and none lies in a folder of an empty name."""
    entries = (root / folder.decode()).listed()
    for name, is_file, size, time in entries:
        reason = PART if not name else DOT if name.startswith(".") else ""
        yield name.encode(), not is_file, reason, size, time
    if not entries and folder.count(b"/") > 1:  # a class folder without anything is told as such
        yield b"", False, SLASH, 0, 0


def _real(root: Path | RemotePath, folder: bytes) -> bytes:
    """Where a folder really lies; in an object store nothing leads elsewhere."""
    return b"" if isinstance(root, RemotePath) else os.path.realpath(os.path.join(os.fsencode(root), folder))


def _kind(entry: os.DirEntry, above: tuple[bytes, ...]) -> tuple[bool, str]:
    """Whether an entry that is no regular file is a folder, and why it is skipped ("" if it is not)."""
    if not entry.is_symlink():
        is_folder = entry.is_dir(follow_symlinks=False)
        return is_folder, "" if is_folder else ODD
    real = os.path.realpath(entry.path)
    if not real.startswith(above[0].rstrip(b"/") + b"/"):
        return False, UP if real in above else OUT
    if real in above:
        return False, UP
    try:
        mode = os.stat(real).st_mode
    except OSError:
        return False, BROKEN
    if stat.S_ISDIR(mode):
        return True, ""
    return False, "" if stat.S_ISREG(mode) else ODD


def _texts(root: StoragePath, keys: Iterable[bytes]) -> list[str]:
    """Keys as text. DistillError names the first one that no list can hold. All at once: 0.1 us a key, one by one 0.7."""
    keys = list(keys)
    joined = b"\n".join(keys)
    try:
        text = joined.decode()
    except UnicodeDecodeError:
        text = ""
    if len(joined.translate(None, _CONTROLS)) == len(joined) - len(keys) + 1 and (text or not joined):
        return text.split("\n") if keys else []
    for key in keys:
        try:
            text = key.decode()
        except UnicodeDecodeError as error:
            raise DistillError(f"{root}: the name {key!r} is not UTF-8. Rename it.") from error
        if key.translate(None, _CONTROLS) != key:
            raise DistillError(f"{root}: the name {text!r} holds a control character. Rename it.")
    return [key.decode() for key in keys]


def _changed(root: StoragePath, how: str) -> DistillError:
    return DistillError(f"{root} changed while it was read: {how}. Run it again.")


def _no_images(walk: _Walk) -> str:
    """What is said of a folder without a row: what lies there, and the way out where what lies there tells one."""
    if not walk.names and not walk.skipped and not any(walk.root.iterdir()):
        return f"{walk.root} is empty. Expected a folder for each class with images in it, or a folder with images."
    passed = ", ".join(many(count, reason) for reason, count in walk.skipped.items()) or "nothing else"
    where = f" in {many(len(walk.names), 'class folders')}" if walk.names else ""
    said = f"{walk.root}: no images{where} (skipped: {passed}). "
    return said + _way_out(walk)


def _way_out(walk: _Walk) -> str:
    names = sorted(path.name for path in walk.root.iterdir() if path.is_file())
    records, tars = ([name for name in names if name.lower().endswith(suffix)] for suffix in (".rec", ".tar"))
    packed = [name for name in names if name.lower().endswith((".zip", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst"))]
    if records:
        return f"It holds {records[0]}: name that file as SOURCE, {walk.root / records[0]}."
    if len(tars) == 1:
        return f"It holds {tars[0]}: name that file as SOURCE, {walk.root / tars[0]}."
    if tars:
        return f"It holds {len(tars)} tars, and one is read at a time: name each as SOURCE ({walk.root / tars[0]}), with an OUT of its own, or unpack them."
    if packed:
        return f"It holds {packed[0]}, which is packed: unpack it, and name the folder that comes out of it."
    if walk.skipped.get(OUT):
        return (
            "The links in it lead elsewhere, and only what lies below SOURCE is read: name the folder that they lead to, or a text list of the "
            "files (path<TAB>label on each line) and that folder with --root."
        )
    expected = "Expected a folder for each class with images in it, or a folder with images."
    if walk.skipped.get(NO_IMAGE) and not walk.all_files:
        return f"{expected} Files count as images by their suffix (jpg, png, webp ...) or where they have none; --all-files takes every file."
    return expected
