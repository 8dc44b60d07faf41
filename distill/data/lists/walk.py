"""A walk through a folder of images: class by class, in the order of the list, with what is skipped and why."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from distill.data.kinds import KINDS, SIGNS, kind_of
from distill.data.names import BROKEN, DOT, NO_IMAGE, ODD, OUT, OWN, PART, SLASH, SYSTEMS, UP, is_image, is_system
from distill.errors import DistillError
from distill.images.codec import ahead
from distill.storage.objects import RemotePath
from distill.storage.path import StoragePath, as_path

LISTERS = 16  # class folders listed at a time: a remote listing is mostly waiting
_SIGNS = frozenset(sign.encode() for sign in SIGNS)  # each folder that distill wrote has one of these names
_CONTROLS = bytes(range(32)) + b"\x7f"
_Entry = tuple[bytes, bool, int, int]  # key (a folder's ends in "/"), is a folder, bytes, nanoseconds
Files = tuple[list[str], list[int], list[int]]  # keys, sizes, times of last change (ns); 0 where not asked for


class Walk:
    """A root whose own entries have been read. names: of the folders in it; loose: files that are the rows if it is flat; others: how many other
    files are beside them; skipped: grows while `files` goes on; sized: get sizes and times too, 2 us a file."""

    def __init__(self, root: StoragePath, all_files: bool, sized: bool = False) -> None:
        self.root, self.all_files, self.sized = as_path(root), all_files, sized
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
        """Yields (class, its files) in order; all files of a flat folder at once, as the class ""."""
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
        """Returns all files below a folder; None where distill wrote the folder."""
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
        """Returns the entries of a folder that are not skipped, in the order of all keys below it (a folder's name includes its "/"). None where
        distill wrote the folder. above: the real paths of the root and of the folders on the way here."""
        found: list[_Entry] = []
        passed, signs = list[str](), list[str]()
        listed = _list_remote(self.root, folder) if isinstance(self.root, RemotePath) else _list_local(self.root, folder, above, self.sized)
        for name, is_folder, reason, size, time in listed:
            if name in _SIGNS:
                signs.append(name.decode())
            if not reason and not self.all_files:
                if is_folder and is_system(name):
                    reason = SYSTEMS
                elif not is_folder and not is_image(name):
                    reason = NO_IMAGE
            if reason == NO_IMAGE and top:  # counted once it is known whether there are classes
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


def _list_local(root: Path, folder: bytes, above: tuple[bytes, ...], sized: bool) -> Iterator[tuple[bytes, bool, str, int, int]]:
    """Yields (name, is a folder, why it is skipped, bytes, nanoseconds) for a local folder, unordered."""
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
                    except FileNotFoundError:  # removed just now
                        continue
                    yield name, False, "", status.st_size, status.st_mtime_ns
                else:
                    yield name, is_folder, reason, 0, 0
    except OSError as error:
        where = f"the folder {os.fsdecode(folder)!r}" if folder else "the folder"
        raise DistillError(f"{root}: {where} cannot be read: {error.strerror}. Let it be read, or move it out of there.") from error


def _list_remote(root: RemotePath, folder: bytes) -> Iterator[tuple[bytes, bool, str, int, int]]:
    """Yields the same for a folder of an object store, where there are no links, and no rows in folders with an empty name."""
    entries = (root / folder.decode()).listed()
    for name, is_file, size, time in entries:
        reason = PART if not name else DOT if name.startswith(".") else ""
        yield name.encode(), not is_file, reason, size, time
    if not entries and folder.count(b"/") > 1:  # an empty class folder is counted as such
        yield b"", False, SLASH, 0, 0


def _real(root: Path | RemotePath, folder: bytes) -> bytes:
    """Returns the real path of a folder; b"" in an object store, which has no links."""
    return b"" if isinstance(root, RemotePath) else os.path.realpath(os.path.join(os.fsencode(root), folder))


def _kind(entry: os.DirEntry[bytes], above: tuple[bytes, ...]) -> tuple[bool, str]:
    """Returns whether an entry that is no regular file is a folder, and why it is skipped ("" if it is not)."""
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
    """Returns keys as text, all at once: 0.1 us a key, one by one 0.7. Raises DistillError for the first one that no list may have."""
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
