"""Files of TensorFlow Lite as teachers, in both engines that read them: every kind of numbers that they keep, and what is no such file."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from teachers import LoadedTeacher, limit_threads, litert_file, load_teacher, open_teacher
from teachers.litert_file import Tensor
from tests.conftest import inside, once
from tests.teachers.small import DIMENSION, IMAGES, MEANS, SIZE, lowest, means, net, photos, refused, write

ENGINES = {"litert": litert_file._litert, "tensorflow": litert_file._tensorflow}
KINDS = ("float32", "float16", "dynamic", "int8", "uint8", "int8 inside")


def converted(call: Callable, *specs: tf.TensorSpec, kind: str = "float32", images: np.ndarray = IMAGES, **more: object) -> bytes:
    frozen = convert_variables_to_constants_v2(tf.function(call, input_signature=specs).get_concrete_function())
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
    if kind != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if "int8" in kind:
        converter.representative_dataset = lambda: ([image[None].astype(np.float32)] for image in images)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    if kind in ("int8", "uint8"):
        converter.inference_input_type = converter.inference_output_type = tf.as_dtype(kind)
    for name, value in more.items():
        setattr(converter, name, value)
    return converter.convert()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file for each of KINDS, that of one image at a time, one with a signature, and what Keras answers."""
    return once(tmp_path_factory, "litert", fill)


