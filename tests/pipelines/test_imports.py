"""Embeddings that other programs stored become a set: every length, type and order is checked, and nothing in their files is run."""

import io
import json
import pickle
import shutil
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distill import DistillError, Unfinished
from distill.data.arrays import read_parts, read_paths
from distill.data.layout import UNDERSCORE
from distill.data.shards import FORMATS, open_shards
from distill.data.shards.verify import verify
from pipelines import imports
from pipelines.import_plan import Import
from pipelines.imports import import_set
from tests.conftest import inside, messages, snapshot

D = 3


@pytest.fixture(scope="module")
def answers(faces, quick) -> dict[str, np.ndarray]:
    """What the teacher answers to each picture: the mean of each colour."""
    import skimage.io

    paths = sorted(faces.rglob("*.jpg"))
    return {path.relative_to(faces).as_posix(): skimage.io.imread(path).mean((0, 1)).astype(np.float32) for path in paths}


WRITERS = {
    "text": lambda path, keys: path.write_text("\n".join(keys)),
    "crlf": lambda path, keys: path.write_bytes("\ufeff".encode() + "".join(f"{key}\r\n" for key in keys).encode()),
    "json": lambda path, keys: path.write_text(json.dumps(keys)),
    "npy": lambda path, keys: save(path, np.array(keys)),
    "bytes": lambda path, keys: save(path, np.array([key.encode() for key in keys])),
    "objects": lambda path, keys: save(path, np.array(keys, object)),
    **{f"pickle {protocol}": lambda path, keys, protocol=protocol: path.write_bytes(pickle.dumps(keys, protocol)) for protocol in range(6)},
    "pickled tuple": lambda path, keys: path.write_bytes(pickle.dumps(tuple(keys))),
    "pickled array": lambda path, keys: path.write_bytes(pickle.dumps(np.array(keys, object))),
}


def save(path, array):
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=True)


def pairs(folder, answers, sizes, write=WRITERS["text"], prefix=""):
    """So many rows in each pair, in the order of the keys."""
    folder.mkdir(exist_ok=True)
    keys = iter(answers)
    for number, size in enumerate(sizes):
        part = [next(keys) for _ in range(size)]
        write(folder / f"{number}_img.foo", [prefix + key for key in part])
        np.save(folder / f"{number}_emb.npy", np.array([answers[key] for key in part], np.float32).reshape(size, D))
    return folder


