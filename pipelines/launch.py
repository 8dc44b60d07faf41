"""Runs the pipeline and watches it: one launcher for one OUT, progress while it works, and at the end the truth about what is missing."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from distill.data.folders import Made, make_folder, remove_own
from distill.data.kinds import CHUNKS
from distill.data.shards.plan import Plan
from distill.data.shards.run_state import ChunkFailure, ChunkProgress, Estimate, Finished, Phase, RunError
from distill.errors import DistillError, Unfinished
from distill.results import EmbedResult
from distill.runtime.lines import many
from distill.runtime.process import without_proxy
from distill.runtime.progress import Watcher, phase, phases
from distill.runtime.quiet import environment, quiet_import, silenced, speak
from distill.storage.files import committed, is_there, sweep
from distill.storage.locks import only_process
from distill.storage.path import StoragePath
from pipelines.engines import Engine, Workers, beam_options, check_reach, find_engine, outside_ipython, runner
from pipelines.estimate import why
from pipelines.job import Job, break_off, go_on
from pipelines.services import service

FULL = 1 << 20  # bytes: where less is free, not even a note has room
TOLD = (RunError, Estimate, Finished)  # notes that say how a run goes on
STARTING = "starting the workers"
PATIENCE = 3.0  # seconds for a thread that was told to stop
STRAGGLER = 60.0  # seconds that another run in this process waits for it
LOST_AFTER = 5.0  # seconds between a worker process going and the run being given up


@dataclass(frozen=True)
class Progress:
    """A moment of a run. total is 0 until the plan is made."""

    done: int
    made: int
    total: int
    seconds: float


def embed(
    job: Job,
    engine: str = "local",
    workers: int = 0,
    flags: Sequence[str] = (),
    *,
    on_estimate: Callable[[Estimate], None] = lambda estimate: None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    debug: bool = False,
) -> EmbedResult:
    """Make, or finish, the set in job.out. Raises Unfinished when chunks failed, a worker was lost or too much was rejected.

    workers: 0 for one a core. flags go to Beam.
    """
    place = find_engine(engine)
    if workers < 0:
        raise DistillError(f"--workers {workers}: expected a number of chunks at a time, or 0 for one a core.")
    workers = workers or os.cpu_count() or 1
    check_reach(place, job)
    job.check_paths()
    job.check_out()
    with _as_found(debug) as found:
        with phase("importing Apache Beam"), quiet_import():
            import apache_beam  # noqa: F401 - here, where what it says can be kept back
        options = beam_options(place, workers, flags)
        made = make_folder(job.folder, ".launcher", ".launcher.claims", "plan.json", "shards", "chunks", "state")
        with only_process(job.folder, "launcher") as check_hold, _as_it_was(job, made):
            _wait_for_straggler(job)
            _sweep(job)
            started = time.monotonic()
            with service(place, options, workers) as own:
                run = _Run(job, place, options, debug, check_hold, own, found)
                try:
                    with phases() as show:
                        _watch(run, place, started, on_estimate, on_progress, show)
                except BaseException:
                    run.break_off()
                    raise
            _sweep(job)  # workers of a launcher that was killed may have lived a moment longer than it
            return _outcome(job, run, time.monotonic() - started)


def _sweep(job: Job) -> None:
    for folder in (job.folder, job.chunks, job.shards, job.state):
        sweep(folder)


@contextmanager
def _as_it_was(job: Job, made: Made) -> Iterator[None]:
    """A run that is refused leaves OUT as it found it, with the notes of the run before; one that is accepted clears them (CutChunks)."""
    earlier = {path: path.read_bytes() for path in map(job.notes.path, TOLD) if path.is_file()}
    for path in earlier:
        path.unlink()
    job.state.mkdir(exist_ok=True)
    try:
        yield
    except DistillError as error:
        if not isinstance(error, Unfinished):
            _undo(job, made, earlier)
        raise


def _undo(job: Job, made: Made, earlier: dict[StoragePath, bytes]) -> None:
    with suppress(OSError):  # what is told is why the run was refused
        for kind in TOLD:
            job.notes.path(kind).unlink(missing_ok=True)
        for path, note in earlier.items():
            with committed(path) as temporary:
                temporary.write_bytes(note)
        if "plan.json" in made.new and not any(job.shards.glob("*-of-*")):
            remove_own(job.chunks, CHUNKS, first="classes.txt") if "chunks" in made.new else None
        else:
            made = replace(made, new=tuple(name for name in made.new if name != "plan.json"))
        made.give_back()


class _Run:
    """The pipeline in a thread of its own, so that the launcher can watch it and be interrupted. check_hold: raises where OUT is another's."""

    def __init__(self, job: Job, engine: Engine, options: Any, debug: bool, check_hold: Callable[[], None], workers: Workers, found: _Found) -> None:
        self.job, self.debug, self.check_hold, self.workers = job, debug, check_hold, workers
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, args=(engine, options, found), name="pipeline", daemon=True)
        found.hold()
        go_on(job)
        self.thread.start()

    def _run(self, engine: Engine, options: Any, found: _Found) -> None:
        import apache_beam as beam

        from pipelines.embed import build

        try:
            with outside_ipython(), beam.Pipeline(runner(engine, self.workers.mark), options=options) as pipeline:
                build(pipeline, self.job)
        except BaseException as error:  # handed to the launcher's thread
            self.error = error
        finally:
            with suppress(OSError):
                self.job.notes.path(Phase).unlink(missing_ok=True)
            found.let_go()

    def break_off(self) -> None:
        """End the worker processes; those that are threads stop at their next batch of images, which is waited for a moment."""
        break_off(self.job)
        self.workers.end()
        speak()  # the pipeline may be in the middle of an import
        self.thread.join(PATIENCE)
        if self.thread.is_alive():
            _stragglers[self.job.out] = self.thread


