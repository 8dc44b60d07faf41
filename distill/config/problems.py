"""What is wrong with a run, in words for a person: a line each, with the key, what was received and what was expected; and which key was meant."""

import difflib
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from distill.config.run import Run

Kinds = tuple[type[BaseModel], ...]


@dataclass(frozen=True)
class Place:
    """A place of a run file.

    Attributes:
        key: its names and numbers; list places count from 1.
        kinds: the classes that a table here may have, one unless they are the kinds of a union; none for a plain value.
        chosen: which of them the table has, where that is known.
    """

    key: tuple[str, ...] = ()
    kinds: Kinds = (Run,)
    chosen: type[BaseModel] | None = Run

    @property
    def dotted(self) -> str:
        return ".".join(self.key)

    @property
    def table(self) -> str:
        """The name of its table in TOML: without the numbers."""
        return ".".join(part for part in self.key if not part.isdecimal())

    @property
    def tag(self) -> str:
        """The key that says which kind of a union a table is: "name" or "source"."""
        return next(name for name, field in self.kinds[0].model_fields.items() if get_origin(field.annotation) is Literal)

    def tagged(self, kind: type[BaseModel]) -> str:
        return str(kind.model_fields[self.tag].default)

    @property
    def what(self) -> str:
        """What a kind is called in a sentence: a "source", an "optimizer", a "term"."""
        return self.table.split(".")[-1].removesuffix("s") if self.tag == "name" else self.tag


def place_of(location: Sequence[int | str]) -> Place:
    """Returns the place at a location of pydantic's, in which the kind of a union is a part of its own: ("stage", 0, "shards", "terms", 1, "mse", "weight")."""
    place = Place()
    for part in location:
        kind = None if len(place.kinds) < 2 or place.chosen else next((each for each in place.kinds if place.tagged(each) == part), None)
        if part in ("number", "word"):  # of a plain value that may be either
            continue
        if isinstance(part, int):
            place = Place((*place.key, str(part + 1)), place.kinds, place.chosen)
        elif kind:
            place = Place(place.key, place.kinds, kind)
        else:
            field = fields_of((place.chosen,) if place.chosen else ()).get(part)
            kinds = tuple(_models_in(field.annotation)) if field else ()
            place = Place((*place.key, part), kinds, kinds[0] if len(kinds) == 1 else None)
    return place


def fields_of(kinds: Kinds) -> dict[str, FieldInfo]:
    """Returns the fields of all kinds, by name; those that several have are there once."""
    return {name: field for kind in kinds for name, field in kind.model_fields.items()}


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def problems(error: ValidationError) -> list[str]:
    """Returns each problem of a run as one line: the key, what was received, and what was expected."""
    return [_in_words(problem) for problem in error.errors()]


def _in_words(problem: ErrorDetails) -> str:
    location, kind, value = problem["loc"], problem["type"], problem["input"]
    place = place_of(location)
    if kind == "extra_forbidden":
        return _unknown(place_of(location[:-1]), str(location[-1]), _stage_of(location))
    if kind == "missing":
        table = place_of(location[:-1])
        if table.chosen and len(table.kinds) > 1 and any(location[-1] not in each.model_fields for each in table.kinds):
            return f'{table.dotted}: {table.what} "{table.tagged(table.chosen)}" needs "{location[-1]}".'
        return f"{place.dotted} is missing."
    if kind == "union_tag_not_found":
        return f"{place.dotted}.{place.tag} is missing."
    if kind == "union_tag_invalid":
        *first, last = (f"'{place.tagged(each)}'" for each in place.kinds)
        return _line(f"{place.dotted}.{place.tag}", value[place.tag], f"should be {', '.join(first)} or {last}")
    if brackets := _other_brackets(place, location, kind, value):
        return f"{place.dotted}: {brackets}"
    return _line(place.dotted, value, problem["msg"].removeprefix("Value error, ").removeprefix("Input "))


