"""Where batches come from. Every source yields the same structure, and the same batches for the same (seed, epoch).

A batch is (images uint8 [B, H, W, 3] RGB 0..255, {"embedding": float32 [B, D], "label": int32 [B]}); `fields` says which keys are there.
Every row comes exactly once an epoch, the last batch may be short, memory does not grow with the number of rows beyond 6 bytes a row.

What makes a stream fast (measured): whole row groups of encoded bytes, a pool of some groups permuted in memory, a whole batch decoded
in threads into one array, a short queue. Anything done per image in Python or TensorFlow halves it.
"""

from __future__ import annotations

import copy
import hashlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from distill.config.run import Holdout
from distill.data.archives.archive import is_holder
from distill.data.archives.reader import read_bytes
from distill.data.chunks import list_chunks, read_chunk, read_classes
from distill.data.folders import is_chunk_folder
from distill.data.lists.image_list import Rule, open_list
from distill.data.shards import Rows, ShardSet, open_shards, view_column
from distill.data.shards.golden import check_golden
from distill.errors import BadImage, DistillError, Reason, Unfinished
from distill.images.codec import ImageSpec, ahead, decode_batch, plain
from distill.images.views import Recipe, check_size, replay
from distill.storage.path import StoragePath, place

Batch = tuple[np.ndarray, dict[str, np.ndarray]]
POOL_GROUPS = 8  # about 8,000 rows, 30 MB of 112x112 JPEGs: enough identities for a mixed batch
HAND = 1024  # rows whose views come among one another: 38 MB of pixels of 112x112
QUEUE = 4
LOOKED_AT = 200  # images of a list that are read before the first step
NAMED = 3  # images left out that are named on the screen; the others are counted
MENDED = {  # what to do about images that are left out, by the kind of their reason
    "size": 'Set resize = "stretch" or "crop" in [data], or another size',
    "missing": "Set root in [data] to the folder that the keys start from",
}
LISTED = 100_000  # rows that are listed at a time
SHORTEST = 1e-6  # length under which an embedding has no direction, as in distill/losses/terms.py
APART = 1e-3  # of one number of two unit vectors: twice what float16 moves it by

log = logging.getLogger("distill")


