"""Every loss as a function of one thing, embeddings or cosines: what tests of all of them go through.

A case is (loss, formula, point): the loss of distill/losses, the same in NumPy and float64, and where both are looked at.
"""

import numpy as np

from distill.losses import adaptive, embedding, margin, metric, relations
from tests.losses import formulas
from tests.losses.rows import CLASSES, COSINES, DIMENSION, E, T, Y

NORMS = np.linalg.norm(E, axis=1)
CENTRES = np.sin(3 * np.arange(CLASSES)[:, None] + 0.7 * np.arange(DIMENSION))
QUEUE = formulas.units(np.cos(1.3 * np.arange(9)[:, None] + np.arange(DIMENSION) ** 2))
FILLED = np.arange(9) < 7


def spherical(lengths):
    """SphereFace with free norms, as a function of the norms alone."""
    return margin.sphereface(Y, COSINES, norms=lengths)


CASES = {
    "cosine": (lambda x: embedding.cosine_distance(T, x), lambda x: 1 - (formulas.units(T) * formulas.units(x)).sum(axis=1), E),
    "mse": (lambda x: embedding.mse(T, x), lambda x: ((T - x) ** 2).mean(axis=1), E),
    "sum_of_squares": (lambda x: embedding.sum_of_squares(T, x), lambda x: ((T - x) ** 2).sum(axis=1), E),
    "mean_absolute": (lambda x: embedding.mean_absolute(T, x), lambda x: np.abs(T - x).mean(axis=1), E),
    "length": (embedding.length, lambda x: np.linalg.norm(x, axis=1), E),
    "kl": (lambda x: embedding.kl(T, x), lambda x: formulas.kl(T, x), E),
    "kl, temperature .5": (lambda x: embedding.kl(T, x, 0.5), lambda x: formulas.kl(T, x, 0.5), E),
    "queue": (lambda x: embedding.queue_similarity(T, x, QUEUE, FILLED), lambda x: formulas.queue_similarity(T, x, QUEUE, FILLED), E),
    "rkd_distance": (lambda x: relations.rkd_distance(T, x), lambda x: formulas.rkd_distance(T, x), E),
    "rkd_distance, 4 rows": (lambda x: relations.rkd_distance(T, x, 4), lambda x: formulas.rkd_distance(T, x, 4), E),
    "rkd_angle": (lambda x: relations.rkd_angle(T, x), lambda x: formulas.rkd_angle(T, x), E),
    "rkd_angle, 4 rows": (lambda x: relations.rkd_angle(T, x, 4), lambda x: formulas.rkd_angle(T, x, 4), E),
    "softmax": (lambda c: margin.softmax(Y, c), lambda c: formulas.cross_entropy(Y, 64 * c), COSINES),
    "softmax, smoothed": (lambda c: margin.softmax(Y, c, 16.0, 0.1), lambda c: formulas.smoothed(Y, 16 * c, 0.1), COSINES),
    "linear_softmax": (lambda c: margin.linear_softmax(Y, c), lambda c: formulas.cross_entropy(Y, c), COSINES),
    "linear_softmax, smoothed": (lambda c: margin.linear_softmax(Y, c, 0.2), lambda c: formulas.smoothed(Y, c, 0.2), COSINES),
    **{
        f"arcface, {guard}": (
            lambda c, guard=guard: margin.arcface(Y, c, angle_add=1.0, guard=guard),
            lambda c, g=guard: formulas.arcface(Y, c, 64, 1.0, g),
            COSINES,
        )
        for guard in margin.GUARDS
    },
    "cosface": (lambda c: margin.cosface(Y, c), lambda c: formulas.cosface(Y, c), COSINES),
    "sphereface": (lambda c: margin.sphereface(Y, c), lambda c: formulas.sphereface(Y, c), COSINES),
    "sphereface, 4": (lambda c: margin.sphereface(Y, c, angle_mult=4.0), lambda c: formulas.sphereface(Y, c, angle_mult=4), COSINES),
    "sphereface, of norms": (spherical, lambda x: formulas.sphereface(Y, COSINES, x), NORMS),
    "curricularface": (lambda c: adaptive.curricularface(Y, c, 0.3), lambda c: formulas.curricularface(Y, c, 0.3), COSINES),
    "adaface": (lambda c: adaptive.adaface(Y, c, NORMS, 2.0, 0.1), lambda c: formulas.adaface(Y, c, NORMS, 2.0, 0.1), COSINES),
    **{
        f"magface, {form}": (
            lambda c, form=form: adaptive.magface(Y, c, 20 * NORMS, form=form),
            lambda c, form=form: formulas.magface(Y, c, 20 * NORMS, form=form),
            COSINES,
        )
        for form in ("easy", "min")
    },
    "magface, of norms": (lambda x: adaptive.magface(Y, COSINES, x), lambda x: formulas.magface(Y, COSINES, x), 20 * NORMS),
    "centre": (lambda x: metric.centre(Y, x, CENTRES), lambda x: formulas.centre(Y, x, CENTRES), E),
    "centre_mean": (lambda x: metric.centre_mean(Y, x, CENTRES), lambda x: formulas.centre(Y, x, CENTRES) * 2 / DIMENSION, E),
    **{
        f"{name}, {distance}": (
            lambda x, name=name, distance=distance: getattr(metric, name)(Y, x, distance=distance),
            lambda x, name=name, distance=distance: getattr(formulas, name)(Y, x, distance=distance),
            E,
        )
        for name in ("triplet_hard", "triplet_all")
        for distance in metric.DISTANCES
    },
}

