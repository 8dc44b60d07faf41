"""Inputs of a model beside the images: each gets a constant that a person gives, read as its type wants it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from distill.errors import DistillError

if TYPE_CHECKING:
    from distill.images.preprocessing import Scalar
    from teachers import Teacher

Shape = tuple[int | None, ...]
TRUTHS = {"true": True, "yes": True, "on": True, "1": True, "1.0": True, "false": False, "no": False, "off": False, "0": False, "0.0": False}


@dataclass(frozen=True)
class Constant:
    """value: as it is kept in a set; shape: None at its first place is the number of images."""

    value: Scalar
    dtype: np.dtype
    shape: Shape

    def fill(self, rows: int) -> np.ndarray:
        """The array for so many images.

        >>> Constant(False, np.dtype(bool), (None, 1)).fill(2)
        array([[False], [False]])
        """
        return np.full([rows if size is None else size for size in self.shape], self.value, self.dtype)


def pick(teacher: Teacher, inputs: Mapping[str, tuple[np.dtype | str, Shape | None]], listing: str) -> tuple[str, dict[str, Constant]]:
    """The input that takes the images, and a constant for each other one. DistillError where one has none, or a constant fits none.

    inputs: {name: (type, shape)}; listing: what the model has, for messages.
    """
    where, given = f"teacher {teacher.path}", dict(teacher.preprocessing.feed)
    for name in given:
        if name not in inputs:
            raise DistillError(f"{where} has no input {name!r} to feed. Its inputs: {', '.join(inputs)}.{listing}")
    wanted = teacher.preprocessing.input
    if wanted is not None and (wanted not in inputs or wanted in given):
        raise DistillError(f"{where} has no input {wanted!r} that is not fed. Choose with --input from: {', '.join(inputs)}.{listing}")
    open_ones = sorted((name for name in inputs if name not in given), key=lambda name: name != wanted)
    if len(open_ones) != 1:
        others = [name for name in open_ones if name != wanted and (wanted or not _may_be_images(inputs[name][1]))] or open_ones[1:]
        way_out = " ".join(f"--feed {name}={_example(inputs[name][0])}" for name in others)
        end = f"Give the others a constant: {way_out}." if open_ones else "Leave the --feed of that one away."
        raise DistillError(f"{where} takes {len(inputs)} inputs, {len(open_ones)} of them not fed; expected one, for the images. {end}{listing}")
    return open_ones[0], {name: _constant(where, name, value, *inputs[name]) for name, value in given.items()}


def _may_be_images(shape: Shape | None) -> bool:
    return shape is None or len(shape) == 4


def _constant(where: str, name: str, value: Scalar, kind: np.dtype | str, shape: Shape | None) -> Constant:
    shown = f"{where}: --feed {name}={value}"
    try:
        dtype = np.dtype(object if kind == "string" else kind)
    except TypeError:
        raise DistillError(f"{shown}: that input is {kind}, which takes no constant.") from None
    if shape is not None and None in shape[1:]:
        raise DistillError(f"{shown}: that input has a free size beside the number of images, so a constant does not fill it.")
    return Constant(_typed(shown, value, dtype), dtype, shape or ())


def _typed(shown: str, value: Scalar, dtype: np.dtype) -> Scalar:
    text = str(value).strip()
    if dtype.kind == "b":
        if text.lower() not in TRUTHS:
            raise DistillError(f"{shown}: that input is bool; expected true or false.")
        return TRUTHS[text.lower()]
    if dtype.kind == "O":
        return str(value)
    try:
        number = int(text) if dtype.kind in "iu" else float(text)
    except ValueError:
        expected = "a whole number" if dtype.kind in "iu" else "a number"
        raise DistillError(f"{shown}: that input is {dtype}; expected {expected}.") from None
    if dtype.kind in "iu" and not np.iinfo(dtype).min <= number <= np.iinfo(dtype).max:
        raise DistillError(f"{shown}: that input is {dtype}, which does not hold it.")
    return number


def _example(kind: np.dtype | str) -> str:
    name = str(kind)
    return "false" if name == "bool" else "TEXT" if name in ("string", "object") else "0"
