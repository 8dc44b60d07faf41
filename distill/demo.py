"""The whole job on drawn faces, as a person would type it: every step is a command line of `distill`, run in this one process.

The teacher that ships with distill (`distill.drawn_faces`), or one that is trained here from labels, is exported and embeds the images; a
student at least ten times smaller learns from its embeddings. The same student learns from labels only and from noise only, for the same
number of steps, so that the table shows the value of distillation. All four are evaluated on identities that none was trained on.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from distill import drawn_faces
from distill.data.folders import check_folder
from distill.data.kinds import kind_of
from distill.errors import DistillError, Unfinished
from distill.storage.files import committed
from distill.storage.json_files import write_json

Run = Callable[[Sequence[str]], int]
WHO = {"teacher": "teacher", "student": "distilled student", "labels_only": "the same student, labels only", "noise_only": "the same student, noise only"}


@dataclass(frozen=True)
class Recipe:
    """Sizes of the demo. All three students get the same number of steps."""

    identities: int
    images: int
    unseen: int
    unseen_images: int
    teacher_epochs: int
    student_epochs: int
    pairs: int
    chunk_rows: int
    size: int = 48
    batch: int = 128

    @property
    def rows(self) -> int:
        return self.identities * self.images

    @property
    def epoch_steps(self) -> int:
        return -(-self.rows // self.batch)


FULL = Recipe(identities=2000, images=6, unseen=100, unseen_images=20, teacher_epochs=8, student_epochs=6, pairs=6000, chunk_rows=1500)
SMALL = Recipe(identities=40, images=8, unseen=20, unseen_images=12, teacher_epochs=2, student_epochs=2, pairs=2000, chunk_rows=100)

RUN_FILE = """\
# distill train {out}/{name}.toml --out {out}/runs/{name}        {words}
seed = 1
[student]
backbone = "small_conv"
widths = {widths}
embedding = 128
dropout = 0.0
[data]
{data}
batch = {batch}
[[stage]]
{source}
optimizer = {{ name = "adamw", learning_rate = 1e-2, weight_decay = 1e-3 }}
schedule = {{ name = "cosine", warmup = 0.05 }}
terms = [{{ {term} }}]
"""
TEACHER, STUDENT = "[32, 64, 128, 128]", "[12, 24, 32, 36]"
PICTURES = 'images = "{out}/faces/{pictures}"\nsize = [{size}, {size}]'
TEACH = 'name = "cosine", weight = 64.0'
SHIPPED = "; it ships trained, on identities {first} to {last}, and nothing here draws their pictures"
# Each run of the demo: description, widths, data, source with its epochs, and its one term.
RUN_FILES = {
    "teacher": (
        "the teacher: a wider net, from labels alone{shipped}",
        TEACHER,
        PICTURES,
        'source = "images"\nepochs = {teacher_epochs}',
        'name = "arcface", scale = 20.0, angle_add = 0.0, cos_sub = 0.25',
    ),
    "student": ("the student: the teacher's embeddings, no labels", STUDENT, 'shards = "{set}/shards"', 'source = "shards"\nepochs = {student_epochs}', TEACH),
    "labels_only": (
        "the same student without a teacher",
        STUDENT,
        PICTURES,
        'source = "images"\nepochs = {student_epochs}',
        'name = "arcface", scale = 16.0, angle_add = 0.0, cos_sub = 0.15',
    ),
    "noise_only": (
        "the same student, which never sees a picture",
        STUDENT,
        "size = [{size}, {size}]",
        'source = "noise"\nteacher = "{out}/teacher"\nsteps = {epoch_steps}\nepochs = {student_epochs}',
        TEACH,
    ),
}


def write_run_files(out: Path, recipe: Recipe, train_teacher: bool = False) -> None:
    """Writes OUT/<name>.toml of the four runs."""
    for name, text in run_files(out, recipe, train_teacher).items():
        with committed(out / f"{name}.toml") as temporary:
            temporary.write_text(text, encoding="utf-8")


def write_groups(out: Path, recipe: Recipe) -> None:
    """Writes OUT/groups.txt: those of the identities that nobody is trained on, by the tone of their skin."""
    from distill.synthetic.faces import describe

    lines = []
    for number in range(recipe.identities, recipe.identities + recipe.unseen):
        lines.append(f"id{number:04d}\t{'darker skin' if describe(number).tone > 0.5 else 'lighter skin'}\n")
    with committed(out / "groups.txt") as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")


def run_files(out: Path, recipe: Recipe, train_teacher: bool = False) -> dict[str, str]:
    """Returns the text of each run file, by its name. That of a shipped teacher says how it was trained."""
    values: dict[str, Any] = {**recipe.__dict__, "epoch_steps": recipe.epoch_steps, "out": out.as_posix(), "set": set_folder(out).as_posix()}
    texts = {}
    for name, (words, widths, *parts) in RUN_FILES.items():
        values |= {"pictures": "train", "shipped": ""}
        if name == "teacher" and not train_teacher:
            shipped = SHIPPED.format(first=drawn_faces.FIRST, last=drawn_faces.FIRST + drawn_faces.IDENTITIES - 1)
            values |= {"pictures": "teacher", "shipped": shipped, "teacher_epochs": drawn_faces.EPOCHS}
        words, data, source, term = (part.format(**values) for part in (words, *parts))
        texts[name] = RUN_FILE.format(**values, name=name, words=words, widths=widths, data=data, source=source, term=term)
    return texts


def set_folder(out: Path) -> Path:
    """Returns the folder of the teacher's embeddings: OUT/set, in a demo of an earlier version OUT itself."""
    return out if kind_of(out) == "set" else out / "set"


