"""Whose folder it is: nothing in a folder of somebody else's changes, whatever it is given as, on disk and in an object store."""

import io
import json
import shutil
import tomllib
import zipfile
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distill import DistillError, load_model
from distill.config.files import build_run, dump_run
from distill.data.folders import _lies_in, check_apart, check_folder
from distill.data.kinds import CARD, KINDS, kind_of, strange_in_export, strange_names
from distill.demo import FULL, SMALL, check_demo, run_files, set_folder, write_run_files
from distill.exports import place
from distill.exports.export import _note, student_file
from distill.report.run_page import write_run_report
from distill.storage.path import as_path, is_remote
from distill.synthetic.folder import draw_folder
from teachers.checkpoint import find_index
from tests.builders import meta
from tests.conftest import inside, messages, once, put, snapshot, upload_all


def archive(*names: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        for name in names:
            file.writestr(name, b"mine")
    return data.getvalue()


# Names that resemble ours, or are ours, with something else in them.
FOREIGN = {
    "plan.json": b'{"plan": "to buy milk"}',
    "index.json": b'{"version": 1}',
    "run.toml": b"[run]\nfast = true\n",
    "summary.json": b'{"epochs": 3}',
    "report.html": b"<p>mine</p>",
    "student.keras": archive("config.json"),
    "saved_model.pb": b"mine",
    "evaluation.json": b'{"model": "mine"}',
    "scores-model.npz": archive("mine.npy"),
    "history.csv": b"loss\n1\n",
    ".launcher": b"rocket\n",
    ".trainer": b"dog\n",
    "classes.txt": b"id0000\n",
    "teacher.toml": b"mine = 1\n",
    ".drawing.json": b'{"house": 1}',
    "views.png": b"mine",
    "00000-of-00001.parquet": b"PAR1mine",
    "thesis.tmp": b"mine",
    "state/error.json": b'{"error": "mine"}',
    "state/finished.json": b'{"at": 1}',
    "state/progress-00001.json": b'{"done": 1}',
    "state/thesis.txt": b"mine",
    "chunks/00000-of-00001.parquet": b"PAR1mine",
    "chunks/classes.txt": b"mine",
    "shards/00000-of-00001.parquet": b"PAR1mine",
    "_index.json": b'{"version": 3}',
    "shards/_00000-of-00001.json": b"{}",
    "shards/_index.json": b"{}",
    "shards/_classes.txt": b"",
    "shards/00000-of-00001.json": b"{}",
    "shards/index.json": b"{}",
    "shards/00000-of-00001.rejects.jsonl": b"",
    "variables/variables.index": b"mine",
    "assets.extra/distill.json": b'{"made_by": "me"}',
    "checkpoints/last.npz": archive("weights.npy"),
    "events/tomorrow.txt": b"party",
    "faces/mine.txt": b"mine",
    "runs/mine.txt": b"mine",
    "set/mine.txt": b"mine",
}


MADE = {"photos": "photos", "list": "list.txt", "run": "run.toml", "keras": "student.keras"}
RUN = """
[student]
widths = [8, 8, 8]
embedding = 8
[data]
images = "{photos}"
size = [32, 32]
batch = 2
[[stage]]
source = "images"
terms = [{{ name = "arcface" }}]
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory, quick):
    """What the verbs are given beside the folder: pictures, a list of them, and a teacher that needs no TensorFlow."""

    def make(root):
        draw_folder(root / "photos", identities=2, images=2, size=32)
        (root / "list.txt").write_text("".join(f"id000{number}/000.jpg\n" for number in (0, 1)))
        (root / "run.toml").write_text(RUN.format(photos=root / "photos"))
        (root / "student.keras").write_bytes(archive("config.json"))

    root = once(tmp_path_factory, "whose", make)
    return SimpleNamespace(**{name: root / file for name, file in MADE.items()}, teacher=quick)


def fill(folder, made):
    """A folder of somebody else's: two class folders with pictures, and FOREIGN."""
    there = {**FOREIGN, **{path.relative_to(made.photos).as_posix(): path.read_bytes() for path in made.photos.glob("id*/*.jpg")}}
    for name, data in there.items():
        if isinstance(folder, Path):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
        put(folder / name, data)
    return folder


def refused(words, folder, *said):
    before = snapshot(folder)
    done = inside(*words)
    assert snapshot(folder) == before, words
    assert done.returncode == 2 and done.stderr.startswith("distill: ") and len(messages(done)) == 1, (words, done)
    assert all(word in done.stderr for word in said), (words, done.stderr)


def stays(theirs, made, beside):
    """As OUT, as SOURCE with OUT in it, as what lies in OUT, and as every other folder that a verb writes."""
    embed = ("embed", "--teacher", made.teacher, "--rows", 2)
    refused((*embed, made.photos, theirs), theirs, "files that are no part of a set of shards", "Nothing was written")
    refused((*embed, theirs, theirs), theirs, "is the folder of the images itself")
    refused((*embed, theirs, theirs / "new" / "out"), theirs, "lies among the images")
    refused((*embed, theirs / "id0000", theirs), theirs, "is a folder around")
    refused((*embed, made.photos, theirs / "shards"), theirs, "no part of a set")
    refused(("chunk", made.photos, theirs), theirs, "files that are no part of chunks")
    refused(("chunk", theirs, theirs / "new"), theirs, "lies among the images")
    remote = "can only be written on a local disk" if is_remote(theirs) else ""
    refused(("faces", theirs, "--identities", 1, "--images", 1, "--size", 32), theirs, remote or "no part of drawn identities")
    refused(("demo", theirs, "--small"), theirs, remote or "no part of a demo")
    refused(("train", made.run, "--out", theirs), theirs, remote or "no part of a run")
    refused(("train", made.run, "--out", theirs / "new", "--set", f"data.images={theirs}"), theirs, remote or "lies among the images")
    for force in ((), ("--force",)):
        refused(("export", made.keras, theirs, *force), theirs, remote or "is left alone")
    judge = ("evaluate", made.teacher, "--pairs")
    refused((*judge, made.photos, "--out", theirs), theirs, "no part of an evaluation")
    refused((*judge, theirs, "--out", theirs / "new"), theirs, "lies among the images")
    image = next(made.photos.glob("id*/*.jpg"))
    refused(("views", image, "--out", theirs / "views.png"), theirs, "does not say that distill drew it")
    refused(("views", image, "--out", theirs / "id0000"), theirs, "is a folder")
    if not is_remote(theirs):
        before = snapshot(theirs)
        with pytest.raises(DistillError, match="no part of a run"):
            write_run_report(theirs)
        assert snapshot(theirs) == before
    before = snapshot(theirs)
    done = inside(*embed, theirs, beside / "out")
    assert done.returncode == 0 and "4 rows" in done.stdout and snapshot(theirs) == before, done.stderr
    done = inside(*embed, theirs / "id0000", theirs / "new")  # a folder around both, as a project is
    after = snapshot(theirs)
    assert done.returncode == 0 and {name: after[name] for name in before if name != "."} == {name: before[name] for name in before if name != "."}


def test_somebody_elses_folder_stays_as_it_is(tmp_path, made):
    stays(fill(tmp_path / "theirs", made), made, tmp_path)


def test_somebody_elses_objects_stay_as_they_are(folder, made, tmp_path):
    stays(fill(folder, made), made, tmp_path)


LEFT = {
    "state/error.json": b'{"message": "", "exit_code": 2}',
    "state/progress-00000.json": b'{"done": 0, "made": 0, "turned": 0}',
    "state/failed-00003.json": b'{"chunk": 3, "reason": "x"}',
    ".stfolder/x": b"",
    "state/estimate.json": b'{"rows": 1, "chunks": 1, "todo_chunks": 1, "todo_rows": 1, "bytes": 9, "free": null, "skipped": {}}',
    ".directory": b"mine",
    ".ipynb_checkpoints/embed-checkpoint.ipynb": b"{}",
    "embed.log": b"",
    "nohup.out": b"",
    "slurm-17.out": b"mine",
}


@pytest.mark.parametrize("kind", ["set", "run", "evaluation", "demo"])
def test_the_log_of_a_run_may_lie_in_its_folder_before_it_begins(tmp_path, kind):
    for name in ("train.log", "nohup.out", "slurm-17.out"):
        (tmp_path / name).touch()
    check_folder(tmp_path, kind)
    (tmp_path / "mine.log").mkdir()
    with pytest.raises(DistillError, match=r"\(mine.log\)"):
        check_folder(tmp_path, kind)


def test_a_folder_that_only_looks_full_is_taken(tmp_path, made):
    """What systems put into every folder, what a run leaves that ended early, and notes beside a set of ours."""
    out = tmp_path / "out"
    for name, data in {".DS_Store": b"x", "lost+found/x": b"", ".launcher": b"process 17 on far-away\n", **LEFT}.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(data)
    (out / "shards").mkdir()
    words = ("embed", made.photos, out, "--teacher", made.teacher, "--rows", 2)
    done = inside(*words)
    assert done.returncode == 0 and "4 rows in 2 shards" in done.stdout, done.stderr
    notes = {name: put(out / name, b"mine") for name in ("README.md", "state/thesis.txt", "shards/README.md", "chunks/README.md")}
    assert inside(*words, "--only", 1).returncode == 0
    assert {path.read_bytes() for path in notes.values()} == {b"mine"} and (out / "lost+found" / "x").exists()
    assert [kind_of(one) for one in (out, out / "shards", out / "chunks", made.photos)] == ["set", "set", "chunks", None]


@pytest.mark.parametrize("shard", sorted(Path(__file__).parents[1].glob("golden/*/*/00001-of-*.[hp]*[5t]")), ids=lambda path: "/".join(path.parts[-3:-1]))
def test_a_shard_alone_proves_whose_its_folder_is_by_its_metadata(tmp_path, shard):
    """Every published version, in both formats; a chunk and a table of somebody else's have like names."""
    (tmp_path / "shards").mkdir()
    shutil.copy(shard, tmp_path / "shards")
    assert kind_of(tmp_path) == (None if shard.parent.name == "chunks" else "set")
    other = tmp_path / "other" / "shards" / shard.name
    other.parent.mkdir(parents=True)
    said = {b"distill": json.dumps({"version": 1, "rows": 3}).encode()}
    if shard.suffix == ".h5":
        with h5py.File(other, "w") as file:
            file.attrs["distill"] = said[b"distill"]
    else:
        pq.write_table(pa.table({"key": ["a"]}).replace_schema_metadata(said), other)
    assert kind_of(tmp_path / "other") is None
    other.write_bytes(shard.read_bytes()[:-9])
    assert kind_of(tmp_path / "other") is None


def test_a_set_made_in_or_around_its_images_goes_on(tmp_path, made):
    """Earlier versions allowed it; its plan proves whose it is."""
    photos = shutil.copytree(made.photos, tmp_path / "photos")
    words = ("--teacher", made.teacher, "--rows", 2)
    assert inside("embed", made.photos, tmp_path / "out", *words).returncode == 0
    shutil.move(tmp_path / "out", photos / "out")
    plan = json.loads((photos / "out" / "plan.json").read_text())
    (photos / "out" / "plan.json").write_text(json.dumps({**plan, "source": str(photos)}, indent=2) + "\n")
    done = inside("embed", photos, photos / "out", *words)
    assert done.returncode == 0 and "all there already" in done.stdout, done.stderr


def test_out_and_source_are_told_apart_however_they_are_spelt(tmp_path, made, monkeypatch):
    photos = shutil.copytree(made.photos, tmp_path / "photos")
    (tmp_path / "link").symlink_to(photos)
    (photos / "id0000" / "away").symlink_to(tmp_path / "elsewhere")
    monkeypatch.chdir(photos)
    for out in ("out", ".", "./new/deep", "../photos/", "../link", "../link/id0000/x", photos / "id0000" / ".." / "y", "../photos/./z/"):
        with pytest.raises(DistillError, match="lies among the images|is the folder of the images itself"):
            check_apart(".", out)
    for out in ("../photos2", "id0000/away", "../link2", "../photos.out"):  # beside it, or a link out of it
        check_apart(".", out)
    with pytest.raises(DistillError, match="a folder around"):
        check_apart("../link", "..")
    check_apart(made.list, made.list.parent / "out")  # images beside their list are no part of OUT
    assert _lies_in(as_path("gs://bucket/photos/./new/../out"), as_path("gs://bucket/photos/"))
    check_apart("gs://bucket/photos", "gs://bucket/photos2")
    check_apart("gs://bucket/photos", "s3://bucket/photos/out")


def test_lists_in_what_a_set_is_made_of_are_no_images(tmp_path, made):
    out = tmp_path / "out"
    words = ("--teacher", made.teacher, "--rows", 2)
    assert inside("embed", made.photos, out, *words).returncode == 0
    put(out / "shards" / "list.txt", b"a.jpg\n")
    for source in (out / "shards", out / "shards" / "list.txt", out / "state"):
        refused(("embed", source, tmp_path / "new", "--root", made.photos, *words), tmp_path, "a set of shards")
    for new in ("shards", "state", "shards/new", "chunks/new"):
        refused(("embed", made.photos, out / new, *words), tmp_path, "lies in what")
    refused(("evaluate", made.teacher, "--pairs", made.photos, "--out", out / "shards" / "x"), tmp_path, "is made of")
    for new in (tmp_path / "again", out):  # chunks as documented, also into their own set
        assert inside("embed", out / "chunks", new, "--root", made.photos, *words).returncode == 0


@pytest.mark.parametrize("kind", ["set", "chunks", "run", "evaluation", "drawing", "demo"])
def test_a_file_or_a_lost_link_is_no_folder(tmp_path, kind):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for path, said in ((tmp_path / "file", "is a file"), (tmp_path / "file" / "out", "is a file"), (tmp_path / "link", "leads nowhere")):
        with pytest.raises(DistillError, match=said):
            check_folder(path, kind)


@pytest.mark.parametrize("verb", ["faces", "demo", "export", "train", "chunk", "embed", "evaluate", "views", "inspect"])
@pytest.mark.parametrize(
    "address, said",
    [
        ("hf://team/set", "hf:// is no place"),
        ("http://host/x", "http:// is no place"),
        ("file:///tmp/x", "Leave file:// out"),
        ("gs://", "names no bucket"),
        ("s3:/bucket/x", "expected two slashes"),
    ],
)
def test_no_folder_is_ever_called_like_an_address(tmp_path, made, monkeypatch, verb, address, said):
    monkeypatch.chdir(tmp_path)
    image = next(made.photos.glob("id*/*.jpg"))
    words = {
        "faces": (address,),
        "demo": (address,),
        "export": (made.keras, address),
        "train": (made.run, "--out", address),
        "chunk": (made.photos, address),
        "embed": (made.photos, address, "--teacher", made.teacher),
        "evaluate": (made.teacher, "--pairs", made.photos, "--out", address),
        "views": (image, "--out", address),
        "inspect": (address,),
    }
    refused((verb, *words[verb]), tmp_path, said)


@pytest.mark.parametrize("store", [pytest.param("gs", marks=pytest.mark.slow), "s3"], indirect=True)
def test_what_lies_in_a_store_is_read_by_every_verb(folder, faces, quick, tmp_path, monkeypatch):
    """The run file, what it names, models, pictures and pairs; evaluations and pictures are written there too."""
    monkeypatch.chdir(tmp_path)
    upload_all(faces, folder / "faces")
    assert inside("embed", folder / "faces", folder / "out", "--teacher", quick, "--rows", 60).returncode == 0
    put(folder / "run.toml", RUN.format(photos=folder / "faces").replace("batch = 2", "batch = 60").encode())
    shards = ("--set", f"data.shards={folder}/out", "--set", "stage.1.source=shards", "--set", "stage.1.terms.1.name=cosine")
    done = inside("train", folder / "run.toml", "--out", "run", *shards)
    assert done.returncode == 0, done.stderr
    upload_all(tmp_path / "run", folder / "run")
    done = inside("train", folder / "run.toml", "--out", "second", "--set", f"student.weights={folder}/run")
    assert done.returncode == 0, done.stderr
    judge = ("evaluate", folder / "run", "--pairs", folder / "faces", "--number", 60)
    for _ in range(2):  # the second time over what the first has left
        done = inside(*judge, "--out", folder / "judged")
        assert done.returncode == 0 and "accuracy" in done.stdout, done.stderr
    assert json.loads((folder / "judged" / "evaluation.json").read_bytes())["model"]["pairs"]["folder"] == f"{folder}/faces"
    photos = [folder / "faces" / name for name in ("id0000/000.jpg", "id0001/000.jpg")]
    assert "1.000" in inside("compare", folder / "run", *photos).stdout
    assert inside("compare", folder / "run", folder / "nope.jpg", photos[0]).stderr == f"distill: {folder}/nope.jpg: no such object.\n"
    for _ in range(2):
        assert inside("views", *photos, "--out", folder / "sheet.png").returncode == 0
    assert student_file(folder / "run").read_bytes() == (tmp_path / "run" / "student.keras").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "second"]


