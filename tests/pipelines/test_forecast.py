"""`distill plan` says what an embed then does, writes nothing, and its figures can be checked by hand."""

import json
import os
import re
from dataclasses import replace

import numpy as np
import pytest

from distill import DistillError
from distill.data.chunks import write_chunks
from distill.data.shards import open_shards
from pipelines.forecast import Forecast, read_rates, row_bytes, sample
from pipelines.job import Job
from pipelines.measure import Rates
from teachers import Teacher
from tests.builders import contents
from tests.conftest import inside, messages
from tests.warm import warm_code

RATES = Rates(workers=4, one=100, local=150, processes=300, megabytes=1000, free_megabytes=10_000)
FORECAST = Forecast(rows=60_000, chunks=12, gigabytes=1.5, rejects=0.01, rates=RATES)
ROWS, COPIES = 500, 10  # three chunks of 1,200 rows, so that a file's own metadata is a small part of it


@pytest.fixture(scope="module")
def many(tmp_path_factory, faces):
    root = tmp_path_factory.mktemp("many")
    for path in sorted(faces.rglob("*.jpg")):
        (root / path.parent.name).mkdir(exist_ok=True)
        for copy in range(COPIES):
            os.link(path, root / path.parent.name / f"{copy}-{path.name}")
    return root


@pytest.fixture(scope="module")
def planned(tmp_path_factory, many, quick):
    """(what `distill plan --json` says, every file before it, every file after it)."""
    here = tmp_path_factory.mktemp("here")
    (here / "temporary").mkdir()
    (here / "far.json").write_text(json.dumps({"rates": {**vars(RATES), "workers": 8, "free_megabytes": 64_000}}))

    def files():  # but for the mark that onnxruntime's own reporting leaves in TMPDIR
        found = (path for root in (here, many, quick.parent) for path in root.rglob("*") if path.name != ".ses")
        return {path: path.is_file() and path.stat().st_mtime_ns for path in found}

    before = files()
    words = ("--rows", ROWS, "--workers", 2, "--workers", 64, "--machine", "far.json", "--json")
    code = "from distill.cli import main; from pipelines import measure; measure.SECONDS = 0.5; main()"
    done = warm_code(code, "plan", many, "--teacher", quick, *words, cwd=here, env={**os.environ, "TMPDIR": str(here / "temporary")})
    assert done.returncode == 0 and not messages(done), done.stderr
    return json.loads(done.stdout), before, files()


def bytes_of(out):
    return sum(record.shard_bytes for record in open_shards(out).records)


def test_a_plan_is_what_an_embed_then_writes(planned, many, quick, tmp_path):
    found, _, _ = planned
    assert (found["rows"], found["chunks"], found["rejects"]) == (1200, 3, 0)
    rates = found["rates"]
    assert rates["workers"] >= 1 and min(rates.values()) > 0 and found["engine"] in ("local", "processes")
    assert inside("embed", many, tmp_path / "out", "--teacher", quick, "--rows", ROWS).returncode == 0
    assert found["gigabytes"] * 1e9 == pytest.approx(bytes_of(tmp_path / "out"), rel=0.1)


def test_a_plan_says_how_long_it_takes_elsewhere(planned):
    """Three chunks keep three workers busy, however many there are, and two for two rounds: as if they were 1.5."""
    found, _, _ = planned
    one = found["rates"]["one"]
    assert found["seconds_on_workers"] == {"2": round(1200 / (one * 1.5), 1), "64": round(1200 / (one * 3), 1)}
    assert found["seconds_on_machines"] == {"far.json": round(1200 / (RATES.processes * 3 / 8), 1)}


def test_a_plan_writes_nothing(planned):
    _, before, after = planned
    assert before == after


