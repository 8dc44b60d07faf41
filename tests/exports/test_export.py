"""Exports: signatures that give the student's embeddings, and nothing of anybody else's is ever overwritten."""

import io
import json
import os
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from distill import DistillError
from distill.data.kinds import CARD, read_card
from distill.exports.export import student_file
from distill.exports.place import refuse_existing, tidy
from distill.exports.saved_model import sizes_of
from distill.exports.work import open_student
from distill.images.codec import decode, encode_jpeg
from distill.storage.files import sweep
from tests.exports.conftest import DIMENSION, HEIGHT, WIDTH, save_student
from tests.exports.conftest import exported_by as export


def empty_zip(path):
    with zipfile.ZipFile(path, "w"):
        return path


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    """One export for all tests (a start of TensorFlow each), put in the place of an earlier one, under a name that is a pattern to TensorFlow."""
    out = tmp_path_factory.mktemp("export") / "deep" / "[v2] student*?"
    (out / CARD).parent.mkdir(parents=True)
    (out / CARD).write_text('{"made_by": "distill 0.0.1"}')
    (out / "keras_metadata.pb").write_text("of the earlier export")
    with pytest.raises(DistillError, match="--force"):
        export(run, out)
    return out, export(run, out, force=True)


@pytest.fixture(scope="module")
def signatures(exported, tmp_path_factory):
    import tensorflow as tf

    link = tmp_path_factory.mktemp("plain") / "student"
    link.symlink_to(exported[0])
    loaded = tf.saved_model.load(str(link))
    functions = {name: getattr(loaded, name) for name in ("uint8", "normalized", "encoded")}
    return {"serving_default": loaded.signatures["serving_default"], **functions}, link, loaded


def test_float_and_uint8_signatures_give_the_students_embeddings(signatures, pictures, expected):
    import tensorflow as tf

    served = signatures[0]
    np.testing.assert_allclose(served["serving_default"](tf.constant(pictures, tf.float32))["output"], expected(pictures), atol=1e-5)
    np.testing.assert_allclose(served["uint8"](images=tf.constant(pictures))["output"], expected(pictures), atol=1e-5)
    assert served["serving_default"](tf.zeros([0, HEIGHT, WIDTH, 3]))["output"].shape == (0, DIMENSION)


def test_what_the_signatures_are_called_and_take(signatures):
    import tensorflow as tf

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:  # as a server loads it
        served = tf.compat.v1.saved_model.loader.load(session, ["serve"], str(signatures[1])).signature_def
    assert served.keys() - {"__saved_model_init_op"} == {"serving_default", "uint8", "normalized", "encoded"}
    for name, dtype in [("serving_default", tf.float32), ("uint8", tf.uint8), ("normalized", tf.float32), ("encoded", tf.string)]:
        given, answer = served[name].inputs["images"], served[name].outputs["output"]
        assert given.dtype == dtype.as_datatype_enum and served[name].inputs.keys() == {"images"}
        sizes = [dim.size for dim in given.tensor_shape.dim]
        assert sizes == ([-1] if dtype == tf.string else [-1, HEIGHT, WIDTH, 3])
        assert [dim.size for dim in answer.tensor_shape.dim] == [-1, DIMENSION]


def test_normalized_gives_embeddings_of_length_1(signatures, pictures, expected):
    import tensorflow as tf

    received = signatures[0]["normalized"](tf.constant(pictures, tf.float32))["output"].numpy()
    np.testing.assert_allclose(np.linalg.norm(received, axis=1), 1, atol=1e-6)
    lengths = np.linalg.norm(expected(pictures), axis=1, keepdims=True)
    np.testing.assert_allclose(received * lengths, expected(pictures), atol=1e-5)


