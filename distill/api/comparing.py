"""Photos side by side: compare."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Unpack, cast

from distill.api.given import Path, Size, describe, load_steady, size_of, text_of
from distill.arguments import checked
from distill.errors import DistillError
from distill.results import CompareResult
from distill.results.comparison import Beside
from distill.storage.path import StoragePath, as_path

if TYPE_CHECKING:
    import numpy as np

    from distill.evaluation.photos import Photos
    from distill.images.preprocessing import PreprocessingOptions
    from teachers import Teacher

USUAL_FAR = 0.01


@checked
def compare(
    model: Path,
    images: Sequence[Path],
    *,
    threshold: float | None = None,
    evaluation: Path | None = None,
    far: float | None = None,
    teacher: Path | None = None,
    plot: Path | None = None,
    resize: str = "crop",
    exif: str = "ignore",
    size: Size | None = None,
    **options: Unpack[PreprocessingOptions],
) -> CompareResult:
    """Computes the cosines of photos: 1 is the same direction, about 0 another person.

    Args:
        images: two photos or more.
        threshold: the cosine from which on two photos are called the same person, -1 to 1; `evaluate` finds one.
        evaluation: in place of `threshold` an evaluation.json, or the folder of one, whose threshold at `far` is taken; the teacher's too.
        far: false accept rate of that threshold, 0.01 where nothing is said.
        teacher: another model, whose cosines are told beside those of `model`.
        plot: PNG file to draw: photos on both axes, the matrix of each model between them.
        resize, exif, size: how photos are brought to the size of a model; size for models that take any.
        options: signature, input, output, scale, offset, color, preset, feed, tags; of the teacher where one is given, else of the model.
    """
    _check(threshold, evaluation, far)
    from distill.evaluation.photos import check_photos
    from distill.evaluation.thresholds import read_thresholds

    nothing = cast("PreprocessingOptions", {})
    described = describe(model, options if teacher is None else nothing)
    other = None if teacher is None else describe(teacher, options)
    paths = [as_path(image) for image in ([images] if isinstance(images, str) else images)]
    asked = size_of(size)
    check_photos(paths)
    _check_plot(plot, len(paths))
    thresholds, rate = None if evaluation is None else read_thresholds(as_path(evaluation)), USUAL_FAR if far is None else far
    cut = None if thresholds is None else thresholds.at(rate, described.path, "model")
    other_cut = thresholds.at(rate, other.path, "teacher").value if thresholds and other and thresholds.has(other.path, "teacher") else None

    photos, matrix = _cosines(described, paths, resize, asked, exif)
    beside = None if other is None else Beside(other.path, _cosines(other, paths, resize, asked, exif)[1], other_cut)
    found = CompareResult(
        photos.names,
        matrix,
        threshold if cut is None else cut.value,
        turned=photos.turned,
        resized=photos.resized,
        model=described.path,
        source="" if cut is None else cut.source,
        teacher=beside,
        plot="" if plot is None else text_of(plot),
    )
    if plot is not None:
        _draw(plot, photos, found)
    return found


def _check(threshold: float | None, evaluation: Path | None, far: float | None) -> None:
    if threshold is not None and not -1 <= threshold <= 1:
        raise DistillError(f"--threshold {threshold}: expected a cosine, from -1 to 1. distill evaluate MODEL --pairs FOLDER finds one.")
    if threshold is not None and evaluation is not None:
        raise DistillError(f"--threshold {threshold:g} and --evaluation {evaluation} both say from which cosine on two photos are the same. Give one of them.")
    if far is not None and evaluation is None:
        raise DistillError(f"--far {far:g} chooses among the thresholds of an evaluation. Give it too: --evaluation RUN, or an evaluation.json.")
    if far is not None and not 0 < far < 1:
        raise DistillError(f"--far {far:g}: expected a false accept rate between 0 and 1, such as 0.01.")


def _check_plot(plot: Path | None, photos: int) -> None:
    """Raises DistillError where a picture cannot be drawn or written, before models are loaded."""
    if plot is None:
        return
    from distill.data.folders import check_image_file
    from distill.report.photos_plot import MOST

    if as_path(plot).suffix.lower() != ".png":
        raise DistillError(f"--plot {plot}: expected the name of a PNG file, such as {plot}.png.")
    if photos > MOST:
        raise DistillError(f"--plot draws up to {MOST} photos, {photos} are given. Leave some out, or --plot.")
    check_image_file(as_path(plot), "--plot", "compare.png")


def _cosines(model: Teacher, paths: Sequence[StoragePath], resize: str, size: tuple[int, int] | None, exif: str) -> tuple[Photos, np.ndarray]:
    from distill.evaluation.embed import spec_for
    from distill.evaluation.photos import cosines, read_photos

    loaded = load_steady(model)
    photos = read_photos(paths, spec_for(loaded, resize, size, exif))
    return photos, cosines(loaded, photos)


def _draw(plot: Path, photos: Photos, found: CompareResult) -> None:
    from distill.images.codec import write_png
    from distill.report.photos_plot import Matrix, photos_matrix

    matrices = [Matrix(_short(found.model), found.cosines, found.threshold)]
    if found.teacher is not None:
        matrices.append(Matrix(f"{_short(found.teacher.path)} (teacher)", found.teacher.cosines, found.teacher.threshold))
    names = [_short(name, 18) for name in photos.names]
    write_png(as_path(plot), photos_matrix(photos.pixels, names, matrices), "distill compare")


def _short(path: str, most: int = 40) -> str:
    """The last two parts of a path, or its end."""
    name = "/".join(PurePath(path).parts[-2:])
    return name if len(name) <= most else f"...{name[3 - most :]}"
