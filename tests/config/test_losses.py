"""The options of terms: what is out of their ranges, and what does not go together, is said with the key, what came and what was expected."""

import re

import pytest

from distill import DistillError
from distill.config.files import build_run
from distill.config.losses import TERMS, Arcface, LinearSoftmax, Softmax


def run_with(term, **options):
    return build_run({"data": {"shards": "s"}, "stage": [{"terms": [{"name": term, **options}]}]}, [], "run")


@pytest.mark.parametrize("name", TERMS)
def test_every_term_stands_in_a_run_with_its_defaults(name):
    (term,) = run_with(name).stage[0].terms
    assert type(term) is TERMS[name] and term == TERMS[name]()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("softmax", {"label_smoothing": 1.0}, "label_smoothing: received 1.0, should be less than 1."),
        ("linear_softmax", {"scale": 64.0}, '"scale" belongs to term "softmax" or '),
        ("arcface", {"guard": "wall"}, "guard: received 'wall', should be 'mirror', 'classic', 'none' or 'clip'."),
        ("arcface", {"gradient": "none"}, "gradient: received 'none', should be 'exact' or 'straight_through'."),
        (
            "arcface",
            {"guard": "classic", "angle_mult": 1.5},
            'guard = "classic" is of angles that are not multiplied, but angle_mult is 1.5; take guard = "mirror".',
        ),
        ("sphereface", {"angle_mult": 0.5}, "angle_mult: received 0.5, should be greater than or equal to 1."),
        (
            "sphereface",
            {"free_norm": True, "scale": 64.0},
            "free_norm = true takes the length of each embedding for its scale, but scale = 64 is given; leave one of them out.",
        ),
        ("curricularface", {"angle_add": 4.0}, "angle_add: received 4.0, should be less than or equal to 3.14"),
        ("adaface", {"rate": 0.0}, "rate: received 0.0, should be greater than 0."),
        ("adaface", {"rate": 1.5}, "rate: received 1.5, should be less than or equal to 1."),
        ("magface", {"lower_norm": 110.0}, "lower_norm = 110 must be below upper_norm = 110."),
        ("magface", {"upper_margin": 0.4}, "lower_margin = 0.45 must not be above upper_margin = 0.4: longer embeddings have larger margins."),
        ("magface", {"form": "hard"}, "form: received 'hard', should be 'easy' or 'min'."),
        ("centre", {"alpha": 0.0}, "alpha: received 0.0, should be greater than 0."),
        ("centre_mean", {"alpha": 1.0}, "alpha: received 1.0, should be less than 1."),
        ("triplet", {"distance": "l1"}, "distance: received 'l1', should be 'cosine' or 'squared_euclidean'."),
        ("triplet", {"mining": "semi"}, "mining: received 'semi', should be 'hard' or 'all'."),
        ("triplet", {"rows": 513}, "rows: received 513, should be less than or equal to 512."),
        ("rkd_distance", {"rows": 1}, "rows: received 1, should be greater than or equal to 2."),
        ("rkd_angle", {"rows": 513}, "rows: received 513, should be less than or equal to 512."),
        ("queue", {"size": 1}, "size: received 1, should be greater than or equal to 2."),
        ("queue", {"temperature": 0.0}, "temperature: received 0.0, should be greater than 0."),
        ("kl", {"temperature": 0.0}, "temperature: received 0.0, should be greater than 0."),
    ],
)
def test_options_out_of_range_are_refused(name, options, message):
    with pytest.raises(DistillError, match=re.escape(message)) as caught:
        run_with(name, **options)
    assert "stage.1.terms.1" in str(caught.value)


def test_heads_of_terms():
    """Terms of one head share its weights; distances between embeddings need none."""
    assert LinearSoftmax(batch_norm=True).takes == "linear_norm"
    assert Softmax().head == Arcface().head and Softmax().takes == "cosine"
    assert {name: TERMS[name]().takes for name in ("centre", "centre_mean", "triplet")} == dict.fromkeys(("centre", "centre_mean", "triplet"), "student")
    assert all(kind().head is None for kind in TERMS.values() if kind.needs == "embedding")
