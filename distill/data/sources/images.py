"""Images and labels straight from files, for training without a teacher."""

from __future__ import annotations

import copy
import hashlib
import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
import pyarrow as pa

from distill.config.data import Holdout
from distill.config.stage import Balanced
from distill.data.archives.archive import is_archive
from distill.data.archives.reader import read_bytes
from distill.data.chunks import list_chunks, read_chunk, read_classes
from distill.data.kinds import is_chunk_folder
from distill.data.lists.image_list import Rule, open_list
from distill.data.sources.balance import Balance
from distill.data.sources.holdout import mask_of_list, no_rows, rows_of_part
from distill.data.sources.order import in_sequence, shuffle
from distill.data.sources.source import QUEUE, Batch, one_class, open_threads
from distill.errors import BadImage, DistillError, Reason, Unfinished
from distill.images.augmentation import Recipe
from distill.images.codec import ahead, decode_batch
from distill.images.reasons import plain
from distill.images.spec import ImageSpec
from distill.images.views import check_size, replay
from distill.storage.path import StoragePath, as_path

POOL_IDENTITIES = 4096  # whose images a balanced order shuffles together: enough to meet others each time
ROWS_AT_A_TIME = 100_000  # rows that are listed at a time
CHECKED_FIRST = 200  # images of a list that are read before the first step
NAMED = 3  # images left out that are named on the screen; the others are counted
WAYS_OUT = {  # what to do about images that are left out, by the kind of their reason
    "size": 'Set resize = "stretch" or "crop" in [data], or another size',
    "missing": "Set root in [data] to the folder that the keys start from",
}

log = logging.getLogger("distill")


