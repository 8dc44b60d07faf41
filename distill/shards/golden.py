"""The golden rows of a set: its first images, the pixels they decode to and the teacher's answers, kept in index.json.

Whoever reads the set can prove with them that the decoder still gives the same pixels, and with the teacher at hand that its scale and
colour order are the same. In JSON: {"key", "image": the encoded bytes in base64, "pixels": sha256 of the uint8 pixels, "embedding": [...]}.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from distill import DistillError
from distill.images import ImageSpec, decode_batch
from distill.shards.rows import Rows

NUMBER = 4


@dataclass(frozen=True)
class GoldenRow:
    """image: encoded bytes; pixels: sha256 of uint8 [H, W, 3] in C order, 64 hex digits; embedding: as stored, [D]."""

    key: str
    image: bytes
    pixels: str
    embedding: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        return {"key": self.key, "image": base64.b64encode(self.image).decode(), "pixels": self.pixels, "embedding": list(self.embedding)}

    @classmethod
    def from_json(cls, value: Any) -> GoldenRow:
        """ValueError, KeyError or TypeError where it is none."""
        return cls(str(value["key"]), base64.b64decode(value["image"], validate=True), str(value["pixels"]), tuple(map(float, value["embedding"])))


def golden_rows(rows: Rows, images: list[bytes], spec: ImageSpec) -> tuple[GoldenRow, ...]:
    """The first rows of a set with their encoded images; one that does not decode, such as b"", makes no golden row."""
    pixels, bad = decode_batch(images, spec)
    answers = rows.embeddings.astype(np.float64)
    return tuple(
        GoldenRow(rows.keys[row], bytes(image), _hash(pixels[row]), tuple(answers[row].tolist())) for row, image in enumerate(images) if row not in bad
    )


def pixel_problems(rows: tuple[GoldenRow, ...], spec: ImageSpec) -> Iterator[str]:
    """A sentence for each golden image that decodes to other pixels now than when the set was made."""
    pixels, bad = decode_batch([row.image for row in rows], spec)
    for number, row in enumerate(rows):
        if number in bad or _hash(pixels[number]) != row.pixels:
            yield f"golden image {row.key!r} decodes to other pixels than the teacher saw: the decoder is another one than made this set"


def check_golden(where: object, rows: tuple[GoldenRow, ...], spec: ImageSpec) -> None:
    """DistillError where the decoder gives other pixels now. Costs a millisecond."""
    for problem in pixel_problems(rows, spec):
        raise DistillError(f"{where}: {problem}. Install the versions that the set names (distill inspect {where}), or embed it again.")


def worst_answer(rows: tuple[GoldenRow, ...], spec: ImageSpec, teacher: Callable[[np.ndarray], np.ndarray]) -> float:
    """The smallest cosine between a golden embedding and the teacher's answer now; 1.0 where there are no golden rows."""
    if not rows:
        return 1.0
    pixels, _ = decode_batch([row.image for row in rows], spec)
    again = np.asarray(teacher(pixels), np.float64)
    stored = np.array([row.embedding for row in rows], np.float64).reshape(again.shape)
    norms = np.linalg.norm(stored, axis=1) * np.linalg.norm(again, axis=1)
    return float(((stored * again).sum(axis=1) / np.maximum(norms, 1e-12)).min(initial=1.0))


def _hash(pixels: np.ndarray) -> str:
    return hashlib.sha256(pixels.tobytes()).hexdigest()
