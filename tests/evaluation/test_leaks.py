"""Leaks: equal files and near pictures among the rows of a set, by hand; and one of each kind planted among drawn faces, found by the command line."""

import hashlib
import json
import shutil
import tracemalloc
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from distill.config.data import Holdout
from distill.data.shards import Rows, commit_shard, open_shards, write_index
from distill.data.sources import held_out
from distill.drawn_faces import TEACHER
from distill.evaluation import leaks
from distill.evaluation.leak_search import leak_figures
from distill.evaluation.leaks import distinct, find_leaks
from distill.evaluation.pair_sets import drawn_set
from distill.evaluation.request import EvaluationRequest, silent
from distill.images.codec import encode_jpeg
from distill.images.spec import ImageSpec
from tests.builders import make_set, meta
from tests.conftest import inside, once


def at_angles(*degrees):
    turned = np.radians(degrees)
    return np.stack([np.cos(turned), np.sin(turned)], axis=1).astype(np.float32)


def small_set(folder, keys, files, embeddings, format, inline, dtype="float32"):
    """A set of two shards."""
    folder.mkdir()
    records, half = [], len(keys) // 2
    for number, part in enumerate((slice(0, half), slice(half, None))):
        rows = Rows(
            keys=keys[part],
            labels=np.arange(len(keys), dtype=np.int32)[part],
            embeddings=embeddings[part].astype("float32" if dtype == "int8" else dtype),
            images=files[part] if inline else None,
            image_sha256=None if inline else [hashlib.sha256(data).digest() for data in files[part]],
        )
        about = replace(meta(chunk=number, of=2, image=ImageSpec(2, 2)), dimension=2, dtype=dtype, images="inline" if inline else "path")
        records.append(commit_shard(folder, format, about, [rows], []))
    return write_index(folder, format, records, [key.split("/")[0] for key in keys])


@pytest.mark.parametrize(
    ("format", "inline", "dtype"), [("parquet", True, "float32"), ("hdf5", True, "float16"), ("parquet", False, "int8"), ("hdf5", False, "float32")]
)
def test_equal_files_and_near_pictures_by_hand(tmp_path, format, inline, dtype, monkeypatch):
    """Rows at 0, 40, 80 and 121 degrees; images of the evaluation at 1 and 6 degrees of the first, one with the bytes of the third, one far from all."""
    monkeypatch.setattr(leaks, "_COLUMNS", 3)  # images of the evaluation that are compared at a time
    keys, files = ["a/1", "b/1", "c/1", "d/1"], [b"aa", b"bb", b"cc", b"dd"]
    made = small_set(tmp_path / "set", keys, files, at_angles(0, 40, 80, 121) * 7, format, inline, dtype)
    shown = distinct(["x", "y", "z", "far", "z again"], [b"xx", b"y", b"cc", b"far away", b"cc"], at_angles(1, 6, 80, 220, 80) / 3)
    assert shown.names == ("x", "y", "z", "far")
    seen = []
    found = find_leaks(open_shards(made.folder), None, shown, np.cos(np.radians(7)), lambda done, of: seen.append((done, of)))
    assert [(one.image, one.row, one.rows) for one in found.equal] == [("z", "c/1", 1)] and found.rows == 4
    assert [(one.image, one.row, one.rows) for one in found.near] == [("x", "a/1", 1), ("y", "a/1", 1)]
    assert [one.cosine for one in found.near] == pytest.approx(np.cos(np.radians([1, 6])), abs=2e-3) and seen == [(2, 4), (4, 4)]
    assert [one.image for one in find_leaks(made, None, shown, np.cos(np.radians(3))).near] == ["x"]
    wide = find_leaks(made, None, shown, np.cos(np.radians(40.5)))
    assert {one.image: (one.row, one.rows) for one in wide.near} == {"x": ("a/1", 2), "y": ("a/1", 2), "z": ("b/1", 1)}  # its own file is none of the near ones
    blind = find_leaks(made, None, replace(shown, embeddings=None))
    assert blind.near is None and blind.equal == found.equal


