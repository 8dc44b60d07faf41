"""The verdict of a page says no more than the figures do. Numbers are chosen so that each sentence can be checked by eye."""

import json

import pytest

from distill.report.run_files import RunFiles
from distill.report.verdict import judge, ratios
from distill.report.words import points, signed, size, times
from tests.report.test_report import write_history


def pairs(accuracy=0.95, minus=None, identities=300, trained=0, **more):
    """Figures on a set of 2,000 pairs. minus: {figure: (difference, low, high)}."""
    found = {"folder": "faces/unseen", "accuracy": accuracy, "std": 0.01, "threshold": 0.3, "genuine": 1000, "impostors": 1000, "tar": {}}
    found |= {"identities": identities, "trained_identities": trained, **more}
    if minus:
        found["minus_teacher"] = {name: dict(zip(("value", "low", "high"), values, strict=True)) for name, values in minus.items()}
        found["intervals"] = {"of": "identities", "resamples": 1000, "figures": {}}
    return found


@pytest.fixture
def verdict(tmp_path):
    """Returns the verdict on an evaluation."""

    def of(*sets, teacher=True, **model):
        write_history(tmp_path / "history.csv", epochs=2)
        (tmp_path / "summary.json").write_text("{}")
        mine = {"path": str(tmp_path / "student.keras"), **({"pairs": sets[0], "more_pairs": sets[1:]} if sets else {}), **model}
        theirs = {"teacher": {"path": "teacher", "pairs": pairs(0.98, trained=0), **({} if teacher is True else teacher)}} if teacher else {}
        (tmp_path / "evaluation.json").write_text(json.dumps({"model": mine, **theirs}))
        return judge(RunFiles.read(tmp_path))

    return of


def test_a_loss_is_one_where_the_interval_lies_below_0(verdict):
    found = verdict(pairs(minus={"accuracy": (-0.031, -0.052, -0.011)}))
    assert (
        found.kind == "loses" and found.headline == "It loses 3.10 points of accuracy against its teacher. It may replace it only where that loss can be borne."
    )
    hopeless = verdict(pairs(minus={"accuracy": (-0.31, -0.35, -0.27)}))
    assert hopeless.headline == "It loses 31.00 points of accuracy against its teacher. It is no replacement for it."
    assert "3.10 points of accuracy less than the teacher (95 % interval −5.20 to −1.10, all below 0: a loss)" in found.lines[0]


def test_no_loss_is_shown_where_0_lies_in_the_interval_and_what_is_not_ruled_out_is_said(verdict):
    found = verdict(pairs(minus={"accuracy": (-0.001, -0.0045, 0.002), "tar@0.01": (0.01, -0.02, 0.04), "tar@0.1": (-0.2, -0.3, -0.1)}))
    assert found.kind == "equal" and "up to 0.45 points of accuracy may be lost: so much is not ruled out" in found.headline
    assert "with 0 in it: chance can explain it); 1.00 points of TAR at FAR 1 % more than the teacher" in found.lines[0]


def test_the_strictest_rate_counts_beside_accuracy(verdict):
    found = verdict(pairs(minus={"accuracy": (0.0, -0.01, 0.01), "tar@0.01": (-0.1, -0.2, -0.05), "tar@0.1": (0.0, 0.0, 0.0)}))
    assert found.kind == "loses" and "loses 10.00 points of TAR at FAR 1 %" in found.headline and "accuracy as the teacher" in found.lines[0]


def test_the_worst_of_several_sets_is_named(verdict):
    found = verdict(pairs(minus={"accuracy": (0.0, -0.01, 0.01)}), pairs(minus={"accuracy": (-0.02, -0.03, -0.01)}, folder="data/cfp_fp.bin"))
    assert "loses 2.00 points of accuracy against its teacher (on cfp_fp.bin, the worst of 2 sets)" in found.headline and len(found.lines) >= 2


def test_pairs_that_tell_nothing_apart_say_so(verdict):
    found = verdict(pairs(1.0, minus={"accuracy": (0.0, 0.0, 0.0)}))
    assert found.kind == "open" and "too easy or too few" in found.headline


