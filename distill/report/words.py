"""How pages say numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MINUS = "\u2212"


def duration(seconds: float) -> str:
    """Returns a time as 12 s, 3 min 20 s or 2 h 05 min.

    >>> duration(200)
    '3 min 20 s'
    """
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    return f"{seconds // 60} min {seconds % 60:02d} s" if seconds < 3600 else f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def signed(value: float, decimals: int = 2) -> str:
    """Returns a number with its sign, 0 without one: (-0.5) -> "−0.50", (0.001) -> "0.00"."""
    text = f"{abs(value):.{decimals}f}"
    return text if not float(text) else f"{MINUS if value < 0 else '+'}{text}"


def points(difference: float) -> str:
    """Returns a difference of two shares in points of a hundred: (-0.0312) -> "−3.12 points"."""
    return f"{signed(100 * difference)} points"


def rate(share: float) -> str:
    """Returns a rate such as a FAR: (0.001) -> "0.1 %"."""
    return f"{100 * share:.3g} %"


def times(ratio: float) -> str:
    """Returns a ratio: (10.24) -> "10.2 times", (123.4) -> "123 times"."""
    return f"{ratio:.1f} times" if ratio < 100 else f"{ratio:,.0f} times"


def size(count: float) -> str:
    """Returns bytes, with a space that is no place for a line to end: (167493) -> "0.17 MB", (25_100_000) -> "25.1 MB"."""
    return f"{count / 1e6:.2f}\u00a0MB" if count < 1e7 else f"{count / 1e6:,.1f}\u00a0MB"


def figure_name(name: str) -> str:
    """Returns what a figure of evaluation.json is called: ("tar@0.01") -> "TAR at FAR 1 %"."""
    kind, _, far = name.partition("@")
    words = {"auc": "AUC", "eer": "EER", "rank1": "rank 1", "published": "accuracy as published"}
    return f"TAR at FAR {rate(float(far))}" if far else words.get(kind, kind)


def figure_value(name: str, value: float) -> str:
    """Returns a figure as its own kind is shown: AUC as a number, others in percent."""
    return f"{value:.4f}" if name == "auc" else f"{value:.2%}"


def figure_range(name: str, low: float | None, high: float | None) -> str:
    """Returns an interval, "" where there is none."""
    return "" if low is None or high is None else f"{figure_value(name, low)} to {figure_value(name, high)}"


def figure_cell(one: Mapping[str, Any], name: str) -> str:
    """Returns a figure with its interval on a line below it."""
    kind, _, far = name.partition("@")
    value = (one.get("tar", {}).get(far) or {}).get("tar") if far else one.get(kind)
    if value is None:
        return "-"
    within = ((one.get("intervals") or {}).get("figures") or {}).get(name) or {}
    between = figure_range(name, within.get("low"), within.get("high"))
    return f"{figure_value(name, value)}{between and chr(10) + between}"


def less_teacher(one: Mapping[str, Any], name: str) -> str:
    """Returns the difference of a figure to the teacher's in points, with its interval on a line below it; "-" where there is none."""
    found = (one.get("minus_teacher") or {}).get(name) or {}
    if found.get("value") is None:
        return "-"
    between = "" if found.get("low") is None or found.get("high") is None else f"\n{signed(100 * found['low'])} to {signed(100 * found['high'])}"
    return f"{signed(100 * found['value'])}{between}"
