"""Students: every backbone by name, its scaling, its top, and what stays out of the saved file."""

import inspect
import types
import warnings

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format
from keras.src.utils import file_utils

from distill import DistillError
from distill.config.student import Student
from distill.models.heads import ClassHead
from distill.models.students import BACKBONES, INPUTS, _divide_as_published, _is_published, _scaled, build_student, projection, settle_scales
from distill.training.checkpoint import restore

APPLICATIONS = [
    name for name, value in inspect.getmembers(keras.applications) if callable(value) and not isinstance(value, types.ModuleType) and name[0].isupper()
]
FAST = ["small_conv", "mobilefacenet", "MobileNet", "MobileNetV3Small", "VGG16"]  # every kind of input but "standard"


def built(backbone, side=32, **options):
    return build_student(Student(backbone=backbone, embedding=8, **options), (side, side, 3))


def smallest(backbone):
    return 75 if backbone.startswith(("Inception", "Xception")) else 32


def backbone_inside(model):
    return next(layer for layer in model.layers if isinstance(layer, keras.Model))


def check_extremes(backbone):
    side = smallest(backbone)
    model = built(backbone, side)
    images = np.stack([np.zeros((side, side, 3)), np.full((side, side, 3), 255)]).astype(np.uint8)
    for batch in (images, images.astype(np.float32)):
        embeddings = np.asarray(model(batch))
        assert embeddings.shape == (2, 8)
        assert embeddings.dtype == np.float32
        assert np.isfinite(embeddings).all()
    if backbone in BACKBONES:
        return
    inside = {type(layer).__name__ for layer in backbone_inside(model).layers[:4]}
    kind = next(kind for kind, names in INPUTS.items() if backbone in names)
    assert (kind == "own") == bool(inside & {"Rescaling", "Normalization"})


@pytest.mark.parametrize("backbone", FAST)
def test_black_and_white_pictures_give_finite_embeddings(backbone):
    check_extremes(backbone)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", sorted(set(APPLICATIONS) - set(FAST)))
def test_black_and_white_pictures_give_finite_embeddings_for_all(backbone):
    check_extremes(backbone)
    keras.backend.clear_session()


def test_the_table_knows_every_application_once():
    assert sorted(name for names in INPUTS.values() for name in names) == sorted(APPLICATIONS)


@pytest.mark.parametrize(("backbone", "module"), [("MobileNet", "mobilenet"), ("DenseNet121", "densenet"), ("ResNet50", "resnet")])
def test_scaling_equals_the_preprocessing_of_the_module(backbone, module):
    kind = next(kind for kind, names in INPUTS.items() if backbone in names)
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype("float32")
    entry = keras.Input((8, 8, 3))
    scaled = keras.Model(entry, _scaled(entry, kind))(images)
    np.testing.assert_allclose(scaled, getattr(keras.applications, module).preprocess_input(images.copy()), atol=2e-5, rtol=1e-5)


def test_preprocessing_of_each_module_is_what_the_table_says():
    """For all applications: the kind in the table against what preprocess_input of the module does to 0 and 255."""
    images = np.array([0.0, 255.0], "float32").reshape(1, 1, 2, 1).repeat(3, -1)
    expected = {"own": 255.0, "signed": 1.0, "standard": 2.64, "centred_bgr": 151.061}
    for kind, names in INPUTS.items():
        for name in names:
            module = inspect.getmodule(getattr(keras.applications, name))
            assert module.preprocess_input(images.copy()).max() == pytest.approx(expected[kind], rel=1e-4), name


def test_small_conv_has_the_parameters_of_its_widths():
    model = built("small_conv", 48, widths=(12, 24, 32, 40))
    kernels = 9 * (3 * 12 + 12 * 24 + 24 * 32 + 32 * 40)
    norms = 4 * (12 + 24 + 32 + 40) + 4 * 40
    assert model.count_params() == kernels + norms + 40 * 8 + 8


@pytest.mark.parametrize(("side", "pooled"), [(112, 7), (48, 3)])
def test_mobilefacenet_follows_the_paper(side, pooled):
    model = build_student(Student(backbone="mobilefacenet", embedding=128), (side, side, 3))
    assert model.get_layer("pool").kernel.shape == (pooled, pooled, 512, 1)
    assert sum(isinstance(layer, keras.layers.Add) for layer in model.layers) == 12  # 4 + 6 + 2 bottlenecks keep size and channels
    if side == 112:
        assert 0.9e6 < model.count_params() < 1.1e6  # the paper says 0.99 million


