"""What evaluate returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any, ClassVar

from distill.results.agreement import agreement_notes, asymmetric_notes, leak_notes
from distill.results.models_table import as_csv, as_markdown, cost_notes, tables, together
from distill.results.pairs import brief_notes, group_notes, interval_notes, pair_cells, pair_notes, percent, probe_notes, sets_of
from distill.results.result import Result, text_table
from distill.runtime.lines import html_table, many


@dataclass(frozen=True, repr=False)
class Judged(Result):
    """The evaluation of one model: the figures of evaluation.json as properties; None where they were not requested or not possible."""

    SHOWN: ClassVar[tuple[str, ...]] = ("path", "accuracy", "std", "tar", "threshold", "agreement")
    path: str
    figures: Mapping[str, Any]

    @property
    def accuracy(self) -> float | None:
        """The share of pairs decided correctly, 0 to 1, the mean over folds; None without pairs."""
        return self._pairs("accuracy")

    @property
    def std(self) -> float | None:
        """The standard deviation of the accuracy over folds."""
        return self._pairs("std")

    @property
    def threshold(self) -> float | None:
        """The cosine from which on a pair counts as the same person, for the best accuracy; a mean over folds."""
        return self._pairs("threshold")

    @property
    def tar(self) -> dict[float, float | None]:
        """True accept rate by false accept rate, {0.01: ..., 0.001: ...}; None where there are too few pairs."""
        return {float(far): point["tar"] for far, point in (self._pairs("tar") or {}).items()}

    @property
    def thresholds(self) -> dict[float, float | None]:
        """The cosine threshold of each false accept rate; None where it has no TAR."""
        return {float(far): point["threshold"] for far, point in (self._pairs("tar") or {}).items()}

    @property
    def pair_sets(self) -> tuple[Mapping[str, Any], ...]:
        """The figures on each set of pairs, in the order given, then those on templates; those of the first set of pairs are also the properties above."""
        return tuple(sets_of(self.figures))

    @property
    def published_accuracy(self) -> float | None:
        """The accuracy by the protocol of published LFW figures, on a grid of 400 distances."""
        return (self._pairs("published") or {}).get("accuracy")

    @property
    def auc(self) -> float | None:
        """The area under the ROC."""
        return self._pairs("auc")

    @property
    def eer(self) -> float | None:
        """The equal error rate."""
        return self._pairs("eer")

    @property
    def intervals(self) -> dict[str, tuple[float | None, float | None]]:
        """The 95 % interval of each figure on the first set of pairs: {"accuracy": (low, high), ...}; {} where none were taken."""
        return {name: (one["low"], one["high"]) for name, one in ((self._pairs("intervals") or {}).get("figures") or {}).items()}

    @property
    def minus_teacher(self) -> dict[str, tuple[float, float | None, float | None]]:
        """The difference of each figure to the teacher's on the same pairs, with its 95 % interval: {"accuracy": (difference, low, high), ...}."""
        return {name: (one["value"], one["low"], one["high"]) for name, one in (self._pairs("minus_teacher") or {}).items()}

    @property
    def minus_first(self) -> dict[str, tuple[float, float | None, float | None]]:
        """The difference of each figure to that of the first of several models, as `minus_teacher`; {} where a teacher was given."""
        return {name: (one["value"], one["low"], one["high"]) for name, one in (self._pairs("minus_first") or {}).items()}

    @property
    def rank1(self) -> float | None:
        """The share of photos that are nearest to their own person; None where no identification was requested."""
        return (self.figures.get("identification") or {}).get("rank1")

    @property
    def probe(self) -> float | None:
        """The share of held-out images whose identity a linear classifier on the embeddings names; None where none was requested."""
        return (self.figures.get("probe") or {}).get("accuracy")

    @property
    def agreement(self) -> float | None:
        """The mean cosine to the stored embeddings of a set; None without one."""
        return (self.figures.get("agreement") or {}).get("mean")

    @property
    def left_out(self) -> str:
        """Why there is no agreement although it was requested, or ""."""
        return self.figures.get("agreement_left_out", "")

    def as_dict(self) -> dict[str, Any]:
        return dict(self.figures)

    def in_words(self) -> str:
        return EvaluateResult({"model": self}).in_words()

    def _pairs(self, name: str) -> Any:
        return (self.figures.get("pairs") or {}).get(name)


