"""The parts of a run's page on what the student has of its teacher: agreement, its probes against the teacher's gallery, leaks, and a probe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill.report import figures
from distill.report.page import Block, Facts, Figure, Portraits, Section, Table, Text
from distill.report.pairs_part import cosine
from distill.report.run_files import Figures, RunFiles
from distill.report.words import figure_name, figure_range, figure_value
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
        told = f"Not to be had: {why}." if why else "Not evaluated. distill evaluate with --teacher on pairs fills this section."
        return Section(title, [Text(told)])
    sets = [found["pairs"], *found.get("more_pairs", ())] if "pairs" in found else [found]
    rows: list[list[str | tuple[str, float]]] = []
    for one in sets:
        name = str(one.get("folder", "")).rstrip("/").rpartition("/")[2] or "pairs"
        rows.append([name, *(_figure(one, key) for key in ("accuracy", "auc", "eer", "tar@0.01"))])
    caption = "One image of each pair embedded by the student, the other by the teacher: what a gallery is worth that is not embedded again."
    return Section(title, [Table(["", "accuracy", "AUC", "EER", figure_name("tar@0.01")], rows, caption)])


def _figure(one: Figures, name: str) -> str:
    kind, _, far = name.partition("@")
    value = (one.get("tar", {}).get(far) or {}).get("tar") if far else one.get(kind)
    if value is None:
        return "-"
    within = ((one.get("intervals") or {}).get("figures") or {}).get(name) or {}
    between = figure_range(name, within.get("low"), within.get("high"))
    return f"{figure_value(name, value)}{f' ({between})' if between else ''}"
