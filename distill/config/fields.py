"""Types of fields that several tables of a run file have. Short, because there are no others."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, FiniteFloat

Positive = Annotated[int, Field(ge=1)]
AboveZero = Annotated[FiniteFloat, Field(gt=0)]
NotNegative = Annotated[FiniteFloat, Field(ge=0)]
Share = Annotated[FiniteFloat, Field(ge=0, lt=1)]


def usually(key: str, value: str) -> BeforeValidator:
    """Returns what says which kind of a union a table is that leaves it out, which pydantic's discriminators cannot."""

    def filled(table: Any) -> Any:
        return {key: value, **table} if isinstance(table, dict) else table

    return BeforeValidator(filled)


def later(default: Any) -> Any:
    """Returns the field of a key that came after the first versions: a run.toml that does not use it stays as those wrote it."""
    return Field(default=default, exclude_if=lambda value: value == default)