@dataclass(frozen=True, repr=False)
class EvaluateResult(Result):
    """Models on the same pairs and rows. judged: {name: ...}; one model is "model", and there is "teacher" where one was given."""

    judged: Mapping[str, Judged]

    @property
    def model(self) -> Judged:
        """The model that was evaluated; of several the first."""
        return next(iter(self.judged.values()))

    @property
    def teacher(self) -> Judged | None:
        """Its teacher, None where none was given."""
        return self.judged.get("teacher")

    def as_dict(self) -> dict[str, Any]:
        return {who: one.as_dict() for who, one in self.judged.items()}

    def as_csv(self) -> str:
        """Returns a line for each model and set of pairs with all figures, as `--format csv` prints them; empty where one is not known."""
        return as_csv(self.as_dict())

    def as_markdown(self) -> str:
        """Returns the table in Markdown, as `--format markdown` prints it."""
        return as_markdown(self.as_dict())

    def in_words(self) -> str:
        return "\n".join([*(text_table(*one) for one in self._tables()), *self._notes()])

    def __repr__(self) -> str:
        return f"EvaluateResult({', '.join(f'{who}={one!r}' for who, one in self.judged.items())})"

    def _repr_html_(self) -> str:
        return f"{''.join(html_table(*one) for one in self._tables())}<small>{'<br>'.join(map(escape, self._notes()))}</small>"

    @property
    def _side_by_side(self) -> bool:
        """Whether models stand in the table of several: one with its teacher does not, unless it is said what they cost."""
        return "model" not in self.judged or any("cost" in one.figures for one in self.judged.values())

    def _tables(self) -> list[tuple[list[str], list[list[str]]]]:
        return tables(self.as_dict()) if self._side_by_side else [self._table()]

    def _notes(self) -> list[str]:
        """Returns what is said below the table; of several models what they have in common is said once, and what the table has is left out."""
        if "model" in self.judged:
            notes = [note for who, one in self.judged.items() for note in _notes(who, one)]
        else:
            notes = together({who: [*_on_pairs(who, one, brief_notes), *_others(who, one)] for who, one in self.judged.items()})
        return [*notes, *cost_notes(self.as_dict())] if self._side_by_side else notes

    def _table(self) -> tuple[list[str], list[list[str]]]:
        """Returns a head, and a row for each model and set of pairs; the agreement stands in the first row of a model."""
        sets = [(who, number, figures) for who, one in self.judged.items() for number, figures in enumerate(one.pair_sets or (None,))]
        fars = list(dict.fromkeys(far for _, _, figures in sets if figures for far in figures["tar"]))
        head, rows = [""], [[_label(who, self.judged[who], figures)] for who, _, figures in sets]
        if any(figures for _, _, figures in sets):
            head += ["accuracy", *(f"TAR at FAR {percent(float(far))}" for far in fars), "pairs"]
            for row, (_, _, figures) in zip(rows, sets, strict=True):
                row += pair_cells(figures, fars)
        if any(one.rank1 is not None for one in self.judged.values()):
            head += ["rank 1"]
            for row, (who, number, _) in zip(rows, sets, strict=True):
                row.append(f"{rank:.2%}" if number == 0 and (rank := self.judged[who].rank1) is not None else "-")
        if any(one.probe is not None for one in self.judged.values()):
            head += ["probe"]
            for row, (who, number, _) in zip(rows, sets, strict=True):
                row.append(f"{share:.2%}" if number == 0 and (share := self.judged[who].probe) is not None else "-")
        if any(one.agreement is not None for one in self.judged.values()):
            head += ["agreement, mean", "5 % below", "rows"]
            for row, (who, number, _) in zip(rows, sets, strict=True):
                found = self.judged[who].figures.get("agreement") if number == 0 else None
                row += [f"{found['mean']:.4f}", f"{found['quantiles']['5']:.4f}", f"{found['rows']:,}"] if found else ["-"] * 3
        return head, rows


def _label(who: str, one: Judged, figures: Mapping[str, Any] | None) -> str:
    """Returns what a row is called: the model, and where it has several sets of pairs the last part of the set's path."""
    return who if figures is None or len(one.pair_sets) < 2 else f"{who}, {figures['folder'].rstrip('/').rpartition('/')[2]}"


def _notes(who: str, one: Judged) -> list[str]:
    """Returns notes, one line each: the data behind each figure, which figures are missing and why, and the thresholds."""
    return [f"{label}: {note}" for label, note in [*_on_pairs(who, one, pair_notes), *_others(who, one)]]


def _on_pairs(who: str, one: Judged, notes: Callable[[Mapping[str, Any]], list[str]]) -> list[tuple[str, str]]:
    return [(_label(who, one, figures), note) for figures in one.pair_sets for note in notes(figures)]


def _others(who: str, one: Judged) -> list[tuple[str, str]]:
    return [(who, note) for note in _other_notes(one)]


def _other_notes(one: Judged) -> list[str]:
    notes = []
    if found := one.figures.get("identification"):
        notes.append(f"rank 1: of {found['probes']:,} photos, among {found['gallery']:,} people with one photo each")
        notes += interval_notes(found) + group_notes(found)
    if found := one.figures.get("probe"):
        notes += probe_notes(found)
    if found := one.figures.get("agreement"):
        seen = {True: ", which it was trained on", False: "", None: "; whether it was trained on them is not known"}[found["trained_on"]]
        behind = ", behind the projection of its run" if found.get("projected") else ""
        notes.append(f"agreement: the cosine to the stored embeddings over {many(found['rows'], 'rows')} ({found['part']}{seen}){behind}")
        notes += agreement_notes(found)
    if one.left_out:
        notes.append(f"no agreement: {one.left_out}")
    return notes + asymmetric_notes(one.figures) + leak_notes(one.figures.get("leaks"))
