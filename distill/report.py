"""The page of a run and the page of the demo: one HTML file that holds everything it shows and asks no network for anything.

A page is a list of sections, a section a list of blocks (Text, Tiles, Table, Figure, Faces, Cases, Code); `write_report` lays them out
for a laptop and for a phone, on light and on dark paper. Every text is escaped here, so that a class folder may be called what it likes.
The two pages read what the verbs left on disk and compute nothing that the verbs have not.
"""

from __future__ import annotations

import base64
import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from distill import DistillError, __version__, figures
from distill.files import committed
from distill.folders import check_folder

NAMES = {"teacher": "teacher", "student": "distilled student", "labels_only": "labels only", "noise_only": "noise only"}
FACES = (6, 10)  # identities and pictures of each on the contact sheet
CURVES = {  # columns of history.csv: what the axis says, what is to be seen
    "loss": ("loss (weighted sum of terms)", "What is minimised; where rows held out (dashed) stop falling, the student learns by heart."),
    "agreement": ("cosine to the teacher", "How closely the student points where its teacher does: 1 is the same direction, 0 none in common."),
    "accuracy": ("rows told right (share)", "How many rows get the class that they have; only identities trained on have one."),
    "learning_rate": ("learning rate", "The step size at the end of each epoch, as the schedule set it."),
}


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    words: str

    def html(self) -> str:
        return f"<p>{escape(self.words)}</p>"


@dataclass(frozen=True)
class Tiles:
    """Figures to be seen first: (value, what it is) each."""

    values: Sequence[tuple[str, str]]

    def html(self) -> str:
        tiles = "".join(f"<div><b>{escape(value)}</b><span>{escape(words)}</span></div>" for value, words in self.values)
        return f'<div class="tiles">{tiles}</div>'


