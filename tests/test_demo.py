"""The demo in its short form: every step a command line, and the figures and the page that it promises."""

import json
import re
from types import SimpleNamespace

import pytest

from distill import DistillError
from distill.demo import SMALL, check_demo, steps, teacher_run
from distill.inspection.describe import describe
from tests.conftest import inside
from tests.warm import forked


def small_demo(out, monkeypatch, *options):
    """Its summary and what it printed."""
    monkeypatch.setattr("distill.exports.export.subprocess", SimpleNamespace(run=forked))
    done = inside("demo", out, "--small", *options)
    assert done.returncode == 0, done.stderr
    summary = json.loads((out / "summary.json").read_text())
    for name in ("teacher", "student", "labels_only", "noise_only"):
        assert 0.4 < summary[name]["accuracy"] <= 1 and 0 <= summary[name]["tar_at_far_1e-2"] <= 1
    for name in ("student", "labels_only", "noise_only"):
        assert summary[name]["seconds"] > 0
    assert summary["teacher"]["parameters"] >= 10 * summary["student"]["parameters"] == 10 * summary["labels_only"]["parameters"]
    assert (out / "set" / "shards" / "_index.json").is_file()
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") > 10 and "http" not in page.replace("http://www.w3.org", "")
    assert "320 rows and 0 rejects" in done.stdout and "\nnext: " in done.stdout
    return summary, done.stdout


def test_the_small_demo_takes_the_teacher_that_ships(tmp_path, monkeypatch):
    summary, printed = small_demo(tmp_path / "demo", monkeypatch)
    assert printed.count("$ distill ") == 15 and "train: teacher" not in printed and not (tmp_path / "demo/runs/teacher").exists()
    assert summary["teacher"]["accuracy"] > 0.93 and summary["teacher"]["seconds"] is None and summary["teacher"]["shipped"]
    told = json.loads((tmp_path / "demo/evaluation/teacher/evaluation.json").read_text())["model"]["pairs"]
    assert told["trained_identities"] == 0
    page = (tmp_path / "demo/report.html").read_text()
    assert "ships trained" in page and "The teacher ships with distill" in page
    assert printed.rstrip().splitlines()[-1].startswith(f"report: {tmp_path}/demo/runs/student/report.html")
    every_section_is_filled(tmp_path / "demo/runs/student/report.html")
    look_at_everything(tmp_path / "demo")
    fails = inside("demo", tmp_path / "demo", "--small", "--train-teacher")
    assert fails.returncode == 2 and "teacher.toml is not what this demo would write" in fails.stderr and "--train-teacher" in fails.stderr


def every_section_is_filled(path):
    """The page of the student has figures or images in each section, and nothing that names a command for want of them."""
    text = path.read_text()
    sections = dict(re.findall(r"<h2>(.*?)</h2>(.*?)</section>", text, re.S))
    assert len(sections) == 12
    for title, filled in sections.items():
        assert re.search("<table|<dl|<figure|commands", filled), title
        assert not re.search("fills this section|is not known here|not reachable", filled), title
    assert "loses" in text.partition("<h2>")[0] and text.count("data:image/jpeg;base64,") == 2 * 12 + 10 and len(text) < 3_000_000
    exported = sections["Exports"]
    assert all(f'scope="row">{name}<' in exported for name in ("saved_model", "onnx", "litert", "litert_float16", "litert_int8", "openvino"))


def look_at_everything(demo):
    """inspect knows each file and folder that the verbs have left, by what it is."""
    kinds = dict[str, str]()
    for path in [demo, *demo.rglob("*")]:
        if path.suffix != ".jpg":
            kinds[path.relative_to(demo).as_posix()] = describe(path, lambda model: {"kind": "saved_model"})["kind"]
    wanted = {
        ".": "demo",
        "summary.json": "summary of a demo",
        "report.html": "report",
        "student.toml": "run file",
        "runs": "folder of runs",
        "runs/student": "run",
        "runs/student/history.csv": "history of a run",
        "runs/student/checkpoints/last.npz": "checkpoint",
        "runs/student/checkpoints/best.keras": "model",
        "runs/student/summary.json": "summary of a run",
        "runs/student/events": "folder of a run's own files",
        "runs/student/report.html": "report",
        "runs/student/exports.json": "exports of a run",
        "runs/student/identities.txt": "class table",
        "runs/student/.trainer": "lock of a run",
        "student": "export",
        "student/README.md": "description of an export",
        "student/student.bin": "part of an OpenVINO model",
        "student/saved_model": "export",
        "student/saved_model/saved_model.pb": "part of a SavedModel",
        "student/saved_model/assets.extra/distill.json": "card of an export",
        "evaluation": "folder of evaluations",
        "evaluation/teacher": "evaluation",
        "set": "set of shards",
        "set/shards/_classes.txt": "class table",
        "set/state/estimate.json": "estimate of a run of distill embed",
        "set/chunks/listing.tsv.zst": "sizes and times of listed images",
    }
    assert {name: kinds[name] for name in wanted} == wanted


@pytest.mark.slow
def test_the_small_demo_trains_a_teacher(tmp_path, monkeypatch):
    summary, printed = small_demo(tmp_path / "demo", monkeypatch, "--train-teacher")
    assert printed.count("$ distill ") == 16 and (tmp_path / "demo/runs/teacher/student.keras").is_file()
    assert summary["teacher"]["seconds"] > 0 and "shipped" not in summary["teacher"]


def test_the_teacher_is_trained_where_that_is_asked_for(tmp_path):
    ships, trains = teacher_run(tmp_path, False).as_posix(), f"{tmp_path}/runs/teacher"
    trained = {" ".join(words) for _, words in steps(tmp_path, SMALL, train_teacher=True)}
    shipped = {" ".join(words).replace(ships, trains) for _, words in steps(tmp_path, SMALL)}
    assert trained - shipped == {f"train {tmp_path}/teacher.toml --out {trains}"} and shipped <= trained


def test_a_demo_of_an_earlier_version_is_refused_with_the_way_out(tmp_path):
    (tmp_path / "teacher.toml").write_text("# distill train demo/teacher.toml --out demo/runs/teacher        the teacher: a wider net, from labels alone\n")
    with pytest.raises(DistillError, match=r"another version.*another folder: distill demo OUT"):
        check_demo(tmp_path, SMALL)
