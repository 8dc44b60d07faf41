"""Training as functions: train, and rehearse what it would take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Unpack

from distill.api.given import Path, load_described, size_of, text_of
from distill.arguments import checked
from distill.errors import DistillError
from distill.results import TrainResult

if TYPE_CHECKING:
    from distill.config.run import Run
    from distill.training.methods import Planned
    from distill.training.rehearsal import Rehearsal


@checked
def train(
    run: Path | Run | None = None,
    out: Path = "",
    *,
    set: Mapping[str, object] | Sequence[str] = (),  # noqa: A002 - as the option is called
    progress: bool = True,
    **planned: Unpack[Planned],
) -> TrainResult:
    """Trains a student from a set of shards, or as a run file says. Called again it goes on where it stopped; of a finished run it returns the figures.

    Args:
        run: run file (TOML), the folder of an earlier run, or a `distill.config.run.Run`; None plans one from `planned`.
        out: the run folder, on a local disk.
        set: values of the run to change: {"student.embedding": 256}, or ["student.embedding=256"].
        planned: shards, method, images, size, teacher, student, embedding, epochs, steps, batch, seed: options of `distill train`, which explains them.

    Raises:
        DistillError: the run cannot work, or another run or process has the folder.
        Unfinished: the loss was not finite; the last good checkpoint stays.
    """
    from distill.data.folders import check_local
    from distill.report.run_page import write_run_report
    from distill.runtime.progress import phase, shown
    from distill.runtime.quiet import quiet_import

    loaded = _planned_run(run, set, planned)  # before `out` is asked for: `distill train out` is a set given as a run file
    if not str(out):
        raise DistillError("train: the run folder is missing. Expected: --out FOLDER, or from Python train(..., out=FOLDER).")
    with shown(progress):
        with phase("importing TensorFlow"), quiet_import():
            from distill.training.trainer import train as run_stages
        summary = run_stages(loaded, text_of(out), open_teacher=load_described, quiet=not progress)
        report = write_run_report(check_local(out, "run"))
    return TrainResult(
        text_of(out),
        summary["student"],
        summary["best"],
        summary["history"],
        str(report),
        summary["parameters"],
        summary["epochs"],
        summary["steps"],
        summary["seconds"],
        summary["last"],
        summary.get("left_out", {}),
        summary.get("best_epoch"),
    )


@checked
def rehearse(
    run: Path | Run | None = None,
    out: Path = "",
    *,
    set: Mapping[str, object] | Sequence[str] = (),  # noqa: A002 - as the option is called
    progress: bool = True,
    **planned: Unpack[Planned],
) -> Rehearsal:
    """Returns what `train` with the same arguments would take: rows, steps, parameters, memory, and time after some steps on trial. Writes nothing."""
    from distill.data.folders import check_folder
    from distill.runtime.progress import shown
    from distill.runtime.quiet import quiet_import

    loaded = _planned_run(run, set, planned)
    if str(out):
        check_folder(text_of(out), "run", "evaluation")
    with shown(progress):
        with quiet_import():
            from distill.training.rehearsal import rehearse as take_steps
        return take_steps(loaded, open_teacher=load_described)


def _planned_run(run: Path | Run | None, set: Mapping[str, object] | Sequence[str], planned: Planned) -> Run:  # noqa: A002
    """Returns the run of a file, of a value, or of options."""
    from distill.config.run import Run
    from distill.training.methods import plan_run

    if isinstance(run, Run):
        if set or any(value is not None for value in planned.values()):
            raise DistillError("train: a Run and changes to it were given. Give the path of a run file with `set`, or a Run that has the changes.")
        return run
    size = size_of(planned.get("size"))
    options = {**planned, "size": size}
    return plan_run(None if run is None else text_of(run), set_=_overrides(set), **options)  # type: ignore[arg-type]


def _overrides(changes: Mapping[str, object] | Sequence[str]) -> Sequence[str]:
    """({"student.embedding": 256}) -> ["student.embedding=256"]; one text is one change."""
    if isinstance(changes, str):
        return [changes]
    if not isinstance(changes, Mapping):
        return changes
    try:
        return [f"{key}={_inline(value)}" for key, value in changes.items()]
    except TypeError as error:
        raise DistillError(f"set: {error}. Expected values that TOML has: texts, numbers, true or false, lists of them.") from error


def _inline(value: object) -> str:
    """A TOML value on one line, tables too: {"by": "key"} -> '{ by = "key" }'."""
    import tomli_w

    if isinstance(value, Mapping):
        inside = ", ".join(f"{tomli_w.dumps({str(key): 0}).partition('=')[0].strip()} = {_inline(each)}" for key, each in value.items())
        return "{ " + inside + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return tomli_w.dumps({"value": value}).partition("=")[2].strip()
