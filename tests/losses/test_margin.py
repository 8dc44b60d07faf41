"""Labels against cosines, against numbers that were computed elsewhere in float64, and against their own corner cases."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from distill.losses.margin import GUARDS, arcface, best_sub_centre, cosface, hits, linear_softmax, margin_cosine, softmax, sphereface
from tests.losses.rows import COSINES, ROWS, Y, gradients, mean


@pytest.mark.parametrize(
    ("value", "golden"),
    [
        (lambda: softmax(Y, COSINES, 64.0), 50.445689),
        (lambda: arcface(Y, COSINES, 64.0, 0.5), 75.312514),
        (lambda: arcface(Y, COSINES, 64.0, 0.0, 1.0, 0.35), 72.339813),
        (lambda: arcface(Y, COSINES, 64.0, 0.0, 1.0, 0.40), 75.539813),
        (lambda: arcface(Y, COSINES, 64.0, 0.3, 1.0, 0.2), 78.525544),
        *((lambda guard=guard: arcface(Y, COSINES, guard=guard), 75.312514) for guard in GUARDS),
        (lambda: cosface(Y, COSINES), 72.339813),
        (lambda: cosface(Y, COSINES, cos_sub=0.4), 75.539813),
        (lambda: sphereface(Y, COSINES), 44.224230),
    ],
    ids=["softmax", "arcface", "margins .35", "margins .40", "angle .3 and cosine .2", *GUARDS, "cosface .35", "cosface .40", "sphereface"],
)
def test_golden_values(value, golden):
    assert mean(value()) == pytest.approx(golden, rel=2e-6)


def test_target_cosines_of_the_fixture():
    np.testing.assert_allclose(COSINES[np.arange(ROWS), Y], [0.394412, -0.066840, -0.259922, -0.462806, 0.731900, -0.780834], atol=1e-6)


BEYOND = {  # target and loss of one row whose other cosines are .1, -.2 and .3
    0.5: dict.fromkeys(GUARDS, (0.023597, 17.689821)),
    -0.95: {"mirror": (-1.016596, 84.262146), "classic": (-1.189713, 95.341620), "none": (-0.983404, 82.137859), "clip": (-1.0, 83.2)},
    -0.999: {"mirror": (-1.101860, 89.719031), "classic": (-1.238713, 98.477620), "none": (-0.898140, 76.680974), "clip": (-1.0, 83.2)},
    1.0: dict.fromkeys(GUARDS, (0.877583, 0.0)),
}


@pytest.mark.parametrize("guard", GUARDS)
@pytest.mark.parametrize("cosine", BEYOND)
def test_beyond_pi_there_is_a_guard(cosine, guard):
    target, loss = BEYOND[cosine][guard]
    assert mean(margin_cosine([cosine], 0.5, guard=guard)) == pytest.approx(target, abs=1e-6)
    assert mean(arcface([0], [[cosine, 0.1, -0.2, 0.3]], 64.0, 0.5, guard=guard)) == pytest.approx(loss, rel=1e-5, abs=3e-5)


def test_without_a_guard_the_worst_rows_are_rewarded():
    worst = [mean(arcface([0], [[cosine, 0.1, -0.2, 0.3]], guard="none")) for cosine in (-0.95, -0.999)]
    assert worst[0] > worst[1] + 5
    for guard in ("mirror", "classic", "clip"):
        assert (np.diff(ops.convert_to_numpy(margin_cosine(np.linspace(1, -1, 2001), 0.5, guard=guard))) < 1e-6).all()


@pytest.mark.parametrize("guard", GUARDS)
def test_straight_through_has_the_value_of_the_margin_and_the_gradient_1(guard):
    cosines = np.linspace(-1, 1, 9)
    given = {"angle_add": 0.5, "cos_sub": 0.1, "guard": guard}
    np.testing.assert_allclose(margin_cosine(cosines, gradient="straight_through", **given), margin_cosine(cosines, **given), atol=2e-7)
    np.testing.assert_array_equal(gradients(lambda c: margin_cosine(c, gradient="straight_through", **given), cosines), np.ones(9))


def test_a_guard_or_gradient_that_is_none_is_refused():
    with pytest.raises(ValueError, match="guard of mirror, classic, none, clip and a gradient of exact, straight_through. Received 'wall' and 'exact'"):
        margin_cosine([0.5], 0.5, guard="wall")
    with pytest.raises(ValueError, match="Received 'mirror' and 'no'"):
        margin_cosine([0.5], 0.5, gradient="no")


@pytest.mark.parametrize("angle_mult", [1.0, 1.35, 1.7, 3.0, 4.0])
def test_the_target_of_sphereface_falls_without_a_jump_from_1(angle_mult):
    """To 1 - 2m at pi where m is whole. Its loss at scale 1 with one other class at 0 is log(1 + e^-target)."""
    cosines = np.cos(np.linspace(0, np.pi, 1001))
    losses = ops.convert_to_numpy(sphereface(np.zeros(1001, np.int32), np.stack([cosines, 0 * cosines], axis=1), 1.0, angle_mult)).astype(float)
    targets = -np.log(np.expm1(losses))
    assert targets[0] == pytest.approx(1, abs=1e-5)
    assert (np.diff(targets) < 1e-5).all() and np.abs(np.diff(targets)).max() < 0.02
    if angle_mult % 1 == 0:
        assert targets[-1] == pytest.approx(1 - 2 * angle_mult, abs=1e-3)


def test_norms_scale_their_rows():
    np.testing.assert_allclose(sphereface(Y, COSINES, norms=np.full(ROWS, 30.0)), sphereface(Y, COSINES, scale=30.0), rtol=1e-6)


def test_label_smoothing_wants_a_share_of_all_classes():
    """Logits log 3 and 0 are probabilities 3/4 and 1/4; with a share of .2 those wanted are .9 and .1."""
    logits = np.log([[3.0, 1.0]])
    assert mean(linear_softmax([0], logits)) == pytest.approx(-np.log(0.75), rel=1e-6)
    assert mean(linear_softmax([0], logits, 0.2)) == pytest.approx(-0.9 * np.log(0.75) - 0.1 * np.log(0.25), rel=1e-6)
    np.testing.assert_allclose(softmax(Y, COSINES, 16.0, 0.1), linear_softmax(Y, 16.0 * COSINES, 0.1), rtol=1e-6)


def test_the_nearest_sub_centre_counts():
    np.testing.assert_allclose(best_sub_centre([[[0.1, 0.7], [0.3, -0.2]]]), [[0.7, 0.3]])
    np.testing.assert_array_equal(gradients(best_sub_centre, [[[0.1, 0.7], [0.3, -0.2]]]), [[[0, 1], [1, 0]]])


@pytest.mark.parametrize(("angle_add", "angle_mult", "cos_sub"), [(0.5, 1.0, 0.0), (0.3, 1.0, 0.2), (0.0, 1.7, 0.0), (0.2, 1.5, 0.1)])
def test_a_worse_row_never_has_a_smaller_loss(angle_add, angle_mult, cos_sub):
    cosines = np.linspace(1, -1, 2001)
    targets = ops.convert_to_numpy(margin_cosine(cosines, angle_add, angle_mult, cos_sub))
    assert (np.diff(targets) < 1e-6).all()
    assert np.abs(np.diff(targets)).max() < 0.07  # no jump: at -1 the angle itself moves by .045 a step


def test_margins_work_against_the_row():
    cosines = np.linspace(-1, 1, 41)
    assert (ops.convert_to_numpy(margin_cosine(cosines, 0.5)) <= cosines + 1e-6).all()
    np.testing.assert_allclose(margin_cosine(cosines, 0.0), cosines, atol=2e-6)


@pytest.mark.parametrize("cosine", [1.0, 1.0000002, -1.0, -1.0000002, 0.99999994, 0.0])
def test_gradients_are_finite_where_acos_has_none(cosine):
    for function in (lambda c: margin_cosine(c, 0.5), lambda c: margin_cosine(c, 0.2, 1.5, 0.1)):
        found = gradients(function, [cosine])
        assert np.isfinite(found).all()
        assert abs(found[0]) < 5000
    row = gradients(lambda c: arcface(np.array([0], np.int32), c), [[cosine, 0.1, -0.2]])
    assert np.isfinite(row).all()


def test_the_gradient_against_the_formula():
    angle = 1.0
    found = gradients(lambda c: margin_cosine(c, 0.5), [math.cos(angle)])
    assert found[0] == pytest.approx(math.sin(angle + 0.5) / math.sin(angle), rel=1e-4)


def test_examples_of_the_docstrings():
    assert mean(softmax([0], [[1.0, 1.0]], 64.0)) == pytest.approx(math.log(2), abs=1e-5)
    assert mean(linear_softmax([0], [[math.log(3), 0.0]])) == pytest.approx(math.log(4 / 3), rel=1e-5)
    assert mean(cosface([0], [[0.5, 0.5]], scale=1.0, cos_sub=0.5)) == pytest.approx(math.log(1 + math.exp(0.5)), rel=1e-6)
    assert mean(sphereface([0], [[-1.0, 0.0]], scale=1.0, angle_mult=4.0)) == pytest.approx(math.log(1 + math.exp(7)), rel=1e-5)


def test_rows_without_a_label_weigh_nothing():
    cosines = COSINES.astype("float32")
    labels = np.array([0, -1, 2, -1, 1, 2], np.int32)
    for function in (softmax, arcface):
        rows = ops.convert_to_numpy(function(labels, cosines))
        assert (rows[labels < 0] == 0).all()
        np.testing.assert_array_equal(rows[labels == Y], ops.convert_to_numpy(function(Y, cosines))[labels == Y])
    assert hits(labels, cosines)[1] == 0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_goes_in_and_float32_comes_out(dtype):
    cosines = ops.cast(COSINES, dtype)
    for values in (softmax(Y, cosines), arcface(Y, cosines)):
        assert keras.backend.standardize_dtype(values.dtype) == "float32"
        assert tuple(values.shape) == (ROWS,)


def test_hits_count_the_nearest_class():
    assert mean(hits(np.array([1, 0], np.int32), np.array([[0.1, 0.9], [0.2, 0.3]], "float32"))) == 0.5
