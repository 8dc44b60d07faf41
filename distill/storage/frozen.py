"""The base of frozen values that pydantic checks. A file of its own (under 50 lines), because pydantic takes 0.1 s to load and every verb loads `files`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, BeforeValidator, ConfigDict


class Frozen(BaseModel):
    """A value of plain fields: no unknown keys, no conversion of types (an int where a float is asked for is fine)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value  # TOML has lists, a frozen value has tuples


Several = BeforeValidator(_as_tuple)
