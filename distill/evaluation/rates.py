"""Rates over a moving threshold: ROC, the area under it, the equal error rate, and TAR at a FAR. Plain NumPy.

A pair is called the same person when score >= threshold. FAR is the share of impostor pairs that are accepted, TAR that of genuine pairs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from distill.errors import DistillError
from distill.evaluation.folds import checked

ACCEPTED = 10  # accepted impostor pairs from which on a rate is reported: 1 of 20 is no FAR of 5 %
MODES = ("conservative", "nearest")


@dataclass(frozen=True)
class Roc:
    """Every operating point: accepting score >= thresholds[i] gives far[i] and tar[i].

    The first point is (inf, 0, 0), nothing accepted; thresholds fall, and both rates rise to 1.
    """

    far: np.ndarray  # float64 [K], in [0, 1]
    tar: np.ndarray
    thresholds: np.ndarray

    @property
    def auc(self) -> float:
        """The area under the curve: the chance that a genuine pair scores above an impostor pair, equal scores counting half.

        Scores .9 .8 .7 .6, same T F T F: .9 is above both impostors, .7 above one of two, so it is 3/4.
        """
        return float(np.trapezoid(self.tar, self.far))

    @property
    def eer(self) -> float:
        """The equal error rate: where the curve, with straight lines between its points, has FAR = 1 - TAR.

        Scores .9 .8 .7 .6, same T F T F: at .8 one of two impostors is accepted and one of two genuine pairs is not, so it is 1/2.
        """
        excess = self.far - (1 - self.tar)  # rises from -1 to 1
        after = int(np.argmax(excess >= 0))
        low, high = excess[after - 1], excess[after]
        return float(self.far[after - 1] + (self.far[after] - self.far[after - 1]) * low / (low - high))

    def corners(self) -> Roc:
        """Returns the curve without the points that lie between two others on a level or upright line: the same curve in fewer points."""
        between = np.zeros(len(self.far), bool)
        for rates in (self.far, self.tar):
            between[1:-1] |= (rates[1:-1] == rates[:-2]) & (rates[1:-1] == rates[2:])
        return Roc(self.far[~between], self.tar[~between], self.thresholds[~between])


def roc(scores: np.ndarray, same: np.ndarray) -> Roc:
    """Returns the operating points of all distinct scores. far: share of impostor pairs accepted, tar: of genuine pairs."""
    scores, same = checked(scores, same)
    genuine_pairs = int(np.count_nonzero(same))
    if not 0 < genuine_pairs < len(same):
        raise DistillError(f"{genuine_pairs} genuine and {len(same) - genuine_pairs} impostor pairs: rates need at least one of each.")
    order = np.argsort(-scores, kind="stable")
    ranked, genuine = scores[order], same[order]
    del order
    last = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)  # equal scores are accepted together or not at all
    far, tar, thresholds = np.zeros(len(last) + 1), np.zeros(len(last) + 1), np.full(len(last) + 1, np.inf)
    accepted = np.cumsum(genuine, dtype=np.int32)[last]
    np.divide(accepted, genuine_pairs, out=tar[1:])
    np.divide(last + 1 - accepted, len(same) - genuine_pairs, out=far[1:])
    thresholds[1:] = ranked[last]
    return Roc(far, tar, thresholds)


@dataclass(frozen=True)
class TarAtFar:
    """The share of genuine pairs accepted while at most (or about) the share `far` of impostor pairs is accepted.

    `reached` is the share of impostors really accepted: `accepted` of `impostors` pairs. With few accepted the figure is uncertain:
    a rate from k pairs has a relative error of about 1/sqrt(k).
    """

    far: float
    tar: float
    reached: float
    threshold: float
    accepted: int
    impostors: int

    def as_dict(self) -> dict[str, Any]:
        """Returns values for JSON; an infinite threshold (nothing is accepted) becomes None."""
        return {**self.__dict__, "threshold": self.threshold if np.isfinite(self.threshold) else None}


@dataclass(frozen=True)
class NoTar:
    """Stands for a TarAtFar where there are too few impostor pairs for the rate."""

    far: float
    impostors: int
    tar: None = None

    def as_dict(self) -> dict[str, Any]:
        """Returns values for JSON: the same keys without figures, and the reason."""
        why = f"{math.ceil(round(ACCEPTED / self.far, 6)):,} impostor pairs are needed, there are {self.impostors:,}"
        return {"far": self.far, "tar": None, "reached": None, "threshold": None, "accepted": None, "impostors": self.impostors, "left_out": why}


def tar_at_far(scores: np.ndarray, same: np.ndarray, far: float, mode: str = "conservative") -> TarAtFar:
    """Returns the TAR at a false accept rate: of the ROC's points the one with the largest FAR <= far ("conservative"), or with the FAR nearest
    to it ("nearest", as insightface's IJB script reads it; it may exceed the target). Of equal ones the largest TAR.

    Scores .9 .8 .7 .6, same T F T F, far .5: one of two impostors may pass, so .7 is the threshold and TAR is 1.
    """
    return tar_on(roc(scores, same), int(np.count_nonzero(~np.asarray(same, bool))), far, mode)


def tar_on(points: Roc, impostors: int, far: float, mode: str = "conservative") -> TarAtFar:
    """Returns the TAR at a false accept rate on a ROC that is there already; see `tar_at_far`."""
    if not 0 < far <= 1:
        raise DistillError(f"FAR {far}: expected a share above 0 and up to 1, such as 0.01.")
    if mode not in MODES:
        raise DistillError(f"TAR at FAR: mode {mode!r} is unknown. Expected conservative or nearest.")
    place = int(np.searchsorted(points.far, far, side="right")) - 1
    if mode == "nearest" and place + 1 < len(points.far) and points.far[place + 1] - far <= far - points.far[place]:
        place = int(np.searchsorted(points.far, points.far[place + 1], side="right")) - 1
    reached = float(points.far[place])
    return TarAtFar(far, float(points.tar[place]), reached, float(points.thresholds[place]), round(reached * impostors), impostors)


def tar_or_none(points: Roc, impostors: int, far: float, mode: str = "conservative") -> TarAtFar | NoTar:
    """Returns the TAR at a false accept rate, or NoTar where it would rest on fewer than ACCEPTED impostor pairs."""
    enough = impostors >= math.ceil(round(ACCEPTED / far, 6))  # 1e-6 is not exactly a millionth
    return tar_on(points, impostors, far, mode) if enough else NoTar(far, impostors)
