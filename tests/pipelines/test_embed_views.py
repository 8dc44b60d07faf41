"""Views labelled: the teacher's answer to each, the same bytes at once, added, in processes, killed and resumed."""

import json
import os
import random
import shutil
import time

import numpy as np
import pytest

from distill.data.shards import open_shards
from distill.data.shards.verify import check_sample, verify
from distill.images.augmentation import RECIPES
from distill.images.codec import decode
from distill.images.views import view
from tests.builders import contents, embed, inspected, start
from tests.conftest import inside, once
from tests.warm import warm

VIEWS = 4


def with_views(source, out, teacher, *words, number=VIEWS, through=inside):
    return embed(source, out, teacher, "--views", number, "--recipe", "photo", "--view-seed", 3, *words, through=through)


def added(source, out, teacher, number, *words, through=inside):
    return embed(source, out, teacher, "--add-views", number, "--recipe", "photo", "--view-seed", 3, *words, through=through)


@pytest.fixture(scope="session")
def at_once(tmp_path_factory, faces, teacher):
    def make(out):
        done = with_views(faces, out, teacher, through=warm)
        assert done.returncode == 0, done.stderr

    return once(tmp_path_factory, "at_once", make)


@pytest.fixture(scope="session")
def plain(tmp_path_factory, faces, teacher):
    return once(tmp_path_factory, "plain", lambda out: embed(faces, out, teacher))


def test_each_embedding_is_the_teachers_answer_to_that_view(at_once, plain, faces, teacher):
    from teachers import load_teacher

    load, shards, without = load_teacher(teacher), open_shards(at_once), open_shards(plain)
    assert (shards.meta.views, shards.meta.version, without.meta.version) == (VIEWS, 2, 1) and shards.meta.recipe == RECIPES["photo"]
    for number in range(5):
        for rows, before in zip(shards.read(number), without.read(number), strict=True):
            assert np.array_equal(rows.embeddings[:, :16], before.embeddings), "view 0 is the plain picture's"
            for place, key in enumerate(rows.keys):
                picture = decode((faces / key).read_bytes())
                seen = np.stack([view(picture, RECIPES["photo"], 3, key, each) for each in range(VIEWS)])
                expected = load(seen)
                near = 2**-10 * np.linalg.norm(expected, axis=1, keepdims=True)
                assert (np.abs(rows.embeddings[place].reshape(VIEWS, 16) - expected) <= near).all()
    assert verify(at_once, deep=True).problems == () and check_sample(at_once, load, number=40)["worst_cosine"] > 0.99999


@pytest.mark.parametrize("steps", [[3], [1, 3]], ids=str)
def test_added_views_give_the_bytes_of_a_set_made_at_once(steps, at_once, plain, faces, teacher, tmp_path):
    """Of 1 view, 3 more; or 1 more, and then the other 2. The same command again has nothing to do."""
    out = tmp_path / "out"
    shutil.copytree(plain, out)
    for step in steps:
        assert added(faces, out, teacher, step).returncode == 0
    assert contents(out) == contents(at_once)
    again = added(faces, out, teacher, steps[-1])
    assert again.returncode == 0 and "all there already" in again.stdout and contents(out) == contents(at_once)


def test_added_views_need_no_pictures_where_the_shards_hold_them(at_once, plain, faces, teacher, tmp_path):
    shutil.copytree(plain, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    done = added(tmp_path / "out" / "chunks", tmp_path / "out", teacher, 3, "--root", tmp_path / "empty")
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "out") == contents(at_once)


@pytest.mark.parametrize(("when", "other_wish"), [("hash", False), ("ledger", False), ("record", False), ("record", True)])
def test_pictures_that_only_a_shard_holds_outlive_a_failure_while_it_is_replaced(when, other_wish, at_once, plain, faces, teacher, tmp_path, monkeypatch):
    """The disk fails while a shard is replaced, at a step of its commit and at the second attempt too; then all is well again."""
    import distill.data.shards.commit as commit

    out, left = tmp_path / "out", [2]
    shutil.copytree(plain, out)
    (tmp_path / "empty").mkdir()
    of, name, ending = {"hash": (commit, "sha256_file", ".tmp"), "ledger": (os, "replace", ".jsonl"), "record": (os, "replace", ".json")}[when]
    real = getattr(of, name)

    def failing(*paths):
        if left[0] and "00001-of" in str(paths[-1]) and str(paths[-1]).endswith(ending):
            left[0] -= 1
            raise OSError(28, "No space left on device")
        return real(*paths)

    monkeypatch.setattr(of, name, failing)
    assert added(out / "chunks", out, teacher, 3, "--root", tmp_path / "empty").returncode == 1 and not left[0]
    if other_wish:  # given up again: every chunk as it was, without a file
        for number in range(5):  # as if none had been widened
            shutil.copy(plain / "shards" / f"{number:05d}-of-00005.parquet", out / "shards")
        assert embed(out / "chunks", out, teacher, "--root", tmp_path / "empty").returncode == 0 and contents(out) == contents(plain)
    assert added(out / "chunks", out, teacher, 3, "--root", tmp_path / "empty").returncode == 0
    assert contents(out) == contents(at_once)


