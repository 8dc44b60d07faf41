"""The verbs. The only room that knows all others, and only inside its functions: `distill --help` loads nothing heavy.

Exit code 0: everything asked for was done. 1: the input was right, but something is missing or wrong with the data. 2: bad input.
An error is one message; --debug, anywhere on the line, shows where it came from. One file although it is long: ten verbs with their help.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distill import DistillError, Interrupted, Unfinished, __version__
from distill.process import keep_memory, open_streams, signal_code, signal_words, stop_on_signals
from distill.remote import place

if TYPE_CHECKING:
    from teachers import LoadedTeacher, Teacher

# What stays when a verb is interrupted; the others keep nothing.
STAYS = {
    "faces": "Pictures that were drawn stay; the same command draws the others.",
    "embed": "Finished chunks stay; the same command makes the others, those begun from their first row.",
    "train": "Finished epochs stay; the same command goes on behind the last one.",
    "demo": "Finished steps, chunks and epochs stay; the same command goes on behind them.",
}
NOTHING_STAYS = "Nothing is kept; the same command begins anew."

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

Out = Annotated[Path, typer.Argument(help="folder to write", parser=place, metavar="OUT")]
Workers = Annotated[str, typer.Option(help="how many chunks at a time; 0: one a core; auto: measure, and choose the engine too")]
AsJson = Annotated[bool, typer.Option("--json", help="print the result as JSON")]
Root = Annotated[str | None, typer.Option(help="folder (or .rec or .tar) that keys are relative to; default: SOURCE itself, or the folder of the list")]
AllFiles = Annotated[bool, typer.Option("--all-files", help="in class folders take files of any suffix, and every folder as a class")]
StripPrefix = Annotated[str, typer.Option(help="beginning that is taken off every path of a text list: /old/root/")]
LabelFrom = Annotated[str, typer.Option(help="folder: of a text list of bare paths, each file's folder is its label")]
Resize = Annotated[str, typer.Option(help="an image of another size: none (it is an error), stretch or crop")]
Exif = Annotated[str, typer.Option(help="EXIF rotation of a photo: ignore, or apply, so that it is seen as a viewer shows it")]
Views = Annotated[int, typer.Option(help="views of each picture that the teacher labels, the picture as it is among them")]
RecipeName = Annotated[str | None, typer.Option("--recipe", help="what views are: face (the default), photo, or a TOML file; distill views shows them")]
Size = Annotated[str | None, typer.Option(help="HEIGHTxWIDTH, where the model takes images of any size")]
Signature = Annotated[str | None, typer.Option(help="SavedModel signature; default serving_default")]
Output = Annotated[str | None, typer.Option(help="name of its output; default: output, or the only one")]
Scale = Annotated[float | None, typer.Option(help="the model sees pixel * scale + offset; pixels are 0 to 255; default 1")]
Offset = Annotated[float | None, typer.Option(help="see --scale; default 0")]
Color = Annotated[str | None, typer.Option(help="rgb or bgr: the order that the model wants; default rgb")]
Preset = Annotated[str | None, typer.Option(help="insightface, insightface-128, unit or none, in place of --scale, --offset and --color")]

Feed = Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="a constant for an input beside the images: phase_train=false; may be given several times")]
Tags = Annotated[str | None, typer.Option(help="of the graph in a SavedModel that has several, with commas; default serve, else the one without tags")]


@app.callback(invoke_without_command=True)
def distill(version: Annotated[bool, typer.Option("--version", help="print the version and stop")] = False) -> None:
    """Distil an image-embedding model into a small one: chunk, embed, train, evaluate, export. `distill demo` shows all of it."""
    if version:
        print(__version__)
        raise typer.Exit


@app.command()
def faces(
    out: Out,
    identities: int = 400,
    images: int = 20,
    size: int = 112,
    seed: int = 0,
    first: Annotated[int, typer.Option(help="number of the first identity; others are never drawn alike")] = 0,
) -> None:
    """Draw identities as JPEGs in class folders.

    \b
    Example: distill faces faces --identities 100 --images 20 --size 48
    """
    from distill.faces import draw_folder
    from distill.screen import bar

    with bar("drawing") as tell:
        pictures = draw_folder(out, identities, images, size, seed, first, progress=tell)
    print(f"{out}: {pictures:,} pictures of {identities} identities, {size}x{size}")


@app.command()
def chunk(
    source: Annotated[str, typer.Argument(help="folder of class folders or photos, text list (path or path<TAB>label), train.rec or .tar")],
    out: Out,
    rows: Annotated[int, typer.Option(help="rows of one chunk")] = 100_000,
    all_files: AllFiles = False,
    strip_prefix: StripPrefix = "",
    label_from: LabelFrom = "",
) -> None:
    """Cut an image list into chunk files. `distill embed` does this by itself; it is here for looking and for sharing a list.

    \b
    Example: distill chunk faces chunks --rows 1000
    """
    from distill.chunks import write_chunks
    from distill.folders import check_apart, check_folder
    from distill.imagelist import Rule
    from distill.screen import bar

    check_apart(source, out, "chunks")
    check_folder(out, "chunks")
    with bar("rows") as tell:
        made = write_chunks(source, out, rows, progress=tell, rule=Rule(all_files, strip_prefix, label_from))
    skipped = "".join(f", {count} {reason} skipped" for reason, count in made.skipped.items() if count)
    print(f"{out}: {made.rows:,} rows of {len(made.classes):,} classes in {len(made.chunks)} chunks{skipped}")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": False})
def embed(
    context: typer.Context,
    source: Annotated[str, typer.Argument(help="folder of class folders or photos, text list, train.rec, .tar, or chunks")],
    out: Out,
    teacher: Annotated[str, typer.Option(help="SavedModel folder, .keras, .h5 or .onnx file, or run folder")],
    root: Root = None,
    all_files: AllFiles = False,
    strip_prefix: StripPrefix = "",
    label_from: LabelFrom = "",
    format: Annotated[str, typer.Option(help="parquet or hdf5")] = "parquet",
    rows: Annotated[int, typer.Option(help="rows of one chunk, the unit of work and of retry")] = 100_000,
    dtype: Annotated[str, typer.Option(help="float16, float32 or int8, of the stored embeddings")] = "float16",
    images: Annotated[str, typer.Option(help="inline: the shards hold the image bytes; path: only their sha256")] = "inline",
    resize: Resize = "none",
    exif: Exif = "ignore",
    views: Views = 1,
    add_views: Annotated[int, typer.Option(help="give the set in OUT so many views more than it was first made with; what is there stays")] = 0,
    recipe: RecipeName = None,
    view_seed: Annotated[int, typer.Option(help="another seed gives other views")] = 0,
    size: Size = None,
    batch: Annotated[int, typer.Option(help="images in one call of the teacher")] = 128,
    engine: Annotated[str, typer.Option(help="local (threads), processes, dask, portable, flink, prism or dataflow")] = "local",
    workers: Workers = "0",
    only: Annotated[list[int] | None, typer.Option(help="embed only this chunk (again); may be given several times")] = None,
    retry_rejects: Annotated[bool, typer.Option("--retry-rejects", help="make chunks again of which a rejected image can be read now")] = False,
    max_rejects: Annotated[float, typer.Option(help="fraction of all rows that may be rejected, 0 to 1")] = 0.01,
    signature: Signature = None,
    output: Output = None,
    scale: Scale = None,
    offset: Offset = None,
    color: Color = None,
    preset: Preset = None,
    feed: Feed = None,
    tags: Tags = None,
    relist: Annotated[
        bool | None, typer.Option("--relist/--no-relist", help="look whether files were added, removed or changed since the set began; by default on this machine only")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="cut the list, print rows, chunks and GB, and stop")] = False,
    as_json: AsJson = False,
) -> None:
    """Let the teacher label an image list: one shard of embeddings for each chunk. Running it again does what is missing.

    \b
    Example: distill embed faces out --teacher teacher --rows 1000
    With 8 views of each picture to learn from: distill embed faces out --teacher teacher --views 8 --recipe face
    Options of Apache Beam follow a --: distill embed faces out --teacher teacher -- --job_name=first
    """
    from distill.screen import bar
    from distill.sources import root_of
    from pipelines.launch import embed as launch
    from pipelines.plan import Job

    described = _teacher(teacher, signature, output, scale, offset, color, preset, feed, tags)
    job = Job(
        source=source, out=str(out), root=root or root_of(place(source)), teacher=described, format=format, rows=rows, dtype=dtype, images=images,
        resize=resize, exif=exif, views=views, add_views=add_views, recipe=_recipe(recipe), view_seed=view_seed, size=_size(size), batch=batch,
        only=tuple(only or ()), retry_rejects=retry_rejects, max_rejects=max_rejects, dry_run=dry_run, all_files=all_files,
        strip_prefix=strip_prefix, label_from=label_from, relist=relist,
    )  # fmt: skip
    engine, number = _workers(job, engine, workers)
    with bar("embedding") as tell:
        outcome = launch(
            job, engine, number, context.args, debug=_debugging(),
            on_estimate=lambda estimate: print(_estimate_line(estimate, number), file=sys.stderr),
            on_progress=lambda progress: tell(progress.done, progress.total),
        )  # fmt: skip
    if as_json:
        _print_json(outcome.as_dict())
    elif not dry_run:
        print(outcome.in_words())


@app.command()
def plan(
    source: Annotated[str, typer.Argument(help="folder of class folders or photos, text list, .rec, .tar, or chunks")],
    teacher: Annotated[str, typer.Option(help="SavedModel folder, .keras, .h5 or .onnx file, or run folder")],
    root: Root = None,
    all_files: AllFiles = False,
    strip_prefix: StripPrefix = "",
    label_from: LabelFrom = "",
    rows: Annotated[int, typer.Option(help="rows of one chunk")] = 100_000,
    dtype: Annotated[str, typer.Option(help="float16, float32 or int8")] = "float16",
    images: Annotated[str, typer.Option(help="inline or path")] = "inline",
    resize: Resize = "none",
    exif: Exif = "ignore",
    views: Views = 1,
    recipe: RecipeName = None,
    size: Size = None,
    batch: Annotated[int, typer.Option(help="images in one call of the teacher")] = 128,
    workers: Annotated[list[int] | None, typer.Option(help="also say how long so many workers would take; may be given several times")] = None,
    machine: Annotated[list[Path] | None, typer.Option(parser=place, metavar="FILE", help="what plan --json wrote on another machine: how long it takes there")] = None,
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
    """Say how long a list will take and how many GB it will fill: some hundred images of it are labelled here and now, nothing is written.

    \b
    Example: distill plan faces --teacher teacher --workers 8 --workers 64
    """
    from distill.sources import root_of
    from pipelines.forecast import cores, forecast, in_words, read_rates
    from pipelines.plan import Job

    job = Job(
        source=source, out=".", root=root or root_of(place(source)), teacher=_teacher(teacher, signature, output, scale, offset, color, preset, feed, tags), rows=rows,
        dtype=dtype, images=images, resize=resize, exif=exif, views=views, recipe=_recipe(recipe), size=_size(size), batch=batch, all_files=all_files,
        strip_prefix=strip_prefix, label_from=label_from,
    )  # fmt: skip
    for number in workers or ():
        if number < 1:
            raise DistillError(f"--workers {number}: expected 1 or more.")
    elsewhere = {str(path): read_rates(path) for path in machine or ()}
    found = forecast(job, cores())
    if as_json:
        _print_json(found.as_dict(workers or (), elsewhere))
    else:
        print(in_words(found, workers or (), elsewhere))


@app.command()
def verify(
    shards: Annotated[Path, typer.Argument(help="OUT of distill embed, or OUT/shards", parser=place, metavar="SHARDS")],
    deep: Annotated[bool, typer.Option(help="hash every file again and read every row")] = False,
    teacher: Annotated[str | None, typer.Option(help="label a sample again with this teacher")] = None,
    sample: Annotated[int, typer.Option(help="rows of that sample")] = 64,
    root: Root = None,
    as_json: AsJson = False,
) -> None:
    """Prove that a set of shards is whole: counts and sizes, with --deep all hashes and rows. Exit code 1 when anything is wrong.

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
        described = _teacher(teacher, **meta.reading)
        if described.fingerprint() != meta.teacher:
            other = described.fingerprint()[:12]
            raise Unfinished(f"{shards} was made by teacher {meta.teacher[:12]}, {teacher} is {other}. Name the teacher that made it.")
    with bar("verifying") as tell:
        verdict = check(shards, deep=deep, on_shard=tell)
    agreement = check_sample(shards, described.load(), number=sample, root=root) if described and not verdict.problems else None
    if as_json:
        _print_json({**verdict.as_dict(), "sample": agreement})
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


