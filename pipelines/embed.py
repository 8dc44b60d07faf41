"""The pipeline that labels: an image list is cut into chunks, the teacher writes one shard for each, the index commits the set.

    OUT/plan.json     what the set is: written once, before any shard; a run that asks for something else is refused
    OUT/chunks/       the image list in chunks, and classes.txt
    OUT/shards/       shard, reject log and record of each chunk; the index last
    OUT/state/        what the launcher reads while workers work: estimate, progress and failures; of no value afterwards

One element is one chunk. A chunk whose shard is there is skipped; one that fails twice is noted and does not stop the others.
Batches of the teacher are cut by the rows of the chunk alone, so that shards are byte-equal on every engine of one kind of machine.
"""

from __future__ import annotations

if __name__ == "__main__":  # python -m pipelines.embed SOURCE OUT --teacher T -- options of Beam; before Beam speaks while it loads
    import sys

    from distill.cli.main import main

    sys.argv.insert(1, "embed")
    main()

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import apache_beam as beam

from distill.data.archives.reader import read_bytes
from distill.data.chunks import chunk_name, read_chunk, read_classes
from distill.data.shards import Record, ShardMeta, write_index
from distill.data.shards.plan import Plan
from distill.data.shards.run_state import ChunkFailure, Estimate, Finished, RunError
from distill.errors import BrokenOff, DistillError, Unfinished
from distill.runtime.progress import phase
from distill.storage.path import StoragePath
from pipelines.estimate import estimate, why
from pipelines.job import Job, Task, is_broken_off, phases_noted
from pipelines.label import embed_chunk, try_teacher
from pipelines.metadata import meta_of
from pipelines.planning import resolve_plan, save_plan
from pipelines.reuse import check_pixels
from teachers import limit_threads

log = logging.getLogger("distill")
RETRIES = 1
FIRST = 16  # images of the list on which the teacher is tried
# One TensorFlow thread each: two workers of one label 1.3 times as fast as one of two, and another number of threads changes the last bit
# of an embedding (measured: 1e-7 of its norm), so that engines would not agree.
TEACHER_THREADS = 1


def build(pipeline: beam.Pipeline, job: Job) -> beam.PCollection:
    """The pipeline as its own diagram. The steps' names are what a person reads on a runner's page."""
    return (
        pipeline
        | "Job" >> beam.Create([job])
        | "Teacher" >> beam.ParDo(InspectTeacher())
        | "Cut" >> beam.ParDo(CutChunks())
        | "Spread" >> beam.Reshuffle()
        | "Embed" >> beam.ParDo(EmbedChunk())
        | "Gather" >> beam.combiners.ToList()
        | "Commit" >> beam.Map(commit, job)
    )


class InspectTeacher(beam.DoFn):
    """Job -> (job, metadata of every shard): loads the teacher once, so that a wrong one ends the run before any chunk."""

    def process(self, job: Job) -> Iterator[tuple[Job, ShardMeta]]:
        with _errors_noted(job), phases_noted(job):
            if not limit_threads(TEACHER_THREADS):
                log.debug("TensorFlow computes in this process already, with its own threads: the last bit of an embedding may differ")
            yield job, meta_of(job)


class CutChunks(beam.DoFn):
    """(job, metadata) -> a task for each chunk. Writes the plan, or agrees with the one that is there; then the list is not read again."""

    def process(self, asked: tuple[Job, ShardMeta]) -> Iterator[Task]:
        job, meta = asked
        tasks: list[Task] = []
        with _errors_noted(job), phases_noted(job):
            limit_threads(TEACHER_THREADS)
            accepted = list[Plan]()

            def accept(plan: Plan, chunks: StoragePath) -> None:
                _accept(job, plan, chunks)
                accepted.append(plan)

            plan, note = resolve_plan(job, meta, accept)
            check_pixels(job)
            if not accepted:
                _accept(job, plan, job.chunks, note)
            if not job.dry_run:
                save_plan(job, plan)
                tasks = [Task.of(job, plan, number) for number in job.only or range(len(plan.chunks))]
        yield from tasks


