"""Where the pipeline can run: engine name to Beam runner and options, in one table.

Every engine makes the same bytes on one kind of machine, because a chunk is labelled by one worker from beginning to end.
"""

from __future__ import annotations

import importlib
import os
import shlex
import subprocess
import sys
import threading
import uuid
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil

from distill.errors import DistillError, how_to_install
from distill.storage.path import is_remote
from pipelines.job import Job

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

RUNNERS = "apache_beam.runners"
FN_API_RUNNER = f"{RUNNERS}.portability.fn_api_runner.FnApiRunner"
WORKER = f"{RUNNERS}.worker.sdk_worker_main"


@dataclass(frozen=True)
class Engine:
    """A Beam runner and its options with {workers} filled in; a person's own Beam flags stand behind these and win.

    children: workers are child processes of the launcher, which has to watch them: Beam waits for ever for one that was killed.
    needs: the extra of distill that brings it. away: workers are other machines, which see object stores only.
    """

    runner: str
    options: tuple[str, ...]
    about: str
    children: bool = False
    needs: str = ""
    away: bool = False


# The plain DirectRunner first tries to download another runner; FnApiRunner by name gives the same results without that.
# LOOPBACK: workers are threads of the launcher, whatever the runner; without it these three start Docker.
ENGINES = {
    "local": Engine(FN_API_RUNNER, ("--direct_running_mode=multi_threading", "--direct_num_workers={workers}"), "threads of this process"),
    "processes": Engine(FN_API_RUNNER, ("--direct_num_workers={workers}",), "processes on this machine", children=True),
    "dask": Engine(
        f"{RUNNERS}.dask.dask_runner.DaskRunner",
        ("--dask_npartitions={workers}",),
        "a Dask cluster: one on this machine, or --dask_client_address",
        needs="dask",
    ),
    "portable": Engine(
        f"{RUNNERS}.portability.portable_runner.PortableRunner",
        ("--job_endpoint=embed", "--environment_type=LOOPBACK", "--sdk_worker_parallelism={workers}"),
        "Beam's own job service, or --job_endpoint",
    ),
    "flink": Engine(
        f"{RUNNERS}.portability.flink_runner.FlinkRunner",
        ("--flink_master=[local]", "--environment_type=LOOPBACK", "--parallelism={workers}"),
        "Flink: one on this machine, or --flink_master",
    ),
    "prism": Engine(
        f"{RUNNERS}.portability.prism_runner.PrismRunner",
        ("--environment_type=LOOPBACK", "--sdk_worker_parallelism={workers}"),
        "Beam's Prism; --prism_location names its program",
    ),
    # one model a machine: no second container beside it, one thread, because one teacher fills a GPU
    "dataflow": Engine(
        f"{RUNNERS}.dataflow.dataflow_runner.DataflowRunner",
        ("--sdk_location=container", "--experiments=no_use_multiple_sdk_containers", "--number_of_worker_harness_threads=1", "--num_workers={workers}"),
        "Google Cloud Dataflow",
        needs="dataflow",
        away=True,
    ),
}


def find_engine(name: str) -> Engine:
    if name not in ENGINES:
        raise DistillError(f"--engine {name} is unknown. Known: {', '.join(ENGINES)}.")
    return ENGINES[name]


def check_reach(engine: Engine, job: Job) -> None:
    """Workers on other machines see no path of this one."""
    named = {"SOURCE": job.source, "OUT": job.out, "--teacher": job.teacher.path, "--root": job.root}
    local = [f"{what} {path}" for what, path in named.items() if not is_remote(path)]
    if engine.away and local:
        raise DistillError(f"Workers of {engine.about} do not see {', '.join(local)}. Copy them to gs://BUCKET and name that.")


def beam_options(engine: Engine, workers: int, flags: Sequence[str]) -> PipelineOptions:
    """The options of an engine, with a person's Beam flags behind them. An unknown flag is an error here: Beam only logs it."""
    from apache_beam.options.pipeline_options import PipelineOptions

    try:
        importlib.import_module(engine.runner.rpartition(".")[0])  # a runner's own options are known from here on
    except (ImportError, NameError, TypeError) as error:
        raise DistillError(f"{engine.about}: {error}. Install it: {how_to_install(engine.needs)}.") from error
    own = [option.format(workers=workers) for option in engine.options]
    if unknown := _unknown(flags):
        raise DistillError(f"Beam has no option {', '.join(unknown)}. Options of distill stand before the --, options of Beam behind it.")
    return PipelineOptions([f"--runner={engine.runner}", *own, "--no_save_main_session", *flags])


