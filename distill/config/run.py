"""Run files: TOML for people, frozen values for code, and back. A run that loads is complete and free of contradictions.

An unknown key, a wrong type or an impossible combination is an error that names the key, the value and what was expected, before any work.
What needs the data to be judged (does this source give labels?) is judged by the trainer when it opens the sources, before the first step.
"""

import difflib
import math
import tomllib
import types
import typing
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, FiniteFloat, ValidationError, model_validator

from distill.config.catalog import TERM_OPTIONS
from distill.errors import DistillError
from distill.images.augmentation import Recipe, recipe_of
from distill.images.preprocessing import Preprocessing
from distill.storage.files import read_toml
from distill.storage.frozen import Frozen, Several
from distill.storage.path import StoragePath

Positive = Annotated[int, Field(ge=1)]
Size = Annotated[tuple[Positive, Positive], Several]


class Student(Frozen):
    """What is built: a backbone by name, and the size of what comes out of it.

    backbone: "small_conv", "mobilefacenet", or any name of keras.applications. widths: channels of each block of small_conv.
    weights: what to start from, a run folder or .keras file (the whole student) or an .h5 file (the backbone, for keras.applications).
    precision: what the backbone computes in; the embedding, the heads and the losses are float32 always.
    """

    backbone: str = "small_conv"
    embedding: Positive = 128
    dropout: Annotated[FiniteFloat, Field(ge=0, lt=1)] = 0.1
    widths: Annotated[tuple[Positive, ...], Several, Field(min_length=1)] | None = None
    weights: str | None = None
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.widths and self.backbone != "small_conv":
            raise ValueError(f'"widths" belongs to backbone "small_conv", but backbone is "{self.backbone}"; leave it out')
        if (self.weights or "").endswith(".h5") and self.backbone in ("small_conv", "mobilefacenet"):
            raise ValueError(
                f'weights "{self.weights}" is an .h5 file, which is for a keras.applications backbone, but backbone is "{self.backbone}"; '
                "name a run folder or a .keras file"
            )
        return self


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


class Optimizer(Frozen):
    """sgd, adam or adamw. momentum (Nesterov) is sgd's; weight_decay times the learning rate is taken off every kernel each step."""

    name: Literal["sgd", "adam", "adamw"] = "adamw"
    learning_rate: Annotated[FiniteFloat, Field(gt=0)] = 1e-3
    momentum: Annotated[FiniteFloat, Field(ge=0, lt=1)] | None = None
    weight_decay: Annotated[FiniteFloat, Field(ge=0)] = 0.0

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.momentum is not None and self.name != "sgd":
            raise ValueError(f'"momentum" belongs to optimizer "sgd", but name is "{self.name}"; leave it out')
        if self.weight_decay and self.name == "adam":
            raise ValueError('optimizer "adam" takes no "weight_decay"; use "adamw"')
        return self


class Schedule(Frozen):
    """The learning rate over a stage. warmup: the fraction of its steps over which it rises from 0.

    cosine falls to 0 at the last step. plateau multiplies by `factor` after `patience` epochs without a better (held-out) loss.
    """

    name: Literal["constant", "cosine", "plateau"] = "constant"
    warmup: Annotated[FiniteFloat, Field(ge=0, lt=1)] = 0.0
    factor: Annotated[FiniteFloat, Field(gt=0, lt=1)] | None = None
    patience: Positive | None = None

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("name") == "plateau":
            return {"factor": 0.1, "patience": 3, **values}
        return values

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.name != "plateau" and (self.factor is not None or self.patience is not None):
            raise ValueError(f'"factor" and "patience" belong to schedule "plateau", but name is "{self.name}"; leave them out')
        return self


class Term(Frozen):
    """One summand of the loss: weight times the mean over the batch of what `name` says (distill/losses/terms.py has the formulas)."""

    name: Literal["mse", "cosine", "softmax", "arcface"]
    weight: Annotated[FiniteFloat, Field(gt=0)] = 1.0
    scale: Annotated[FiniteFloat, Field(gt=0)] | None = None
    angle_add: Annotated[FiniteFloat, Field(ge=0)] | None = None
    angle_mult: Annotated[FiniteFloat, Field(ge=1)] | None = None
    cos_sub: Annotated[FiniteFloat, Field(ge=0)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, values: Any) -> Any:
        return {**TERM_OPTIONS.get(str(values.get("name")), {}), **values} if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _possible(self) -> Self:
        foreign = sorted(self.options.keys() - TERM_OPTIONS[self.name].keys())
        if foreign:
            takes = ", ".join(["weight", *TERM_OPTIONS[self.name]])
            raise ValueError(f'term "{self.name}" takes no "{foreign[0]}"; it takes: {takes}')
        if self.angle_mult is not None and self.angle_mult * math.pi + (self.angle_add or 0.0) > 2 * math.pi:
            raise ValueError("angle_mult * pi + angle_add must not be above 2 pi: beyond that the guarded margin is not monotone")
        return self

    @property
    def options(self) -> dict[str, float]:
        """The keyword arguments of the term's function."""
        return self.model_dump(exclude={"name", "weight"}, exclude_none=True)