@pytest.mark.parametrize("whole", [False, True])
def test_the_converter_of_tensorflow_lite_takes_an_export_as_guides_write_it(signatures, pictures, expected, whole):
    """float32, and whole int8 with calibration: one signature, with the student's embeddings."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(str(signatures[1]))
    if whole:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([picture[None].astype(np.float32)] for picture in pictures)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    interpreter = tf.lite.Interpreter(model_content=converter.convert())
    assert interpreter.get_signature_list() == {"serving_default": {"inputs": ["images"], "outputs": ["output"]}}
    interpreter.allocate_tensors()
    given, answer = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    for picture in pictures:
        interpreter.set_tensor(given, picture[None].astype(np.float32))
        interpreter.invoke()
        np.testing.assert_allclose(interpreter.get_tensor(answer)[0], expected(picture[None])[0], atol=0.02 if whole else 1e-5)
    kinds = {tensor["dtype"] for tensor in interpreter.get_tensor_details() if "conv" in tensor["name"].lower()}
    assert (np.int8 in kinds) == whole


def test_encoded_signature_sees_the_pixels_of_our_decoder(signatures, pictures, expected):
    import tensorflow as tf
    from PIL import Image

    def saved(picture, mode, format, **options):
        file = io.BytesIO()
        Image.fromarray(picture).convert(mode).save(file, format, **options)
        return file.getvalue()

    data = [
        encode_jpeg(pictures[0]),
        saved(pictures[1], "RGB", "JPEG", quality=60, subsampling=2, progressive=True),
        saved(pictures[2], "L", "JPEG", quality=90),
        saved(pictures[3], "RGB", "PNG"),
        saved(pictures[4], "P", "PNG"),
        saved(pictures[5], "RGBA", "PNG"),
    ]
    pixels = np.stack([decode(one) for one in data])
    np.testing.assert_allclose(signatures[0]["encoded"](images=tf.constant(data))["output"], expected(pixels), atol=1e-5)
    assert signatures[0]["encoded"](images=tf.zeros([0], tf.string))["output"].shape == (0, DIMENSION)


@pytest.mark.parametrize("signature", ["serving_default", "uint8", "normalized"])
def test_an_export_goes_back_in_as_a_teacher(exported, pictures, expected, signature):
    from teachers import load_teacher

    teacher = load_teacher(str(exported[0]), signature=signature)
    assert (teacher.height, teacher.width, teacher.dimension) == (HEIGHT, WIDTH, DIMENSION)
    lengths = np.linalg.norm(expected(pictures), axis=1, keepdims=True) if signature == "normalized" else 1
    np.testing.assert_allclose(teacher(pictures), expected(pictures) / lengths, atol=1e-5)
    assert list(teacher.describe()["signatures"]) == ["encoded", "normalized", "serving_default", "uint8"]


@pytest.mark.parametrize("data, words", [(b"GIF89a, no picture at all", "JPEG or a PNG"), (encode_jpeg(np.zeros((8, 8, 3), np.uint8)), "20x24")])
def test_encoded_signature_refuses_what_is_no_picture_of_its_size(signatures, data, words):
    import tensorflow as tf

    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        signatures[0]["encoded"](images=tf.constant([data]))


def test_the_card_says_what_it_is(run, exported):
    out, facts = exported
    assert (facts["height"], facts["width"], facts["dimension"]) == (HEIGHT, WIDTH, DIMENSION)
    assert facts["parameters"] == 3 * 3 * 3 * 4 + 4 + 4 * 4 + 4 * DIMENSION + DIMENSION
    assert max(facts["difference"].values()) <= 1e-5 and set(facts["difference"]) == {"serving_default", "uint8", "normalized", "encoded"}
    assert facts["teacher"] is None  # a run of its own, no shards
    assert facts["path"] == str(out) and facts["bytes"] > 1000
    own = ("made_by", "format", "student", "teacher", "height", "width", "dimension", "parameters", "signatures", "difference", "tensorflow", "keras")
    assert read_card(out) == {name: facts[name] for name in own}


def test_an_earlier_export_is_replaced_whole(exported):
    out, facts = exported
    assert not (out / "keras_metadata.pb").exists()
    assert [path.name for path in out.parent.iterdir()] == [out.name]  # no temporary name is left


# Puts the export "new" in the place of the one that stands, and dies at the rename of the given number.
DIES = """
import os, sys
from pathlib import Path
from distill.exports.place import put
left = int(sys.argv[2])
def watch(event, arguments):
    global left
    if event == "os.rename":
        left -= 1
        if left == 0:
            os._exit(9)
