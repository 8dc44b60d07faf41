"""Thresholds that an evaluation found: the cosine from which on two photos are called the same person, at a false accept rate (FAR)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from distill.errors import DistillError
from distill.storage.path import StoragePath, as_path

NAME = "evaluation.json"
WAY_OUT = "distill evaluate MODEL --pairs FOLDER --out FOLDER writes one."


@dataclass(frozen=True)
class Threshold:
    """value: a cosine; source: where it is from, in words."""

    value: float
    source: str


@dataclass(frozen=True)
class Thresholds:
    """The models of an evaluation. Made by `read_thresholds`."""

    path: StoragePath
    models: Mapping[str, Mapping[str, Any]]

    def at(self, far: float, model: str, usual: str) -> Threshold:
        """Returns the threshold of a model at a FAR.

        Args:
            model: path of the model; where the evaluation has none of it, `usual` is taken, or the only one that is no teacher.

        Raises:
            DistillError: it has no such model, no pairs or not that rate, or too few impostor pairs for it.
        """
        who = self._who(model, usual)
        figures = self.models[who].get("pairs")
        if not isinstance(figures, dict):
            raise DistillError(f"{self.path}: {who} was not evaluated on pairs, so it has no thresholds. {WAY_OUT}")
        rates = _rates(figures)
        if f"{far:g}" not in rates:
            raise DistillError(f"{self.path} has no threshold at a FAR of {far:g}. Choose with --far from: {', '.join(rates)}.")
        value = rates[f"{far:g}"].get("threshold")
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
            why = rates[f"{far:g}"].get("left_out") or "no impostor pair may be accepted for it"
            there = ", ".join(rate for rate, one in rates.items() if isinstance(one.get("threshold"), (int, float)))
            way_out = f"Choose with --far from: {there}." if there else "Evaluate on more pairs."
            raise DistillError(f"{self.path} has no threshold at a FAR of {far:g}: {why}. {way_out}")
        return Threshold(
            float(value), f"a FAR of {far:.4g} ({figures.get('impostors', 0):,} impostor pairs) of {self.models[who].get('path', who)} in {self.path}"
        )

    def has(self, model: str, usual: str) -> bool:
        """Returns whether there is a model of that path or name."""
        return any(_same(str(figures.get("path", "")), model) for figures in self.models.values()) or usual in self.models

    def _who(self, model: str, usual: str) -> str:
        found = [who for who, figures in self.models.items() if _same(str(figures.get("path", "")), model)]
        others = [who for who in self.models if who != "teacher"]
        who = found[0] if found else usual if usual in self.models else others[0] if len(others) == 1 else None
        if who is None:
            paths = ", ".join(str(figures.get("path", who)) for who, figures in self.models.items())
            raise DistillError(f"{self.path} does not say which of its models {model} is. It has: {paths}.")
        return who


def read_thresholds(given: StoragePath) -> Thresholds:
    """Returns what an evaluation.json says, given as that file, its folder, or a run's folder with an evaluation in it.

    Raises:
        DistillError: there is none, or it is none.
    """
    from distill.storage.json_files import read_json

    path = given
    if given.is_dir():
        path = next((path for path in (given / NAME, given / "evaluation" / NAME) if path.is_file()), given / NAME)
    if not path.is_file():
        raise DistillError(f"--evaluation {given}: no {NAME} there. {WAY_OUT}")
    try:
        models = read_json(path, dict[str, dict[str, Any]])
    except ValueError as error:
        raise DistillError(f"{path} is no evaluation of distill: {error}.") from error
    if not models:
        raise DistillError(f"{path} has no figures of a model. {WAY_OUT}")
    return Thresholds(path, models)


def _rates(figures: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """{FAR as text: its figures}, the conservative ones."""
    every, few = figures.get("tars"), figures.get("tar")
    found = every.get("conservative") if isinstance(every, dict) else few
    return {far: one for far, one in found.items() if isinstance(one, dict)} if isinstance(found, dict) else {}


def _same(one: str, other: str) -> bool:
    """Whether two texts are one path."""
    try:
        return bool(one) and (one == other or as_path(one).resolve() == as_path(other).resolve())
    except DistillError:  # no path at all
        return False