class Source(Protocol):
    """What the trainer asks of a source. `classes` is 0 where there are no labels; `dimension` None where there are no embeddings."""

    name: str
    fields: tuple[str, ...]
    image_shape: tuple[int, int, int]
    dimension: int | None
    classes: int
    batch: int
    rows: int
    steps: int
    left_out: Mapping[str, int]  # rows that could not be read so far, by the kind of their reason
    class_names: Sequence[str] | None  # None where rows may show anybody

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from step `start` on; skipping decodes nothing."""

    def pictures(self, number: int) -> Iterator[np.ndarray]:
        """The images of the batches of one epoch alone; no teacher is asked for them."""

    def identity(self) -> str:
        """Returns a hash of what it gives, the same wherever its files lie; "" where they are no files."""

    def teaches_nothing(self, field: str) -> str:
        """Why nothing can be learned from this field of its rows, as the end of a sentence; "" where something can."""


def held_out(name: str, fraction: float) -> bool:
    """True for about `fraction` of all names, by the first 8 bytes of blake2b as a number in [0, 1): the same rows whatever the order.

    >>> [held_out(name, 0.5) for name in ("anna", "bea", "carl", "dora")]
    [True, False, True, True]
    """
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < fraction * 2**64


class ShardSource:
    """Rows of a committed set of shards: embeddings, and labels where every row has one.

    part: "all", "train" (without the held-out rows) or "held_out" (only those, in the order of the set).
    root: where the images lie when the set was made with --images path; each file's sha256 is checked.
    views: "one" gives each row one of its views an epoch, another one in each of as many epochs as there are views; "all" gives each row
    once for each view; "plain" gives view 0. The held-out part is plain always.
    augment: a recipe by which each picture is changed, anew each epoch, while its embedding stays that of the plain picture.
    """

    name = "shards"
    left_out: Mapping[str, int] = {}  # one that cannot be read ends the epoch

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        batch: int,
        seed: int,
        part: str = "all",
        holdout: Holdout | None = None,
        root: str | None = None,
        threads: int = 0,
        views: str = "one",
        augment: Recipe | None = None,
    ) -> None:
        self.set: ShardSet = open_shards(path)
        if self.set.meta.images == "path" and root is None:
            raise DistillError(f"{path} holds no images, only their keys (--images path). Name the folder they lie in: root = FOLDER in [data].")
        check_golden(path, self.set.golden, self.set.meta)
        self.root, self.batch, self.seed, self.threads, self.holdout = root, batch, seed, threads, holdout
        self.views = "plain" if part == "held_out" or self.set.meta.views == 1 else views
        self.augment = None if part == "held_out" else augment
        if self.augment and self.views != "plain":
            raise DistillError(
                f"{path} holds {self.set.meta.views} views of each picture with an embedding for each, so augment would only spoil them. "
                'Leave augment out, or take the plain pictures: views = "plain".'
            )
        if self.augment:
            check_size(self.augment, self.set.image.height, self.set.image.width)
        self.fields = ("embedding", "label") if self.set.labelled else ("embedding",)
        self.image_shape = (self.set.image.height, self.set.image.width, 3)
        self.dimension: int | None = self.set.dimension
        self.classes = len(self.set.classes) if self.set.labelled else 0
        self.class_names = self.set.classes if self.set.labelled else None
        self._out = _held_out_rows(self.set, holdout if part != "all" else None)
        self._take(part)

    def other(self, part: str) -> ShardSource:
        """The held-out rows beside those to learn from, or the reverse, without another look at all rows."""
        other = copy.copy(self)
        if part == "held_out":
            other.views, other.augment = "plain", None
        other._take(part)
        return other

    def _take(self, part: str) -> None:
        self.part = part
        self._groups = _groups_of(self._out, part)
        self.rows = sum(len(group.kept) for group in self._groups) * (self.set.meta.views if self.views == "all" else 1)
        self.steps = -(-self.rows // self.batch)
        if not self.rows:
            raise DistillError(_no_rows(self.set.folder, part, self.set.rows, self.holdout))

    def identity(self) -> str:
        return self.set.identity

    def teaches_nothing(self, field: str) -> str:
        if field == "embedding":
            return _one_direction(rows.embeddings[group.kept] for group, rows in self._columns("embedding"))
        fresh = self.augment is not None or self.views != "plain"
        count = sum(len(group.kept) for group in self._groups)
        return _one_class((rows.labels[group.kept] for group, rows in self._columns("label")), count, self.classes, fresh)

    def _columns(self, name: str) -> Iterator[tuple[_Group, Rows]]:
        for group in self._groups:
            yield group, next(self.set.read(group.shard, [group.group], [name]))

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        units = self._units(number)
        held = _Held({unit: len(self._groups[unit.group].kept) * len(unit.views) for unit in units})
        with _threads(self.threads) as decoders, _threads(1) as maker:

            def make(numbered: tuple[int, np.ndarray]) -> Batch | None:
                step, picks = numbered
                shown = [_Shown(units[unit], row, units[unit].views[place]) for unit, row, place in picks.tolist()]
                made = self._in_parts(held, shown, number, decoders) if step >= start else None
                held.let_go(shown)
                return made

            yield from (batch for batch in ahead(maker, make, enumerate(self._order(units, number)), QUEUE) if batch is not None)

    def pictures(self, number: int) -> Iterator[np.ndarray]:
        yield from (images for images, _ in self.epoch(number))

    def _units(self, number: int) -> list[_Unit]:
        """What is read in an epoch: each group with one view, or with all. In V epochs a group goes through its V views in an order of its own."""
        groups, count = range(len(self._groups)), self.set.meta.views
        if self.views == "plain":
            return [_Unit(group, (0,)) for group in groups]
        if self.views == "all":
            return [_Unit(group, tuple(range(count))) for group in groups]
        turns = np.random.default_rng([self.seed, number // count, 1]).permuted(np.tile(np.arange(count), (len(groups), 1)), axis=1)
        return [_Unit(group, (view,)) for group, view in zip(groups, turns[:, number % count].tolist(), strict=True)]

    def _order(self, units: list[_Unit], number: int) -> Iterator[np.ndarray]:
        """(unit, row, place of the view in its unit) of every row and view, int64 [B, 3] a batch: units permuted, then the rows of POOL_GROUPS
        of them together; where a row comes in several views, these come within the same HAND rows, so that it is decoded once."""
        shuffle, views = self.part != "held_out", len(units[0].views)
        rng = np.random.default_rng([self.seed, number, 0])
        order = rng.permutation(len(units)) if shuffle else np.arange(len(units))
        rest = np.empty((0, 3), np.int64)
        for first in range(0, len(order), POOL_GROUPS):
            kept = [(unit, self._groups[units[unit].group].kept) for unit in order[first : first + POOL_GROUPS].tolist()]
            rows = np.concatenate([np.stack([np.full(len(rows), unit), rows, np.zeros_like(rows)], axis=1) for unit, rows in kept])
            if views > 1:
                rows = rng.permutation(rows)
            for hand in np.split(rows, range(HAND, len(rows), HAND)) if views > 1 else [rows]:
                shown = np.repeat(hand, views, axis=0)
                shown[:, 2] = np.tile(np.arange(views), len(hand))
                shown = np.concatenate([rest, shown])
                if shuffle:
                    shown = rng.permutation(shown)
                whole = len(shown) // self.batch * self.batch
                yield from shown[:whole].reshape(-1, self.batch, 3)
                rest = shown[whole:]
        if len(rest):
            yield rest

    def _load(self, unit: _Unit) -> Rows:
        columns = [*map(view_column, unit.views), "label", *(["image"] if self.set.meta.images == "inline" else ["key", "image_sha256"])]
        if self.views != "plain" or self.augment:
            columns.append("key")
        place = self._groups[unit.group]
        return next(self.set.read(place.shard, [place.group], columns))

    def _in_parts(self, held: _Held, shown: list[_Shown], number: int, decoders: ThreadPoolExecutor) -> Batch:
        """A batch; of a set whose groups were cut by bytes POOL_GROUPS units of it at a time, so that memory does not grow with its images."""
        if not self.set.meta.groups:
            return self._batch(held, shown, number, decoders)
        units = list(dict.fromkeys(one.unit for one in shown))
        if len(units) <= POOL_GROUPS:
            made = self._batch(held, shown, number, decoders)
            held.shrink(2 * POOL_GROUPS)
            return made
        pixels, values = np.empty((len(shown), *self.image_shape), np.uint8), dict[str, np.ndarray]()
        for first in range(0, len(units), POOL_GROUPS):
            part = set(units[first : first + POOL_GROUPS])
            places = [place for place, one in enumerate(shown) if one.unit in part]
            pixels[places], some = self._batch(held, [shown[place] for place in places], number, decoders)
            for name, column in some.items():
                values.setdefault(name, np.empty((len(shown), *column.shape[1:]), column.dtype))[places] = column
            held.shrink(POOL_GROUPS)
        return pixels, values

    def _batch(self, held: _Held, shown: list[_Shown], number: int, decoders: ThreadPoolExecutor) -> Batch:
        for unit in dict.fromkeys(one.unit for one in shown):
            if unit not in held.rows:
                held.rows[unit] = self._load(unit)
        rows, size = [held.rows[one.unit] for one in shown], self.set.dimension
        embeddings, labels = np.empty((len(shown), size), np.float32), np.empty(len(shown), np.int32)
        for at, (one, of) in enumerate(zip(shown, rows, strict=True)):
            first = one.unit.views.index(one.view) * size
            embeddings[at], labels[at] = of.embeddings[one.row, first : first + size], of.labels[one.row]
        values = {"embedding": embeddings, "label": labels} if "label" in self.fields else {"embedding": embeddings}
        # decoded in many threads, then changed in this one alone, while the others rest: a change is many short calls
        pixels = self._pixels(held, shown, decoders)
        if self.augment or self.views != "plain":
            meta, keys = self.set.meta, [of.keys[one.row] for one, of in zip(shown, rows, strict=True)]
            recipe, seed, views = meta.recipe, meta.view_seed, [one.view for one in shown]
            if self.augment:
                recipe, seed, views = self.augment, self.seed, [number + 1] * len(shown)
            pixels = replay(pixels, recipe, seed, keys, views)
        return np.asarray(pixels), values

    def _pixels(self, held: _Held, shown: list[_Shown], decoders: ThreadPoolExecutor) -> np.ndarray | list[np.ndarray]:
        """The plain pictures: one array, or where rows come again one of each, kept until the last time."""
        again = len(shown[0].unit.views) > 1
        wanted = list(dict.fromkeys(one for one in (one.plain for one in shown) if one not in held.pixels)) if again else shown
        of = [held.rows[one.unit] for one in wanted]
        inline = self.set.meta.images == "inline"
        if inline:
            encoded = [rows.images[one.row] for one, rows in zip(wanted, of, strict=True)]
        else:
            encoded = list(decoders.map(lambda place: self._read(of[place], wanted[place].row), range(len(wanted))))
        images, bad = decode_batch(encoded, self.set.image, decoders)
        if bad:
            place, reason = next(iter(bad.items()))
            raise DistillError(
                f"{self.set.folder}: an image that the teacher could read cannot be decoded now: {wanted[place]}: {reason}. Run distill verify --deep."
            )
        if not again:
            return images
        held.pixels.update(zip(wanted, images, strict=True))
        return [held.pixels[one.plain] for one in shown]

    def _read(self, rows: Rows, row: int) -> bytes:
        key = rows.keys[row]
        try:
            data = read_bytes(str(self.root), key)
        except BadImage as reason:
            raise DistillError(f"{self.root}: {key!r}: {reason}. The set was made with --images path and needs the same files; check root.") from reason
        if hashlib.sha256(data).digest() != rows.image_sha256[row]:
            raise DistillError(f"{self.root}: {key!r} is not the file that the teacher saw (another sha256). Put the old file back, or embed that chunk again.")
        return data


class ImageSource:
    """Images and labels straight from files, for training without a teacher. `path`: folder of class folders, list, or chunks.

    A file that is no image of the size is left out of its batch and counted; the first few are named in a warning, and more than the fraction
    `max_rejects` of all rows, held-out ones too, is Unfinished. augment: a recipe by which each picture is changed, anew each epoch. rule: how names
    become rows.
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
    ) -> None:
        self.path, self.batch, self.seed, self.threads = place(path), batch, seed, threads
        self.augment = None if part == "held_out" else augment
        if self.augment:
            check_size(self.augment, *size)
        self.root = root or root_of(self.path)
        self.spec = ImageSpec(*size, resize, exif)
        self.image_shape = (*size, 3)
        self._keys, self._labels, names = _listed(self.path, rule)
        self.class_names, self.classes, self.holdout = names, len(names), holdout
        self.skipped: dict[str, Reason] = {}
        self.max_rejects = max_rejects
        self._out = _outside(self._keys, self._labels, names, holdout if part != "all" else None)
        self._take(part)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        order = np.arange(self.rows)
        if self.part != "held_out":
            order = np.random.default_rng([self.seed, number, 0]).permutation(self.rows)
        cut = [order[step * self.batch : (step + 1) * self.batch] for step in range(max(0, start - 1), self.steps)]
        with _threads(self.threads) as decoders, _threads(1) as maker:
            before = None
            for made in ahead(maker, lambda rows: self._batch(rows, number, decoders), cut[start > 0 :], QUEUE):
                # a short last batch of broken files only: the one before comes again, so that no step is missing
                before = made or before or self._batch(cut[0], number, decoders)
                if before is not None:
                    yield before

    def pictures(self, number: int) -> Iterator[np.ndarray]:
        yield from (images for images, _ in self.epoch(number))

    def other(self, part: str) -> ImageSource:
        """The held-out rows beside those to learn from, or the reverse, without listing them again."""
        other = copy.copy(self)
        other.augment = None if part == "held_out" else self.augment
        other._take(part)
        return other

    def _take(self, part: str) -> None:
        self.part = part
        self._rows = _kept(self._out, part)  # places among all rows, which both parts share
        self.rows = len(self._rows)
        self.steps = -(-self.rows // self.batch)
        if not self.rows:
            raise DistillError(_no_rows(self.path, part, len(self._out), self.holdout))

    def identity(self) -> str:
        _, ends, letters = self._keys.buffers()
        ends = np.frombuffer(ends, np.int64)[: len(self._keys) + 1]
        digest = hashlib.sha256(self._labels.astype("<i4").tobytes() + ends.tobytes())
        digest.update(memoryview(letters)[: int(ends[-1])])
        return digest.hexdigest()

    def teaches_nothing(self, field: str) -> str:
        return _one_class(iter([self._labels[self._rows]]), self.rows, self.classes, self.augment is not None)

    def _batch(self, rows: np.ndarray, number: int, decoders: ThreadPoolExecutor) -> Batch | None:
        rows = self._rows[rows]
        keys = self._keys.take(pa.array(rows)).to_pylist()
        images, bad = decode_batch(list(decoders.map(self._read, keys)), self.spec, decoders)
        good = [row for row in range(len(keys)) if row not in bad]
        self._leave_out({keys[row]: reason for row, reason in bad.items()})
        if not good and len(keys) == min(self.batch, self.rows):
            raise DistillError(f"{self.root}: none of the {len(keys)} images of a batch can be used: {self._left_out_in_words()}.")
        if not good:
            return None
        if self.augment:
            images = replay(images, self.augment, self.seed, keys, number + 1)
        return images[good] if bad else images, {"label": self._labels[rows[good]]}

    def look_first(self) -> None:
        """Reads some rows from all over the list. Unfinished where none of them can be used, or they alone are too many to be left out."""
        some = self._rows[np.unique(np.linspace(0, self.rows - 1, LOOKED_AT).round().astype(np.int64))]
        keys = self._keys.take(pa.array(some)).to_pylist()
        with _threads(self.threads) as decoders:
            _, bad = decode_batch(list(decoders.map(self._read, keys)), self.spec, decoders)
        if len(bad) == len(keys):
            self.skipped |= {keys[row]: reason for row, reason in bad.items() if keys[row] not in self.skipped}
            raise Unfinished(f"{self.root}: none of {len(keys)} images from all over the list can be used: {self._left_out_in_words()}.")
        self._leave_out({keys[row]: reason for row, reason in bad.items()})

    @property
    def left_out(self) -> Mapping[str, int]:
        return Counter(reason.kind for reason in list(self.skipped.values()))

    def _read(self, key: str) -> bytes:
        try:
            return read_bytes(self.root, key)
        except BadImage as error:
            self._leave_out({key: error.reason})
            return b""

    def _leave_out(self, bad: dict[str, Reason]) -> None:
        for key, reason in bad.items():
            if self.skipped.setdefault(key, reason) is reason and len(self.skipped) <= NAMED:
                log.warning("%s: %r is left out: %s", self.root, key, plain(reason))
        if len(self.skipped) > self.max_rejects * len(self._out):
            share = f"more than max_rejects = {self.max_rejects:g} of {len(self._out):,}"
            why = f"{share}: {self._left_out_in_words()}, or leave more out: max_rejects in [data]."
            raise Unfinished(f"{self.root}: {len(self.skipped):,} images cannot be used so far, {why}")

    def _left_out_in_words(self) -> str:
        """How many of each kind, one of them, and what to do about the commonest kind."""
        (kind, _), *_ = counts = Counter(self.left_out).most_common()
        key, reason = next((key, reason) for key, reason in list(self.skipped.items()) if reason.kind == kind)
        told = ", ".join(f"{count:,} {each}" for each, count in counts)
        return f"{told}; {key!r} for one: {plain(reason)}. {MENDED.get(kind, 'Mend or remove them')}"


class NoiseSource:
    """Uniform noise 0..255 and the teacher's answer to it: steps batches an epoch, none of them twice.

    teacher: callable uint8 [B, H, W, 3] -> float32 [B, D].
    """

    name = "noise"
    fields: tuple[str, ...] = ("embedding",)
    classes = 0
    left_out: Mapping[str, int] = {}
    class_names = ()

    def __init__(self, teacher: Callable[[np.ndarray], np.ndarray], *, size: tuple[int, int], batch: int, steps: int, seed: int) -> None:
        self.teacher, self.batch, self.steps, self.seed = teacher, batch, steps, seed
        self.image_shape = (*size, 3)
        self.rows = batch * steps
        self.dimension: int | None = int(teacher(np.zeros((1, *self.image_shape), np.uint8)).shape[1])

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        with _threads(1) as maker:
            yield from ahead(maker, lambda step: self._batch(number, step), range(start, self.steps), QUEUE)

    def pictures(self, number: int) -> Iterator[np.ndarray]:
        yield from (self._images(number, step) for step in range(self.steps))

    def _images(self, number: int, step: int) -> np.ndarray:
        return np.random.default_rng([self.seed, number, step]).integers(0, 256, (self.batch, *self.image_shape), np.uint8)

    def _batch(self, number: int, step: int) -> Batch:
        images = self._images(number, step)
        return images, {"embedding": np.asarray(self.teacher(images), np.float32)}

    def identity(self) -> str:
        return ""

    def teaches_nothing(self, field: str) -> str:
        return _one_direction(self._batch(0, step)[1]["embedding"] for step in range(min(4, self.steps)))


class _Unit(NamedTuple):
    """What is read at a time: a row group, by its place in `_groups`, with the embeddings of some views."""

    group: int
    views: tuple[int, ...]


class _Shown(NamedTuple):
    """A row of a unit, in one of its views."""

    unit: _Unit
    row: int
    view: int

    @property
    def plain(self) -> _Shown:
        return self._replace(view=0)


class _Held:
    """What an epoch holds in memory: units as they were read, and the pixels of rows that come again; each let go of after its last use."""

    def __init__(self, left: dict[_Unit, int]) -> None:
        self.rows: dict[_Unit, Rows] = {}
        self.pixels: dict[_Shown, np.ndarray] = {}
        self._left, self._shown = left, Counter[_Shown]()

    def shrink(self, most: int) -> None:
        """Let go of the units that were read first, beyond so many; they are read again where rows of them are still to come."""
        for unit in list(self.rows)[:-most]:
            del self.rows[unit]

    def let_go(self, shown: list[_Shown]) -> None:
        for unit, count in Counter(one.unit for one in shown).items():
            self._left[unit] -= count
            if not self._left[unit]:
                self.rows.pop(unit, None)
        for one in shown if len(shown[0].unit.views) > 1 else ():
            row = one.plain
            self._shown[row] += 1
            if self._shown[row] == len(row.unit.views):
                del self._shown[row]
                self.pixels.pop(row, None)


@dataclass(frozen=True)
class _Group:
    """One row group: shard number, its place there, and which of its rows belong to the part (int16 [n])."""

    shard: int
    group: int
    kept: np.ndarray


def _held_out_rows(shards: ShardSet, holdout: Holdout | None) -> list[list[np.ndarray]]:
    """bool [rows] of each row group of each shard: is a row held out? Each class name is hashed once, whatever the number of groups.
    Without a holdout only footers are read, else one column."""
    if holdout is None:
        return [[np.zeros(rows, bool) for rows in shards.group_rows(shard)] for shard in range(len(shards.records))]
    column = "label" if holdout.by == "identity" else "key"
    if column == "label" and not shards.labelled:
        raise DistillError(f'{shards.folder} has rows without a label, so holdout by = "identity" is impossible. Use by = "key".')
    if column == "key":
        return [[_hashed(rows.keys, holdout) for rows in shards.read(shard, None, [column])] for shard in range(len(shards.records))]
    classes = _hashed(shards.classes, holdout)
    return [[classes[rows.labels] for rows in shards.read(shard, None, [column])] for shard in range(len(shards.records))]


def _outside(keys: pa.Array, labels: np.ndarray, names: Sequence[str], holdout: Holdout | None) -> np.ndarray:
    """bool [rows]: is a row held out?"""
    if holdout is None:
        return np.zeros(len(keys), bool)
    if holdout.by == "identity":
        return _hashed(names, holdout)[labels]
    return np.concatenate([_hashed(keys[start : start + LISTED].to_pylist(), holdout) for start in range(0, len(keys), LISTED)])


def _hashed(names: Sequence[str], holdout: Holdout) -> np.ndarray:
    return np.fromiter((held_out(name, holdout.fraction) for name in names), bool, len(names))


def _kept(out: np.ndarray, part: str) -> np.ndarray:
    """Indices of the rows that belong to the part."""
    return np.arange(len(out)) if part == "all" else np.flatnonzero(out if part == "held_out" else ~out)


def _groups_of(out: list[list[np.ndarray]], part: str) -> list[_Group]:
    """All groups with at least one row in the part."""
    found = [
        _Group(shard, group, _kept(rows, part).astype(np.int16 if len(rows) <= 2**15 else np.int32))
        for shard, groups in enumerate(out)
        for group, rows in enumerate(groups)
    ]
    return [group for group in found if len(group.kept)]


def _no_rows(where: object, part: str, rows: int, holdout: Holdout | None) -> str:
    if holdout is None:
        return f"{where} has no rows."
    share = f"{holdout.fraction:g} by {holdout.by}"
    left = f"holds out none of {rows:,} rows" if part == "held_out" else f"holds out all {rows:,} rows and leaves none to learn from"
    return f"{where}: holdout of {share} {left}. Use a {'larger' if part == 'held_out' else 'smaller'} fraction."


def _one_class(labels: Iterator[np.ndarray], rows: int, classes: int, fresh: bool) -> str:
    """Why a class head learns nothing from these rows, "" where it does. fresh: the same row looks different when it comes again.

    Stops looking as soon as it knows: two classes, and more rows than classes, so that one of them has two rows.
    """
    several = fresh or rows > classes
    seen = np.zeros(classes, np.int64)
    for part in labels:
        seen += np.bincount(part, minlength=classes)
        if (several or seen.max() > 1) and np.count_nonzero(seen) > 1:
            return ""
    if np.count_nonzero(seen) < 2:
        return f"all {rows:,} rows have one class"
    return "no class has two rows"


def _one_direction(embeddings: Iterator[np.ndarray]) -> str:
    """Why nothing is learned from these embeddings, "" where something is. Stops at the first one that points elsewhere."""
    first = None
    for part in embeddings:
        length = np.linalg.norm(part.astype(np.float64), axis=1, keepdims=True)
        directions = part[length[:, 0] > SHORTEST] / length[length > SHORTEST][:, None]
        if len(directions):
            first = directions[0] if first is None else first
            if np.abs(directions - first).max() > APART:
                return ""
    return "all embeddings are zeros" if first is None else "all embeddings point one way"


def _listed(path: StoragePath, rule: Rule) -> tuple[pa.Array, np.ndarray, Sequence[str]]:
    """All keys, labels int32 and class names of a folder, list or chunk folder; an error where a row has no label."""
    parts: Iterator[tuple[list[str], np.ndarray | None]]
    if is_chunk_folder(path):
        chunks = (read_chunk(chunk) for chunk in list_chunks(path))
        parts, names = ((chunk.keys, chunk.labels) for chunk in chunks), read_classes(path)
    else:
        images = open_list(path, rule)
        parts, names = iter(images.batches(LISTED)), images.classes
    keys, labels = [pa.array([], pa.large_string())], [np.empty(0, np.int32)]
    for some, numbers in parts:
        if numbers is None or (numbers < 0).any():
            raise DistillError(f'{path}: source "images" learns from labels, but rows have none. Use a folder of class folders or path<TAB>label lines.')
        keys.append(pa.array(some, pa.large_string()))
        labels.append(numbers)
    return pa.concat_arrays(keys), np.concatenate(labels), names


def root_of(path: StoragePath) -> str:
    """Where the keys of a list begin, if nothing else is said: a folder or record file itself; of a list, or of chunks, the folder they lie in."""
    return str(path if is_holder(path) or path.is_dir() and not is_chunk_folder(path) else path.parent)


def _threads(number: int) -> ThreadPoolExecutor:
    """0: one for each core."""
    return ThreadPoolExecutor(number or os.cpu_count() or 1, thread_name_prefix="source")
