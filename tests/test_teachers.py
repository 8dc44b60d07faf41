"""Teachers: small real models of every kind, and an error in one line for every wrong one."""

import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from distill import DistillError
from teachers import Teacher, limit_threads, load_teacher, open_teacher

SIZE, DIMENSION = 8, 3
IMAGES = np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3), np.uint8)
MEANS = IMAGES.astype(np.float64).mean((1, 2)).astype(np.float32)  # what `mean` models answer: red, green, blue


def means(x: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.cast(x, tf.float32), (1, 2))


def module(*specs: tf.TensorSpec, function: Callable = means, names: tuple[str, ...] = ("output",)) -> tuple:
    """A tf.Module of one weight, 1.0, and one signature of it; the function's answers get the names in order."""
    made = tf.Module()
    made.weight = tf.Variable(1.0)

    @tf.function(input_signature=list(specs), autograph=False)
    def call(*given: tf.Tensor) -> dict[str, tf.Tensor]:
        answer = function(*given)
        answers = answer if isinstance(answer, tuple) else (answer,)
        return {name: value * tf.cast(made.weight, value.dtype) for name, value in zip(names, answers, strict=True)}

    made.call = call
    return made, call


def saved(folder: Path, *specs: tf.TensorSpec, signature: str = "serving_default", **more: object) -> Path:
    made, call = module(*(specs or (pixels(),)), **more)  # type: ignore[arg-type]
    tf.saved_model.save(made, str(folder), signatures={signature: call})
    return folder


def pixels(*shape: int | None, dtype: tf.DType = tf.float32) -> tf.TensorSpec:
    return tf.TensorSpec(shape or (None, SIZE, SIZE, 3), dtype, name="images")