@pytest.mark.slow
def test_automatic_workers_take_one_of_the_engines_and_make_the_same_shards(many, quick, tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.measure.SECONDS", 0.5)
    words = ("--teacher", quick, "--rows", ROWS, "--images", "path")
    done = inside("embed", many, tmp_path / "auto", *words, "--workers", "auto")
    assert done.returncode == 0 and re.search(r"images/s with \d+ threads.*taking --engine (local|processes) --workers \d+\n", done.stderr), done.stderr
    assert inside("embed", many, tmp_path / "local", *words).returncode == 0
    assert contents(tmp_path / "auto") == contents(tmp_path / "local")
    keys = [key for number in range(3) for rows in open_shards(tmp_path / "auto").read(number, columns=["key"]) for key in rows.keys]
    wanted = 1200 * row_bytes(job(many, images="path"), 3 * 2, keys, [1])
    assert wanted == pytest.approx(bytes_of(tmp_path / "auto"), rel=0.1)


@pytest.mark.parametrize("workers, seconds", [(None, 200), (1, 600), (4, 150), (5, 150), (8, 100), (12, 50), (1000, 50)])
def test_seconds_by_hand(workers, seconds):
    """60,000 rows in 12 chunks: here 300 a second; elsewhere 100 a second for each worker that has a chunk. Five make three rounds, as four do."""
    assert FORECAST.seconds(workers) == seconds


def test_one_chunk_keeps_one_worker_busy():
    assert replace(FORECAST, chunks=1).seconds() == 60_000 / (300 / 4) and replace(FORECAST, chunks=1).seconds(8) == 600


def test_in_words():
    lines = FORECAST.in_words([3, 64], {"far.json": replace(RATES, workers=24, processes=2400, free_megabytes=64_000)}).splitlines()
    assert lines == [
        "60,000 rows in 12 chunks, about 1.50 GB of shards; of the images looked at 1.0% would be rejected",
        "measured: 100 images/s with one worker, 150 images/s with 4 threads, 300 with 4 processes; a process takes 1,000 MB",
        "here, --engine processes --workers 4: 3.3 minutes",
        "3 workers as fast as one here: 3.3 minutes",
        "64 workers as fast as one here: 50 s (52 of them idle: there are 12 chunks; use smaller --rows)",
        "far.json, --engine processes --workers 24: 50 s (12 of them idle: there are 12 chunks; use smaller --rows)",
    ]
    assert "no memory for 4 processes" in replace(FORECAST, rates=replace(RATES, processes=0)).in_words()


@pytest.mark.parametrize("seconds, words", [(59, "59 s"), (90, "1.5 minutes"), (5400, "1.5 hours"), (129_600, "1.5 days"), (0.2, "0 s")])
def test_a_duration_in_words(seconds, words):
    rates = replace(RATES, workers=1, local=100, processes=0)
    assert Forecast(int(100 * seconds), 1, 0, 0, rates).in_words().splitlines()[2].endswith(f": {words}")


@pytest.mark.parametrize(
    "change, engine",
    [
        ({}, "processes"),
        ({"processes": 149}, "local"),
        ({"processes": 0}, "local"),
        ({"free_megabytes": 5001}, "processes"),  # 4 of 1,000 MB, and a fifth stays free
        ({"free_megabytes": 5000}, "local"),
    ],
)
def test_the_faster_engine_that_fits_into_memory(change, engine):
    rates = replace(RATES, **change)
    assert rates.engine == engine and rates.best == (rates.processes if engine == "processes" else 150)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"rates": 1}',
        "\xff",
        '{"rates": {"workers": 1}}',
        *(
            json.dumps({"rates": {**vars(RATES), **change}})
            for change in (
                {"one": "100"},
                {"one": -1},
                {"one": 0},
                {"local": 0},
                {"processes": float("nan")},
                {"megabytes": float("inf")},
                {"workers": 0},
                {"workers": 2.5},
                {"workers": True},
                {"local": None},
                {"other": 1},
            )
        ),
    ],
)
def test_another_machines_figures_are_doubted(text, tmp_path):
    path = tmp_path / "far.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(DistillError, match="--machine .*far.json: .* Expected a file that distill plan --json wrote"):
        read_rates(path)
    with pytest.raises(DistillError, match="nowhere"):
        read_rates(tmp_path / "nowhere")


def test_figures_of_another_machine_come_back(tmp_path):
    (tmp_path / "far.json").write_text(json.dumps(FORECAST.as_dict()))
    assert read_rates(tmp_path / "far.json") == RATES


