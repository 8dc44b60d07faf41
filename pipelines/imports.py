"""Makes a set of embeddings that are there already: files that other programs wrote become shards, a chunk at a time, as `distill embed` commits them.

Lengths, types and order are checked before anything is written (`distill.data.arrays`), each image is read and decoded, and with a teacher a sample is
embedded again. Without one, the set says that its teacher is unknown. A run that ended early goes on: what is committed is not made again.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distill.data.archives.reader import read_bytes
from distill.data.arrays import Part, check_parts, read_parts, sha256_of
from distill.data.chunks import chunk_name, read_chunk
from distill.data.folders import check_apart, check_folder, make_folder
from distill.data.shards import Record, Rows, ShardMeta, ShardSet, commit_shard, rows_there, write_index
from distill.data.shards.plan import Plan
from distill.errors import BadImage, DistillError, Reason, Unfinished
from distill.images.codec import decode_batch
from distill.images.reasons import reason_in_log
from distill.storage.files import sweep
from distill.storage.locks import only_process
from distill.storage.path import as_path, is_remote
from pipelines.import_plan import ZERO, Import, embed_again, embeddings_of, list_rows, meta_of_import, resolve_import_plan
from pipelines.job import Job
from pipelines.rejects import WAYS, grouped, in_words
from pipelines.reuse import find_finished

WINDOW = 256  # images read and decoded together
_WAYS = {**WAYS, "answer": ("with stored embeddings that are not finite", "they are so in the files that were imported")}


@dataclass(frozen=True)
class Imported:
    """What was made. made: rows of it that this run made; sample: rows embedded again, worst_cosine: the worst of these, None without a teacher."""

    set: ShardSet
    made: int
    notes: tuple[str, ...]
    rejected: str
    sample: int
    worst_cosine: float | None


def import_set(asked: Import, progress: Callable[[int, int], None] = lambda done, of: None) -> Imported:
    """Make, or finish, the set in OUT.

    Raises:
        DistillError: the files do not fit together, or OUT is no place to write in; nothing was changed.
        Unfinished: too many images are rejected, or the teacher gives other embeddings.
    """
    job = asked.job()
    if is_remote(asked.source):
        raise DistillError(f"{asked.source} is read from a local disk. Copy it here, and name the copy.")
    source = Path(asked.source)
    parts, notes = read_parts(source)
    check_parts(parts)
    listed = list_rows(asked, parts)
    if not as_path(asked.root).is_dir():
        raise DistillError(f"{asked.root}: no such folder, so no image can be read. Name the folder that the paths are relative to: --root FOLDER.")
    check_apart(source, asked.out)
    check_apart(asked.root, asked.out)
    check_folder(asked.out, "set")
    meta = meta_of_import(asked, parts, listed.keys)
    looked, worst = embed_again(asked, meta, parts, listed.keys) if asked.teacher else (0, None)
    make_folder(job.folder, ".launcher", "shards", "chunks")
    with only_process(job.folder, "launcher"):
        for folder in (job.folder, job.chunks, job.shards):
            folder.mkdir(exist_ok=True)
            sweep(folder)
        plan = resolve_import_plan(asked, meta, listed, sha256_of(parts))
        made, records = 0, list[Record]()
        for number in range(len(plan.chunks)):
            record = find_finished(job, plan.format, plan.chunk_meta(number), plan.names)
            if record is None:
                record = _commit(job, plan, number, parts)
                made += record.rows
            records.append(record)
            progress(min((number + 1) * asked.rows, plan.rows), plan.rows)
        why, rejects = _why(job, records), sum(record.rejects for record in records)
        if rejects > asked.max_rejects * plan.rows:
            raise Unfinished(
                f"{rejects:,} of {plan.rows:,} images were rejected, --max-rejects allows a fraction of {asked.max_rejects}: {why}. The set is not committed. "
                "Mend the images and run again with --retry-rejects, or run again with a larger --max-rejects."
            )
        done = write_index(job.shards, plan.format, records, listed.classes, lambda key: read_bytes(asked.root, key), plan.names)
    return Imported(done, made, tuple(notes), why, looked, worst)


def _commit(job: Job, plan: Plan, number: int, parts: Sequence[Part]) -> Record:
    chunk = read_chunk(job.chunks / chunk_name(number, len(plan.chunks)))
    rejects: list[dict[str, Any]] = []
    meta = plan.chunk_meta(number)
    least = rows_there(job.shards, plan.format, meta, len(chunk.keys), plan.names)
    rows = _rows(job, meta, chunk.keys, chunk.labels, number * plan.chunk_rows, parts, rejects)
    return commit_shard(job.shards, plan.format, meta, rows, rejects, least=least, layout=plan.names)


def _rows(job: Job, meta: ShardMeta, keys: list[str], labels: np.ndarray, first: int, parts: Sequence[Part], rejects: list[dict[str, Any]]) -> Iterator[Rows]:
    """The rows of a chunk, WINDOW at a time. first: number of its first row over all parts."""
    spec, dtype = meta.image, "float32" if meta.dtype == "int8" else meta.dtype
    with ThreadPoolExecutor(4) as pool:
        for start in range(0, len(keys), WINDOW):
            part = keys[start : start + WINDOW]
            read = list(pool.map(lambda key: _read(job.root, key), part))
            _, bad = decode_batch([data for data, _ in read], spec, pool)
            bad |= {row: reason for row, (_, reason) in enumerate(read) if reason}
            given = embeddings_of(parts, range(first + start, first + start + len(part)))
            with np.errstate(over="ignore"):
                stored = given.astype(dtype)
            for row, reason in _odd(given, stored, dtype):
                bad.setdefault(row, reason)
            for row in sorted(bad):
                data = read[row][0]
                rejects.append({"key": part[row], "reason": bad[row], "sha256": hashlib.sha256(data).hexdigest() if data else None})
            good = [row for row in range(len(part)) if row not in bad]
            inline = meta.images == "inline"
            yield Rows(
                [part[row] for row in good],
                labels[start : start + WINDOW][good],
                stored[good],
                [read[row][0] for row in good] if inline else None,
                None if inline else [hashlib.sha256(read[row][0]).digest() for row in good],
            )


def _odd(given: np.ndarray, stored: np.ndarray, dtype: str) -> Iterator[tuple[int, Reason]]:
    for row in range(len(given)):
        if not np.isfinite(given[row]).all():
            yield row, Reason("the teacher's embedding is not finite", "answer")
        elif not given[row].any():
            yield row, ZERO
        elif not np.isfinite(stored[row]).all():
            yield row, Reason(f"the embedding does not fit into {dtype} (largest value {np.abs(given[row]).max():.6g})", "range")


def _read(root: str, key: str) -> tuple[bytes, Reason | None]:
    try:
        return read_bytes(root, key), None
    except BadImage as error:
        return b"", error.reason


def _why(job: Job, records: Sequence[Record]) -> str:
    from distill.data.shards import read_reject_log

    rejected = [(reject.key, reject.reason) for record in records if record.rejects for reject in read_reject_log(job.shards / record.ledger)]
    zeros = Counter(reason == ZERO for _, reason in rejected)[True]
    groups = in_words(grouped((key, reason_in_log(reason)) for key, reason in rejected if reason != ZERO), _WAYS)
    return "; ".join([*([f"{zeros:,} with embeddings of zeros"] if zeros else []), *([groups] if groups else [])])
