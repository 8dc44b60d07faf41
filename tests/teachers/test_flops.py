"""Operations of a model for an image, of every kind of file, against numbers that can be checked by hand."""

import numpy as np
import pytest

from distill import DistillError
from distill.runtime.quiet import import_openvino
from teachers import load_teacher
from teachers.flops import _of_einsum, _of_litert_operation, multiplied
from tests.conftest import once

# 8x8 images. Multiply-adds: 8*8*4 numbers of 3*3*3; 4*4*4 numbers of 3*3 (depthwise); 4*4*8 of 2 (of 4 channels in 2 groups); 4*4*8 of 3*3
# and 4*4*6 of 8 (separable); 4*4*6 numbers spread over 2*2*3 each (transposed); 192 numbers to 5.
NET = {"conv": 64 * 4 * 27, "depthwise": 16 * 4 * 9, "groups": 16 * 8 * 2, "separable": 16 * 8 * 9 + 16 * 6 * 8, "transposed": 16 * 6 * 12, "dense": 192 * 5}


def write_net(folder):
    """The same net as net.keras, saved, net.tflite and, where OpenVINO is there, net.xml."""
    import keras
    import tensorflow as tf
    from keras import layers

    image = keras.Input((8, 8, 3))
    maps = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(image)))
    maps = layers.DepthwiseConv2D(3, strides=2, padding="same")(maps)
    maps = layers.Conv2D(8, 1, groups=2)(maps)
    maps = layers.SeparableConv2D(6, 3, padding="same")(maps)
    maps = layers.Conv2DTranspose(3, 2, strides=2)(maps)
    model = keras.Model(image, layers.Dense(5)(layers.Flatten()(maps)))
    folder.mkdir()
    model.save(folder / "net.keras")
    model.export(folder / "saved", verbose=False)
    (folder / "net.tflite").write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    return once(tmp_path_factory, "flops", write_net)


@pytest.mark.parametrize("name", ["net.keras", "saved", "net.tflite"])
def test_the_operations_of_a_net_are_those_counted_by_hand(nets, name):
    assert load_teacher(nets / name).flops() == 2 * sum(NET.values())


def test_openvino_counts_the_same(nets, tmp_path):
    openvino = import_openvino()  # a plain import reports to its makers
    openvino.save_model(openvino.convert_model(str(nets / "net.tflite")), str(tmp_path / "net.xml"), compress_to_fp16=False)
    assert load_teacher(tmp_path / "net.xml").flops() == 2 * sum(NET.values())


def onnx_net(path, batch="N", size=("H", "W"), more=()):
    """Channels first: a convolution, one in 4 groups with stride 2, a mean over the map, and a matrix of 4 x 6."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    make, floats = onnx.helper, onnx.TensorProto.FLOAT
    weights = [onnx.numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in (("a", (4, 3, 3, 3)), ("b", (4, 1, 3, 3)), ("c", (6, 4)))]
    nodes = [
        make.make_node("Conv", ["photo", "a"], ["1"], pads=[1] * 4),
        make.make_node("Conv", ["1", "b"], ["2"], group=4, strides=[2, 2], pads=[1] * 4),
        make.make_node("GlobalAveragePool", ["2"], ["3"]),
        make.make_node("Flatten", ["3"], ["4"]),
        make.make_node("Gemm", ["4", "c"], ["output"], transB=1),
        *more,
    ]
    sides = [make.make_tensor_value_info("photo", floats, (batch, 3, *size))], [make.make_tensor_value_info("output", floats, (batch, 6))]
    model = make.make_model(make.make_graph(nodes, "net", *sides, weights), opset_imports=[make.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize("size", [(8, 8), (None, None)])
def test_a_graph_of_tensorflow_1_is_counted_where_its_input_is_given(tmp_path, size):
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph:
        images = v1.placeholder(tf.float32, (None, *size, 3), name="input")
        maps = tf.nn.relu(tf.nn.conv2d(images, tf.ones((3, 3, 3, 4)), 1, "SAME"))
        tf.identity(tf.matmul(tf.reduce_mean(maps, [1, 2]), tf.ones((4, 6))), name="embeddings")
    (tmp_path / "frozen.pb").write_bytes(graph.as_graph_def().SerializeToString())
    assert load_teacher(tmp_path / "frozen.pb").flops((8, 8)) == 2 * (64 * 4 * 27 + 4 * 6)


@pytest.mark.parametrize(("batch", "size"), [("N", ("H", "W")), (1, (8, 8)), (4, (8, 8))])
def test_an_onnx_file_is_counted_for_one_image_of_a_size(tmp_path, batch, size):
    model = load_teacher(onnx_net(tmp_path / "net.onnx", batch, size))
    expected = 2 * (8 * 8 * 4 * 27 + 4 * 4 * 4 * 9 + 4 * 6)
    assert model.flops((8, 8)) == expected
    if size == ("H", "W"):
        assert model.flops((16, 16)) == 2 * (16 * 16 * 4 * 27 + 8 * 8 * 4 * 9 + 4 * 6)
        with pytest.raises(DistillError, match="images of any size, and none is given"):
            model.flops()


def test_a_published_net_has_what_its_paper_says():
    """Howard et al. 2017: 569 million multiply-adds."""
    import keras

    from teachers.flops import of_tensorflow

    model = keras.applications.MobileNet(weights=None)
    assert of_tensorflow(lambda images: model(images, training=False), (1, 224, 224, 3), "float32") == pytest.approx(2 * 569e6, rel=0.002)


def test_what_is_not_known_is_said():
    assert multiplied([1, 2, 3], 4, "x") == 2 * 6 * 4
    for output, each in ((None, 1), ([1, None], 1), ([1], None), ([-1, 2], 1)):
        with pytest.raises(DistillError, match="the size of what Conv c answers is not known"):
            multiplied(output, each, "Conv c")
    assert _of_einsum("ab,bc->ac", [[2, 3], [3, 4]], "Einsum e") == 2 * 24
    with pytest.raises(DistillError, match="Einsum e"):
        _of_einsum("...a,ab->...b", [[2, 3], [3, 4]], "Einsum e")


def test_operations_that_depend_on_the_image_are_not_counted(tmp_path):
    import tensorflow as tf

    class Chooses(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.float32)])
        def serve(self, images):
            flat = tf.reshape(images, [-1, 192])
            return {"output": tf.cond(tf.reduce_mean(images) > 3, lambda: flat @ tf.ones([192, 5]), lambda: flat[:, :5])}

    module = Chooses()
    tf.saved_model.save(module, str(tmp_path / "chooses"), signatures=module.serve)
    with pytest.raises(DistillError, match="chooses or repeats other operations while it runs"):
        load_teacher(tmp_path / "chooses").flops()


@pytest.mark.parametrize("left", [[2, 3, 4], [2, 4, 3]], ids=["plain", "adj_x"])
def test_a_batch_matmul_counts_the_inner_size_however_its_left_side_lies(left):
    assert _of_litert_operation("BATCH_MATMUL", [2, 3, 5], [left, [2, 4, 5]]) == 2 * (2 * 3 * 5) * 4
