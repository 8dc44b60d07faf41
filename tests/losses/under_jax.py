"""Every loss under JAX: values and gradients are those of the formulas, and finite in corners. A program, because a process has one backend.

All is one function that is compiled once: 4 s of a core, where each operation by itself would take 30.
"""

import jax
import numpy as np
from jax import numpy as jnp

from tests.losses.cases import CASES, OF_EMBEDDINGS, OF_PAIRS
from tests.losses.formulas import slopes
from tests.losses.rows import E, T, Y

ALONE = ("rkd_distance", "rkd_angle", *OF_EMBEDDINGS)  # what compares rows of a batch


def corners(point):
    signs = np.where(np.arange(point.size).reshape(point.shape) % 2, 1.0, -1.0)
    return [0 * point, 0 * point + 1, 0 * point - 1, signs, np.concatenate([0 * point[:1], point[1:]])]


def value_and_gradient(loss):
    def both(point):
        value, back = jax.vjp(loss, point)
        return value, back(jnp.ones_like(value))[0]

    return both


def one_row(name):
    if name in OF_PAIRS:
        return lambda x: OF_PAIRS[name](T[:1], x)
    return lambda x: OF_EMBEDDINGS[name](Y[:1], x)


def main():
    points = {name: np.stack([point, *corners(point)]).astype("float32") for name, (_, _, point) in CASES.items()}
    alone = np.stack([E[:1], 0 * E[:1]]).astype("float32")

    @jax.jit
    def everything(points, alone):
        at_points = {name: jax.vmap(value_and_gradient(CASES[name][0]))(batch) for name, batch in points.items()}
        return at_points, {name: jax.vmap(value_and_gradient(one_row(name)))(alone) for name in ALONE}

    at_points, of_one_row = everything(points, alone)
    for found in (at_points, of_one_row):
        for name, both in found.items():
            for each in both:
                assert each.dtype == np.float32 and np.isfinite(each).all(), name
    for name, (_, formula, point) in CASES.items():
        values, gradients = at_points[name]
        np.testing.assert_allclose(values[0], formula(point), rtol=1e-5, atol=2e-6, err_msg=name)
        exact = slopes(formula, point)
        np.testing.assert_allclose(gradients[0], exact, rtol=2e-4, atol=2e-5 * np.abs(exact).max(), err_msg=name)
    print(f"{len(CASES)} losses")


if __name__ == "__main__":
    main()