def _line(key: str, value: Any, expected: str) -> str:
    received = "" if isinstance(value, (dict, BaseModel)) else f"received {value!r}, "
    return f"{key + ': ' if key else ''}{received}{expected}."


def _unknown(table: Place, name: str, stage: int) -> str:
    """What a key is that its table does not know: that of another kind, or one that resembles a known one."""
    own = table.chosen or table.kinds[0]
    if owners := [f'"{table.tagged(kind)}"' for kind in table.kinds if name in kind.model_fields]:
        chosen = f'{table.tag} is "{table.tagged(own)}"'
        return f'{table.dotted}: "{name}" belongs to {table.what} {" or ".join(owners)}, but {chosen}; leave it out.'
    close = difflib.get_close_matches(name, sorted(fields_of(table.kinds)), 1) or keys_like(name, stage)
    guess = f"Did you mean {close[0]}? " if close else ""
    return f"unknown key {'.'.join([*table.key, name])}. {guess}Known here: {', '.join(sorted(own.model_fields))}."


def _other_brackets(place: Place, location: Sequence[int | str], kind: str, value: Any) -> str | None:
    """What to write where a table, a list of tables and a plain value were taken for one another; None where that is not what is wrong."""
    names = list(fields_of(place.kinds))
    if kind == "tuple_type" and names:
        received = f"one table ([{place.table}])" if isinstance(value, dict) else repr(value)
        return f"received {received}, expected a list of tables. Write [[{place.table}]], with two brackets, before each of them."
    if kind == "tuple_type":
        return f"received {value!r}, expected a list: write {location[-1]} = [...]."
    if kind not in ("model_type", "model_attributes_type") or not names:
        return None
    known, key = ", ".join(names), place.key[-1]
    if len(place.kinds) > 1 and not place.chosen:
        known = f"{place.tag} and the keys of that {place.what if place.what != place.tag else 'kind'}, which distill init --list shows"
    if isinstance(value, list) and not key.isdecimal():
        return f"received a list, expected one table. Write [{place.table}], with single brackets, once. Known in it: {known}."
    what = "{ " + names[0] + " = ... }"
    return f"received {value!r}, expected a table of: {known}. Write {what if key.isdecimal() else f'{key} = {what}'}."


def _stage_of(location: Sequence[int | str]) -> int:
    """The number of the stage that a place of a run file lies in, 1 outside of stages."""
    return location[1] + 1 if len(location) > 1 and isinstance(location[1], int) else 1


def keys_like(name: str, stage: int = 1, close: bool = True) -> list[str]:
    """The keys of a run that a name may mean, in full: those that end in it, or have its letters as initials; else, where `close`, the nearest one.

    stage: the number of the stage that keys of a stage are told of.

    >>> keys_like("lr"), keys_like("learning_rat"), keys_like("backbone")
    (['stage.1.optimizer.learning_rate'], ['stage.1.optimizer.learning_rate'], ['student.backbone'])
    """
    named = dict(_all_keys((Run,), stage))
    if same := [key for key, word in named.items() if name in (word, "".join(part[0] for part in word.split("_"))) and len(name) > 1]:
        return same
    near = difflib.get_close_matches(name, list(named.values()), 1, 0.75) if close else []
    return [key for key, word in named.items() if word in near]


def _all_keys(kinds: Kinds, stage: int, above: str = "") -> Iterator[tuple[str, str]]:
    """(key with dots, the word for it) of all plain values in a table; the word for a name is that of its table: ("stage.1.optimizer.name", "optimizer")."""
    for name, field in fields_of(kinds).items():
        inner = tuple(_models_in(field.annotation))
        if not inner:
            yield above + name, above.split(".")[-2] if name == "name" else name
        elif name not in ("terms", "multipliers"):
            yield from _all_keys(inner, stage, f"{above}{name}.{f'{stage}.' if name == 'stage' else ''}")
