"""The demo in its short form: every step a command line, and the figures and the page that it promises."""

import json
from types import SimpleNamespace

from tests.conftest import inside
from tests.warm import forked


def test_the_small_demo_runs_to_its_end_and_runs_again(tmp_path, monkeypatch):
    monkeypatch.setattr("distill.export.subprocess", SimpleNamespace(run=forked))
    done = inside("demo", tmp_path / "demo", "--small")
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "demo" / "summary.json").read_text())
    for name in ("teacher", "student", "labels_only", "noise_only"):
        assert 0.4 < summary[name]["accuracy"] <= 1 and 0 <= summary[name]["tar_at_far_1e-2"] <= 1 and summary[name]["seconds"] > 0
    assert summary["teacher"]["parameters"] >= 10 * summary["student"]["parameters"] == 10 * summary["labels_only"]["parameters"]
    assert (tmp_path / "demo" / "set" / "shards" / "index.json").is_file()
    page = (tmp_path / "demo" / "report.html").read_text()
    assert page.count("data:image/png;base64,") > 10 and "http" not in page.replace("http://www.w3.org", "")
    assert done.stdout.count("$ distill ") == 15 and "320 rows and 0 rejects" in done.stdout