def headed(path, kind, shape, rest=b"") -> bytes:
    """A file of a header and whatever comes behind it; returns the header."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": kind, "fortran_order": False, "shape": shape})
    path.write_bytes(head.getvalue() + rest)
    return head.getvalue()


def held(out) -> dict[str, list[float]]:
    shards = open_shards(out)
    groups = [rows for number in range(len(shards.records)) for rows in shards.read(number)]
    return {key: row for rows in groups for key, row in zip(rows.keys, rows.embeddings.tolist(), strict=True)}


@pytest.mark.parametrize("kind", WRITERS)
def test_lists_in_every_way_that_is_known(kind, tmp_path):
    keys = ["a/1 ü.jpg", "b/2, x.jpg", "c/[3].jpg"]
    WRITERS[kind](tmp_path / "0_img.foo", keys)
    assert read_paths(tmp_path / "0_img.foo") == keys


class Evil:
    def __reduce__(self):
        import os

        return os.mkdir, ("evil",)


@pytest.mark.parametrize("wrap", [lambda evil: [evil], lambda evil: evil, lambda evil: np.array([evil, "a"], object)])
def test_a_pickle_runs_nothing(wrap, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "0_img.foo").write_bytes(pickle.dumps(wrap(Evil())))
    with pytest.raises(DistillError, match="it names posix.mkdir.*and is not loaded. Write the paths as text"):
        read_paths(tmp_path / "0_img.foo")
    assert not (tmp_path / "evil").exists()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_give_one_message(tmp_path, data):
    """Lists, arrays and archives of which some bytes are others, or the end is missing."""
    keys, array = ["a/1.jpg", "b/2.jpg"], np.arange(6, dtype=np.float32).reshape(2, 3)
    for name in ("npy", "objects", "pickle 4", "pickle 0", "json"):
        WRITERS[name](tmp_path / name, keys)
    archive = io.BytesIO()
    np.savez_compressed(archive, image_names=np.array(keys), image_embs=array, image_classes=np.array([0, 1]))
    (tmp_path / "npz").write_bytes(archive.getvalue())
    save(tmp_path / "emb", array)
    name = data.draw(st.sampled_from(["npy", "objects", "pickle 4", "pickle 0", "json", "npz", "emb"]))
    damaged = bytearray((tmp_path / name).read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    folder = tmp_path / "folder"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    WRITERS["text"](folder / "0_img.foo", keys)
    save(folder / "0_emb.npy", array)
    path = folder / {"npz": "x.npz", "emb": "0_emb.npy"}.get(name, "0_img.foo")
    path.write_bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    try:
        parts, _ = read_parts(folder)
    except DistillError as error:
        assert "\n" not in str(error)
    else:
        assert all(len(part.paths) == len(part.embeddings) for part in parts)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(0, 5), min_size=1, max_size=4), wrong=st.integers(-1, 3), by=st.integers(1, 3))
def test_as_many_embeddings_as_paths(tmp_path, answers, sizes, wrong, by):
    folder = tmp_path / "old"
    shutil.rmtree(folder, ignore_errors=True)
    pairs(folder, answers, sizes)
    if not 0 <= wrong < len(sizes):
        assert [len(part.paths) for part in read_parts(folder)[0]] == sizes
        return
    np.save(folder / f"{wrong}_emb.npy", np.zeros((sizes[wrong] + by, D), np.float32))
    with pytest.raises(DistillError, match=f"{wrong}_emb.npy has {sizes[wrong] + by} rows, {wrong}_img.foo lists {sizes[wrong]} paths. Expected one"):
        read_parts(folder)


def test_an_archive_that_claims_more_than_it_holds_is_refused(tmp_path):
    """A header of 8 TB, in an .npy and in an .npz: no memory is reserved for it."""
    (tmp_path / "0_img.foo").write_text("a\n")
    head = headed(tmp_path / "0_emb.npy", "<f4", (10**9, 2000), bytes(24))
    with pytest.raises(DistillError, match="says float32 .*8,000,000,000,000 bytes; 24 are there"):
        read_parts(tmp_path)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as file:
        file.writestr("image_names.npy", head)
        file.writestr("image_embs.npy", head)
    with pytest.raises(DistillError, match="8,000,000,000,000 bytes; 0 are there"):
        read_parts(tmp_path / "x.npz")


@pytest.mark.parametrize("format", sorted(FORMATS))
@pytest.mark.parametrize("images", ["inline", "path"])
def test_pairs_become_a_set(format, images, faces, answers, quick, tmp_path):
    old, out = pairs(tmp_path / "old", answers, [50, 0, 70], prefix="/data/"), tmp_path / "out"
    words = ("import", old, out, "--root", faces, "--strip-prefix", "/data", "--label-from", "folder", "--teacher", quick, "--rows", 40, "--dtype", "float32")
    words = (*words, "--format", format, "--images", images)
    done = inside(*words)
    assert done.returncode == 0 and "120 rows of 3 numbers in 3 shards, no rejects" in done.stdout and "worst cosine 1.0" in done.stdout, done.stderr
    assert f"next: distill verify {out} --deep --teacher {quick}" in done.stdout
    shards = open_shards(out)
    assert (shards.layout, shards.labelled, len(shards.classes), shards.image.height, len(shards.golden)) == (UNDERSCORE, True, 12, 32, 4)
    assert held(out) == {key: answer.tolist() for key, answer in answers.items()} and not verify(out, deep=True).problems
    assert inside("verify", out, "--deep", "--teacher", quick, "--root", faces).returncode == 0
    before = snapshot(out / "shards", times=False)
    (out / "shards" / UNDERSCORE.record(1, 3)).unlink()
    (out / "shards" / UNDERSCORE.index).unlink()
    again = inside(*words, "--json")
    assert json.loads(again.stdout)["made"] == 40 and snapshot(out / "shards", times=False) == before, again.stderr


def test_an_npz_becomes_a_set_of_an_unknown_teacher(faces, answers, quick, tmp_path):
    arrays = {"image_names": np.array(list(answers)), "image_classes": np.arange(120) // 10, "image_embs": np.array(list(answers.values()))}
    np.savez_compressed(tmp_path / "old.npz", **arrays)
    out = tmp_path / "out"
    done = inside("import", tmp_path / "old.npz", out, "--root", faces)
    assert done.returncode == 0 and "which the set therefore calls unknown" in done.stdout, done.stderr
    shards = open_shards(out)
    assert (shards.meta.teacher, shards.meta.reading.said, shards.labelled, shards.classes[3]) == ("unknown", {}, True, "3")
    assert inside("verify", out, "--deep").returncode == 0 and inside("verify", out, "--teacher", quick).returncode == 0
    done = inside("embed", faces, out, "--teacher", quick)
    assert done.returncode == 2 and "was made by distill import, and distill embed adds nothing to it" in done.stderr and held(out).keys() == answers.keys()
    done = inside("import", tmp_path / "old.npz", out, "--root", faces, "--dtype", "float32")
    assert done.returncode == 2 and "dtype: float16 there, float32 asked for" in done.stderr


def test_what_cannot_be_a_row_is_a_reject(faces, answers, tmp_path):
    root = shutil.copytree(faces, tmp_path / "faces")
    keys = list(answers)
    (root / keys[2]).unlink()
    (root / keys[3]).write_bytes(b"broken")
    old = pairs(tmp_path / "old", answers, [120])
    array = np.load(old / "0_emb.npy")
    array[4], array[5, 1], array[6, 0] = 0, np.nan, 1e9
    np.save(old / "0_emb.npy", array)
    asked = Import(str(old), str(tmp_path / "out"), str(root))
    with pytest.raises(Unfinished, match="5 of 120 images were rejected.*1 with embeddings of zeros"):
        import_set(asked)
    assert not (tmp_path / "out/shards/_index.json").exists()
    done = import_set(Import(str(old), str(tmp_path / "out"), str(root), max_rejects=0.1))
    assert (done.set.rows, done.set.rejects, done.made) == (115, 5, 0) and not verify(tmp_path / "out", deep=True).problems
    ledger = (tmp_path / "out/shards" / done.set.records[0].ledger).read_text()
    assert all(word in ledger for word in ("no such file", "all zeros", "not finite", "does not fit into float16"))
    for key in keys[2:4]:
        shutil.copy(faces / key, root / key)
    words = ("import", old, tmp_path / "out", "--root", root, "--max-rejects", 0.1)
    assert "0 of them imported now" in inside(*words).stdout
    done = inside(*words, "--retry-rejects")
    assert done.returncode == 0 and "117 rows" in done.stdout and "1 with stored embeddings that are not finite" in done.stdout, done.stderr
    assert set(keys) - held(tmp_path / "out").keys() == set(keys[4:7])


@pytest.mark.parametrize("name", ["image_embs", "image_classes"])
def test_an_archive_of_python_objects_is_no_array_of_numbers(name, answers, faces, tmp_path):
    arrays = {"image_names": np.array(list(answers)), "image_classes": np.arange(120) // 10, "image_embs": np.array(list(answers.values()))}
    arrays[name] = np.array(["a"] * 120, object)
    np.savez(tmp_path / "old.npz", **arrays)
    done = inside("import", tmp_path / "old.npz", tmp_path / "out", "--root", faces)
    assert done.returncode == 2 and f"{name} holds Python objects; expected numbers" in done.stderr and not (tmp_path / "out").exists(), done.stderr


def test_other_embeddings_are_another_set(faces, answers, tmp_path):
    """Of a set that is half made, and of one that is whole: rows of two origins never stand in one set. How files cut them does not matter."""
    old, out = pairs(tmp_path / "old", answers, [60, 60]), tmp_path / "out"
    words = ("--root", faces, "--rows", 40)
    assert inside("import", old, out, *words).returncode == 0
    other = pairs(tmp_path / "other", {key: answer + 1 for key, answer in answers.items()}, [60, 60])
    for _ in range(2):
        before = snapshot(out, times=False)
        done = inside("import", other, out, *words)
        assert done.returncode == 2 and "sha256 of the embeddings: " in done.stderr and snapshot(out, times=False) == before, done.stderr
        for path in (out / "shards" / UNDERSCORE.record(1, 3), out / "shards/00001-of-00003.parquet"):
            path.unlink(missing_ok=True)
    done = inside("import", pairs(tmp_path / "cut", answers, [119, 1]), out, *words)
    assert done.returncode == 0 and "40 of them imported now" in done.stdout and not verify(out, deep=True).problems, done.stderr


def write(folder, name, array):
    np.save(folder / name, array)


WRONG = {
    "no emb": (lambda old: (old / "1_emb.npy").unlink(), "1_img.foo is there without 1_emb.npy"),
    "no img": (lambda old: (old / "1_img.foo").unlink(), "1_emb.npy is there without 1_img.foo"),
    "two arrays": (lambda old: shutil.copy(old / "0_emb.npy", old / "00_emb.npy"), "two arrays of one number among 00_emb.npy, 0_emb.npy"),
    "strings of no bytes": (lambda old: headed(old / "0_img.foo", "<U0", (10**12,)), "says <U0 [1000000000000], which are 0 bytes"),
    "two lists": (lambda old: shutil.copy(old / "0_img.foo", old / "0_img.txt"), "two lists of one number"),
    "another D": (lambda old: write(old, "1_emb.npy", np.zeros((3, 4), np.float32)), "has embeddings of 4 numbers"),
    "integers": (lambda old: write(old, "1_emb.npy", np.zeros((3, D), np.int64)), "int64 [3, 3]; expected floating-point"),
    "one dimension": (lambda old: write(old, "1_emb.npy", np.zeros(3, np.float32)), "float32 [3]; expected floating-point"),
    "twice": (lambda old: shutil.copy(old / "0_img.foo", old / "1_img.foo"), "is also row 0 of 0_img.foo"),
    "blank line": (lambda old: (old / "1_img.foo").write_text("a\n\nb\n"), "line 2 is blank"),
    "twice in other letters": (lambda old: (old / "1_img.foo").write_text("a//b\na/./b\nc\n"), "'a/./b' is also row 0 of 1_img.foo"),
    "not finite": (
        lambda old: [write(old, f"{number}_emb.npy", np.full((3, D), np.nan)) for number in (0, 1)],
        "none of the 6 rows looked at has an image that",
    ),
    "leaves": (lambda old: (old / "1_img.foo").write_text("a\n../b\nc\n"), "is no path below a folder"),
    "absolute": (lambda old: (old / "1_img.foo").write_text("a\n/b\nc\n"), "is an absolute path"),
    "binary": (lambda old: (old / "1_img.foo").write_bytes(b"a\0b\n"), "it holds zero bytes"),
    "cut": (lambda old: (old / "1_emb.npy").write_bytes((old / "1_emb.npy").read_bytes()[:-4]), "36 bytes; 32 are there"),
    "elsewhere": (
        lambda old: [path.write_text("x/" + path.read_text().replace("\n", "\nx/")) for path in old.glob("*.foo")],
        "none of the first 6 images can be read",
    ),
    "other order": (lambda old: write(old, "0_emb.npy", -np.load(old / "0_emb.npy")), "another embedding than"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_fit_is_one_line_and_nothing_is_written(what, faces, answers, quick, tmp_path):
    old = pairs(tmp_path / "old", answers, [3, 3])
    change, message = WRONG[what]
    change(old)
    done = inside("import", old, tmp_path / "out", "--root", faces, "--teacher", quick)
    if what == "elsewhere":
        done = inside("import", old, tmp_path / "out", "--root", faces)
    assert done.returncode == 2 and message in done.stderr and len(messages(done)) == 1 and not (tmp_path / "out").exists(), done.stderr


def test_a_gap_in_the_numbers_is_told(faces, answers, tmp_path):
    old = pairs(tmp_path / "old", answers, [2, 2, 2])
    for path in old.glob("1_*"):
        path.unlink()
    done = inside("import", old, tmp_path / "out", "--root", faces)
    assert done.returncode == 0 and "note: number 1 is missing between 0 and 2" in done.stdout and open_shards(tmp_path / "out").rows == 4


def test_a_number_of_any_size_is_a_gap(tmp_path):
    pairs(tmp_path / "old", {"a": np.zeros(D), "b": np.zeros(D)}, [1, 1])
    for name in ("img.foo", "emb.npy"):
        (tmp_path / "old" / f"1_{name}").rename(tmp_path / "old" / f"{10**15}_{name}")
    assert read_parts(tmp_path / "old")[1] == [f"numbers 1, 2, 3, 4, 5 and {10**15 - 6:,} more are missing between 0 and {10**15}; the others are imported"]


def test_an_unknown_teacher_is_read_as_the_file_beside_it_says(faces, answers, quick, tmp_path):
    """The set has no reading of its own that could win over it."""
    model = shutil.copy(quick, tmp_path / "mean.onnx")
    out, run = tmp_path / "out", tmp_path / "run.toml"
    old = pairs(tmp_path / "old", {key: answer[::-1] for key, answer in answers.items()}, [120])
    assert inside("import", old, out, "--root", faces).returncode == 0
    assert inside("verify", out, "--teacher", model).returncode == 1
    assert inside("inspect", model, "--color", "bgr", "--save").returncode == 0
    done = inside("verify", out, "--teacher", model)
    assert done.returncode == 0 and "worst cosine 0.99999" in done.stdout or "worst cosine 1.0" in done.stdout, done.stderr
    from distill.api.given import load_described
    from distill.config.files import load_run
    from distill.training.stages import prove_teacher

    run.write_text(
        f'seed = 1\n[student]\nbackbone = "small_conv"\nembedding = 3\n[data]\nshards = "{out}"\nteacher = "{model}"\n[[stage]]\nsource = "shards"\nepochs = 1\n'
        'optimizer = { name = "adamw", learning_rate = 1e-3 }\nterms = [{ name = "cosine" }]\n'
    )
    assert "4 golden rows labelled again" in prove_teacher(load_run(run), load_described)[0]


def test_an_import_that_is_broken_off_goes_on(faces, answers, tmp_path, monkeypatch):
    old, real, calls = pairs(tmp_path / "old", answers, [120]), imports.commit_shard, []
    asked = Import(str(old), str(tmp_path / "out"), str(faces), rows=40)
    import_set(Import(str(old), str(tmp_path / "whole"), str(faces), rows=40))

    def dies(*given, **more):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*given, **more)

    monkeypatch.setattr(imports, "commit_shard", dies)
    with pytest.raises(KeyboardInterrupt):
        import_set(asked)
    assert json.loads(inside("inspect", tmp_path / "out", "--json").stdout)["missing_chunks"] == [1, 2]
    assert import_set(asked).made == 80
    assert snapshot(tmp_path / "out/shards", times=False) == snapshot(tmp_path / "whole/shards", times=False)
