"""Runs without a run file: a method and the facts of a set give a whole run, and examples give run files to start from.

A run that is planned here is its method's example (distill/examples/METHOD.toml) with sizes that fit the set: student, embedding, batch, holdout and
epochs. `plan_run` is what the command line and `distill.train` call; `values_of` and what it is made of are pure functions of (method, facts).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

from distill.arguments import checked
from distill.config.catalog import BACKBONES, DEFAULT, METHODS, near
from distill.errors import DistillError
from distill.storage.path import StoragePath, as_path
from distill.training.choices import Facts, Wishes, values_of

if TYPE_CHECKING:
    from distill.config.run import Run

Words = Sequence[str]
Place: TypeAlias = str | os.PathLike[str]


class Planned(TypedDict, total=False):
    """What a run can be planned from: the options of `distill train`, but RUN, --out and --set."""

    shards: Place | None
    method: str | None
    images: Place | None
    size: str | Sequence[int] | None
    teacher: Place | None
    student: str | None
    embedding: int | None
    epochs: int | None
    steps: int | None
    batch: int | None
    seed: int | None


@partial(checked, called="train")
def plan_run(
    run: Place | None = None,
    *,
    shards: Place | None = None,
    method: str | None = None,
    images: Place | None = None,
    size: tuple[int, int] | None = None,
    teacher: Place | None = None,
    student: str | None = None,
    embedding: int | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    batch: int | None = None,
    seed: int | None = None,
    set_: Words = (),
) -> Run:
    """Returns the run that a run file says, or without one the run that suits a set of shards, a folder of images, or noise.

    Reads the index of the set, or lists the images; writes nothing and loads no TensorFlow.

    Args:
        run: run file, or the folder of an earlier run; then nothing else may be given but set_.
        method: a name of METHODS; None is "cosine".
        size: height and width, for "labels", and for "noise" without shards.
        steps: of all stages together, rounded up to whole epochs.
        set_: changes as in `load_run`.

    Raises:
        DistillError: options that do not fit together, or a set that the method cannot learn from; says the command that is right.
    """
    given = {
        "--shards": shards,
        "--method": method,
        "--images": images,
        "--size": size,
        "--teacher": teacher,
        "--student": student,
        "--embedding": embedding,
        "--epochs": epochs,
        "--steps": steps,
        "--batch": batch,
        "--seed": seed,
    }
    words = [name for name, value in given.items() if value is not None]
    if run is not None:
        return _from_file(as_path(run), words, set_)
    method = _method(method, words)
    _check_numbers({name: given[name] for name in ("--embedding", "--epochs", "--steps", "--batch", "--seed")})
    if epochs and steps:
        raise DistillError("--epochs and --steps were both given, and each says how long to train. Leave one out.")
    if student is not None and student not in BACKBONES:
        raise DistillError(f'--student: received "{student}".{near(student, list(BACKBONES))} distill init --list shows all of them.')
    facts, places = _look(method, shards, images, size, teacher)
    values = values_of(method, facts, Wishes(student, embedding, epochs, steps, batch, seed), places)
    from distill.config.files import build_run

    return build_run(values, set_, f"--method {method}")


_IN_FILE = {  # the changes of a run file that stand for options
    "--shards": "data.shards=OUT",
    "--images": "data.images=FOLDER",
    "--size": "'data.size=[112, 112]'",
    "--teacher": "stage.1.teacher=TEACHER",
    "--student": "student.backbone=NAME",
    "--embedding": "student.embedding=128",
    "--epochs": "stage.1.epochs=8",
    "--steps": "stage.1.epochs=8",
    "--batch": "data.batch=64",
    "--seed": "seed=1",
}


def _from_file(run: StoragePath, words: Words, set_: Words) -> Run:
    from distill.config.files import load_run

    if words:
        instead = _IN_FILE.get(words[0])
        way = f", or change the file's value: --set {instead}" if instead else ""
        raise DistillError(f"{words[0]} was given together with the run file {run}, which says everything itself. Leave one of them out{way}.")
    if run.is_dir():
        if not (run / "run.toml").is_file():
            raise DistillError(_no_run_file(run))
        run = run / "run.toml"
    return load_run(run, set_)


def _no_run_file(folder: StoragePath) -> str:
    """What a folder is that was given as a run file, and the command that is right."""
    from distill.data.kinds import kind_of

    if kind_of(folder) == "set":
        return f"{folder} is a set of shards, not a run file. To learn from it: distill train --shards {folder} --out runs/NAME"
    return (
        f"{folder} is a folder, not a run file. If it holds photos, let the teacher embed them: distill embed {folder} OUT --teacher TEACHER, "
        "then distill train --shards OUT --out runs/NAME"
    )


def _method(name: str | None, words: Words) -> str:
    """Returns the method that was asked for. DistillError where there is none such, or nothing to learn from."""
    if name is not None and name not in METHODS:
        raise DistillError(f'--method: received "{name}".{near(name, list(METHODS))} Known: {", ".join(METHODS)}.')
    if name is None and "--shards" not in words:
        way = "distill train --method labels --images FOLDER --size HEIGHTxWIDTH --out RUN" if "--images" in words else "distill train --shards OUT --out RUN"
        what = "--images was given without --method labels" if "--images" in words else "neither a run file nor --shards was given"
        raise DistillError(f"{what}, so it is not known what to learn from. Expected: {way}, or distill train RUN.toml --out RUN")
    return name or DEFAULT


def _check_numbers(given: dict[str, Any]) -> None:
    for name, value in given.items():
        if value is not None and value < (name != "--seed"):
            raise DistillError(f"{name} {value}: expected {'1' if name != '--seed' else '0'} or more.")


def _look(method: str, shards: Place | None, images: Place | None, size: tuple[int, int] | None, teacher: Place | None) -> tuple[Facts, dict[str, Any]]:
    """Returns the facts of what a method learns from, and where that lies. DistillError where an option is missing, or belongs to another method."""
    source, where = METHODS[method].source, f"--method {method}"
    foreign = {
        "--shards": shards is not None and source == "images",
        "--images": images is not None and source != "images",
        "--size": size is not None and (source == "shards" or shards is not None),
        "--teacher": teacher is not None and source != "noise",
    }
    if wrong := next((name for name, is_wrong in foreign.items() if is_wrong), None):
        raise DistillError(f"{where} takes no {wrong}: {_REASONS[wrong]}")
    if source == "images":
        return _look_at_images(images, size)
    if source == "noise" and teacher is None:
        raise DistillError(f"{where} needs --teacher. Expected: distill train {where} --teacher TEACHER --size HEIGHTxWIDTH --out RUN")
    if source == "noise" and shards is None:
        if size is None:
            raise DistillError(
                f"{where} needs --size, or --shards to judge by. Expected: distill train {where} --teacher {teacher} --size HEIGHTxWIDTH --out RUN"
            )
        return Facts(0, size), {"teacher": str(teacher), "size": list(size)}
    if shards is None:
        raise DistillError(f"{where} needs --shards, the folder that distill embed wrote. Expected: distill train {where} --shards OUT --out RUN")
    return _look_at_shards(method, shards, teacher)


_REASONS = {
    "--shards": "it learns from images and their labels. Leave --shards out, or choose another method.",
    "--images": "it does not learn from image files. Embed them first (distill embed FOLDER OUT --teacher TEACHER) and give --shards OUT.",
    "--size": "the set says how large its images are. Leave --size out.",
    "--teacher": "it learns from the embeddings in the set. To prove that they are a teacher's own: --set data.teacher=TEACHER.",
}


def _look_at_shards(method: str, shards: Place, teacher: Place | None) -> tuple[Facts, dict[str, Any]]:
    from distill.data.shards import open_shards

    opened = open_shards(as_path(shards))
    if METHODS[method].labels and not opened.labelled:
        raise DistillError(f"--method {method} learns from labels too, but not every row of {shards} has one. Use --method cosine, which needs none.")
    facts = Facts(opened.rows, (opened.image.height, opened.image.width), opened.dimension, opened.classes if opened.labelled else (), opened.meta.views)
    places: dict[str, Any] = {"shards": str(shards)}
    if teacher is not None:
        asked = {name: value for name, value in opened.meta.reading.model_dump(mode="json").items() if value not in (None, {}, [])}
        places |= {"teacher": str(teacher), "reading": asked}
    return facts, places


def _look_at_images(images: Place | None, size: tuple[int, int] | None) -> tuple[Facts, dict[str, Any]]:
    from distill.data.sources import ImageSource

    if images is None or size is None:
        missing = "--images" if images is None else "--size"
        folder = "FOLDER" if images is None else images
        told = "HEIGHTxWIDTH" if size is None else f"{size[0]}x{size[1]}"
        raise DistillError(f"--method labels needs {missing}. Expected: distill train --method labels --images {folder} --size {told} --out RUN")
    listed = ImageSource(images, size=size, batch=1, seed=0)
    return Facts(listed.rows, size, None, listed.class_names or ()), {"images": str(images), "size": list(size)}