def test_views_that_no_shard_has_yet_are_no_promise(at_once, plain, faces, teacher, tmp_path):
    """A dry run leaves the plan as it was; one that a killed run had widened gives way, to other views and to none."""
    from dataclasses import replace

    from distill.data.shards.plan import Plan
    from pipelines.metadata import with_views

    out = tmp_path / "out"
    shutil.copytree(plain, out)
    assert added(faces, out, teacher, 80, "--dry-run").returncode == 0 and contents(out) == contents(plain)
    before = Plan.load(out / "plan.json")
    replace(before, meta=with_views(before.meta, 81, RECIPES["face"], 5)).save(out / "plan.json")
    assert embed(faces, out, teacher).returncode == 0 and contents(out) == contents(plain)
    replace(before, meta=with_views(before.meta, 81, RECIPES["face"], 5)).save(out / "plan.json")
    assert added(faces, out, teacher, 3).returncode == 0 and contents(out) == contents(at_once)


def test_more_views_than_can_be_are_refused_and_change_nothing(at_once, faces, teacher, tmp_path):
    shutil.copytree(at_once, tmp_path / "out")
    done = added(faces, tmp_path / "out", teacher, 997)
    assert done.returncode == 2 and "4 views and --add-views 997 are more than 1000" in done.stderr
    assert contents(tmp_path / "out") == contents(at_once)


@pytest.mark.parametrize("words", [(), ("--only", 0)], ids=str)
def test_a_set_of_other_pixels_is_not_gone_on_with(words, at_once, faces, teacher, tmp_path):
    """As if views came out otherwise here. Its index, the only witness, must stay."""
    out = tmp_path / "out"
    shutil.copytree(at_once, out)
    index = out / "shards" / "_index.json"
    value = json.loads(index.read_text())
    value["golden"][0]["views"] = "0" * 64
    index.write_text(json.dumps(value))
    before = contents(out)
    done = with_views(faces, out, teacher, *words)
    assert done.returncode == 2 and "have other pixels than the teacher saw" in done.stderr and contents(out) == before
    done = inside("verify", out)
    assert done.returncode == 1 and "writes the index anew" not in done.stderr and "embed the list into another folder" in done.stderr


def test_processes_give_the_same_bytes(faces, quick, tmp_path):
    assert with_views(faces, tmp_path / "out", quick, "--engine", "processes", through=warm).returncode == 0
    assert with_views(faces, tmp_path / "local", quick).returncode == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "local")


def test_hdf5_holds_the_same_rows(at_once, faces, teacher, tmp_path):
    assert with_views(faces, tmp_path / "out", teacher, "--format", "hdf5").returncode == 0
    left, right = open_shards(at_once), open_shards(tmp_path / "out")
    for number in range(5):
        for one, other in zip(left.read(number), right.read(number), strict=True):
            assert one.keys == other.keys and np.array_equal(one.embeddings, other.embeddings)
    assert [row.views for row in left.golden] == [row.views for row in right.golden] and left.golden[0].views


@pytest.mark.parametrize("format", ["parquet", "hdf5"])
def test_int8_is_near_and_is_added_to_byte_for_byte(format, at_once, faces, teacher, tmp_path):
    words = ("--dtype", "int8", "--format", format)
    assert with_views(faces, tmp_path / "once", teacher, *words).returncode == 0
    assert with_views(faces, tmp_path / "added", teacher, *words, number=2).returncode == 0
    assert added(faces, tmp_path / "added", teacher, 2, *words).returncode == 0
    assert contents(tmp_path / "once") == contents(tmp_path / "added")
    for one, other in zip(open_shards(at_once).read(0), open_shards(tmp_path / "once").read(0), strict=True):
        exact, near = (rows.embeddings.reshape(-1, 16).astype(float) for rows in (one, other))
        cosines = (exact * near).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(near, axis=1)
        assert cosines.min() > 1 - 1e-4


def test_pictures_that_are_not_in_the_shards_are_read_and_must_be_the_same(faces, teacher, tmp_path):
    source = tmp_path / "faces"
    shutil.copytree(faces, source)
    assert with_views(source, tmp_path / "once", teacher, "--images", "path").returncode == 0
    assert embed(source, tmp_path / "out", teacher, "--images", "path").returncode == 0
    first = sorted(source.rglob("*.jpg"))[0]
    before, other = first.read_bytes(), sorted(source.rglob("*.jpg"))[1].read_bytes()
    first.write_bytes(other)
    done = added(source, tmp_path / "out", teacher, 3, "--images", "path")
    assert done.returncode == 1 and "is not the file that the teacher saw" in done.stderr and "chunk 0" in done.stderr
    first.write_bytes(before)
    assert added(source, tmp_path / "out", teacher, 3, "--images", "path").returncode == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "once")


