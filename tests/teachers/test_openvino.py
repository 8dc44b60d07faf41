"""OpenVINO's pairs of files as teachers."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from distill.runtime.quiet import import_openvino
from distill.storage.objects import RemotePath
from teachers import limit_threads, load_teacher, open_teacher
from tests.conftest import distill, once, upload_all
from tests.teachers.small import DIMENSION, IMAGES, MEANS, SIZE, lowest, means, net, photos, refused

openvino = import_openvino()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """float32 and float16 weights of one net, and what Keras answers."""
    return once(tmp_path_factory, "openvino", fill)


def fill(models: Path) -> None:
    models.mkdir()
    model = net()
    model.export(models / "saved", verbose=False)
    found = openvino.convert_model(models / "saved")
    openvino.save_model(found, models / "float32.xml", compress_to_fp16=False)
    openvino.save_model(found, models / "float16.xml", compress_to_fp16=True)
    np.save(models / "answers.npy", np.asarray(model(IMAGES.astype(np.float32), training=False)))


def converted(path: Path, call: Callable, *specs: tf.TensorSpec) -> Path:
    openvino.save_model(openvino.convert_model(tf.function(call, input_signature=specs, autograph=False).get_concrete_function()), path)
    return path


@pytest.mark.parametrize("kind", ["float32", "float16"])
def test_it_answers_as_keras_does(models: Path, kind: str) -> None:
    teacher, answers = load_teacher(models / f"{kind}.xml"), np.load(models / "answers.npy")
    for rows in (64, 1, 3):
        found = teacher(IMAGES[:rows])
        assert found.dtype == np.float32 and found.shape == (rows, DIMENSION)
        assert lowest(found, answers[:rows]) > (0.999999 if kind == "float32" else 0.9999)
    assert (teacher.height, teacher.width, teacher.dimension, teacher.batch) == (SIZE, SIZE, DIMENSION, None)
    assert teacher.rough == (kind == "float16")
    # the scale of batch norm is folded into the convolution, its shift is 0 and left out; Rescaling has two numbers
    assert teacher.describe()["parameters"] == 3 * 3 * 3 * 8 + 8 * 36 * DIMENSION + DIMENSION + 2
    assert teacher.describe()["input"] == "photo: float32 [N, 8, 8, 3]"


def test_pixels_names_and_other_inputs(tmp_path: Path, models: Path) -> None:
    path = converted(
        tmp_path / "mean.xml", lambda photo, rate: {"one": means(photo) * rate, "two": means(photo)[:, :2]}, photos(), tf.TensorSpec([], name="rate")
    )
    load = lambda **how: load_teacher(path, feed={"rate": 2}, **how)  # noqa: E731
    first, second = (name for name in load(output=openvino_names(path)[0]).describe()["signatures"]["model"]["outputs"])
    np.testing.assert_allclose(load(output=first, scale=1 / 127.5, offset=-1, color="bgr")(IMAGES), 2 * (MEANS[:, ::-1] / 127.5 - 1), atol=1e-5)
    np.testing.assert_allclose(load(output=second)(IMAGES), MEANS[:, :2], rtol=1e-5)
    assert f"no output 'third'. Choose with --output from: {first}, {second}." in refused(path, feed={"rate": 2}, output="third")
    assert "Give the others a constant: --feed rate=0." in refused(path)
    assert "which has no signatures; received 'serve'. Leave --signature away" in refused(models / "float32.xml", signature="serve")


def openvino_names(path: Path) -> list[str]:
    return [port.get_any_name() for port in openvino.Core().read_model(str(path)).outputs]


def test_a_fixed_batch_and_channels_first(tmp_path: Path) -> None:
    path = converted(tmp_path / "mean.xml", lambda photo: tf.reduce_mean(photo, (2, 3)), tf.TensorSpec([2, 3, SIZE, SIZE], name="photo"))
    teacher = load_teacher(path)
    assert (teacher.batch, teacher.describe()["channels"]) == (2, "first")
    np.testing.assert_allclose(teacher(IMAGES[:5]), MEANS[:5], rtol=1e-5)


def test_the_fingerprint_is_of_both_files_and_of_no_name(tmp_path: Path, models: Path) -> None:
    mark = open_teacher(models / "float32.xml").fingerprint()
    for end in (".xml", ".bin"):
        shutil.copy(models / f"float32{end}", tmp_path / f"other{end}")
    assert open_teacher(tmp_path / "other.xml").fingerprint() == mark == open_teacher(tmp_path / "other.bin").fingerprint()
    data = bytearray((tmp_path / "other.bin").read_bytes())
    data[100] ^= 1
    (tmp_path / "other.bin").write_bytes(data)
    assert open_teacher(tmp_path / "other.xml").fingerprint() != mark


def test_what_is_no_such_model(tmp_path: Path, models: Path) -> None:
    text, weights = (models / "float32.xml").read_bytes(), (models / "float32.bin").read_bytes()
    for name, xml, more, said in (
        ("cut", text[: len(text) // 2], weights, "If one of its two files was cut off on its way, copy both again."),
        ("short", text, weights[: len(weights) // 2], "Incorrect weights in bin file!"),
        ("other", b"<?xml version='1.0'?><annotation/>", weights, "is no OpenVINO model: an .xml file, but none that begins with <net ...>."),
        ("empty", b"", weights, "is an empty file. Copy it again."),
        ("alone", text, None, "has its weights in alone.bin, expected in the same folder, where it is not. Put that file there too."),
    ):
        (tmp_path / f"{name}.xml").write_bytes(xml)
        if more is not None:
            (tmp_path / f"{name}.bin").write_bytes(more)
        assert said in refused(tmp_path / f"{name}.xml")
    assert "expected [N, height, width, 3]" in refused(converted(tmp_path / "flat.xml", lambda x: x * 2, tf.TensorSpec([None, 192], name="x")))
    (tmp_path / "lone.bin").write_bytes(weights)
    assert "is no model that can be read here" in refused(tmp_path / "lone.bin")


def test_threads_share_nothing_and_are_as_many_as_asked(models: Path) -> None:
    try:
        limit_threads(1)
        teacher = load_teacher(models / "float32.xml")
        alone = {rows: teacher(IMAGES[:rows]) for rows in (64, 5)}
        with ThreadPoolExecutor(4) as pool:
            for together in pool.map(lambda number: teacher(IMAGES[: (64, 5)[number % 2]]), range(20)):
                np.testing.assert_array_equal(together, alone[len(together)])
        limit_threads(2)
        assert load_teacher(models / "float32.xml") is not teacher
    finally:
        limit_threads(0)


def test_both_files_come_from_a_store(models: Path, folder: RemotePath) -> None:
    upload_all(models, folder)
    np.testing.assert_array_equal(load_teacher(str(folder / "float32.xml"))(IMAGES), load_teacher(models / "float32.xml")(IMAGES))


def test_inspect_needs_no_tensorflow_and_nothing_is_reported(models: Path, tmp_path: Path) -> None:
    """OpenVINO's telemetry would make a folder `intel` in the home folder at the import."""
    done = distill("inspect", models / "float32.xml", env={**os.environ, "HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert {"format: openvino", "input: photo: float32 [N, 8, 8, 3]"} <= set(done.stdout.splitlines())
    assert not (tmp_path / "intel").exists()


def test_without_openvino_the_extra_is_named(models: Path) -> None:
    code = "import sys; sys.modules['openvino'] = None; from distill.cli import main; sys.argv[0] = 'distill'; main()"
    done = subprocess.run([sys.executable, "-c", code, "inspect", str(models / "float32.xml")], capture_output=True, text=True)
    assert done.returncode == 2
    assert "needs OpenVINO: pip install -c constraints.txt '.[openvino]' where distill's source lies (" in done.stderr
