"""The page of the demo: four models on the same identities, their pairs and their training, from the files that the steps of the demo wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distill.report import figures
from distill.report.page import Block, Case, Cases, Code, Faces, Figure, Section, Table, Text, Tiles, write_page
from distill.report.run_files import read_history, read_json_of
from distill.report.words import duration

NAMES = {"teacher": "teacher", "student": "distilled student", "labels_only": "labels only", "noise_only": "noise only"}
FACES = (6, 10)  # identities and images of each on the contact sheet


@dataclass(frozen=True)
class PairScores:
    """The scores of a model on pairs, from the files of `distill evaluate --out`: scores-model.npz and evaluation.json."""

    scores: np.ndarray
    same: np.ndarray
    first: np.ndarray
    second: np.ndarray
    threshold: float
    cosines: np.ndarray | None  # to the teacher's embeddings, where it was evaluated on shards

    @classmethod
    def read(cls, folder: Path) -> PairScores:
        figures_of = read_json_of(folder / "evaluation.json").get("model", {})
        with np.load(folder / "scores-model.npz", allow_pickle=False) as stored:
            scores, same, first, second = (stored[name] for name in ("scores", "same", "first", "second"))
            cosines = stored["cosines"] if "cosines" in stored.files else None
        return cls(scores, same, first, second, float(figures_of["pairs"]["threshold"]), cosines)


def write_demo_report(out: Path, summary: Mapping[str, Any], teacher: Path | None = None) -> Path:
    """Writes OUT/report.html of a finished demo and returns its path.

    Args:
        out: the folder of the demo.
        summary: what OUT/summary.json holds, one object for each of NAMES.
        teacher: the run folder of the teacher; None: OUT/runs/teacher.
    """
    evaluated = {name: PairScores.read(out / "runs" / name if name == "student" else out / "evaluation" / name) for name in NAMES}
    runs = {name: out / "runs" / name for name in NAMES} | ({"teacher": teacher} if teacher else {})
    histories = {NAMES[name]: read_history(run / "history.csv") for name, run in runs.items()}
    unseen = out / "faces" / "unseen"
    sections = [
        Section("", [Tiles(_headline(summary)), summary_table(summary)]),
        Section("The faces", _faces(unseen)),
        Section("Verification: same person or not?", _verification(evaluated)),
        Section("Where the student errs", _errors(unseen, evaluated)),
        Section("Training", _training(evaluated, histories, bool(summary["teacher"].get("shipped")))),
        Section("How it was done", _method(out, evaluated)),
    ]
    lead = (
        "A small model learned from the embeddings that a large one, its teacher, gives drawn faces. Accuracy, TAR and FAR on this page are of "
        "identities that no model was trained on."
    )
    return write_page(out / "report.html", "distill demo: what distilling is worth", sections, lead)


def _headline(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    teacher, student, labels = (summary[name] for name in ("teacher", "student", "labels_only"))
    gain = 100 * (student["accuracy"] - labels["accuracy"])
    tiles = [
        (f"{student['accuracy']:.1%}", "of the pairs judged right by the distilled student"),
        (f"{teacher['accuracy']:.1%}", "of the same pairs by its teacher"),
        (f"{teacher['parameters'] / student['parameters']:.1f} times", "fewer parameters than the teacher"),
        (f"{gain:+.1f} points", "of accuracy against the same student from labels only"),
    ]
    agreement = [(f"{student['agreement']:.3f}", "mean cosine to the teacher's embeddings, on pictures it was trained on")] if "agreement" in student else []
    return tiles + agreement


def summary_table(summary: Mapping[str, Any]) -> Table:
    """Returns the table of teacher and students, one row each."""
    whole = summary["teacher"]["parameters"]
    rows: list[list[str | tuple[str, float]]] = []
    for name, words in NAMES.items():
        row = summary[name]
        accuracy, tar = row["accuracy"], row["tar_at_far_1e-2"]
        shown = f"{accuracy:.1%}" + (f" ± {row['accuracy_std']:.1%}" if "accuracy_std" in row else "")
        sizes = [f"{row['parameters']:,}", f"{row['parameters'] / whole:.1%}", "ships trained" if row["seconds"] is None else duration(row["seconds"])]
        rows.append([words, (shown, 2 * accuracy - 1), ("-", 0.0) if tar is None else (f"{tar:.1%}", tar), *sizes])
    caption = (
        "Accuracy: the share of pairs judged right, 10-fold, ± the standard deviation over the folds; its bar starts at 50 %, which is guessing. "
        "TAR at FAR 1 %: the share of genuine pairs accepted at a threshold that accepts at most 1 % of the impostor pairs; its bar starts at 0. Higher "
        "is better in both. Of the teacher: the parameters as a share of the teacher's. Training: the time that it took."
    )
    return Table(["", "accuracy", "TAR at FAR 1 %", "parameters", "of the teacher", "training"], rows, caption, strong=1)


def _faces(unseen: Path) -> list[Block]:
    from distill.images.codec import decode

    people, each = FACES
    folders = [path for path in _shown(unseen) if path.is_dir()]
    files = [_shown(folder)[:each] for folder in folders[:people]]
    columns = min(map(len, files))
    images = np.stack([decode(file.read_bytes()) for row in files for file in row[:columns]])
    caption = (
        f"{len(files)} of the {len(folders)} identities that no model was trained on, a row each: {columns} pictures of one person, in which pose, light, "
        "expression, background and noise change."
    )
    return [Faces(figures.contact_sheet(images, columns), caption)]


def _shown(folder: Path) -> list[Path]:
    """Returns the paths in a folder, sorted, without names with a leading dot, which are unfinished or no images."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _verification(evaluated: Mapping[str, PairScores]) -> list[Block]:
    from distill.evaluation.rates import roc

    spread = {NAMES[name]: (one.scores, one.same, one.threshold) for name, one in evaluated.items()}
    points = {NAMES[name]: roc(one.scores, one.same) for name, one in evaluated.items()}
    genuine, impostors = int(evaluated["teacher"].same.sum()), int((~evaluated["teacher"].same).sum())
    curves = {name: (one.far, one.tar) for name, one in points.items()}
    marks = " and ".join(f"{100 * mark:g} %" for mark in figures.MARKS if mark > 1 / max(2, impostors))
    marked = f" Dotted: FAR {marks}." if marks else ""
    return [
        Figure(
            figures.both(figures.rocs, curves, impostors),
            "ROC: the share of genuine pairs that is accepted (TAR) over the share of impostor pairs that is accepted (FAR, logarithmic) as the threshold "
            f"moves. Higher is better.{marked} There are {genuine:,} genuine and {impostors:,} impostor pairs, so the curves mean little left of "
            f"{min(1.0, 10 / impostors):.1%}, where they rest on fewer than 10 impostor pairs.",
        ),
        Figure(
            figures.both(figures.histograms, spread),
            "How the cosines of the pairs are spread, for each model: in colour pairs of one person, in grey pairs of two people, each in percent of its kind. "
            "Dotted: the threshold, as the mean over the folds. Where the two overlap, pairs are judged wrong.",
        ),
    ]


