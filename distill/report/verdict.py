"""What an evaluation says about replacing the teacher, in words that go no further than its figures.

A loss is one where the 95 % interval of the difference to the teacher on the same pairs lies below 0. Where it has 0 in it no loss is shown, and how
much of one is not ruled out stands beside it. There is no verdict on pairs of people that the student was trained on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distill.report.run_files import Figures, RunFiles, set_name, sets_of
from distill.report.words import figure_name, points, signed, times
from distill.runtime.lines import many

FEW = 150  # identities under which an interval may be somewhat too narrow: where people differ much, 100 hold the true difference in 92 to 96 % of cases
MOST_LEAKED = 0.01  # share of the images of an evaluation that may be rows of the set; with more, figures may be a point too good
NO_REPLACEMENT = 0.1  # loss of a figure with which nobody takes the student for its teacher
OPEN, LOSES, EQUAL = "open", "loses", "equal"  # kinds of verdicts, which have a colour


@dataclass(frozen=True)
class Difference:
    """What a figure differs by from the teacher's on the same pairs, with its 95 % interval."""

    figure: str
    value: float
    low: float
    high: float

    @property
    def lost(self) -> bool:
        return self.high < 0

    def in_words(self) -> str:
        """("accuracy", -.031, -.052, -.011) -> "3.10 points of accuracy less than the teacher (95 % interval -5.20 to -1.10, all below 0: a loss)"."""
        between = f"95 % interval {signed(100 * self.low)} to {signed(100 * self.high)}, {self._meaning()}"
        name = figure_name(self.figure)
        if not round(self.value, 6):
            return f"{name} as the teacher ({between})"
        return f"{points(abs(self.value)).lstrip('+')} of {name} {'less' if self.value < 0 else 'more'} than the teacher ({between})"

    def _meaning(self) -> str:
        if self.lost:
            return "all below 0: a loss"
        return "all above 0: a gain" if self.low > 0 else "with 0 in it: chance can explain it"


@dataclass(frozen=True)
class Verdict:
    """kind: OPEN, LOSES or EQUAL; headline: one sentence; lines: what stands behind it."""

    kind: str
    headline: str
    lines: tuple[str, ...]


def differences(figures: Figures) -> list[Difference]:
    """Returns those of accuracy and of the TAR at the lowest FAR that has an interval; [] where no intervals were taken."""
    found = {name: one for name, one in (figures.get("minus_teacher") or {}).items() if one.get("low") is not None and one.get("high") is not None}
    rates = sorted((name for name in found if name.startswith("tar@")), key=lambda name: float(name.partition("@")[2]))
    names = [*(["accuracy"] if "accuracy" in found else []), *rates[:1]]
    return [Difference(name, found[name]["value"], found[name]["low"], found[name]["high"]) for name in names]


def judge(run: RunFiles) -> Verdict:
    """Returns the verdict on the student of a run."""
    sets = sets_of(run.student)
    notes = [*_sizes(run), *_notes(run, sets)]
    if not sets:
        agreed = run.student.get("agreement") or {}
        told = f" Its mean cosine to the teacher's embeddings is {agreed['mean']:.4f} ({agreed['part']}), which is no figure on people." if agreed else ""
        return Verdict(OPEN, "Not judged on pairs yet: what this student is worth is not known.", (f"No pairs were evaluated.{told}", *notes))
    if leaked := _leaked(run):
        return Verdict(
            OPEN, "No verdict: these pairs show pictures of the training set, and of a student that learned from them figures are too good.", (leaked, *notes)
        )
    clean = [one for one in sets if not one.get("trained_identities")]
    seen = [_seen(one) for one in sets if one.get("trained_identities")]
    if not clean:
        return Verdict(OPEN, "No verdict: the student was trained on people of these pairs, so its figures are too good.", (*seen, *notes))
    if not run.teacher:
        own = f"{clean[0]['accuracy']:.1%} of the pairs of {set_name(clean[0])} are judged right"
        return Verdict(OPEN, f"{own}; what is lost against the teacher is not known, because no teacher was evaluated beside it.", (*seen, *notes))
    compared = [(one, differences(one)) for one in clean]
    if not any(found for _, found in compared):
        lines = [f"{set_name(one)}: {_without_interval(one, teachers)}" for one, teachers in _beside(clean, run)]
        return Verdict(OPEN, "No verdict: no intervals were taken, so a difference to the teacher may be chance.", (*lines, *seen, *notes))
    lines = [_set_in_words(one, found) for one, found in compared]
    return Verdict(*_headline([(one, found) for one, found in compared if found], len(sets)), (*lines, *seen, *notes))


def _headline(compared: Sequence[tuple[Figures, list[Difference]]], sets: int) -> tuple[str, str]:
    """Returns (kind, headline) of sets that have differences."""
    lost = [(one, each) for one, found in compared for each in found if each.lost]
    if lost:
        accuracy = [pair for pair in lost if pair[1].figure == "accuracy"] or lost
        one, worst = min(accuracy, key=lambda pair: pair[1].value)
        amount = f"{points(abs(worst.value)).lstrip('+')} of {figure_name(worst.figure)}"
        place = f" (on {set_name(one)}, the worst of {sets} sets)" if sets > 1 else ""
        verdict = "It is no replacement for it." if abs(worst.value) > NO_REPLACEMENT else "It may replace it only where that loss can be borne."
        return LOSES, f"It loses {amount} against its teacher{place}. {verdict}"
    accuracies = [each for _, found in compared for each in found if each.figure == "accuracy"]
    if all(each.value == each.low == each.high == 0 for each in accuracies):
        return OPEN, "No difference to the teacher can be seen, and none can be: these pairs are too easy or too few to tell the two apart."
    worst_case = max(0.0, *(-each.low for each in accuracies)) if accuracies else 0.0
    borne = f"if up to {points(worst_case).lstrip('+')} of accuracy may be lost: so much is not ruled out" if worst_case else "as far as accuracy goes"
    return EQUAL, f"No loss against the teacher is shown. On pairs like these it may replace it, {borne}."


