"""`model.json` beside a model: how to speak to it, said once for all verbs. It holds no bytes of the model, so fingerprints leave it out.

A SavedModel folder has `model.json` in it, a file `w600k_r50.onnx` has `w600k_r50.model.json` beside it:

    {"format": "distill.model.1", "preprocessing": {"scale": 0.00784313725490196, "offset": -1.0}}

That of an export says more (input, output, figures ...; it is known by "made_by"), which is left as it is, and usually has no preprocessing.
What is given when a teacher is opened wins over it, and it wins over what holds for any model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from distill.errors import DistillError
from distill.images.preprocessing import EXPECTED, Preprocessing
from distill.storage.path import StoragePath, as_path

FORMAT = "distill.model.1"
NAME = "model.json"


def path_beside(model: str) -> StoragePath:
    """Returns where the `model.json` of a model is, or would be.

    >>> path_beside("zoo/w600k_r50.onnx")
    PosixPath('zoo/w600k_r50.model.json')
    """
    found = as_path(model)
    return found / NAME if found.is_dir() else found.parent / f"{found.stem}.{NAME}"


def read_beside(model: str) -> Preprocessing:
    """Returns what `model.json` says of a model's preprocessing; nothing where there is none, or one of another program.

    Raises:
        DistillError: it is no JSON, or has a key or a value that is not known.
    """
    path = path_beside(model)
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return Preprocessing()
    try:
        told = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DistillError(f"{path} is no JSON ({error}). Mend it, or remove it: distill inspect --save writes another.") from None
    if not isinstance(told, dict) or not (str(told.get("format", "")).startswith("distill.") or "preprocessing" in told):
        return Preprocessing()  # TensorFlow.js, for one, calls its models so
    return check(path, told)


def check(path: Any, told: Mapping[str, Any]) -> Preprocessing:
    """Returns the preprocessing of a whole `model.json`. DistillError where it is not as the module says."""
    if told.get("format") != FORMAT:
        raise DistillError(f'{path}: "format" is {json.dumps(told.get("format"))}, expected "{FORMAT}".')
    if "made_by" not in told and (unknown := sorted(told.keys() - {"format", "preprocessing"})):
        raise DistillError(f'{path}: unknown key "{unknown[0]}". Known here: format, preprocessing.')
    said = told.get("preprocessing", {})
    if not isinstance(said, dict):
        raise DistillError(f'{path}: "preprocessing" is {json.dumps(said)}, expected names with a value each: {{...}}.')
    for key, value in said.items():
        if key not in EXPECTED:
            raise DistillError(f'{path}: unknown key "{key}" in "preprocessing". Known here: {", ".join(EXPECTED)}.')
        try:
            if value is None or value == "" or (key, value) == ("scale", 0):
                raise ValueError
            Preprocessing(**{key: value})
        except ValueError:
            raise DistillError(f'{path}: "{key}" in "preprocessing" is {json.dumps(value)}, expected {EXPECTED[key]}.') from None
    return Preprocessing(**said)


def write_text(preprocessing: Preprocessing, before: bytes = b"") -> str:
    """Returns a `model.json` that says this. before: the one that it replaces, of which what an export says is kept."""
    try:
        told = json.loads(before)
    except (ValueError, RecursionError):
        told = {}
    kept = told if isinstance(told, dict) and "made_by" in told else {}
    return json.dumps({**kept, "format": FORMAT, "preprocessing": preprocessing.model_dump(mode="json")}, indent=2, ensure_ascii=False) + "\n"