@pytest.mark.parametrize("many", [1, 20, 10**9])
def test_pairs_that_a_few_numbers_rule_out_are_no_near_ones(monkeypatch, many):
    """Embeddings of 24 numbers around few directions, in which the images differ most, looked at through 4 numbers: the same as comparing all."""
    monkeypatch.setattr(leaks, "SHORT", 4)
    monkeypatch.setattr(leaks, "MANY", many)
    monkeypatch.setattr(leaks, "_COLUMNS", 37)
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(12, 24)) * np.geomspace(4, 0.1, 24)
    images, rows = (leaks._unit(centres[rng.integers(0, 12, count)] + rng.normal(size=(count, 24)) * 0.3) for count in (100, 300))
    images[7], rows[[3, 4]] = 0, np.stack([np.zeros(24), images[5]])
    near = leaks._Near(images, 0.95)
    near.look(Rows([f"r{row}" for row in range(300)], None, rows), np.ones(300, bool), [])
    cosines = rows @ images.T
    assert near.directions is not None and np.array_equal(near.counts, (cosines >= np.float32(0.95)).sum(axis=0)) and 50 < near.counts.sum() < 20_000
    for image, row in near.rows.items():
        assert cosines[int(row[1:]), image] == pytest.approx(cosines[:, image].max(), abs=1e-6)


@pytest.mark.parametrize("holdout", [Holdout(by="identity", fraction=0.5), Holdout(by="key", fraction=0.5)])
def test_rows_that_were_held_out_are_no_leak(tmp_path, holdout):
    keys = [f"{name}/1" for name in ("anna", "bea", "carl", "dora", "emil", "fred")]
    files = [key.encode() for key in keys]
    made = small_set(tmp_path / "set", keys, files, at_angles(0, 60, 120, 180, 240, 300), "parquet", True)
    shown = distinct(keys, files, at_angles(0, 60, 120, 180, 240, 300))
    kept = [key for key in keys if not held_out(key if holdout.by == "key" else key.split("/")[0], 0.5)]
    found = find_leaks(made, holdout, shown, 0.9)
    assert 0 < len(kept) < 6 and [one.image for one in found.equal] == kept and not found.near and found.rows == len(kept)
    other = distinct(keys, [b"-" + data for data in files], shown.embeddings)
    found = find_leaks(made, holdout, other, 0.9)
    assert sorted(one.image for one in found.near) == kept and not found.equal


def test_images_without_a_direction_are_like_nothing(tmp_path):
    made = small_set(tmp_path / "set", ["a/1", "b/1"], [b"a", b"b"], np.zeros((2, 2)), "parquet", True)
    assert find_leaks(made, None, distinct(["x", "y"], [b"x", b"y"], np.array([[0, 0], [1, 0]])), 0.5).near == ()


DRAWN = {"images": 4, "size": 48}


def make_room(root):
    """Drawn faces of 12 identities through the demo's teacher, and 6 others with three planted leaks: an identity, a file, and a file written anew."""
    from PIL import Image

    from distill.synthetic.faces import draw_face
    from distill.synthetic.folder import draw_folder

    root.mkdir()
    draw_folder(root / "faces", identities=12, **DRAWN)
    draw_folder(root / "other", identities=6, first=100, **DRAWN)
    (root / "other" / ".distill.json").unlink(missing_ok=True)
    for person in sorted((root / "other").glob("id*")):
        shutil.move(person, root / "unseen" / f"new-{person.name}")
    (root / "unseen" / "id0003").mkdir()
    for number in (0, 1):  # the same name; pictures of nobody else
        (root / "unseen" / "id0003" / f"{number}.jpg").write_bytes(encode_jpeg(draw_face(200, number, 48)))
    shutil.copy(root / "faces" / "id0005" / "001.jpg", root / "unseen" / "new-id0101" / "copy.jpg")
    Image.open(root / "faces" / "id0011" / "001.jpg").save(root / "unseen" / "new-id0102" / "again.jpg", quality=60)
    done = inside("embed", root / "faces", root / "set", "--teacher", TEACHER / "student.keras", "--engine", "local")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return once(tmp_path_factory, "planted", make_room)


def test_planted_leaks_are_found_each_in_its_own_kind(planted, tmp_path):
    model = TEACHER / "student.keras"
    done = inside(
        "evaluate",
        model,
        "--pairs",
        planted / "unseen",
        "--identify",
        planted / "unseen",
        "--shards",
        planted / "set",
        "--resamples",
        0,
        "--out",
        tmp_path / "o",
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "o" / "evaluation.json").read_text())["model"]["leaks"]
    assert found["identities"] == {"number": 1, "named": ["id0003"], "shown": 7} and found["rows"] == 48 and found["bound"] == 0.95
    assert found["trained_on"] is None and "(all rows; whether it was trained on them is not known), equal files: 1: " in done.stdout
    assert [(one["image"], one["row"]) for one in found["equal_files"]["named"]] == [("unseen: new-id0101/copy.jpg", "id0005/001.jpg")]
    near = found["near_duplicates"]
    assert [(one["image"], one["row"]) for one in near["named"]] == [("unseen: new-id0102/again.jpg", "id0011/001.jpg")] and near["by"] == "model"
    assert "identities of the same name: 1: id0003\n" in done.stdout and "equal files: 1: unseen: new-id0101/copy.jpg is id0005/001.jpg\n" in done.stdout
    assert f"near-duplicates: 1: unseen: new-id0102/again.jpg is id0011/001.jpg ({near['named'][0]['cosine']:.3f})" in done.stdout