def check_demo(out: Path, recipe: Recipe, train_teacher: bool = False) -> None:
    """Raises DistillError where OUT cannot be the folder of this demo: it is a foreign folder, or one of another demo."""
    check_folder(out, "demo")
    for name, text in run_files(out, recipe, train_teacher).items():
        path = out / f"{name}.toml"
        if path.is_file() and path.read_text(encoding="utf-8", errors="replace") != text:
            raise DistillError(
                f"{path} is not what this demo would write: it is of a demo with other options (--small, --train-teacher) or of another version of "
                "distill, or was changed by hand. Nothing was written. Give the options that it was made with, or another folder: distill demo OUT."
            )


def demo(out: Path, small: bool, run: Run, train_teacher: bool = False) -> dict[str, Any]:
    """Runs all steps in `out`. Training and embedding that an earlier run finished are not repeated.

    TensorFlow trains in this process before it embeds, so it keeps its own number of threads: the shards of the printed command line,
    in a process of its own, may differ from these in the last bit of a few numbers.

    Args:
        out: the folder to write.
        small: takes a minute; its figures mean little.
        run: runs one command line, and returns its exit code.
        train_teacher: trains the teacher instead of taking the one that ships with distill.
    Returns:
        the content of OUT/summary.json.
    Raises:
        DistillError: `out` is a foreign folder, or a step failed.
    """
    from distill.report.demo_page import write_demo_report
    from distill.runtime.progress import phase, shown

    recipe, started = SMALL if small else FULL, time.monotonic()
    check_demo(out, recipe, train_teacher)
    out.mkdir(parents=True, exist_ok=True)
    write_run_files(out, recipe, train_teacher)
    write_groups(out, recipe)
    for title, words in steps(out, recipe, train_teacher):
        print(f"\n# {title}\n$ distill {shlex.join(words)}", flush=True)
        if code := run(words):
            raise KeyboardInterrupt if code == 130 else Unfinished(f"`distill {shlex.join(words)}` ended with exit code {code}.")
    summary = gather(out, time.monotonic() - started, train_teacher)
    write_json(out / "summary.json", summary)
    with shown(), phase("drawing the report"):
        write_demo_report(out, summary, teacher_run(out, train_teacher))
    print(
        f"\n{table(summary)}\n\n{out / 'summary.json'} has these figures, {out / 'report.html'} shows them. {summary['seconds']:.0f} s in all."
        f"\nnext: your own photos and teacher: distill plan PHOTOS --teacher TEACHER"
        f"\nreport: {out / 'runs' / 'student' / 'report.html'}: may the student replace its teacher?"
    )
    return summary


def teacher_run(out: Path, train_teacher: bool) -> Path:
    """Returns the run folder of the teacher: that in OUT, or the one that ships with distill, by its path from here."""
    if train_teacher:
        return out / "runs" / "teacher"
    here = Path.cwd()
    return drawn_faces.TEACHER.relative_to(here) if drawn_faces.TEACHER.is_relative_to(here) else drawn_faces.TEACHER


