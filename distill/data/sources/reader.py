"""Makes the batches of an epoch from the row groups of a set: read a row group at a time, put together a group of a batch at a time, not a row at a time."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from distill.data.archives.reader import read_bytes
from distill.data.shards import Rows, view_column
from distill.data.sources.source import QUEUE, Batch
from distill.errors import BadImage, DistillError, Reason
from distill.images.codec import decode_batch, start_decoding
from distill.images.views import replay

if TYPE_CHECKING:
    from distill.data.sources.shards import ShardSource


@dataclass(frozen=True)
class _Picks:
    """What a batch shows, a number each: rows numbered through all groups of the part, the group of each, its row in that group as stored, and the
    place of its view among those that the group shows."""

    numbers: np.ndarray
    groups: np.ndarray
    rows: np.ndarray
    places: np.ndarray

    def __getitem__(self, at: np.ndarray) -> _Picks:
        return _Picks(self.numbers[at], self.groups[at], self.rows[at], self.places[at])

    def __len__(self) -> int:
        return len(self.numbers)


class EpochReader:
    """Makes the batches of one epoch, and keeps what they share in memory until its last use: open groups, and images of rows that come again.

    views: int64 [groups, V], which views of its rows each group shows.
    """

    def __init__(self, source: ShardSource, number: int, views: np.ndarray, decoders: ThreadPoolExecutor) -> None:
        self.source, self.part, self.number, self.views, self.decoders = source, source._part, number, views, decoders
        self.inline, self.again = source.set.meta.images == "inline", views.shape[1] > 1
        self.changes = source.augment is not None or source.views != "plain"
        self.open = dict[int, Rows]()
        self.images = dict[int, np.ndarray]()
        self._begun = itertools.count()
        self._decoding = dict[int, tuple[set[int], Callable[[], object]]]()  # of each batch begun: its groups, and who waits for it
        self._starts = self.part.starts
        self._to_come = self.part.sizes * (0 if source.balance else views.shape[1])  # of each group, as far as is known
        self._most = 2 * source.pool  # groups in memory
        self._shown = Counter[int]()  # of each row whose image is kept

    def tasks(self, pools: Iterable[Iterable[np.ndarray]], start: int) -> Iterator[Callable[[], Callable[[], Batch] | None]]:
        """Yields what is to be done, in order: each task begins a batch and returns who waits for it, or None where there is nothing to wait for.

        In a balanced order a pool is known before the batches of the one before it are begun, so that groups of both stay open.

        Args:
            pools: the batches of an epoch, numbers of rows; those of a balanced order a pool at a time.
            start: the first step that is wanted.
        """
        steps, counted = itertools.count(), self.source.balance is not None
        for pool, following in itertools.pairwise(itertools.chain([()], pools, [()])):
            if counted and len(rows := np.asarray(following)):
                yield partial(self._expect, rows)
            for numbers in pool:
                yield partial(self._take, numbers, next(steps) >= start)

    def _expect(self, numbers: np.ndarray) -> None:
        """Counts rows that are still to come."""
        self._to_come += np.bincount(self.locate(numbers.ravel()).groups, minlength=len(self._to_come))
        self._most = max(self._most, int(np.count_nonzero(self._to_come)))

    def _take(self, numbers: np.ndarray, wanted: bool) -> Callable[[], Batch] | None:
        picks = self.locate(numbers)
        begun = self.begin(picks) if wanted else None
        self.release(picks)
        return begun

    def locate(self, numbers: np.ndarray) -> _Picks:
        """Finds the rows that `distill.data.sources.order` numbers."""
        shown, places = np.divmod(numbers, self.views.shape[1])
        return _Picks(shown, np.searchsorted(self._starts, shown, side="right") - 1, self.part.rows[shown], places)

    def begin(self, picks: _Picks) -> Callable[[], Batch]:
        """Reads a batch and starts to decode it. Returns the function that waits for it.

        Its images are decoded while later batches are read, so that each thread has a whole batch: threads that share a batch wait for one
        another at its end, which takes 1.15 times as long. Not where memory would grow, or where images are changed in one thread afterwards.
        """
        if self.again or self.changes or not self.inline or self.source.set.meta.groups:
            made = self.make(picks)
            return lambda: made
        self._wait_for_memory(picks)
        stored, values = self._gather(picks)
        tasks = -(-(self.source.threads or os.cpu_count() or 1) // QUEUE)  # of each of QUEUE batches: enough for all threads
        wait = start_decoding([found.images[row] for found, row in stored], self.source.set.image, self.decoders, tasks)

        key = next(self._begun)  # not `finish`, which would refer to itself and keep its images until garbage is collected

        def finish() -> Batch:
            images = self._checked(picks, *wait())
            self._decoding.pop(key, None)
            return images, values

        self._decoding[key] = set(picks.groups.tolist()), wait
        return finish

    def _wait_for_memory(self, picks: _Picks) -> None:
        """Lets no more groups be in memory than two pools have: closed ones stay there until the images of their rows are decoded."""
        for key, (_, wait) in list(self._decoding.items()):
            decoding = [groups for groups, _ in list(self._decoding.values())]
            if len(set(self.open).union(picks.groups.tolist(), *decoding)) <= self._most:
                return
            wait()
            self._decoding.pop(key, None)

    def make(self, picks: _Picks) -> Batch:
        """A batch; of a set whose groups were cut by bytes a pool of groups at a time, so that memory does not grow with its images."""
        groups = np.unique(picks.groups)
        if not self.source.set.meta.groups:
            return self._batch(picks)
        if len(groups) <= self.source.pool:
            made = self._batch(picks)
            self._shrink(2 * self.source.pool)
            return made
        pixels, values = np.empty((len(picks), *self.source.image_shape), np.uint8), dict[str, np.ndarray]()
        for first in range(0, len(groups), self.source.pool):
            at = np.flatnonzero(np.isin(picks.groups, groups[first : first + self.source.pool]))
            pixels[at], some = self._batch(picks[at])
            for name, column in some.items():
                values.setdefault(name, np.empty((len(picks), *column.shape[1:]), column.dtype))[at] = column
            self._shrink(self.source.pool)
        return pixels, values

    def release(self, picks: _Picks) -> None:
        """Lets go of what no later batch needs."""
        self._to_come -= np.bincount(picks.groups, minlength=len(self._to_come))
        for group in [group for group in self.open if not self._to_come[group]]:
            del self.open[group]
        for number in picks.numbers.tolist() if self.again else ():
            self._shown[number] += 1
            if self._shown[number] == self.views.shape[1]:
                del self._shown[number]
                self.images.pop(number, None)

    def _shrink(self, most: int) -> None:
        """Closes the groups that were read first, beyond so many; they are read again where rows of them are still to come."""
        for group in list(self.open)[:-most]:
            del self.open[group]

    def _batch(self, picks: _Picks) -> Batch:
        stored, values = self._gather(picks)
        # decoded in many threads, then changed in this one alone, while the others rest: a change is many short calls
        pixels = self._decode_kept(picks, stored) if self.again else self._decode(picks, stored)
        if self.changes:
            source, keys = self.source, [found.keys[row] for found, row in stored]
            if source.augment:
                pixels = replay(pixels, source.augment, source.seed, keys, self.number + 1)
            else:
                pixels = replay(pixels, source.set.meta.recipe, source.set.meta.view_seed, keys, self.views[picks.groups, picks.places].tolist())
        return np.asarray(pixels), values

    def _gather(self, picks: _Picks) -> tuple[list[tuple[Rows, int]], dict[str, np.ndarray]]:
        """Where each image is stored, and the embeddings and labels: a group at a time."""
        size = self.source.set.dimension
        embeddings, labels = np.empty((len(picks), size), np.float32), np.empty(len(picks), np.int32)
        for group in np.unique(picks.groups).tolist():
            if group not in self.open:
                self.open[group] = self._read(group)
            found, at = self.open[group], np.flatnonzero(picks.groups == group)
            embeddings[at] = found.embeddings.reshape(len(found), -1, size)[picks.rows[at], picks.places[at]]
            labels[at] = found.labels[picks.rows[at]]
        stored = [(self.open[group], row) for group, row in zip(picks.groups.tolist(), picks.rows.tolist(), strict=True)]
        return stored, {"embedding": embeddings, "label": labels} if "label" in self.source.fields else {"embedding": embeddings}

    def _read(self, group: int) -> Rows:
        columns = [*map(view_column, self.views[group].tolist()), "label", *(["image"] if self.inline else ["key", "image_sha256"])]
        if self.changes:
            columns.append("key")
        shard, number = self.part.groups[group]
        return next(self.source.set.read(shard, [number], columns))

    def _decode_kept(self, picks: _Picks, stored: list[tuple[Rows, int]]) -> list[np.ndarray]:
        """The plain images, one of each row, kept until the last time that it comes."""
        numbers = picks.numbers.tolist()
        new = {number: place for place, number in enumerate(numbers) if number not in self.images}
        at = list(new.values())
        if at:
            self.images.update(zip(new, self._decode(picks[np.array(at)], [stored[place] for place in at]), strict=True))
        return [self.images[number] for number in numbers]

    def _decode(self, picks: _Picks, stored: list[tuple[Rows, int]]) -> np.ndarray:
        """The plain images, uint8 [B, H, W, 3]."""
        encoded = [found.images[row] for found, row in stored] if self.inline else list(self.decoders.map(self._read_image, stored))
        return self._checked(picks, *decode_batch(encoded, self.source.set.image, self.decoders))

    def _checked(self, picks: _Picks, images: np.ndarray, bad: dict[int, Reason]) -> np.ndarray:
        for place, reason in bad.items():
            shards, (shard, number) = self.source.set, self.part.groups[picks.groups[place]]
            row = sum(shards.group_rows(shard)[:number]) + int(picks.rows[place])
            where = f"{shards.shards[shard]}, row {row:,}"
            raise DistillError(f"{where}: an image that the teacher could read cannot be decoded now: {reason}. Run distill verify --deep.")
        return images

    def _read_image(self, stored: tuple[Rows, int]) -> bytes:
        (rows, row), root = stored, str(self.source.root)
        key = rows.keys[row]
        try:
            data = read_bytes(root, key)
        except BadImage as reason:
            raise DistillError(f"{root}: {key!r}: {reason}. The set was made with --images path and needs the same files; check root.") from reason
        if hashlib.sha256(data).digest() != rows.image_sha256[row]:
            raise DistillError(f"{root}: {key!r} is not the file that the teacher saw (another sha256). Put the old file back, or embed that chunk again.")
        return data
