"""Models side by side, in a terminal, as Markdown and as CSV: cells that can be checked by eye."""

import csv
import io

import pytest

from distill.results import EvaluateResult, Judged
from distill.results.models_table import _count, _three, tables, verdict
from tests.conftest import inside


def pairs(accuracy, low, high, tar, less=None, folder="faces/unseen"):
    figures = {"accuracy": {"value": accuracy, "low": low, "high": high}, "tar@0.01": {"value": tar, "low": tar - 0.01, "high": tar + 0.01}}
    point = {"tar": tar, "threshold": 0.4}
    none = {"tar": None, "threshold": None, "left_out": "10,000 impostor pairs are needed, there are 1,000"}
    return {
        "folder": folder,
        "accuracy": accuracy,
        "std": 0.01,
        "threshold": 0.3,
        "tar": {"0.01": point, "0.001": none},
        "tars": {"conservative": {"0.01": point, "0.001": none}},
        "auc": 0.9,
        "eer": 0.1,
        "genuine": 1000,
        "impostors": 1000,
        "folds": 10,
        "identities": 20,
        "trained_identities": 0,
        "intervals": {"of": "identities", "resamples": 1000, "figures": figures},
        **({"minus_first": {"accuracy": dict(zip(("value", "low", "high"), less, strict=True))}} if less else {}),
    }


def cost(size, parameters, flops, one, many, machine="Chip, 2 cores, TensorFlow 2"):
    latency = {"threads": {"1": {"1": one, "32": many}, "all": {"1": one, "32": many / 2}}, "images_per_second": 64e3 / many, "machine": machine}
    return {"bytes": size, "parameters": parameters, "flops": flops, "latency": latency}


UNKNOWN = {"bytes": 900, "parameters": None, "flops": None, "latency": None, "left_out": {"flops": "it loops", "latency": "no time", "parameters": "no"}}


def models():
    return {
        "big": {"path": "models/big", "pairs": pairs(0.984, 0.981, 0.987, 0.95), "cost": cost(174_000_000, 43_600_000, 24_200_000_000, 181.2, 4321)},
        "small": {"path": "small", "pairs": pairs(0.965, 0.961, 0.97, 0.9, (-0.019, -0.023, -0.014)), "cost": cost(167_493, 25_492, 1_813_248, 0.391, 1.949)},
        "odd|one": {"path": "odd", "pairs": pairs(0.983, 0.98, 0.986, 0.94, (-0.001, -0.003, 0.001)), "cost": UNKNOWN},
    }


def result(judged):
    return EvaluateResult({who: Judged(figures["path"], figures) for who, figures in judged.items()})


def test_the_table_of_several_models():
    lines = result(models()).in_words().splitlines()
    assert lines[:4] == [
        "                accuracy %    TAR at FAR 1 %   less first    MB  params  MFLOPs    ms 1 / 32  images/s",
        "big      98.40 (98.1-98.7)  95.0 (94.0-96.0)            -   174  43.6 M  24,200  181 / 4,321        15",
        "small    96.50 (96.1-97.0)  90.0 (89.0-91.0)  -1.90 lower  0.17  25.5 k    1.81  0.39 / 1.95    32,837",
        "odd|one  98.30 (98.0-98.6)  94.0 (93.0-95.0)   -0.10 open  0.00       -       -            -         -",
    ]
    assert lines[4:] == [
        "pairs: 0 of their 20 identities have the name of one that it was trained on; accuracy is a mean of 10 folds",
        "no TAR at FAR 0.1 %: 10,000 impostor pairs are needed, there are 1,000",
        "threshold on the cosine: 0.300 for the best accuracy, 0.400 for FAR 1 %",
        "less first: accuracy less that of big, in points; open: 0 is inside its 95 % interval, so they may be equal",
        "ms: for 1 and 32 images on one thread; images/s: 32 at a time on all threads; Chip, 2 cores, TensorFlow 2",
        "odd|one: no flops: it loops",
        "odd|one: no latency: no time",
        "odd|one: no parameters: no",
    ]
    assert max(map(len, lines[:4])) <= 120


