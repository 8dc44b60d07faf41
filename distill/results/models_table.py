"""The models of one evaluation side by side: a row for each model and set of pairs, for a terminal, as Markdown and as CSV.

Cells are made of the figures of evaluation.json alone.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distill.results.pairs import percent, sets_of

WIDEST = 120  # columns of a terminal; what is wider is written as two tables
NONE = "-"
Figures = Mapping[str, Any]
Group = tuple[list[str], list[list[str]]]  # heads, and the cells of each row


@dataclass(frozen=True)
class Row:
    """A model on a set of pairs. pairs: its figures there, {} without pairs; first: whether it is the model's first row."""

    who: str
    model: Figures
    pairs: Figures
    first: bool

    @property
    def label(self) -> str:
        """The model, and where it has several sets of pairs the last part of the set's path."""
        return f"{self.who}, {self.pairs['folder'].rstrip('/').rpartition('/')[2]}" if len(sets_of(self.model)) > 1 else self.who

    @property
    def less(self) -> Figures:
        """The differences to the reference, {} where there are none."""
        return self.pairs.get("minus_teacher") or self.pairs.get("minus_first") or {}


def rows_of(models: Mapping[str, Figures]) -> list[Row]:
    """Returns the rows of {name: figures}."""
    return [Row(who, model, pairs, number == 0) for who, model in models.items() for number, pairs in enumerate(sets_of(model) or [{}])]


def tables(models: Mapping[str, Figures], widest: int = WIDEST) -> list[Group]:
    """Returns one table with the names of rows in its first column; several, with the same first column, where one would be wider than `widest`."""
    rows = rows_of(models)
    found, label = list[Group](), [row.label for row in rows]
    for head, cells in _groups(rows):
        if found and _width([*found[-1][0], *head], [[*left, *right] for left, right in zip(found[-1][1], cells, strict=True)]) <= widest:
            found[-1] = [*found[-1][0], *head], [[*left, *right] for left, right in zip(found[-1][1], cells, strict=True)]
        else:
            found.append((["", *head], [[name, *each] for name, each in zip(label, cells, strict=True)]))
    return found or [([""], [[name] for name in label])]


def _width(head: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    return sum(max(map(len, column)) for column in zip(head, *rows, strict=True)) + 2 * (len(head) - 1)


def _groups(rows: Sequence[Row]) -> Iterator[Group]:
    """Yields columns that stay together; those of which no model has anything are left out."""
    fars = list(dict.fromkeys(far for row in rows for far, point in (row.pairs.get("tar") or {}).items() if point["tar"] is not None))
    if any(row.pairs for row in rows):
        heads = ["accuracy %", *(f"TAR at FAR {percent(float(far))}" for far in fars)]
        cells = [[_accuracy(row.pairs), *(_tar(row.pairs, far) for far in fars)] for row in rows]
        if any(row.less for row in rows):
            heads.append("less first" if any("minus_first" in row.pairs for row in rows) else "less teacher")
            cells = [[*each, _less(row.less.get("accuracy"))] for each, row in zip(cells, rows, strict=True)]
        yield heads, cells
    if any("cost" in row.model for row in rows):
        yield list(COSTS), [[show(row.model["cost"]) if row.first and "cost" in row.model else NONE for show in COSTS.values()] for row in rows]
    for name, parts in OTHERS.items():
        there = [(row.model.get(name) or {}) if row.first else {} for row in rows]
        if any(there):
            yield list(parts), [[show(one) if one else NONE for show in parts.values()] for one in there]


def _accuracy(pairs: Figures) -> str:
    """({"accuracy": .984, ...}) -> "98.40 (98.1-98.7)", with its 95 % interval."""
    return f"{100 * pairs['accuracy']:.2f}{_interval(pairs, 'accuracy')}" if pairs else NONE


def _tar(pairs: Figures, far: str) -> str:
    value = (pairs.get("tar") or {}).get(far, {}).get("tar")
    return NONE if value is None else f"{100 * value:.1f}{_interval(pairs, f'tar@{float(far):g}')}"


def _interval(pairs: Figures, name: str) -> str:
    one = ((pairs.get("intervals") or {}).get("figures") or {}).get(name)
    return "" if one is None or one["low"] is None else f" ({100 * one['low']:.1f}-{100 * one['high']:.1f})"


def _less(one: Figures | None) -> str:
    """Returns a difference of accuracy in points, and whether its interval leaves out 0."""
    if one is None:
        return NONE
    return f"{100 * one['value']:+.2f} {verdict(one)}".rstrip()


def verdict(less: Figures) -> str:
    """Returns "lower" or "higher" where the interval of a difference leaves out 0, "open" where 0 is inside it, "" where it has none."""
    if less["low"] is None:
        return ""
    return "lower" if less["high"] < 0 else "higher" if less["low"] > 0 else "open"


def _three(value: float | None) -> str:
    """(1.1614) -> "1.16", (43.62) -> "43.6", (7716.2) -> "7,716": three digits, or all before the point."""
    if value is None:
        return NONE
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:,.0f}"