@dataclass(frozen=True)
class Table:
    """Rows of texts under column names; `strong` is the row to look at first. A cell (text, share) has a bar of that share, 0 to 1."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str | tuple[str, float]]]
    caption: str = ""
    strong: int | None = None

    def html(self) -> str:
        head = "".join(f'<th scope="col">{escape(name)}</th>' for name in self.columns)
        body = ""
        for number, row in enumerate(self.rows):
            cells = "".join(self._cell(place, cell) for place, cell in enumerate(row))
            body += f'<tr{" class=strong" if number == self.strong else ""}>{cells}</tr>'
        note = f"<p class=note>{escape(self.caption)}</p>" if self.caption else ""
        return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{note}'

    def _cell(self, place: int, cell: str | tuple[str, float]) -> str:
        if isinstance(cell, tuple):
            text, share = cell
            return f'<td>{escape(text)}<i class="bar"><i style="width:{100 * min(1.0, max(0.0, share)):.1f}%"></i></i></td>'
        return f'<th scope="row">{escape(cell)}</th>' if place == 0 else f"<td>{escape(cell)}</td>"


@dataclass(frozen=True)
class Figure:
    """A plot, as a PNG for light and one for dark paper, with a caption that says what is to be seen."""

    pngs: tuple[bytes, bytes]
    caption: str

    def html(self) -> str:
        dark = f'<source media="(prefers-color-scheme: dark)" srcset="{_inline(self.pngs[1])}">'
        image = f'<img src="{_inline(self.pngs[0])}" alt="{escape(self.caption)}">'
        return f"<figure><picture>{dark}{image}</picture><figcaption>{escape(self.caption)}</figcaption></figure>"


@dataclass(frozen=True)
class Faces:
    """A picture made of photos (PNG bytes), over the whole width."""

    png: bytes
    caption: str

    def html(self) -> str:
        image = f'<img src="{_inline(self.png)}" alt="{escape(self.caption)}">'
        return f'<figure class="faces">{image}<figcaption>{escape(self.caption)}</figcaption></figure>'


@dataclass(frozen=True)
class Case:
    """One pair: two PNGs, what is true of it, and the scores it was given."""

    first: bytes
    second: bytes
    truth: str
    scores: str


@dataclass(frozen=True)
class Cases:
    """Pairs of pictures side by side, with their scores."""

    cases: Sequence[Case]

    def html(self) -> str:
        return f'<div class="cases">{"".join(map(self._case, self.cases))}</div>'

    def _case(self, case: Case) -> str:
        images = "".join(f'<img src="{_inline(png)}" alt="{escape(case.truth)}">' for png in (case.first, case.second))
        return f"<div><div>{images}</div><b>{escape(case.truth)}</b><span>{escape(case.scores)}</span></div>"


@dataclass(frozen=True)
class Code:
    """Lines as they stand in a file, folded away under a title."""

    title: str
    lines: str

    def html(self) -> str:
        return f"<details><summary>{escape(self.title)}</summary><pre>{escape(self.lines)}</pre></details>"


Block = Text | Tiles | Table | Figure | Faces | Cases | Code


@dataclass(frozen=True)
class Section:
    """A heading ("" for none) over blocks. Neighbouring figures stand side by side where there is room."""

    title: str
    blocks: Sequence[Block]

    def html(self) -> str:
        parts, row = [], ""
        for block in self.blocks:
            if isinstance(block, Figure):
                row += block.html()
                continue
            parts += [f'<div class="figures">{row}</div>'] if row else []
            parts.append(block.html())
            row = ""
        parts += [f'<div class="figures">{row}</div>'] if row else []
        heading = f"<h2>{escape(self.title)}</h2>" if self.title else ""
        return f"<section>{heading}{''.join(parts)}</section>"


STYLE = """
:root { color-scheme: light dark; --ink: #1f2933; --soft: #5b6874; --paper: #fbfbf9; --card: #fff; --line: #e1e5e9; --accent: #0072b2; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e9ee; --soft: #9aa7b4; --paper: #14181d; --card: #1c2229; --line: #313a44; --accent: #56b4e9; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 2.2rem 1.1rem 3rem; }
h1 { font-size: clamp(1.5rem, 4vw, 2.1rem); line-height: 1.2; margin: 0 0 .4rem; letter-spacing: -.01em; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .7rem; }
p { max-width: 70ch; margin: .5rem 0 1rem; }
.lead { font-size: 1.06rem; color: var(--soft); margin-bottom: 1.5rem; }
.note, figcaption, footer { color: var(--soft); font-size: .88rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: .8rem; margin-bottom: 1rem; }
.tiles > div, figure, .cases > div, details, .wide { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.tiles > div { padding: .8rem 1rem; }
.tiles b { display: block; font-size: 1.5rem; line-height: 1.3; white-space: nowrap; font-variant-numeric: tabular-nums; }
.tiles span { color: var(--soft); font-size: .88rem; line-height: 1.35; display: block; }
.wide { overflow-x: auto; margin: .4rem 0; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .55rem .9rem; text-align: right; white-space: nowrap; border-top: 1px solid var(--line); font-weight: 400; }
thead th { color: var(--soft); font-size: .85rem; border-top: 0; white-space: normal; vertical-align: bottom; }
th:first-child { text-align: left; }
.strong th, .strong td { font-weight: 650; }
.bar { display: block; height: 4px; border-radius: 2px; background: var(--line); margin-top: .25rem; min-width: 5rem; }
.bar i { display: block; height: 100%; border-radius: 2px; background: var(--accent); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 430px), 1fr)); gap: 1rem; margin: .8rem 0; align-items: start; }
figure { margin: 0; padding: .9rem; }
.figures > :only-child { max-width: 720px; }
.faces { margin: .8rem 0; }
figure img { width: 100%; height: auto; display: block; }
figcaption { margin-top: .6rem; line-height: 1.4; }
.cases { display: grid; grid-template-columns: repeat(auto-fill, minmax(160px, 1fr)); gap: .8rem; }
.cases > div { padding: .7rem; }
.cases > div > div { display: grid; grid-template-columns: 1fr 1fr; gap: 4px; margin-bottom: .5rem; }
.cases img { width: 100%; display: block; border-radius: 4px; }
.cases b { display: block; font-size: .9rem; }
.cases span { color: var(--soft); font-size: .85rem; line-height: 1.35; display: block; }
details { padding: .6rem .9rem; margin: .6rem 0; }
summary { cursor: pointer; }
pre { overflow-x: auto; font-size: .82rem; line-height: 1.45; margin: .6rem 0 .2rem; }
@media (max-width: 600px) {
  main { padding: 1.4rem .8rem 2rem; }
  th, td { padding: .45rem .5rem; font-size: .84rem; }
  thead th { font-size: .76rem; }
  .bar { min-width: 3.2rem; }
  figure { padding: .5rem; }
}
footer { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: .8rem; }
"""


def write_report(path: str | Path, title: str, sections: Sequence[Section], lead: str = "") -> Path:
    """Write the page, whole or not at all; returns its path."""
    path = Path(path)
    body = "".join(section.html() for section in sections)
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{escape(title)}</title><style>{STYLE}</style></head>\n<body><main>'
        f'<h1>{escape(title)}</h1>{f"<p class=lead>{escape(lead)}</p>" if lead else ""}{body}'
        f"<footer>distill {__version__}. This page holds all it shows.</footer></main></body></html>\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with committed(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def _inline(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


# ----------------------------------------------------------------------------------------------------- the page of a run


def read_history(path: str | Path) -> dict[str, np.ndarray]:
    """The columns of a history.csv: float64 [epochs] each, NaN where a stage has no such figure."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        raise DistillError(f"{path}: no such file. Expected the history of a run that has trained for at least one epoch.") from None
    if not rows:
        raise DistillError(f"{path}: no epochs in it. Expected the history of a run that has trained for at least one.")
    return {name: np.array([float(row[name]) if row[name] else np.nan for row in rows]) for name in rows[0]}


