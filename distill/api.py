"""The verbs as functions, for Python: `import distill` gives them. The command line calls these and prints what they return.

Paths are texts or path objects, of this machine or of gs:// and s3://. `progress=False` prints nothing. Bad input raises a DistillError with one
message, and what the system fails to do an OSError; no function ends the process, asks anything, or leaves handlers of signals or logs behind.
The functions are safe to call in a thread, one at a time for one folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, Unpack

from distill.arguments import checked
from distill.errors import DistillError, Unfinished
from distill.results import (
    ChunkResult,
    CompareResult,
    EmbedResult,
    EvaluateResult,
    ExportResult,
    FacesResult,
    ImportResult,
    Judged,
    PlanResult,
    TrainResult,
    VerifyResult,
    ViewsResult,
)
from distill.runtime.lines import many
from distill.storage.files import is_there, read_json
from distill.storage.objects import RemotePath
from distill.storage.path import StoragePath, place

if TYPE_CHECKING:
    from distill.config.run import Run
    from distill.data.shards import ShardSet
    from distill.images.augmentation import Recipe
    from distill.images.preprocessing import Preprocessing, PreprocessingOptions
    from distill.training.methods import Planned
    from distill.training.rehearsal import Rehearsal
    from pipelines.plan import Job
    from teachers import LoadedTeacher, Teacher

Path: TypeAlias = str | os.PathLike[str] | StoragePath
Size: TypeAlias = str | Sequence[int]


# ---------------------------------------------------------------------------------------------------- images and their embeddings


@checked
def draw_faces(out: Path, identities: int = 400, images: int = 20, size: int = 112, seed: int = 0, first: int = 0, *, progress: bool = True) -> FacesResult:
    """Draws identities as JPEGs in class folders, `out/id0000/000.jpg` and so on; the same arguments draw the same bytes.

    Args:
        images: of each identity.
        size: height and width of each picture, in pixels.
        first: number of the first identity; another number is another face.
    """
    from distill.data.folders import check_local
    from distill.runtime.progress import bar, shown
    from distill.synthetic.folder import draw_folder

    with shown(progress), bar("drawing", "identities") as tell:
        pictures = draw_folder(check_local(out, "drawing"), identities, images, size, seed, first, progress=tell)
    return FacesResult(_text(out), pictures, identities, size)


@checked
def chunk(
    source: Path, out: Path, *, rows: int = 100_000, all_files: bool = False, strip_prefix: str = "", label_from: str = "", progress: bool = True
) -> ChunkResult:
    """Cuts an image list into chunk files of `rows` rows; `embed` does this by itself.

    Args:
        source: folder of class folders or of photos, text list, .rec or .tar.
    """
    from distill.data.chunks import write_chunks
    from distill.data.folders import check_apart, check_folder
    from distill.data.lists.image_list import Rule
    from distill.data.sources import root_of
    from distill.runtime.progress import bar, shown

    check_apart(_text(source), _text(out), "chunks")
    check_folder(place(out), "chunks")
    with shown(progress), bar("cutting chunks", "rows") as tell:
        made = write_chunks(_text(source), place(out), rows, progress=tell, rule=Rule(all_files, strip_prefix, label_from))
    return ChunkResult(_text(out), made.rows, len(made.classes), len(made.chunks), made.skipped, root_of(place(source)))


@checked
def embed(
    source: Path,
    out: Path,
    *,
    teacher: Path,
    root: Path | None = None,
    all_files: bool = False,
    strip_prefix: str = "",
    label_from: str = "",
    format: str = "parquet",
    rows: int = 100_000,
    dtype: str = "float16",
    images: str = "inline",
    resize: str = "none",
    exif: str = "ignore",
    views: int = 1,
    add_views: int = 0,
    recipe: Path | Recipe | None = None,
    view_seed: int = 0,
    size: Size | None = None,
    batch: int = 128,
    engine: str = "local",
    workers: int | Literal["auto"] = 0,
    only: Sequence[int] = (),
    retry_rejects: bool = False,
    max_rejects: float = 0.01,
    relist: bool | None = None,
    dry_run: bool = False,
    beam: Sequence[str] = (),
    progress: bool = True,
    **options: Unpack[PreprocessingOptions],
) -> EmbedResult:
    """Lets the teacher label an image list: one shard of embeddings for each chunk. Called again it does what is missing.

    Args:
        source: folder of class folders or of photos, text list, .rec, .tar, or chunks.
        teacher: SavedModel folder, .keras, .h5 or .onnx file, or run folder.
        root: folder (or .rec or .tar) that keys are relative to; None: `source` itself, or the folder of the list.
        size: (height, width) or "HEIGHTxWIDTH", where the teacher takes images of any size.
        workers: chunks at a time, 0 for one a core; "auto" measures, and chooses the engine too.
        only: numbers of chunks to make (again), empty for all.
        dry_run: cut the list, return rows, chunks and bytes in `estimate`, and stop.
        beam: options of Apache Beam, such as ["--job_name=first"].
        options: signature, output, scale, offset, color, preset, feed, tags of `teachers.open_teacher`.
        The others are the options of `distill embed`, which explains them.

    Returns:
        Figures of the whole set, and of this call.
    Raises:
        DistillError: bad input; nothing was changed.
        Unfinished: a chunk failed, or too many images were rejected; what is done stays.
    """
    from distill.runtime.progress import bar, shown
    from pipelines.launch import embed as launch

    job = _job(
        source,
        out,
        teacher,
        options,
        root,
        recipe,
        size,
        all_files=all_files,
        strip_prefix=strip_prefix,
        label_from=label_from,
        format=format,
        rows=rows,
        dtype=dtype,
        images=images,
        resize=resize,
        exif=exif,
        views=views,
        add_views=add_views,
        view_seed=view_seed,
        batch=batch,
        only=tuple(only),
        retry_rejects=retry_rejects,
        max_rejects=max_rejects,
        relist=relist,
        dry_run=dry_run,
    )
    planned: dict[str, Any] = {}

    def told(estimate: dict[str, Any]) -> None:
        planned.update(estimate)
        _say(_estimate_line(estimate, number))

    with shown(progress):
        engine, number = _workers(job, engine, workers)
        with bar("embedding", "images") as tell:
            done = launch(
                job,
                engine,
                number,
                tuple(beam),
                debug=os.environ.get("DISTILL_DEBUG") == "1",
                on_estimate=told,
                on_progress=lambda moment: tell(moment.done, moment.total, moment.made),
            )
    return replace(done, estimate=planned or None)


@checked
def plan(
    source: Path,
    *,
    teacher: Path,
    root: Path | None = None,
    all_files: bool = False,
    strip_prefix: str = "",
    label_from: str = "",
    rows: int = 100_000,
    dtype: str = "float16",
    images: str = "inline",
    resize: str = "none",
    exif: str = "ignore",
    views: int = 1,
    recipe: Path | Recipe | None = None,
    size: Size | None = None,
    batch: int = 128,
    workers: Sequence[int] = (),
    machine: Sequence[Path] = (),
    **options: Unpack[PreprocessingOptions],
) -> PlanResult:
    """Measures how long a list will take and how many GB it will fill: some hundred of its images are labelled, nothing is written.

    Takes about 15 s and twice the time that the teacher takes to load.

    Args:
        workers: also say how long so many workers would take, each as fast as one here.
        machine: files that `distill plan --json` wrote on other machines: how long it takes there.
        The others are those of `embed`.
    """
    from pipelines.forecast import cores, forecast, read_rates

    job = _job(
        source,
        ".",
        teacher,
        options,
        root,
        recipe,
        size,
        all_files=all_files,
        strip_prefix=strip_prefix,
        label_from=label_from,
        rows=rows,
        dtype=dtype,
        images=images,
        resize=resize,
        exif=exif,
        views=views,
        batch=batch,
    )
    for number in workers:
        if number < 1:
            raise DistillError(f"--workers {number}: expected 1 or more.")
    elsewhere = {_text(path): read_rates(place(path)) for path in machine}
    return PlanResult(forecast(job, cores()), tuple(workers), elsewhere)


@checked
def import_set(
    source: Path,
    out: Path,
    *,
    root: Path,
    teacher: Path | None = None,
    strip_prefix: str = "",
    label_from: str = "",
    format: str = "parquet",
    rows: int = 100_000,
    dtype: str = "float16",
    images: str = "inline",
    resize: str = "none",
    exif: str = "ignore",
    size: Size | None = None,
    max_rejects: float = 0.01,
    retry_rejects: bool = False,
    progress: bool = True,
    **options: Unpack[PreprocessingOptions],
) -> ImportResult:
    """Makes a set of shards of embeddings that other programs have stored. Called again it does what is missing.

    Args:
        source: folder of N_img.foo and N_emb.npy, of .npz files with image_names and image_embs, or one such .npz.
        root: folder that the paths are relative to.
        teacher: embeds a sample again, which must agree; None: the set says that its teacher is unknown.
        size: (height, width) that the teacher saw, where no teacher is given; None: that of the first image.
        options: signature, output, scale, offset, color, preset, feed, tags of `teachers.open_teacher`.
        The others are those of `embed`.

    Raises:
        DistillError: the files do not fit together; nothing was changed.
        Unfinished: too many images were rejected; what is done stays.
    """
    from distill.runtime.progress import bar, shown
    from pipelines.imports import Import
    from pipelines.imports import import_set as run

    asked = Import(
        _text(source),
        _text(out),
        _text(root),
        None if teacher is None else _describe(teacher, options),
        strip_prefix,
        label_from,
        format,
        dtype,
        images,
        resize,
        exif,
        _size(size),
        rows,
        max_rejects,
        retry_rejects,
    )
    with shown(progress), bar("importing", "rows") as tell:
        done = run(asked, tell)
    made = done.set
    return ImportResult(
        _text(out),
        made.rows,
        made.rejects,
        len(made.records),
        made.dimension,
        len(made.classes),
        done.made,
        done.notes,
        done.rejected,
        made.meta.teacher,
        done.sample,
        done.worst_cosine,
    )


@checked
def verify(shards: Path, *, deep: bool = False, teacher: Path | None = None, sample: int = 64, root: Path | None = None, progress: bool = True) -> VerifyResult:
    """Checks that a set of shards is whole: counts and sizes, with `deep` all hashes and rows. `ok` and `failure` of the result say what was found.

    Args:
        shards: OUT of `embed`, or OUT/shards.
        teacher: the one that made the set; it labels `sample` rows again.
        root: where the images lie, for a set without them.

    Raises:
        DistillError: there is no set, or the teacher's answers depend on chance.
        Unfinished: the set was made by another teacher.
    """
    from distill.data.shards import open_shards
    from distill.data.shards.rows import UNKNOWN
    from distill.data.shards.verify import check_sample
    from distill.data.shards.verify import verify as check
    from distill.runtime.progress import bar, shown

    described = None
    if teacher is not None:
        meta = open_shards(shards).meta
        described = _described(teacher, meta.reading, beside=meta.teacher == UNKNOWN)
        if meta.teacher != UNKNOWN and described.fingerprint() != meta.teacher:
            other = described.fingerprint()[:12]
            raise Unfinished(f"{shards} was made by teacher {meta.teacher[:12]}, {teacher} is {other}. Name the teacher that made it.")
    with shown(progress), bar("verifying", "shards") as tell:
        found = check(place(shards), deep=deep, on_shard=tell)
    agreed = None
    if described and not found.problems:
        agreed = check_sample(place(shards), described.load(), number=sample, root=None if root is None else _text(root))
    result = VerifyResult(_text(shards), found.rows, found.rejects, found.shards, found.deep, found.problems, agreed)
    return replace(result, failure=_failure(result, described))


@checked
def draw_views(
    images: Sequence[Path],
    *,
    recipe: Path | Recipe = "face",
    out: Path = "views.png",
    number: int = 8,
    seed: int = 0,
    size: Size = (112, 112),
    exif: str = "ignore",
) -> ViewsResult:
    """Draws a contact sheet of views as a PNG: a row for each picture, `number` views of each, the picture as it is first.

    Args:
        size: (height, width) of each view; pictures are cropped to it.
    """
    from distill.data.folders import check_picture
    from distill.images.codec import write_png
    from distill.images.views import contact_sheet

    found = _recipe(recipe)
    check_picture(place(out))
    tiles = contact_sheet([place(image) for image in images], _size(size) or (112, 112), found, seed, number, exif)
    write_png(place(out), tiles, "distill views")
    return ViewsResult(_text(out), len(images), number, found.name)


# --------------------------------------------------------------------------------------------------------------- students and models


@checked
def train(
    run: Path | Run | None = None,
    out: Path = "",
    *,
    set: Mapping[str, object] | Sequence[str] = (),  # noqa: A002 - as the option is called
    progress: bool = True,
    **planned: Unpack[Planned],
) -> TrainResult:
    """Trains a student from a set of shards, or as a run file says. Called again it goes on where it stopped; of a finished run it returns the figures.

    Args:
        run: run file (TOML), the folder of an earlier run, or a `distill.config.run.Run`; None plans one from `planned`.
        out: the run folder, on a local disk.
        set: values of the run to change: {"student.embedding": 256}, or ["student.embedding=256"].
        planned: shards, method, images, size, teacher, student, embedding, epochs, steps, batch, seed: options of `distill train`, which explains them.

    Raises:
        DistillError: the run cannot work, or another run or process has the folder.
        Unfinished: the loss was not finite; the last good checkpoint stays.
    """
    from distill.data.folders import check_local
    from distill.report.run_page import write_run_report
    from distill.runtime.process import quiet_import
    from distill.runtime.progress import phase, shown

    loaded = _planned_run(run, set, planned)  # before `out` is asked for: `distill train out` is a set given as a run file
    if not str(out):
        raise DistillError("train: the run folder is missing. Expected: --out FOLDER, or from Python train(..., out=FOLDER).")
    with shown(progress):
        with phase("importing TensorFlow"), quiet_import():
            from distill.training.trainer import train as run_stages
        summary = run_stages(loaded, _text(out), open_teacher=load_described, quiet=not progress)
        report = write_run_report(check_local(out, "run"))
    return TrainResult(
        _text(out),
        summary["student"],
        summary["best"],
        summary["history"],
        str(report),
        summary["parameters"],
        summary["epochs"],
        summary["steps"],
        summary["seconds"],
        summary["last"],
        summary.get("left_out", {}),
        summary.get("best_epoch"),
    )


@checked
def rehearse(
    run: Path | Run | None = None,
    out: Path = "",
    *,
    set: Mapping[str, object] | Sequence[str] = (),  # noqa: A002 - as the option is called
    progress: bool = True,
    **planned: Unpack[Planned],
) -> Rehearsal:
    """Returns what `train` with the same arguments would take: rows, steps, parameters, memory, and time after some steps on trial. Writes nothing."""
    from distill.data.folders import check_folder
    from distill.runtime.process import quiet_import
    from distill.runtime.progress import shown

    loaded = _planned_run(run, set, planned)
    if str(out):
        check_folder(_text(out), "run", "evaluation")
    with shown(progress):
        with quiet_import():
            from distill.training.rehearsal import rehearse as take_steps
        return take_steps(loaded, open_teacher=load_described)


def _planned_run(run: Path | Run | None, set: Mapping[str, object] | Sequence[str], planned: Planned) -> Run:  # noqa: A002
    """Returns the run of a file, of a value, or of options."""
    from distill.config.run import Run
    from distill.training.methods import plan_run

    if isinstance(run, Run):
        if set or any(value is not None for value in planned.values()):
            raise DistillError("train: a Run and changes to it were given. Give the path of a run file with `set`, or a Run that has the changes.")
        return run
    size = _size(planned.get("size"))
    options = {**planned, "size": size}
    return plan_run(None if run is None else _text(run), set_=_overrides(set), **options)  # type: ignore[arg-type]


@checked
def evaluate(
    model: Path,
    *,
    pairs: Path | None = None,
    number: int | None = None,
    seed: int = 0,
    shards: Path | None = None,
    teacher: Path | None = None,
    root: Path | None = None,
    resize: str = "none",
    exif: str = "ignore",
    size: Size | None = None,
    out: Path | None = None,
    progress: bool = True,
    **options: Unpack[PreprocessingOptions],
) -> EvaluateResult:
    """Judges a model: verification on pairs of unseen identities, and agreement with its teacher on shards.

    Args:
        model: run folder, SavedModel, .keras, .h5 or .onnx file.
        pairs: folder of class folders, of identities that it was not trained on; pairs are drawn from it.
        number: how many pairs, half of them genuine; None: 6,000, or as many as there are.
        shards: a set, for the agreement with the embeddings in it.
        teacher: another model to judge on the same pairs.
        out: folder for evaluation.json and scores-*.npz; None writes nothing.
        options: signature, output, scale, offset, color, preset, feed, tags; of the teacher where one is given, else of the model.

    Returns:
        Figures of the model and of the teacher. Where no agreement could be told, `left_out` of a model says why.
    """
    if pairs is None and shards is None:
        raise DistillError("Nothing to evaluate on. Give --pairs FOLDER (a folder of class folders), --shards SHARDS, or both.")
    described = {"model": _describe(model, {} if teacher is not None else options)}
    if teacher is not None:
        described["teacher"] = _describe(teacher, options)
    from distill.data.folders import check_apart, check_folder
    from distill.evaluation.evaluate import Question, judge
    from distill.evaluation.verification import draw_pairs
    from distill.runtime.progress import bar, shown
    from distill.training.origin import origin_of

    folder, target, set_ = (None if path is None else place(path) for path in (pairs, out, shards))
    if target is not None:
        check_folder(target, "evaluation", "run")
        if folder is not None:
            check_apart(folder, target, "evaluation")
    drawn = None if folder is None else draw_pairs(folder, number, seed)
    holdout, base = origin_of(place(model)).holdout, None if root is None else _text(root)
    question = Question(folder, drawn, set_, holdout, base, resize, _size(size), target, exif)
    with shown(progress):
        found = judge({who: (one.path, partial(load_steady, one, _size(size))) for who, one in described.items()}, question, bar)
    if target is not None and not isinstance(target, RemotePath) and all((target / name).is_file() for name in ("run.toml", "history.csv")):
        from distill.report.run_page import write_run_report

        write_run_report(target)  # a run whose own folder has the figures now shows them
    return EvaluateResult({who: Judged(figures["path"], figures) for who, figures in found.items()})


@checked
def compare(
    model: Path,
    images: Sequence[Path],
    *,
    threshold: float | None = None,
    resize: str = "none",
    exif: str = "ignore",
    size: Size | None = None,
    **options: Unpack[PreprocessingOptions],
) -> CompareResult:
    """Computes the cosines of photos: 1 is the same direction, about 0 another person.

    Args:
        images: two photos or more.
        threshold: the cosine from which on two photos are called the same person, -1 to 1; `evaluate` finds one.
    """
    if threshold is not None and not -1 <= threshold <= 1:
        raise DistillError(f"--threshold {threshold}: expected a cosine, from -1 to 1. distill evaluate MODEL --pairs FOLDER finds one.")
    from distill.evaluation.embed import check_photos
    from distill.evaluation.embed import compare as cosines
    from distill.images.codec import orientation

    described, paths = _describe(model, options), [place(image) for image in ([images] if isinstance(images, str) else images)]
    asked = _size(size)
    check_photos(paths)
    matrix = cosines(load_steady(described), paths, resize, asked, exif)
    turned = tuple(str(path) for path in paths if exif == "ignore" and orientation(path.read_bytes()) != 1)
    return CompareResult(tuple(map(str, paths)), matrix, threshold, turned)


@checked
def export_model(student: Path, out: Path, *, format: str = "saved_model", force: bool = False) -> ExportResult:
    """Writes a student for others to load; done only after it was loaded again and gave the same embeddings.

    Args:
        student: run folder or .keras file.
        out: folder to write, on a local disk.
        force: replace an earlier export in `out`, and never anything else.
    """
    from distill.data.folders import check_local
    from distill.data.kinds import CARD
    from distill.exports.export import export as write

    card, folder = write(place(student), place(out), format, force=force), check_local(out, "export")
    sizes = (card["height"], card["width"], card["dimension"], card["parameters"], card["bytes"])
    return ExportResult(folder, format, *sizes, folder / CARD, card)


@checked
def load_model(path: Path, **options: Unpack[PreprocessingOptions]) -> LoadedTeacher:
    """Loads a model on disk as a callable uint8 [B, H, W, 3], RGB, 0 to 255 -> float32 [B, D].

    Args:
        path: run folder, SavedModel, .keras, .h5 or .onnx file.
        options: signature, output, scale, offset, color, preset, feed, tags of `teachers.open_teacher`.

    Raises:
        DistillError: there is no model, or its answers depend on chance or on the other images.
    """
    return load_steady(_describe(path, options))


def load_steady(teacher: Teacher, size: tuple[int, int] | None = None) -> LoadedTeacher:
    """Loads a described model. DistillError where its answers depend on chance or on the other images."""
    from teachers.trial import check_steady

    loaded = teacher.load()
    check_steady(loaded, size)
    return loaded


@checked
def open_shards(path: Path) -> ShardSet:
    """Opens a committed set: OUT of `embed`, OUT/shards or index.json itself. Reads the index alone."""
    from distill.data.shards import open_shards as opened

    return opened(path)


# ----------------------------------------------------------------------------------------------------------------- what they share


def _job(
    source: Path, out: Path, teacher: Path, options: PreprocessingOptions, root: Path | None, recipe: Path | Recipe | None, size: Size | None, **asked: Any
) -> Job:
    from distill.data.sources import root_of
    from pipelines.plan import Job

    described = _describe(teacher, options)
    base = root_of(place(source)) if root is None or root == "" else _text(root)
    found = None if recipe is None else _recipe(recipe)
    return Job(source=_text(source), out=_text(out), root=base, teacher=described, recipe=found, size=_size(size), **asked)


def _describe(path: Path, options: PreprocessingOptions) -> Teacher:
    """Returns a model described but not loaded. tags may be one text with commas."""
    from teachers import open_teacher

    tags = options.get("tags")
    if isinstance(tags, str):
        options = {**options, "tags": [tag.strip() for tag in tags.split(",") if tag.strip()]}
    with _no_model_explained(path):
        return open_teacher(path, **options)


def _described(path: Path, preprocessing: Preprocessing, *, beside: bool = True) -> Teacher:
    """Returns a model described but not loaded, of which a run file or a set says how it is handed images."""
    from teachers import describe_teacher

    with _no_model_explained(path):
        return describe_teacher(path, preprocessing, beside)


def load_described(path: Path, preprocessing: Preprocessing, beside: bool = True) -> LoadedTeacher:
    """Loads the teacher that a run file or a set names, as `load_model` does. beside: whether its model.json says what they leave open."""
    return load_steady(_described(path, preprocessing, beside=beside))


@contextmanager
def _no_model_explained(path: Path) -> Iterator[None]:
    """What lies at a path is said where it is no model."""
    try:
        yield
    except DistillError:
        from distill.data.folders import no_model

        if told := no_model(path, "{}"):
            raise DistillError(told) from None
        raise


def _recipe(recipe: Path | Recipe) -> Recipe:
    from distill.images.augmentation import Recipe, find_recipe

    return recipe if isinstance(recipe, Recipe) else find_recipe(_text(recipe))


def _size(size: Size | None) -> tuple[int, int] | None:
    """("112x96") -> (112, 96), and so does (112, 96)."""
    if size is None:
        return None
    parts: list[Any] = size.split("x") if isinstance(size, str) else list(size) if isinstance(size, Sequence) else []
    if len(parts) != 2 or not all(str(part).isdecimal() and int(part) for part in parts):
        raise DistillError(f"--size {size}: expected HEIGHTxWIDTH, such as 112x112.")
    return int(parts[0]), int(parts[1])


def _overrides(changes: Mapping[str, object] | Sequence[str]) -> Sequence[str]:
    """({"student.embedding": 256}) -> ["student.embedding=256"]; one text is one change."""
    if isinstance(changes, str):
        return [changes]
    if not isinstance(changes, Mapping):
        return changes
    try:
        return [f"{key}={_inline(value)}" for key, value in changes.items()]
    except TypeError as error:
        raise DistillError(f"set: {error}. Expected values that TOML has: texts, numbers, true or false, lists of them.") from error


def _inline(value: object) -> str:
    """A TOML value on one line, tables too: {"by": "key"} -> '{ by = "key" }'."""
    import tomli_w

    if isinstance(value, Mapping):
        inside = ", ".join(f"{tomli_w.dumps({str(key): 0}).partition('=')[0].strip()} = {_inline(each)}" for key, each in value.items())
        return "{ " + inside + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return tomli_w.dumps({"value": value}).partition("=")[2].strip()


def _text(path: Path) -> str:
    return str(place(path))


def _was_imported(shards: StoragePath) -> bool:
    """Whether the plan of a set says that no teacher of its own embedded it."""
    plan = next((plan for folder in (shards, shards.parent) if is_there(plan := folder / "plan.json")), None)
    return plan is not None and read_json(plan).get("batch") == 0


def _failure(found: VerifyResult, teacher: Teacher | None) -> str:
    """Returns what is wrong with a set and the way out, "" where nothing is. DistillError where it is the teacher's fault."""
    from distill.data.shards import open_shards
    from distill.data.shards.golden import OTHER_PIXELS, SAME
    from distill.data.shards.verify import PIXELS

    if found.problems:
        again = " ".join(f"--only {number}" for number in sorted({number for number, _ in found.problems if number >= 0}))
        imported = "Put back whole copies of them, or move these shards elsewhere and run the same distill import again"
        anew = f"Put back whole copies of them, or make these chunks again from the images that are there: distill embed ... {again}"
        anew = imported if _was_imported(place(found.path)) else anew
        way_out = anew if again else "Run the command that made the set again: it writes the index anew."
        if any(number == PIXELS for number, _ in found.problems):
            way_out = OTHER_PIXELS
        return f"{found.path}: {many(len(found.problems), 'problems')}. {way_out}"
    if teacher and found.sample and (worst := found.sample["worst_cosine"]) < SAME:
        image = open_shards(found.path).meta.image
        load_steady(teacher, (image.height, image.width))
        return f"{found.path}: a stored embedding is not the teacher's answer (cosine {worst:.4f}). Decoder, scale or colour order differ."
    return ""