def _accept(job: Job, plan: Plan, chunks: StoragePath, note: str = "") -> None:
    """DistillError where a plan cannot be followed: chunks that it has not, images or a teacher of which nothing can be labelled."""
    wanted = job.only or range(len(plan.chunks))
    odd = [number for number in wanted if not 0 <= number < len(plan.chunks)]
    if odd:
        raise DistillError(f"--only {odd[0]}: {job.out} has chunks 0 to {len(plan.chunks) - 1}.")
    job.notes.clear()
    todo = estimate(job, plan, wanted, note, chunks)
    if todo and not job.dry_run:
        try_teacher(job, plan.meta, plan.batch, read_chunk(chunks / chunk_name(todo[0], len(plan.chunks))).keys[:FIRST])


class EmbedChunk(beam.DoFn):
    """Task -> its record; a chunk that fails is left as a note in OUT/state and gives nothing."""

    def process(self, task: Task) -> Iterator[Record]:
        limit_threads(TEACHER_THREADS)
        for attempt in range(1 + RETRIES):
            try:
                if not is_broken_off(task.job):
                    yield embed_chunk(task)
                return
            except BrokenOff:
                return
            except Exception as error:  # one chunk must never take the others down; the launcher reports it and ends with exit code 1
                log.debug("chunk %d, attempt %d", task.meta.chunk, attempt, exc_info=True)
                reason = str(error) if isinstance(error, DistillError) else _failed(error)
        task.job.notes.write(ChunkFailure(task.meta.chunk, reason), task.meta.chunk)


def commit(records: list[Record], job: Job) -> None:
    """Write the index when the set is whole and not too much was rejected."""
    with _errors_noted(job), phases_noted(job):
        if not job.dry_run and not is_broken_off(job) and not job.notes.path(RunError).exists():
            _commit(records, job)
    job.notes.write(Finished())


def _commit(records: list[Record], job: Job) -> None:
    plan = Plan.load(job.folder / "plan.json")
    number = len(plan.chunks)
    found = {record.number: record for record in records}
    for missing in set(range(number)) - set(found):  # chunks that this run left out with --only may be there
        record = plan.find_record(job.shards, missing)
        if record is not None:
            found[missing] = record
    rejects = sum(record.rejects for record in found.values())
    said = job.notes.read(Estimate)  # of the first images, which is not said again
    if len(found) < number:
        return  # the launcher says which
    if rejects > job.max_rejects * plan.rows:
        reasons = why(job, found.values(), said.warning if said else "")
        raise Unfinished(
            f"{rejects} of {plan.rows} images were rejected, --max-rejects allows a fraction of {job.max_rejects}: {reasons}. "
            f"Shards and reject logs ({job.shards}/*.rejects.jsonl) stay; the set is not committed. Mend the images and run again with --retry-rejects, or run again "
            "with a larger --max-rejects."
        )
    with phase("writing the index"):
        write_index(job.shards, plan.format, found.values(), read_classes(job.chunks), lambda key: read_bytes(job.root, key), plan.names)


@contextmanager
def _errors_noted(job: Job) -> Iterator[None]:
    """An error for a person ends this step without output and is left where the launcher reads it; raised, Beam would print its own stack."""
    try:
        yield
    except DistillError as error:
        job.notes.write(RunError(str(error), error.exit_code))
    except OSError as error:  # a full disk, a file that may not be read
        where = "" if error.filename else f"{job.out}: "
        text = f"{where}{_failed(error)} What is done stays; mend the cause and run the same command again."
        job.notes.write(RunError(text, Unfinished.exit_code))


def _failed(error: Exception) -> str:
    """What the system could not do, by its own name, or what else happened."""
    if isinstance(error, OSError) and error.errno:
        return f"{f'{error.filename}: ' if error.filename else ''}{error.strerror}."
    return f"{type(error).__name__}: {error}"