def job(source, **other):
    return Job(source=str(source), out="out", root=str(source), teacher=Teacher("teacher", "saved_model"), **other)


def test_a_sample_of_a_folder(faces):
    """Rows 0, 119/3, 2 * 119/3 and 119 of twelve folders of ten."""
    keys = ["id0000/000.jpg", "id0003/009.jpg", "id0007/009.jpg", "id0011/009.jpg"]
    assert sample(job(faces, rows=50), 4) == (keys, 120, 3)
    assert sample(job(faces), 1000) == (sorted(f"{path.parent.name}/{path.name}" for path in faces.rglob("*.jpg")), 120, 1)


def test_a_sample_of_a_long_list(tmp_path):
    (tmp_path / "list.txt").write_text("".join(f"{number}.jpg\n" for number in range(250_001)))
    assert sample(job(tmp_path / "list.txt"), 3) == (["0.jpg", "125000.jpg", "250000.jpg"], 250_001, 3)


@pytest.mark.parametrize("number, rows", [(6, [0, 3, 4, 7, 8, 9]), (2, [4, 8]), (3, [0, 4, 8]), (100, range(10))])
def test_a_sample_of_chunks(number, rows, tmp_path):
    """Ten rows in chunks of 4, 4 and 2: each gives its share, its first row first."""
    (tmp_path / "list.txt").write_text("".join(f"{row}.jpg\n" for row in range(10)))
    write_chunks(tmp_path / "list.txt", tmp_path / "chunks", 4)
    assert sample(job(tmp_path / "chunks"), number) == ([f"{row}.jpg" for row in rows], 10, 3)


def test_bytes_of_a_row_by_hand(faces):
    """512 float16, the image, a key of 3 bytes, and 8 for the label and where the key ends."""
    assert row_bytes(job(faces), 1024, ["abc"], [1000, 3000]) == 1024 + 2000 + 3 + 8
    assert row_bytes(job(faces, dtype="float32", images="path"), 2048, ["ä1"], [1000]) == 2048 + 32 + 3 + 8


def refused(capfd, message, *words):
    done = inside(*words)
    done.stderr += capfd.readouterr().err
    told = messages(done)
    assert done.returncode == 2 and message in told[0] and "Traceback" not in done.stderr and len(told) == 1, done.stderr


def test_wrong_input_is_one_message(faces, teacher, tmp_path, capfd):
    (tmp_path / "far.json").write_text("{}")
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    plan = ("plan", faces, "--teacher", teacher)
    refused(capfd, "none of the 120 images looked at can be read, 'id0000/000.jpg'", *plan, "--root", tmp_path)
    refused(capfd, "nowhere: no such image list", "plan", tmp_path / "nowhere", "--teacher", teacher)
    refused(capfd, "No model at", "plan", faces, "--teacher", tmp_path / "none")
    refused(capfd, "far.json", *plan, "--machine", tmp_path / "far.json")
    refused(capfd, "--workers 0: expected 1 or more", *plan, "--workers", 0)
    embed = ("embed", faces, tmp_path / "out", "--teacher", teacher)
    refused(capfd, "--workers many: expected a number of chunks at a time, 0 for one a core, or auto", *embed, "--workers", "many")
    refused(capfd, "--engine portable may run elsewhere", *embed, "--workers", "auto", "--engine", "portable")
    assert not (tmp_path / "out").exists()


def test_a_teacher_that_cannot_be_loaded_is_one_message(faces, tmp_path, capfd):
    pytest.importorskip("onnxruntime")
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    refused(capfd, "bad.onnx", "plan", faces, "--teacher", tmp_path / "bad.onnx")


def test_images_that_the_teacher_cannot_take_are_one_message(quick, tmp_path, capfd):
    from PIL import Image

    (tmp_path / "root" / "id0").mkdir(parents=True)
    Image.fromarray(np.zeros((48, 40, 3), np.uint8)).save(tmp_path / "root" / "id0" / "a.jpg")
    refused(capfd, "none of the 1 images looked at can be embedded. 'id0/a.jpg', for one: the image is 48x40", "plan", tmp_path / "root", "--teacher", quick)