def fill(folder: Path) -> None:
    folder.mkdir()
    model = net()
    call = lambda photo: model(photo, training=False)  # noqa: E731
    for kind in KINDS:
        (folder / f"{kind}.tflite").write_bytes(converted(call, photos(), kind=kind))
    (folder / "single.tflite").write_bytes(converted(call, photos(1)))
    model.export(folder / "saved", verbose=False)
    (folder / "signed.tflite").write_bytes(tf.lite.TFLiteConverter.from_saved_model(str(folder / "saved")).convert())
    np.save(folder / "answers.npy", np.asarray(call(IMAGES.astype(np.float32))))


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Only that engine is there."""
    if ENGINES[request.param]() is None:
        pytest.skip("not installed")
    monkeypatch.setattr("teachers._loaded", {})
    for name in ENGINES.keys() - {request.param}:
        monkeypatch.setattr(litert_file, f"_{name}", lambda: None)
    return request.param


@pytest.mark.parametrize("kind", [*KINDS, "single", "signed"])
def test_every_kind_answers_as_keras_does(folder: Path, engine: str, kind: str) -> None:
    teacher, answers = load_teacher(folder / f"{kind}.tflite"), np.load(folder / "answers.npy")
    for rows in (64, 1, 3):
        found = teacher(IMAGES[:rows])
        assert found.dtype == np.float32 and found.shape == (rows, DIMENSION)
        assert lowest(found, answers[:rows]) > (0.98 if "int8" in kind else 0.995 if kind == "dynamic" else 0.99999)
        assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(answers[:rows]), rel=0.05)
    assert (teacher.height, teacher.width, teacher.dimension, teacher.batch) == (SIZE, SIZE, DIMENSION, 1 if kind == "single" else None)
    assert teacher.rough == (kind not in ("float32", "single", "signed"))
    told = teacher.describe()
    assert told["kind"] == "litert" and told["signature"] == ("serving_default" if kind == "signed" else None)
    # batch norm is folded into the convolution and its bias; Rescaling has two numbers, and what of it is kept is the converter's choice
    weights = 3 * 3 * 3 * 8 + 8 + 8 * 36 * DIMENSION + DIMENSION
    assert weights <= told["parameters"] <= weights + 8


def test_a_quantised_input_and_output_by_hand() -> None:
    byte = Tensor(0, np.dtype(np.int8), (None,), 0.5, -128)
    np.testing.assert_array_equal(byte.given(np.float32([0, 1, 1.2, 63.5, 200, -3])), np.int8([-128, -126, -126, -1, 127, -128]))
    np.testing.assert_array_equal(byte.meant(np.int8([-128, -126, 127])), np.float32([0, 1, 127.5]))
    plain = Tensor(0, np.dtype(np.uint8), (None,), 0.0, 0)
    assert plain.given(IMAGES) is IMAGES and plain.kind == np.uint8 and byte.kind == np.float32
    assert str(byte) == "int8 [N] (scale 0.5, zero point -128)"


@pytest.mark.parametrize("kind", ["int8", "uint8"])
def test_means_of_a_quantised_model_are_within_its_steps(tmp_path: Path, engine: str, kind: str) -> None:
    """Pixels are whole steps of an input whose calibration saw 0 and 255; the answer is off by half a step of the output."""
    ends = np.concatenate([IMAGES, np.zeros_like(IMAGES[:1]), np.full_like(IMAGES[:1], 255)])
    (tmp_path / "mean.tflite").write_bytes(converted(means, photos(), kind=kind, images=ends))
    teacher = load_teacher(tmp_path / "mean.tflite")
    np.testing.assert_allclose(teacher(IMAGES), MEANS, atol=1.01)
    np.testing.assert_allclose(load_teacher(tmp_path / "mean.tflite", color="bgr")(IMAGES), MEANS[:, ::-1], atol=1.01)


@pytest.mark.parametrize("how", [{"preset": "unit"}, {"preset": "insightface"}, {"offset": 400.0}, {"scale": 1000.0}])
def test_pixels_that_a_quantised_input_cannot_hold(folder: Path, how: dict) -> None:
    message = refused(folder / "int8.tflite", **how)
    assert "input 'photo' is int8 [N, 8, 8, 3] (scale 1, zero point -128): 0 to 255, but pixels * " in message
    assert message.endswith("Say what it was trained on: --preset, or --scale and --offset.")


def test_a_model_trained_on_other_pixels(tmp_path: Path, engine: str) -> None:
    """Its quantised input is -1 to 1; with the preset that says so, it answers as its float32 does."""
    scaled = [(IMAGES / 127.5 - 1).astype(np.float32), np.full((1, SIZE, SIZE, 3), -1, np.float32), np.full((1, SIZE, SIZE, 3), 1, np.float32)]
    (tmp_path / "mean.tflite").write_bytes(converted(means, photos(), kind="int8", images=np.concatenate(scaled)))
    np.testing.assert_allclose(load_teacher(tmp_path / "mean.tflite", preset="insightface")(IMAGES), MEANS / 127.5 - 1, atol=0.013)
    assert "(scale 0.00784, zero point -1): -0.9961 to 1.004, but pixels * 1 + 0 are 0 to 255." in refused(tmp_path / "mean.tflite")


def test_plain_bytes_a_free_size_and_channels_first(tmp_path: Path, engine: str) -> None:
    plain = write(tmp_path / "bytes.tflite", converted(lambda x: means(tf.cast(x, tf.float32)), tf.TensorSpec([None, SIZE, SIZE, 3], tf.uint8, name="x")))
    teacher = load_teacher(plain)
    np.testing.assert_allclose(teacher(IMAGES), MEANS, rtol=1e-5)
    assert not teacher.rough and teacher.describe()["input"] == "x: uint8 [N, 8, 8, 3]"
    assert "which pixels * 2 + 0 are not. Leave --preset, --scale and --offset away." in refused(plain, scale=2.0)
    free = load_teacher(write(tmp_path / "free.tflite", converted(means, tf.TensorSpec([None, None, None, 3], name="x"))))
    assert (free.height, free.width) == (None, None)
    for rows, height in ((64, 8), (5, 6), (64, 8)):
        np.testing.assert_allclose(free(IMAGES[:rows, :height]), IMAGES[:rows, :height].astype(np.float32).mean((1, 2)), rtol=1e-5)
    first = load_teacher(write(tmp_path / "first.tflite", converted(lambda x: tf.reduce_mean(x, (2, 3)), tf.TensorSpec([None, 3, SIZE, SIZE], name="x"))))
    np.testing.assert_allclose(first(IMAGES), MEANS, rtol=1e-5)
    assert first.describe()["channels"] == "first"


def test_names_and_other_inputs(tmp_path: Path, folder: Path, engine: str) -> None:
    def two(photo: tf.Tensor, phase: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"output": means(photo) * tf.where(phase, 2.0, 1.0), "other": means(photo)[:, :2]}

    made = tf.Module()
    made.call = tf.function(two, input_signature=[photos(), tf.TensorSpec([], tf.bool, name="phase")])
    tf.saved_model.save(made, str(tmp_path / "saved"), signatures={"faces": made.call})
    (tmp_path / "two.tflite").write_bytes(tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved"), signature_keys=["faces"]).convert())
    np.testing.assert_allclose(load_teacher(tmp_path / "two.tflite", feed={"phase": "false"})(IMAGES), MEANS, rtol=1e-5)
    np.testing.assert_allclose(load_teacher(tmp_path / "two.tflite", feed={"phase": True}, output="other")(IMAGES), MEANS[:, :2], rtol=1e-5)
    assert "Give the others a constant: --feed phase=false." in refused(tmp_path / "two.tflite")
    np.testing.assert_allclose(load_teacher(tmp_path / "two.tflite", input="photo", feed={"phase": "no"})(IMAGES), MEANS, rtol=1e-5)
    assert "has no input 'phone' that is not fed. Choose with --input from: " in refused(tmp_path / "two.tflite", input="phone")
    assert "Give the others a constant: --feed phase=false." in refused(tmp_path / "two.tflite", input="photo")
    assert "no output 'third'. Choose with --output from: " in refused(tmp_path / "two.tflite", feed={"phase": True}, output="third")
    assert "no signature 'serve'. Choose with --signature from: faces." in refused(tmp_path / "two.tflite", signature="serve")
    assert "has no signatures; received 'faces'. Leave --signature away" in refused(folder / "float32.tflite", signature="faces")
    assert "is no SavedModel, so it has no tags" in refused(folder / "float32.tflite", tags=["serve"])


def test_threads_share_nothing(folder: Path, engine: str) -> None:
    for kind in ("float32", "signed", "int8"):
        teacher = load_teacher(folder / f"{kind}.tflite")
        alone = {rows: teacher(IMAGES[:rows]) for rows in (64, 5)}
        with ThreadPoolExecutor(4) as pool:
            for together in pool.map(lambda number, teacher=teacher: teacher(IMAGES[: (64, 5)[number % 2]]), range(40)):
                np.testing.assert_array_equal(together, alone[len(together)])


def test_it_takes_the_threads_that_were_asked_for(folder: Path) -> None:
    loaded: list[LoadedTeacher] = []
    try:
        for threads in (1, 2):
            limit_threads(threads)
            loaded.append(load_teacher(folder / "float32.tflite"))
            assert load_teacher(folder / "float32.tflite") is loaded[-1]
    finally:
        limit_threads(0)
    assert loaded[0] is not loaded[1]


def test_what_is_no_such_file(tmp_path: Path, folder: Path, engine: str) -> None:
    whole = (folder / "float32.tflite").read_bytes()
    random = np.random.default_rng(0).bytes(5000)
    for name, data, said in (
        ("cut", whole[: len(whole) // 2], "cannot be read by LiteRT: The model is not a valid Flatbuffer"),
        ("short", whole[:20], "cannot be read by LiteRT: The model is not a valid Flatbuffer"),
        ("random", whole[:8] + random, "cannot be read by LiteRT: The model is not a valid Flatbuffer"),
        ("other", random, "is no TensorFlow Lite file: its bytes 5 to 8 are "),
        ("empty", b"", "is an empty file. Copy it again."),
        ("flat", converted(lambda x: x, tf.TensorSpec([None, 192], name="x")), "'x' is float32 [N, 192]; expected [N, height, width, 3]"),
        ("maps", converted(lambda x: x + 1, photos()), "expected float [N, D]. Choose another with --output or --signature."),
    ):
        (tmp_path / f"{name}.tflite").write_bytes(data)
        assert said in refused(tmp_path / f"{name}.tflite")
    assert "received uint8 [2, 8, 8, 3]; expected uint8 [N, 9, 8, 3]." in refused(
        write(tmp_path / "tall.tflite", converted(means, tf.TensorSpec([None, 9, SIZE, 3], name="x")))
    )


def test_operations_of_tensorflow_are_called_so(tmp_path: Path, engine: str) -> None:
    made = tf.function(lambda photo: tf.math.cumprod(means(photo), axis=1), input_signature=[photos()], autograph=False)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([made.get_concrete_function()])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    message = refused(write(tmp_path / "select.tflite", converter.convert()))
    assert "has operations of TensorFlow (SELECT_TF_OPS), which this interpreter lacks." in message


def test_without_an_engine_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("teachers._loaded", {})
    for name in ENGINES:
        monkeypatch.setattr(litert_file, f"_{name}", lambda: None)
    assert refused(folder / "float16.tflite").endswith("needs LiteRT: pip install -c constraints.txt '.[litert]' where distill's source lies")


def test_it_is_the_same_teacher_wherever_it_lies(tmp_path: Path, folder: Path) -> None:
    copy = write(tmp_path / "phone.TFLITE", (folder / "int8.tflite").read_bytes())
    assert open_teacher(copy).fingerprint() == open_teacher(folder / "int8.tflite").fingerprint()
    assert open_teacher(folder / "int8.tflite").fingerprint() != open_teacher(folder / "uint8.tflite").fingerprint()
    np.testing.assert_array_equal(load_teacher(copy)(IMAGES), load_teacher(folder / "int8.tflite")(IMAGES))


def test_verbs_take_such_a_file(tmp_path: Path, folder: Path) -> None:
    from PIL import Image

    for number, image in enumerate(IMAGES[:20]):
        (tmp_path / "photos" / f"id{number // 10}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "photos" / f"id{number // 10}" / f"{number}.png")
    path = folder / "int8.tflite"
    done = inside("embed", tmp_path / "photos", tmp_path / "out", "--teacher", path)
    assert done.returncode == 0, done.stderr
    assert inside("verify", tmp_path / "out", "--deep", "--teacher", path).returncode == 0
    told = inside("inspect", path)
    assert told.returncode == 0, told.stderr
    assert {
        "format: litert",
        "input: photo: float32 [N, 8, 8, 3]",
        f"output: {load_teacher(path).describe()['output'].partition(':')[0]}: float32 [N, 16]",
    } <= set(told.stdout.splitlines())
