"""What a run is given that nobody asked for by name: batch, epochs, held-out share and student, as pure functions of the facts of a set."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from distill.config.catalog import METHODS, example
from distill.errors import DistillError

EPOCH_STEPS, BATCHES = 16, (128, 64, 32, 16)  # the largest batch of which an epoch has so many steps
IDENTITIES, ROWS = 20, 200  # fewer than these, and there are too few to hold some out
LARGE, LARGE_ROWS = 96, 50_000  # from this side in pixels and number of rows on, a large student is worth its time
STEPS = 2000  # in all, that a small set is trained for; benchmarks of drawn faces chose it
PASSES = 8  # epochs that a large set is trained for at least
NOISE_STEPS = 100  # of an epoch, where rows are drawn
AUGMENTED = (
    20_000  # rows; with fewer, pictures that change from epoch to epoch teach more (docs/views.md: 500 pictures 92.9 % for 83.7 %, 4,000 96.5 % for 96.0 %)
)


@dataclass(frozen=True)
class Facts:
    """What of a set decides how it is learned from.

    Attributes:
        rows: of the whole set; 0 for noise.
        size: height and width of the images.
        dimension: of the teacher's embeddings, None without a teacher, or where nobody has asked it yet.
        classes: names of the identities; empty where not every row has a label.
        views: of each row of a set.
    """

    rows: int
    size: tuple[int, int]
    dimension: int | None = None
    classes: Sequence[str] = field(default=())
    views: int = 1


@dataclass(frozen=True)
class Wishes:
    """What was asked for beside the method. None: as it fits the set."""

    student: str | None = None
    embedding: int | None = None
    epochs: int | None = None
    steps: int | None = None
    batch: int | None = None
    seed: int | None = None


def values_of(method: str, facts: Facts, wishes: Wishes, places: dict[str, Any]) -> dict[str, Any]:
    """Returns a run file as nested values: the example of the method, with what fits these facts and what was wished for.

    Args:
        places: keys of [data] that say where rows lie, and "teacher", which goes to the stages of noise.
    """
    from distill.images.views import MAX_SIDE

    values = tomllib.loads(example(method))
    data, student, stages = values["data"], values["student"], values["stage"]
    holdout, share = choose_holdout(method, facts)
    rows = facts.rows - round(share * facts.rows)
    batch = wishes.batch or choose_batch(rows)
    steps = min(NOISE_STEPS, wishes.steps or NOISE_STEPS) if METHODS[method].source == "noise" else max(1, math.ceil(rows / batch))
    epochs = choose_epochs(steps, [stage["epochs"] for stage in stages], wishes)
    for stage, count in zip(stages, epochs, strict=True):
        stage["epochs"] = count
        if stage["source"] == "noise":
            stage |= {"steps": steps, "teacher": places["teacher"]}
            stage |= {"reading": places["reading"]} if places.get("reading") else {}
    for key in ("shards", "images", "size", "holdout"):
        data.pop(key, None)
    data |= {key: value for key, value in places.items() if key in ("shards", "images", "size")}
    data |= {"batch": batch} | ({"holdout": holdout} if holdout else {})
    if 0 < facts.rows < AUGMENTED and facts.views == 1 and max(facts.size) <= MAX_SIDE:
        data["augment"] = "face"
    student |= {"backbone": wishes.student or choose_student(facts), "embedding": wishes.embedding or facts.dimension or student["embedding"]}
    if student["backbone"] != "small_conv":
        student.pop("widths", None)
    if wishes.seed is not None:
        values["seed"] = wishes.seed
    return values


def choose_batch(rows: int) -> int:
    """Returns the largest batch of which an epoch has 16 steps or more: more steps teach a small set more than larger batches.

    >>> [choose_batch(rows) for rows in (100, 540, 1024, 2048, 10**6)]
    [16, 32, 64, 128, 128]
    """
    return next((batch for batch in BATCHES if rows >= EPOCH_STEPS * batch), BATCHES[-1]) if rows else BATCHES[0]


def choose_epochs(steps: int, shares: Sequence[int], wishes: Wishes) -> list[int]:
    """Returns the epochs of each stage: as many as wished for, or 2,000 steps in all and 8 epochs at least, divided among stages by their shares.

    Args:
        steps: of one epoch.

    >>> choose_epochs(17, [4, 4], Wishes())
    [59, 59]
    """
    usual = max(PASSES, math.ceil(STEPS / steps))
    epochs = wishes.epochs or (math.ceil(wishes.steps / steps) if wishes.steps else usual)
    if wishes.epochs and epochs < len(shares):
        raise DistillError(f"--epochs {epochs}: this method has {len(shares)} stages, and each takes an epoch at least. Use --epochs {len(shares)} or more.")
    parts = [max(1, round(epochs * share / sum(shares))) for share in shares[:-1]]
    return [*parts, max(1, epochs - sum(parts))]


def choose_holdout(method: str, facts: Facts) -> tuple[dict[str, Any] | None, float]:
    """Returns the holdout of [data], None where the set is too small for one, and the share of the rows that it takes, about.

    By identity where there are enough of them and something can be said of people that were never trained on; else by key.
    """
    from distill.data.sources import held_out

    if METHODS[method].source != "images" and len(facts.classes) >= IDENTITIES:
        for fraction in (0.1, 0.2):
            held = sum(held_out(name, fraction) for name in facts.classes)
            if 1 <= held <= len(facts.classes) // 2:
                return {"by": "identity", "fraction": fraction}, held / len(facts.classes)
    if facts.rows < ROWS:
        return None, 0.0
    fraction = 0.1 if facts.rows < 10 * ROWS else 0.05
    return {"by": "key", "fraction": fraction}, fraction


def choose_student(facts: Facts) -> str:
    """Returns the backbone: mobilefacenet for many images of 96x96 or more, small_conv for all others.

    On two cores mobilefacenet trains on some tens of 112x112 images a second, small_conv on some hundreds.
    """
    return "mobilefacenet" if min(facts.size) >= LARGE and facts.rows >= LARGE_ROWS else "small_conv"
