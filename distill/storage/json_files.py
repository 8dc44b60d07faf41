"""JSON and TOML files as values of a type, and back; what is wrong with one is said in one line."""

import json
from functools import lru_cache
from typing import Any, TypeVar, overload

from distill.storage.files import committed, read_whole
from distill.storage.path import StoragePath, as_path

Kind = TypeVar("Kind")


def write_json(path: str | StoragePath, value: Any) -> None:
    """Writes `value` as indented UTF-8 JSON with keys in the order given, whole or not at all. NaN is a ValueError."""
    data = json_text(value)
    with committed(path) as temporary:
        temporary.write_bytes(data)


def json_text(value: Any) -> bytes:
    """Returns the bytes that `write_json` writes."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


@overload
def read_json(path: str | StoragePath) -> dict[str, Any]: ...


@overload
def read_json(path: str | StoragePath, kind: type[Kind]) -> Kind: ...


def read_json(path: str | StoragePath, kind: Any = dict[str, Any]) -> Any:
    """Returns a JSON file as a value of the type `kind`; see `parse_json`."""
    return parse_json(read_whole(as_path(path)), kind)


@overload
def parse_json(text: str | bytes) -> dict[str, Any]: ...


@overload
def parse_json(text: str | bytes, kind: type[Kind]) -> Kind: ...


def parse_json(text: str | bytes, kind: Any = dict[str, Any]) -> Any:
    """Returns JSON as a value of the type `kind`, usually a dataclass, with every field present and of its type.

    Raises ValueError with the fault in one line, also for JSON that is nested too deeply for Python's own parser."""
    from pydantic import ValidationError

    try:
        return _adapter(kind).validate_json(text, strict=True)
    except ValidationError as error:
        raise ValueError(first_problem(error)) from error


def read_toml(path: str | StoragePath) -> dict[str, Any]:
    """Returns a TOML file as plain values, without the byte order mark of Windows editors. Raises ValueError with the fault in one line."""
    import tomllib

    data = as_path(path).read_bytes()
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError("it is UTF-16; save it as UTF-8")
    try:
        return tomllib.loads(data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def first_problem(error: Any) -> str:
    """Returns the first problem of pydantic's ValidationError in one line: where, and what."""
    first = error.errors(include_url=False, include_input=False)[0]
    place_of, what = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
    return f"{place_of}: {what}" if place_of else what


@lru_cache(maxsize=64)
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)