_stragglers: dict[str, threading.Thread] = {}


def _wait_for_straggler(job: Job) -> None:
    """An earlier run of this process that was broken off may still be in a long call, and would write into OUT beside the new one."""
    thread = _stragglers.pop(job.out, None)
    if thread is not None:
        thread.join(STRAGGLER)
        if thread.is_alive():
            _stragglers[job.out] = thread
            raise Unfinished(f"{job.out}: a run of this process that was broken off has not come to its end yet. Try again in a moment.")


def _watch(run: _Run, engine: Engine, started: float, on_estimate: Callable[[Estimate], None], on_progress: Callable[..., None], show: Watcher) -> None:
    notes, estimate = run.job.notes, None
    seen: set[psutil.Process] = set()
    lost_at = None
    pause = 0.2
    while run.thread.is_alive():
        run.thread.join(pause)
        run.check_hold()
        looked = time.monotonic()
        if estimate is None and (estimate := notes.read(Estimate)):
            on_estimate(estimate)
        progress = _progress(run.job, estimate, time.monotonic() - started) if estimate else Progress(0, 0, 0, time.monotonic() - started)
        on_progress(progress)
        if doing := notes.read(Phase):
            show(doing.phase or ("" if progress.made else STARTING))
        pause = max(0.2, 10 * (time.monotonic() - looked))  # looking costs a tenth of the time, also at thousands of chunks or far away
        if engine.children and not notes.path(Finished).exists():  # at the end workers go one after another
            alive = run.workers.alive()
            lost_at = (lost_at or time.monotonic()) if seen - alive else None
            seen |= alive
            if lost_at and time.monotonic() - lost_at > LOST_AFTER and run.thread.is_alive():
                raise Unfinished(
                    f"A worker process was lost (killed, or out of memory). Missing: {_missing_text(run.job)}. Run the same command again: it goes on there."
                )


def _progress(job: Job, estimate: Estimate | None, seconds: float) -> Progress:
    parts = job.notes.read_chunks(ChunkProgress).values()
    return Progress(sum(part.done for part in parts), sum(part.made for part in parts), estimate.rows if estimate else 0, seconds)


