"""The parts of a run's page on what a student costs, on its exports, and on what comes next."""

from __future__ import annotations

import shlex
from pathlib import Path

from distill.config.stage import NoiseStage
from distill.report import figures, plots
from distill.report.page import Block, Commands, Figure, Section, Table, Text
from distill.report.pairs_part import models_of
from distill.report.run_files import Figures, RunFiles, set_name, sets_of
from distill.report.verdict import one_image
from distill.report.words import size

MILLISECONDS = "milliseconds for one image on one thread"


def costs(run: RunFiles) -> Section:
    """Returns the section of accuracy against size and time."""
    title = "Accuracy against size and time"
    known = {who: name for who, name in models_of(run).items() if run.evaluation[who].get("cost")}
    if not known:
        return Section(title, [Text("What the models cost was not measured. --speed of distill evaluate, with --teacher TEACHER, fills this section.")])
    blocks: list[Block] = [_table(run, known)]
    for unit, of in (("megabytes on disk", _megabytes), (MILLISECONDS, lambda one: one_image(one["cost"]))):
        places = [_place(name, cost, run.evaluation[who]) for who, name in known.items() if (cost := of(run.evaluation[who])) and sets_of(run.evaluation[who])]
        if len(places) > 1:
            one = set_name(sets_of(run.student)[0]) if sets_of(run.student) else ""
            caption = f"Accuracy on {one} over {unit}: up and to the left is better. The bars are 95 % intervals, where they were taken."
            alt = "; ".join(f"{place.name}: {100 * place.accuracy:.2f} % at {place.cost:.3g}" for place in places)
            blocks.append(Figure(figures.both(plots.costs, places, unit), caption, f"Plot of accuracy over {unit}. {alt}"))
    return Section(title, blocks)


def _megabytes(one: Figures) -> float | None:
    count = one["cost"].get("bytes")
    return count / 1e6 if count else None


def _place(name: str, cost: float, one: Figures) -> plots.Place:
    first = sets_of(one)[0]
    within = ((first.get("intervals") or {}).get("figures") or {}).get("accuracy") or {}
    between = (within["low"], within["high"]) if within.get("low") is not None and within.get("high") is not None else None
    return plots.Place(name, cost, first["accuracy"], between)


def _table(run: RunFiles, known: dict[str, str]) -> Table:
    rows: list[list[str | tuple[str, float]]] = []
    for who, name in known.items():
        cost = run.evaluation[who]["cost"]
        threads = (cost.get("latency") or {}).get("threads") or {}
        each = [f"{value:.3g}\u00a0ms" if value else "-" for value in ((threads.get(of) or {}).get(batch) for of in ("1", "all") for batch in ("1", "32"))]
        per_second = (cost.get("latency") or {}).get("images_per_second") or cost.get("images_per_second")
        bytes_, parameters, flops = cost.get("bytes"), cost.get("parameters"), cost.get("flops")
        rows.append(
            [
                name,
                size(bytes_) if bytes_ else "-",
                f"{parameters:,}" if parameters else "-",
                f"{flops / 1e6:,.1f}" if flops else "-",
                *each,
                f"{per_second:,.0f}" if isinstance(per_second, (int, float)) else "-",
            ]
        )
    machines = sorted({str(machine) for who in known if (machine := (run.evaluation[who]["cost"].get("latency") or {}).get("machine"))})
    caption = f"MFLOPs: two for each multiply-add, of one image. Times are medians{f', on {machines[0]}' if machines else ''}."
    return Table(
        ["", "size", "parameters", "MFLOPs", "1 image, 1 thread", "32, 1 thread", "1 image, all threads", "32, all threads", "images/s"], rows, caption
    )


# ---------------------------------------------------------------------------------------------------------------------- exports, and next


def exports(run: RunFiles) -> Section:
    """Returns the section of what was exported."""
    if not run.exports:
        words = shlex.join(["distill", "export", str(run.folder), f"{run.folder}-export"])
        return Section("Exports", [Text(f"None is noted in the run. {words} fills this section.")])
    rows: list[list[str | tuple[str, float]]] = []
    for name, one in run.exports.items():
        if isinstance(one, dict):
            bytes_ = size(one["bytes"]) if one.get("bytes") else "-"
            took = f"{one['ms_per_image']:.3g}\u00a0ms" if one.get("ms_per_image") else "-"
            cosines = [f"{one[key]:.6f}" if isinstance(one.get(key), (int, float)) else "-" for key in ("cosine_q01", "cosine_min")]
            rows.append(
                [name, bytes_, *cosines, f"{one['images']:,}" if one.get("images") else "-", took, "/".join(Path(str(one.get("path", "-"))).parts[-2:])]
            )
    proofs = sorted({str(one["proof"]) for one in run.exports.values() if isinstance(one, dict) and one.get("proof")})
    folders = sorted({str(Path(str(one["path"])).parent.parent) for one in run.exports.values() if isinstance(one, dict) and one.get("path")})
    caption = (
        f"Each file was loaded in its own engine and compared with the student on images{f' ({proofs[0]})' if proofs else ''}: the cosine that 99 of 100 of "
        f"them reach, and the lowest of all. Time: of one image alone. Files are below {' and '.join(folders)}."
    )
    return Section("Exports", [Table(["format", "size", "cosine, lowest 1 %", "lowest cosine", "images", "time", "file"], rows, caption)])


def following(run: RunFiles) -> Section:
    """Returns the commands that come next."""
    shards = ["--shards", run.run_file.data.shards] if run.run_file and run.run_file.data.shards else []
    folder = str(run.folder)
    purpose = (
        f"evaluate it{' on other pairs' if run.evaluation else ''}: PAIRS is a folder with a folder of images for each identity, a .bin file or a list of "
        "pairs, of people that it was not trained on"
    )
    return Section(
        "Next",
        [
            Commands(
                [
                    (purpose, shlex.join(["distill", "evaluate", folder, "--pairs", "PAIRS", *_teacher(run), *shards, "--out", folder])),
                    ("write it for others to load", shlex.join(["distill", "export", folder, f"{folder}-export"])),
                    ("this page again, when something was added to the run", shlex.join(["distill", "report", folder])),
                ]
            )
        ],
    )


def _teacher(run: RunFiles) -> list[str]:
    """Returns the option that names the teacher; [] of a run that had none."""
    if path := run.teacher.get("path"):
        return ["--teacher", str(path)]
    if run.run_file is None:
        return []
    asked = [run.run_file.data.teacher, *(stage.teacher for stage in run.run_file.stage if isinstance(stage, NoiseStage))]
    known = next((path for path in asked if path), "TEACHER" if any(stage.source == "shards" for stage in run.run_file.stage) else "")
    return ["--teacher", known] if known else []
