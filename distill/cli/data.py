"""Verbs of images and their embeddings: faces, chunk, plan, embed, verify, views."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from distill.cli.endings import given, print_next, training
from distill.cli.options import (
    HANDED,
    IMAGES,
    LISTED,
    OUTPUT,
    PIXELS,
    TEACHER,
    VIEWS,
    WORK,
    AllFiles,
    AsJson,
    Batch,
    DryRun,
    Dtype,
    Exif,
    Images,
    LabelFrom,
    Out,
    RecipeName,
    Root,
    RootOfSet,
    Rows,
    Source,
    StoredImages,
    StripPrefix,
    Teacher_,
    Views,
    Workers,
    one_of,
    print_json,
    takes,
)
from distill.errors import DistillError, Unfinished
from distill.storage.path import StoragePath, as_path

ENGINES = ("local", "processes", "dask", "portable", "flink", "prism", "dataflow")


def faces(
    out: Out,
    identities: Annotated[int, typer.Option(metavar="N", help="how many identities, a folder each")] = 400,
    images: Annotated[int, typer.Option(metavar="N", help="pictures of each identity")] = 20,
    size: Annotated[int, typer.Option(metavar="N", help="height and width of a picture in pixels")] = 112,
    seed: Annotated[int, typer.Option(metavar="N", help="another seed draws other identities")] = 0,
    first: Annotated[int, typer.Option(metavar="N", help="number of the first identity; each number is another face")] = 0,
) -> None:
    """Draw faces of invented identities, as JPEGs in class folders.

    \b
    Example: distill faces faces --identities 100 --images 20 --size 48
    """
    from distill import api

    print(api.draw_faces(out, identities, images, size, seed, first).in_words())
    print_next(["embed", out, "OUT", "--teacher", "TEACHER"])


def chunk(source: Images, out: Out, rows: Rows = 100_000, all_files: AllFiles = False, strip_prefix: StripPrefix = "", label_from: LabelFrom = "") -> None:
    """Cut an image list into chunk files. `distill embed` does this by itself; the verb is here for looking at a list and for sharing it.

    \b
    Example: distill chunk faces chunks --rows 1000
    """
    from distill import api

    made = api.chunk(source, out, rows=rows, all_files=all_files, strip_prefix=strip_prefix, label_from=label_from)
    print(made.in_words())
    print_next(["embed", out, "OUT", "--root", made.root, "--teacher", "TEACHER"])


@takes(LISTED, PIXELS, HANDED)
def embed(
    context: typer.Context,
    source: Source,
    out: Out,
    teacher: Teacher_,
    root: Root = None,
    format: Annotated[str, typer.Option(**one_of("parquet", "hdf5"), rich_help_panel=OUTPUT, help="file format of the shards")] = "parquet",
    rows: Rows = 100_000,
    dtype: Dtype = "float16",
    images: StoredImages = "inline",
    views: Views = 1,
    add_views: Annotated[int, typer.Option(metavar="N", rich_help_panel=VIEWS, help="add so many views to the set in OUT; the embeddings in it stay")] = 0,
    recipe: RecipeName = None,
    view_seed: Annotated[int, typer.Option(metavar="N", rich_help_panel=VIEWS, help="another seed gives other views")] = 0,
    batch: Batch = 128,
    engine: Annotated[
        str,
        typer.Option(
            metavar="NAME", autocompletion=lambda: list(ENGINES), rich_help_panel=WORK, help=f"local (threads), {', '.join(ENGINES[1:-1])} or {ENGINES[-1]}"
        ),
    ] = "local",
    workers: Workers = "0",
    only: Annotated[
        list[int] | None, typer.Option(metavar="CHUNK", rich_help_panel=WORK, help="embed only this chunk (again), by its number; may be given several times")
    ] = None,
    retry_rejects: Annotated[
        bool, typer.Option("--retry-rejects", rich_help_panel=WORK, help="embed again the chunks that have a rejected image which can be read now")
    ] = False,
    max_rejects: Annotated[float, typer.Option(metavar="FRACTION", rich_help_panel=WORK, help="fraction of all rows that may be rejected, 0 to 1")] = 0.01,
    relist: Annotated[
        bool | None,
        typer.Option(
            "--relist/--no-relist",
            rich_help_panel=IMAGES,
            help="check whether files were added, removed or changed since the set was begun",
            show_default="only where SOURCE lies on this machine",
        ),
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Embed images with a teacher, into a set of shards. Running it again does what is missing.

    \b
    Example: distill embed faces out --teacher teacher --rows 1000
    With 8 views of each picture to learn from:
             distill embed faces out --teacher teacher --views 8 --recipe face
    Options of Apache Beam follow a --:
             distill embed faces out --teacher teacher -- --job_name=first
    """
    from distill import api

    done = api.embed(
        source,
        out,
        teacher=teacher,
        root=root,
        format=format,
        rows=rows,
        dtype=dtype,
        images=images,
        views=views,
        add_views=add_views,
        recipe=recipe,
        view_seed=view_seed,
        batch=batch,
        engine=engine,
        workers=_workers(workers),
        only=only or (),
        retry_rejects=retry_rejects,
        max_rejects=max_rejects,
        relist=relist,
        dry_run=dry_run,
        beam=context.args,
        **options,
    )
    if as_json:
        print_json(done.as_dict())
        return
    print(done.in_words())
    if not done.committed:
        again = given(context, but=("dry_run", "only"))
        print_next(["embed", source, out, *again, *(["--", *context.args] if context.args else [])])
        return
    verifying = ["verify", out, "--deep", "--teacher", teacher, *(["--root", root or done.root] if images == "path" else [])]
    print_next(verifying, training(out))


