"""Pages of runs: write_report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path as LocalPath
from typing import TYPE_CHECKING, Any

from distill.api.given import Path
from distill.arguments import PATHS, checked
from distill.errors import DistillError
from distill.results import ReportResult
from distill.storage.objects import RemotePath
from distill.storage.path import as_path, close_to

if TYPE_CHECKING:
    from distill.report.run_files import RunFiles


@checked
def write_report(runs: Path | Sequence[Path], *, out: Path | None = None, progress: bool = True) -> ReportResult:
    """Writes the page of a run, or one page that sets several runs side by side.

    Args:
        runs: run folder, or a list of these, on a local disk; they need not be finished.
        out: the HTML file to write, which is new or a page of ours; None: report.html in the run folder, of one run alone.

    Raises:
        DistillError: a folder is no run or has no epoch yet; `out` is something else's, or is missing where there are several runs.
    """
    from distill.report.run_files import RunFiles
    from distill.report.verdict import judge
    from distill.runtime.progress import shown

    folders = [_run(path) for path in _several(runs)]
    if len(folders) > 1 and out is None:
        raise DistillError(f"report: {len(folders)} runs make one page; say where it goes: --out FILE, such as --out runs.html.")
    if (twice := next((path for row, path in enumerate(folders) if path.resolve() in [one.resolve() for one in folders[:row]]), None)) is not None:
        raise DistillError(f"report: {twice} is given twice. Give each run once.")
    target = None if out is None else _page(out)
    with shown(progress):
        found = [RunFiles.read(folder) for folder in folders]
        written = _write(found, target)
    verdicts = tuple(judge(one).headline for one in found)
    return ReportResult(written, tuple(map(str, folders)), verdicts, written.stat().st_size)


def _write(runs: Sequence[RunFiles], target: LocalPath | None) -> LocalPath:
    from distill.report.run_page import write_page_of, write_run_report
    from distill.report.runs_page import write_runs_report

    if target is None:
        return write_run_report(runs[0].folder)
    return write_page_of(runs[0], target) if len(runs) == 1 else write_runs_report(runs, target)


def _several(runs: Path | Sequence[Path]) -> Sequence[Path]:
    several: Sequence[Any] = runs if isinstance(runs, (list, tuple)) else [runs]
    if (odd := next((one for one in several if not isinstance(one, PATHS)), None)) is not None:
        raise DistillError(f"report: received {odd!r} ({type(odd).__name__}), expected the path of a run, or a list of paths.")
    if not several:
        raise DistillError("report: no run is given. Expected the folder of a run, or of several.")
    return several


def _run(given: Path) -> LocalPath:
    """Returns a run folder that has trained. DistillError for anything else, with what is there."""
    from distill.data.folders import check_local
    from distill.data.kinds import KINDS

    path = as_path(given)
    if not isinstance(path, RemotePath) and not path.exists():
        raise DistillError(f"{path}: nothing is there.{close_to(path)} Expected the folder of a run, which distill train writes.")
    folder = check_local(path, "run")
    if KINDS["run"].is_ours(folder) or (folder / "history.csv").is_file():
        if not (folder / "history.csv").is_file():
            raise DistillError(f"{folder} has no history.csv: the run has not finished its first epoch. There is nothing to draw yet.")
        return folder
    kind = next((KINDS[kind].what for kind in KINDS if kind != "drawing" and KINDS[kind].is_ours(folder)), "a folder without run.toml and history.csv")
    raise DistillError(f"{folder} is {kind}, no run. Expected the folder of a run, which distill train writes.")


def _page(out: Path) -> LocalPath:
    """Returns the path of a page. DistillError where something else has its name, or its folder is missing."""
    from distill.data.folders import check_page

    return check_page(out)
