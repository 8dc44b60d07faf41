"""Verbs of images and their embeddings: faces, chunk, plan, embed, verify, views."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from distill import DistillError, Unfinished
from distill.cli.options import (
    IMAGES,
    OUTPUT,
    TEACHER,
    VIEWS,
    WORK,
    AllFiles,
    AsJson,
    Batch,
    Color,
    DryRun,
    Dtype,
    Exif,
    Feed,
    Images,
    LabelFrom,
    Offset,
    Out,
    Output,
    Preset,
    RecipeName,
    Resize,
    Root,
    RootOfSet,
    Rows,
    Scale,
    Signature,
    Size,
    Source,
    StoredImages,
    StripPrefix,
    Tags,
    Teacher_,
    Views,
    Workers,
    debugging,
    one_of,
    open_described,
    parse_recipe,
    parse_size,
    print_json,
)
from distill.remote import place

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
    from distill.faces import draw_folder
    from distill.screen import bar

    with bar("drawing", "identities") as tell:
        pictures = draw_folder(out, identities, images, size, seed, first, progress=tell)
    print(f"{out}: {pictures:,} pictures of {identities} identities, {size}x{size}")


def chunk(
    source: Images,
    out: Out,
    rows: Rows = 100_000,
    all_files: AllFiles = False,
    strip_prefix: StripPrefix = "",
    label_from: LabelFrom = "",
) -> None:
    """Cut an image list into chunk files. `distill embed` does this by itself; the verb is here for looking at a list and for sharing it.

    \b
    Example: distill chunk faces chunks --rows 1000
    """
    from distill.chunks import write_chunks
    from distill.folders import check_apart, check_folder
    from distill.imagelist import Rule
    from distill.screen import bar

    check_apart(source, out, "chunks")
    check_folder(out, "chunks")
    with bar("cutting chunks", "rows") as tell:
        made = write_chunks(source, out, rows, progress=tell, rule=Rule(all_files, strip_prefix, label_from))
    skipped = "".join(f", {count} {reason} skipped" for reason, count in made.skipped.items() if count)
    print(f"{out}: {made.rows:,} rows of {len(made.classes):,} classes in {len(made.chunks)} chunks{skipped}")


def embed(
    context: typer.Context,
    source: Source,
    out: Out,
    teacher: Teacher_,
    root: Root = None,
    all_files: AllFiles = False,
    strip_prefix: StripPrefix = "",
    label_from: LabelFrom = "",
    format: Annotated[str, typer.Option(**one_of("parquet", "hdf5"), rich_help_panel=OUTPUT, help="file format of the shards")] = "parquet",
    rows: Rows = 100_000,
    dtype: Dtype = "float16",
    images: StoredImages = "inline",
    resize: Resize = "none",
    exif: Exif = "ignore",
    views: Views = 1,
    add_views: Annotated[
        int, typer.Option(metavar="N", rich_help_panel=VIEWS, help="give the set in OUT so many views more than it was first made with; what is there stays")
    ] = 0,
    recipe: RecipeName = None,
    view_seed: Annotated[int, typer.Option(metavar="N", rich_help_panel=VIEWS, help="another seed gives other views")] = 0,
    size: Size = None,
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
        bool, typer.Option("--retry-rejects", rich_help_panel=WORK, help="make chunks again of which a rejected image can be read now")
    ] = False,
    max_rejects: Annotated[
        float, typer.Option(metavar="FRACTION", rich_help_panel=WORK, help="fraction of all rows that may be rejected, 0 to 1")
    ] = 0.01,
    signature: Signature = None,
    output: Output = None,
    scale: Scale = None,
    offset: Offset = None,
    color: Color = None,
    preset: Preset = None,
    feed: Feed = None,
    tags: Tags = None,
    relist: Annotated[
        bool | None,
        typer.Option(
            "--relist/--no-relist", rich_help_panel=IMAGES, help="look whether files were added, removed or changed since the set began",
            show_default="only where SOURCE lies on this machine",
        ),
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Embed images with a teacher, into a set of shards. Running it again does what is missing.

    \b
    Example: distill embed faces out --teacher teacher --rows 1000
    With 8 views of each picture to learn from:
             distill embed faces out --teacher teacher --views 8 --recipe face
    Options of Apache Beam follow a --:
             distill embed faces out --teacher teacher -- --job_name=first
    """
    from distill.screen import bar
    from distill.sources import root_of
    from pipelines.launch import embed as launch
    from pipelines.plan import Job

    described = open_described(teacher, signature, output, scale, offset, color, preset, feed, tags)
    job = Job(
        source=source, out=str(out), root=root or root_of(place(source)), teacher=described, format=format, rows=rows, dtype=dtype, images=images,
        resize=resize, exif=exif, views=views, add_views=add_views, recipe=parse_recipe(recipe), view_seed=view_seed, size=parse_size(size), batch=batch,
        only=tuple(only or ()), retry_rejects=retry_rejects, max_rejects=max_rejects, dry_run=dry_run, all_files=all_files,
        strip_prefix=strip_prefix, label_from=label_from, relist=relist,
    )  # fmt: skip
    engine, number = _workers(job, engine, workers)
    with bar("embedding", "images") as tell:
        outcome = launch(
            job, engine, number, context.args, debug=debugging(),
            on_estimate=lambda estimate: print(_estimate_line(estimate, number), file=sys.stderr),
            on_progress=lambda progress: tell(progress.done, progress.total, progress.made),
        )  # fmt: skip
    if as_json:
        print_json(outcome.as_dict())
    elif not dry_run:
        print(outcome.in_words())


