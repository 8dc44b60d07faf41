"""Students: every backbone by name, its top, and what stays out of the saved file."""

import keras
import numpy as np
import pytest

from distill import DistillError
from distill.models.applications import INPUTS
from distill.models.heads import ClassHead
from distill.models.scaling import scaled
from distill.models.students import BACKBONES, projection
from tests.models.students import APPLICATIONS, backbone_inside, built, smallest

FAST = ["small_conv", "mobilefacenet", "MobileNet", "MobileNetV3Small", "VGG16"]  # every kind of input but "standard"


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


def test_the_saved_student_is_stock_layers_and_loads_without_our_code(tmp_path):
    entry = keras.Input((32, 32, 3))
    for model in (built("small_conv"), built("mobilefacenet"), keras.Model(entry, scaled(entry, "centred_bgr"))):
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