class Stage(Frozen):
    """One stretch of training: a source, the terms, how long, and how the weights move.

    source "noise" needs teacher (a path) and steps (batches an epoch), and may have a reading (how it is handed images); the others run through their rows once an
    epoch.
    """

    source: Literal["shards", "images", "noise"] = "shards"
    epochs: Positive = 1
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    terms: Annotated[tuple[Term, ...], Several, Field(min_length=1)]
    teacher: str | None = None
    steps: Positive | None = None
    reading: Preprocessing | None = None

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for key in ("teacher", "steps", "reading"):
            given = getattr(self, key) is not None
            if not given and self.source == "noise" and key != "reading":
                raise ValueError(f'source "noise" needs "{key}"')
            if given and self.source != "noise":
                raise ValueError(f'"{key}" belongs to source "noise", but source is "{self.source}"; leave it out')
        names = [term.name for term in self.terms]
        if len(set(names)) < len(names):
            raise ValueError(f"a term stands twice: {', '.join(names)}; give each once, with the sum of the weights")
        return self


class Run(Frozen):
    """A whole run: seed, student, data, and the stages that train that one student one after the other."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    student: Student = Student()
    data: Data = Data()
    stage: Annotated[tuple[Stage, ...], Several, Field(min_length=1)]

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for number, stage in enumerate(self.stage, 1):
            source = stage.source
            if source in ("shards", "images") and getattr(self.data, source) is None:
                raise ValueError(f'stage {number} has source "{source}", but [data] names no {source}; add {source} = PATH')
            if source != "shards" and self.data.size is None and self.data.shards is None:
                raise ValueError(f'stage {number} has source "{source}", which needs size = [HEIGHT, WIDTH] in [data]')
        if self.data.teacher is not None and self.data.shards is None:
            raise ValueError("[data] has a teacher, which answers golden rows of shards, but names no shards; add shards = PATH or leave teacher out")
        return self


def load_run(path: str | StoragePath, overrides: Sequence[str] = ()) -> Run:
    """The run file at `path`, with overrides such as "student.embedding=256" or "stage.2.epochs=4" (stages and terms count from 1).

    A value is TOML; what is no TOML value is taken as a string. DistillError lists every problem, one a line.
    """
    try:
        values = read_toml(path)
    except FileNotFoundError:
        raise DistillError(f"{path}: no such run file. `distill init > run.toml` writes one to start from.") from None
    except (ValueError, IsADirectoryError) as error:
        raise DistillError(f"{path} cannot be read as TOML: {error}") from None
    return build_run(values, overrides, str(path))


def build_run(values: dict[str, Any], overrides: Sequence[str], name: str) -> Run:
    """Returns the run of these values, changed by overrides as in `load_run`. Changes `values`.

    Args:
        name: what the values came from; messages begin with it.
    Raises:
        DistillError: lists every problem, one a line.
    """
    for override in overrides:
        _override(values, override)
    try:
        return Run.model_validate(values)
    except ValidationError as error:
        raise DistillError("\n".join(f"{name}: {problem}" for problem in problems(error))) from None


def dump_run(run: Run) -> str:
    """The run as TOML, with the defaults it was resolved to; what is not set is left out. `load_run` of it gives the same run."""
    import tomli_w

    return tomli_w.dumps(run.model_dump(mode="json", exclude_none=True))


def differences(run: Run, other: Run) -> list[str]:
    """Where two runs differ, one line a key: `stage.2.epochs: 4, 6` (a missing one is called `not set`)."""
    left, right = (_leaves(value.model_dump(mode="json", exclude_none=True)) for value in (run, other))
    keys = [*left, *(key for key in right if key not in left)]
    return [f"{key}: {left.get(key, 'not set')}, {right.get(key, 'not set')}" for key in keys if left.get(key) != right.get(key)]


def problems(error: ValidationError) -> list[str]:
    """Each problem of a run as one line: the key, what was received, and what was expected."""
    lines = []
    for problem in error.errors():
        key = _dotted(problem["loc"])
        if problem["type"] == "extra_forbidden":
            known = sorted(_model_at(problem["loc"][:-1]).model_fields)
            close = difflib.get_close_matches(str(problem["loc"][-1]), known, 1) or keys_like(str(problem["loc"][-1]), _stage_of(problem["loc"]))
            lines.append(f"unknown key {key}. " + (f"Did you mean {close[0]}? " if close else "") + f"Known here: {', '.join(known)}.")
        elif problem["type"] == "missing":
            lines.append(f"{key} is missing.")
        elif (told := _other_brackets(problem["loc"], problem["type"], problem["input"])) is not None:
            lines.append(f"{key}: {told}")
        else:
            expected = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
            received = "" if isinstance(problem["input"], (dict, BaseModel)) else f"received {problem['input']!r}, "
            lines.append(f"{key + ': ' if key else ''}{received}{expected}.")
    return lines


def _other_brackets(location: Sequence[int | str], kind: str, value: Any) -> str | None:
    """What to write where a table, a list of tables and a plain value were taken for one another; None where that is not what is wrong."""
    name = ".".join(part for part in location if isinstance(part, str))
    model = next(iter(_models_in(_field_at(location))), None)
    if kind == "tuple_type" and model is not None:
        received = f"one table ([{name}])" if isinstance(value, dict) else repr(value)
        return f"received {received}, expected a list of tables. Write [[{name}]], with two brackets, before each of them."
    if kind == "tuple_type":
        return f"received {value!r}, expected a list: write {location[-1]} = [...]."
    if kind not in ("model_type", "dataclass_type") or model is None:
        return None
    known = ", ".join(model.model_fields)
    if isinstance(value, list) and isinstance(location[-1], str):
        return f"received a list, expected one table. Write [{name}], with single brackets, once. Known in it: {known}."
    what = "{ " + next(iter(model.model_fields)) + " = ... }"
    return f"received {value!r}, expected a table of: {known}. Write {f'{location[-1]} = {what}' if isinstance(location[-1], str) else what}."


def _field_at(location: Sequence[int | str]) -> Any:
    """The annotation of a place of a run file; that of a list's items is the list's own."""
    names = [part for part in location if isinstance(part, str)]
    model = _model_at(names[:-1])
    return model.model_fields[names[-1]].annotation if names and names[-1] in model.model_fields else None


def _stage_of(location: Sequence[int | str]) -> int:
    """The number of the stage that a place of a run file lies in, 1 outside of stages."""
    return location[1] + 1 if len(location) > 1 and isinstance(location[1], int) else 1


def _dotted(location: Sequence[int | str]) -> str:
    return ".".join(str(part + 1) if isinstance(part, int) else part for part in location)


def _model_at(location: Sequence[int | str]) -> type[BaseModel]:
    """The model whose fields are allowed at a place of a run file: ("stage", 0, "optimizer") is Optimizer."""
    model: type[BaseModel] = Run
    for part in location:
        if isinstance(part, str):
            model = next(_models_in(model.model_fields[part].annotation), model)
    return model


def keys_like(name: str, stage: int = 1, close: bool = True) -> list[str]:
    """The keys of a run that a name may mean, in full: those that end in it, or have its letters as initials; else, where `close`, the nearest one.

    stage: the number of the stage that keys of a stage are told of.

    >>> keys_like("lr"), keys_like("learning_rat"), keys_like("backbone")
    (['stage.1.optimizer.learning_rate'], ['stage.1.optimizer.learning_rate'], ['student.backbone'])
    """
    named = dict(_all_keys(Run, stage))
    if same := [key for key, word in named.items() if name in (word, "".join(part[0] for part in word.split("_"))) and len(name) > 1]:
        return same
    near = difflib.get_close_matches(name, list(named.values()), 1, 0.75) if close else []
    return [key for key, word in named.items() if word in near]


def _all_keys(model: type[BaseModel], stage: int, above: str = "") -> typing.Iterator[tuple[str, str]]:
    """(key with dots, the word for it) of all plain values in a model; the word for a name is that of its table: ("stage.1.optimizer.name", "optimizer")."""
    for name, field in model.model_fields.items():
        inner = next(_models_in(field.annotation), None)
        if inner is None or name == "augment":
            yield above + name, above.split(".")[-2] if name == "name" else name
        elif name != "terms":
            yield from _all_keys(inner, stage, f"{above}{name}.{f'{stage}.' if name == 'stage' else ''}")


def _models_in(annotation: Any) -> typing.Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models_in(argument)


def _leaves(value: Any, key: str = "") -> dict[str, Any]:
    """Nested dicts and lists as one flat dict; list places count from 1."""
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        items = ((str(number), item) for number, item in enumerate(value, 1))  # type: ignore[assignment]
    else:
        return {key: value}
    return {leaf: held for name, item in items for leaf, held in _leaves(item, f"{key}.{name}" if key else name).items()}


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    *path, last = key.strip().split(".")
    if not equals or not last:
        raise DistillError(f"--set {override}: expected KEY=VALUE, such as --set student.embedding=256")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    place: Any = values
    for part in [*path, last]:
        here, place = place, None
        if isinstance(here, list):
            if not part.isdecimal() or not 1 <= int(part) <= len(here):
                raise DistillError(f"--set {override}: {part} must be a number from 1 to {len(here)}")
            index: Any = int(part) - 1
        elif isinstance(here, dict):
            index = part
            here.setdefault(part, {})
        else:
            raise DistillError(f"--set {override}: {part} lies inside a plain value; there is no such key")
        place = here[index]
    here[index] = value