@app.command()
def inspect(path: Annotated[Path, typer.Argument(help="anything that distill reads or writes", parser=place, metavar="PATH")], as_json: AsJson = False) -> None:
    """Say in words what lies at a path: image list, chunk, shard, set, teacher, run or export.

    \b
    Example: distill inspect out
    """
    from distill.describe import describe, in_words

    found = describe(path, lambda model: _teacher(str(model)).load().describe())
    if as_json:
        _print_json(found)
    else:
        print(in_words(found))


@app.command()
def views(
    images: Annotated[list[Path], typer.Argument(help="pictures", parser=place, metavar="IMAGES...")],
    recipe: RecipeName = "face",
    out: Annotated[Path, typer.Option(help="PNG to write", parser=place, metavar="PNG")] = Path("views.png"),
    number: Annotated[int, typer.Option(help="views of each, the picture as it is first")] = 8,
    seed: Annotated[int, typer.Option(help="--view-seed of distill embed")] = 0,
    size: Annotated[str, typer.Option(help="HEIGHTxWIDTH of each view; pictures are cropped to it")] = "112x112",
    exif: Exif = "ignore",
) -> None:
    """Draw a contact sheet: a row for each picture, a tile for each view. As in a set, if the paths are given as its keys are.

    \b
    Example: distill views anna.jpg bea.jpg --recipe photo --out sheet.png
    """
    from distill.folders import check_picture
    from distill.images import write_png
    from distill.views import contact_sheet, find_recipe

    check_picture(out)
    tiles = contact_sheet(images, _size(size) or (112, 112), find_recipe(recipe or "face"), seed, number, exif)
    write_png(out, tiles, "distill views")
    print(f"{out}: {len(images)} pictures, {number} views each, recipe {recipe}")