def net(dtype: str = "float32") -> keras.Model:
    given = keras.Input((SIZE, SIZE, 3), dtype=dtype, name="photo")
    x = keras.layers.Rescaling(1 / 127.5, -1.0)(given)
    x = keras.layers.Conv2D(4, 3, strides=2, use_bias=False)(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(0.5)(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(given, keras.layers.Dense(DIMENSION, name="embedding")(x))


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    return net()


@pytest.fixture(scope="module")
def mean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("mean") / "model")


def refused(path: Path, **how: object) -> str:
    with pytest.raises(DistillError) as caught:
        load_teacher(path, **how)(IMAGES)  # type: ignore[arg-type]
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message  # one line, whatever TensorFlow had to say
    return message


def test_a_plain_module(mean: Path) -> None:
    teacher = load_teacher(mean)
    assert (teacher.height, teacher.width, teacher.dimension) == (SIZE, SIZE, DIMENSION)
    answer = teacher(IMAGES)
    assert answer.dtype == np.float32
    assert answer.shape == (5, DIMENSION)
    np.testing.assert_allclose(answer, MEANS, rtol=1e-6)


def test_equals_the_signature_itself(tmp_path: Path, model: keras.Model) -> None:
    model.export(tmp_path / "model", verbose=False)
    function = tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"]
    ((name, _),) = function.structured_input_signature[1].items()
    ((_, expected),) = function(**{name: tf.constant(IMAGES.astype(np.float32))}).items()
    np.testing.assert_array_equal(load_teacher(tmp_path / "model")(IMAGES), expected.numpy())


@pytest.mark.parametrize("way", ["export", "saved_model", "keras", "h5", "run"])
def test_every_way_keras_writes_a_model(tmp_path: Path, model: keras.Model, way: str) -> None:
    path = tmp_path / {"keras": "model.keras", "h5": "model.h5"}.get(way, "model")
    if way == "export":
        model.export(path, verbose=False)
    elif way == "saved_model":
        tf.saved_model.save(model, str(path))
    elif way == "run":
        path.mkdir()
        model.save(path / "student.keras")
    else:
        model.save(path)
    teacher = load_teacher(path)
    np.testing.assert_allclose(teacher(IMAGES), model(IMAGES.astype(np.float32), training=False), rtol=1e-5, atol=1e-6)
    assert (teacher.height, teacher.width, teacher.dimension) == (SIZE, SIZE, DIMENSION)
    assert teacher.describe()["parameters"] == model.count_params() == 3 * 3 * 3 * 4 + 4 * 4 + 4 * 3 + 3


@pytest.mark.parametrize("dtype", [tf.uint8, tf.float16, tf.bfloat16, tf.float64])
def test_other_types_of_pixels(tmp_path: Path, dtype: tf.DType) -> None:
    path = saved(tmp_path / "model", pixels(dtype=dtype))
    np.testing.assert_allclose(load_teacher(path)(IMAGES), MEANS, rtol=1e-2 if dtype == tf.bfloat16 else 1e-6)


def test_a_keras_file_may_take_uint8(tmp_path: Path) -> None:
    net("uint8").save(tmp_path / "model.keras")
    assert load_teacher(tmp_path / "model.keras")(IMAGES).shape == (5, DIMENSION)


def test_the_answer_is_float32(tmp_path: Path) -> None:
    path = saved(tmp_path / "model", function=lambda x: tf.cast(means(x), tf.float16))
    answer = load_teacher(path)(IMAGES)
    assert answer.dtype == np.float32
    np.testing.assert_array_equal(answer, MEANS.astype(np.float16))


def test_scale_offset_and_color(mean: Path) -> None:
    np.testing.assert_allclose(load_teacher(mean, scale=1 / 127.5, offset=-1)(IMAGES), MEANS / 127.5 - 1, atol=1e-6)
    np.testing.assert_allclose(load_teacher(mean, color="bgr")(IMAGES), MEANS[:, ::-1], rtol=1e-6)
    bright = np.full((1, SIZE, SIZE, 3), (0, 128, 255), np.uint8)
    np.testing.assert_allclose(load_teacher(mean, scale=2, offset=10, color="bgr")(bright), [[520, 266, 10]])


def test_named_signatures_and_outputs(tmp_path: Path) -> None:
    made, double = module(pixels(), function=lambda x: (means(x), 2 * means(x)), names=("one", "two"))
    tf.saved_model.save(made, str(tmp_path / "model"), signatures={"faces": double})
    np.testing.assert_allclose(load_teacher(tmp_path / "model", output="two")(IMAGES), 2 * MEANS, rtol=1e-6)
    np.testing.assert_allclose(load_teacher(tmp_path / "model", signature="faces", output="one")(IMAGES), MEANS, rtol=1e-6)
    message = refused(tmp_path / "model")
    assert "no output 'output'" in message
    assert f"faces(images: float32 [N, {SIZE}, {SIZE}, 3]) -> one: float32 [N, 3], two: float32 [N, 3]" in message
    assert "no output 'three'. Choose with --output from: one, two" in refused(tmp_path / "model", output="three")
    assert "no signature 'serve'. Choose with --signature from: faces" in refused(tmp_path / "model", signature="serve")


def test_outputs_of_a_keras_file(tmp_path: Path) -> None:
    given = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.GlobalAveragePooling2D(name="gap")(given)
    keras.Model(given, [x, keras.layers.Dense(2, name="classes")(x)]).save(tmp_path / "list.keras")
    keras.Model(given, {"output": x, "other": keras.layers.Dense(2)(x)}).save(tmp_path / "dict.keras")
    np.testing.assert_allclose(load_teacher(tmp_path / "list.keras", output="gap")(IMAGES), MEANS, rtol=1e-5)
    np.testing.assert_allclose(load_teacher(tmp_path / "dict.keras")(IMAGES), MEANS, rtol=1e-5)
    assert load_teacher(tmp_path / "dict.keras", output="other").dimension == 2
    assert "Choose with --output from: gap, classes" in refused(tmp_path / "list.keras")
    assert "has no signatures" in refused(tmp_path / "list.keras", signature="serving_default")


@pytest.mark.parametrize("batch", [1, 2, 4, 5, 32])
def test_a_fixed_batch_is_split_and_filled(tmp_path: Path, batch: int) -> None:
    def rows_seen(x: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(x, (1, 2)) + 0 * tf.ensure_shape(x, [batch, SIZE, SIZE, 3])[:, 0, 0]

    path = saved(tmp_path / "model", pixels(batch, SIZE, SIZE, 3), function=rows_seen)
    np.testing.assert_allclose(load_teacher(path)(IMAGES), MEANS, rtol=1e-6)


def test_no_images_give_no_rows(mean: Path) -> None:
    assert load_teacher(mean)(IMAGES[:0]).shape == (0, DIMENSION)


def test_a_free_size(tmp_path: Path) -> None:
    teacher = load_teacher(saved(tmp_path / "model", pixels(None, None, None, 3)))
    assert (teacher.height, teacher.width, teacher.dimension) == (None, None, DIMENSION)
    np.testing.assert_allclose(teacher(IMAGES[:, :6]), IMAGES[:, :6].astype(np.float32).mean((1, 2)), rtol=1e-6)


def test_a_model_that_does_not_say_its_shapes(tmp_path: Path) -> None:
    path = saved(tmp_path / "model", tf.TensorSpec(None, name="images"))
    teacher = load_teacher(path)
    assert (teacher.height, teacher.width, teacher.dimension) == (None, None, DIMENSION)
    np.testing.assert_allclose(teacher(IMAGES), MEANS, rtol=1e-6)


def test_channels_first(tmp_path: Path) -> None:
    path = saved(tmp_path / "model", pixels(None, 3, 6, SIZE), function=lambda x: tf.reduce_mean(x, (2, 3)))
    teacher = load_teacher(path, color="bgr")
    assert (teacher.height, teacher.width) == (6, SIZE)
    np.testing.assert_allclose(teacher(IMAGES[:, :6]), IMAGES[:, :6, :, ::-1].astype(np.float32).mean((1, 2)), rtol=1e-6)
    assert teacher.describe()["channels"] == "first"


def test_pooled_maps_are_flattened(tmp_path: Path) -> None:
    path = saved(tmp_path / "model", function=lambda x: tf.reduce_mean(x, (1, 2), keepdims=True))
    teacher = load_teacher(path)
    assert teacher.dimension == DIMENSION
    np.testing.assert_allclose(teacher(IMAGES), MEANS, rtol=1e-6)


def test_not_finite_rows_are_handed_on(tmp_path: Path) -> None:
    path = saved(tmp_path / "model", function=lambda x: tf.math.log(means(x) - 1))
    answer = load_teacher(path)(np.stack([IMAGES[0], 0 * IMAGES[0]]))
    assert np.isfinite(answer[0]).all()
    assert np.isnan(answer[1]).all()


@pytest.mark.parametrize(
    ("spec", "function", "said"),
    [
        (pixels(None, SIZE, SIZE, 1), means, "'images' is float32 [N, 8, 8, 1]; expected [N, height, width, 3]"),
        (pixels(None, 192), lambda x: x, "'images' is float32 [N, 192]; expected [N, height, width, 3]"),
        (tf.TensorSpec([None], tf.string, name="jpeg"), lambda x: tf.ones((1, 3)), "'jpeg' is object [N]; expected [N, height, width, 3]"),
        (pixels(dtype=tf.int8), lambda x: tf.ones((1, 3)), "'images' is int8; expected pixels as float or uint8"),
        (pixels(), lambda x: x, "gives [N, 8, 8, 3] for N images; expected float [N, D]"),
        (pixels(), tf.reduce_sum, "gives [] for N images; expected float [N, D]"),
        (pixels(), lambda x: tf.argmax(means(x), -1)[:, None], "gives int64 [5, 1] for 5 images; expected float [N, D]"),
        (pixels(), lambda x: means(x)[:2], "gives float32 [2, 3] for 5 images; expected float [N, D]"),
    ],
)
def test_a_wrong_model_is_named_with_what_it_has(tmp_path: Path, spec: tf.TensorSpec, function: Callable, said: str) -> None:
    message = refused(saved(tmp_path / "model", spec, function=function))
    assert said in message
    assert "It has: serving_default(" in message


def test_two_inputs(tmp_path: Path) -> None:
    path = saved(tmp_path / "model", pixels(), tf.TensorSpec([], name="rate"), function=lambda x, rate: means(x) * rate)
    assert "takes 2 inputs, expected one" in refused(path)
    given = [keras.Input((SIZE, SIZE, 3)), keras.Input((1,))]
    keras.Model(given, keras.layers.Concatenate()([keras.layers.Flatten()(given[0]), given[1]])).save(tmp_path / "two.keras")
    assert "takes 2 inputs, expected one" in refused(tmp_path / "two.keras")


@pytest.mark.parametrize(
    ("images", "received"),
    [
        (IMAGES[:, :6], "uint8 [5, 6, 8, 3]"),
        (IMAGES.astype(np.float32), "float32 [5, 8, 8, 3]"),
        (IMAGES[0], "uint8 [8, 8, 3]"),
        (IMAGES[..., :1], "uint8 [5, 8, 8, 1]"),
        (IMAGES.tolist(), "list"),
    ],
)
def test_wrong_pixels(mean: Path, images: np.ndarray, received: str) -> None:
    with pytest.raises(DistillError) as caught:
        load_teacher(mean)(images)
    assert str(caught.value) == f"teacher {mean} received {received}; expected uint8 [N, 8, 8, 3]."


def test_what_is_no_number(mean: Path, tmp_path: Path) -> None:
    for how in ({"scale": 0}, {"scale": float("nan")}, {"offset": float("inf")}, {"color": "hsv"}):
        assert "expected" in refused(mean, **how)
    assert "Leave --scale and --offset away" in refused(saved(tmp_path / "model", pixels(dtype=tf.uint8)), scale=2)


def test_what_is_no_model(tmp_path: Path, mean: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    for name in ("broken.keras", "broken.h5"):
        (tmp_path / name).write_bytes(b"no model")
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "saved_model.pb").write_bytes((mean / "saved_model.pb").read_bytes()[:100])
    shutil.copytree(mean, tmp_path / "weightless", ignore=shutil.ignore_patterns("variables.*"))
    for name, said in (
        ("missing", "No teacher at"),
        ("empty", "folder without a model"),
        ("notes.txt", "no model that can be read"),
        ("broken.keras", "cannot be read by Keras"),
        ("broken.h5", "cannot be read by Keras"),
        ("cut", "as a SavedModel"),
        ("weightless", "as a SavedModel"),
    ):
        assert said in refused(tmp_path / name)
    assert f"Did you mean {mean}?" in refused(mean.parent)
    assert open_teacher(mean / "saved_model.pb") == open_teacher(mean)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_safe_mode_stays_on(tmp_path: Path, suffix: str) -> None:
    given = keras.Input((SIZE, SIZE, 3))
    path = tmp_path / f"model{suffix}"
    keras.Model(given, keras.layers.Lambda(lambda x: keras.ops.mean(x, (1, 2)), output_shape=(3,))(given)).save(path)
    message = refused(path)
    assert "safe mode" in message
    assert "Lambda" in message


def test_the_value_is_small_and_loads_once(mean: Path) -> None:
    teacher = open_teacher(mean, scale=1 / 127.5, offset=-1)
    assert len(pickle.dumps(teacher)) < 500
    assert pickle.loads(pickle.dumps(teacher)) == teacher
    with ThreadPoolExecutor(4) as pool:
        loaded = set(pool.map(lambda _: pickle.loads(pickle.dumps(teacher)).load(), range(8)))
    assert len(loaded) == 1
    assert open_teacher(mean).load() is not loaded.pop()


def test_a_model_written_anew_is_read_anew(tmp_path: Path, model: keras.Model) -> None:
    path = tmp_path / "student.keras"
    model.save(path)
    first, mark = load_teacher(tmp_path), open_teacher(path).fingerprint()
    keras.utils.set_random_seed(1)
    net().save(path)
    second = load_teacher(tmp_path)
    assert second is not first
    assert np.abs(second(IMAGES) - first(IMAGES)).max() > 1e-3
    assert open_teacher(path).fingerprint() != mark


def test_two_threads_give_the_same_bits(tmp_path: Path, model: keras.Model) -> None:
    model.export(tmp_path / "model", verbose=False)
    model.save(tmp_path / "model.keras")
    images = np.random.default_rng(1).integers(0, 256, (64, SIZE, SIZE, 3), np.uint8)
    for path in (tmp_path / "model", tmp_path / "model.keras"):
        teacher = load_teacher(path)
        alone = teacher(images)
        with ThreadPoolExecutor(2) as pool:
            for together in pool.map(lambda _, teacher=teacher: teacher(images), range(20)):
                np.testing.assert_array_equal(together, alone)


def test_the_fingerprint_is_of_what_answers(tmp_path: Path, mean: Path) -> None:
    mark = open_teacher(mean).fingerprint()
    assert re.fullmatch("[0-9a-f]{64}", mark)
    copy = tmp_path / "elsewhere"
    shutil.copytree(mean, copy)
    (copy / "notes.txt").write_text("kept beside the model")
    (copy / "fingerprint.pb").unlink(missing_ok=True)
    assert open_teacher(copy).fingerprint() == mark == open_teacher(copy, scale=2).fingerprint()
    weights = copy / "variables" / "variables.data-00000-of-00001"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert open_teacher(copy).fingerprint() != mark
    (copy / "assets").mkdir(exist_ok=True)
    weights.write_bytes((mean / "variables" / weights.name).read_bytes())
    (copy / "assets" / "words.txt").write_text("")
    assert open_teacher(copy).fingerprint() != mark


def test_describe_says_it_all(mean: Path) -> None:
    told = load_teacher(mean, scale=0.5).describe()
    assert told["input"] == "images: float32 [N, 8, 8, 3]"
    assert told["signatures"]["serving_default"]["outputs"] == {"output": "float32 [N, 3]"}
    assert (told["kind"], told["signature"], told["dimension"], told["parameters"]) == ("saved_model", "serving_default", 3, 1)
    assert told["fingerprint"] == open_teacher(mean).fingerprint()


def test_describing_loads_nothing(mean: Path) -> None:
    code = (
        "import sys; from teachers import limit_threads, open_teacher; limit_threads(1, 1); t = open_teacher(sys.argv[1]); t.fingerprint();"
        "assert not {'tensorflow', 'keras', 'apache_beam'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(mean)], check=True)


def test_threads_are_what_was_asked_for(mean: Path) -> None:
    code = """if True:
        import sys
        from teachers import limit_threads, load_teacher
        assert limit_threads(1, 2)
        load_teacher(sys.argv[1])
        import tensorflow as tf
        assert tf.config.threading.get_intra_op_parallelism_threads() == 1
        assert tf.config.threading.get_inter_op_parallelism_threads() == 2
        assert limit_threads(1, 2)
        assert not limit_threads(2)
        assert "apache_beam" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", code, str(mean)], check=True)
    with pytest.raises(DistillError, match="expected 0 or more"):
        limit_threads(-1)


def test_an_unknown_kind_lists_the_kinds() -> None:
    with pytest.raises(DistillError, match="expected one of: saved_model, keras"):
        Teacher("model.onnx", "onnx")