def _count(value: int | None) -> str:
    """(25492) -> "25.5 k"."""
    if value is None:
        return NONE
    unit, size = next(((unit, size) for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)) if value >= size), ("", 1.0))
    return f"{_three(value / size)} {unit}" if unit else str(value)


def _million(value: float | None) -> float | None:
    return None if value is None else value / 1e6


def _ms(cost: Figures) -> str:
    one = (cost.get("latency") or {}).get("threads", {}).get("1")
    return f"{_three(one['1'])} / {_three(one['32'])}" if one else NONE


def _rate(cost: Figures) -> str:
    rate = (cost.get("latency") or {}).get("images_per_second")
    return NONE if rate is None else f"{rate:,.0f}"


# {head: cell} of what costs, and of other figures by their key in evaluation.json
COSTS: dict[str, Callable[[Figures], str]] = {
    "MB": lambda cost: _three(_million(cost.get("bytes"))),
    "params": lambda cost: _count(cost.get("parameters")),
    "MFLOPs": lambda cost: _three(_million(cost.get("flops"))),
    "ms 1 / 32": _ms,
    "images/s": _rate,
}
OTHERS: dict[str, dict[str, Callable[[Figures], str]]] = {
    "identification": {"rank 1": lambda one: f"{one['rank1']:.2%}"},
    "probe": {"probe": lambda one: f"{one['accuracy']:.2%}"},
    "agreement": {"agreement": lambda one: f"{one['mean']:.4f}", "5 % below": lambda one: f"{one['quantiles']['5']:.4f}"},
}


def together(notes: Mapping[str, Sequence[tuple[str, str]]]) -> list[str]:
    """Returns the notes (label, text) of each model as lines, those of the same text in one: of all models without a label."""
    labels = dict[str, list[str]]()
    for label, text in (note for each in notes.values() for note in each):
        labels.setdefault(text, []).append(label)
    return [text if 1 < len(notes) <= len(found) else f"{', '.join(found)}: {text}" for text, found in labels.items()]


def cost_notes(models: Mapping[str, Figures]) -> list[str]:
    """Returns what the differences and costs of the table mean, and which costs are not known and why."""
    rows, notes = rows_of(models), list[str]()
    if reference := next((name for name in ("teacher", "first") if any(f"minus_{name}" in row.pairs for row in rows)), ""):
        named = next(iter(models)) if reference == "first" else reference
        notes.append(f"less {reference}: accuracy less that of {named}, in points; open: 0 is inside its 95 % interval, so they may be equal")
    costs = {who: model["cost"] for who, model in models.items() if "cost" in model}
    if machines := [cost["latency"]["machine"].split(", ") for cost in costs.values() if cost.get("latency")]:
        machine = ", ".join(dict.fromkeys(part for parts in machines for part in parts))
        notes.append(f"ms: for 1 and 32 images on one thread; images/s: 32 at a time on all threads; {machine}")
    missing = {who: [(who, f"no {name}: {reason}") for name, reason in cost.get("left_out", {}).items()] for who, cost in costs.items()}
    return notes + together(missing)


def as_markdown(models: Mapping[str, Figures]) -> str:
    """Returns one table in Markdown, however wide."""
    (head, rows), *_ = tables(models, widest=1 << 30)
    lines = [["model", *head[1:]], ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def as_csv(models: Mapping[str, Figures]) -> str:
    """Returns all figures of the table and some more as CSV, with all digits; a cell is empty where a figure is not known."""
    rows = [dict(_plain(row)) for row in rows_of(models)]
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _plain(row: Row) -> Iterator[tuple[str, Any]]:
    """Yields (column, value) of a row."""
    yield from (("model", row.who), ("path", row.model.get("path", "")), ("pairs", row.pairs.get("folder", "")))
    figures = {name: row.pairs.get(name) for name in ("accuracy", "auc", "eer")}
    figures["published"] = (row.pairs.get("published") or {}).get("accuracy")
    figures |= {f"tar@{float(far):g}": point["tar"] for far, point in (row.pairs.get("tars") or {}).get("conservative", {}).items()}
    yield from _with_interval(figures, (row.pairs.get("intervals") or {}).get("figures") or {})
    for name, less in row.less.items():
        yield from ((f"less_{name}", less["value"]), (f"less_{name}_low", less["low"]), (f"less_{name}_high", less["high"]))
    cost = row.model.get("cost") or {}
    yield from (("rank1", _of(row, "identification", "rank1")), ("probe", _of(row, "probe", "accuracy")), ("agreement", _of(row, "agreement", "mean")))
    yield from ((name, cost.get(name)) for name in ("bytes", "parameters", "flops"))
    latency = cost.get("latency") or {}
    for threads, batches in latency.get("threads", {}).items():
        yield from ((f"ms_threads_{threads}_batch_{batch}", ms) for batch, ms in batches.items())
    yield from (("images_per_second", latency.get("images_per_second")), ("machine", latency.get("machine")))


def _of(row: Row, part: str, name: str) -> Any:
    return (row.model.get(part) or {}).get(name) if row.first else None


def _with_interval(values: Mapping[str, Any], again: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        one = again.get(name) or {}
        yield from ((name, value), (f"{name}_low", one.get("low")), (f"{name}_high", one.get("high")))
