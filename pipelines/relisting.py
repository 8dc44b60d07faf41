"""Whether the files of a list are still those that a set was made of."""

from __future__ import annotations

from distill.data.kinds import is_chunk_folder
from distill.data.lists import listing
from distill.data.lists.image_list import Rule
from distill.data.lists.listing import GONE, TOUCHED, Changes
from distill.data.shards import Record, read_reject_log
from distill.data.shards.plan import Plan
from distill.errors import DistillError
from distill.runtime.progress import phase
from distill.storage.path import as_path, is_remote
from pipelines.job import Job


@phase("comparing the list with what was embedded")
def find_changes(job: Job, plan: Plan) -> Changes:
    """How what lies there now differs from the listing of the set; no changes where there is none or nobody is to look."""
    source, path = as_path(job.source).resolve(), job.chunks / listing.LISTING
    local = not is_remote(source) and not is_remote(job.root)
    if not (local if job.relist is None else job.relist):
        return Changes()
    if is_chunk_folder(source) or not path.is_file():
        if job.relist:
            raise DistillError(f"{job.out} keeps no listing of {job.source}, so nothing can be held against what lies there. Leave --relist out.")
        return Changes()
    rule = plan.rule or Rule(all_files=True)
    done: dict[int, Record | None] = {}
    rejects: dict[int, set[str]] = {}

    def record_of(row: int) -> Record | None:
        number = row // max(plan.chunk_rows, 1)
        if number not in done:
            done[number] = None if number in job.only else plan.find_record(job.shards, number)
        return done[number]

    def was_rejected(row: int, key: str) -> bool:
        record = record_of(row)
        if record is None or not record.rejects:
            return False
        if record.number not in rejects:
            rejects[record.number] = {reject.key for reject in read_reject_log(job.shards / record.ledger)}
        return key in rejects[record.number]

    def may_change(row: int, key: str) -> bool:
        """A file whose chunk is made now, or that was a reject and is to be tried again."""
        return record_of(row) is None or job.retry_rejects and was_rejected(row, key)

    may_go = was_rejected  # nothing was made of it
    return listing.compare(listing.read(path), listing.found(source, job.root, rule, listing.read(path)), may_change, may_go)


def note_on(changes: Changes) -> str:
    """What is said of files that differ, but not in a way that matters."""
    touched = changes.in_words(TOUCHED)
    said = "; ".join([f"{touched}, taken for the same"] * bool(touched) + [changes.in_words(GONE)] * (GONE in changes.counts))
    if changes.accepted:
        said += "; " * bool(said) + f"{len(changes.accepted):,} changed files are embedded as they are now"
    return said


def refusal(job: Job, plan: Plan, unlike: str) -> str:
    """The message where the files differ in a way that matters, which `unlike` says."""
    rejects = sum(record.rejects for number in range(len(plan.chunks)) if (record := plan.find_record(job.shards, number)))
    mended = " Files that were rejected and are mended: --retry-rejects." if rejects and not job.retry_rejects else ""
    return (
        f"{job.source}: the files are not those that {job.out} was made of: {unlike}. A set keeps the list that it began with: use another OUT for what "
        f"lies there now, or --no-relist to go on with the list as it was.{mended}"
    )
