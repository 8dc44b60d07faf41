"""Teachers: small real models of every kind, and an error in one line for every wrong one."""

import json
import pickle
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import skimage.io
import tensorflow as tf
from onnx import external_data_helper, helper, numpy_helper

from distill import DistillError
from distill.data.shards import open_shards
from distill.images.preprocessing import PRESETS
from distill.storage.objects import RemotePath
from pipelines.label import lost_by
from teachers import EXPECTED, Teacher, limit_threads, load_teacher, open_teacher
from teachers.causes import reason
from teachers.loaded import call_failed
from teachers.onnx_file import external_files, look_inside
from teachers.trial import check_teacher
from tests.conftest import inside, messages, put, upload_all
from tests.stores import Store

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


FILTERS = np.random.default_rng(2).integers(-3, 4, (4, 3, 3, 3)).astype(np.float32)  # [outputs, channels, height, width], as in ONNX
FACE = ("N", 3, SIZE, SIZE)


def by_hand(images: np.ndarray, scale: float = 1.0, offset: float = 0.0) -> np.ndarray:
    """What `convolving` models answer: 3x3 filters at every second place, and the mean over all places."""
    windows = np.lib.stride_tricks.sliding_window_view(images * scale + offset, (3, 3), (1, 2))[:, ::2, ::2]
    return np.einsum("nyxcij,ocij->no", windows, FILTERS) / (windows.shape[1] * windows.shape[2])


def convolving(path: Path, shape: tuple = FACE, dtype: int = onnx.TensorProto.FLOAT, last: bool = False, **saving: object) -> Path:
    """An ONNX file: [transpose,] cast, convolve, pool, flatten. Outputs: output [N, 4], pooled [N, 4, 1, 1]."""
    nodes = [helper.make_node("Transpose", ["photo"], ["turned"], perm=(0, 3, 1, 2))] if last else []
    nodes += [
        helper.make_node("Cast", ["turned" if last else "photo"], ["x"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Conv", ["x", "filters"], ["maps"], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["maps"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["output"]),
    ]
    return write(path, nodes, shape, dtype, {"output": ("N", 4), "pooled": ("N", 4, 1, 1)}, **saving)


def write(path: Path, nodes: list, shape: tuple | None, dtype: int, outputs: dict[str, tuple | None], **saving: object) -> Path:
    """An ONNX file of one input, `photo`, and the filters as weights."""
    float32 = onnx.TensorProto.FLOAT
    given = [helper.make_tensor_value_info("photo", dtype, shape)]
    answers = [helper.make_tensor_value_info(name, float32, sizes) for name, sizes in outputs.items()]
    graph = helper.make_graph(nodes, "net", given, answers, [numpy_helper.from_array(FILTERS, "filters")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path), **saving)
    return path


@pytest.fixture(scope="module")
def convolver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convolving(tmp_path_factory.mktemp("onnx") / "model.onnx")


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
    assert "takes 2 inputs, 2 of them not fed; expected one, for the images. Give the others a constant: --feed rate=0." in refused(path)
    given = [keras.Input((SIZE, SIZE, 3)), keras.Input((1,))]
    keras.Model(given, keras.layers.Concatenate()([keras.layers.Flatten()(given[0]), given[1]])).save(tmp_path / "two.keras")
    assert "takes 2 inputs, 2 of them not fed" in refused(tmp_path / "two.keras")


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
    assert "Leave --preset, --scale and --offset away" in refused(saved(tmp_path / "model", pixels(dtype=tf.uint8)), scale=2)


def test_an_onnx_file_is_read_once_and_again_when_it_changed(tmp_path: Path) -> None:
    path = convolving(tmp_path / "model.onnx")
    first = look_inside(path)
    assert first.parameters == FILTERS.size == 108 and look_inside(path) is first
    model = onnx.load(str(path))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(5, np.float32), "more"))
    onnx.save(model, str(path))
    assert look_inside(path).parameters == 108 + 5


def test_what_is_no_model(tmp_path: Path, mean: Path, convolver: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    for name in ("broken.keras", "broken.h5"):
        (tmp_path / name).write_bytes(b"no model")
    for name, data in (("broken", b"no model"), ("empty", b""), ("cut", convolver.read_bytes()[:300]), ("graphless", b"\x08\x08")):
        (tmp_path / f"{name}.onnx").write_bytes(data)
    (tmp_path / "nameless.onnx").write_bytes(convolver.read_bytes().replace(b"photo", b"\xff" * 5))
    (tmp_path / "random.onnx").write_bytes(np.random.default_rng(0).bytes(5000))
    write(tmp_path / "opless.onnx", [helper.make_node("Guess", ["photo"], ["output"])], FACE, onnx.TensorProto.FLOAT, {"output": ("N", 4)})
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "saved_model.pb").write_bytes((mean / "saved_model.pb").read_bytes()[:100])
    shutil.copytree(mean, tmp_path / "weightless", ignore=shutil.ignore_patterns("variables.*"))
    for name, said in (
        ("missing", "No model at"),
        ("empty", "folder without a model"),
        ("notes.txt", "no model that can be read"),
        ("broken.keras", "is no Keras file: it begins with b'no model', expected a .keras (zip) or .h5 (HDF5) file."),
        ("broken.h5", "is no Keras file: it begins with b'no model'"),
        ("broken.onnx", "is no ONNX file, or it is damaged or cut off (Error parsing message"),
        ("empty.onnx", "is an empty file. Copy it again."),
        ("cut.onnx", "is no ONNX file, or it is damaged or cut off"),
        ("random.onnx", "is no ONNX file, or it is damaged or cut off"),
        ("graphless.onnx", "cannot be read by onnxruntime"),
        ("opless.onnx", "cannot be read by onnxruntime"),
        ("nameless.onnx", "cannot be read by onnxruntime"),
        ("cut", "saved_model.pb is damaged or cut off"),
        ("weightless", "as a SavedModel"),
    ):
        assert said in refused(tmp_path / name)
    for path in (mean, convolver):
        assert f"Did you mean {path}?" in refused(path.parent)
    assert open_teacher(mean / "saved_model.pb") == open_teacher(mean)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_safe_mode_stays_on(tmp_path: Path, suffix: str) -> None:
    given = keras.Input((SIZE, SIZE, 3))
    path = tmp_path / f"model{suffix}"
    keras.Model(given, keras.layers.Lambda(lambda x: keras.ops.mean(x, (1, 2)), output_shape=(3,))(given)).save(path)
    message = refused(path)
    assert "it has a Lambda layer, code of its own, which is never run here. Export it as a SavedModel" in message
    assert "safe_mode" not in message.replace(str(path), "")


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