# each loss of a label as a function of (label, cosines or embedding), with norms where it needs some: for labels, shapes and values of any kind
OF_COSINES = {
    "softmax": margin.softmax,
    "softmax, smoothed": lambda label, cosines: margin.softmax(label, cosines, label_smoothing=0.1),
    "linear_softmax": margin.linear_softmax,
    **{f"arcface, {guard}": lambda label, cosines, guard=guard: margin.arcface(label, cosines, guard=guard) for guard in margin.GUARDS},
    "arcface, straight through": lambda label, cosines: margin.arcface(label, cosines, gradient="straight_through"),
    "cosface": margin.cosface,
    "sphereface": margin.sphereface,
    "sphereface, 4": lambda label, cosines: margin.sphereface(label, cosines, 64.0, 4.0),
    "curricularface": lambda label, cosines: adaptive.curricularface(label, cosines, 0.3),
    "adaface": lambda label, cosines: adaptive.adaface(label, cosines, 20.0 + 0 * cosines[:, 0], 20.0, 0.0),
    **{f"magface, {form}": lambda label, cosines, form=form: adaptive.magface(label, cosines, 20.0 + 0 * cosines[:, 0], form=form) for form in ("easy", "min")},
}
OF_EMBEDDINGS = {
    "centre": lambda label, x: metric.centre(label, x, np.ones((4, x.shape[1]), "float32")),
    "centre_mean": lambda label, x: metric.centre_mean(label, x, np.ones((4, x.shape[1]), "float32")),
    **{
        f"{name}, {distance}": lambda label, x, name=name, distance=distance: getattr(metric, name)(label, x, distance=distance)
        for name in ("triplet_hard", "triplet_all")
        for distance in metric.DISTANCES
    },
}
OF_PAIRS = {
    "cosine": embedding.cosine_distance,
    "mse": embedding.mse,
    "sum_of_squares": embedding.sum_of_squares,
    "mean_absolute": embedding.mean_absolute,
    "kl": embedding.kl,
    "queue": lambda target, x: embedding.queue_similarity(target, x, np.eye(5, x.shape[1], dtype="float32"), np.arange(5) < 3),
    "empty queue": lambda target, x: embedding.queue_similarity(target, x, np.zeros((5, x.shape[1]), "float32"), np.zeros(5, bool)),
    "rkd_distance": relations.rkd_distance,
    "rkd_angle": relations.rkd_angle,
}
