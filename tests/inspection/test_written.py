"""inspect knows what distill writes, and takes nothing of it for a list of images."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from distill.data.columns import labels_of, numbers_of
from distill.data.kinds import read_card
from distill.inspection.describe import in_words
from distill.storage.files import committed
from tests.conftest import inside, messages

RUN = '[data]\nshards = "out"\n[[stage]]\nsource = "shards"\nepochs = 2\nterms = [{ name = "cosine" }]\n'


def found(path):
    done = inside("inspect", path, "--json")
    assert done.returncode == 0, done.stderr
    assert inside("inspect", path).stdout.startswith("kind: ")
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def made(tmp_path_factory, faces, quick):
    """One of everything that is made without TensorFlow."""
    root = tmp_path_factory.mktemp("written")
    model = shutil.copy(quick, root / "mean.onnx")
    photo = faces / "id0000" / "000.jpg"
    for words in (
        ("embed", faces, root / "out", "--teacher", model, "--rows", 60),
        ("evaluate", model, "--pairs", faces, "--number", 20, "--out", root / "judged"),
        ("faces", root / "drawn", "--identities", 2, "--images", 2, "--size", 16),
        ("views", photo, "--out", root / "views.png"),
        ("inspect", model, "--preset", "none", "--save"),
    ):
        done = inside(*words)
        assert done.returncode == 0, done.stderr
    (root / "run.toml").write_text(RUN)
    return root


@pytest.mark.parametrize(
    "name, kind, key, value",
    [
        ("run.toml", "run file", "stages", ["stage 1: 2 epochs on shards, learning from cosine"]),
        ("out", "set of shards", "rows", 120),
        ("out/plan.json", "plan of a set", "chunks", 2),
        ("out/shards/_index.json", "index of a set", "rows", 120),
        ("out/shards/_00000-of-00002.json", "chunk record", "rows", 60),
        ("out/shards/_00000-of-00002.rejects.jsonl", "rejects of a chunk", "rejects", 0),
        ("judged", "evaluation", None, None),
        ("judged/evaluation.json", "evaluation", None, None),
        ("judged/scores-model.npz", "scores of an evaluation", "scores_rows", 20),
        ("drawn", "image list", "rows", 4),
        ("drawn/.drawing.json", "description of drawn faces", "size", 16),
        ("views.png", "contact sheet of views", "mode", "RGB"),
        ("mean.model.json", "model.json", "format", "distill.model.1"),
        ("mean.onnx", "model", "format", "onnx"),
    ],
)
def test_what_distill_writes_is_known(made, name, kind, key, value):
    answer = found(made / name)
    assert answer["kind"] == kind and (key is None or answer[key] == value), answer


def test_an_image_is_told_with_its_size(faces):
    answer = found(faces / "id0000" / "000.jpg")
    assert (answer["kind"], answer["width"], answer["height"], answer["mode"], answer["format"], answer["exif_rotation"]) == (
        "image",
        32,
        32,
        "RGB",
        "JPEG",
        "none",
    )
    assert len(answer["sha256"]) == 64


def test_a_folder_of_drawn_faces_says_how_they_were_drawn(made):
    assert found(made / "drawn")["drawn"]["identities"] == 2


def test_a_run_file_with_a_mistake_says_it(tmp_path):
    (tmp_path / "run.toml").write_text(RUN.replace("epochs", "epoch"))
    answer = found(tmp_path / "run.toml")
    assert answer["valid"] is False and "Did you mean epochs" in answer["problems"][0]


@pytest.mark.parametrize(
    "name, text", [("x.json", "{}"), ("x.json", "[1]"), ("x.json", "{"), ("x.html", "<html>a</html>"), ("x.toml", "a = ["), ("x.toml", "a = 1")]
)
def test_what_is_another_programs_is_no_image_list(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    done = inside("inspect", tmp_path / name)
    assert done.returncode == 2 and str(tmp_path / name) in done.stderr and len(messages(done)) == 1 and not done.stdout


def test_looking_at_parquet_loads_nothing_heavy(made):
    code = (
        "import sys; from distill.cli import outcome\n"
        "codes = [outcome(['inspect', path]) for path in sys.argv[1:]]\n"
        "heavy = ('pandas', 'h5py', 'cv2', 'skimage', 'PIL', 'simplejpeg', 'tensorflow', 'keras', 'apache_beam', 'onnxruntime', 'psutil')\n"
        "print(codes, [name for name in heavy if name in sys.modules])\n"
    )
    paths = [str(made / "out" / name) for name in ("", "shards/00000-of-00002.parquet", "chunks", "chunks/00001-of-00002.parquet")]
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "[0, 0, 0, 0] []", done.stdout + done.stderr


def test_columns_are_read_as_arrow_stores_them():
    """Nulls, parts that begin in the middle of a byte of the bits that say so, lists, and no rows at all."""
    kept = pa.array([0, None, 2, 3, None, 5, 6, 7, 8, None, 10], pa.int32())
    assert labels_of(kept).tolist() == [0, -1, 2, 3, -1, 5, 6, 7, 8, -1, 10] and labels_of(kept).dtype == np.int32
    assert labels_of(kept[3:10]).tolist() == [3, -1, 5, 6, 7, 8, -1] and labels_of(kept[5:8]).tolist() == [5, 6, 7]
    assert labels_of(kept[4:4]).tolist() == [] and labels_of(pa.array([None, None], pa.int32())).tolist() == [-1, -1]
    rows = pa.array([[1.5, 2], [3, 4], [5, 6]], pa.list_(pa.float16(), 2))
    assert numbers_of(rows, "float16").tolist() == [[1.5, 2], [3, 4], [5, 6]] and numbers_of(rows[1:], "float16").tolist() == [[3, 4], [5, 6]]
    assert numbers_of(rows[3:], "float16").shape == (0, 2) and numbers_of(pa.array([7, 8], pa.int8())[1:], "int8").tolist() == [8]


def test_words_are_for_people():
    meta = {"output": None, "image": {"height": 32}}
    found = {"kind": "x", "next": "distill y", "rows": 5_822_653, "gigabytes": 0.025, "bytes": 24_500_000, "every_row_labelled": True, "meta": meta}
    assert in_words(found).splitlines() == [
        "kind: x",
        "rows: 5,822,653",
        "size: 24.5 MB",
        "every row labelled: yes",
        "meta:",
        "  output: none",
        "  image: height 32",
        "next: distill y",
    ]
    assert [in_words({"bytes": size}) for size in (0, 139, 1670, 6_000_000_000_000)] == ["size: 0 bytes", "size: 139 bytes", "size: 1.67 kB", "size: 6,000 GB"]


@pytest.mark.parametrize(
    "name, words",
    [
        ("out", "distill verify {0} --deep\ndistill train --shards {0} --out runs/NAME"),
        ("out/chunks", "distill embed {} OUT --root FOLDER --teacher MODEL"),
        ("drawn", "distill embed {} OUT --teacher MODEL"),
        ("mean.onnx", "distill embed SOURCE OUT --teacher {}"),
    ],
)
def test_the_last_line_says_what_comes_next(made, name, words):
    lines = [line.removeprefix("next: ") for line in inside("inspect", made / name).stdout.splitlines() if line.startswith("next: ")]
    assert lines == [command.format(made / name) for command in words.split("\n")]


@pytest.mark.parametrize("name, text", [("x.json", "{}"), ("x.html", "<html>a</html>"), ("x.toml", "a = 1")])
def test_nor_is_it_far_away(folder, name, text):
    for path, words in ((folder / name, text), (folder / "run.toml", RUN)):
        with committed(path) as temporary:
            temporary.write_text(words)
    done = inside("inspect", folder / name)
    assert done.returncode == 2 and str(folder / name) in done.stderr and not done.stdout
    assert found(folder / "run.toml")["kind"] == "run file"


def test_a_card_that_is_not_as_export_writes_it_is_no_export(tmp_path):
    (tmp_path / "model.json").write_text('{"made_by": "distill 1", "exports": {"onnx": {}}}')
    assert read_card(tmp_path) is None
    (tmp_path / "model.json").write_text('{"made_by": "distill 1", "exports": {"onnx": {"file": "student.onnx", "bytes": 3, "cosine_q01": 1}}}')
    assert read_card(tmp_path) is not None
    done = inside("inspect", tmp_path)
    assert done.returncode in (0, 2) and "Traceback" not in done.stderr
