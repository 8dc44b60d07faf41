"""Networks of keras.applications: their scaling, and published weights."""

import inspect
import warnings

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format
from keras.src.utils import file_utils

from distill import DistillError
from distill.models.applications import INPUTS, divide_as_published, is_published
from distill.models.scaling import scaled
from tests.models.students import APPLICATIONS, backbone_inside, built, smallest


def test_the_table_knows_every_application_once():
    assert sorted(name for names in INPUTS.values() for name in names) == sorted(APPLICATIONS)


@pytest.mark.parametrize(("backbone", "module"), [("MobileNet", "mobilenet"), ("DenseNet121", "densenet"), ("ResNet50", "resnet")])
def test_scaling_equals_the_preprocessing_of_the_module(backbone, module):
    kind = next(kind for kind, names in INPUTS.items() if backbone in names)
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype("float32")
    entry = keras.Input((8, 8, 3))
    given = keras.Model(entry, scaled(entry, kind))(images)
    np.testing.assert_allclose(given, getattr(keras.applications, module).preprocess_input(images.copy()), atol=2e-5, rtol=1e-5)


def test_preprocessing_of_each_module_is_what_the_table_says():
    """For all applications: the kind in the table against what preprocess_input of the module does to 0 and 255."""
    images = np.array([0.0, 255.0], "float32").reshape(1, 1, 2, 1).repeat(3, -1)
    expected = {"own": 255.0, "signed": 1.0, "standard": 2.64, "centred_bgr": 151.061}
    for kind, names in INPUTS.items():
        for name in names:
            module = inspect.getmodule(getattr(keras.applications, name))
            assert module.preprocess_input(images.copy()).max() == pytest.approx(expected[kind], rel=1e-4), name


def test_backbone_weights_from_a_file(tmp_path):
    donor = keras.applications.MobileNet(include_top=False, weights=None, input_shape=(32, 32, 3))
    donor.save_weights(tmp_path / "net.weights.h5")
    student = built("MobileNet", 32, weights=str(tmp_path / "net.weights.h5"))
    np.testing.assert_array_equal(backbone_inside(student).get_weights()[0], donor.get_weights()[0])
    (tmp_path / "bad.h5").write_text("no weights")
    with pytest.raises(DistillError, match=r"student.weights: .*bad.h5 cannot be loaded into MobileNet"):
        built("MobileNet", 32, weights=str(tmp_path / "bad.h5"))


def published(backbone, side, path):
    """A file in the layout of the published weights, of random ones."""
    net = getattr(keras.applications, backbone)(include_top=False, weights=None, input_shape=(side, side, 3))
    rng = np.random.default_rng(0)
    for weight in net.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.8, 1.2, weight.shape))
        elif weight.name in ("beta", "moving_mean", "bias"):
            weight.assign(rng.normal(0, 0.1, weight.shape))
    if net.layers[2].name.startswith("normalization") and len(net.layers[2].weights) == 3:
        net.layers[2].set_weights([np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]), np.array(0)])
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, net)
    return path


def pool_of(model, images):
    return np.asarray(keras.Model(model.input, model.get_layer("pool").output)(images))


def check_published(backbone, folder, monkeypatch):
    side, make = smallest(backbone), getattr(keras.applications, backbone)
    path = published(backbone, side, folder / "net_notop.h5")
    monkeypatch.setattr(file_utils, "get_file", lambda *_, **__: str(path))
    images = np.random.default_rng(1).integers(0, 256, (3, side, side, 3), np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kerass = make(include_top=False, weights="imagenet", input_shape=(side, side, 3))
    expected = np.asarray(kerass(inspect.getmodule(make).preprocess_input(images.astype("float32")))).mean((1, 2))
    given = pool_of(built(backbone, side, weights=str(path)), images)
    for mine, theirs in zip(given, expected, strict=True):
        assert mine @ theirs / np.linalg.norm(mine) / np.linalg.norm(theirs) > 1 - 1e-6
    np.testing.assert_allclose(np.linalg.norm(given, axis=1), np.linalg.norm(expected, axis=1), rtol=1e-3)


@pytest.mark.parametrize("backbone", ["EfficientNetB0", "MobileNet", "MobileNetV3Small", "VGG16"])
def test_published_weights_give_what_keras_gives(tmp_path, monkeypatch, backbone):
    check_published(backbone, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", sorted(set(APPLICATIONS) - {"EfficientNetB0", "MobileNet", "MobileNetV3Small", "VGG16"}))
def test_published_weights_give_what_keras_gives_for_all(tmp_path, monkeypatch, backbone):
    check_published(backbone, tmp_path, monkeypatch)
    keras.backend.clear_session()


def test_efficientnet_divides_where_its_weights_were_made_so(tmp_path):
    """Weights of a network that was built without the published ones are of one without the division."""
    plain = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(32, 32, 3))
    plain.save_weights(tmp_path / "plain.weights.h5")
    (norm,) = (layer for layer in plain.layers if isinstance(layer, keras.layers.Normalization))
    for divided, expected in ((False, 1.0), (is_published(tmp_path / "plain.weights.h5"), 1.0), (True, 0.229)):
        if divided:
            divide_as_published(plain)
        assert float(norm.adapt_variance[0]) == pytest.approx(expected)
        assert float(norm.variance.numpy().ravel()[0]) == pytest.approx(expected)