@app.command()
def train(
    run: Annotated[Path, typer.Argument(help="run file (TOML), or run.toml of an earlier run", parser=place, metavar="RUN")],
    out: Annotated[Path, typer.Option(help="run folder", parser=place, metavar="FOLDER")],
    set_: Annotated[list[str] | None, typer.Option("--set", help="change a value of the file: student.embedding=256")] = None,
    as_json: AsJson = False,
) -> None:
    """Train a student as a run file says. Running it again goes on where it stopped.

    \b
    Example: distill train docs/examples/joint.toml --out runs/joint --set data.shards=out
    """
    from distill.config import load_run

    loaded = load_run(run, set_ or ())
    from distill.process import quiet_import
    from distill.report import write_run_report

    with quiet_import():
        from distill.train import train as run_stages

    summary = run_stages(loaded, out, open_teacher=load_model, quiet=as_json)
    write_run_report(out)
    if as_json:
        _print_json(summary)


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="run folder, SavedModel, .keras or .onnx")],
    pairs: Annotated[Path | None, typer.Option(parser=place, metavar="FOLDER", help="folder of identities never trained on: pairs are drawn from it")] = None,
    number: Annotated[int | None, typer.Option(help="how many pairs, half of them genuine; default: 6000, or as many as there are")] = None,
    seed: Annotated[int, typer.Option(help="of the drawing")] = 0,
    shards: Annotated[Path | None, typer.Option(parser=place, metavar="SHARDS", help="shards: how far the model agrees with the teacher that made them")] = None,
    teacher: Annotated[str | None, typer.Option(help="evaluate this teacher on the same pairs, beside the model")] = None,
    root: Root = None,
    resize: Resize = "none",
    exif: Exif = "ignore",
    size: Size = None,
    signature: Signature = None,
    output: Output = None,
    scale: Scale = None,
    offset: Offset = None,
    color: Color = None,
    preset: Preset = None,
    feed: Feed = None,
    tags: Tags = None,
    out: Annotated[Path | None, typer.Option(parser=place, metavar="FOLDER", help="folder for evaluation.json and scores-*.npz")] = None,
    as_json: AsJson = False,
) -> None:
    """Judge a model: verification on pairs of unseen identities, agreement with its teacher on shards.

    --signature, --output, --scale, --offset, --color, --preset, --feed and --tags are those of TEACHER where one is given, else of MODEL.

    \b
    Example: distill evaluate runs/joint --pairs faces/unseen --shards out
    """
    if pairs is None and shards is None:
        raise DistillError("Nothing to evaluate on. Give --pairs FOLDER (a folder of class folders), --shards SHARDS, or both.")
    reading = (signature, output, scale, offset, color, preset, feed, tags)
    described = {"model": _teacher(model, *(() if teacher else reading))}
    if teacher is not None:
        described["teacher"] = _teacher(teacher, *reading)
    from distill.evaluate import draw_pairs
    from distill.folders import check_apart, check_folder
    from distill.judge import Question, in_words, judge
    from distill.origin import origin_of

    if out is not None:
        check_folder(out, "evaluation", "run")
    if out is not None and pairs is not None:
        check_apart(pairs, out, "evaluation")
    drawn = None if pairs is None else draw_pairs(pairs, number, seed)
    question = Question(pairs, drawn, shards, origin_of(model).holdout, root, resize, _size(size), out, exif)
    result = judge({who: (one.path, partial(_steady, one, _size(size))) for who, one in described.items()}, question)
    if as_json:
        _print_json(result)
    else:
        print(in_words(result))
    if left := [who for who, judged in result.items() if "agreement_left_out" in judged]:
        raise Unfinished(f"{shards}: no agreement of the {' and the '.join(left)} with it could be told.")