def test_two_threads_give_the_same_bits(tmp_path: Path, model: keras.Model, convolver: Path) -> None:
    model.export(tmp_path / "model", verbose=False)
    model.save(tmp_path / "model.keras")
    images = np.random.default_rng(1).integers(0, 256, (64, SIZE, SIZE, 3), np.uint8)
    for path in (tmp_path / "model", tmp_path / "model.keras", convolver):
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


def test_describing_loads_nothing(mean: Path, convolver: Path, tmp_path: Path) -> None:
    for name in ("a.tflite", "a.xml", "a.bin", "a.pb", "b.meta", "b.index", "b.data-00000-of-00001"):
        (tmp_path / name).write_bytes(b"whatever is in it")
    code = """if True:
        import sys
        from teachers import limit_threads, open_teacher
        limit_threads(1, 1)
        open_teacher(sys.argv[1]).fingerprint()
        kinds = [open_teacher(f"{sys.argv[3]}/{name}") for name in ("a.tflite", "a.xml", "a.bin", "a.pb", "b.meta", "b", "b.index")]
        assert [one.kind for one in kinds] == ["litert", "openvino", "openvino", "tf1", "tf1", "tf1", "tf1"]
        assert len({one.fingerprint() for one in kinds}) == 3  # of one file, two, three
        assert not {"tensorflow", "keras", "apache_beam", "onnxruntime", "onnx", "openvino", "ai_edge_litert"} & set(sys.modules)
        open_teacher(sys.argv[2]).fingerprint()  # onnx alone says which files hold weights
        assert not {"tensorflow", "keras", "apache_beam", "onnxruntime"} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", code, str(mean), str(convolver), str(tmp_path)], check=True)


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
    with pytest.raises(DistillError, match="expected one of: saved_model, keras, onnx, litert"):
        Teacher("model.tflite", "tflite")


@pytest.mark.parametrize(
    ("shape", "dtype", "channels"),
    [
        (FACE, "float32", "first"),
        (("N", SIZE, SIZE, 3), "float32", "last"),
        (FACE, "uint8", "first"),
        (("N", SIZE, SIZE, 3), "uint8", "last"),
        (FACE, "float16", "first"),
        (FACE, "float64", "first"),
        ((1, 3, SIZE, SIZE), "float32", "first"),
        ((2, SIZE, SIZE, 3), "uint8", "last"),
        ((32, 3, SIZE, SIZE), "float16", "first"),
        (("batch", 3, "height", "width"), "float32", "first"),
        ((None, "height", "width", 3), "float32", "last"),
        (("batch", "channels", "height", "width"), "float32", "first"),
        (None, "float32", "first"),
    ],
)
def test_onnx_gives_what_a_person_computes(tmp_path: Path, shape: tuple | None, dtype: str, channels: str) -> None:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    teacher = load_teacher(convolving(tmp_path / "model.onnx", shape, kind, channels == "last"))
    np.testing.assert_allclose(teacher(IMAGES), by_hand(IMAGES), rtol=1e-5, atol=1e-3)
    fixed = (SIZE, SIZE) if shape and SIZE in shape else (None, None)
    batch = shape[0] if shape and isinstance(shape[0], int) else None
    assert (teacher.height, teacher.width, teacher.batch, teacher.dimension) == (*fixed, batch, 4)
    told = teacher.describe()
    assert (told["kind"], told["channels"], told["parameters"]) == ("onnx", channels, 4 * 3 * 3 * 3)
    assert teacher(IMAGES[:0]).shape == (0, 4)


def test_onnx_pixels_and_outputs(convolver: Path) -> None:
    teacher = load_teacher(convolver, scale=1 / 127.5, offset=-1, color="bgr")
    np.testing.assert_allclose(teacher(IMAGES), by_hand(IMAGES[..., ::-1], 1 / 127.5, -1), atol=1e-4)
    np.testing.assert_array_equal(load_teacher(convolver, output="pooled")(IMAGES), load_teacher(convolver)(IMAGES))
    assert "no output 'three'. Choose with --output from: output, pooled. It has: model(photo: float32 [N, 3, 8, 8])" in refused(convolver, output="three")
    message = refused(convolver, signature="serving_default")
    assert "has no signatures; received 'serving_default'" in message
    assert "-> output: float32 [N, 4], pooled: float32 [N, 4, 1, 1]." in message


def test_onnx_as_converters_write_it(tmp_path: Path, convolver: Path) -> None:
    """Weights that are inputs too, as MXNet has them, and an answer that claims one row for any number of images, as insightface's do."""
    model = onnx.load(str(convolver))
    model.ir_version = 3
    model.graph.input.append(helper.make_tensor_value_info("filters", onnx.TensorProto.FLOAT, FILTERS.shape))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, (1, 4)))
    del model.graph.output[1]
    onnx.save(model, str(tmp_path / "model.onnx"))
    np.testing.assert_allclose(load_teacher(tmp_path / "model.onnx")(IMAGES), by_hand(IMAGES), rtol=1e-5, atol=1e-3)


FLOAT, IDENTITY = onnx.TensorProto.FLOAT, [helper.make_node("Cast", ["photo"], ["output"], to=onnx.TensorProto.FLOAT)]


@pytest.mark.parametrize(
    ("nodes", "shape", "dtype", "answer", "said"),
    [
        (IDENTITY, ("N", 192), FLOAT, ("N", 192), "'photo' is float32 [N, 192]; expected [N, height, width, 3] or [N, 3, height, width]"),
        (IDENTITY, ("N", 1, SIZE, SIZE), FLOAT, None, "'photo' is float32 [N, 1, 8, 8]; expected [N, height, width, 3]"),
        (IDENTITY, FACE, onnx.TensorProto.INT8, None, "'photo' is int8; expected pixels as float or uint8"),
        (IDENTITY, ("N",), onnx.TensorProto.STRING, None, "'photo' is string; expected pixels as float or uint8"),
        (IDENTITY, FACE, FLOAT, FACE, "gives [N, 3, 8, 8] for N images; expected float [N, D]"),
        ([helper.make_node("ReduceSum", ["photo"], ["output"], keepdims=0)], FACE, FLOAT, None, "expected float [N, D]"),
        ([helper.make_node("Flatten", ["filters"], ["output"])], FACE, FLOAT, None, "gives float32 [4, 27] for 5 images"),
        ([helper.make_node("Add", ["photo", "filters"], ["output"])], FACE, FLOAT, None, "cannot be read by onnxruntime"),
    ],
)
def test_a_wrong_onnx_model_is_named(tmp_path: Path, nodes: list, shape: tuple, dtype: int, answer: tuple | None, said: str) -> None:
    message = refused(write(tmp_path / "model.onnx", nodes, shape, dtype, {"output": answer}))
    assert said in message
    assert "It has: model(" in message or "cannot be read" in message