@pytest.mark.parametrize(
    ("sets", "options", "words"),
    [
        ([], {}, "Not judged on pairs yet"),
        ([pairs()], {"teacher": None}, "no teacher was evaluated beside it"),
        ([pairs()], {}, "No verdict: no intervals were taken"),
        ([pairs(trained=12, minus={"accuracy": (0.0, -0.01, 0.01)})], {}, "No verdict: the student was trained on people of these pairs"),
    ],
)
def test_there_is_no_verdict_where_there_can_be_none(verdict, sets, options, words):
    found = verdict(*sets, **options)
    assert found.kind == "open" and words in found.headline and "may replace" not in found.headline


def test_sets_of_people_that_were_trained_on_count_for_nothing(verdict):
    known = pairs(trained=12, minus={"accuracy": (-0.5, -0.6, -0.4)}, folder="mine")
    found = verdict(pairs(minus={"accuracy": (0.001, -0.004, 0.006)}), known)
    assert found.kind == "equal" and any(line.startswith("mine counts for nothing here: 12 of its 300 identities") for line in found.lines)


def test_what_limits_a_verdict_is_said(verdict):
    found = verdict(pairs(minus={"accuracy": (0.0, -0.01, 0.01)}, identities=20), path="run/checkpoints/best.keras")
    assert any("With 20 identities" in line for line in found.lines) and any("best.keras" in line for line in found.lines)
    found = verdict(pairs(minus={"accuracy": (0.0, -0.01, 0.01)}, identities=None, trained=None))
    assert any("trained on people of unseen is not known" in line for line in found.lines) and not any("identities an interval" in line for line in found.lines)
    found = verdict(pairs(minus={"accuracy": (0.0, -0.01, 0.01)}), teacher={"pairs": pairs(trained=5)})
    assert any("The teacher was trained on people of unseen" in line for line in found.lines)


def cost(count, milliseconds, parameters):
    return {"cost": {"bytes": count, "parameters": parameters, "latency": {"threads": {"1": {"1": milliseconds, "32": None}}}}}


def test_size_and_speed_are_ratios_to_the_teacher(verdict, tmp_path):
    found = verdict(pairs(minus={"accuracy": (0.0, -0.01, 0.01)}), teacher=cost(1_000_000, 6.0, 100), **cost(100_000, 1.5, 10))
    assert "It is 10.0 times smaller on disk and is 4.0 times faster for one image on one thread than the teacher." in found.lines
    assert ratios(RunFiles.read(tmp_path)) == {"bytes": 10.0, "parameters": 10.0, "latency": 4.0}
    slower = verdict(pairs(minus={"accuracy": (0.0, -0.01, 0.01)}), teacher=cost(None, 1.0, 100), **cost(100_000, 2.0, 10))
    assert "It has 10.0 times fewer parameters and is 2.0 times slower for one image on one thread than the teacher." in slower.lines


def test_numbers_read_well():
    assert (signed(-0.5), signed(0.001), signed(3, 0)) == ("−0.50", "0.00", "+3")
    assert (points(-0.0312), times(10.24), times(1234.5), size(167493), size(25_100_000)) == (
        "−3.12 points",
        "10.2 times",
        "1,234 times",
        "0.17\u00a0MB",
        "25.1\u00a0MB",
    )


def found_leaks(equal, near, images=200, identities=0):
    numbers = {"identities": identities, "equal_files": equal, "near_duplicates": near}
    return {
        "shards": "out",
        "part": "all rows",
        "bound": 0.95,
        "rows": 9,
        "images": images,
        **{kind: {"number": n, "named": []} for kind, n in numbers.items()},
    }


def test_pictures_of_training_leave_no_verdict(verdict):
    known = pairs(minus={"accuracy": (0.0, -0.01, 0.01)})
    found = verdict(known, leaks=found_leaks(3, 1))  # 3 of 200 are more than 1 %
    assert found.kind == "open" and found.headline.startswith("No verdict: these pairs show pictures of the training set")
    assert found.lines[0] == "Of 200 images of this evaluation 3 by equal files and 1 by the same picture in other bytes are among the rows of out (all rows)."
    few = verdict(known, leaks=found_leaks(0, 1))
    assert few.kind == "equal" and any("Of 200 images of this evaluation 1 by" in line and "a little too good" in line for line in few.lines)
    assert not any("among the rows" in line for line in verdict(known, leaks=found_leaks(0, 0)).lines)
    assert any("3 identities of these pairs have names that are in out too" in line for line in verdict(known, leaks=found_leaks(0, 0, identities=3)).lines)
