"""The text of progress: pure functions of figures and of the available width. `display.py` decides when and where it is shown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

BAR, LEAST_BAR = 30, 8  # length of a bar where there is room, and the least, below which it is left out
FANCY, PLAIN = ("━", "─", "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"), ("#", "-", "|/-\\")  # done, to do, the spinner; PLAIN for terminals without Unicode


_COUNTED = "name|file|class folder|folder|link|record|line|row|chunk|image|shard|picture|view|problem|pair|reject|epoch|step|stage|number|parameter|layer|weight|update"
_ONE = re.compile(rf"\b(?:(class|batch)es|(identit)ies|({_COUNTED})s)\b")


def many(number: int, words: str) -> str:
    """Returns a number with its noun, which is given in the plural.

    >>> many(1, "chunks"), many(1200, "rows"), many(1, "files that are no images"), many(1, "identities")
    ('1 chunk', '1,200 rows', '1 file that is no image', '1 identity')
    """
    if number == 1:
        words = words.replace(" are no images", " is no image").replace(" that end ", " that ends ").replace("images carry", "images carries")
        words = _ONE.sub(lambda found: found[1] or (f"{found[2]}y" if found[2] else found[3]), words, count=1)
    return f"{number:,} {words}"


def duration(seconds: float) -> str:
    """Returns a time as on a clock.

    >>> [duration(each) for each in (7.4, 754, 5025, 183_900)]
    ['0:07', '12:34', '1:23:45', '2d 03:05']
    """
    whole = max(0, round(seconds))
    days, hours, minutes = whole // 86_400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days}d {hours:02}:{minutes:02}"
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def speed(rate: float | None, unit: str) -> str:
    """Returns a rate: (4812.3, "images") -> "4,812 images/s"; below 10 with one decimal; "" where it is unknown."""
    if rate is None:
        return ""
    return f"{rate:,.{0 if rate >= 10 else 1}f}{f' {unit}' if unit else ''}/s"


@dataclass(frozen=True)
class Reach:
    """How far something is. of: 0 while unknown; rate: a second, None during the warm-up; left, elapsed: seconds; figures: text beside it."""

    label: str
    done: int
    of: int
    elapsed: float
    rate: float | None = None
    left: float | None = None
    unit: str = ""
    figures: str = ""

    @property
    def count(self) -> str:
        return f"{self.done:,}/{self.of:,}" if self.of else f"{self.done:,}" if self.done else ""

    @property
    def time_left(self) -> str:
        return "" if self.left is None else f"{duration(self.left)} left"


def bar_line(reach: Reach, width: int, turn: int = 0, letters: tuple[str, str, str] = FANCY) -> str:
    """Returns one line of at most `width` letters. Where that is narrow, the bar is left out first, then the elapsed time, the figures and the rate."""
    rate, elapsed = speed(reach.rate, reach.unit), duration(reach.elapsed)
    if not reach.of:
        return clipped(f"{letters[2][turn % len(letters[2])]} {reach.label}  {elapsed}", width)
    parts = [reach.count, rate, reach.figures, reach.time_left, elapsed]
    for gone in (None, 4, 2, 1):
        if gone is not None:
            parts[gone] = ""
        rest = "  ".join(filter(None, parts))
        room = width - len(reach.label) - len(rest) - 4
        if gone is None and room >= LEAST_BAR:
            return f"{reach.label}  {_bar(reach, min(BAR, room), letters)}  {rest}"
        if room >= -2:
            break
    return clipped(f"{reach.label}  {rest}", width)


def _bar(reach: Reach, length: int, letters: tuple[str, str, str]) -> str:
    full = min(length, length * reach.done // reach.of)
    return letters[0] * full + letters[1] * (length - full)


def phase_line(text: str, elapsed: float, width: int, turn: int = 0, letters: tuple[str, str, str] = FANCY) -> str:
    """Returns the current phase with a spinner and, from the third second on, its duration."""
    return clipped(f"{letters[2][turn % len(letters[2])]} {text}" + (f"  {duration(elapsed)}" if elapsed >= 3 else ""), width)


def plain_line(reach: Reach) -> str:
    """Returns the line of a log.

    >>> plain_line(Reach("embedding", 12_000, 5_822_653, 30, 400.0, 14526.6, "images"))
    'embedding: 12,000/5,822,653, 400 images/s, 4:02:07 left, 0:30 so far'
    """
    parts = [reach.count, reach.figures, speed(reach.rate, reach.unit), reach.time_left, f"{duration(reach.elapsed)} so far"]
    return f"{reach.label}: {', '.join(filter(None, parts))}"


def clipped(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(0, width)]


def html_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a table as HTML, every text escaped."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(f"<tr><th>{escape(row[0])}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in row[1:])}</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
