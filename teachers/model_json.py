"""`model.json` beside a model: how to speak to it, said once for all verbs. It holds no bytes of the model, so fingerprints leave it out.

A SavedModel folder has `model.json` in it, a file `w600k_r50.onnx` has `w600k_r50.model.json` beside it:

    {"format": "distill.model.1", "preprocessing": {"scale": 0.00784313725490196, "offset": -1.0}}

What is given when a teacher is opened wins over it, and it wins over what holds for any model.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

from distill.errors import DistillError
from distill.storage.path import StoragePath, place

FORMAT = "distill.model.1"
NAME = "model.json"


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


# key of "preprocessing": (what its value has to be, in words, and as a test)
KEYS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "signature": ("a name in quotes", _text),
    "output": ("a name in quotes", _text),
    "scale": ("a number that is not 0", lambda value: _number(value) and value != 0),
    "offset": ("a number", _number),
    "color": ('"rgb" or "bgr"', lambda value: value in ("rgb", "bgr")),
    "feed": (
        "names with a constant each: {...}",
        lambda value: isinstance(value, dict) and all(isinstance(one, (bool, int, float, str)) for one in value.values()),
    ),
    "tags": ('a list of names: ["serve"]', lambda value: isinstance(value, list) and all(isinstance(one, str) for one in value)),
}


def path_beside(model: str) -> StoragePath:
    """Returns where the `model.json` of a model is, or would be.

    >>> path_beside("zoo/w600k_r50.onnx")
    PosixPath('zoo/w600k_r50.model.json')
    """
    found = place(model)
    return found / NAME if found.is_dir() else found.parent / f"{found.stem}.{NAME}"


def read_beside(model: str) -> dict[str, Any]:
    """Returns what `model.json` says of a model's preprocessing, some of KEYS; nothing where there is none, or one of another program.

    Raises:
        DistillError: it is no JSON, or has a key or a value that is not known.
    """
    path = path_beside(model)
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    try:
        told = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DistillError(f"{path} is no JSON ({error}). Mend it, or remove it: distill inspect --save writes another.") from None
    if not isinstance(told, dict) or not (str(told.get("format", "")).startswith("distill.") or "preprocessing" in told):
        return {}  # TensorFlow.js, for one, calls its models so
    return check(path, told)


def check(path: Any, told: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the preprocessing of a whole `model.json`. DistillError where it is not as the module says."""
    if told.get("format") != FORMAT:
        raise DistillError(f'{path}: "format" is {json.dumps(told.get("format"))}, expected "{FORMAT}".')
    if unknown := sorted(told.keys() - {"format", "preprocessing"}):
        raise DistillError(f'{path}: unknown key "{unknown[0]}". Known here: format, preprocessing.')
    said = told.get("preprocessing", {})
    if not isinstance(said, dict):
        raise DistillError(f'{path}: "preprocessing" is {json.dumps(said)}, expected names with a value each: {{...}}.')
    for key, value in said.items():
        if key not in KEYS:
            raise DistillError(f'{path}: unknown key "{key}" in "preprocessing". Known here: {", ".join(KEYS)}.')
        expected, fits = KEYS[key]
        if not fits(value):
            raise DistillError(f'{path}: "{key}" in "preprocessing" is {json.dumps(value)}, expected {expected}.')
    return said


def write_text(said: Mapping[str, Any]) -> str:
    """Returns a `model.json` that says this of a model's preprocessing, some of KEYS."""
    return json.dumps({"format": FORMAT, "preprocessing": {key: said[key] for key in KEYS if key in said}}, indent=2, ensure_ascii=False) + "\n"


def in_words(said: Mapping[str, Any]) -> str:
    """Returns preprocessing on one line.

    >>> in_words({"scale": 0.5, "color": "bgr"})
    'scale 0.5, color bgr'
    """
    return ", ".join(f"{key} {_shown(value)}" for key, value in said.items())


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={one}" for name, one in value.items())
    return ",".join(value) if isinstance(value, (list, tuple)) else f"{value:g}" if isinstance(value, float) else str(value)
