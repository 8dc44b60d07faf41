"""The parts of a run's page on pairs: figures of each set, histograms, ROC, and where student and teacher differ."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from distill.errors import BadImage, DistillError
from distill.evaluation.disagreement import disagreeing, thumbnail
from distill.report import figures, plots
from distill.report.page import Block, Case, Cases, Figure, Section, Table, Text
from distill.report.run_files import Figures, RunFiles, Scores, set_name, sets_of
from distill.report.words import MINUS, figure_cell, figure_range, figure_value, less_teacher, rate, signed
from distill.runtime.lines import many


def on_pairs(run: RunFiles) -> Section:
    """Returns the section of all sets of pairs of a run's evaluation, and of people that were to be found."""
    sets = sets_of(run.student)
    if not sets:
        none = "No pairs were evaluated yet: the first command at the end of this page fills this section, and those behind it."
        return Section("On pairs", [*_people(run), Text(none)])
    blocks: list[Block] = [_table(run)]
    for number, one in enumerate(sets, 1):
        scores = {who: found for who in models_of(run) if (found := run.scores(who, number)) is not None}
        if not scores:
            blocks.append(Text(f"{set_name(one)}: no scores lie in the run, so nothing is drawn. Evaluate it with --out {run.folder}."))
            continue
        blocks += _plots(run, one, number, scores)
    return Section("On pairs", [*blocks, *_people(run)])


def _people(run: RunFiles) -> list[Block]:
    """Returns the rank-1 identification of each model; [] where none was asked for."""
    known = {name: found for who, name in models_of(run).items() if (found := run.evaluation[who].get("identification"))}
    rows: list[list[str | tuple[str, float]]] = []
    for name, one in known.items():
        rows.append([name, figure_cell(one, "rank1"), less_teacher(one, "rank1"), f"{one['probes']:,}", f"{one['gallery']:,}"])
    caption = (
        "Rank 1: the share of photos that are nearest to the one photo of their own person in the gallery. Less the teacher: in points, with the 95 % interval."
    )
    return [Table(["", "rank 1", "less the teacher", "photos", "people"], rows, caption)] if rows else []


def models_of(run: RunFiles) -> dict[str, str]:
    """Returns {key of evaluation.json: what the page calls it}: the teacher first, then the student of the run, then others."""
    there = ["teacher"] if run.teacher else []
    others = [who for who in run.evaluation if who not in ("teacher", run.who)]
    return {
        who: ("student" if "student" not in others else "this run") if who == run.who else who for who in [*there, *([run.who] if run.student else []), *others]
    }


def _table(run: RunFiles) -> Table:
    """Returns the figures of each model on each set, with intervals below them."""
    models = models_of(run)
    rates = sorted(
        {far for one in sets_of(run.student) for far, point in (one.get("tars") or _tars(one))["conservative"].items() if point["tar"] is not None}, key=float
    )
    shown = list(reversed(rates))[:4]
    rows: list[list[str | tuple[str, float]]] = []
    strong = list[int]()
    for number, mine in enumerate(sets_of(run.student)):
        for who, name in models.items():
            found = sets_of(run.evaluation[who])
            if number < len(found):
                strong += [len(rows)] if who == run.who else []
                rows.append([f"{name}, {set_name(mine)}", *_row(found[number], shown)])
    resamples = (sets_of(run.student)[0].get("intervals") or {}).get("resamples") or 0
    of = {one["intervals"]["of"] for one in sets_of(run.student) if one.get("intervals")}
    between = f" Below each figure stands its 95 % interval, from drawing {' or '.join(sorted(of))} again {resamples:,} times." if of else ""
    without = "" if of else " No intervals were taken (--resamples 0, or a set of more than 100,000 pairs)."
    caption = (
        f"Accuracy: 10-fold; ± is the standard deviation over folds. EER: where as many impostor pairs are accepted as genuine ones refused. TAR: the share of "
        f"genuine pairs accepted where at most so many impostor pairs are (FAR); - where these are too few.{between}{without}"
    )
    return Table(["", "pairs", "accuracy", "AUC", "EER", *(f"TAR at FAR {rate(float(far))}" for far in shown)], rows, caption, strong)


def _tars(one: Figures) -> dict[str, Mapping[str, Mapping[str, float | None]]]:
    """Those of an evaluation of an earlier version."""
    return {"conservative": one["tar"]}


