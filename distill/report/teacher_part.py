"""The parts of a run's page on what the student has of its teacher: agreement, its probes against the teacher's gallery, leaks, and a probe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill.report import figures
from distill.report.page import Block, Facts, Figure, Portraits, Section, Table, Text
from distill.report.pairs_part import cosine, models_of
from distill.report.run_files import Figures, RunFiles
from distill.report.words import figure_cell, figure_name, less_teacher
from distill.runtime.lines import many

SEEN = {
    True: "the student was trained on them, so this is no fair figure",
    False: "the student was not trained on them",
    None: "whether the student was trained on them is not known",
}


def agreement(run: RunFiles) -> Section:
    """Returns the section of the agreement with the embeddings that a set of shards holds."""
    title = "Agreement with the teacher"
    found = run.student.get("agreement")
    if not found:
        why = run.student.get("agreement_left_out")
        return Section(title, [Text(f"None could be told: {why}." if why else "None was taken. --shards SHARDS of distill evaluate fills this section.")])
    blocks: list[Block] = [Facts(_agreed(found))]
    arrays = run.arrays(run.who)
    if "cosines" in arrays:
        caption = (
            f"The cosine of the student's and the teacher's embedding of each of {many(found['rows'], 'rows')} ({found['part']}), in percent of the rows; the "
            "first bar counts all below it too. Dashed: the median."
        )
        blocks.append(Figure(figures.both(figures.agreements, {"student": arrays["cosines"]}), caption, "Histogram of the cosines to the teacher's embeddings"))
    return Section(title, [*blocks, *_worst(found, arrays)])


def _agreed(found: Figures) -> list[tuple[str, list[str]]]:
    part = f"{found['part']} of {found['shards']}; {SEEN[found.get('trained_on')]}"
    facts = [("rows", [f"{many(found['rows'], 'rows')}: {part}"]), ("mean cosine", [f"{found['mean']:.4f}"])]
    if found.get("quantiles"):
        facts.append(("quantiles", [", ".join(f"{at} %: {cosine(value, 3)}" for at, value in found["quantiles"].items())]))
    if found.get("rank_correlation") is not None:
        sample = f" (of {found['sampled_pairs']:,} pairs of rows)" if "sampled_pairs" in found else ""
        facts.append(("rank correlation", [f"{found['rank_correlation']:.4f} of the similarities that both give{sample}; 1 is the same order"]))
    if near := found.get("neighbour_overlap"):
        each = ", ".join(f"{share:.1%} of the {f'{k} ' * (k != '1')}nearest" for k, share in near.items())
        facts.append(("neighbours", [f"{each} by the teacher are so by the student"]))
    if found.get("projected"):
        facts.append(("projection", ["taken behind the projection of the run, which its exports do not have"]))
    return facts


def _worst(found: Figures, arrays: Mapping[str, Any]) -> list[Block]:
    worst = found.get("worst") or []
    if not worst:
        return []
    if len(arrays.get("worst_images", ())) == len(worst):
        images = [figures.jpeg_of(pixels) for pixels in arrays["worst_images"]]
        shown = [(image, f"{'/'.join(one['key'].split('/')[-2:])}\n{cosine(one['cosine'])}") for image, one in zip(images, worst, strict=True)]
        return [Text("The images that both see least alike, with the cosine of their two embeddings:"), Portraits(shown)]
    names = ", ".join(f"{one['key']} {cosine(one['cosine'])}" for one in worst[:4])
    return [Text(f"The images that both see least alike are not shown, because this evaluation kept no thumbnails of them: {names}.")]


# ------------------------------------------------------------------------------------------------------------------- asymmetric, leaks, probe


def asymmetric(run: RunFiles) -> Section:
    """Returns the section on the student's probes against the teacher's gallery."""
    title = "The student's probes against the teacher's gallery"
    found = run.student.get("asymmetric")
    if not found:
        why = run.student.get("asymmetric_left_out")
        told = f"Not to be had: {why}." if why else "Not evaluated. --teacher TEACHER of distill evaluate, on pairs, fills this section."
        return Section(title, [Text(told)])
    rows: list[list[str | tuple[str, float]]] = []
    for one in [one for one in (found.get("pairs"), *found.get("more_pairs", ())) if one]:
        name = str(one.get("folder", "")).rstrip("/").rpartition("/")[2] or "pairs"
        exchanged = (one.get("mirrored") or {}).get("accuracy")
        cells = [figure_cell(one, "accuracy"), less_teacher(one, "accuracy"), "-" if exchanged is None else f"{exchanged:.2%}"]
        rows.append([name, *cells, figure_cell(one, "auc"), figure_cell(one, "eer"), figure_cell(one, "tar@0.01")])
    if one := found.get("identification"):
        rows.append(["rank 1 among people", figure_cell(one, "rank1"), less_teacher(one, "rank1"), "-", "-", "-", "-"])
    behind = " The student's embeddings go through the projection that its run has learned and keeps; its exports do not have it." * bool(
        found.get("projected")
    )
    caption = (
        "The first image of each pair by the student, the second by the teacher: what a student is worth where a gallery is not embedded again. Less the "
        f"teacher: against both by the teacher, in points, with the 95 % interval. Exchanged: the second image by the student.{behind}"
    )
    return Section(title, [Table(["", "accuracy", "less the teacher", "exchanged", "AUC", "EER", figure_name("tar@0.01")], rows, caption)])


KINDS = {"identities": "people of the same name", "equal_files": "equal files", "near_duplicates": "files that show the same picture"}


def leaks(run: RunFiles) -> Section:
    """Returns the section on what the evaluation shares with the rows of the set."""
    title = "Leaks from training into the evaluation"
    found = run.leaks
    if not found:
        return Section(title, [Text("Not looked for. --shards SHARDS beside --pairs of distill evaluate fills this section.")])
    rows: list[list[str | tuple[str, float]]] = []
    for kind, words in KINDS.items():
        one = found.get(kind) or {"left_out": "this evaluation is of an earlier version"}
        rows.append([words, "-", f"not looked for: {one['left_out']}"] if "left_out" in one else [words, f"{one['number']:,}", _named(one)])
    where = f" Compared were {found['images']:,} images with {many(found['rows'], 'rows')}." if "rows" in found else ""
    caption = (
        f"What the evaluation shares with {found['shards']} ({found['part']}). The same picture: a cosine of {found['bound']:g} or more, and other bytes. "
        f"Whether people of one name are the same is not known.{where}"
    )
    return Section(title, [Table(["shared", "number", "which"], rows, caption, wraps=True)])


def _named(one: Figures, most: int = 4) -> str:
    named = [each if isinstance(each, str) else f"{each['image']} is {each['row']} ({cosine(each['cosine'], 3)})" for each in one["named"][:most]]
    more = f", and {one['number'] - most:,} more" if one["number"] > most else ""
    return f"{', '.join(named)}{more}" or "none"


def probe(run: RunFiles) -> Section:
    """Returns the section on a linear classifier that learned from embeddings."""
    title = "A linear classifier on the embeddings"
    known = {who: name for who, name in models_of(run).items() if (run.evaluation[who].get("probe") or {}).get("accuracy") is not None}
    if not known:
        return Section(title, [Text("Not evaluated. --probe FOLDER of distill evaluate fills this section: how well embeddings tell labels apart.")])
    rows: list[list[str | tuple[str, float]]] = []
    for who, name in known.items():
        one = run.evaluation[who]["probe"]
        rows.append([name, figure_cell(one, "accuracy"), less_teacher(one, "accuracy"), f"{one['classes']:,}", f"{one['train']:,}", f"{one['test']:,}"])
    first = run.evaluation[next(iter(known))]["probe"]
    stored = f" With the embeddings that the set stores it is {first['stored_accuracy']:.2%}." if "stored_accuracy" in first else ""
    caption = f"{first.get('name', '')}: the share of held-out images whose identity is named by {first.get('classifier', 'a linear classifier')}.{stored}"
    return Section(title, [Table(["", "accuracy", "less the teacher", "identities", "learned from", "held out"], rows, caption)])
