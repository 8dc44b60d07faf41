"""Networks of keras.applications with another first convolution, and with another top."""

import keras
import numpy as np
import pytest

from distill import DistillError
from distill.models.applications import INPUTS
from distill.models.stems import with_unit_stem
from tests.models.students import backbone_inside, built
from tests.models.test_applications import published

# The stock net begins its first window at the first pixel, the other one a padding before it: where the maps of both are the same.
STEMS = [
    ("MobileNetV2", "Conv1", 1),
    pytest.param("EfficientNetB0", "stem_conv", 1, marks=pytest.mark.slow),
    pytest.param("ResNet50V2", "conv1_conv", 0, marks=pytest.mark.slow),
    ("Xception", "block1_conv1", 0),
]


@pytest.mark.parametrize(("backbone", "stem", "first"), STEMS)
def test_every_second_place_of_a_unit_stem_is_the_stock_stem(backbone, stem, first):
    side = 80
    stock, unit = (backbone_inside(built(backbone, side, stem_stride=stride)) for stride in (2, 1))
    assert [weight.shape for weight in stock.weights] == [weight.shape for weight in unit.weights]
    assert [type(layer) for layer in stock.layers] == [type(layer) for layer in unit.layers]
    unit.get_layer(stem).set_weights(stock.get_layer(stem).get_weights())
    images = np.random.default_rng(0).normal(size=(1, side, side, 3)).astype("float32")
    small, large = (np.asarray(keras.Model(net.input, net.get_layer(stem).output)(images)) for net in (stock, unit))
    np.testing.assert_allclose(large[:, first::2, first::2][:, : small.shape[1], : small.shape[2]], small, atol=1e-5)
    assert np.asarray(unit.output.shape[1:3]).min() >= 2 * (stock.output.shape[1] - 1)


def check_map(backbone, side=112):
    unit = backbone_inside(built(backbone, side, stem_stride=1))
    assert unit.output.shape[1:3] == {"Inception": (5, 5)}.get(backbone[:9], (7, 7))
    keras.backend.clear_session()


def test_a_unit_stem_leaves_a_map_of_7x7():
    check_map("MobileNetV2")


@pytest.mark.slow
@pytest.mark.parametrize("backbone", [name for names in INPUTS.values() for name in names if not name.startswith(("ConvNeXt", "VGG"))])
def test_a_unit_stem_leaves_a_map_of_7x7_for_all(backbone):
    check_map(backbone)


def test_the_depthwise_top_has_a_weight_for_each_place_and_channel():
    average, depthwise = (built("MobileNet", 32, stem_stride=1, top=top) for top in ("average", "depthwise"))
    assert depthwise.get_layer("pool").kernel.shape == (2, 2, 1024, 1)
    assert depthwise.count_params() - average.count_params() == 2 * 2 * 1024
    assert built("small_conv", 32, top="depthwise").get_layer("pool").kernel.shape == (2, 2, 40, 1)


def test_a_changed_student_loads_without_our_code(tmp_path):
    model = built("MobileNet", 32, stem_stride=1, top="depthwise")
    model.save(tmp_path / "student.keras")
    again = keras.models.load_model(tmp_path / "student.keras", compile=False)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(model(images), again(images))
    assert backbone_inside(again).get_layer("conv1").strides == (1, 1)


@pytest.mark.parametrize("backbone", ["MobileNet", *(pytest.param(name, marks=pytest.mark.slow) for name in ("EfficientNetB0", "NASNetMobile"))])
def test_published_weights_still_load(tmp_path, backbone):
    path = published(backbone, 32, tmp_path / "net_notop.h5")
    stock, unit = (backbone_inside(built(backbone, 32, weights=str(path), stem_stride=stride)) for stride in (None, 1))
    for one, other in zip(stock.get_weights(), unit.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_stem_of_another_stride_is_left_alone():
    with pytest.raises(DistillError, match=r"the first convolution of VGG16 has strides \(1, 1\), expected \(2, 2\). Leave stem_stride out."):
        with_unit_stem("VGG16", lambda shape: keras.applications.VGG16(include_top=False, weights=None, input_shape=shape), (32, 32, 3))


def test_images_too_small_are_told_by_their_own_size():
    with pytest.raises(DistillError, match="MobileNet cannot be built for images of 12x12"):
        built("MobileNet", 12, stem_stride=1)
