"""Verbs of training: init, train."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from distill.cli.endings import print_next
from distill.cli.options import A_MODEL, AsJson, one_of, print_json
from distill.storage.path import StoragePath, as_path

if TYPE_CHECKING:
    from distill.training.methods import Planned

LEARN, STUDENT, LENGTH = "Without a run file", "Student", "Length"  # groups of options in help
METHODS = one_of("cosine", "joint", "arcface", "labels", "noise")


def init(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="cosine, joint, arcface, labels, noise or staged; --list explains them", show_default="cosine")
    ] = "cosine",
    listed: Annotated[bool, typer.Option("--list", help="list methods, terms with their options, and students with their parameters")] = False,
) -> None:
    """Print a run file to start from, with comments. `distill train RUN.toml --out RUN` trains what it says.

    \b
    Example: distill init joint > run.toml
    """
    from distill.config.catalog import example, listing

    print(listing() if listed else example(name).rstrip("\n"))


def train(
    run: Annotated[StoragePath | None, typer.Argument(metavar="RUN", parser=as_path, help="run file (TOML), or the folder of an earlier run")] = None,
    out: Annotated[
        StoragePath | None, typer.Option(metavar="FOLDER", parser=as_path, help="the run folder to write, or to go on in [required]", show_default=False)
    ] = None,
    shards: Annotated[str | None, typer.Option(metavar="SHARDS", rich_help_panel=LEARN, help="a set of shards: the folder that distill embed wrote")] = None,
    method: Annotated[
        str | None, typer.Option(**METHODS, rich_help_panel=LEARN, help="how the student learns; distill init --list explains each", show_default="cosine")
    ] = None,
    images: Annotated[
        str | None, typer.Option(metavar="FOLDER", rich_help_panel=LEARN, help="for --method labels: a folder of class folders, or a list")
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="HxW", rich_help_panel=LEARN, help="height x width of the images, for --method labels, and for noise without --shards")
    ] = None,
    teacher: Annotated[str | None, typer.Option(metavar="MODEL", rich_help_panel=LEARN, help=f"for --method noise: {A_MODEL}")] = None,
    student: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", rich_help_panel=STUDENT, help="small_conv, mobilefacenet or another one of distill init --list", show_default="by the images"
        ),
    ] = None,
    embedding: Annotated[
        int | None, typer.Option(metavar="N", rich_help_panel=STUDENT, help="size of the student's embedding", show_default="as many as the teacher's")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(metavar="N", rich_help_panel=LENGTH, help="epochs of all stages together", show_default="by the number of rows")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(metavar="N", rich_help_panel=LENGTH, help="steps of all stages together, rounded up to whole epochs; in place of --epochs")
    ] = None,
    batch: Annotated[int | None, typer.Option(metavar="N", rich_help_panel=LENGTH, help="images per step", show_default="128, fewer for small sets")] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", rich_help_panel=LENGTH, help="another seed gives another student", show_default="1")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="change a value of the run: stage.1.optimizer.learning_rate=0.01; may be given several times"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say rows, steps, parameters, memory and time, and write nothing")] = False,
    as_json: AsJson = False,
) -> None:
    """Train a student from a set of shards, or as a run file says. Running it again goes on where it stopped.

    \b
    Example: distill train --shards out --out runs/student
    """
    from distill import api

    planned: Planned = {
        "shards": shards,
        "method": method,
        "images": images,
        "size": size,
        "teacher": teacher,
        "student": student,
        "embedding": embedding,
        "epochs": epochs,
        "steps": steps,
        "batch": batch,
        "seed": seed,
    }
    if dry_run:
        found = api.rehearse(run, out or "", set=set_ or (), progress=not as_json, **planned)
        print_json(found.as_dict()) if as_json else print(found.in_words())
        return
    done = api.train(run, out or "", set=set_ or (), progress=not as_json, **planned)
    if as_json:
        print_json(done.as_dict())
        return
    print(done.in_words())
    judged_by = ["--pairs", "FOLDER", *(["--shards", shards] if shards else [])]
    print_next(["evaluate", done.run, *judged_by], ["export", done.run, "OUT"])