class Workers:
    """Worker processes on this machine that a run started itself, told from all other children of this process, which may be anybody's.

    Those that Beam starts have a word of this run on their command line; Dask says which are its own.
    """

    def __init__(self) -> None:
        self.mark = f"distill-{uuid.uuid4().hex}"
        self.others: Callable[[], list[int | None]] = list  # process ids that somebody else knows
        self.asked: weakref.WeakSet[Any] = weakref.WeakSet()  # Beam's connections to them

    def alive(self, below: bool = False) -> set[psutil.Process]:
        """Those of Beam. A process knows its start time, so that a number used again is another process.

        below: with what they have started. A process that a worker starts has the worker's command line until it becomes another program, so that
        somebody who looks just then takes it for a worker, and later for one that was lost.
        """
        return {child for child in psutil.Process().children(recursive=below or os.name == "nt") if _lives(child, self.mark)}

    def end(self) -> None:
        from apache_beam.portability.api import beam_fn_api_pb2

        found = self.alive(below=True)
        for pid in filter(None, self.others()):
            with suppress(psutil.NoSuchProcess):
                found.add(psutil.Process(pid))
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        for connection in list(self.asked):
            for number, answer in list(connection._futures_by_id.items()):
                answer.set(beam_fn_api_pb2.InstructionResponse(instruction_id=number, error="the worker process was ended"))

    @contextmanager
    def known_to_beam(self) -> Iterator[None]:
        """Beam waits for ever for the answer of a worker that was killed, so what it waits for has to be known."""
        from apache_beam.runners.portability.fn_api_runner.worker_handlers import ControlConnection

        push = ControlConnection.push

        def pushed(connection: Any, request: Any) -> Any:
            self.asked.add(connection)
            return push(connection, request)

        ControlConnection.push = pushed  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            ControlConnection.push = push  # type: ignore[method-assign]


def _lives(process: psutil.Process, named: str) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and any(named in word for word in process.cmdline())
    except psutil.NoSuchProcess:
        return False


def runner(engine: Engine, mark: str) -> Any:
    """The runner where it takes more than its name: Beam's own way to start processes lets Ctrl-C reach them, and each would print its stack.

    mark: a word on the command line of its processes.
    """
    if not engine.children:
        return None
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner
    from apache_beam.transforms.environments import SubprocessSDKEnvironment

    words = [sys.executable, "-c", "from pipelines.services import work; work()", WORKER, mark]
    command = subprocess.list2cmdline(words) if os.name == "nt" else f"trap '' INT; exec {shlex.join(words)}"
    return FnApiRunner(default_environment=SubprocessSDKEnvironment.from_command_string(command))


# Where Beam has its question whether it is in IPython. In one it loads its interactive environment, for labels of steps with the number of the cell: that
# takes pandas, which distill does not need, and puts a script into the cell. It also leaves a temporary folder, and its Dask runner refuses notebooks.
ASKING = ("apache_beam.utils.interactive_utils", "apache_beam.pipeline", f"{RUNNERS}.direct.direct_runner")
_outside = set[int]()  # threads of pipelines that are told that they are in none
_genuine = dict[Any, Any]()  # what the modules had, while there are such threads
_asking = threading.Lock()


@contextmanager
def outside_ipython() -> Iterator[None]:
    """For Beam this thread is in no IPython, wherever it is. Other threads are told the truth, and when the last such block ends Beam is as it was."""
    me = threading.get_ident()
    with _asking:
        if not _outside:
            for module in filter(None, map(sys.modules.get, ASKING)):
                if hasattr(module, "is_in_ipython"):
                    _genuine[module] = module.is_in_ipython
                    module.is_in_ipython = _told(module.is_in_ipython)  # type: ignore[attr-defined]
        _outside.add(me)
    try:
        yield
    finally:
        with _asking:
            _outside.discard(me)
            if not _outside:
                for module, genuine in _genuine.items():
                    module.is_in_ipython = genuine
                _genuine.clear()


def _told(genuine: Callable[[], bool]) -> Callable[[], bool]:
    return lambda: threading.get_ident() not in _outside and genuine()


def _unknown(flags: Sequence[str]) -> list[str]:
    from apache_beam.options.pipeline_options import PipelineOptions

    stray = [flag for before, flag in zip(["", *flags], flags, strict=False) if not flag.startswith("--") and (not before.startswith("--") or "=" in before)]
    try:
        options = PipelineOptions(list(flags))
        known, given = options.get_all_options(), options.get_all_options(retain_unknown_options=True)
    except SystemExit as error:  # argparse inside Beam has printed what is wrong
        raise DistillError(f"Beam refuses its options {' '.join(flags)}.") from error
    return stray + [f"--{name}" for name in given if name not in known]