def test_the_saved_student_is_stock_layers_and_loads_without_our_code(tmp_path):
    entry = keras.Input((32, 32, 3))
    for model in (built("small_conv"), built("mobilefacenet"), keras.Model(entry, _scaled(entry, "centred_bgr"))):
        model.save(tmp_path / "student.keras")
        again = keras.models.load_model(tmp_path / "student.keras", compile=False)
        assert all(type(layer).__module__.startswith("keras") for layer in again.layers)
        images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
        np.testing.assert_array_equal(model(images), again(images))


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_ends_in_float32(precision):
    model = built("small_conv", 32, precision=precision)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    assert model.get_layer("conv1").compute_dtype == precision.removeprefix("mixed_")
    assert keras.backend.standardize_dtype(model(images).dtype) == "float32"
    assert keras.config.dtype_policy().name == "float32"  # the global setting is as before
    assert all(weight.dtype == "float32" for weight in model.weights)


def test_class_head_gives_true_cosines():
    head = ClassHead(5)
    vectors = np.random.default_rng(0).normal(size=(4, 8)).astype("float32")
    cosines = np.asarray(head(vectors))
    rows = np.asarray(head.kernel)
    expected = vectors @ rows.T / np.linalg.norm(vectors, axis=1)[:, None] / np.linalg.norm(rows, axis=1)
    np.testing.assert_allclose(cosines, expected, atol=1e-6)
    np.testing.assert_allclose(head(100 * vectors), cosines, atol=1e-6)
    assert 0.5 < np.linalg.norm(rows, axis=1).mean() < 1.5


def test_projection_has_no_bias():
    layer = projection(16)
    assert np.asarray(layer(np.zeros((1, 8), "float32"))).shape == (1, 16)
    assert len(layer.weights) == 1


def test_unknown_backbones_and_small_images_say_what_is_known():
    with pytest.raises(DistillError, match='received "MobilNetV2". Near it: MobileNetV2'):
        built("MobilNetV2")
    with pytest.raises(DistillError, match="InceptionV3 cannot be built for images of 32x32"):
        built("InceptionV3")


def test_weights_of_an_earlier_student(tmp_path):
    donor = built("small_conv", 32, widths=(4, 8))
    donor.save(tmp_path / "student.keras")
    for where in (tmp_path, tmp_path / "student.keras"):
        student = built("small_conv", 32, widths=(4, 8), weights=str(where))
        for mine, theirs in zip(student.get_weights(), donor.get_weights(), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    with pytest.raises(DistillError, match=r"another student: weight 6 has shape \(3, 3, 4, 8\) there and \(3, 3, 4, 9\) here"):
        built("small_conv", 32, widths=(4, 9), weights=str(tmp_path))
    with pytest.raises(DistillError, match="is not there. Expected a finished run's folder"):
        built("small_conv", 32, weights=str(tmp_path / "nothing"))
    (tmp_path / "bad.keras").write_text("no model")
    with pytest.raises(DistillError, match="cannot be loaded"):
        built("small_conv", 32, weights=str(tmp_path / "bad.keras"))


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
    for divided, expected in ((False, 1.0), (_is_published(tmp_path / "plain.weights.h5"), 1.0), (True, 0.229)):
        if divided:
            _divide_as_published(plain)
        assert float(norm.adapt_variance[0]) == pytest.approx(expected)
        assert float(norm.variance.numpy().ravel()[0]) == pytest.approx(expected)


def test_assigned_weights_of_a_normalization_count(tmp_path):
    entry = keras.Input((4, 4, 3))
    inner = keras.Model(entry, keras.layers.Normalization()(entry))
    model = keras.Model(entry, inner(entry))
    restore({"mean": model.weights[0], "variance": model.weights[1]}, {"mean": np.full(3, 10.0), "variance": np.full(3, 4.0)}, tmp_path)
    settle_scales(model)
    np.testing.assert_allclose(model(np.full((1, 4, 4, 3), 30.0)), 10.0)  # (30 - 10) / 2


@pytest.mark.parametrize("name", ["missing.h5", "missing.keras", "missing", ""])
def test_weights_that_are_not_there_are_one_error_whatever_they_are(name):
    with pytest.raises(DistillError, match=r"^student.weights: .* is not there. Expected a finished run's folder, a student's .keras file"):
        built("MobileNet", 32, weights=name)