def _row(one: Figures, fars: list[str]) -> list[str | tuple[str, float]]:
    within = (one.get("intervals") or {}).get("figures") or {}

    def cell(name: str, value: float | None, more: str = "") -> str:
        if value is None:
            return "-"
        drawn = within.get(name) or {}
        shown = figure_range(name, drawn.get("low"), drawn.get("high"))
        between = f"\n{shown}" if shown else ""
        return f"{figure_value(name, value)}{more}{between}"

    points = (one.get("tars") or _tars(one))["conservative"]
    tars = [cell(f"tar@{far}", (points.get(far) or {}).get("tar")) for far in fars]
    return [
        f"{one['genuine'] + one['impostors']:,}",
        cell("accuracy", one["accuracy"], f" ± {one['std']:.2%}"),
        cell("auc", one.get("auc")),
        cell("eer", one.get("eer")),
        *tars,
    ]


def _plots(run: RunFiles, one: Figures, number: int, scores: Mapping[str, Scores]) -> list[Block]:
    """Returns the histograms and the ROC of the models on one set."""
    from distill.evaluation.rates import roc

    names = models_of(run)
    spread, curves = {}, {}
    for who, found in scores.items():
        spread[names[who]] = (found.scores, found.same, float(sets_of(run.evaluation[who])[number - 1]["threshold"]))
        if found.far is None or found.tar is None:
            points = roc(found.scores, found.same)
            curves[names[who]] = (points.far, points.tar)
        else:
            curves[names[who]] = (found.far, found.tar)
    impostors = one["impostors"]
    least = f"below a FAR of {rate(min(1.0, 10 / impostors))} it rests on fewer than ten impostor pairs"
    whose = " and ".join(spread)
    return [
        Figure(
            figures.both(figures.rocs, curves, impostors, max(3.4, 1.45 * len(spread) + 0.5)),
            f"{set_name(one)}: ROC, the share of genuine pairs accepted (TAR) over the share of impostor pairs accepted (FAR, logarithmic). Higher is better; {least}.",
            f"ROC of {whose} on {set_name(one)}",
        ),
        Figure(
            figures.both(figures.histograms, spread),
            f"{set_name(one)}: the cosines of the pairs, in colour pairs of one person, in grey pairs of two people, each in percent of its kind. Dotted: the "
            "threshold. Where the two overlap, pairs are judged wrong.",
            f"Histograms of the cosines of {whose} on {set_name(one)}, genuine beside impostor pairs",
        ),
    ]


# ------------------------------------------------------------------------------------------------------ where student and teacher differ


def differing(run: RunFiles) -> Section:
    """Returns the section that sets student and teacher side by side on the same pairs."""
    title = "Teacher against student, pair by pair"
    if not run.teacher or not sets_of(run.student):
        return Section(title, [Text("No teacher was evaluated on the same pairs. The first command at the end of this page does so with --teacher.")])
    blocks: list[Block] = []
    cases: list[Block] = []
    for number, one in enumerate(sets_of(run.student), 1):
        student, teacher = run.scores(run.who, number), run.scores("teacher", number)
        if student is None or teacher is None or not np.array_equal(student.first, teacher.first) or not np.array_equal(student.second, teacher.second):
            blocks.append(Text(f"{set_name(one)}: the scores of both on the same pairs are not in the run, so nothing is drawn."))
            continue
        cuts = float(sets_of(run.teacher)[number - 1]["threshold"]), float(one["threshold"])
        blocks.append(_scatter(one, student, teacher, cuts))
        cases += _cases(run, one, number, student, teacher, cuts)
    return Section(title, [*blocks, *cases])


def _scatter(one: Figures, student: Scores, teacher: Scores, cuts: tuple[float, float]) -> Figure:
    judged = {"teacher": teacher.scores >= cuts[0], "student": student.scores >= cuts[1]}
    right = {who: accepted == student.same for who, accepted in judged.items()}
    both, neither = int((right["teacher"] & right["student"]).sum()), int((~right["teacher"] & ~right["student"]).sum())
    only = {who: int((right[who] & ~right[other]).sum()) for who, other in (("teacher", "student"), ("student", "teacher"))}
    counts = (
        f"{set_name(one)}: with one threshold for all pairs ({cuts[0]:.2f} and {cuts[1]:.2f}), both judge {both:,} pairs right and {neither:,} wrong; "
        f"the teacher alone is right on {only['teacher']:,}, the student alone on {only['student']:,}."
    )
    return Figure(
        figures.both(plots.scatter, teacher.scores, student.scores, student.same, cuts),
        f"{counts} Dotted: the thresholds. On the line both have the same cosine; a student whose cosines lie closer together keeps off it and may still be as good.",
        f"Scatter of the student's cosines over the teacher's for {many(len(student.same), 'pairs')} of {set_name(one)}",
    )


