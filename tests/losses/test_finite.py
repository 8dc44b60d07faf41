"""Whatever rows, classes and dimensions a batch has, and whatever stands in it: no term makes a value or a gradient that is no number."""

import keras
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from keras import ops

from distill.config.losses import TERMS
from distill.losses.objective import OBJECTIVES
from tests.losses.rows import gradients

OPTIONS = {  # beside the defaults of every term
    "arcface": [{"guard": "classic"}, {"guard": "none"}, {"guard": "clip"}, {"gradient": "straight_through"}],
    "sphereface": [{"free_norm": True}, {"angle_mult": 4.0}],
    "magface": [{"form": "min"}],
    "softmax": [{"label_smoothing": 0.5}],
    "triplet": [{"mining": "all"}, {"distance": "squared_euclidean"}, {"mining": "all", "distance": "squared_euclidean"}],
    "queue": [{"size": 3}],
}
TERMS_AT_WORK = [(name, options) for name in TERMS for options in ({}, *OPTIONS.get(name, []))]
COARSE = st.sampled_from([-300.0, -1.0, -0.5, 0.0, 0.25, 1.0, 2.0, 7.0, 300.0])  # whose differences are no smaller in float16
ANY = st.one_of(COARSE, st.floats(-1e4, 1e4, width=32))
COSINES = st.one_of(st.sampled_from([-1.0, 0.0, 1.0, float(np.float32(1 + 1e-7))]), st.floats(-1, 1, width=32))


@st.composite
def batches(draw):
    dtype = draw(st.sampled_from(["float32", "float16", "bfloat16"]))
    rows, dimension, classes = draw(st.integers(1, 6)), draw(st.integers(1, 4)), draw(st.integers(1, 4))
    values = ANY if dtype == "float32" else COARSE
    teacher, student = (draw(arrays(np.float32, (rows, dimension), elements=values)) for _ in range(2))
    label = draw(arrays(np.int32, (rows,), elements=st.integers(-1, classes - 1)))
    return dtype, teacher, student, label, draw(arrays(np.float32, (rows, classes), elements=COSINES))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(batch=batches(), work=st.sampled_from(TERMS_AT_WORK))
def test_values_gradients_and_state_are_finite(batch, work):
    dtype, teacher, student, label, scores = batch
    name, options = work
    objective = OBJECTIVES[name](TERMS[name](**options))
    objective.build(teacher.shape[1], student.shape[1], scores.shape[1])

    def rows(point):
        """Of the embedding and the scores next to one another, so that one gradient is that of both."""
        embedding, of_classes = point[:, : student.shape[1]], point[:, student.shape[1] :]
        predicted = {"student": embedding, "embedding": embedding} | ({objective.term.takes: of_classes} if objective.term.head else {})
        return objective({"label": label, "embedding": teacher}, predicted, True)

    def forgetful(point):
        with keras.StatelessScope():
            return rows(point)

    point = np.concatenate([student, scores], axis=1)
    value = rows(ops.cast(point, dtype))
    assert keras.backend.standardize_dtype(value.dtype) == "float32"
    for each in (value, gradients(forgetful, point, dtype), *objective.variables):
        assert np.isfinite(ops.convert_to_numpy(each).astype("float32")).all()