def test_onnx_that_takes_two_inputs_or_fails_on_one(tmp_path: Path, convolver: Path) -> None:
    model = onnx.load(str(convolver))
    model.graph.input.append(helper.make_tensor_value_info("rate", FLOAT, ()))
    onnx.save(model, str(tmp_path / "two.onnx"))
    message = refused(tmp_path / "two.onnx")
    assert "takes 2 inputs, 2 of them not fed; expected one, for the images. Give the others a constant: --feed rate=0. It has: model(photo:" in message
    free = load_teacher(convolving(tmp_path / "free.onnx", ("N", 3, "height", "width")))
    with pytest.raises(DistillError, match=r"free.onnx fails on float32 \[5, 3, 2, 8\]: ") as caught:
        free(IMAGES[:, :2])  # smaller than a filter
    assert "\n" not in str(caught.value)


def test_weights_beside_an_onnx_file(tmp_path: Path, convolver: Path) -> None:
    folder = tmp_path / "first"
    folder.mkdir()
    path = convolving(folder / "model.onnx", save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    np.testing.assert_array_equal(load_teacher(path)(IMAGES), load_teacher(convolver)(IMAGES))
    told, weights = load_teacher(path).describe(), folder / "model.onnx.data"
    assert told["bytes"] == path.stat().st_size + FILTERS.nbytes
    assert told["parameters"] == FILTERS.size
    mark = open_teacher(path).fingerprint()
    shutil.copytree(folder, tmp_path / "second")
    (tmp_path / "second" / "notes.txt").write_text("kept beside the model")
    assert open_teacher(tmp_path / "second" / "model.onnx").fingerprint() == mark != open_teacher(convolver).fingerprint()
    first = load_teacher(path)(IMAGES)
    weights.write_bytes((2 * FILTERS).tobytes())
    assert open_teacher(path).fingerprint() != mark
    np.testing.assert_allclose(load_teacher(path)(IMAGES), 2 * first, rtol=1e-6)
    weights.unlink()
    for ask in (lambda: refused(path), lambda: str(pytest.raises(DistillError, open_teacher(path).fingerprint).value)):
        assert "keeps weights in 'model.onnx.data', expected in the same folder, where it is not." in ask()


def test_weights_beside_an_onnx_file_in_a_store(store: Store, folder: RemotePath, tmp_path: Path, convolver: Path) -> None:
    """One file of weights beside the model, and one a folder below; 10 of 100 requests fail."""
    (tmp_path / "near").mkdir()
    path = convolving(tmp_path / "near" / "model.onnx", save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    model = onnx.load(str(path), load_external_data=False)
    below = helper.make_tensor("below", onnx.TensorProto.FLOAT, (1,), vals=b"\0\0\0\0", raw=True)
    external_data_helper.set_external_data(below, "deep/er/below.bin", offset=0, length=4)
    below.ClearField("raw_data")
    model.graph.initializer.append(below)
    path.write_bytes(model.SerializeToString())
    (path.parent / "deep" / "er").mkdir(parents=True)
    (path.parent / "deep" / "er" / "below.bin").write_bytes(bytes(4))
    upload_all(path.parent, folder / "far")
    store.faults(0.1, seed=3)
    near, far = open_teacher(path), open_teacher(str(folder / "far" / "model.onnx"))
    assert far.fingerprint() == near.fingerprint() != open_teacher(convolver).fingerprint()
    assert [name for name, _ in far.files()] == ["model", "deep/er/below.bin", "model.onnx.data"] == [name for name, _ in near.files()]
    np.testing.assert_array_equal(far.load()(IMAGES), near.load()(IMAGES))
    store.faults(0.0)
    far.load()(IMAGES)
    assert not sum(store.counts().values())  # once in a process


def test_an_onnx_file_in_a_store_without_its_weights_is_named(folder: RemotePath, tmp_path: Path) -> None:
    (tmp_path / "near").mkdir()
    path = convolving(tmp_path / "near" / "model.onnx", save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    (path.parent / "model.onnx.data").unlink()
    for name, data in (("lacking", path.read_bytes()), ("leaving", path.read_bytes().replace(b"model.onnx.data", b"../m.onnx.data1"))):
        put(folder / name / "model.onnx", data)
    put(folder / "broken.onnx", b"broken")
    put(folder / "m.onnx.data1", FILTERS.tobytes())
    for name, expected in (
        ("lacking/model.onnx", "keeps weights in 'model.onnx.data', expected in the same folder, where it is not. Put that file there too."),
        ("leaving/model.onnx", "keeps weights in '../m.onnx.data1'; expected a name within its own folder."),
        ("broken.onnx", "is no ONNX file, or it is damaged or cut off (Error parsing message"),
    ):
        assert refused(folder / name).startswith(f"teacher {folder / name} {expected}")


def test_external_files_are_found_wherever_a_tensor_stands(tmp_path: Path) -> None:
    """In a weight, a node, a list of tensors, a branch and a function: as onnx itself finds them."""

    def outside(name: str) -> onnx.TensorProto:
        (tmp_path / f"{name}.bin").write_bytes(bytes(4))
        tensor = numpy_helper.from_array(np.zeros(1, np.float32), name)
        external_data_helper.set_external_data(tensor, f"{name}.bin", offset=0, length=4)
        tensor.ClearField("raw_data")
        return tensor

    def branch(name: str) -> onnx.GraphProto:
        answer = helper.make_tensor_value_info(name, FLOAT, (1,))
        return helper.make_graph([helper.make_node("Constant", [], [name], value=outside(name))], name, [], [answer])

    node = helper.make_node("If", ["photo"], ["output"], then_branch=branch("then"), else_branch=branch("else"))
    node.attribute.append(helper.make_attribute("list", [outside("listed")]))
    graph = helper.make_graph([node], "net", [], [], [outside("weights")])
    inner = [helper.make_node("Constant", [], ["y"], value=outside("inside"))]
    function = helper.make_function("own", "Inner", [], ["y"], inner, [helper.make_opsetid("", 17)])
    model = helper.make_model(graph, functions=[function])
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    found = dict(external_files(tmp_path / "model.onnx"))
    assert set(found) == {"then.bin", "else.bin", "listed.bin", "weights.bin", "inside.bin"}
    assert all(path == tmp_path / name for name, path in found.items())


@pytest.mark.parametrize("name", ["../secret.bin", "/etc/hostname", "a/../../secret.bin", "..\\secret.bin", "", "*/_ORT_MEM_ADDR_/*", "a\0b"])
def test_no_weights_are_read_from_elsewhere(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.bin").write_bytes(FILTERS.tobytes())
    (tmp_path / "inside").mkdir()
    model = onnx.load(str(convolving(tmp_path / "inside" / "model.onnx")))
    external_data_helper.set_external_data(model.graph.initializer[0], name)
    model.graph.initializer[0].ClearField("raw_data")
    (tmp_path / "inside" / "model.onnx").write_bytes(model.SerializeToString())
    assert f"keeps weights in {name!r}" in refused(tmp_path / "inside" / "model.onnx")


def test_a_damaged_onnx_file_is_an_error_or_none(tmp_path: Path, convolver: Path) -> None:
    whole, rng, path = convolver.read_bytes(), np.random.default_rng(3), tmp_path / "model.onnx"
    refusals = 0
    for _ in range(500):
        data = bytearray(whole[: rng.integers(1, len(whole) + 1)])
        for place in rng.integers(0, len(data), rng.integers(0, 4)):
            data[place] = rng.integers(256)
        path.write_bytes(data)
        try:
            external_files(path)
        except DistillError:
            refusals += 1
    assert 300 < refusals < 500


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ("onnxruntime", "needs onnxruntime: pip install -c constraints.txt '.[onnx]' where distill's source lies ("),
        ("onnx", "needs the package onnx beside onnxruntime: pip install onnx ("),
    ],
)
def test_onnx_without_its_packages_says_what_to_install(convolver: Path, missing: str, told: str) -> None:
    """Whoever lacks onnx alone may have onnxruntime-gpu, which the extra would overwrite."""
    code = f"import sys; sys.modules['{missing}'] = None; from distill.cli import main; sys.argv[0] = 'distill'; main()"
    done = subprocess.run([sys.executable, "-c", code, "inspect", str(convolver)], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(f"distill: teacher {convolver} {told}")
    assert len(messages(done)) == 1


def test_onnx_threads_are_what_was_asked_for(convolver: Path) -> None:
    """One thread is the caller's own. The same batch on as many threads gives the same bits in every process."""
    code = """if True:
        import hashlib, sys
        import numpy as np, onnxruntime, psutil
        from teachers import limit_threads, load_teacher
        images = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3), np.uint8)
        before, more, marks = psutil.Process().num_threads(), [], []
        loaded = []
        for threads in (1, 3, 1):
            limit_threads(threads)
            loaded.append(load_teacher(sys.argv[1]))
            assert load_teacher(sys.argv[1]) is loaded[-1]
            marks.append(hashlib.sha256(loaded[-1](images)).hexdigest())
            more.append(psutil.Process().num_threads() - before)
        assert len(set(loaded)) == 3 and "tensorflow" not in sys.modules
        print(*more, marks[0], marks[2])
    """
    runs = [subprocess.run([sys.executable, "-c", code, str(convolver)], check=True, capture_output=True, text=True) for _ in range(2)]
    (one, three, _, mark, again), other = (run.stdout.split() for run in runs)
    assert (one, three) == ("0", "2")
    assert {mark, again} == {*other[3:]}
    assert mark == again


def test_presets_are_the_habits_they_name(convolver: Path) -> None:
    pixel = np.arange(256, dtype=np.float32)
    for name, expected in (("insightface", (pixel - 127.5) / 127.5), ("insightface-128", (pixel - 127.5) / 128), ("unit", pixel / 255)):
        scale, offset, color = PRESETS[name]
        np.testing.assert_allclose(pixel * np.float32(scale) + np.float32(offset), expected, atol=2e-7)
        assert open_teacher(convolver, preset=name) == open_teacher(convolver, scale=scale, offset=offset, color=color)
    assert open_teacher(convolver, preset="none") == open_teacher(convolver)
    message = refused(convolver, preset="insightface", scale=1.0, color="bgr")
    assert "--preset insightface and --scale 1.0 and --color bgr both say what pixels it sees" in message
    assert "preset 'face', expected one of: none, unit, insightface, insightface-128." in refused(convolver, preset="face")


def test_embedding_with_a_preset_is_what_onnxruntime_gives(tmp_path: Path, faces: Path) -> None:
    path = convolving(tmp_path / "model.onnx", ("N", 3, 32, 32))
    done = inside("embed", faces, tmp_path / "out", "--teacher", path, "--preset", "insightface", "--dtype", "float32", "--rows", 50, "--batch", 16)
    assert done.returncode == 0, done.stderr
    session, shards, rows = onnxruntime.InferenceSession(str(path)), open_shards(tmp_path / "out"), 0
    for number in range(3):
        for got in shards.read(number):
            pixels = np.stack([skimage.io.imread(faces / key) for key in got.keys]).transpose(0, 3, 1, 2)
            (expected,) = session.run(["output"], {"photo": (pixels.astype(np.float32) - 127.5) / 127.5})
            np.testing.assert_allclose(got.embeddings, expected, atol=1e-5)
            rows += len(got.keys)
    assert rows == 120
    refusal = inside("embed", faces, tmp_path / "other", "--teacher", path, "--preset", "unit", "--scale", 1)
    assert refusal.returncode == 2
    assert "--preset unit and --scale 1.0 both say" in refusal.stderr
    photos = sorted(faces.rglob("*.jpg"))[:2]
    left, right = by_hand(np.stack([skimage.io.imread(photo) for photo in photos]), 1 / 127.5, -1)
    for words in (("--preset", "insightface"), ("--scale", 1 / 127.5, "--offset", -1)):
        cosine = json.loads(inside("compare", path, *photos, *words, "--json").stdout)["cosines"][0][1]
        assert cosine == pytest.approx(left @ right / np.sqrt((left @ left) * (right @ right)), abs=1e-5)
    checked = inside("verify", tmp_path / "out", "--teacher", path, "--sample", 20)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("kind", ["onnx", "saved_model", "keras"])
def test_inspect_describes_a_model(tmp_path: Path, model: keras.Model, mean: Path, convolver: Path, kind: str) -> None:
    model.save(tmp_path / "model.keras")
    path = {"onnx": convolver, "saved_model": mean, "keras": tmp_path / "model.keras"}[kind]
    given = {"onnx": "photo: float32 [N, 3, 8, 8]", "saved_model": "images: float32 [N, 8, 8, 3]", "keras": "photo: float32 [N, 8, 8, 3]"}
    answer = {"onnx": "output: float32 [N, 4]", "saved_model": "output: float32 [N, 3]", "keras": "embedding: float32 [N, 3]"}[kind]
    done = inside("inspect", path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert {"kind: model", f"format: {kind}", f"input: {given[kind]}", f"output: {answer}"} <= set(lines)
    assert f"fingerprint: {open_teacher(path).fingerprint()}" in lines
    assert "signatures:" in lines
    assert given[kind].partition(": ")[2] in lines[-2] and lines[-1] == f"next: distill embed SOURCE OUT --teacher {path}"


# --------------------------------------------------------------------------------------------------------- files that are something else


def rewritten(path: Path, target: Path, change: Callable[[dict], None]) -> Path:
    """A copy of a Keras file whose layers were changed, each config at a time: as another Keras would have written it."""

    def fixed(text: str | bytes) -> str:
        config = json.loads(text)
        for layer in config["config"]["layers"]:
            change(layer)
        return json.dumps(config)

    if path.suffix == ".h5":
        shutil.copy(path, target)
        with h5py.File(target, "r+") as file:
            file.attrs["model_config"] = fixed(file.attrs["model_config"])
        return target
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as copy:
        for name in source.namelist():
            copy.writestr(name, fixed(source.read(name)) if name == "config.json" else source.read(name))
    return target


def as_keras_2(layer: dict) -> None:
    if layer["class_name"] in ("DepthwiseConv2D", "SeparableConv2D", "Conv2DTranspose"):
        layer["config"]["groups"] = 1
    if layer["class_name"] == "SeparableConv2D":
        layer["config"].update(kernel_initializer={"class_name": "GlorotUniform", "config": {"seed": None}}, kernel_regularizer=None, kernel_constraint=None)


@pytest.fixture(scope="module")
def separable(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """Folder of model.keras and model.h5 with the layers whose arguments Keras has changed, and what they answer."""
    folder, layers = tmp_path_factory.mktemp("separable"), keras.layers
    keras.utils.set_random_seed(0)
    given = keras.Input((SIZE, SIZE, 3))
    x = layers.Conv2DTranspose(4, 3)(layers.SeparableConv2D(4, 3)(layers.DepthwiseConv2D(3)(given)))
    made = keras.Model(given, layers.Dense(DIMENSION)(layers.Flatten()(x)))
    for suffix in ("keras", "h5"):
        made.save(folder / f"model.{suffix}")
    return folder, np.asarray(made(IMAGES.astype(np.float32)))


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_arguments_of_keras_2_that_change_nothing(separable: tuple[Path, np.ndarray], tmp_path: Path, suffix: str) -> None:
    folder, expected = separable
    path = rewritten(folder / f"model.{suffix}", tmp_path / f"old.{suffix}", as_keras_2)
    np.testing.assert_allclose(load_teacher(path)(IMAGES), expected, rtol=1e-4, atol=1e-4)
    path = rewritten(folder / f"model.{suffix}", tmp_path / f"other.{suffix}", lambda layer: layer["config"].update(flux=7))
    message = refused(path)
    assert "cannot be read by Keras" in message
    assert "{'flux': 7}. Export it as a SavedModel with the Keras that made it" in message
    assert len(message) < 500


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_the_suffix_of_a_keras_file_does_not_matter(separable: tuple[Path, np.ndarray], tmp_path: Path, suffix: str) -> None:
    folder, expected = separable
    path = tmp_path / {"keras": "[zip] *.h5", "h5": "hdf?.keras"}[suffix]
    shutil.copy(folder / f"model.{suffix}", path)
    np.testing.assert_allclose(load_teacher(path)(IMAGES), expected, rtol=1e-4, atol=1e-4)


def test_what_is_cut_empty_or_something_else_is_called_so(separable: tuple[Path, np.ndarray], mean: Path, convolver: Path, tmp_path: Path) -> None:
    folder, pointer = separable[0], b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    whole = {suffix: (folder / f"model.{suffix}").read_bytes() for suffix in ("keras", "h5")} | {"onnx": convolver.read_bytes()}
    for suffix, cut in (("keras", "is cut off: a zip archive without its end."), ("h5", "cannot be opened as HDF5: "), ("onnx", "or it is damaged or cut off")):
        for name, data, said in (
            ("cut", whole[suffix][: len(whole[suffix]) // 2], cut),
            ("none", b"", "is an empty file. Copy it again."),
            ("lfs", pointer, "is a pointer of Git LFS, not the file itself. Fetch it: git lfs pull."),
            ("page", b"\n<!DOCTYPE html><html>", "is a web page (HTML), not a model."),
        ):
            (tmp_path / f"{name}.{suffix}").write_bytes(data)
            assert said in refused(tmp_path / f"{name}.{suffix}")
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file.attrs["layer_names"] = ["dense"]
    assert "holds weights without the model that they belong to" in refused(tmp_path / "weights.h5")
    with zipfile.ZipFile(tmp_path / "zip.keras", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "a zip archive of readme.txt, expected config.json and weights in it" in refused(tmp_path / "zip.keras")
    data = bytearray(whole["keras"])
    data[len(data) // 2] ^= 255
    (tmp_path / "flipped.keras").write_bytes(data)
    assert "model.weights.h5 in it has another checksum than it was written with" in refused(tmp_path / "flipped.keras")
    for name, said in (
        ("a.pt", "PyTorch file, which runs code when it is read. Export it as ONNX"),
        ("a.mlmodel", "is of a system that is not read here"),
        ("a.zip", "is an archive. Unpack it"),
        ("a.safetensors", "holds weights without the model"),
        ("a.pkl", "is a pickle"),
    ):
        (tmp_path / name).touch()
        assert said in refused(tmp_path / name)
    (tmp_path / "trained").mkdir()
    (tmp_path / "trained" / "checkpoint").touch()
    (tmp_path / "trained" / "ckpt-1.index").touch()
    (tmp_path / "trained" / "last.weights.h5").touch()
    assert "holds weights without the model" in refused(tmp_path / "trained")
    for inside_it in ("saved/saved_model.pb", "run/student.keras", "best.onnx"):  # the first by name is meant
        (tmp_path / "trained" / inside_it).parent.mkdir(exist_ok=True)
        (tmp_path / "trained" / inside_it).touch()
        wanted = min(tmp_path / "trained" / name for name in ("saved", "run", "best.onnx") if (tmp_path / "trained" / name).exists())
        assert f"is a folder without a model; {EXPECTED}. Did you mean {wanted}?" in refused(tmp_path / "trained")
    for name, said in (("saved_model.pb", "saved_model.pb is a pointer of Git LFS"), ("variables/variables.index", "variables.index is a pointer of Git")):
        shutil.copytree(mean, tmp_path / "pointer", dirs_exist_ok=True)
        (tmp_path / "pointer" / name).write_bytes(pointer)
        assert said in refused(tmp_path / "pointer")
    shutil.copytree(mean, tmp_path / "weightless", ignore=shutil.ignore_patterns("variables*"))
    assert "its folder lacks variables/variables.index" in refused(tmp_path / "weightless")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyError("config.json"), "KeyError: 'config.json'."),
        (AssertionError(), "AssertionError."),
        (ValueError("Cannot do A. If you trust it, pass `safe_mode=False` to the loading function."), "Cannot do A."),
        (TypeError("Error when deserializing class 'D' using config={" + "x" * 5000 + "}.\n\nException encountered: no 'groups'"), "no 'groups'."),
        (
            RuntimeError(
                "Graph execution error:\n\nDetected at node a defined at (most recent call last):\n<stack traces unavailable>\n"
                "Input has 36 values, not 8\n\t [[{{node a}}]] [Op:__inference_5]"
            ),
            "Input has 36 values, not 8.",
        ),
        (RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code. " + "a " * 900 + "which is the cause"), "which is the cause."),
    ],
)
def test_the_cause_is_said_in_one_line(error: Exception, said: str) -> None:
    line = reason(error)
    assert line.endswith(said)
    assert len(line) < 520
    assert "\n" not in line


@pytest.mark.parametrize("name", ["[v2] model*?", "a:b", "back\\slash", "#%20 'quoted\"", "\u00fcn\u00efcode", "-dash"])
@pytest.mark.parametrize("kind", ["saved_model", "keras", "h5", "onnx"])
def test_letters_of_a_path_are_letters(
    tmp_path: Path, mean: Path, convolver: Path, separable: tuple[Path, np.ndarray], kind: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = {"saved_model": mean, "onnx": convolver}.get(kind) or separable[0] / f"model.{kind}"
    target = name + ("" if kind == "saved_model" else source.suffix)
    monkeypatch.chdir(tmp_path)
    (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    np.testing.assert_array_equal(load_teacher(target)(IMAGES), load_teacher(source)(IMAGES))


def test_every_sequential_is_read(tmp_path: Path) -> None:
    """As keras writes them: flat, nested, with an augmentation in it (which rests in inference), and never called."""
    layers = keras.layers
    keras.utils.set_random_seed(0)
    inner = keras.Sequential([layers.RandomFlip(), layers.Rescaling(1 / 255), layers.Conv2D(2, 3), layers.Dropout(0.5)])
    made = keras.Sequential([keras.Input((SIZE, SIZE, 3)), inner, layers.Flatten(), layers.Dense(DIMENSION, name="embedding")])
    for suffix in ("keras", "h5"):
        made.save(tmp_path / f"model.{suffix}")
        teacher = load_teacher(tmp_path / f"model.{suffix}")
        np.testing.assert_allclose(teacher(IMAGES), made(IMAGES.astype(np.float32), training=False), rtol=1e-5, atol=1e-6)
        assert teacher.describe()["output"] == "embedding: float32 [N, 3]"
    keras.Sequential([layers.Flatten(), layers.Dense(2)]).save(tmp_path / "unbuilt.keras")
    assert "does not say what it takes: a Sequential without an input of a known shape" in refused(tmp_path / "unbuilt.keras")


# --------------------------------------------------------------------------------------------------------------- other inputs, and tags


def signed(x: tf.Tensor, phase: tf.Tensor, *others: tf.Tensor) -> tf.Tensor:
    return tf.where(tf.reshape(phase, [-1, 1]), -means(x), means(x)) + sum(tf.cast(other, tf.float32) for other in others)


@pytest.mark.parametrize("shape", [[], [None], [None, 1], [1]])
def test_a_bool_beside_the_images_is_fed(tmp_path: Path, shape: list) -> None:
    path = saved(tmp_path / "model", pixels(), tf.TensorSpec(shape, tf.bool, name="phase"), function=signed)
    for value in ("false", False, "0", "No"):
        np.testing.assert_allclose(load_teacher(path, feed={"phase": value})(IMAGES), MEANS, rtol=1e-6)
    assert load_teacher(path, feed={"phase": "FALSE"}).feed == {"phase": False}
    np.testing.assert_allclose(load_teacher(path, feed={"phase": "true"})(IMAGES), -MEANS, rtol=1e-6)
    assert "Give the others a constant: --feed phase=false." in refused(path)
    assert "--feed phase=maybe: that input is bool; expected true or false." in refused(path, feed={"phase": "maybe"})
    assert "has no input 'rate' to feed. Its inputs: images, phase." in refused(path, feed={"rate": "1"})
    assert "0 of them not fed" in refused(path, feed={"phase": "1", "images": "1"})


def test_inputs_of_other_types_are_fed(tmp_path: Path, convolver: Path) -> None:
    specs = [tf.TensorSpec([], dtype, name=dtype.name) for dtype in (tf.int32, tf.float32)]
    path = saved(tmp_path / "model", pixels(), *specs, function=lambda x, i, f: means(x) + tf.cast(i, tf.float32) + f)
    np.testing.assert_allclose(load_teacher(path, feed={"int32": "3", "float32": "0.5"})(IMAGES), MEANS + 3.5, rtol=1e-6)
    assert "that input is int32; expected a whole number." in refused(path, feed={"int32": "0.5", "float32": "1"})
    assert "that input is int32, which does not hold it." in refused(path, feed={"int32": str(2**40), "float32": "1"})
    given = [keras.Input((SIZE, SIZE, 3), name="photo"), keras.Input((1,), name="rate")]
    keras.Model(given, keras.layers.Multiply()([keras.layers.GlobalAveragePooling2D()(given[0]), given[1]])).save(tmp_path / "two.keras")
    np.testing.assert_allclose(load_teacher(tmp_path / "two.keras", feed={"rate": 2})(IMAGES), 2 * MEANS, rtol=1e-5)
    model = onnx.load(str(convolver))
    model.graph.input.append(helper.make_tensor_value_info("rate", FLOAT, (1,)))
    model.graph.node.append(helper.make_node("Mul", ["output", "rate"], ["scaled"]))
    model.graph.output.append(helper.make_tensor_value_info("scaled", FLOAT, ("N", 4)))
    onnx.save(model, str(tmp_path / "two.onnx"))
    np.testing.assert_allclose(load_teacher(tmp_path / "two.onnx", output="scaled", feed={"rate": "2"})(IMAGES), 2 * by_hand(IMAGES), rtol=1e-5, atol=1e-3)


def hub(folder: Path, *tag_sets: list[str]) -> Path:
    """A SavedModel of TensorFlow 1 with a graph for each set of tags; graph n answers (n + 1) times the mean."""
    v1 = tf.compat.v1
    builder = v1.saved_model.Builder(str(folder))
    for number, tags in enumerate(tag_sets):
        with v1.Graph().as_default(), v1.Session() as session:
            x = v1.placeholder(v1.float32, [None, SIZE, SIZE, 3])
            weight = v1.get_variable("w", initializer=1.0)
            answer = (number + 1) * weight * v1.reduce_mean(x, (1, 2))
            sides = ({"images": v1.saved_model.build_tensor_info(x)}, {"output": v1.saved_model.build_tensor_info(answer)})
            signatures = {"serving_default": v1.saved_model.build_signature_def(*sides, "predict")}
            session.run(v1.global_variables_initializer())
            if number:
                builder.add_meta_graph(tags, signature_def_map=signatures)
            else:
                builder.add_meta_graph_and_variables(session, tags, signature_def_map=signatures)
    builder.save()
    return folder


def test_tags_choose_among_graphs(tmp_path: Path) -> None:
    for number, (sets, default) in enumerate(
        [([["serve"]], 1), ([[], ["train"]], 1), ([["train"], ["serve"]], 2), ([["serve", "gpu"]], 1), ([["a"], ["b"]], 0)]
    ):
        path = hub(tmp_path / f"model{number}", *sets)
        for place, tags in enumerate(sets, 1):
            np.testing.assert_allclose(load_teacher(path, tags=tags)(IMAGES), place * MEANS, rtol=1e-5)
        if default:
            np.testing.assert_allclose(load_teacher(path)(IMAGES), default * MEANS, rtol=1e-5)
        else:
            assert 'has 2 graphs. Choose one by its tags: --tags, one of "a", "b".' in refused(path)
    assert 'has no graph with the tags "c". Choose with --tags from: "a", "b".' in refused(path, tags=["c"])


# ------------------------------------------------------------------------------------------------------------- the trial before labelling

REST = {"by chance": "answers the same image otherwise when it is asked again", "by batch": "answers an image otherwise among others than alone"}
MANY = np.random.default_rng(4).integers(0, 256, (12, SIZE, SIZE, 3), np.uint8)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda x: tf.nn.dropout(tf.tile(means(x), [1, 8]), 0.3), REST["by chance"]),
        (lambda x: means(x) * (1 + tf.random.normal((3,), stddev=0.02)), REST["by chance"]),
        (lambda x: means(x) / tf.math.reduce_std(x), REST["by batch"]),
        (lambda x: means(x) - 0.1 * tf.reduce_mean(means(x), 0), REST["by batch"]),
        (lambda x: means(x) * tf.random.stateless_uniform(tf.shape(means(x)), [1, 2]), REST["by batch"]),
        (lambda x: tf.concat([means(x)[:1], 2 * means(x)[1:]], 0), REST["by batch"]),
        (lambda x: 0 * means(x) + [1.0, 2.0, 3.0], "with the same numbers"),
        (lambda x: [1.0, 2.0, 3.0] + 1e-7 * means(x), "with the same numbers"),
        (lambda x: tf.nn.relu(-means(x)), "with zeros"),
        (lambda x: tf.math.log(-means(x)), "are not finite"),
    ],
)
@pytest.mark.parametrize("batch", [2, 16, 100])
def test_a_teacher_that_cannot_be_learned_from_is_refused(tmp_path: Path, function: Callable, said: str, batch: int) -> None:
    teacher = load_teacher(saved(tmp_path / "model", function=function))
    for images in (MANY, MANY[:1].repeat(12, 0), MANY[:0]) if "finite" not in said else (MANY,):
        with pytest.raises(DistillError) as caught:
            check_teacher(teacher, images, batch)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_good_teacher_passes(tmp_path: Path, mean: Path, convolver: Path) -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        net().save(tmp_path / "half.keras")
    finally:
        keras.config.set_dtype_policy("float32")
    fixed = saved(tmp_path / "fixed", pixels(4, SIZE, SIZE, 3))
    for path in (mean, convolver, tmp_path / "half.keras", fixed):
        teacher = load_teacher(path)
        for images, batch in ((MANY, 128), (MANY, 5), (MANY, 1), (MANY[:1], 16), (MANY[:1].repeat(4, 0), 2), (MANY[:0], 7)):
            answers = check_teacher(teacher, images, batch)
            np.testing.assert_allclose(answers, teacher(MANY)[: len(answers)], rtol=2e-2, atol=1e-3)
    assert load_teacher(tmp_path / "half.keras").rough
    assert not load_teacher(mean).rough
    kinds = (tf.float16, saved(tmp_path / "tf16", function=lambda x: tf.cast(tf.cast(means(x), tf.float16) * 2, tf.float32)))
    assert load_teacher(kinds[1]).rough


BLANK = np.stack([np.full((SIZE, SIZE, 3), level, np.uint8) for level in range(0, 45, 3)])


def normal(x: tf.Tensor, least: float) -> tf.Tensor:
    """Each picture by its own mean and deviation: of a blank one what rounding leaves, or no number."""
    centred = means(x) * 0.0039 - tf.reduce_mean(means(x) * 0.0039, 1, keepdims=True)
    return centred / (tf.norm(centred, axis=1, keepdims=True) + least)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: tf.nn.relu(means(x) - 60),
        lambda x: tf.nn.relu(means(x) - 60) / tf.norm(tf.nn.relu(means(x) - 60), axis=1, keepdims=True),
        lambda x: tf.math.l2_normalize(tf.nn.relu(means(x) - 60), 1),
        lambda x: normal(x, 0.0),
        lambda x: normal(x, 1e-9),
        lambda x: normal(x, 1e-9) + 1e-3 * tf.cast(tf.reduce_max(tf.math.reduce_std(x, [1, 2]), 1, keepdims=True) < 1, tf.float32) * tf.reduce_mean(x),
    ],
    ids=["zeros", "zeros by zero", "zeros of length 1", "nothing by nothing", "rounding", "blank ones by the batch"],
)
@pytest.mark.parametrize("batch", [1, 16, 100])
def test_a_blank_picture_is_no_reason_to_refuse_a_teacher(tmp_path: Path, function: Callable, batch: int) -> None:
    teacher = load_teacher(saved(tmp_path / "model", function=function))
    for images in (np.concatenate([BLANK[:3], MANY]), BLANK[:9], BLANK[:1], np.concatenate([BLANK[:1].repeat(5, 0), MANY[:1]])):
        with np.errstate(all="ignore"):
            check_teacher(teacher, images, batch)


@pytest.mark.parametrize(
    ("answers", "dtype", "said"),
    [
        ([[0, 0], [0, 0], [0, 0], [190, 3]], "float32", ""),
        ([[0, 0], [0, 0], [0, 0], [190, 3]], "float16", ""),
        ([[0, 0], [0, 0]], "int8", ""),
        ([[0, 0], [9e4, 1], [8e4, 1], [1, 1]], "float16", "up to 9e+04, which float16 does not hold: they become infinite"),
        ([[0, 0], [1e-11, 0], [3, 3], [1e-12, 1e-12]], "float16", "up to 1e-11, which float16 does not hold: they become zeros"),
        ([[1000] + [2] * 2000], "int8", "up to 1e+03, which int8 does not hold: they lose 8.9% of their length, at most 5.0% is rounding"),
        ([[1e-40, 1e-42], [3e38, 1]], "float32", ""),
    ],
)
def test_what_a_dtype_makes_of_answers_is_said_as_it_is(answers: list, dtype: str, said: str) -> None:
    assert lost_by(np.array(answers, np.float32), dtype) == said


def test_half_precision_and_quantised_onnx_are_rough(tmp_path: Path) -> None:
    half, path = numpy_helper.from_array(np.ones(2, np.float16), "weights"), tmp_path / "model.onnx"
    for nodes, weights, expected in (
        ([helper.make_node("Constant", [], ["output"], value=half)], [], True),
        ([helper.make_node("Identity", ["weights"], ["output"])], [half], True),
        ([helper.make_node("Cast", ["photo"], ["output"], to=onnx.TensorProto.FLOAT16)], [], True),
        ([helper.make_node("Cast", ["photo"], ["output"], to=FLOAT)], [], False),
        ([helper.make_node("Flatten", ["photo"], ["output"], axis=10)], [], False),
        ([helper.make_node("DynamicQuantizeLinear", ["photo"], ["output", "scale", "zero"])], [], False),
        ([helper.make_node("QuantizeLinear", ["photo", "scale"], ["output"])], [], True),
    ):
        given = helper.make_tensor_value_info("photo", FLOAT, [2])
        path.write_bytes(helper.make_model(helper.make_graph(nodes, "net", [given], [], weights)).SerializeToString())
        assert look_inside(path).rough is expected


def test_want_of_memory_has_one_way_out(tmp_path: Path, mean: Path) -> None:
    class Small(type(load_teacher(mean))):
        def __call__(self, images: np.ndarray) -> np.ndarray:
            if len(images) > 4:
                raise call_failed("teacher", images, MemoryError())
            return super().__call__(images)

    teacher = load_teacher(saved(tmp_path / "model"))
    teacher.__class__ = Small
    with pytest.raises(DistillError) as caught:
        check_teacher(teacher, MANY, 16)
    assert str(caught.value) == "teacher: the memory does not suffice for uint8 [16, 8, 8, 3]. Ask for fewer images at a time, with a smaller --batch."
    check_teacher(teacher, MANY, 4)


def one_image_only(path: Path, side: int) -> Path:
    """An ONNX file that says [N, ...], exported with a Reshape for one image."""
    weights, numbers = np.random.default_rng(0).normal(size=(3 * side * side, 4)).astype(np.float32) / 100, np.array([1, 3 * side * side])
    nodes = [helper.make_node("Reshape", ["photo", "one"], ["flat"]), helper.make_node("MatMul", ["flat", "weights"], ["output"])]
    given, answer = (helper.make_tensor_value_info(name, FLOAT, sizes) for name, sizes in (("photo", ("N", 3, side, side)), ("output", ("N", 4))))
    graph = helper.make_graph(nodes, "net", [given], [answer], [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(numbers, "one")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def test_a_teacher_of_one_image_at_a_time(tmp_path: Path, faces: Path) -> None:
    path = one_image_only(tmp_path / "one.onnx", 32)
    refusal = inside("embed", faces, tmp_path / "out", "--teacher", path)
    assert refusal.returncode == 2
    assert "fails on float32 [128, 3, 32, 32]" in refusal.stderr
    assert "One image alone it answers: ask 128 of them one by one with --batch 1" in refusal.stderr
    assert not [*(tmp_path / "out").glob("shards/*")]
    done = inside("embed", faces, tmp_path / "out", "--teacher", path, "--batch", 1)
    assert done.returncode == 0, done.stderr
    checked = inside("verify", tmp_path / "out", "--teacher", path, "--sample", 8)
    assert checked.returncode == 0, checked.stderr


def test_embedding_tries_the_teacher_before_the_first_chunk(tmp_path: Path, faces: Path) -> None:
    """And what does not fit the dtype; the same OUT then takes the other wish."""
    side, out = (None, 32, 32, 3), tmp_path / "out"
    for name, function, words, said in (
        ("drop", lambda x: tf.nn.dropout(tf.tile(means(x), [1, 8]), 0.3), (), REST["by chance"]),
        ("tiny", lambda x: 1e-11 * means(x), (), "which float16 does not hold: they become zeros"),
        ("large", lambda x: 1e4 * means(x), (), "which float16 does not hold: they become infinite. Store them as they are: --dtype float32."),
        ("subnormal", lambda x: 1e-8 * means(x), (), "of their length, at most 0.2% is rounding"),
        ("least", lambda x: 1e-33 * means(x), ("--dtype", "int8"), "which int8 does not hold: they become zeros"),
    ):
        path = saved(tmp_path / name, pixels(*side), function=function)
        done = inside("embed", faces, out, "--teacher", path, *words)
        assert done.returncode == 2, done.stderr
        assert said in done.stderr.splitlines()[-1]
        assert not [*out.glob("shards/*")]
    done = inside("embed", faces, out, "--teacher", path, "--dtype", "float32")
    assert done.returncode == 0, done.stderr
    rest = saved(tmp_path / "batch", pixels(*side), function=lambda x: means(x) / tf.math.reduce_std(x))
    assert "--batch 1" in inside("embed", faces, tmp_path / "one", "--teacher", rest).stderr
    assert inside("embed", faces, tmp_path / "one", "--teacher", rest, "--batch", 1).returncode == 0
    photos = sorted(faces.rglob("*.jpg"))[:2]
    refusal = inside("compare", tmp_path / "drop", *photos)
    assert refusal.returncode == 2
    assert REST["by chance"] in refusal.stderr


def test_what_is_fed_stands_in_the_set(tmp_path: Path, faces: Path) -> None:
    """A set of a teacher with a constant is format version 3; verify asks the teacher in the same way, and another constant is another set."""
    path = saved(tmp_path / "model", pixels(None, 32, 32, 3), tf.TensorSpec([], tf.bool, name="phase"), function=signed)
    words = ("embed", faces, tmp_path / "out", "--teacher", path, "--rows", 50)
    assert "--feed phase=false" in inside(*words).stderr
    assert "expected NAME=VALUE" in inside(*words, "--feed", "phase").stderr
    done = inside(*words, "--feed", "phase=no", "--tags", "serve")
    assert done.returncode == 0, done.stderr
    meta = open_shards(tmp_path / "out").meta
    assert (meta.version, meta.reading.feed, meta.reading.tags) == (3, (("phase", False),), ("serve",))
    checked = inside("verify", tmp_path / "out", "--deep", "--teacher", path)
    assert checked.returncode == 0, checked.stderr
    assert inside(*words, "--feed", "phase=false", "--tags", "serve").returncode == 0
    other = inside(*words, "--feed", "phase=true", "--tags", "serve")
    assert other.returncode == 2
    assert "'phase': False" in other.stderr


def test_verify_names_a_teacher_that_answers_by_chance(tmp_path: Path, faces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A set that was labelled when such teachers were not tried."""
    drop = saved(tmp_path / "drop", pixels(None, 32, 32, 3), function=lambda x: tf.nn.dropout(tf.tile(means(x), [1, 8]), 0.3))
    monkeypatch.setattr("pipelines.embed.try_teacher", lambda *_: None)
    assert inside("embed", faces, tmp_path / "out", "--teacher", drop).returncode == 0
    checked = inside("verify", tmp_path / "out", "--teacher", drop)
    assert checked.returncode == 2
    assert REST["by chance"] in checked.stderr
    assert "Decoder" not in checked.stderr