def _cases(run: RunFiles, one: Figures, number: int, student: Scores, teacher: Scores, cuts: tuple[float, float]) -> list[Block]:
    rows = disagreeing(teacher.scores, student.scores, cuts)
    if not len(rows):
        return [Text(f"{set_name(one)}: both put all pairs into the same order.")]
    images = _images(run, one, number, student, rows)
    differently = int(((teacher.scores >= cuts[0]) != (student.scores >= cuts[1])).sum())
    some = f"{min(differently, len(rows))} of the {many(differently, 'pairs')} that one judges right and the other wrong{', then others' * (differently < len(rows))}"
    words = f"{set_name(one)}: {some}; first those whose places among all pairs differ most. Below each: the cosine of either model, and what it makes of it."
    if images is None:
        named = [f"{student.first[row]} and {student.second[row]}" for row in rows[:4].tolist()]
        where = f"their images are not reachable from here ({one.get('folder')}), and this evaluation kept no thumbnails"
        return [Text(f"{set_name(one)}: the pairs that both see most differently are not shown, because {where}: {'; '.join(named)}.")]
    cases = []
    for row, (first, second) in zip(rows.tolist(), images, strict=True):
        same = bool(student.same[row])
        said = [
            f"{who} {cosine(found.scores[row])} {'right' if (found.scores[row] >= cut) == same else 'wrong'}"
            for who, found, cut in (("teacher", teacher, cuts[0]), ("student", student, cuts[1]))
        ]
        cases.append(Case(first, second, "same person" if same else "different people", ", ".join(said)))
    return [Text(words), Cases(cases)]


def cosine(value: float, decimals: int = 2) -> str:
    """Returns a cosine with some decimals, and never "-0.00"."""
    return f"{round(float(value), decimals) + 0.0:.{decimals}f}".replace("-", MINUS)


def _images(run: RunFiles, one: Figures, number: int, scores: Scores, rows: np.ndarray) -> list[tuple[bytes, bytes]] | None:
    """Returns the two images of each pair: those that the evaluation kept, else the files where the pairs lie in a folder; None where there are neither."""
    stored = run.arrays(run.who)
    names = [name if number == 1 else f"{name}_{number}" for name in ("shown", "shown_first", "shown_second")]
    if {*names} <= stored.keys() and np.array_equal(stored[names[0]], rows):
        return [(figures.jpeg_of(first), figures.jpeg_of(second)) for first, second in zip(stored[names[1]], stored[names[2]], strict=True)]
    folder = Path(str(one.get("folder", "")))
    if not folder.is_dir():
        return None
    try:
        return [(_read(folder, str(scores.first[row])), _read(folder, str(scores.second[row]))) for row in rows.tolist()]
    except (BadImage, DistillError, OSError):
        return None


def _read(folder: Path, key: str) -> bytes:
    from distill.data.archives.reader import read_bytes
    from distill.images.codec import decode

    return figures.jpeg_of(thumbnail(decode(read_bytes(str(folder), key))))


# ------------------------------------------------------------------------------------------------------------------------------ groups


def groups(run: RunFiles) -> Section:
    """Returns the section of groups of identities, the worst first."""
    blocks: list[Block] = [_groups(one) for one in sets_of(run.student) if one.get("groups")]
    if not blocks:
        return Section("Groups", [Text("No groups were evaluated. --groups FILE (IDENTITY<TAB>GROUP on each line) of distill evaluate fills this section.")])
    return Section("Groups", blocks)


def _groups(one: Figures) -> Table:
    rows: list[list[str | tuple[str, float]]] = []
    for group in one["groups"]:
        if "left_out" in group:
            rows.append([group["group"], "-", "-", "-", "-", "-"])
            continue
        at = group["at_threshold"]
        less = signed(100 * (group["accuracy"] - one["accuracy"]))
        number = f"{group['genuine'] + group['impostors']:,}"
        rows.append([group["group"], number, f"{group['accuracy']:.2%}", f"{less} points", f"{at['far']:.2%}", f"{at['tar']:.2%}"])
    left = [f"{group['group']}: {group['left_out']}" for group in one["groups"] if "left_out" in group]
    caption = (
        f"{set_name(one)}: the figures of each group's own pairs, the lowest accuracy first, in bold. The last two columns are what the one threshold of all "
        f"pairs does to a group. Groups have no intervals here: of few people a difference may be chance.{' ' + '; '.join(left) + '.' if left else ''}"
    )
    return Table(["group", "pairs", "accuracy", "against all pairs", "FAR at the threshold", "TAR at the threshold"], rows, caption, strong=0)