@app.command()
def compare(
    model: Annotated[str, typer.Argument(help="run folder, SavedModel, .keras or .onnx")],
    images: Annotated[list[Path], typer.Argument(help="two photos or more", parser=place, metavar="IMAGES...")],
    resize: Resize = "none",
    exif: Exif = "ignore",
    size: Size = None,
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
    """Print the matrix of cosines of photos: 1 is the same direction, about 0 another person.

    \b
    Example: distill compare runs/joint anna1.jpg anna2.jpg bea.jpg
    """
    from distill.evaluate import compare as cosines
    from distill.images import orientation

    matrix = cosines(load_model(model, signature, output, scale, offset, color, preset, feed, tags), images, resize, _size(size), exif)
    turned = [str(image) for image in images if exif == "ignore" and orientation(image.read_bytes()) != 1]
    if turned:
        print(f"{len(turned)} of {len(images)} images carry an EXIF rotation that is not applied, {turned[0]} for one; --exif apply turns them", file=sys.stderr)
    if as_json:
        _print_json({"images": [str(image) for image in images], "cosines": matrix.round(6).tolist()})
        return
    print(
        "\n".join(
            f"{str(image)[-40:]:>40} " + " ".join(f"{value:6.3f}" for value in row) for image, row in zip(images, matrix, strict=True)
        )
    )


@app.command()
def export(
    student: Annotated[Path, typer.Argument(help="run folder or .keras file", parser=place, metavar="STUDENT")],
    out: Out,
    format: Annotated[str, typer.Option(help="saved_model")] = "saved_model",
    force: Annotated[bool, typer.Option(help="replace an earlier export at OUT")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the student for others to load; done only after it was loaded again and gave the same embeddings.

    \b
    Example: distill export runs/joint exported
    """
    from distill.export import export as write

    card = write(student, out, format, force=force)
    if as_json:
        _print_json(card)
    else:
        print(f"{out}: {format}, loaded again and equal to the student")


@app.command()
def demo(
    out: Annotated[Path, typer.Argument(help="folder to write", parser=place, metavar="OUT")] = Path("demo"),
    small: Annotated[bool, typer.Option(help="a minute instead of five, with figures that say little; for tests")] = False,
) -> None:
    """All of it on drawn faces: teacher, shards, student, comparison, export, report.

    \b
    Example: distill demo
    """
    from distill.demo import demo as show

    show(out, small, run)


def run(arguments: Sequence[str]) -> int:
    """One command line in this process, as `main` would run it, and its exit code; errors are raised."""
    return app(list(arguments), prog_name="distill", standalone_mode=False) or 0


def main() -> None:
    """The console script. A thread of a broken pipeline may still run: it must not keep the process from ending."""
    import threading

    unprinted = open_streams()
    stop_on_signals()
    code = outcome(sys.argv[1:])
    if (error := unprinted()) is not None:
        code = _say(f"distill: what it says could not be printed: {error.strerror}. Its work is not concerned.", code or 1)
        unprinted()
    if any(thread.name == "pipeline" for thread in threading.enumerate()):
        os._exit(code)
    sys.exit(code)


def outcome(words: Sequence[str]) -> int:
    """Run one command line; an error becomes one message on stderr and an exit code."""
    words = list(words)
    if "--debug" in words:
        words.remove("--debug")
        os.environ["DISTILL_DEBUG"] = "1"
    _log_to_stderr()
    keep_memory()
    stays = STAYS.get(words[0] if words else "", NOTHING_STAYS)
    try:
        _check_surroundings(words)
        code = run(words)
        return _say(f"{signal_words()}. {stays}", signal_code()) if code == 130 else code
    except typer.TyperException as error:
        error.show()  # type: ignore[attr-defined]
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return _say(f"{signal_words()}. {stays}", signal_code())
    except Interrupted as error:
        return _say(f"{signal_words()} {error}", signal_code())
    except DistillError as error:
        if _debugging():
            raise
        return _say(f"distill: {error}", error.exit_code)
    except OSError as error:
        if _debugging():
            raise
        return _say(f"distill: {_os_error(error)}", 1)


def _check_surroundings(words: Sequence[str]) -> None:
    """DistillError where relative paths lead nowhere, because the folder that this was started in is gone."""
    if not words or "--help" in words or "--version" in words:
        return
    try:
        os.getcwd()
    except OSError as error:
        raise DistillError("the folder that this was started in is not there any more. Change to one that is (cd), and run the same command again.") from error


def _os_error(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    again = " What was finished stays; make room and run the same command again." if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    if "No usable temporary directory" in str(error):
        again = " Set TMPDIR to a folder that can be written."
    return f"{where}{error.strerror or error}.{again}"


def load_model(path: str, *reading: Any, **named: Any) -> LoadedTeacher:
    """A model on disk as a callable uint8 [B, H, W, 3] -> float32 [B, D]; what the rooms that may not know `teachers` are given."""
    return _steady(_teacher(path, *reading, **named))


def _steady(teacher: Teacher, size: tuple[int, int] | None = None) -> LoadedTeacher:
    """It loaded. DistillError where its answers depend on chance or on the other images."""
    from teachers.trial import check_steady

    loaded = teacher.load()
    check_steady(loaded, size)
    return loaded


def _teacher(
    path: str, signature: str | None = None, output: str | None = None, scale: float | None = None, offset: float | None = None,
    color: str | None = None, preset: str | None = None, feed: Sequence[str] | Mapping[str, Any] | None = None,
    tags: str | Sequence[str] | None = None,
) -> Teacher:  # fmt: skip
    from teachers import open_teacher

    fed = feed if isinstance(feed, Mapping) else _fed(feed or ())
    tagged = [tag.strip() for tag in tags.split(",") if tag.strip()] if isinstance(tags, str) else tags
    return open_teacher(path, signature=signature, output=output, scale=scale, offset=offset, color=color, preset=preset, feed=fed, tags=tagged)


def _fed(words: Sequence[str]) -> dict[str, str]:
    """["a=1"] -> {"a": "1"}."""
    fed = dict[str, str]()
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.strip() or name.strip() in fed:
            raise DistillError(f"--feed {word}: expected NAME=VALUE, each name once, such as --feed phase_train=false.")
        fed[name.strip()] = value
    return fed


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


def _recipe(name: str | None) -> Any:
    from distill.views import find_recipe

    return None if name is None else find_recipe(name)


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    height, cross, width = text.partition("x")
    if not (cross and height.isdecimal() and width.isdecimal()):
        raise DistillError(f"--size {text}: expected HEIGHTxWIDTH, such as 112x112.")
    return int(height), int(width)


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


def _print_json(value: Any) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:  # a terminal of fewer letters, or a name that is no text: JSON has an escape of its own
        text = json.dumps(value, indent=2, default=str)
    print(text)


def _say(text: str, code: int) -> int:
    print(text, file=sys.stderr)
    return code


def _debugging() -> bool:
    return os.environ.get("DISTILL_DEBUG") == "1"


def _log_to_stderr() -> None:
    import logging

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("distill: %(message)s"))
    log = logging.getLogger("distill")
    log.handlers[:] = [handler]
    log.setLevel(logging.DEBUG if _debugging() else logging.WARNING)
    log.propagate = False


if __name__ == "__main__":
    main()
