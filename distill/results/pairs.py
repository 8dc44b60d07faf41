"""The figures of a model on a set of pairs, as evaluation.json holds them, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def sets_of(model: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Returns the figures of a model on each set of pairs, in the order given, then those on templates."""
    return [one for one in (model.get("pairs"), *model.get("more_pairs", ()), model.get("templates")) if one]


def pair_cells(figures: Mapping[str, Any] | None, fars: Sequence[str]) -> list[str]:
    """Returns the cells of a table row: accuracy, the TAR at each FAR, the number of pairs."""
    if figures is None:
        return ["-"] * (len(fars) + 2)
    tars = [f"{point['tar']:.1%}" if (point := figures["tar"].get(far)) and point["tar"] is not None else "-" for far in fars]
    return [f"{figures['accuracy']:.2%} ± {figures['std']:.2%}", *tars, f"{figures['genuine'] + figures['impostors']:,}"]


def pair_notes(figures: Mapping[str, Any]) -> list[str]:
    """Returns what stands behind the figures, one line each."""
    return [*_about(figures), *_as_papers(figures), *interval_notes(figures), *group_notes(figures)]


def brief_notes(figures: Mapping[str, Any]) -> list[str]:
    """Returns what a table of several models does not have: on whom, which rates are missing, the thresholds, and the groups."""
    return [*_about(figures), *group_notes(figures)]


def _about(figures: Mapping[str, Any]) -> list[str]:
    shown, trained, folds = figures["identities"], figures["trained_identities"], figures["folds"]
    known = "whom they show is not known" if shown is None else f"whether it was trained on their {shown:,} identities is not known"
    if trained is not None:
        known = f"{trained:,} of their {shown:,} identities have the name of one that it was trained on"
    if "templates" in figures:
        known = f"of {figures['templates']:,} templates of {figures['images']:,} images ({figures['media']:,} media), {_weights(figures)}"
    mirrored = "; embeddings are sums with those of mirrored images" * figures.get("flip", False)
    notes = [f"pairs: {known}; accuracy is a mean of {folds} folds{mirrored}"]
    notes += [f"no TAR at FAR {percent(float(far))}: {point['left_out']}" for far, point in figures["tar"].items() if point["tar"] is None]
    cuts = [f"{figures['threshold']:.3f} for the best accuracy"]
    cuts += [f"{point['threshold']:.3f} for FAR {percent(float(far))}" for far, point in figures["tar"].items() if point["threshold"] is not None]
    return [*notes, f"threshold on the cosine: {', '.join(cuts)}"]


def _weights(figures: Mapping[str, Any]) -> str:
    """Returns how the images of a template count."""
    kept = {"keep": "long features count for more", "unit": "features of length 1"}[figures["norm"]]
    return f"{kept}, times the detector's scores" if figures["detector_scores"] else kept


def _as_papers(figures: Mapping[str, Any]) -> list[str]:
    """Returns the figures of papers; none of an evaluation of an earlier version."""
    if "published" not in figures:
        return []
    published, best = figures["published"], figures["best"]
    words = f"as published ({figures['folds']} folds, 400 distances): {published['accuracy']:.2%} ± {published['std']:.2%}; "
    words += f"optimistic, with the best threshold on these pairs: {best['accuracy']:.2%}; AUC {figures['auc']:.5f}; EER {figures['eer']:.2%}"
    strict, near = figures["tars"]["conservative"], figures["tars"]["nearest"]
    rates = [f"{percent(float(far))} {_rate(point)} / {_rate(near[far])}" for far, point in strict.items() if point["tar"] is not None]
    return [words, *([f"TAR at FAR, conservative / nearest (impostor pairs accepted): {'; '.join(rates)}"] if rates else [])]


def probe_notes(figures: Mapping[str, Any]) -> list[str]:
    """Returns what stands behind the accuracy of a linear classifier."""
    trained, shown = figures["trained_identities"], figures["identities"]
    known = "" if trained is None else f"; {trained:,} of the {shown:,} have the name of one that it was trained on"
    words = f"probe: of {figures['test']:,} held-out images of {figures['classes']:,} identities, by {figures['classifier']}, that learned from {figures['train']:,}"
    notes = [f"{words}{known}", *(f"probe: {note}" for note in interval_notes(figures))]
    if not figures["converged"]:
        notes.append("probe: the classifier had not come to an end after all its steps")
    if (stored := figures.get("stored_accuracy")) is not None:
        notes.append(f"probe: {stored:.2%} with the embeddings that the set stores")
    return notes


def interval_notes(figures: Mapping[str, Any]) -> list[str]:
    """Returns the 95 % intervals, and those of the differences to the teacher; none where nothing was drawn again."""
    notes = []
    if found := figures.get("intervals"):
        each = [f"{_name(name)} {_between(name, one, '')}" for name, one in found["figures"].items() if one["low"] is not None]
        notes.append(f"95 % intervals ({found['of']} drawn again {found['resamples']:,} times): {'; '.join(each)}")
    for key, whom in (("minus_teacher", "the teacher"), ("minus_first", "the first model")):
        if less := figures.get(key):
            each = [f"{_name(name)} {_shown(name, one['value'], '+')} ({_between(name, one, '+')})" for name, one in less.items() if one["low"] is not None]
            notes.append(f"less {whom} on the same pairs, with 95 % intervals: {'; '.join(each)}")
    return notes


def group_notes(figures: Mapping[str, Any]) -> list[str]:
    """Returns the figures of each group, the worst first; none where there are no groups."""
    return [f"group {one['group']}: {_of_group(one)}" for one in figures.get("groups", ())]


def _of_group(one: Mapping[str, Any]) -> str:
    if "left_out" in one:
        return f"no figures: {one['left_out']}"
    if "rank1" in one:
        return f"rank 1 {one['rank1']:.2%} of {one['probes']:,} photos"
    at = one["at_threshold"]
    rates = "".join(f", TAR at FAR {percent(float(far))} {point['tar']:.1%}" for far, point in one["tars"]["conservative"].items() if point["tar"] is not None)
    words = f"accuracy {one['accuracy']:.2%}, as published {one['published']['accuracy']:.2%}, AUC {one['auc']:.5f}, EER {one['eer']:.2%}{rates}"
    return f"{words} of {one['genuine'] + one['impostors']:,} pairs; with the threshold of all pairs {at['accuracy']:.2%}, FAR {at['far']:.2%}, TAR {at['tar']:.2%}"


def _name(name: str) -> str:
    """("tar@0.01") -> "TAR at FAR 1 %"."""
    kind, _, far = name.partition("@")
    return f"TAR at FAR {percent(float(far))}" if far else {"auc": "AUC", "eer": "EER", "rank1": "rank 1"}.get(kind, kind)


def _shown(name: str, value: float, sign: str) -> str:
    return f"{value:{sign}.5f}" if name == "auc" else f"{value:{sign}.2%}"


def _between(name: str, one: Mapping[str, float], sign: str) -> str:
    return f"{_shown(name, one['low'], sign)} to {_shown(name, one['high'], sign)}"


def _rate(point: Mapping[str, Any]) -> str:
    return f"{point['tar']:.2%} ({point['accepted']:,})"


def percent(far: float) -> str:
    """(0.001) -> "0.1 %"."""
    return f"{100 * far:.3g} %"
