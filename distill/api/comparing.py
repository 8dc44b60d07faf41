"""Photos side by side: compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack

from distill.api.given import Path, Size, describe, load_steady, size_of
from distill.arguments import checked
from distill.errors import DistillError
from distill.results import CompareResult
from distill.storage.path import as_path

if TYPE_CHECKING:
    from distill.images.preprocessing import PreprocessingOptions


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
    from distill.images.exif import orientation

    described, paths = describe(model, options), [as_path(image) for image in ([images] if isinstance(images, str) else images)]
    asked = size_of(size)
    check_photos(paths)
    matrix = cosines(load_steady(described), paths, resize, asked, exif)
    turned = tuple(str(path) for path in paths if exif == "ignore" and orientation(path.read_bytes()) != 1)
    return CompareResult(tuple(map(str, paths)), matrix, threshold, turned)
