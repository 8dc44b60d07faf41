"""Proof that a committed set is whole: counts and sizes quickly, hashes and every row with `deep`, a sample against the teacher.

With `deep` a file is hashed before it is opened, and one that has changed is not opened: on damaged files HDF5's own library may end the process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from distill.data.archives.reader import read_bytes
from distill.data.chunks import list_chunks, read_chunk
from distill.data.kinds import is_chunk_folder
from distill.data.shards import FORMATS, Record, ShardMeta, ShardSet, open_shards, read_reject_log
from distill.data.shards.golden import cosine, pixel_problems, worst_answer
from distill.errors import BadImage, DistillError, Unfinished
from distill.images.codec import decode_batch
from distill.images.views import replay
from distill.runtime.lines import many
from distill.runtime.progress import phase
from distill.storage.files import sha256_file
from distill.storage.path import StoragePath

PIXELS = -2


@dataclass(frozen=True)
class Verdict:
    """What was found. problems: (chunk number, -1 for the index, PIXELS where images become other pixels here; what is wrong)."""

    rows: int
    rejects: int
    shards: int
    deep: bool
    problems: tuple[tuple[int, str], ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def in_words(self) -> str:
        how = "every hash and row" if self.deep else "counts, sizes and footers"
        found = "\n".join(f"chunk {number}: {problem}" if number >= 0 else problem for number, problem in self.problems)
        return found or f"{many(self.rows, 'rows')} and {many(self.rejects, 'rejects')} in {many(self.shards, 'shards')}: {how} are right"


def verify(path: str | StoragePath, *, deep: bool = False, on_shard: Callable[[int, int], None] = lambda done, of: None) -> Verdict:
    """Check every shard of a set. Where the chunks lie beside the shards, rows + rejects must be the chunk's rows, with its keys in order.

    What the system fails to read is an OSError, and no problem of the set.
    """
    shards = open_shards(path)
    chunks = shards.folder.parent / "chunks"
    paths = list_chunks(chunks) if is_chunk_folder(chunks) else []
    problems: list[tuple[int, str]] = []
    for number, record in enumerate(shards.records):
        chunk = paths[number] if number < len(paths) else None
        try:
            problems += [(record.number, problem) for problem in _shard_problems(shards, number, chunk, deep)]
        except Unfinished:  # a store that fails: nobody can tell
            raise
        except FileNotFoundError as error:
            problems.append((record.number, f"{error.filename} is not there"))
        except (DistillError, ValueError) as error:
            problems.append((record.number, str(error)))
        on_shard(number + 1, len(shards.records))
    problems += [(-1, problem) for problem in _index_problems(shards)]
    problems += [(PIXELS, problem) for problem in pixel_problems(shards.golden, shards.meta)]
    if deep and not problems:
        problems += [(-1, problem) for problem in _golden_problems(shards)]
    return Verdict(shards.rows, shards.rejects, len(shards.records), deep, tuple(problems))


def _index_problems(shards: ShardSet) -> Iterator[str]:
    """What the index says of the whole set is what its records add up to."""
    records, whole, index = shards.records, shards.meta, shards.layout.index
    rows, rejects = sum(record.rows for record in records), sum(record.rejects for record in records)
    if (rows, rejects, rows) != (shards.rows, shards.rejects, whole.rows):
        yield f"{index} says {shards.rows} rows and {shards.rejects} rejects, its records add up to {rows} and {rejects}"
    if [record.number for record in records] != list(range(len(records))) or any(record.of != len(records) for record in records):
        yield f"{index} does not list chunks 0 to of - 1, each once"
    norm = float(np.round(sum(record.mean_norm * record.rows for record in records) / max(rows, 1), 6))
    if (whole.chunk, whole.chunk_sha256, whole.mean_norm) != (-1, "", norm):
        yield f"{index} says chunk {whole.chunk} and mean norm {whole.mean_norm}, expected -1 and {norm}"


def _shard_problems(shards: ShardSet, number: int, chunk: StoragePath | None, deep: bool) -> Iterator[str]:
    """number: place in the index, from 0."""
    record = shards.records[number]
    shard, ledger = shards.folder / record.shard, shards.folder / record.ledger
    written = shards.folder / shards.layout.record(record.number, record.of)
    if Record.load(written) != record:
        yield f"{written.name} is not the record that {shards.layout.index} has of this chunk"
    changed = [*_changes(shard, record.shard_bytes, record.shard_sha256, deep), *_changes(ledger, record.ledger_bytes, record.ledger_sha256, deep)]
    if changed:
        yield from changed
        return
    yield from _meta_problems(shards, number, FORMATS[shards.format].read_meta(shard))
    rejected = [reject.key for reject in read_reject_log(ledger)]
    if len(rejected) != record.rejects:
        yield f"{ledger.name} has {len(rejected)} lines, its record says {record.rejects} rejects"
    expected = None
    if chunk is not None:
        source = read_chunk(chunk)
        if source.sha256 != record.chunk_sha256 or len(source.keys) != record.rows + record.rejects:
            yield f"{record.rows} rows and {record.rejects} rejects are not the {len(source.keys)} rows of chunk {chunk.name}"
            return
        gone = set(rejected)
        expected = [(key, int(label)) for key, label in zip(source.keys, source.labels, strict=True) if key not in gone] if deep else None
    if deep:
        yield from _row_problems(shards, number, expected)


def _changes(path: StoragePath, size: int, digest: str, deep: bool) -> Iterator[str]:
    there = path.stat().st_size
    if there != size:
        yield f"{path.name} has {there} bytes, its record says {size}"
    elif deep and sha256_file(path) != digest:
        yield f"{path.name}: its bytes have changed since it was written (another sha256)"


def _meta_problems(shards: ShardSet, number: int, meta: ShardMeta) -> Iterator[str]:
    record = shards.records[number]
    if (meta.rows, meta.chunk, meta.of, meta.chunk_sha256, meta.mean_norm) != (record.rows, record.number, record.of, record.chunk_sha256, record.mean_norm):
        yield f"{record.shard} is not the shard of its record: rows, chunk, of {meta.rows, meta.chunk, meta.of}, expected {record.rows, record.number, record.of}"
    whole = shards.meta
    if meta.group_rows() != shards.group_rows(number):
        yield f"{record.shard} has {len(meta.group_rows())} row groups, {shards.layout.index} says {len(shards.group_rows(number))}, or of other sizes"
    shared = replace(meta, chunk=whole.chunk, chunk_sha256=whole.chunk_sha256, rows=whole.rows, mean_norm=whole.mean_norm, groups=whole.groups)
    for name in (field.name for field in fields(whole)):
        if getattr(shared, name) != getattr(whole, name):
            yield f"{record.shard} was made with {name} {getattr(shared, name)!r}, {shards.layout.index} says {getattr(whole, name)!r}"


def _golden_problems(shards: ShardSet) -> Iterator[str]:
    """The golden rows are the first of the set, so a changed one shows beside its shard, whose hash was right."""
    first = next((number for number, record in enumerate(shards.records) if record.rows), None)
    if first is None or not shards.golden:
        return
    rows = next(shards.read(first, [0]))
    digests = rows.image_sha256 or [hashlib.sha256(image).digest() for image in rows.images]
    known = {key: (digests[row], tuple(rows.embeddings[row].tolist())) for row, key in enumerate(rows.keys)}
    for golden in shards.golden:
        if known.get(golden.key) != (hashlib.sha256(golden.image).digest(), golden.embedding):
            yield f"{shards.layout.index}: the golden row {golden.key!r} is not what {shards.records[first].shard} holds"


def _row_problems(shards: ShardSet, number: int, expected: list[tuple[str, int]] | None) -> Iterator[str]:
    rows = labelled = 0
    for group in shards.read(number):
        found = list(zip(group.keys, group.labels.tolist(), strict=True))
        if expected is not None and found != expected[rows : rows + len(found)]:
            yield f"rows {rows} to {rows + len(found) - 1}: keys and labels are not the chunk's, in its order, without the rejects"
        if not np.isfinite(group.embeddings).all():
            yield f"rows {rows} to {rows + len(found) - 1}: an embedding is not finite"
        rows, labelled = rows + len(found), labelled + int((group.labels >= 0).sum())
    if expected is not None and rows != len(expected):
        yield f"{rows} rows, {len(expected)} are expected"
    if labelled != shards.records[number].labelled:
        yield f"{labelled} rows have a label, the record says {shards.records[number].labelled}"


@phase("labelling a sample again")
def check_sample(
    path: str | StoragePath, teacher: Callable[[np.ndarray], np.ndarray], *, number: int = 64, seed: int = 0, root: str | None = None
) -> dict[str, float]:
    """Label `number` random rows, each in one of its views, and the golden rows in all of theirs again.

    Returns {"rows", "worst_cosine", "mean_cosine"}; 1.0 is the same direction.

    teacher: uint8 [B, H, W, 3] -> float32 [B, D], the one that made the set (compare its fingerprint first).
    """
    shards = open_shards(path)
    if number < 1 or not shards.rows:
        raise DistillError(f"{path}: {number} rows of {shards.rows} cannot be embedded again. Expected at least one of each.")
    if shards.meta.images == "path" and root is None:
        raise DistillError(f"{path} holds no images, only their keys. Name the folder they lie in: --root FOLDER.")
    ends = np.cumsum([record.rows for record in shards.records])
    rng = np.random.default_rng(seed)
    picked = np.sort(rng.choice(shards.rows, min(number, shards.rows), replace=False))
    views = rng.integers(0, shards.meta.views, len(picked))
    cosines = [_cosine(shards, row, view, ends, teacher, root) for row, view in zip(picked.tolist(), views.tolist(), strict=True)]
    golden = [worst_answer(shards.golden, shards.meta, teacher)] if shards.golden else []
    return {"rows": len(cosines), "worst_cosine": min(cosines + golden), "mean_cosine": float(np.mean(cosines))}


def _cosine(shards: ShardSet, row: int, view: int, ends: np.ndarray, teacher: Callable[[np.ndarray], np.ndarray], root: str | None) -> float:
    """The cosine of a row's stored embedding of a view and the teacher's answer now. row counts over the whole set."""
    shard = int(np.searchsorted(ends, row, side="right"))
    place = row - (int(ends[shard - 1]) if shard else 0)
    starts = np.cumsum([0, *shards.group_rows(shard)])
    number = int(np.searchsorted(starts, place, side="right")) - 1
    place -= int(starts[number])
    group = next(shards.read(shard, [number]))[place : place + 1]
    try:
        encoded = group.images[0] if group.images else read_bytes(str(root), group.keys[0])
    except BadImage as reason:
        raise DistillError(f"{root}: {group.keys[0]!r}: {reason}. The set needs the files that it was made from; check --root.") from reason
    if not group.images and hashlib.sha256(encoded).digest() != group.image_sha256[0]:
        raise DistillError(f"{root}: {group.keys[0]!r} is not the file that the teacher saw (another sha256).")
    pixels, bad = decode_batch([encoded], shards.image)
    if bad:
        raise DistillError(f"{shards.shards[shard]}: {group.keys[0]!r} cannot be decoded now: {bad[0]}")
    seen = replay(pixels, shards.meta.recipe, shards.meta.view_seed, group.keys, view)
    stored = group.embeddings[0].reshape(shards.meta.views, -1)[view].astype(np.float64)
    return cosine(stored, np.asarray(teacher(seen), np.float64)[0])
