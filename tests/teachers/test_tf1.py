"""Graphs of TensorFlow 1 as teachers: a small net in the shape of FaceNet's, as a checkpoint and frozen."""

import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf1

from distill.storage.objects import RemotePath
from teachers import load_teacher, open_teacher
from tests.conftest import inside, once, upload_all
from tests.teachers.small import IMAGES, MEANS, SIZE, refused
from tests.warm import warm_code

PHASE = {"phase_train": False}
ANSWERS = "answers.npy"

# As facenet.train_softmax has it: images come from a queue, `input` is what is taken from it, `phase_train` chooses the statistics of batch norm, and
# `embeddings` are of length 1. Trained for some steps, so that the moving averages and what the optimizer keeps are no zeros.
FACENET = """
import sys
import numpy as np
import tensorflow.compat.v1 as tf1

tf1.disable_eager_execution()
folder, size, resource = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "resource"
if not resource:
    tf1.disable_control_flow_v2()  # Switch and Merge, as it was then
images = np.load(folder + "/images.npy")
with tf1.Graph().as_default(), tf1.Session() as session:
    tf1.set_random_seed(0)
    tf1.get_variable_scope().set_use_resource(resource)
    batch_size = tf1.placeholder(tf1.int32, name="batch_size")
    phase = tf1.placeholder(tf1.bool, name="phase_train")
    queue = tf1.FIFOQueue(100, [tf1.float32], shapes=[[size, size, 3]])
    batch = tf1.identity(queue.dequeue_many(batch_size), "image_batch")
    image = tf1.identity(tf1.reshape(batch, [-1, size, size, 3]), "input")
    kernel = tf1.get_variable("net/kernel", [3, 3, 3, 8])
    maps = tf1.nn.conv2d(image / 127.5 - 1.0, kernel, 2, "SAME")
    beta = tf1.get_variable("net/beta", [8], initializer=tf1.zeros_initializer())
    moving = [tf1.get_variable("net/" + name, [8], trainable=False, initializer=made()) for name, made in
              (("mean", tf1.zeros_initializer), ("variance", tf1.ones_initializer))]
    now = tf1.nn.moments(maps, [0, 1, 2])
    updates = [tf1.assign(old, 0.9 * old + 0.1 * new) for old, new in zip(moving, now)]
    mean, variance = tf1.cond(phase, lambda: list(now), lambda: [tf1.identity(one) for one in moving])
    maps = tf1.nn.relu(tf1.nn.batch_normalization(maps, mean, variance, beta, None, 1e-3))
    flat = tf1.reshape(maps, [-1, (size // 2) ** 2 * 8])
    prelogits = tf1.matmul(flat, tf1.get_variable("net/weights", [(size // 2) ** 2 * 8, 16]), name="prelogits")
    embeddings = tf1.nn.l2_normalize(prelogits, 1, 1e-10, name="embeddings")
    loss = tf1.reduce_mean(tf1.square(embeddings - 0.1))
    with tf1.control_dependencies(updates):
        step = tf1.train.AdagradOptimizer(tf1.placeholder(tf1.float32, name="learning_rate")).minimize(loss)
    saver = tf1.train.Saver(max_to_keep=9)
    session.run(tf1.global_variables_initializer())
    saver.export_meta_graph(folder + "/model-2018.meta")
    for number in (1, 275, 30):
        for _ in range(3):
            session.run(step, {image: images, phase: True, "learning_rate:0": 0.1})
        saver.save(session, folder + "/model-2018.ckpt", global_step=number, write_meta_graph=False)
        np.save(folder + f"/answers{number}.npy", session.run(embeddings, {image: images, phase: False}))
    np.save(folder + "/answers.npy", session.run(embeddings, {image: images, phase: False}))
    saver.save(session, folder + "/plain")
    frozen = tf1.graph_util.convert_variables_to_constants(session, session.graph_def, ["embeddings"])

# a graph for answers alone, as those that are published frozen: its input is a placeholder
with tf1.Graph().as_default():
    (wanted,) = [node for node in frozen.node if node.name == "input"]
    given = tf1.placeholder(tf1.float32, [None, size, size, 3], name="input")
    kept = tf1.GraphDef()
    kept.library.CopyFrom(frozen.library)
    kept.node.extend([node for node in frozen.node if node.name != "input"])
    kept.node.extend(tf1.get_default_graph().as_graph_def().node)
    with open(folder + "/frozen.pb", "wb") as file:
        file.write(tf1.graph_util.extract_sub_graph(kept, ["embeddings"]).SerializeToString())
with open(folder + "/whole.pb", "wb") as file:
    file.write(frozen.SerializeToString())
"""