def test_what_is_not_looked_for_is_said(planted, tmp_path):
    asked = ("evaluate", TEACHER / "student.keras", "--pairs", planted / "unseen", "--shards", planted / "set", "--resamples", 0, "--json")
    kinds = ("identities", "equal_files", "near_duplicates")
    for words, expected in [
        (("--no-leaks",), (1, "--no-leaks", "--no-leaks")),
        (("--flip",), (1, 1, "leave --flip out")),
        (("--leak-bound", 1), (1, 1, 0)),
        (("--scale", 0.9), (1, 1, 1)),  # another reading is another model, which here is close enough to the set's
        (("--scale", 0.5), (1, 1, "is needed, as --teacher; the cosine of model to it is 0.7")),
    ]:
        found = json.loads(inside(*asked, *words).stdout)["model"]["leaks"]
        for kind, value in zip(kinds, expected, strict=True):
            assert value in found[kind]["left_out"] if isinstance(value, str) else found[kind]["number"] == value, (words, kind, found[kind])
        assert ("close" in found["near_duplicates"]) == (words == ("--scale", 0.9))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--leak-bound", 0.9), "--leak-bound, --leaks and --no-leaks say how the rows of --shards are looked for"),
        (("--no-leaks",), "--leak-bound, --leaks and --no-leaks say how the rows of --shards are looked for"),
        (("--shards", "set", "--leak-bound", 1.5), "--leak-bound 1.5: expected a cosine above 0 and up to 1"),
    ],
)
def test_options_that_have_nothing_to_say_are_refused(planted, words, said):
    done = inside("evaluate", TEACHER / "student.keras", "--pairs", planted / "unseen", *words)
    assert done.returncode == 2 and said in done.stderr and not done.stdout


def test_a_set_in_an_object_store_is_read_where_that_is_asked_for(planted):
    sets = (drawn_set(planted / "unseen"),)
    for leaks_asked, reason in ((None, "the set lies in an object store"), (False, "--no-leaks")):
        request = EvaluationRequest(sets=sets, shards="gs://bucket/set", leaks=leaks_asked)
        found = leak_figures(open_shards(planted / "set"), request, "nobody", silent)
        assert found["equal_files"]["left_out"].startswith(reason) and found["identities"]["number"] == 1 and "rows" not in found
    found = leak_figures(open_shards(planted / "set"), EvaluationRequest(sets=sets, shards="gs://bucket/set", leaks=True), "nobody", silent)
    assert found["equal_files"]["number"] == 1 and found["near_duplicates"] == {"left_out": "nobody"}


def test_an_unlabelled_set_has_no_identities_and_no_rows_held_out_by_them(planted, tmp_path):
    made = make_set(tmp_path / "set", labelled=False)
    request = EvaluationRequest(sets=(drawn_set(planted / "unseen"),), shards=made, holdout=Holdout(by="identity", fraction=0.5))
    found = leak_figures(open_shards(made), request, "nobody", silent)
    assert found["identities"] == {"left_out": "rows of the set have no label"} and (found["part"], found["rows"]) == ("all rows", 150)


def test_a_teacher_whose_embeddings_are_all_alike_costs_no_object_a_pair():
    images = np.ones((1000, 8), np.float32) / np.sqrt(np.float32(8))
    group = SimpleNamespace(embeddings=np.ones((1000, 8), np.float32), keys=[f"row{n}" for n in range(1000)])
    near = leaks._Near(images, 0.9)
    tracemalloc.start()
    near.look(group, np.arange(1000) > 0, [(1, 0), (2, 1)])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 140e6, "a million pairs as tuples are more than 150 MB"
    assert near.counts.tolist() == [998, 998, *[999] * 998]
    assert [near.rows[image] for image in (0, 1, 2)] == ["row2", "row1", "row1"]
