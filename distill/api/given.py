"""What the verbs are given: paths, sizes, recipes and models, as texts or values."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from distill.errors import DistillError
from distill.storage.path import StoragePath, as_path

if TYPE_CHECKING:
    from distill.images.augmentation import Recipe
    from distill.images.preprocessing import Preprocessing, PreprocessingOptions
    from teachers import LoadedTeacher, Teacher

Path: TypeAlias = str | os.PathLike[str] | StoragePath
Size: TypeAlias = str | Sequence[int]


def load_steady(teacher: Teacher, size: tuple[int, int] | None = None) -> LoadedTeacher:
    """Loads a described model. DistillError where its answers depend on chance or on the other images."""
    from teachers.trial import check_steady

    loaded = teacher.load()
    check_steady(loaded, size)
    return loaded


def describe(path: Path, options: PreprocessingOptions) -> Teacher:
    """Returns a model described but not loaded. tags may be one text with commas."""
    from teachers import open_teacher

    tags = options.get("tags")
    if isinstance(tags, str):
        options = {**options, "tags": [tag.strip() for tag in tags.split(",") if tag.strip()]}
    with _no_model_explained(path):
        return open_teacher(path, **options)


def describe_with(path: Path, preprocessing: Preprocessing, *, beside: bool = True) -> Teacher:
    """Returns a model described but not loaded, of which a run file or a set says how it is handed images."""
    from teachers import describe_teacher

    with _no_model_explained(path):
        return describe_teacher(path, preprocessing, beside)


def load_described(path: Path, preprocessing: Preprocessing, beside: bool = True) -> LoadedTeacher:
    """Loads the teacher that a run file or a set names, as `load_model` does. beside: whether its model.json says what they leave open."""
    return load_steady(describe_with(path, preprocessing, beside=beside))


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


def recipe_of(recipe: Path | Recipe) -> Recipe:
    from distill.images.augmentation import Recipe, find_recipe

    return recipe if isinstance(recipe, Recipe) else find_recipe(text_of(recipe))


def size_of(size: Size | None) -> tuple[int, int] | None:
    """("112x96") -> (112, 96), and so does (112, 96)."""
    if size is None:
        return None
    parts: list[Any] = size.split("x") if isinstance(size, str) else list(size) if isinstance(size, Sequence) else []
    if len(parts) != 2 or not all(str(part).isdecimal() and int(part) for part in parts):
        raise DistillError(f"--size {size}: expected HEIGHTxWIDTH, such as 112x112.")
    return int(parts[0]), int(parts[1])


def text_of(path: Path) -> str:
    return str(as_path(path))


def show_line(text: str) -> None:
    """Shows a line that stays, where progress is shown."""
    from distill.runtime.progress import here

    if display := here():
        display.line(text)