def _outcome(job: Job, run: _Run, seconds: float) -> EmbedResult:
    if ended := job.notes.read(RunError):
        raise ended.error()
    if run.error is not None:
        if run.debug:
            raise run.error
        reason = (str(run.error).strip().splitlines() or [type(run.error).__name__])[-1]
        raise Unfinished(f"{job.out}: the pipeline stopped: {reason}. What is done stays. Mend the cause and run the same command again; --debug says more.")
    failed = list(job.notes.read_chunks(ChunkFailure).values())
    if failed:
        reasons = "; ".join(f"chunk {note.chunk}: {note.reason}" for note in failed[:3]) + (" ..." if len(failed) > 3 else "")
        raise Unfinished(
            f"{job.out}: {many(len(failed), 'chunks')} failed, no index was written, what is done stays. {reasons} Mend the cause and run the same command again."
        )
    if not is_there(job.folder / "plan.json"):
        raise Unfinished(f"{job.out}: no plan was written, and nobody could say why.{_full(job)} Run the same command again.")
    plan = Plan.load(job.folder / "plan.json")
    records, missing = _records(job, plan)
    index = job.shards / plan.names.index
    if not (job.dry_run or job.only) and (missing or not is_there(index)):
        gone = f"{len(missing)} of {many(len(plan.chunks), 'chunks')} {'is' if len(missing) == 1 else 'are'}" if missing else "the index is"
        raise Unfinished(f"{job.out}: {gone} not written, and nobody could say why.{_full(job)} What is done stays; run the same command again.")
    progress = _progress(job, None, seconds)
    return EmbedResult(
        job.out,
        sum(record.rows for record in records),
        sum(record.rejects for record in records),
        len(plan.chunks),
        missing,
        progress.made,
        round(seconds, 3),
        is_there(index) and not missing,
        sum(part.turned for part in job.notes.read_chunks(ChunkProgress).values()),
        why(job, records),
        job.root,
        job.dry_run,
    )


def _full(job: Job) -> str:
    folder = job.folder
    if not isinstance(folder, Path):
        return ""
    free = shutil.disk_usage(folder).free
    return " The disk is full: make room." if free < FULL else f" {free / 1e6:,.0f} MB of its disk are free."


def _records(job: Job, plan: Plan) -> tuple[list[Any], tuple[int, ...]]:
    found = [plan.find_record(job.shards, number) for number in range(len(plan.chunks))]
    return [record for record in found if record], tuple(number for number, record in enumerate(found) if record is None)


def _missing_text(job: Job) -> str:
    try:
        missing = _records(job, plan := Plan.load(job.folder / "plan.json"))[1]
    except FileNotFoundError:
        return "all chunks"
    except (OSError, DistillError) as error:
        return f"nobody can say which chunks ({error})"
    return f"{len(missing)} of {len(plan.chunks)} chunks ({', '.join(map(str, missing[:10]))}{' ...' if len(missing) > 10 else ''})"


class _Found:
    """How this process was found. It is made so again when the launcher and the pipeline's thread are through, whichever is later: one that
    was broken off in a long call still speaks."""

    def __init__(self, debug: bool) -> None:
        self._holders, self._lock, self._stack = 1, threading.Lock(), ExitStack()
        self._stack.enter_context(environment(without_proxy(os.environ)))
        if not debug:  # Beam prints stacks, and a killed worker is an exception in one of its threads: the launcher says it in a sentence
            self._stack.enter_context(silenced(("apache_beam", "PrismRunner", "distributed"), ("apache_beam", "distributed", "grpc")))

    def hold(self) -> None:
        with self._lock:
            self._holders += 1

    def let_go(self) -> None:
        with self._lock:
            self._holders -= 1
            last = not self._holders
        if last:
            self._stack.close()


@contextmanager
def _as_found(debug: bool) -> Iterator[_Found]:
    found = _Found(debug)
    try:
        yield found
    finally:
        found.let_go()
