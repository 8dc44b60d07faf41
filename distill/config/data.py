"""The table [data] of a run file: where rows lie, how they are read, and which of them never train. Short, because it is one table."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, FiniteFloat

from distill.config.fields import Positive
from distill.images.augmentation import Recipe, recipe_of
from distill.storage.frozen import Frozen, Several

Size = Annotated[tuple[Positive, Positive], Several]


class Holdout(Frozen):
    """Which rows never train: a fraction of all identities (no image of theirs trains) or of all keys (their identities do)."""

    by: Literal["identity", "key"] = "identity"
    fraction: Annotated[FiniteFloat, Field(gt=0, lt=1)]


class Data(Frozen):
    """Where rows lie. shards: for source "shards". images: a folder of class folders, a list or chunks, for source "images".

    all_files, strip_prefix, label_from: how "images" is read, as the options of distill embed say. size: height and width of "images", and of
    "noise" where there are no shards. root: the folder that keys start from.
    threads: how many decode, 0 for one a core. views: which views of a set that has some: "one" a row and epoch, another one each epoch, "all" in
    each epoch, or "plain" for the pictures as they are. augment: a recipe (its name, a TOML file, or its fields) by which pictures are changed
    anew each epoch; their embeddings stay those of the plain pictures, so a set with views is the better way. teacher: where it is at hand, the golden
    rows are labelled again before the first step. max_rejects: the fraction of "images" that may be left out because they cannot be read.
    """

    shards: str | None = None
    images: str | None = None
    all_files: bool = False
    strip_prefix: str | None = None
    label_from: Literal["folder"] | None = None
    size: Size | None = None
    root: str | None = None
    resize: Literal["none", "stretch", "crop"] = "none"
    exif: Literal["ignore", "apply"] = "ignore"
    batch: Positive = 128
    holdout: Holdout | None = None
    threads: Annotated[int, Field(ge=0)] = 0
    views: Literal["one", "all", "plain"] = "one"
    augment: Annotated[str | Recipe, BeforeValidator(lambda value: recipe_of(value) if isinstance(value, dict) else value)] | None = None
    teacher: str | None = None
    max_rejects: Annotated[FiniteFloat, Field(ge=0, le=1)] = 0.01
