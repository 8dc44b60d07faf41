"""The teacher and a list of images as functions: embed, plan, import."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Literal, Unpack

from distill.api.given import Path, Size, describe, recipe_of, show_line, size_of, text_of
from distill.arguments import checked
from distill.errors import DistillError
from distill.results import EmbedResult, ImportResult, PlanResult
from distill.runtime.lines import many
from distill.storage.path import as_path

if TYPE_CHECKING:
    from distill.data.shards.run_state import Estimate
    from distill.images.augmentation import Recipe
    from distill.images.preprocessing import PreprocessingOptions
    from pipelines.job import Job


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
        teacher: run folder, SavedModel, or a .keras, .h5, .onnx, .tflite, .xml (OpenVINO), .pb or .meta (TensorFlow 1) file.
        root: folder (or .rec or .tar) that keys are relative to; None: `source` itself, or the folder of the list.
        size: (height, width) or "HEIGHTxWIDTH", where the teacher takes images of any size.
        workers: chunks at a time, 0 for one a core; "auto" measures, and chooses the engine too.
        only: numbers of chunks to make (again), empty for all.
        dry_run: cut the list, return rows, chunks and bytes in `estimate`, and stop.
        beam: options of Apache Beam, such as ["--job_name=first"].
        options: signature, input, output, scale, offset, color, preset, feed, tags of `teachers.open_teacher`.
        The others are the options of `distill embed`, which explains them.

    Returns:
        Figures of the whole set, and of this call.
    Raises:
        DistillError: bad input; nothing was changed.
        Unfinished: a chunk failed, or too many images were rejected; what is done stays.
    """
    from distill.runtime.progress import bar, shown
    from pipelines.launch import embed as launch

    job = job_of(
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

    def told(estimate: Estimate) -> None:
        planned.update(asdict(estimate))
        show_line(_estimate_line(estimate, number))

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

    job = job_of(
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
    elsewhere = {text_of(path): read_rates(as_path(path)) for path in machine}
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
        options: signature, input, output, scale, offset, color, preset, feed, tags of `teachers.open_teacher`.
        The others are those of `embed`.

    Raises:
        DistillError: the files do not fit together; nothing was changed.
        Unfinished: too many images were rejected; what is done stays.
    """
    from distill.runtime.progress import bar, shown
    from pipelines.import_plan import Import
    from pipelines.imports import import_set as run

    asked = Import(
        text_of(source),
        text_of(out),
        text_of(root),
        None if teacher is None else describe(teacher, options),
        strip_prefix,
        label_from,
        format,
        dtype,
        images,
        resize,
        exif,
        size_of(size),
        rows,
        max_rejects,
        retry_rejects,
    )
    with shown(progress), bar("importing", "rows") as tell:
        done = run(asked, tell)
    made = done.set
    return ImportResult(
        text_of(out),
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


def job_of(
    source: Path, out: Path, teacher: Path, options: PreprocessingOptions, root: Path | None, recipe: Path | Recipe | None, size: Size | None, **asked: Any
) -> Job:
    from distill.data.sources import root_of
    from pipelines.job import Job

    described = describe(teacher, options)
    base = root_of(as_path(source)) if root is None or root == "" else text_of(root)
    found = None if recipe is None else recipe_of(recipe)
    return Job(source=text_of(source), out=text_of(out), root=base, teacher=described, recipe=found, size=size_of(size), **asked)


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
    show_line(f"{rates.in_words()}; taking --engine {rates.engine} --workers {rates.workers}")
    return rates.engine, rates.workers


def _estimate_line(estimate: Estimate, workers: int) -> str:
    done = estimate.chunks - estimate.todo_chunks
    line = f"{many(estimate.rows, 'rows')} in {many(estimate.chunks, 'chunks')}" + (f", {done} of them done" if done else "")
    line += f"; about {estimate.bytes / 1e9:.2f} GB to write" + ("" if estimate.free is None else f", {estimate.free / 1e9:.1f} GB free")
    line += "".join(f"; skipped: {many(count, reason)}" for reason, count in estimate.skipped.items())
    line += f"\n{estimate.note}" * bool(estimate.note)
    if estimate.todo_chunks == estimate.chunks == 1 < workers:
        line += f"\nOne chunk keeps one core busy: --rows {-(-estimate.rows // workers)} would use {workers}."
    if estimate.warning:
        line += f"\nwarning: {estimate.warning}"
    return line