def _workers(text: str) -> int | Literal["auto"]:
    """("auto") -> "auto", ("4") -> 4."""
    if text == "auto":
        return "auto"
    if not text.isdecimal():
        raise DistillError(f"--workers {text}: expected a number of chunks at a time, 0 for one a core, or auto.")
    return int(text)


@takes(LISTED, PIXELS, HANDED)
def plan(
    context: typer.Context,
    source: Source,
    teacher: Teacher_,
    root: Root = None,
    rows: Rows = 100_000,
    dtype: Dtype = "float16",
    images: StoredImages = "inline",
    views: Views = 1,
    recipe: RecipeName = None,
    batch: Batch = 128,
    workers: Annotated[
        list[int] | None, typer.Option(metavar="N", rich_help_panel=WORK, help="also say how long so many workers would take; may be given several times")
    ] = None,
    machine: Annotated[
        list[StoragePath] | None,
        typer.Option(parser=as_path, metavar="FILE", rich_help_panel=WORK, help="also say how long it takes on another machine, where plan --json wrote FILE"),
    ] = None,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Say how long embedding will take and how many GB it will fill. Some hundred images are embedded here and now to measure it; nothing is written.

    \b
    Example: distill plan faces --teacher teacher --workers 8 --workers 64
    """
    from distill import api

    found = api.plan(
        source,
        teacher=teacher,
        root=root,
        rows=rows,
        dtype=dtype,
        images=images,
        views=views,
        recipe=recipe,
        batch=batch,
        workers=workers or (),
        machine=machine or (),
        **options,
    )
    if as_json:
        print_json(found.as_dict())
        return
    print(found.in_words())
    measured = ["--engine", found.engine, "--workers", found.workers]
    print_next(["embed", source, "OUT", *given(context, but=("workers", "machine")), *measured])


def verify(
    shards: Annotated[StoragePath, typer.Argument(help="a set of shards: OUT of distill embed, or OUT/shards", parser=as_path, metavar="SHARDS")],
    deep: Annotated[bool, typer.Option("--deep", help="hash every file and read every row")] = False,
    teacher: Annotated[
        str | None, typer.Option(metavar="MODEL", rich_help_panel=TEACHER, help="the teacher of the set: a sample is embedded again and compared")
    ] = None,
    sample: Annotated[int, typer.Option(metavar="N", rich_help_panel=TEACHER, help="rows of that sample")] = 64,
    root: RootOfSet = None,
    as_json: AsJson = False,
) -> None:
    """Check that a set of shards is whole. Without --deep by counts and sizes, with it by all hashes and rows; exit code 1 where anything is wrong.

    \b
    Example: distill verify out --deep --teacher teacher
    """
    from distill import api

    found = api.verify(shards, deep=deep, teacher=teacher, sample=sample, root=root)
    if as_json:
        print_json(found.as_dict())
    else:
        print(found.in_words())
    if found.failure:
        raise Unfinished(found.failure)
    if not as_json:
        print_next(training(shards))


def views(
    images: Annotated[list[StoragePath], typer.Argument(help="pictures to draw views of", parser=as_path, metavar="IMAGES...")],
    recipe: RecipeName = "face",
    out: Annotated[StoragePath, typer.Option(help="PNG to write", parser=as_path, metavar="PNG", rich_help_panel=OUTPUT)] = Path("views.png"),
    number: Annotated[int, typer.Option(metavar="N", rich_help_panel=VIEWS, help="views of each, the picture as it is first")] = 8,
    seed: Annotated[int, typer.Option(metavar="N", rich_help_panel=VIEWS, help="--view-seed of distill embed")] = 0,
    size: Annotated[str, typer.Option(metavar="HxW", rich_help_panel=VIEWS, help="height x width of each view; pictures are cropped to it")] = "112x112",
    exif: Exif = "ignore",
) -> None:
    """Draw the views of some pictures on a contact sheet. With paths as they are in a set's keys, they are the views of that set.

    \b
    Example: distill views anna.jpg bea.jpg --recipe photo --out sheet.png
    """
    from distill import api

    print(api.draw_views(images, recipe=recipe or "face", out=out, number=number, seed=seed, size=size, exif=exif).in_words())
    asked = ["--views", number, "--recipe", recipe, *(["--view-seed", seed] if seed else [])]
    print_next(["embed", "SOURCE", "OUT", "--teacher", "TEACHER", *asked])