class ImageSource:
    """Images and labels straight from files, for training without a teacher. `path`: folder of class folders, list, or chunks.

    A file that is no image of the size is left out of its batch and counted; the first few are named in a warning, and more than the fraction
    `max_rejects` of all rows, held-out ones too, is Unfinished. augment: a recipe by which each image is changed, anew each epoch. rule: how names
    become rows. balanced: what each batch to learn from is made of, in place of `batch` rows of any identities.
    """

    name = "images"
    fields: tuple[str, ...] = ("label",)
    dimension: int | None = None

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        size: tuple[int, int],
        batch: int,
        seed: int,
        part: str = "all",
        holdout: Holdout | None = None,
        root: str | None = None,
        threads: int = 0,
        resize: str = "none",
        exif: str = "ignore",
        augment: Recipe | None = None,
        max_rejects: float = 1.0,
        rule: Rule = Rule(),  # noqa: B008 - frozen
        balanced: Balanced | None = None,
    ) -> None:
        self.path, self.seed, self.threads = as_path(path), seed, threads
        self._plain_batch, self.balanced = batch, None if part == "held_out" else balanced
        self.augment = None if part == "held_out" else augment
        if self.augment:
            check_size(self.augment, *size)
        self.root = root or root_of(self.path)
        self.spec = ImageSpec(*size, resize, exif)
        self.image_shape = (*size, 3)
        self._keys, self._labels, names = _list_rows(self.path, rule)
        self.class_names, self.classes, self.holdout = names, len(names), holdout
        self.skipped: dict[str, Reason] = {}
        self.max_rejects = max_rejects
        self._mask = mask_of_list(self._keys, self._labels, names, holdout if part != "all" else None)
        self._take(part)

    def other(self, part: str) -> ImageSource:
        """Returns the held-out rows beside those to learn from, or the reverse, without listing them again."""
        other = copy.copy(self)
        if part == "held_out":
            other.augment, other.balanced = None, None
        other._take(part)
        return other

    def _take(self, part: str) -> None:
        self.part = part
        self._rows = rows_of_part(self._mask, part)  # numbers among all rows, which both parts share
        self.rows, self.batch, self.balance = len(self._rows), self._plain_batch, None
        self.steps = -(-self.rows // self.batch)
        if not self.rows:
            raise no_rows(self.path, part, len(self._mask), self.holdout)
        if self.balanced:
            self._by_identity = np.argsort(self._labels[self._rows], kind="stable")
            labels = self._labels[self._rows[self._by_identity]]
            sizes = np.bincount(labels)
            self.balance = Balance(self.balanced, sizes[sizes > 0], labels, self.seed, POOL_IDENTITIES)
            self.balance.check(self.path)
            self.rows, self.batch, self.steps = self.balance.rows, self.balanced.rows, self.balance.steps

    def _order(self, number: int) -> Iterator[np.ndarray]:
        """The batches of an epoch, numbers of rows of the part. Any row costs the same, so that identities are the groups of a balanced order."""
        if self.balance:
            return (self._by_identity[numbers] for pool in self.balance.pools(number) for numbers in pool)
        return in_sequence(self.rows, self.batch) if self.part == "held_out" else shuffle(self.rows, self.batch, self.seed, number)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        steps = list(islice(self._order(number), max(0, start - 1), None))
        with open_threads(self.threads) as decoders, open_threads(1) as maker:
            before = None
            for made in ahead(maker, lambda rows: self._batch(rows, number, decoders), steps[start > 0 :], QUEUE):
                # a short last batch of broken files only: the one before comes again, so that no step is missing
                before = made or before or self._batch(steps[0], number, decoders)
                if before is not None:
                    yield before

    def epoch_images(self, number: int) -> Iterator[np.ndarray]:
        yield from (images for images, _ in self.epoch(number))

    def identity(self) -> str:
        _, ends, letters = self._keys.buffers()
        ends = np.frombuffer(ends, np.int64)[: len(self._keys) + 1]
        digest = hashlib.sha256(self._labels.astype("<i4").tobytes() + ends.tobytes())
        digest.update(memoryview(letters)[: int(ends[-1])])
        return digest.hexdigest()

    def teaches_nothing(self, field: str) -> str:
        return one_class([self._labels[self._rows]], len(self._rows), self.classes, self.augment is not None)

    def look_first(self) -> None:
        """Reads some rows from all over the list. Unfinished where none of them can be used, or they alone are too many to be left out."""
        some = self._rows[np.unique(np.linspace(0, len(self._rows) - 1, CHECKED_FIRST).round().astype(np.int64))]
        with open_threads(self.threads) as decoders:
            keys, _, bad = self._decode(some, decoders)
        if len(bad) == len(keys):
            self.skipped = {keys[row]: reason for row, reason in bad.items()} | self.skipped
            raise Unfinished(f"{self.root}: none of {len(keys)} images from all over the list can be used: {self._summarise_left_out()}.")
        self._leave_out({keys[row]: reason for row, reason in bad.items()})

    @property
    def left_out(self) -> Mapping[str, int]:
        return Counter(reason.kind for reason in list(self.skipped.values()))

    def _batch(self, numbers: np.ndarray, epoch: int, decoders: ThreadPoolExecutor) -> Batch | None:
        """A batch of these rows of the part without those that cannot be used; None where that is all of a last short one."""
        rows = self._rows[numbers]
        keys, images, bad = self._decode(rows, decoders)
        self._leave_out({keys[row]: reason for row, reason in bad.items()})
        good = [row for row in range(len(keys)) if row not in bad]
        if not good and len(keys) == min(self.batch, self.rows):
            raise DistillError(f"{self.root}: none of the {len(keys)} images of a batch can be used: {self._summarise_left_out()}.")
        if not good:
            return None
        if self.augment:
            images = replay(images, self.augment, self.seed, keys, epoch + 1)
        return images[good] if bad else images, {"label": self._labels[rows[good]]}

    def _decode(self, rows: np.ndarray, decoders: ThreadPoolExecutor) -> tuple[list[str], np.ndarray, dict[int, Reason]]:
        """Keys and images of rows among all, and {place among them: reason} of those that cannot be used."""
        keys = self._keys.take(pa.array(rows)).to_pylist()
        found = list(decoders.map(self._read, keys))
        images, bad = decode_batch([b"" if isinstance(each, Reason) else each for each in found], self.spec, decoders)
        return keys, images, bad | {place: each for place, each in enumerate(found) if isinstance(each, Reason)}

    def _read(self, key: str) -> bytes | Reason:
        try:
            return read_bytes(self.root, key)
        except BadImage as error:
            return error.reason

    def _leave_out(self, bad: dict[str, Reason]) -> None:
        """Counts and names what cannot be used, a batch at a time, so that each process counts the same. Unfinished where that is too much by now."""
        for key, reason in bad.items():
            if self.skipped.setdefault(key, reason) is reason and len(self.skipped) <= NAMED:
                log.warning("%s: %r is left out: %s", self.root, key, plain(reason))
        if len(self.skipped) > self.max_rejects * len(self._mask):
            share = f"more than max_rejects = {self.max_rejects:g} of {len(self._mask):,}"
            why = f"{share}: {self._summarise_left_out()}, or leave more out: max_rejects in [data]."
            raise Unfinished(f"{self.root}: {len(self.skipped):,} images cannot be used so far, {why}")

    def _summarise_left_out(self) -> str:
        """How many of each kind, one of them, and what to do about the commonest kind."""
        (kind, _), *_ = counts = Counter(self.left_out).most_common()
        key, reason = next((key, reason) for key, reason in list(self.skipped.items()) if reason.kind == kind)
        kinds = ", ".join(f"{count:,} {each}" for each, count in counts)
        return f"{kinds}; {key!r} for one: {plain(reason)}. {WAYS_OUT.get(kind, 'Mend or remove them')}"


def _list_rows(path: StoragePath, rule: Rule) -> tuple[pa.Array, np.ndarray, Sequence[str]]:
    """All keys, labels int32 and class names of a folder, list or chunk folder; an error where a row has no label."""
    parts: Iterator[tuple[list[str], np.ndarray | None]]
    if is_chunk_folder(path):
        chunks = (read_chunk(chunk) for chunk in list_chunks(path))
        parts, names = ((chunk.keys, chunk.labels) for chunk in chunks), read_classes(path)
    else:
        images = open_list(path, rule)
        parts, names = iter(images.batches(ROWS_AT_A_TIME)), images.classes
    keys, labels = [pa.array([], pa.large_string())], [np.empty(0, np.int32)]
    for some, numbers in parts:
        if numbers is None or (numbers < 0).any():
            raise DistillError(f'{path}: source "images" learns from labels, but rows have none. Use a folder of class folders or path<TAB>label lines.')
        keys.append(pa.array(some, pa.large_string()))
        labels.append(numbers)
    return pa.concat_arrays(keys), np.concatenate(labels), names


def root_of(path: StoragePath) -> str:
    """Returns where the keys of a list begin, if nothing else is said: a folder or record file itself; of a list, or of chunks, their folder."""
    return str(path if is_archive(path) or path.is_dir() and not is_chunk_folder(path) else path.parent)