@pytest.fixture(scope="module", params=["reference", "resource"])
def net(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """model-2018.meta with model-2018.ckpt-1, -30 and -275, plain.meta with its own, frozen.pb, and what each answers to IMAGES."""
    return once(tmp_path_factory, f"tf1-{request.param}", lambda folder: fill(folder, request.param))


def fill(folder: Path, kind: str) -> None:
    folder.mkdir()
    np.save(folder / "images.npy", IMAGES.astype(np.float32))
    done = warm_code(FACENET, folder, SIZE, kind)
    assert done.returncode == 0, done.stderr


def graph(path: Path, build: Callable[[], object]) -> Path:
    """A frozen graph."""
    with tf1.Graph().as_default() as made:
        build()
        path.write_bytes(made.as_graph_def().SerializeToString())
    return path


def photos(name: str = "photo", *shape: int | None, dtype: object = tf1.float32) -> object:
    return tf1.placeholder(dtype, shape or (None, SIZE, SIZE, 3), name=name)


@pytest.mark.parametrize("name", ["plain.meta", "plain", "plain.index", "plain.data-00000-of-00001", "frozen.pb", "whole.pb"])
def test_it_answers_as_its_session_does(net: Path, name: str) -> None:
    teacher = load_teacher(net / name, feed=PHASE)
    answers = np.load(net / ANSWERS)
    for rows in (64, 1, 3):
        found = teacher(IMAGES[:rows])
        assert found.dtype == np.float32 and found.shape == (rows, 16)
        np.testing.assert_allclose(found, answers[:rows], atol=1e-6)
    assert (teacher.height, teacher.width, teacher.dimension, teacher.rough) == (SIZE, SIZE, 16, False)
    told = teacher.describe()
    assert (told["kind"], told["input"], told["output"]) == ("tf1", "input: float32 [N, 8, 8, 3]", "embeddings: float32 [N, 16]")
    assert told["parameters"] == 3 * 3 * 3 * 8 + 3 * 8 + 4 * 4 * 8 * 16  # those that embed; nothing of the optimizer
    # of 4 x 4 places 3 x 3 x 3 x 8 multiply-adds, and 128 x 16; cond_v2 chooses its branch while it runs, which nobody counts
    if "tf1-reference" in str(net):
        assert teacher.flops() == 2 * (4 * 4 * 27 * 8 + 128 * 16)
    # what batch norm does in training moves the answers, so the constant counts
    assert np.abs(load_teacher(net / name, feed={"phase_train:0": "true"})(IMAGES) - answers).max() > 1e-3


def test_threads_share_nothing(net: Path) -> None:
    teacher = load_teacher(net / "plain.meta", feed=PHASE)
    alone = {rows: teacher(IMAGES[:rows]) for rows in (64, 5)}
    with ThreadPoolExecutor(4) as pool:
        for together in pool.map(lambda number: teacher(IMAGES[: (64, 5)[number % 2]]), range(20)):
            np.testing.assert_allclose(together, alone[len(together)], atol=1e-6)


def test_which_checkpoint_is_meant(net: Path, tmp_path: Path) -> None:
    """The folder's is the one that the file `checkpoint` calls the latest, or that of the highest step; a graph of many, that too."""
    for name, number in (("model-2018.ckpt-1", 1), ("model-2018.ckpt-30.index", 30), ("model-2018.meta", 275)):
        np.testing.assert_allclose(load_teacher(net / name, feed=PHASE)(IMAGES), np.load(net / f"answers{number}.npy"), atol=1e-6)
    assert open_teacher(net, feed=PHASE).path == str(net / "plain.index")
    shutil.copytree(net, tmp_path / "copy", ignore=shutil.ignore_patterns("plain*", "*.pb"))
    assert open_teacher(tmp_path / "copy", feed=PHASE).path.endswith("model-2018.ckpt-275.index")  # `checkpoint` calls one that is not there
    (tmp_path / "copy" / "checkpoint").write_text('model_checkpoint_path: "/elsewhere/model-2018.ckpt-30"\nall_model_checkpoint_paths: "x"\n')
    assert open_teacher(tmp_path / "copy", feed=PHASE).path.endswith("model-2018.ckpt-30.index")


def test_names_of_tensors(net: Path) -> None:
    answers, plain = np.load(net / ANSWERS), net / "plain.meta"
    named = load_teacher(plain, input="input:0", output="embeddings:0", feed={"phase_train:0": "false"})
    np.testing.assert_allclose(named(IMAGES), answers, atol=1e-6)
    assert (named.describe()["input"].partition(" ")[0], named.describe()["output"].partition(" ")[0]) == ("input:0:", "embeddings:0:")
    longer = load_teacher(plain, output="prelogits", feed=PHASE)(IMAGES)
    np.testing.assert_allclose(longer / np.linalg.norm(longer, axis=1, keepdims=True), answers, atol=1e-6)
    np.testing.assert_allclose(load_teacher(plain, input="image_batch", feed=PHASE)(IMAGES), answers, atol=1e-6)
    assert "takes 2 inputs, 2 of them not fed; expected one, for the images. Give the others a constant: --feed phase_train=false." in refused(
        net / "plain.index"
    )
    assert "has no tensor 'logits'. Name it with --output. It has: graph(" in refused(net / "plain.index", output="logits")
    assert "has no tensor 'photo' that embeddings depends on. Choose another with --input." in refused(net / "plain.index", input="photo")
    assert "has no signatures; received 'serve'. Name its tensors: --input, --output." in refused(net / "plain.index", signature="serve")
    assert "has no input 'phase' to feed. Its inputs: input, phase_train." in refused(net / "plain.index", feed={"phase": False})
    assert "is no SavedModel, so it has no tags" in refused(net / "plain.index", tags=["serve"])


def test_images_from_a_queue_are_named(net: Path) -> None:
    """Asked for an answer, a session would wait for ever."""
    message = refused(net / "plain.index", input="batch_size", feed=PHASE)
    assert "takes its images from a queue (fifo_queue_DequeueMany). Name the tensor of decoded images with --input." in message


@pytest.mark.parametrize("inside", [False, True], ids=["in the graph", "in a function"])
def test_a_graph_that_writes_files_is_not_run(tmp_path: Path, inside: bool) -> None:
    written = tmp_path / "written.txt"

    def build() -> None:
        image = photos("input", None, 8, 8, 3)
        with tf1.control_dependencies([(tf1.function(write, autograph=False) if inside else write)()]):
            tf1.identity(tf1.reshape(image, [-1, 192]), name="embeddings")

    def write() -> object:
        with tf1.control_dependencies([tf1.io.write_file(str(written), "by the graph")]):
            return tf1.constant(0.0)

    assert re.search(
        r": operation \S*WriteFile\S* is WriteFile, and a model that reads or writes files is not run", refused(graph(tmp_path / "evil.pb", build))
    )
    assert not written.exists()


def test_what_a_graph_does_not_say(tmp_path: Path) -> None:
    """The only placeholder and the only answer are taken; of several, each is listed."""
    only = graph(tmp_path / "only.pb", lambda: tf1.reduce_mean(photos(), (1, 2), name="mean"))
    np.testing.assert_allclose(load_teacher(only, color="bgr", scale=2.0)(IMAGES), 2 * MEANS[:, ::-1], rtol=1e-5)

    def two() -> None:
        one, other = photos("one"), photos("other")
        tf1.reduce_mean(one, (1, 2), name="first")
        tf1.reduce_max(one + other, (1, 2), name="second")

    path = graph(tmp_path / "two.pb", two)
    message = refused(path)
    assert "has no tensor 'embeddings', and does not say which one is the embedding. Name it with --output." in message
    assert "-> first: float32 [N, 3], second: float32 [N, 3]." in message
    assert "does not say which tensor takes the images. Name it with --input." in refused(path, output="second")
    np.testing.assert_allclose(load_teacher(path, output="first")(IMAGES), MEANS, rtol=1e-5)
    np.testing.assert_allclose(load_teacher(path, output="second", input="one", feed={"other": 1})(IMAGES), IMAGES.max((1, 2)).astype(np.float32) + 1)
    np.testing.assert_allclose(load_teacher(path, output="second", feed={"one": 1})(IMAGES), IMAGES.max((1, 2)).astype(np.float32) + 1)

    def unknown() -> None:
        rate = tf1.placeholder(tf1.float32, name="rate")
        tf1.reduce_mean(photos("x", None, 3, SIZE, SIZE), (2, 3), name="embeddings") * rate

    assert load_teacher(graph(tmp_path / "first.pb", unknown)).describe()["channels"] == "first"


def test_other_types(tmp_path: Path) -> None:
    path = graph(tmp_path / "uint8.pb", lambda: tf1.reduce_mean(tf1.cast(photos(dtype=tf1.uint8), tf1.float32), (1, 2), name="mean"))
    np.testing.assert_allclose(load_teacher(path)(IMAGES), MEANS, rtol=1e-5)
    half = graph(tmp_path / "half.pb", lambda: tf1.cast(tf1.reduce_mean(tf1.cast(photos(), tf1.float16), (1, 2)), tf1.float32, name="mean"))
    assert load_teacher(half).rough
    fixed = graph(tmp_path / "fixed.pb", lambda: tf1.reduce_mean(photos("x", 2, SIZE, SIZE, 3), (1, 2), name="embeddings"))
    np.testing.assert_allclose(load_teacher(fixed)(IMAGES[:5]), MEANS[:5], rtol=1e-5)


def test_what_it_was_trained_with_need_not_be_known(tmp_path: Path) -> None:
    def build() -> None:
        tf1.identity(tf1.reduce_mean(photos(), (1, 2)), name="embeddings")

    path = graph(tmp_path / "odd.pb", build)
    found = tf1.GraphDef.FromString(path.read_bytes())
    found.node.add(name="training", op="OperationOfThatLab").input.append("embeddings")
    path.write_bytes(found.SerializeToString())
    np.testing.assert_allclose(load_teacher(path)(IMAGES), MEANS, rtol=1e-5)
    assert "Op type not registered 'OperationOfThatLab'" in refused(path, output="training")


def test_what_is_no_such_graph(net: Path, tmp_path: Path) -> None:
    def put(name: str, data: bytes) -> Path:
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    whole, meta = (net / "frozen.pb").read_bytes(), (net / "plain.meta").read_bytes()
    for path, said in (
        (put("cut.pb", whole[: len(whole) // 2]), "cut.pb is no graph of TensorFlow 1, or it is damaged or cut off"),
        (put("random.pb", np.random.default_rng(0).bytes(5000)), "random.pb is no graph of TensorFlow 1, or it is damaged or cut off"),
        (put("empty.pb", b""), "is an empty file. Copy it again."),
        (put("bare.pb", tf1.GraphDef().SerializeToString() or b"\x22\x02\x08\x01"), "bare.pb is no graph of TensorFlow 1: it has no operations."),
        (put("unfrozen.pb", tf1.MetaGraphDef.FromString(meta).graph_def.SerializeToString()), "is a graph without weights: its "),
        (put("lone.meta", meta), "is a graph without its weights: expected lone.index and its .data file in the same folder. Put them there too."),
        (put("weights.index", (net / "plain.index").read_bytes()), "holds weights without the model that they belong to"),
    ):
        assert said in refused(path)
        path.unlink()
    folder = tmp_path / "folder"

    def copied(name: str, change: Callable[[bytes], bytes | None]) -> str:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for path in net.glob("plain.*"):
            data = change(path.read_bytes()) if path.name == name else path.read_bytes()
            if data is not None:
                (folder / path.name).write_bytes(data)
        return refused(folder / "plain.index" if name != "plain.index" else folder, feed=PHASE)

    data = "plain.data-00000-of-00001"
    assert "plain.meta is no graph of TensorFlow 1, or it is damaged" in copied("plain.meta", lambda data: data[: len(data) // 2])
    assert f"has weights in {data}, expected in the same folder" in copied(data, lambda data: None)
    assert "its weights cannot be read" in copied(data, lambda data: data[: len(data) // 2])
    assert "its weights cannot be read" in copied("plain.index", lambda data: data[: len(data) // 2])
    assert "without its weights: expected its .index and .data files" in copied("plain.index", lambda data: None)


def test_weights_of_another_graph(net: Path, tmp_path: Path) -> None:
    for path in net.glob("plain.*"):
        shutil.copy(path, tmp_path)
    meta = tf1.MetaGraphDef.FromString((net / "plain.meta").read_bytes())
    text = meta.SerializeToString().replace(b"net/kernel", b"net/KERNEL")
    (tmp_path / "plain.meta").write_bytes(text)
    assert "has no weights for 'net/KERNEL' (1 of 5 variables of its graph). Is it of another graph?" in refused(tmp_path / "plain.index", feed=PHASE)


def test_the_fingerprint_is_of_all_its_files_and_of_no_name(net: Path, tmp_path: Path) -> None:
    mark = open_teacher(net / "plain.meta").fingerprint()
    for path in net.glob("plain.*"):
        shutil.copy(path, tmp_path / path.name.replace("plain", "other [1]"))
    other = open_teacher(tmp_path / "other [1].meta", feed=PHASE)
    assert other.fingerprint() == mark != open_teacher(net / "model-2018.meta").fingerprint()
    np.testing.assert_allclose(other.load()(IMAGES), np.load(net / ANSWERS), atol=1e-6)
    data = bytearray((tmp_path / "other [1].data-00000-of-00001").read_bytes())
    data[100] ^= 1
    (tmp_path / "other [1].data-00000-of-00001").write_bytes(data)
    assert open_teacher(tmp_path / "other [1].meta").fingerprint() != mark


def test_its_files_come_from_a_store(net: Path, folder: RemotePath) -> None:
    upload_all(net, folder)
    for name in ("model-2018.ckpt-30", "frozen.pb", ""):
        near, far = open_teacher(net / name, feed=PHASE), open_teacher(str(folder / name) if name else str(folder), feed=PHASE)
        assert far.fingerprint() == near.fingerprint()
        np.testing.assert_array_equal(far.load()(IMAGES), near.load()(IMAGES))


def test_verbs_take_such_a_graph(net: Path, tmp_path: Path) -> None:
    from PIL import Image

    for number, image in enumerate(IMAGES[:20]):
        (tmp_path / "photos" / f"id{number // 10}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "photos" / f"id{number // 10}" / f"{number}.png")
    how = ["--input", "input:0", "--output", "embeddings:0", "--feed", "phase_train:0=false"]
    done = inside("embed", tmp_path / "photos", tmp_path / "out", "--teacher", net / "plain.meta", *how)
    assert done.returncode == 0, done.stderr
    assert inside("verify", tmp_path / "out", "--deep", "--teacher", net / "plain.meta").returncode == 0
    for path in (net / "plain.meta", net / "frozen.pb", net / "plain.index"):
        told = inside("inspect", path, *how)
        assert told.returncode == 0, told.stderr
        assert {"format: tf1", "input: input:0: float32 [N, 8, 8, 3]"} <= set(told.stdout.splitlines())
    assert inside("inspect", net, *how).stdout.splitlines()[0] == "kind: model"
