"""What a student has of its teacher beside figures on pairs, as evaluation.json holds it, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NAMED = 3  # images that are named in a line


def agreement_notes(found: Mapping[str, Any]) -> list[str]:
    """Returns how alike both see the same images, and the images that they see least alike; none of an evaluation of an earlier version."""
    notes = []
    if "rank_correlation" in found:
        rank = "-" if found["rank_correlation"] is None else f"{found['rank_correlation']:.4f}"
        near = ", ".join(f"{share:.1%} of the {k} nearest" if k != "1" else f"{share:.1%} of the nearest" for k, share in found["neighbour_overlap"].items())
        sample = f"of {found['sampled_rows']:,} of these rows ({found['sampled_pairs']:,} pairs)"
        notes.append(f"similarities {sample}: rank correlation {rank}" + (f"; {near} by the teacher are so by the model" if near else ""))
    if found.get("worst"):
        named = ", ".join(f"{one['key']} {one['cosine']:.3f}" for one in found["worst"][:NAMED])
        notes.append(f"least like the teacher's: {named}" + (f", and {len(found['worst']) - NAMED} more in --json" if len(found["worst"]) > NAMED else ""))
    return notes