def write_run_report(run: str | Path) -> Path:
    """RUN/report.html from RUN/history.csv, and from summary.json and run.toml where they are there."""
    run = Path(run)
    if (run / "report.html").exists():
        check_folder(run, "run")
    history = read_history(run / "history.csv")
    summary = _json(run / "summary.json")
    last = {name: values[np.isfinite(values)][-1] for name, values in history.items() if np.isfinite(values).any()}
    tiles = [(f"{summary['parameters']:,}", "parameters of the student")] if "parameters" in summary else []
    tiles += [(str(len(history["loss"])), "epochs"), (_duration(float(np.nansum(history["seconds"]))), "of training")]
    for name, words in (("agreement", "mean cosine to the teacher"), ("accuracy", "accuracy on labels")):
        for column, rows in ((f"held_out_{name}", "held-out rows"), (name, "training rows")):
            if column in last:
                tiles.append((f"{last[column]:.4f}", f"{words}, {rows}, last epoch"))
    blocks: list[Block] = [Tiles(tiles)]
    for name, (unit, caption) in CURVES.items():
        if name in history:
            blocks.append(Figure(figures.both(figures.curve, history, name, unit), caption))
    told = run / "run.toml"
    if told.is_file():
        blocks.append(Code("run.toml: everything this run was told", told.read_text(encoding="utf-8")))
    return write_report(run / "report.html", f"Run {run.resolve().name}", [Section("", blocks)])


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _duration(seconds: float) -> str:
    """12 s, 3 min 20 s, 2 h 05 min.

    >>> _duration(200)
    '3 min 20 s'
    """
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    return f"{seconds // 60} min {seconds % 60:02d} s" if seconds < 3600 else f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


# --------------------------------------------------------------------------------------------------- the page of the demo


