"""Arguments that come from Python are checked as those of the command line are: a wrong type is one clear message, not an error deep inside.

Only what an annotation says plainly is checked: int, float, bool, str, paths, and lists of these, alone or with None. Everything else passes. pydantic's
`validate_call` would do the same, and would have to load the types of half the house when `distill.api` loads.
"""

from __future__ import annotations

import functools
import inspect
import numbers
import os
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import Any, ParamSpec, TypeVar

from distill.errors import DistillError
from distill.storage.objects import RemotePath

Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")

PATHS: tuple[type, ...] = (str, os.PathLike, RemotePath)
# annotation, as it is written: (what is taken, what a person calls it)
KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "int": ((numbers.Integral,), "a whole number"),
    "float": ((numbers.Real,), "a number"),
    "bool": ((bool,), "True or False"),
    "str": ((str,), "a text"),
    "Path": (PATHS, "a path"),
    "Place": (PATHS, "a path"),
    "Sequence[int]": ((Iterable,), "a list of whole numbers"),
    "Sequence[Path]": ((Iterable,), "a list of paths"),
}
_PREPROCESSING = dict.fromkeys(("signature", "output", "scale", "offset", "color", "preset", "feed", "tags", "input"), "")
# annotation of **keywords: {name: annotation, "" where it is not checked}. Written out, because to look at the types loads what they are of; a test holds
# the names to these.
KEYWORDS: dict[str, dict[str, str]] = {
    "Unpack[PreprocessingOptions]": _PREPROCESSING,
    "Unpack[Planned]": dict.fromkeys(("shards", "method", "images", "size", "teacher", "student", "embedding", "epochs", "steps", "batch", "seed"), ""),
    "Unpack[Judging]": {
        **_PREPROCESSING,
        "pairs": "",
        "pairs_root": "Path | None",
        "number": "int | None",
        "seed": "int",
        "identify": "Path | None",
        "flip": "bool",
        "resamples": "int | None",
        "groups": "Path | None",
        "speed": "bool | None",
        "probe": "Path | None",
        "templates": "Path | None",
        "template_pairs": "Path | None",
        "template_root": "Path | None",
        "template_norm": "str",
        "detector_scores": "bool",
        "shards": "Path | None",
        "leaks": "bool | None",
        "leak_bound": "float | None",
        "root": "Path | None",
        "resize": "str",
        "exif": "str",
        "size": "",
    },
}


def checked(function: Callable[Arguments, Returned], called: str = "") -> Callable[Arguments, Returned]:
    """Returns the function, which raises DistillError where an argument is unknown, missing or not of its annotated type. called: its name in messages.

    >>> @checked
    ... def double(number: "int") -> "int":
    ...     return 2 * number
    >>> double("5")
    Traceback (most recent call last):
    distill.DistillError: double: received number='5' (str), expected a whole number.
    """
    signature, said = inspect.signature(function), called or function.__name__
    open_ended = [str(one.annotation) for one in signature.parameters.values() if one.kind is one.VAR_KEYWORD]
    known = [name for name, one in signature.parameters.items() if one.kind is not one.VAR_KEYWORD]
    keywords = {name: kind for annotation in open_ended for name, kind in KEYWORDS.get(annotation, {}).items()}
    known += keywords
    needed = [name for name, one in signature.parameters.items() if one.default is one.empty and one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    wanted = {name: _kind(str(one.annotation)) for name, one in signature.parameters.items() if one.kind is not one.VAR_KEYWORD}
    wanted |= {name: _kind(kind) for name, kind in keywords.items()}

    @functools.wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Returned:
        if unknown := next((name for name in kwargs if name not in known), None):
            near = get_close_matches(unknown, known, 1)
            raise DistillError(f"{said}: no argument '{unknown}'." + (f" Did you mean {near[0]}?" if near else f" Known: {', '.join(known)}."))
        if missing := next((name for name in needed if name not in signature.bind_partial(*args, **kwargs).arguments), None):
            raise DistillError(f"{said}: the argument '{missing}' is missing.")
        for name, value in {**signature.bind(*args, **kwargs).arguments, **kwargs}.items():
            if (kind := wanted.get(name)) is not None:
                _check(said, name, value, *kind)
        return function(*args, **kwargs)

    return call


def _kind(annotation: str) -> tuple[tuple[type, ...], str] | None:
    """("int | None") -> what is taken, None too; None where the annotation is not checked."""
    name, *rest = annotation.split(" | ")
    if name not in KINDS or rest not in ([], ["None"]):
        return None
    types, words = KINDS[name]
    return ((*types, type(None)), f"{words} or None") if rest else (types, words)


def _check(function: str, name: str, value: Any, types: tuple[type, ...], words: str) -> None:
    if not isinstance(value, types) or isinstance(value, bool) and bool not in types:
        raise DistillError(f"{function}: received {name}={value!r} ({type(value).__name__}), expected {words}.")
    if Iterable in types and isinstance(value, Sequence) and not isinstance(value, str):
        kind = KINDS["int"][0] if "numbers" in words else PATHS
        for one in value:
            if not isinstance(one, kind):
                raise DistillError(f"{function}: received {one!r} ({type(one).__name__}) in {name}, expected {words}.")
