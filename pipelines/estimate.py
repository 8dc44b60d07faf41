"""What a run will write, said before it begins; and why images of a set were rejected."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from distill.data.archives.archive import is_archive
from distill.data.archives.reader import read_bytes
from distill.data.chunks import chunk_name, read_chunk
from distill.data.lists.image_list import way_to
from distill.data.shards import Record, read_reject_log
from distill.data.shards.plan import Plan
from distill.data.shards.run_state import Estimate
from distill.errors import BadImage, DistillError, Reason
from distill.images.reasons import reason_in_log
from distill.runtime.progress import phase
from distill.storage.path import StoragePath, is_remote
from pipelines.job import Job
from pipelines.rejects import LOOKED, grouped, in_words, look, spread
from pipelines.reuse import find_finished, find_reusable, has_rows

SAMPLE = 200  # images whose size on disk is looked at for the estimate


@phase("looking at the first images")
def estimate(job: Job, plan: Plan, wanted: Iterable[int], note: str = "", chunks: StoragePath | None = None) -> list[int]:
    """The chunks that have to be made, and OUT/state/estimate.json for the launcher to show, with a note on the list.

    DistillError when what is to come cannot fit on the disk, or none of the images looked at can be embedded.
    """
    number = len(plan.chunks)
    todo = [chunk for chunk in wanted if find_finished(job, plan.format, plan.chunk_meta(chunk), plan.names) is None]
    sampled: list[tuple[str, int | None]] = []
    looked: list[str] = []
    rows = 0
    for place_of, chunk in enumerate(todo):
        keys = read_chunk((chunks or job.chunks) / chunk_name(chunk, number)).keys
        rows += len(keys)
        held = _held_bytes(job, plan, chunk)
        looked += [] if held else spread(keys, LOOKED * (place_of + 1) // len(todo) - LOOKED * place_of // len(todo))
        if len(sampled) < SAMPLE:
            sampled += [(keys[0], held)] if held else [(key, _size(job.root, key)) for key in keys[:: max(1, len(keys) // SAMPLE)]]
    sizes = [size for _, size in sampled if size is not None]
    if sampled and not sizes:
        raise DistillError(f"{job.root}: none of the {len(sampled)} files looked at is there, {sampled[0][0]!r} for one. {way_to(job.root, sampled[0][0])}")
    warning = _look(job, plan, looked) if looked else ""
    image = float(np.mean(sizes)) if sizes and plan.meta.images == "inline" else 32
    needed = int(rows * (plan.meta.embedding_bytes + image + 32))
    free = shutil.disk_usage(shards).free if isinstance(shards := job.shards, Path) else None
    job.notes.write(Estimate(plan.rows, number, len(todo), rows, needed, free, plan.skipped, note, warning))
    if free is not None and needed > free:
        raise DistillError(
            f"{job.out}: about {needed / 1e9:.1f} GB are needed for {rows:,} rows, {free / 1e9:.1f} GB are free. Make room or use another OUT"
            + ("." if plan.meta.images == "path" else ", or leave the images out (--images path).")
        )
    return todo


def _look(job: Job, plan: Plan, keys: list[str]) -> str:
    """What is to be said of these images before any is labelled. DistillError where none of them can be, and none of the set was yet."""
    bad, pixels = look(job.root, keys, plan.meta.image)
    if not bad:
        bad = _unanswered(job, keys, pixels)
    if not bad:
        return ""
    said = in_words(grouped(bad))
    if len(bad) == len(keys) and job.max_rejects < 1 and not has_rows(job, plan):
        raise DistillError(f"{job.root}: none of the {len(keys)} images looked at can be embedded: {said}. Nothing was labelled.")
    if len(bad) <= job.max_rejects * len(keys):
        return ""
    return f"{len(bad)} of {len(keys)} images looked at cannot be embedded, --max-rejects allows {job.max_rejects:.4g} of all: {said}"


def _unanswered(job: Job, keys: list[str], pixels: np.ndarray) -> list[tuple[str, Reason]]:
    """(key, reason) of all images looked at, where the teacher answers none of some of them with numbers."""
    teacher = job.teacher.load()
    try:
        answers = teacher(pixels)
    except DistillError:
        return []  # so many at a time, or at all: the trial of the teacher tells which
    if np.isfinite(answers).all(axis=1).any():
        return []
    return [(key, Reason("the teacher's embedding is not finite", "answer")) for key in keys]


def _held_bytes(job: Job, plan: Plan, chunk: int) -> int:
    """Bytes of an image in the shard that is taken over, and that needs no file therefore; 0 where files are read."""
    there = find_reusable(job, plan.format, plan.chunk_meta(chunk)) if plan.meta.images == "inline" else None
    if there is None or not there.rows:
        return 0
    return max(1, plan.shard_path(job.shards, chunk).stat().st_size // there.rows - there.embedding_bytes)


def _size(root: str, key: str) -> int | None:
    try:
        return os.stat(os.path.join(root, key)).st_size if not is_remote(root) and not is_archive(root) else len(read_bytes(root, key))
    except (FileNotFoundError, NotADirectoryError, PermissionError, BadImage):
        return None


def why(job: Job, records: Iterable[Record], told: str = "") -> str:
    """Why images of these chunks were rejected, in groups. told: what was said of them before, which is not repeated."""
    ledgers = (read_reject_log(job.shards / record.ledger) for record in records if record.rejects)
    return in_words(grouped((reject.key, reason_in_log(reject.reason)) for ledger in ledgers for reject in ledger), told=told)