def test_rejects_stay_rejects_and_a_mended_one_joins_as_if_it_had_always_been_there(faces, teacher, tmp_path):
    source = tmp_path / "faces"
    shutil.copytree(faces, source)
    broken = sorted(source.rglob("*.jpg"))[3]
    good = broken.read_bytes()
    broken.write_bytes(good[:300])
    words = ("--max-rejects", 0.1)
    assert embed(source, tmp_path / "out", teacher, *words).returncode == 0
    assert with_views(source, tmp_path / "once", teacher, *words).returncode == 0
    shutil.copytree(tmp_path / "out", tmp_path / "mended")
    assert added(source, tmp_path / "out", teacher, 3, *words).returncode == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "once") and open_shards(tmp_path / "out").rejects == 1
    broken.write_bytes(good)
    assert added(source, tmp_path / "mended", teacher, 3, *words).returncode == 0
    whole = tmp_path / "whole"
    assert with_views(source, whole, teacher, *words).returncode == 0
    assert contents(tmp_path / "mended") == contents(whole) and open_shards(whole).rejects == 0


@pytest.mark.parametrize("name, kills", [("add", 1), pytest.param("views", 4, marks=pytest.mark.slow), pytest.param("add", 4, marks=pytest.mark.slow)])
def test_killed_while_labelling_and_while_adding_views(name, kills, at_once, plain, faces, teacher, tmp_path):
    """At random moments, launcher and workers; `inspect` counts as done only what has all its views."""
    out, rng = tmp_path / "out", random.Random(0)
    words = ("--views", VIEWS) if name == "views" else ("--add-views", VIEWS - 1)
    if name == "add":
        shutil.copytree(plain, out)
    for _ in range(kills):
        process = start(out, faces, teacher, *words, "--recipe", "photo", "--view-seed", 3)
        wanted, until = rng.randrange(1, 5), time.monotonic() + 60
        while done_with_views(out) < wanted and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        process.kill_all()
        found = inspected(out)
        assert found["kind"] == "set of shards" or found["done_chunks"] == done_with_views(out)
    again = with_views(faces, out, teacher) if name == "views" else added(faces, out, teacher, VIEWS - 1)
    assert again.returncode == 0 and contents(out) == contents(at_once)


def done_with_views(out) -> int:
    """Chunks that are done; a shard alone is none: who was killed between its name and its record's makes it again."""
    from distill.inspection.describe import _views_in  # 0 for a shard that is just being replaced

    return sum((path.parent / f"_{path.stem}.json").exists() and _views_in(path, "parquet") == VIEWS for path in out.glob("shards/[!.]*.parquet"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--views", 0), "--views 0"),
        (("--views", 2, "--add-views", 2), "Give one of them"),
        (("--views", 2, "--recipe", "none"), "all views would be the same picture"),
        (("--recipe", "face"), "Say how many: --views 8"),
        (("--views", 2, "--recipe", "fast"), "recipe 'fast' is unknown"),
        (("--views", 2, "--view-seed", -1), "--view-seed -1"),
        (("--add-views", 2), "there is none. Make one"),
    ],
    ids=str,
)
def test_wrong_wishes_are_one_message(words, message, faces, teacher, tmp_path):
    done = embed(faces, tmp_path / "out", teacher, *words)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.glob("out/shards/0*"))


def test_other_views_than_those_that_are_there_are_refused(at_once, faces, teacher, tmp_path):
    shutil.copytree(at_once, tmp_path / "out")
    for words, message in (
        (("--views", 5, "--recipe", "photo", "--view-seed", 3), "views: 4 there, 5 asked for"),
        (("--views", 4, "--recipe", "face", "--view-seed", 3), "recipe: 'photo' there, 'face' asked for"),
        (("--views", 4, "--recipe", "photo", "--view-seed", 4), "view_seed: 3 there, 4 asked for"),
        (("--add-views", 1, "--recipe", "face"), "recipe: 'photo' there, 'face' asked for"),
        ((), "views: 4 there, 1 asked for"),
    ):
        done = embed(faces, tmp_path / "out", teacher, *words)
        assert done.returncode == 2 and message in done.stderr, done.stderr
    assert contents(tmp_path / "out") == contents(at_once)


def test_fewer_views_than_were_added_say_how_to_add_more(plain, faces, teacher, tmp_path):
    shutil.copytree(plain, tmp_path / "out")
    assert added(faces, tmp_path / "out", teacher, 3).returncode == 0
    done = added(faces, tmp_path / "out", teacher, 2)
    assert done.returncode == 2 and "has 4 views and was first made with 1; --add-views 2 would be fewer" in done.stderr
    assert "--add-views 4 or above" in done.stderr