out = Path(sys.argv[1])
sys.addaudithook(watch)
put(out.with_name("new"), out)
"""


@pytest.mark.parametrize("rename, there", [(1, "old"), (2, "old"), (3, "new")])
def test_a_kill_in_the_swap_loses_no_export(run, tmp_path, rename, there):
    for name in ("student", "new"):
        (tmp_path / name / CARD).parent.mkdir(parents=True)
        (tmp_path / name / CARD).write_text('{"made_by": "distill 0.0.1"}')
        (tmp_path / name / "saved_model.pb").write_text("old" if name == "student" else "new")
    assert subprocess.run([sys.executable, "-c", DIES, str(tmp_path / "student"), str(rename)]).returncode == 9
    sweep(tmp_path)
    with pytest.raises(DistillError, match="holds an earlier export.*--force"):
        export(run, tmp_path / "student")
    assert (tmp_path / "student" / "saved_model.pb").read_text() == there and read_card(tmp_path / "student")
    assert {path.name for path in tmp_path.iterdir()} - {"new"} == {"student"}


def test_what_a_person_put_into_an_export_outlives_a_kill_in_the_swap(tmp_path):
    """Killed when the new one had its name and .gitignore was still in the earlier one; and what is nobody's there is not removed either."""
    out, earlier = tmp_path / "student", tmp_path / ".student.earlier"
    for folder in (out, earlier):
        (folder / CARD).parent.mkdir(parents=True)
        (folder / CARD).write_text('{"made_by": "distill 0.0.1"}')
    (earlier / ".gitignore").write_text("mine")
    tidy(out)
    assert (out / ".gitignore").read_text() == "mine" and [path.name for path in tmp_path.iterdir()] == ["student"]
    shutil.copytree(out, earlier)
    (earlier / "thesis.txt").write_text("mine")
    (earlier / ".gitignore").write_text("another")
    tidy(out)
    assert (earlier / "thesis.txt").read_text() == "mine" and (earlier / ".gitignore").read_text() == "another"
    with pytest.raises(DistillError, match=r"\.student\.earlier has the name .* Move it away"):
        refuse_existing(out, force=True)


def test_an_export_sweeps_what_a_dead_one_left(run, tmp_path):
    code = "import os, sys, pathlib, distill.storage.files as f; (f.temporary_for(pathlib.Path(sys.argv[1])) / 'variables').mkdir(parents=True); os._exit(9)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "student")])
    assert len(list(tmp_path.iterdir())) == 1
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / "photo.jpg").write_text("no export")
    with pytest.raises(DistillError, match="left alone"):
        export(run, tmp_path / "student")
    assert [path.name for path in tmp_path.iterdir()] == ["student"]


def test_what_is_not_ours_is_left_alone(run, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "only.jpg").write_bytes(b"precious")
    (tmp_path / "file").write_text("text")
    (tmp_path / "link").symlink_to("photos")
    for name in ("photos", "file", "link"):
        with pytest.raises(DistillError, match="left alone|is a file"):
            export(run, tmp_path / name, force=True)
    assert (tmp_path / "photos" / "only.jpg").read_bytes() == b"precious"


def test_wrong_input_is_one_message(tmp_path):
    with pytest.raises(DistillError, match=r"is a folder without student\.keras\. Expected a \.keras or \.h5 file"):
        export(tmp_path, tmp_path / "out")
    with pytest.raises(DistillError, match="'onnx_' is unknown. Expected one of: saved_model"):
        export(tmp_path, tmp_path / "out", "onnx_")
    (tmp_path / "text.keras").write_text("no model")
    with pytest.raises(DistillError, match="text.keras is no .keras file") as caught:
        export(tmp_path / "text.keras", tmp_path / "out")
    assert "\n" not in str(caught.value)
    with pytest.raises(DistillError, match="cannot be opened as a Keras model"):
        open_student(str(empty_zip(tmp_path / "zip.keras")))
    assert student_file(tmp_path / "text.keras") == tmp_path / "text.keras"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.keras", "zip.keras"]


def test_a_model_that_is_no_student_is_refused(tmp_path):
    with pytest.raises(DistillError, match=r"outputs \[\(None, 5\), \(None, 5\)\]. Expected a student"):
        sizes_of(open_student(str(save_student(tmp_path / "two.keras", outputs=2))))
    with pytest.raises(DistillError, match=r"inputs are \[\(None, None, None, 3\)\]"):
        sizes_of(open_student(str(save_student(tmp_path / "free.keras", None, None))))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["free.keras", "two.keras"]


def test_importing_the_room_loads_no_tensorflow():
    code = "import sys, json, distill.exports.export; print(json.dumps([name for name in ('tensorflow', 'keras') if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ))
    assert json.loads(done.stdout) == []