def steps(out: Path, recipe: Recipe, train_teacher: bool = False) -> list[tuple[str, list[str]]]:
    """Returns (title, words of the command line) of every step."""
    at, made, teacher = out.as_posix(), set_folder(out).as_posix(), teacher_run(out, train_teacher).as_posix()
    size, images = str(recipe.size), str(recipe.images)
    runs = {name: teacher if name == "teacher" else f"{at}/runs/{name}" for name in RUN_FILES}
    train = {name: (f"train: {WHO[name]}", ["train", f"{at}/{name}.toml", "--out", run]) for name, run in runs.items()}
    taught = [train.pop("teacher")][: int(train_teacher)]
    ships = "" if train_teacher else " (it ships with distill, trained on other drawn identities than these)"
    unseen = [f"{at}/faces/unseen/id{recipe.identities:04d}/00{number}.jpg" for number in (0, 1)]
    other = f"{at}/faces/unseen/id{recipe.identities + 1:04d}/000.jpg"
    return [
        ("draw the identities to learn from", ["faces", f"{at}/faces/train", "--identities", str(recipe.identities), "--images", images, "--size", size]),
        (
            "draw identities that nobody is trained on",
            [
                "faces",
                f"{at}/faces/unseen",
                "--identities",
                str(recipe.unseen),
                "--images",
                str(recipe.unseen_images),
                "--size",
                size,
                "--first",
                str(recipe.identities),
            ],
        ),
        *taught,
        (f"write the teacher as a SavedModel, as a teacher usually comes{ships}", ["export", teacher, f"{at}/teacher", "--force"]),
        ("embed the pictures with the teacher", ["embed", f"{at}/faces/train", made, "--teacher", f"{at}/teacher", "--rows", str(recipe.chunk_rows)]),
        ("prove that nothing is missing or mixed up", ["verify", made, "--deep", "--teacher", f"{at}/teacher"]),
        *train.values(),
        *(_evaluation(out, recipe, name, run, made) for name, run in runs.items()),
        ("write the student for others to load", ["export", f"{at}/runs/student", f"{at}/student", "--format", "all", "--force"]),
        ("compare photos with it: two of one identity, one of another", ["compare", f"{at}/student/saved_model", *unseen, other]),
        ("write the page of the student: may it replace its teacher, and all that is known of it", ["report", runs["student"]]),
    ]


def _evaluation(out: Path, recipe: Recipe, name: str, run: str, made: str) -> tuple[str, list[str]]:
    """Returns the step that evaluates one run; the student also beside its teacher, by all that its page shows, into the folder of its run."""
    at = out.as_posix()
    unseen = f"{at}/faces/unseen"
    words = ["evaluate", run, "--pairs", unseen, "--number", str(recipe.pairs)]
    if name == "student":
        probe = ["--probe", unseen] if find_spec("sklearn") else []
        words += ["--shards", made, "--teacher", f"{at}/teacher", "--groups", f"{at}/groups.txt", *probe, "--speed"]
    return f"evaluate: {WHO[name]}", [*words, "--out", evaluation_folder(out, name).as_posix()]


def evaluation_folder(out: Path, name: str) -> Path:
    """Returns where a run is evaluated: the student in its own folder, where its page finds it."""
    return out / "runs" / name if name == "student" else out / "evaluation" / name


def gather(out: Path, seconds: float, train_teacher: bool = False) -> dict[str, Any]:
    """Returns the figures of the four models from the files that the verbs wrote; a shipped teacher has no seconds of training."""
    summary: dict[str, Any] = {}
    for name in RUN_FILES:
        evaluated = json.loads((evaluation_folder(out, name) / "evaluation.json").read_text())["model"]
        run = teacher_run(out, train_teacher) if name == "teacher" else out / "runs" / name
        trained = json.loads((run / "summary.json").read_text())
        pairs = evaluated["pairs"]
        summary[name] = {
            "accuracy": pairs["accuracy"],
            "accuracy_std": pairs["std"],
            "tar_at_far_1e-2": pairs["tar"]["0.01"]["tar"],
            "parameters": trained["parameters"],
            "seconds": trained["seconds"],
        }
        if "agreement" in evaluated:
            summary[name]["agreement"] = evaluated["agreement"]["mean"]
    if not train_teacher:
        summary["teacher"] |= {"seconds": None, "shipped": True}
    return {**summary, "seconds": round(seconds, 1)}


def table(summary: dict[str, Any]) -> str:
    lines = [f"{'on identities never seen':<32} {'accuracy':>9} {'TAR at FAR 1 %':>15} {'parameters':>11} {'of teacher':>11} {'training':>9}"]
    whole = summary["teacher"]["parameters"]
    for name, words in WHO.items():
        row = summary[name]
        tar = "-" if row["tar_at_far_1e-2"] is None else f"{row['tar_at_far_1e-2']:.1%}"
        seconds = "ships" if row["seconds"] is None else f"{row['seconds']:.0f} s"
        lines.append(f"{words:<32} {row['accuracy']:>8.1%} {tar:>15} {row['parameters']:>11,} {row['parameters'] / whole:>11.1%} {seconds:>9}")
    return "\n".join(lines)