def _workers(job: Any, engine: str, workers: str) -> tuple[str, int]:
    """(engine, number of workers); "auto" measures."""
    from pipelines.forecast import cores, forecast

    if workers != "auto":
        if not workers.isdecimal():
            raise DistillError(f"--workers {workers}: expected a number of chunks at a time, 0 for one a core, or auto.")
        return engine, int(workers) or cores()
    if engine not in ("local", "processes"):
        raise DistillError(f"--workers auto measures this machine; --engine {engine} may run elsewhere. Give a number.")
    rates = forecast(job, cores()).rates
    print(f"{rates.in_words()}; taking --engine {rates.engine} --workers {rates.workers}", file=sys.stderr)
    return rates.engine, rates.workers


def _estimate_line(estimate: dict[str, Any], workers: int) -> str:
    done = estimate["chunks"] - estimate["todo_chunks"]
    line = f"{estimate['rows']:,} rows in {estimate['chunks']} chunks" + (f", {done} of them done" if done else "")
    line += f"; about {estimate['bytes'] / 1e9:.2f} GB to write" + ("" if estimate["free"] is None else f", {estimate['free'] / 1e9:.1f} GB free")
    line += "".join(f"; skipped: {count} {reason}" for reason, count in estimate["skipped"].items())
    line += f"\n{estimate['note']}" * bool(estimate.get("note"))
    if estimate["todo_chunks"] == estimate["chunks"] == 1 < workers:
        line += f"\nOne chunk keeps one core busy: --rows {-(-estimate['rows'] // workers)} would use {workers}."
    if estimate.get("warning"):
        line += f"\nwarning: {estimate['warning']}"
    return line


def plan(
    source: Source,
    teacher: Teacher_,
    root: Root = None,
    all_files: AllFiles = False,
    strip_prefix: StripPrefix = "",
    label_from: LabelFrom = "",
    rows: Rows = 100_000,
    dtype: Dtype = "float16",
    images: StoredImages = "inline",
    resize: Resize = "none",
    exif: Exif = "ignore",
    views: Views = 1,
    recipe: RecipeName = None,
    size: Size = None,
    batch: Batch = 128,
    workers: Annotated[
        list[int] | None, typer.Option(metavar="N", rich_help_panel=WORK, help="also say how long so many workers would take; may be given several times")
    ] = None,
    machine: Annotated[
        list[Path] | None,
        typer.Option(parser=place, metavar="FILE", rich_help_panel=WORK, help="also say how long it takes on another machine, where plan --json wrote FILE"),
    ] = None,
    signature: Signature = None,
    output: Output = None,
    scale: Scale = None,
    offset: Offset = None,
    color: Color = None,
    preset: Preset = None,
    feed: Feed = None,
    tags: Tags = None,
    as_json: AsJson = False,
) -> None:
    """Say how long embedding will take and how many GB it will fill. Some hundred images are embedded here and now to measure it; nothing is written.

    \b
    Example: distill plan faces --teacher teacher --workers 8 --workers 64
    """
    from distill.sources import root_of
    from pipelines.forecast import cores, forecast, in_words, read_rates
    from pipelines.plan import Job

    job = Job(
        source=source, out=".", root=root or root_of(place(source)),
        teacher=open_described(teacher, signature, output, scale, offset, color, preset, feed, tags), rows=rows,
        dtype=dtype, images=images, resize=resize, exif=exif, views=views, recipe=parse_recipe(recipe), size=parse_size(size), batch=batch, all_files=all_files,
        strip_prefix=strip_prefix, label_from=label_from,
    )  # fmt: skip
    for number in workers or ():
        if number < 1:
            raise DistillError(f"--workers {number}: expected 1 or more.")
    elsewhere = {str(path): read_rates(path) for path in machine or ()}
    found = forecast(job, cores())
    if as_json:
        print_json(found.as_dict(workers or (), elsewhere))
    else:
        print(in_words(found, workers or (), elsewhere))