@dataclass(frozen=True)
class Judged:
    """A model on pairs, as `distill evaluate --out` left it: scores-model.npz beside evaluation.json."""

    scores: np.ndarray
    same: np.ndarray
    first: np.ndarray
    second: np.ndarray
    threshold: float
    cosines: np.ndarray | None  # to the teacher's embeddings, where it was judged on shards

    @classmethod
    def read(cls, folder: Path) -> Judged:
        figures_of = _json(folder / "evaluation.json").get("model", {})
        with np.load(folder / "scores-model.npz", allow_pickle=False) as stored:
            scores, same, first, second = (stored[name] for name in ("scores", "same", "first", "second"))
            cosines = stored["cosines"] if "cosines" in stored.files else None
        return cls(scores, same, first, second, float(figures_of["pairs"]["threshold"]), cosines)


def write_demo_report(out: str | Path, summary: Mapping[str, Any]) -> Path:
    """OUT/report.html of a finished demo; `summary` is what OUT/summary.json holds, one object for each of NAMES."""
    out = Path(out)
    judged = {name: Judged.read(out / "evaluation" / name) for name in NAMES}
    histories = {NAMES[name]: read_history(out / "runs" / name / "history.csv") for name in NAMES}
    unseen = out / "faces" / "unseen"
    sections = [
        Section("", [Tiles(_headline(summary)), summary_table(summary)]),
        Section("The faces", _faces(unseen)),
        Section("Telling people apart", _verification(judged)),
        Section("Where the student errs", _errors(unseen, judged)),
        Section("Training", _training(judged, histories)),
        Section("How it was done", _method(out, judged)),
    ]
    lead = "A small model learned from a large one's embeddings of drawn faces. All figures are of identities that no model was trained on."
    return write_report(out / "report.html", "What distilling is worth", sections, lead)