def _workers(job: Job, engine: str, workers: int | str) -> tuple[str, int]:
    """(engine, number of workers); "auto" measures."""
    from pipelines.forecast import cores, forecast

    if workers != "auto":
        if not isinstance(workers, int):
            raise DistillError(f"--workers {workers}: expected a number of chunks at a time, 0 for one a core, or auto.")
        return engine, workers or cores()
    if engine not in ("local", "processes"):
        raise DistillError(f"--workers auto measures this machine; --engine {engine} may run elsewhere. Give a number.")
    rates = forecast(job, cores()).rates
    _say(f"{rates.in_words()}; taking --engine {rates.engine} --workers {rates.workers}")
    return rates.engine, rates.workers


def _estimate_line(estimate: Mapping[str, Any], workers: int) -> str:
    done = estimate["chunks"] - estimate["todo_chunks"]
    line = f"{many(estimate['rows'], 'rows')} in {many(estimate['chunks'], 'chunks')}" + (f", {done} of them done" if done else "")
    line += f"; about {estimate['bytes'] / 1e9:.2f} GB to write" + ("" if estimate["free"] is None else f", {estimate['free'] / 1e9:.1f} GB free")
    line += "".join(f"; skipped: {many(count, reason)}" for reason, count in estimate["skipped"].items())
    line += f"\n{estimate['note']}" * bool(estimate.get("note"))
    if estimate["todo_chunks"] == estimate["chunks"] == 1 < workers:
        line += f"\nOne chunk keeps one core busy: --rows {-(-estimate['rows'] // workers)} would use {workers}."
    if estimate.get("warning"):
        line += f"\nwarning: {estimate['warning']}"
    return line


def _say(text: str) -> None:
    """Shows a line that stays, where progress is shown."""
    from distill.runtime.progress import here

    if display := here():
        display.line(text)