def verify(
    shards: Annotated[Path, typer.Argument(help="a set of shards: OUT of distill embed, or OUT/shards", parser=place, metavar="SHARDS")],
    deep: Annotated[bool, typer.Option("--deep", help="hash every file again and read every row")] = False,
    teacher: Annotated[str | None, typer.Option(metavar="MODEL", rich_help_panel=TEACHER, help="the teacher of the set: embed a sample again and compare")] = None,
    sample: Annotated[int, typer.Option(metavar="N", rich_help_panel=TEACHER, help="rows of that sample")] = 64,
    root: RootOfSet = None,
    as_json: AsJson = False,
) -> None:
    """Check that a set of shards is whole. Without --deep by counts and sizes, with it by all hashes and rows; exit code 1 where anything is wrong.

    \b
    Example: distill verify out --deep --teacher teacher
    """
    from distill.screen import bar
    from distill.shards import open_shards
    from distill.shards.golden import OTHER_PIXELS, SAME
    from distill.shards.verify import PIXELS, check_sample
    from distill.shards.verify import verify as check

    described = None
    if teacher is not None:
        meta = open_shards(shards).meta
        described = open_described(teacher, **meta.reading, beside=False)
        if described.fingerprint() != meta.teacher:
            other = described.fingerprint()[:12]
            raise Unfinished(f"{shards} was made by teacher {meta.teacher[:12]}, {teacher} is {other}. Name the teacher that made it.")
    with bar("verifying", "shards") as tell:
        verdict = check(shards, deep=deep, on_shard=tell)
    agreement = check_sample(shards, described.load(), number=sample, root=root) if described and not verdict.problems else None
    if as_json:
        print_json({**verdict.as_dict(), "sample": agreement})
    else:
        print(verdict.in_words())
        if agreement:
            print(f"{agreement['rows']} rows labelled again: worst cosine {agreement['worst_cosine']:.7f}, mean {agreement['mean_cosine']:.7f}")
    if verdict.problems:
        again = " ".join(f"--only {number}" for number in sorted({number for number, _ in verdict.problems if number >= 0}))
        anew = f"Put back whole copies of them, or make these chunks again from the images that are there: distill embed ... {again}"
        way_out = anew if again else "Run distill embed again: it writes the index anew."
        if any(number == PIXELS for number, _ in verdict.problems):
            way_out = OTHER_PIXELS
        raise Unfinished(f"{shards}: {len(verdict.problems)} problems. {way_out}")
    if described and agreement and agreement["worst_cosine"] < SAME:
        from teachers.trial import check_steady

        check_steady(described.load(), (meta.image["height"], meta.image["width"]))
        worst = agreement["worst_cosine"]
        raise Unfinished(f"{shards}: a stored embedding is not the teacher's answer (cosine {worst:.4f}). Decoder, scale or colour order differ.")


def views(
    images: Annotated[list[Path], typer.Argument(help="pictures to draw views of", parser=place, metavar="IMAGES...")],
    recipe: RecipeName = "face",
    out: Annotated[Path, typer.Option(help="PNG to write", parser=place, metavar="PNG", rich_help_panel=OUTPUT)] = Path("views.png"),
    number: Annotated[int, typer.Option(metavar="N", rich_help_panel=VIEWS, help="views of each, the picture as it is first")] = 8,
    seed: Annotated[int, typer.Option(metavar="N", rich_help_panel=VIEWS, help="--view-seed of distill embed")] = 0,
    size: Annotated[str, typer.Option(metavar="HxW", rich_help_panel=VIEWS, help="height x width of each view; pictures are cropped to it")] = "112x112",
    exif: Exif = "ignore",
) -> None:
    """Draw the views of some pictures on a contact sheet. They are those of a set if the paths are given as its keys are.

    \b
    Example: distill views anna.jpg bea.jpg --recipe photo --out sheet.png
    """
    from distill.folders import check_picture
    from distill.images import write_png
    from distill.views import contact_sheet, find_recipe

    check_picture(out)
    tiles = contact_sheet(images, parse_size(size) or (112, 112), find_recipe(recipe or "face"), seed, number, exif)
    write_png(out, tiles, "distill views")
    print(f"{out}: {len(images)} pictures, {number} views each, recipe {recipe}")
