"""A folder of class folders, or of images alone, as files in one fixed order. Memory grows with the files of one folder, not with all.

Every regular file below a class folder, at any depth, is a row if it has an image suffix (SUFFIXES, in any case) or none;
its key is the path below the root, parts separated by "/". Order: UTF-8 bytes of the class, then UTF-8 bytes of the key. Links are followed
as long as they stay in the root. A folder in which no class folder has rows is flat: the files directly in it are the rows, without labels.

Other names are counted by reason: rows + skipped names = names, where a skipped folder (a system's, one with a leading dot, or one
that distill wrote: a set, chunks, a run, an export) counts once with all that is in it. A class folder without rows is no class. With
`all_files`, the rule of earlier versions, a file of any suffix is a row, and every other folder without a leading dot is a class.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from distill.data.lists.walk import Files, Walk
from distill.data.names import BESIDE, EMPTY, NO_IMAGE, OUT, SUFFIXES
from distill.errors import DistillError
from distill.runtime.lines import many
from distill.storage.path import StoragePath


@dataclass
class FolderList:
    """A folder as an image list; see `distill.data.lists.image_list.ImageList`. A flat folder has no classes."""

    root: StoragePath
    classes: list[str]
    rows: int
    skipped: dict[str, int]
    all_files: bool = False

    def batches(self, rows: int) -> Iterator[tuple[list[str], np.ndarray | None]]:
        for keys, labels, _, _ in self._batches(rows, sized=False):
            yield keys, labels

    def sized_batches(self, rows: int) -> Iterator[tuple[list[str], np.ndarray | None, list[int], list[int]]]:
        """Yields batches with the size and the time (ns) of each file too."""
        return self._batches(rows, sized=True)

    def _batches(self, rows: int, sized: bool) -> Iterator[tuple[list[str], np.ndarray | None, list[int], list[int]]]:
        number = {name: number for number, name in enumerate(self.classes)}
        keys, labels, sizes, times = list[str](), list[int](), list[int](), list[int]()
        done = 0
        for name, (new, new_sizes, new_times) in Walk(self.root, self.all_files, sized).files(flat=not self.classes):
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
    """Returns the list of a folder, which is read once. Raises DistillError where nothing in it can be a row."""
    walk = Walk(root, all_files)
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


def _refuse_beside(walk: Walk, counts: dict[str, int], rows: int) -> None:
    """Raises DistillError where more images are beside the class folders than in them: a flat folder with some other folder in it."""
    loose = sum(b"." in key and key.rpartition(b".")[2].lower() in SUFFIXES for key, _, _, _ in walk.loose)
    if loose > rows:
        inside = next(name for name, count in counts.items() if count)
        raise DistillError(
            f"{walk.root}: {loose:,} images lie beside the class folders, and only {rows:,} in them ({inside!r} for one), so which are meant is not clear. "
            "Move those beside them into a folder of their own in it, or the others out of it, or name a text list of the files."
        )


def list_files(root: StoragePath, all_files: bool = False) -> Iterator[Files]:
    """Yields keys, sizes and times of all rows in their order, in one pass, to compare them with an earlier listing."""
    walk, rows = Walk(root, all_files, sized=True), 0
    for _, files in walk.files():
        rows += len(files[0])
        yield files
    if not rows:
        yield walk.flat()


def _changed(root: StoragePath, how: str) -> DistillError:
    return DistillError(f"{root} changed while it was read: {how}. Run it again.")


def _no_images(walk: Walk) -> str:
    """Returns the message for a folder without rows: what is in it, and a way out where that suggests one."""
    if not walk.names and not walk.skipped and not any(walk.root.iterdir()):
        return f"{walk.root} is empty. Expected a folder for each class with images in it, or a folder with images."
    passed = ", ".join(many(count, reason) for reason, count in walk.skipped.items()) or "nothing else"
    where = f" in {many(len(walk.names), 'class folders')}" if walk.names else ""
    return f"{walk.root}: no images{where} (skipped: {passed}). {_way_out(walk)}"


def _way_out(walk: Walk) -> str:
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
