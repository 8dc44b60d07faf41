"""The golden rows of a set: its first images, the pixels and views they become, and the teacher's answers, kept in the index.

Whoever reads the set can prove with them that decoder and views still give the same pixels, and with the teacher at hand that its scale and
colour order are the same. In JSON: {"key", "image": the encoded bytes in base64, "pixels": sha256 of the uint8 pixels, "embedding": [...]},
and in a set with views also "views": sha256 of the pixels of views 1, 2, ... one after another, PROVED of them or more.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from distill.data.shards.rows import Rows, ShardMeta
from distill.errors import DistillError
from distill.images.codec import decode_batch
from distill.images.views import replay, software, view

NUMBER = 4
SAME = 0.999  # cosine from which on an answer is the stored one: float16, int8 and other processors move it by less than 1e-4
OTHER_PIXELS = (
    "Install the versions that the set names (distill inspect), or embed the list into another folder. "
    "If the index itself was damaged, remove it (_index.json; index.json in older sets), and the command that made the set writes it anew."
)
PROVED = 16  # views of each golden image, also in a set of fewer: enough for each change of a recipe to happen


@dataclass(frozen=True)
class GoldenRow:
    """image: encoded bytes; pixels: sha256 of uint8 [H, W, 3] in C order, 64 hex digits; embedding: as stored, [views * D]; views: "" in a
    set without."""

    key: str
    image: bytes
    pixels: str
    embedding: tuple[float, ...]
    views: str = ""

    def to_json(self) -> dict[str, Any]:
        row = {"key": self.key, "image": base64.b64encode(self.image).decode(), "pixels": self.pixels, "embedding": list(self.embedding)}
        return {**row, "views": self.views} if self.views else row

    @classmethod
    def from_json(cls, value: Any) -> GoldenRow:
        """ValueError, KeyError or TypeError where it is none."""
        image, embedding = base64.b64decode(value["image"], validate=True), tuple(map(float, value["embedding"]))
        return cls(str(value["key"]), image, str(value["pixels"]), embedding, str(value.get("views", "")))


def golden_rows(rows: Rows, images: list[bytes], meta: ShardMeta) -> tuple[GoldenRow, ...]:
    """The first rows of a set with their encoded images; one that does not decode, such as b"", makes no golden row."""
    pixels, bad = decode_batch(images, meta.image)
    answers = rows.embeddings.astype(np.float64)
    return tuple(
        GoldenRow(rows.keys[row], bytes(image), _hash(pixels[row]), tuple(answers[row].tolist()), _views_hash(pixels[row], rows.keys[row], meta))
        for row, image in enumerate(images)
        if row not in bad
    )


def pixel_problems(rows: tuple[GoldenRow, ...], meta: ShardMeta) -> Iterator[str]:
    """A sentence for each golden image that becomes other pixels or views now than when the set was made."""
    pixels, bad = decode_batch([row.image for row in rows], meta.image)
    for number, row in enumerate(rows):
        if number in bad or _hash(pixels[number]) != row.pixels:
            yield f"golden image {row.key!r} decodes to other pixels than the teacher saw: the decoder is another one than made this set"
        elif _views_hash(pixels[number], row.key, meta) != row.views:
            made, here = (", ".join(f"{name} {versions.get(name, 'unknown')}" for name in software()) for versions in (meta.software, software()))
            yield f"views of golden image {row.key!r} have other pixels than the teacher saw: made by {made}, and here is {here}"


def check_golden(where: object, rows: tuple[GoldenRow, ...], meta: ShardMeta) -> None:
    """DistillError where decoder or views give other pixels now. Costs a millisecond, with views some ten."""
    for problem in pixel_problems(rows, meta):
        raise DistillError(f"{where}: {problem}. {OTHER_PIXELS}")


def worst_answer(rows: tuple[GoldenRow, ...], meta: ShardMeta, teacher: Callable[[np.ndarray], np.ndarray]) -> float:
    """The smallest cosine between a golden embedding, of any view, and the teacher's answer now; -1.0 where an answer is not finite or has
    another length. There must be a row."""
    pixels, _ = decode_batch([row.image for row in rows], meta.image)
    keys = [row.key for row in rows]
    seen = (replay(pixels, meta.recipe, meta.view_seed, keys, number) for number in range(meta.views))
    # one by one: a set may be of a teacher that cannot answer more at once
    again = np.stack([np.concatenate([teacher(shown[row : row + 1]) for row in range(len(rows))]) for shown in seen], axis=1).astype(np.float64)
    stored = np.array([row.embedding for row in rows], np.float64).reshape(len(rows), meta.views, meta.dimension)
    return min(cosine(one, other) for one, other in zip(stored.reshape(-1, meta.dimension), again.reshape(-1, again.shape[-1]), strict=True))


def cosine(stored: np.ndarray, again: np.ndarray) -> float:
    """Of a stored embedding float64 [D] and the teacher's answer now; -1.0 where that is not finite or has another length."""
    if stored.shape != again.shape or not np.isfinite(again).all():
        return -1.0
    lengths = float(np.linalg.norm(stored)), float(np.linalg.norm(again))
    if not all(lengths):
        return float(lengths[0] == lengths[1])  # zeros are answered by zeros
    return float((stored / lengths[0]) @ (again / lengths[1]))


def _views_hash(pixels: np.ndarray, key: str, meta: ShardMeta) -> str:
    if meta.views == 1:
        return ""
    digest = hashlib.sha256()
    for number in range(1, max(meta.views, PROVED)):
        digest.update(view(pixels, meta.recipe, meta.view_seed, key, number).tobytes())
    return digest.hexdigest()


def _hash(pixels: np.ndarray) -> str:
    return hashlib.sha256(pixels.tobytes()).hexdigest()
