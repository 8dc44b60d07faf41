"""Where the pipeline can run: engine name to Beam runner and options, in one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distill import DistillError

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

FN_API_RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"


@dataclass(frozen=True)
class Engine:
    """A Beam runner, its options with {workers} filled in, and what a worker is.

    children: workers are child processes of the launcher, which has to watch them: Beam waits for ever for one that was killed.
    """

    runner: str
    options: tuple[str, ...]
    worker: str
    children: bool = False


# The plain DirectRunner first tries to download another runner; FnApiRunner by name gives the same results without that.
ENGINES = {
    "local": Engine(FN_API_RUNNER, ("--direct_running_mode=multi_threading", "--direct_num_workers={workers}"), "thread"),
    "processes": Engine(
        FN_API_RUNNER, ("--direct_running_mode=multi_processing", "--direct_num_workers={workers}"), "process", children=True
    ),
}


def find_engine(name: str) -> Engine:
    if name not in ENGINES:
        raise DistillError(f"--engine {name} is unknown. Known: {', '.join(ENGINES)}.")
    return ENGINES[name]


def beam_options(engine: Engine, workers: int, flags: Sequence[str]) -> PipelineOptions:
    """The options of an engine, with a person's Beam flags behind them. An unknown flag is an error here: Beam only logs it."""
    from apache_beam.options.pipeline_options import PipelineOptions

    own = [option.format(workers=workers) for option in engine.options]
    if unknown := _unknown(flags):
        raise DistillError(f"Beam has no option {', '.join(unknown)}. Options of distill stand before the --, options of Beam behind it.")
    return PipelineOptions([f"--runner={engine.runner}", *own, "--no_save_main_session", *flags])


def _unknown(flags: Sequence[str]) -> list[str]:
    from apache_beam.options.pipeline_options import PipelineOptions

    stray = [
        flag
        for before, flag in zip(["", *flags], flags, strict=False)
        if not flag.startswith("--") and (not before.startswith("--") or "=" in before)
    ]
    try:
        options = PipelineOptions(list(flags))
        known, given = options.get_all_options(), options.get_all_options(retain_unknown_options=True)
    except SystemExit as error:  # argparse inside Beam has printed what is wrong
        raise DistillError(f"Beam refuses its options {' '.join(flags)}.") from error
    return stray + [f"--{name}" for name in given if name not in known]