def _headline(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    teacher, student, labels = (summary[name] for name in ("teacher", "student", "labels_only"))
    gain = 100 * (student["accuracy"] - labels["accuracy"])
    tiles = [
        (f"{student['accuracy']:.1%}", "pairs told right by the distilled student"),
        (f"{teacher['accuracy']:.1%}", "by its teacher"),
        (f"{teacher['parameters'] / student['parameters']:.1f} times", "fewer parameters than the teacher"),
        (f"{gain:+.1f} points", "against the same student from labels only"),
    ]
    return tiles + ([(f"{student['agreement']:.3f}", "mean cosine to the teacher's embeddings, on pictures it was trained on")] if "agreement" in student else [])


def summary_table(summary: Mapping[str, Any]) -> Table:
    """Teacher and students, one row each."""
    whole = summary["teacher"]["parameters"]
    rows: list[list[str | tuple[str, float]]] = []
    for name, words in NAMES.items():
        row = summary[name]
        accuracy, tar = row["accuracy"], row["tar_at_far_1e-2"]
        told = f"{accuracy:.1%}" + (f" ± {row['accuracy_std']:.1%}" if "accuracy_std" in row else "")
        sizes = [f"{row['parameters']:,}", f"{row['parameters'] / whole:.1%}", _duration(row["seconds"])]
        rows.append([words, (told, 2 * accuracy - 1), ("-", 0.0) if tar is None else (f"{tar:.1%}", tar), *sizes])
    caption = (
        "Accuracy: pairs called right, 10-fold, ± standard deviation over the folds; its bar starts at 50 %, which is guessing. "
        "TAR at FAR 1 %: genuine pairs accepted at a threshold that lets at most 1 % of impostor pairs pass. Higher is better in both."
    )
    return Table(["", "accuracy", "TAR at FAR 1 %", "parameters", "of the teacher", "training"], rows, caption, strong=1)


def _faces(unseen: Path) -> list[Block]:
    from distill.images import decode

    people, each = FACES
    folders = [path for path in _shown(unseen) if path.is_dir()][:people]
    files = [_shown(folder)[:each] for folder in folders]
    columns = min(map(len, files))
    images = np.stack([decode(file.read_bytes()) for row in files for file in row[:columns]])
    caption = f"{len(folders)} of the identities that no model was trained on, one a row: pose, light, expression, background and noise change."
    return [Faces(figures.contact_sheet(images, columns), caption)]


def _shown(folder: Path) -> list[Path]:
    """What lies in a folder, sorted, without names with a leading dot: those are unfinished or no pictures."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _verification(judged: Mapping[str, Judged]) -> list[Block]:
    from distill.evaluation import roc

    spread = {NAMES[name]: (one.scores, one.same, one.threshold) for name, one in judged.items()}
    points = {NAMES[name]: roc(one.scores, one.same) for name, one in judged.items()}
    impostors = int((~judged["teacher"].same).sum())
    curves = {name: (one.far, one.tar) for name, one in points.items()}
    return [
        Figure(
            figures.both(figures.rocs, curves, impostors),
            f"The higher a curve, the more genuine pairs pass at that rate of wrongly accepted ones. {impostors:,} impostor pairs: "
            f"the left end rests on single pairs, so read it from about {min(1.0, 10 / impostors):.1%} on.",
        ),
        Figure(
            figures.both(figures.histograms, spread),
            "Where the two hills overlap, pairs are told wrong. A teacher's student should show its teacher's hills.",
        ),
    ]


def _errors(unseen: Path, judged: Mapping[str, Judged], most: int = 6) -> list[Block]:
    """The pairs on the wrong side of the student's threshold that lie farthest from it."""
    from distill.images import decode

    student, teacher = judged["student"], judged["teacher"]
    excess = np.where(student.same, student.threshold - student.scores, student.scores - student.threshold)
    cases: list[Case] = []
    for kind, truth in ((student.same, "same person"), (~student.same, "different people")):
        wrong = np.flatnonzero(kind & (excess > 0))
        for place in wrong[np.argsort(-excess[wrong], kind="stable")][:most]:
            pngs = [figures.picture(decode((unseen / str(side[place])).read_bytes())) for side in (student.first, student.second)]
            scores = f"student {_score(student.scores[place])}, teacher {_score(teacher.scores[place])}"
            cases.append(Case(pngs[0], pngs[1], truth, scores))
    wrong_in_all = int((excess > 0).sum())
    words = (
        f"With its threshold of {student.threshold:.2f} the student tells {wrong_in_all:,} of {len(student.same):,} pairs wrong. "
        f"The farthest from it of each kind, with their cosines; the teacher's threshold is {teacher.threshold:.2f}."
    )
    return [Text(words), Cases(cases)] if cases else [Text("It tells every pair right.")]


def _score(value: float) -> str:
    return f"{round(float(value), 2) + 0.0:.2f}"  # + 0.0: never "-0.00"


def _training(judged: Mapping[str, Judged], histories: Mapping[str, Mapping[str, np.ndarray]]) -> list[Block]:
    blocks: list[Block] = [
        Figure(
            figures.both(figures.losses, histories),
            "The loss of each run over its epochs. Each panel has its own axis: from labels, a margin softmax; from a teacher, the cosine distance.",
        )
    ]
    cosines = judged["student"].cosines
    if cosines is not None:
        caption = "How closely the student's embedding of each training picture points where its teacher's does; the dashed line is the median."
        blocks.append(Figure(figures.both(figures.agreements, {NAMES["student"]: cosines}), caption))
    return blocks


def _method(out: Path, judged: Mapping[str, Judged]) -> list[Block]:
    pairs, genuine = len(judged["teacher"].same), int(judged["teacher"].same.sum())
    words = (
        f"{pairs:,} pairs, {genuine:,} of them genuine, drawn from the identities above; each score is the cosine of two embeddings. "
        "Accuracy is 10-fold: on each tenth of the pairs with the threshold that is best on the other nine. "
        "All three students are one network, trained for as many steps. The run files say the rest."
    )
    files = [out / f"{name}.toml" for name in NAMES]
    return [Text(words), *(Code(file.name, file.read_text(encoding="utf-8")) for file in files if file.is_file())]