def _set_in_words(figures: Figures, found: Sequence[Difference]) -> str:
    pairs = many(figures["genuine"] + figures["impostors"], "pairs")
    people = f" of {many(figures['identities'], 'identities')}" if figures.get("identities") else ""
    if not found:
        return f"{set_name(figures)} ({pairs}{people}): no intervals were taken here."
    each = "; ".join(one.in_words() for one in found)
    return f"{set_name(figures)} ({pairs}{people}): accuracy {figures['accuracy']:.2%}; {each}."


def _beside(sets: Sequence[Figures], run: RunFiles) -> list[tuple[Figures, Figures | None]]:
    theirs = {one.get("folder"): one for one in sets_of(run.teacher)}
    return [(one, theirs.get(one.get("folder"))) for one in sets]


def _without_interval(one: Figures, teachers: Figures | None) -> str:
    if teachers is None:
        return f"accuracy {one['accuracy']:.2%}; the teacher was not evaluated on these pairs."
    return f"accuracy {one['accuracy']:.2%}, that of the teacher {teachers['accuracy']:.2%}: a difference of {points(one['accuracy'] - teachers['accuracy'])}."


def _seen(figures: Figures) -> str:
    number, of = figures["trained_identities"], figures.get("identities")
    return f"{set_name(figures)} counts for nothing here: {number:,} of its {of:,} identities have the name of one that the student was trained on."


def _leaked(run: RunFiles, most: float = MOST_LEAKED) -> str:
    """Returns how many images of the evaluation are among the rows of the set, "" where those are less than the share `most`."""
    found = run.leaks
    numbers = {
        words: (found.get(kind) or {}).get("number", 0)
        for kind, words in (("equal_files", "by equal files"), ("near_duplicates", "by the same picture in other bytes"))
    }
    images = found.get("images") or 0
    if not images or not max(numbers.values()) > most * images:  # one image may be in both
        return ""
    told = " and ".join(f"{number:,} {words}" for words, number in numbers.items() if number)
    return f"Of {images:,} images of this evaluation {told} are among the rows of {found['shards']} ({found['part']})."


# ---------------------------------------------------------------------------------------------------- size, speed, and what limits all that


def ratios(run: RunFiles) -> dict[str, float]:
    """Returns how many times the student is smaller ("bytes", "parameters") and faster ("latency", of one image on one thread) than the teacher."""
    mine, theirs = run.student.get("cost") or {}, run.teacher.get("cost") or {}
    found = {}
    for name in ("bytes", "parameters"):
        if mine.get(name) and theirs.get(name):
            found[name] = theirs[name] / mine[name]
    if (own := one_image(mine)) and (other := one_image(theirs)):
        found["latency"] = other / own
    return found


def one_image(cost: Mapping[str, Any]) -> float | None:
    """Returns the milliseconds that one image takes on one thread; None where that is not known."""
    return (((cost.get("latency") or {}).get("threads") or {}).get("1") or {}).get("1")


def _sizes(run: RunFiles) -> list[str]:
    found, parts = ratios(run), []
    if "bytes" in found:
        parts.append(f"is {times(found['bytes'])} smaller on disk" if found["bytes"] >= 1 else f"is {times(1 / found['bytes'])} larger on disk")
    elif "parameters" in found:
        parts.append(
            f"has {times(found['parameters'])} fewer parameters" if found["parameters"] >= 1 else f"has {times(1 / found['parameters'])} more parameters"
        )
    if "latency" in found:
        faster = f"{times(found['latency'])} faster" if found["latency"] >= 1 else f"{times(1 / found['latency'])} slower"
        parts.append(f"is {faster} for one image on one thread")
    if not parts:
        return ["Size and speed against the teacher are not known here."] if run.teacher else []
    return [f"It {' and '.join(parts)} than the teacher."]


def _notes(run: RunFiles, sets: Sequence[Figures]) -> list[str]:
    """Returns what limits the verdict."""
    notes = []
    if not run.finished:
        notes.append("The run is not finished: training goes on with the same distill train.")
    if str(run.student.get("path", "")).endswith("best.keras"):
        notes.append("Judged was checkpoints/best.keras, the student of the best epoch, not student.keras.")
    shared = run.leaks.get("identities") or {}
    if shared.get("number") and not any(one.get("trained_identities") for one in sets):
        notes.append(f"{many(shared['number'], 'identities')} of these pairs have names that are in {run.leaks['shards']} too.")
    unknown = [set_name(one) for one in sets if one.get("trained_identities") is None]
    if unknown:
        notes.append(f"Whether the student was trained on people of {', '.join(unknown)} is not known.")
    taught = [set_name(one) for one in sets_of(run.teacher) if one.get("trained_identities")]
    if taught:
        notes.append(f"The teacher was trained on people of {', '.join(taught)}, so its figures there are too good and the loss too large.")
    if (leaked := _leaked(run, 0.0)) and not _leaked(run):
        notes.append(f"{leaked} Where the student learned from them, its figures are a little too good.")
    few = [one for one in sets if 0 < (one.get("identities") or 0) < FEW and one.get("intervals")]
    if few:
        least = min(one["identities"] for one in few)
        notes.append(f"With {many(least, 'identities')} an interval is somewhat too narrow where people differ much.")
    return notes