def _errors(unseen: Path, evaluated: Mapping[str, PairScores], most: int = 6) -> list[Block]:
    """Returns the pairs that are farthest on the wrong side of the student's threshold."""
    from distill.images.codec import decode

    student, teacher = evaluated["student"], evaluated["teacher"]
    excess = np.where(student.same, student.threshold - student.scores, student.scores - student.threshold)
    cases: list[Case] = []
    for kind, truth in ((student.same, "same person"), (~student.same, "different people")):
        wrong = np.flatnonzero(kind & (excess > 0))
        for row in wrong[np.argsort(-excess[wrong], kind="stable")][:most]:
            pngs = [figures.png_of(decode((unseen / str(side[row])).read_bytes())) for side in (student.first, student.second)]
            scores = f"student {_score(student.scores[row])}, teacher {_score(teacher.scores[row])}"
            cases.append(Case(pngs[0], pngs[1], truth, scores))
    wrong_in_all = int((excess > 0).sum())
    words = (
        f"With one threshold for all pairs, {student.threshold:.2f}, the student judges {wrong_in_all:,} of {len(student.same):,} pairs wrong. These are the "
        f"{most} of each kind that lie farthest on the wrong side, or all where there are fewer, with the cosines that student and teacher give them; the "
        f"teacher's threshold is {teacher.threshold:.2f}."
    )
    return [Text(words), Cases(cases)] if cases else [Text("With one threshold for all pairs the student judges every pair right.")]


def _score(value: float) -> str:
    return f"{round(float(value), 2) + 0.0:.2f}"  # + 0.0: never "-0.00"


def _training(evaluated: Mapping[str, PairScores], histories: Mapping[str, Mapping[str, np.ndarray]], shipped: bool) -> list[Block]:
    ships = " The teacher ships with distill; its curve is that of the training that made it." if shipped else ""
    blocks: list[Block] = [
        Figure(
            figures.both(figures.losses, histories),
            "The loss of each model on what it was trained on, as the mean over each epoch. Each panel has its own axis, logarithmic where it says so: what "
            f"learns from labels lowers a margin softmax, what learns from a teacher 64 times the cosine distance.{ships}",
        )
    ]
    cosines = evaluated["student"].cosines
    if cosines is not None:
        caption = (
            f"The cosine of the student's and the teacher's embedding for each of the {len(cosines):,} pictures that the student was trained on, in percent of "
            "the pictures; the first bar counts all below it too. Dashed: the median."
        )
        blocks.append(Figure(figures.both(figures.agreements, {NAMES["student"]: cosines}), caption))
    return blocks


def _method(out: Path, evaluated: Mapping[str, PairScores]) -> list[Block]:
    pairs, genuine = len(evaluated["teacher"].same), int(evaluated["teacher"].same.sum())
    words = (
        f"{pairs:,} pairs, {genuine:,} of them genuine, drawn from the identities above; each score is the cosine of two embeddings. "
        "Accuracy is 10-fold: on each tenth of the pairs with the threshold that is best on the other nine. "
        "All three students are one network, trained for as many steps. The run files have all settings."
    )
    files = [out / f"{name}.toml" for name in NAMES]
    return [Text(words), *(Code(file.name, file.read_text(encoding="utf-8")) for file in files if file.is_file())]