def test_a_run_that_is_refused_leaves_no_folder_and_one_that_goes_on_leaves_notes_alone(tmp_path, faces):
    (tmp_path / "run.toml").write_text(RUN.format(photos=faces).replace("batch = 2", "batch = 60"))
    words = ("train", tmp_path / "run.toml", "--out", tmp_path / "deep" / "run")
    for wrong in ("data.size=[64, 64]", "stage.1.terms.1.name=cosine", "data.images=nowhere"):
        assert inside(*words, "--set", wrong).returncode in (1, 2)
        assert [path.name for path in tmp_path.iterdir()] == ["run.toml"]
    refused((*words[:-1], tmp_path), tmp_path, f"{tmp_path}/run.toml is a run file that no run wrote", "give it another name, or use another folder as --out")
    assert inside(*words).returncode == 0
    (tmp_path / "deep" / "run" / "notes.txt").write_text("mine")
    before = snapshot(tmp_path / "deep", ".trainer", "run", "report.html")
    assert "finished" in inside(*words).stderr and inside(*words, "--set", "seed=3").returncode == 2
    assert snapshot(tmp_path / "deep", ".trainer", "run", "report.html") == before


def test_an_export_with_anything_else_in_it_is_not_replaced(tmp_path, made):
    out = tmp_path / "student"
    for name in ("saved_model.pb", CARD, "variables/variables.index", ".DS_Store"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text('{"made_by": "distill 0.0.1"}')
    shutil.copytree(out, tmp_path / "new")
    for name in ("thesis.txt", "variables/thesis.txt", "assets.extra/.DS_Store", "assets/mine/x"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("mine")
        refused(("export", made.keras, out, "--force"), tmp_path, "holds an earlier export and what is no part of one")
        shutil.rmtree(out / "assets", ignore_errors=True)
        (out / name).unlink(missing_ok=True)
    (out / ".DS_Store").write_text("mine")
    (tmp_path / "new" / ".DS_Store").unlink()
    place.put(tmp_path / "new", out)
    assert (out / ".DS_Store").read_text() == "mine" and [path.name for path in tmp_path.iterdir()] == ["student"]


def test_a_demo_goes_on_in_its_own_folder_alone(tmp_path):
    write_run_files(tmp_path, SMALL)
    check_demo(tmp_path, SMALL)
    (tmp_path / "notes.txt").write_text("mine")
    check_demo(tmp_path, SMALL)
    with pytest.raises(DistillError, match="student.toml is not what this demo would write"):
        check_demo(tmp_path, FULL)
    (tmp_path / "student.toml").write_text("# mine")
    refused(("demo", tmp_path, "--small"), tmp_path, "student.toml is not what this demo would write")
    assert set_folder(tmp_path) == tmp_path / "set"
    put(tmp_path / "plan.json", b'{\n  "source": "demo/faces/train",\n  "source_sha256": "",\n  "chunk_rows": 100,\n  "chunks": [')  # of an earlier version
    assert set_folder(tmp_path) == tmp_path and f'shards = "{tmp_path}/shards"' in run_files(tmp_path, SMALL)["student"]


def test_a_run_that_is_refused_leaves_no_object(folder, made):
    words = ("embed", made.photos, folder / "out", "--teacher", made.teacher, "--rows", 2)
    for wrong in (("--size", "64x64"), ("--only", 9), ("--add-views", 3)):
        assert inside(*words, *wrong).returncode == 2
        assert snapshot(folder) == {}
    assert inside(*words).returncode == 0
    before = snapshot(folder)
    for wrong in (("--size", "64x64"), ("--only", 9), ("--dtype", "float32")):
        done = inside(*words, *wrong)
        assert done.returncode == 2, done.stderr
        after = snapshot(folder)
        assert {name: data for name, (data, _) in after.items()} == {name: data for name, (data, _) in before.items()}


def test_what_is_no_set_of_shards_is_named(faces, quick, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made_by_embed, photos = "Expected the folder that distill embed wrote.", "is no set of shards. If it holds photos, let the teacher embed them first: "
    for name in ("photos", "empty", "model", "exported/assets.extra"):
        Path(name).mkdir(parents=True)
    Path("photos/a.jpg").write_bytes(b"x")
    Path("model/saved_model.pb").write_bytes(b"x")
    Path("exported", CARD).write_text('{"made_by": "distill 0.1.0"}')
    Path("run.toml").write_text(RUN.format(photos="photos"))
    Path("notes.txt").write_text("hello")
    assert inside("chunk", faces, "chunks").returncode == 0
    assert inside("embed", faces, "begun", "--teacher", quick, "--rows", 60, "--only", 0).returncode == 0
    Path("copied").mkdir()
    shutil.copy("begun/shards/00000-of-00002.parquet", "copied")
    begun = "begun is a set of shards that is not finished. Run the same distill embed again: it makes what is missing."
    expected = {
        "photo": f"photo: nothing is there. Did you mean photos? {made_by_embed}",
        "photos": f"photos {photos}distill embed photos OUT --teacher TEACHER, then give OUT.",
        "empty": f"empty is empty. {made_by_embed}",
        "model": f"model is a model, no set of shards. {made_by_embed}",
        "exported": f"exported is an export, no set of shards. {made_by_embed}",
        "run.toml": f"run.toml is a run file, no set of shards. {made_by_embed}",
        "notes.txt": f"notes.txt is a file, no set of shards. {made_by_embed}",
        "chunks": "chunks holds chunks of an image list, which the teacher has to embed first: distill embed chunks OUT --teacher TEACHER, then give OUT.",
        "begun": begun,
        "begun/shards": begun,
        "begun/chunks": begun,
        "copied": "copied holds no _index.json (nor the index.json of older sets), only shards. If they were copied here, copy the files beside them too, "
        "whose names begin with _; else finish the set.",
    }
    by_file = ("train", "run.toml", "--out", "run", "--set", "stage.1.source=shards", "--set", "stage.1.terms=[{name='cosine'}]", "--set")
    for path, said in expected.items():
        for words in (("verify", path), ("train", "--shards", path, "--out", "run"), (*by_file, f"data.shards={path}")):
            done = inside(*words)
            assert done.stderr.splitlines()[-1] == f"distill: {said}" and done.returncode == 2, words
    assert inside("embed", faces, "begun", "--teacher", quick, "--rows", 60).returncode == 0
    assert "begun/chunks is a part of begun. Name that folder, begun, as the set of shards." in inside("verify", "begun/chunks").stderr


def test_what_is_no_model_is_named(faces, quick, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("runs/student/checkpoints").mkdir(parents=True)
    Path("runs/student/run.toml").write_text(dump_run(build_run(tomllib.loads(RUN.format(photos="photos")), [], "")))
    assert inside("embed", faces, "out", "--teacher", quick).returncode == 0
    stopped = "runs/student is a run that has not finished, so it has no student yet. Run the same distill train again to finish it"
    a_set = "out is a set of shards, no model. To train a student from it: distill train --shards out --out runs/NAME, then give runs/NAME."
    one = faces / "id0000" / "000.jpg"

    def answer(path):
        asked = (("evaluate", path, "--pairs", faces), ("compare", path, one, one), ("embed", faces, "new", "--teacher", path), ("export", path, "new"))
        done = [inside(*words) for words in asked]
        assert {one.returncode for one in done} == {2} and not Path("new").exists()
        with pytest.raises(DistillError) as caught:
            load_model(path)
        assert done[0].stderr == done[1].stderr == done[2].stderr == f"distill: {caught.value}\n"
        return str(caught.value), done[3].stderr.removeprefix("distill: ").removesuffix("\n")

    assert answer("runs/student") == (f"{stopped}.", f"{stopped}.")
    best = Path("runs/student/checkpoints/best.keras")
    best.write_bytes(b"x")
    way = f"{stopped}, or take the best student so far: "
    assert answer("runs/student") == (f"{way}{best}.", f"{way}distill export {best} OUT.")
    assert answer("out") == (a_set, a_set)
    model, student = answer("runs/studnt")
    assert model.startswith("No model at runs/studnt; expected a SavedModel folder") and model.endswith(" Did you mean runs/student?")
    assert student.startswith("runs/studnt: nothing is there. Did you mean runs/student? Expected a .keras or .h5 file")
    Path("exported/assets.extra").mkdir(parents=True)
    Path("exported", CARD).write_text('{"made_by": "distill 0.1.0"}')
    assert "exported is an export already, to ship as it is." in inside("export", "exported", "new").stderr


def test_a_shard_of_a_later_version_is_nobodys_to_write_beside(tmp_path):
    """Without a plan it is not known what it is, so nothing is begun in its folder."""
    (tmp_path / "shards").mkdir()
    said = {**json.loads(meta().to_json()), "version": 9}
    shard = tmp_path / "shards" / "00000-of-00001.parquet"
    pq.write_table(pa.table({"key": ["a"]}).replace_schema_metadata({b"distill": json.dumps(said).encode()}), shard)
    assert kind_of(tmp_path) is None
    with pytest.raises(DistillError, match="no part of a set"):
        check_folder(tmp_path, "set")


def test_a_saved_model_in_an_export_of_other_formats_is_no_part_of_it(tmp_path):
    (tmp_path / "student.onnx").write_bytes(b"x")
    (tmp_path / "README.md").write_bytes(b"")
    told = {"made_by": "distill 1", "exports": {"onnx": {"files": ["student.onnx"]}}, "readme_sha256": sha256(b"").hexdigest()}
    (tmp_path / "model.json").write_text(json.dumps(told))
    assert strange_in_export(tmp_path) == []
    (tmp_path / "saved_model.pb").write_bytes(b"mine")
    assert strange_in_export(tmp_path) == ["saved_model.pb"]


def test_scores_of_templates_alone_are_a_part_of_an_evaluation(tmp_path):
    np.savez(tmp_path / "scores-model-list.npz", template_scores=np.zeros(2))
    assert strange_names(tmp_path, KINDS["evaluation"].before) == []


def test_a_graph_does_not_take_the_weights_of_another_number(tmp_path):
    for name in ("model-1.meta", "model-10.index", "model-10.meta"):
        (tmp_path / name).touch()
    with pytest.raises(DistillError, match="without its weights"):
        find_index(tmp_path / "model-1.meta")
    assert find_index(tmp_path / "model-10.meta") == tmp_path / "model-10.index"


@pytest.mark.parametrize("content", ['{"mine": 1}', "[]", "no JSON"])
def test_exports_json_of_a_person_is_left_as_it_is(tmp_path, content):
    (tmp_path / "exports.json").write_text(content)
    _note(tmp_path, tmp_path / "out", {"exports": {"onnx": {"cosine_q01": 1.0}}, "proof": {"source": "images"}}, {"onnx": "student.onnx"})
    assert (tmp_path / "exports.json").read_text() == content
