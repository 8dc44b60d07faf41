"""Servers and clusters that an engine needs for the time of a run: started here, and ended here."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from distill.errors import DistillError, Unfinished
from distill.runtime.process import keep_memory
from distill.runtime.quiet import environment, quiet_import
from distill.runtime.signals import uninterrupted

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions
from pipelines.engines import ENGINES, WORKER, Engine, Workers


@contextmanager
def service(engine: Engine, options: PipelineOptions, workers: int) -> Iterator[Workers]:
    """What has to be up while the pipeline runs, where no other one is named: a Dask cluster, or the job server of Flink or Prism."""
    own = Workers()
    if engine.children:
        with own.known_to_beam():
            yield own
    elif engine is ENGINES["dask"]:
        with _dask_cluster(options, workers, own):
            yield own
    elif engine in (ENGINES["flink"], ENGINES["prism"]):
        with _job_server(engine, options):
            yield own
    else:
        yield own


def work() -> None:
    """A worker process of Beam. The first that speaks while a library loads would give the root logger a handler, and that would print all."""
    keep_memory()
    if os.environ.get("DISTILL_DEBUG") != "1":
        logging.getLogger().addHandler(logging.NullHandler())
    importlib.import_module(WORKER).main(sys.argv)


def dask_setup(worker: Any) -> None:
    """Dask calls this in each of its worker processes at its start: Beam speaks while it loads."""
    keep_memory()
    with quiet_import():
        import apache_beam.io  # noqa: F401


@contextmanager
def _job_server(engine: Engine, options: PipelineOptions) -> Iterator[None]:
    """Beam starts these servers only in the main thread, where the launcher is, and takes Ctrl-C for them, which the launcher needs."""
    from apache_beam.options.pipeline_options import JobServerOptions, PortableOptions
    from apache_beam.utils.subprocess_server import pick_port

    asked, listening = options.view_as(PortableOptions), options.view_as(JobServerOptions)
    if asked.job_endpoint:
        yield
        return
    (listening.job_port,) = pick_port(listening.job_port)
    module, _, name = engine.runner.rpartition(".")
    before = signal.getsignal(signal.SIGINT)
    server = getattr(importlib.import_module(module), name)().default_job_server(options)
    try:
        server.start()
    except Exception as error:  # a program that is not there, a download that fails: Beam raises whatever it meets
        raise DistillError(f"{engine.about}: its job server does not start: {error}") from error
    finally:
        signal.signal(signal.SIGINT, before)
    asked.job_endpoint = f"localhost:{listening.job_port}"
    try:
        yield
    finally:
        server.stop()


@contextmanager
def _dask_cluster(options: PipelineOptions, workers: int, own: Workers) -> Iterator[None]:
    import dask
    import distributed  # noqa: F401 - which has the settings of its nannies
    from apache_beam.runners.dask.dask_runner import DaskOptions

    asked = options.view_as(DaskOptions)
    # what Dask sets in this process, for the processes that it starts, and leaves there
    theirs = ("PYTHONHASHSEED", "__DASK_PARENT_PID", *dask.config.get("distributed.nanny.pre-spawn-environ"))
    with _spreading(asked), environment({}, *theirs):
        if asked.address or asked.scheduler_file:
            yield
            return
        from dask.distributed import LocalCluster, default_client

        try:
            with uninterrupted():
                cluster = LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL, preload=[__name__])
        except (RuntimeError, OSError, TimeoutError) as error:  # a worker was killed, or there was no memory for it
            raise Unfinished(
                f"Dask's {workers} workers did not start: {error} What is done stays; run the same command again, or with fewer --workers."
            ) from error
        own.others = lambda: [getattr(nanny, "pid", None) for nanny in cluster.workers.values()]
        with cluster as here:
            asked.address = here.scheduler_address
            try:
                yield
            finally:
                with suppress(ValueError):  # the runner leaves its client open, which would look for the scheduler for half a minute
                    default_client().close()


@contextmanager
def _spreading(asked: Any) -> Iterator[None]:
    """Beam's Dask runner keeps everything that came from one element in one partition, so that one worker would do all."""
    from apache_beam.runners.dask import transform_evaluator as translate

    class Spread(translate.GroupByKey):
        def apply(self, input_bag: Any, side_inputs: Any = None) -> Any:
            return super().apply(input_bag, side_inputs).repartition(npartitions=asked.npartitions)

    before = translate.TRANSLATIONS[translate._GroupByKeyOnly]
    translate.TRANSLATIONS[translate._GroupByKeyOnly] = Spread
    try:
        yield
    finally:
        translate.TRANSLATIONS[translate._GroupByKeyOnly] = before