def test_a_row_is_a_model_on_a_set_and_costs_stand_once():
    judged = models()
    for one in judged.values():
        one["more_pairs"] = [pairs(0.9, 0.89, 0.91, 0.8, folder="lists/cfp.bin")]
    (head, rows), *more = tables(judged)
    assert [row[0] for row in rows] == ["big, unseen", "big, cfp.bin", "small, unseen", "small, cfp.bin", "odd|one, unseen", "odd|one, cfp.bin"]
    assert not more and rows[3][head.index("accuracy %")] == "90.00 (89.0-91.0)" and rows[3][head.index("MB")] == "-" != rows[2][head.index("MB")]


def test_what_is_too_wide_for_a_terminal_is_two_tables_with_the_same_rows():
    judged = {f"{who} with a name": one | {"identification": {"rank1": 0.5}} for who, one in models().items()}
    two = tables(judged)
    assert len(two) == 2 and [row[0] for row in two[0][1]] == [row[0] for row in two[1][1]] == list(judged)
    assert two[0][0][-5:] == ["MB", "params", "MFLOPs", "ms 1 / 32", "images/s"] and two[1][0] == ["", "rank 1"]
    assert len(tables(judged, widest=200)) == 1


def test_markdown_is_one_table():
    lines = result(models()).as_markdown().splitlines()
    assert lines[0].startswith("| model | accuracy % | TAR at FAR 1 % | less first | MB |") and lines[1].count("---:") == 8
    assert lines[4].startswith("| odd\\|one | 98.30 (98.0-98.6) |") and len({line.replace("\\|", "").count("|") for line in lines}) == 1


def test_csv_has_all_digits_and_nothing_where_nothing_is_known():
    big, small, odd = csv.DictReader(io.StringIO(result(models()).as_csv()))
    assert (small["model"], small["path"], small["pairs"]) == ("small", "small", "faces/unseen")
    assert float(small["less_accuracy"]) == -0.019 and big["less_accuracy"] == "" and float(big["accuracy_low"]) == 0.981
    assert (
        (big["flops"], odd["flops"], big["ms_threads_all_batch_32"]) == ("24200000000", "", "2160.5") and big["tar@0.01"] == "0.95" and big["tar@0.001"] == ""
    )


@pytest.mark.parametrize(
    ("low", "high", "word"), [(-0.02, -0.01, "lower"), (0.01, 0.02, "higher"), (-0.01, 0.01, "open"), (0.0, 0.1, "open"), (None, None, "")]
)
def test_whether_two_models_differ_is_said_by_the_interval(low, high, word):
    assert verdict({"value": 0.0, "low": low, "high": high}) == word


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0, "0.00"), (0.104, "0.10"), (9.994, "9.99"), (9.996, "10.0"), (99.94, "99.9"), (99.96, "100"), (7716.2, "7,716")]
)
def test_numbers_have_three_digits(value, text):
    assert _three(value) == text


@pytest.mark.parametrize(("value", "text"), [(None, "-"), (0, "0"), (999, "999"), (25_492, "25.5 k"), (43_600_000, "43.6 M"), (1_000, "1.00 k")])
def test_numbers_of_weights_are_short(value, text):
    assert _count(value) == text


def test_the_command_line_prints_each_form(quick, faces, teacher):
    words = ["evaluate", quick, "--pairs", faces, "--number", 60, "--resamples", 0, "--format"]
    rows = list(csv.DictReader(io.StringIO(inside(*words, "csv").stdout)))
    assert [row["model"] for row in rows] == ["model"] and 0 < float(rows[0]["accuracy"]) <= 1
    assert inside(*words, "markdown").stdout.startswith("| model | accuracy % |")
    assert inside(*words, "json").stdout == inside(*words[:-1], "--json").stdout
    done = inside(*words, "xml")
    assert done.returncode == 2 and "--format xml: expected one of text, json, csv, markdown" in done.stderr
    assert inside(*words, "csv", "--json").returncode == 2
