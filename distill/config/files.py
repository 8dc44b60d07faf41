"""Run files: TOML into a frozen `Run` and back, and where two runs differ.

An unknown key, a wrong type or an impossible combination is an error that names the key, the value and what was expected, before any work.
"""

import tomllib
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from distill.config.problems import problems
from distill.config.run import Run
from distill.errors import DistillError
from distill.storage.json_files import read_toml
from distill.storage.path import StoragePath


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
    left, right = settings(run), settings(other)
    keys = [*left, *(key for key in right if key not in left)]
    return [f"{key}: {left.get(key, 'not set')}, {right.get(key, 'not set')}" for key in keys if left.get(key) != right.get(key)]


def settings(run: Run) -> dict[str, Any]:
    """Returns all that a run has set as one flat dict: {"stage.2.epochs": 4, ...}; stages and terms count from 1."""
    return _leaves(run.model_dump(mode="json", exclude_none=True))


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
