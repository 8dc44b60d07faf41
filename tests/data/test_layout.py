"""A set that an earlier version began keeps the names of its files, whatever is done with it; its shards are those of a new set, byte for byte."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from distill.data.layout import PLAIN, UNDERSCORE
from distill.data.shards import open_shards
from distill.data.shards.verify import verify
from tests.conftest import inside, once

ROWS = 25
README = (Path(__file__).parents[2] / "README.md").read_text()
TOOLS = re.findall(r"```python\n(.*?)```", README.partition("### The set in other tools\n")[2].partition("\n#")[0], re.DOTALL)


def embed(source, out, teacher, *words):
    done = inside("embed", source, out, "--teacher", teacher, "--rows", ROWS, "--batch", 8, *words)
    assert done.returncode == 0, done.stderr
    return done


def begin_plain(source, out, teacher, *words) -> None:
    """What an earlier version left when nothing was labelled yet: chunks, and a plan that says nothing of a layout."""
    embed(source, out, teacher, "--dry-run", *words)
    plan = json.loads((out / "plan.json").read_text())
    assert plan.pop("layout") == "underscore"
    (out / "plan.json").write_text(json.dumps(plan, indent=2, ensure_ascii=False) + "\n")


def names(out) -> set[str]:
    return {path.name for path in (out / "shards").iterdir() if not path.name.startswith(".")}


def shards(out) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "shards").glob("*.parquet")}


def check(out, layout, number=5) -> None:
    """All files have the names of one layout, and the set is right."""
    chunks = [(chunk, number) for chunk in range(number)]
    expected = {layout.index, layout.classes, *(layout.record(*chunk) for chunk in chunks), *(layout.ledger(*chunk) for chunk in chunks)}
    assert {name for name in names(out) if not name.endswith(".parquet")} == expected
    assert not verify(out, deep=True).problems and open_shards(out).layout is layout
    assert inside("verify", out, "--deep").returncode == 0 and json.loads(inside("inspect", out, "--json").stdout)["kind"] == "set of shards"


@pytest.fixture(scope="session")
def new(tmp_path_factory, faces, quick):
    return once(tmp_path_factory, "new-layout", lambda out: embed(faces, out, quick))


@pytest.fixture(scope="session")
def old(tmp_path_factory, faces, quick):
    def make(out):
        begin_plain(faces, out, quick)
        embed(faces, out, quick)

    return once(tmp_path_factory, "old-layout", make)


def test_a_set_begun_by_an_earlier_version_keeps_its_names(new, old):
    check(new, UNDERSCORE)
    check(old, PLAIN)
    assert shards(new) == shards(old) and open_shards(new).identity == open_shards(old).identity
    assert "layout" not in json.loads((old / "plan.json").read_text()) and json.loads((new / "plan.json").read_text())["layout"] == "underscore"


def test_a_half_made_set_is_told_and_gone_on_with(old, faces, quick, tmp_path):
    out = shutil.copytree(old, tmp_path / "out")
    for name in ("index.json", "classes.txt", "00001-of-00005.json", "00003-of-00005.json", "00003-of-00005.parquet"):
        (out / "shards" / name).unlink()
    found = json.loads(inside("inspect", out, "--json").stdout)
    assert (found["kind"], found["missing_chunks"], found["done_rows"]) == ("unfinished set of shards", [1, 3], 70)
    embed(faces, out, quick)
    check(out, PLAIN)
    assert shards(out) == shards(old)


@pytest.mark.parametrize("gone", ["plan.json", "plan.json and index", "all but shards and classes"])
def test_without_a_plan_the_names_in_the_folder_tell(gone, old, new, faces, quick, tmp_path):
    for source, layout in ((old, PLAIN), (new, UNDERSCORE)):
        out = shutil.copytree(source, tmp_path / layout.name)
        (out / "plan.json").unlink()
        if gone != "plan.json":
            (out / "shards" / layout.index).unlink()
            (out / "shards" / layout.record(2, 5)).unlink()
        if gone.startswith("all"):
            for path in [*(out / "shards").glob("*.json"), *(out / "shards").glob("*.jsonl")]:
                path.unlink()
        embed(faces, out, quick)
        check(out, layout)
        assert shards(out) == shards(source)


def test_only_and_more_views(old, new, faces, quick, tmp_path):
    found = []
    for source, layout in ((old, PLAIN), (new, UNDERSCORE)):
        out = shutil.copytree(source, tmp_path / layout.name)
        embed(faces, out, quick, "--only", 2)
        check(out, layout)
        assert shards(out) == shards(source)
        embed(faces, out, quick, "--add-views", 2, "--recipe", "photo")
        check(out, layout)
        found.append(shards(out))
    assert found[0] == found[1] and open_shards(tmp_path / "plain").meta.views == 3


def test_rejects_are_tried_again(faces, quick, tmp_path):
    source, out = shutil.copytree(faces, tmp_path / "faces"), tmp_path / "out"
    broken = sorted(source.rglob("*.jpg"))[3]
    good = broken.read_bytes()
    broken.write_bytes(good[:300])
    begin_plain(source, out, quick)
    embed(source, out, quick, "--max-rejects", 0.1)
    assert b'"id0000/003.jpg"' in (out / "shards" / "00000-of-00005.rejects.jsonl").read_bytes()
    broken.write_bytes(good)
    embed(source, out, quick, "--retry-rejects")
    check(out, PLAIN)
    assert open_shards(out).rows == 120


def test_an_old_plan_under_which_nothing_was_labelled_gives_way_to_a_new_layout(old, faces, quick, tmp_path):
    """Nothing of the old names stays; also where chunks of which no row could be labelled had left their records."""
    source, out = shutil.copytree(faces, tmp_path / "faces"), tmp_path / "out"
    for path in source.rglob("*.jpg"):
        path.write_bytes(b"broken")
    begin_plain(source, out, quick, "--max-rejects", 1)
    embed(source, out, quick, "--max-rejects", 1)
    assert {"index.json", "classes.txt", "00004-of-00005.rejects.jsonl"} < names(out) and open_shards(out).rows == 0
    embed(faces, out, quick)
    check(out, UNDERSCORE)
    assert shards(out) == shards(old)


def test_the_shards_alone_are_found_wherever_they_lie(old, new, tmp_path):
    for source, layout in ((old, PLAIN), (new, UNDERSCORE)):
        away = shutil.copytree(source / "shards", tmp_path / layout.name)
        assert [open_shards(path).layout for path in (away, away / layout.index)] == [layout, layout] and not verify(away, deep=True).problems
        assert inside("inspect", away).returncode == 0


def library(lines: str) -> str:
    return re.split("[ ;\\n]", lines.partition(";")[0].partition("\n")[0])[-1]


def test_the_readme_names_these_tools():
    assert [library(lines) for lines in TOOLS] == ["pandas", "polars", "duckdb", "tensorflow", "torch"]


@pytest.mark.parametrize("lines", TOOLS, ids=library)
def test_the_lines_of_the_readme_work(lines, new, tmp_path, monkeypatch, capsys):
    pytest.importorskip(library(lines))
    (tmp_path / "out").symlink_to(new)
    monkeypatch.chdir(tmp_path)
    made: dict = {}
    exec(compile(lines, "README.md", "exec"), made)
    stored = np.concatenate([rows.embeddings for number in range(5) for rows in open_shards(new).read(number)])
    if library(lines) in ("pandas", "polars"):
        assert np.array_equal(made["embeddings"], stored)
    elif library(lines) == "duckdb":
        assert made["table"].fetchall() and sum(row[1] for row in made["table"].fetchall()) == 120 and "images" in capsys.readouterr().out
    elif library(lines) == "tensorflow":
        seen = [(images.shape, answers.numpy()) for images, answers in made["data"]]
        assert [shape for shape, _ in seen] == [(32, 32, 32, 3)] * 3 + [(24, 32, 32, 3)] and sum(len(answers) for _, answers in seen) == 120
        assert sorted(np.concatenate([answers for _, answers in seen]).tolist()) == sorted(stored.astype(np.float32).tolist())
    else:
        assert made["images"].dtype == made["torch"].uint8 and made["embeddings"].shape == (24, 3)
