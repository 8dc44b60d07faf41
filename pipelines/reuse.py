"""What earlier runs left in OUT that this one need not make again."""

from __future__ import annotations

import hashlib

from distill.data.archives.reader import read_bytes
from distill.data.layout import Layout, find_index
from distill.data.shards import FORMATS, Record, ShardMeta, find_record, read_index, read_reject_log, shard_path
from distill.data.shards.golden import check_golden
from distill.data.shards.plan import Plan
from distill.errors import BadImage, Damaged, DistillError
from distill.images.codec import decode
from distill.images.spec import ImageSpec
from distill.storage.files import is_there
from pipelines.job import Job
from pipelines.metadata import fewer_views


def find_finished(job: Job, format: str, meta: ShardMeta, layout: Layout) -> Record | None:
    """Returns the record of a finished chunk that needs no work, else None.

    --only makes a chunk again whatever is there, --retry-rejects where one of its rejects can be read and decoded now.
    """
    if meta.chunk in job.only:
        return None
    record = find_record(job.shards, format, meta, layout)
    return None if record and job.retry_rejects and _mended(job, record, meta.image) else record


def find_reusable(job: Job, format: str, meta: ShardMeta) -> ShardMeta | None:
    """Returns the metadata of a shard whose rows can be used again: it lacks nothing but views, or, where it holds the images, nothing at all.

    None where all has to be made.

    Its footer is enough: who died while the shard was being replaced may have left no record, or the reject log of another one. OSError where the
    system cannot tell.
    """
    if meta.chunk in job.only:
        return None
    try:
        there = FORMATS[format].read_meta(shard_path(job.shards, format, meta.chunk, meta.of))
    except (FileNotFoundError, Damaged):
        return None
    whole = meta.images == "inline" and there.unwritten() == meta.unwritten()
    return there if whole or fewer_views(meta, there) else None


def _mended(job: Job, record: Record, spec: ImageSpec) -> bool:
    """Whether a reject of a chunk can be read and decoded now."""
    for reject in read_reject_log(job.shards / record.ledger):
        try:
            data = read_bytes(job.root, reject.key)
            decode(data, spec)
        except BadImage:
            continue
        if hashlib.sha256(data).hexdigest() != reject.sha256:  # the same bytes were decoded then: the teacher's answer was at fault
            return True
    return False


def has_rows(job: Job, plan: Plan) -> bool:
    """Whether a shard of OUT holds a labelled row, or cannot be asked."""
    for number in range(len(plan.chunks)):
        shard = plan.shard_path(job.shards, number)
        try:
            if is_there(shard) and FORMATS[plan.format].read_meta(shard).rows:
                return True
        except (DistillError, OSError):
            return True
    return False


def check_pixels(job: Job) -> None:
    """DistillError where the set that stands in OUT was made of other pixels than would be made here: its new rows would not fit the old ones,
    and its new index would say that all is well."""
    index = find_index(job.shards)
    if index is None:
        return
    try:
        shards = read_index(index)
    except Damaged:
        return  # it has to be written anew
    check_golden(job.shards, shards.golden, shards.meta)
