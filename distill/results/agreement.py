"""What a student has of its teacher beside figures on pairs, as evaluation.json holds it, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill.results.pairs import interval_notes, percent

NAMED = 3  # images that are named in a line
SAME = 0.9995  # cosine from which on nothing is said of the worst image: the model is the one that made the set
_KINDS = {"identities": "identities of the same name", "equal_files": "equal files", "near_duplicates": "near-duplicates"}


def agreement_notes(found: Mapping[str, Any]) -> list[str]:
    """Returns how alike both see the same images, and the images that they see least alike; none of an evaluation of an earlier version."""
    notes = []
    if "rank_correlation" in found:
        rank = "-" if found["rank_correlation"] is None else f"{found['rank_correlation']:.4f}"
        near = ", ".join(f"{share:.1%} of the {k} nearest" if k != "1" else f"{share:.1%} of the nearest" for k, share in found["neighbour_overlap"].items())
        sample = f"of {found['sampled_rows']:,} of these rows ({found['sampled_pairs']:,} pairs)"
        notes.append(f"similarities {sample}: rank correlation {rank}" + (f"; {near} by the teacher are so by the model" if near else ""))
    if found.get("worst") and found["worst"][0]["cosine"] < SAME:
        named = ", ".join(f"{one['key']} {one['cosine']:.3f}" for one in found["worst"][:NAMED])
        notes.append(f"least like the teacher's: {named}" + (f", and {len(found['worst']) - NAMED} more in --json" if len(found["worst"]) > NAMED else ""))
    return notes


def asymmetric_notes(figures: Mapping[str, Any]) -> list[str]:
    """Returns what the model's probes are worth against the teacher's gallery; none where no teacher was given."""
    if "asymmetric_left_out" in figures:
        return [f"not against the teacher's gallery: {figures['asymmetric_left_out']}"]
    if "asymmetric" not in figures:
        return []
    found, notes = figures["asymmetric"], []
    behind = ", behind the projection of its run" if found["projected"] else ""
    sets = [one for one in (found.get("pairs"), *found.get("more_pairs", ())) if one]
    for one in sets:
        of = f" of {one['folder'].rstrip('/').rpartition('/')[2]}" if len(sets) > 1 else ""
        rates = "".join(f", TAR at FAR {percent(float(far))} {point['tar']:.1%}" for far, point in one["tar"].items() if point["tar"] is not None)
        words = (
            f"accuracy {one['accuracy']:.2%} (with the sides exchanged {one['mirrored']['accuracy']:.2%}){rates}, AUC {one['auc']:.5f}, EER {one['eer']:.2%}"
        )
        notes.append(f"first image{of} by the model{behind}, second by the teacher: {words}")
        notes += [f"first image{of} by the model, {note}" for note in interval_notes(one) if note.startswith("less the teacher")]
    if one := found.get("identification"):
        notes.append(f"probes by the model{behind}, gallery by the teacher: rank 1 {one['rank1']:.2%}")
        notes += [f"probes by the model, {note}" for note in interval_notes(one) if note.startswith("less the teacher")]
    return notes


def leak_notes(found: Mapping[str, Any] | None) -> list[str]:
    """Returns what the evaluation shows of the rows of a set, a line for each kind; none where it was not looked for."""
    if not found:
        return []
    seen = {True: ", which it was trained on", False: ", which it was not trained on"}.get(found["trained_on"], "; whether it was trained on them is not known")
    where = f"leaks from {found['shards']} ({found['part']}{seen})"
    return [f"{where}, {words}: {_leaked(found[kind], kind)}" for kind, words in _KINDS.items()]


def _leaked(one: Mapping[str, Any], kind: str) -> str:
    if "left_out" in one:
        return f"not looked for: {one['left_out']}"
    if kind == "identities":
        named = list(one["named"][:NAMED])
    elif kind == "equal_files":
        named = [f"{leak['image']} is {leak['row']}" for leak in one["named"][:NAMED]]
    else:
        named = [f"{leak['image']} is {leak['row']} ({leak['cosine']:.3f})" for leak in one["named"][:NAMED]]
    more = f", and {one['number'] - NAMED:,} more" if one["number"] > NAMED else ""
    near = f"; by {one['by']}, whose cosine to the set's model is {one['close']:.3f} in the median" if "close" in one else ""
    return f"{one['number']:,}{': ' if named else ''}{', '.join(named)}{more}{near}"
