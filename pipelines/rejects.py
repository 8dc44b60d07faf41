"""Why images are rejected: some of a list are looked at before any is labelled, and the reasons are told in groups, each with its way out.

A file of its own, because the plan, the commit and the launcher all ask it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from distill.data.archives.reader import read_bytes
from distill.errors import BadImage, Reason
from distill.images.codec import decode_batch
from distill.images.reasons import plain
from distill.images.spec import ImageSpec
from distill.storage.path import is_remote

LOOKED = 200  # images of a list that are looked at first
ASKED = 32  # of them that the teacher labels
SHOWN = 5  # groups

# kind of a reason: what it is called where there are many, and the way out
WAYS = {
    "size": ("of another size", "--resize stretch or crop takes images of any size"),
    "missing": ("not there", "put the files back and add --retry-rejects, or name their root with --root"),
    "unreadable": ("not readable", "mend links and rights, and add --retry-rejects"),
    "empty": ("empty", "copy the files again and add --retry-rejects"),
    "damaged": ("damaged", "copy the files again and add --retry-rejects"),
    "text": ("text, not images", "leave them out of the list"),
    "format": ("in formats that are not read", "convert them to JPEG or PNG"),
    "frames": ("with more than one frame", "take one frame of each"),
    "large": ("too large", "make them smaller"),
    "depth": ("of 32 bits a channel", "store them with 8 or 16"),
    "answer": ("answered by the teacher with numbers that are not finite", "look at --scale, --offset, --preset and at the model"),
    "range": ("with embeddings too large for the stored type", "--dtype float32 holds them"),
}


@dataclass(frozen=True)
class Group:
    """Rejects of one kind: how many, and the first of them."""

    kind: str
    number: int
    key: str
    reason: str

    def in_words(self, ways: Mapping[str, tuple[str, str]] = WAYS, told: str = "") -> str:
        name, way_out = ways[self.kind]
        if f"({way_out})" in told:
            return f"{self.number:,} {name}"
        return f"{self.number:,} {name}, {self.key!r} for one: {plain(self.reason)} ({way_out})"


def grouped(rejects: Iterable[tuple[str, Reason]]) -> list[Group]:
    """Returns (key, reason) of rejects by kind, the most frequent first."""
    found: dict[str, tuple[int, str, str]] = {}
    for key, reason in rejects:
        number, *first = found.get(reason.kind, (0, key, reason))
        found[reason.kind] = (number + 1, first[0], first[1])
    return sorted((Group(kind, *rest) for kind, rest in found.items()), key=lambda group: -group.number)


def in_words(groups: Sequence[Group], ways: Mapping[str, tuple[str, str]] = WAYS, told: str = "") -> str:
    """Returns groups on one line. ways: what kinds are called and their ways out, where they are others than those of `distill embed`; told: what was
    said before: of the groups in it only the numbers are told again."""
    more = sum(group.number for group in groups[SHOWN:])
    return "; ".join([*(group.in_words(ways, told) for group in groups[:SHOWN]), *([f"{more:,} of other kinds"] if more else [])])


def spread(keys: Sequence[str], share: int) -> list[str]:
    """(["a", "b", "c", "d", "e"], 3) -> ["a", "c", "e"]."""
    return [keys[row] for row in np.linspace(0, len(keys) - 1, min(share, len(keys))).astype(int).tolist()]


def look(root: str, keys: Sequence[str], spec: ImageSpec) -> tuple[list[tuple[str, Reason]], np.ndarray]:
    """Read and decode these images; returns (key, reason) of those that cannot be labelled, and the pixels of the first ASKED others."""
    bad: dict[int, Reason] = {}

    def read(place: int) -> bytes:
        try:
            return read_bytes(root, keys[place])
        except BadImage as error:
            bad[place] = error.reason
            return b""

    good: list[np.ndarray] = []
    with ThreadPoolExecutor(32 if is_remote(root) else 4) as pool:
        for start in range(0, len(keys), ASKED):  # pixels of one batch at a time: images may be large
            part = range(start, min(start + ASKED, len(keys)))
            pixels, undecoded = decode_batch(list(pool.map(read, part)), spec, pool)
            bad = {**{start + row: reason for row, reason in undecoded.items()}, **bad}
            good += [pixels[place - start] for place in part if place not in bad and len(good) < ASKED]
    kept = np.stack(good[:ASKED]) if good else np.empty((0, spec.height, spec.width, 3), np.uint8)
    return [(keys[place], bad[place]) for place in sorted(bad)], kept
