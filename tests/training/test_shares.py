"""Shares of terms in the gradient at the embedding, and weights that balance them, by numbers that can be checked by hand."""

import csv

import keras
import numpy as np
import pytest

from distill.config.data import Holdout
from distill.config.losses import Cosine, Mse, Softmax
from distill.config.run import Run
from distill.config.stage import Balanced
from distill.errors import DistillError, Interrupted
from distill.training import callbacks
from distill.training.describe import describe_stage
from distill.training.model import build_parts, compiled
from distill.training.moves import check_moves
from distill.training.rehearsal import rehearse
from distill.training.shares import balanced_weights, gradient_norms, shares_of, weak_terms
from distill.training.stages import open_stages
from distill.training.trainer import train
from tests.builders import make_set
from tests.conftest import inside


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("shares") / "set")


def run_of(shards, *terms, epochs=1):
    return Run.model_validate(
        {"student": {"widths": [4], "embedding": 4}, "data": {"shards": str(shards), "batch": 16}, "stage": [{"epochs": epochs, "terms": terms}]}
    )


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ([Cosine(weight=2.0), Mse(weight="auto")], {"mse": 12.0}),
        ([Cosine(weight=2.0), Mse(weight="auto", share=0.5)], {"mse": 6.0}),
        ([Cosine(weight="auto"), Mse(weight="auto")], {"cosine": 1.0, "mse": 6.0}),
        ([Cosine(weight="auto", share=2.0), Mse(weight="auto")], {"cosine": 1.0, "mse": 3.0}),
        ([Cosine(weight=1.0), Softmax(weight=3.0), Mse(weight="auto")], {"mse": 15.0}),
        ([Cosine(), Softmax()], {}),
    ],
)
def test_auto_weights_make_shares_equal(terms, expected):
    """The norms are cosine 3, mse .5 and softmax 4: the mean of 1 x 3 and 3 x 4 is 7.5, which is 15 times .5."""
    assert balanced_weights(terms, {"cosine": 3.0, "mse": 0.5, "softmax": 4.0}) == expected


def test_a_term_without_a_gradient_gets_one():
    assert balanced_weights([Cosine(), Mse(weight="auto")], {"cosine": 3.0, "mse": 0.0}) == {"mse": 1.0}


def test_shares_add_up():
    assert shares_of({"cosine": 2.0, "mse": 1.0}, {"cosine": 3.0, "mse": 2.0}) == {"cosine": 0.75, "mse": 0.25}
    assert shares_of({"cosine": 2.0}, {"cosine": 0.0}) == {"cosine": 0.0}


def test_a_weak_term_is_told_with_the_weight_that_makes_it_equal():
    """.005 of the whole against .995: 199 times the weight."""
    (line,) = weak_terms({"cosine": 64.0, "mse": 1.0}, {"cosine": 0.995, "mse": 0.005}).values()
    assert '"mse" has 0.5 % of the gradient' in line and "weight = 2e+02" in line
    assert not weak_terms({"cosine": 64.0, "mse": 1.0}, {"cosine": 0.98, "mse": 0.02})


def test_norms_are_those_of_the_gradient(shards):
    """mse is mean over D = 3 and B = 16 of (t - p)^2, so its gradient is 2 (p - t) / 48."""
    run = run_of(shards, {"name": "mse"}, {"name": "cosine"})
    run = run.model_copy(update={"student": run.student.model_copy(update={"embedding": 3})})
    (data,) = open_stages(run)
    parts = build_parts(run, [data])
    model, _ = compiled(run, data, parts)
    images, values = next(iter(data.epoch(0)))
    before = [np.array(weight) for weight in model.get_weights()]
    norms = gradient_norms(model, images, values)
    difference = keras.ops.convert_to_numpy(parts.student(images)) - values["embedding"]
    assert norms["mse"] == pytest.approx(np.linalg.norm(2 * difference / difference.size), rel=1e-5)
    assert norms["cosine"] > 0
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_stage_of_several_terms_tells_shares_and_keeps_auto_weights(shards, tmp_path, capsys):
    run = run_of(shards, {"name": "cosine", "weight": 64}, {"name": "mse", "weight": "auto"}, {"name": "softmax", "weight": 1e-5}, epochs=2)
    train(run, tmp_path / "run")
    said = capsys.readouterr().err
    assert "shares of the gradient at the embedding: cosine 66.7 %, mse 33.3 %" in said and "weight of mse" in said
    assert said.count('warning: term "softmax" has') == 1 and 'weight = "auto"' in said
    rows = list(csv.DictReader((tmp_path / "run" / "history.csv").read_text().splitlines()))
    assert sum(float(rows[-1][f"share_{name}"]) for name in ("cosine", "mse", "softmax")) == pytest.approx(1, abs=1e-4)
    with np.load(tmp_path / "run" / "checkpoints" / "last.npz") as stored:
        assert stored["stage_1_weight_mse/0"] not in (0, 1)


def test_a_share_belongs_to_auto():
    with pytest.raises(ValueError, match='share = 2 belongs to weight = "auto"'):
        Mse(share=2.0)


# ------------------------------------------------------------------------------------------------------------------- centres from the teacher


@pytest.mark.parametrize("centres", ["mean", "adaptive"])
def test_centres_begin_as_the_means_of_the_rows_that_train(shards, tmp_path, centres):
    run = run_of(shards, {"name": "arcface", "centres": centres, "scale": 16})
    run = run.model_copy(update={"data": run.data.model_copy(update={"holdout": Holdout(by="key", fraction=0.3)})})
    (data,) = open_stages(run)
    train(run, tmp_path / "run", quiet=True)
    sums, counts = np.zeros((data.train.classes, 3)), np.zeros((data.train.classes, 1))
    for _, values in data.train.epoch(0):
        np.add.at(sums, values["label"], values["embedding"].astype(np.float64))
        np.add.at(counts, values["label"], 1)
    with np.load(tmp_path / "run" / "checkpoints" / "last.npz") as stored:
        found = stored[f"shards_{data.train.classes}_cosine_{centres}/0"]
        slots = [name for name in stored.files if name.startswith("optimizer/") and stored[name].shape == found.shape]
    assert slots == []
    if centres == "mean":
        np.testing.assert_allclose(found, sums / np.maximum(counts, 1), rtol=1e-5, atol=1e-6)
    else:
        assert np.abs(found - sums / np.maximum(counts, 1)).max() > 1e-3
    cached = tmp_path / "run" / "checkpoints" / f"shards_{data.train.classes}_cosine_{centres}.npz"
    with np.load(cached) as stored:
        np.testing.assert_allclose(stored["centres"], sums / np.maximum(counts, 1), rtol=1e-5, atol=1e-6)


def test_a_run_that_ends_before_its_first_checkpoint_leaves_no_centres(shards, tmp_path):
    """Ctrl-C in the first epoch: the same command begins anew, as it says."""
    run, out = run_of(shards, {"name": "arcface", "centres": "mean", "scale": 16}), tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:

        def interrupt(self, batch, logs=None):
            raise KeyboardInterrupt

        patch.setattr(callbacks.ShowSteps, "on_train_batch_end", interrupt)
        with pytest.raises(Interrupted, match="the same command begins anew"):
            train(run, out, quiet=True)
    assert not out.exists()
    train(run, out, quiet=True)
    assert inside("inspect", out / "checkpoints" / "shards_20_cosine_mean.npz").returncode == 0


def test_frozen_layers_that_nothing_has_trained_are_warned_of(shards, tmp_path, capsys):
    values = run_of(shards, {"name": "cosine"}, {"name": "mse", "weight": "auto"}).model_dump(mode="json")
    values["stage"][0]["freeze"] = "backbone"
    train(Run.model_validate(values), tmp_path / "run")
    assert "warning: stage 1: 3 frozen layers (conv1, for one) begin at random, and no stage before trains them." in capsys.readouterr().err
    values["stage"] = [run_of(shards, {"name": "cosine"}).model_dump(mode="json")["stage"][0], values["stage"][0]]
    later = Run.model_validate(values)
    stages = open_stages(later)
    assert check_moves(later, stages, build_parts(later, stages)) == []


def test_where_no_term_has_a_gradient_it_is_said():
    (line,) = weak_terms({"cosine": 1.0, "mse": 1.0}, {"cosine": 0.0, "mse": 0.0}, ["mse"]).values()
    assert "no term has a gradient" in line and "the weight of mse stays 1" in line


def test_an_average_of_no_update_is_not_saved(shards, tmp_path):
    """In the first steps of float16 the loss scale is too high, and no update is made: the student stays as it began, and is not the zeros of the average."""
    values = run_of(shards, {"name": "cosine", "weight": 1e6}).model_dump(mode="json")
    values["student"]["precision"], values["data"]["batch"] = "mixed_float16", 150
    values["stage"][0]["optimizer"] = {"name": "sgd", "learning_rate": 1e-3, "ema": 0.5}
    train(Run.model_validate(values), tmp_path / "run", quiet=True)
    saved = keras.models.load_model(tmp_path / "run" / "student.keras", compile=False)
    assert any(np.abs(weight).max() > 0.01 for weight in saved.get_layer("embedding").get_weights())


def test_a_dry_run_counts_what_the_stage_learns_that_learns_most(shards):
    """Whatever the last stage freezes."""
    values = run_of(shards, {"name": "cosine"}).model_dump(mode="json")
    values["stage"] = [values["stage"][0], {**values["stage"][0], "freeze": "backbone"}]
    both, alone = (rehearse(Run.model_validate({**values, "stage": stages})).memory for stages in (values["stage"], values["stage"][:1]))
    assert both["optimizer"] == alone["optimizer"] > 0 and both["weights"] == alone["weights"]


@pytest.mark.parametrize(("by", "judged"), [("identity", ()), ("key", ("embedding", "label"))])
def test_held_out_people_have_no_centre_to_be_judged_by(shards, by, judged):
    run = run_of(shards, {"name": "arcface", "centres": "mean"})
    run = run.model_copy(update={"data": run.data.model_copy(update={"holdout": Holdout(by=by, fraction=0.3)})})
    (data,) = open_stages(run)
    assert data.held_out_fields == judged and (data.held_out is None) == (judged == ())


def test_adaptive_centres_go_on_as_they_were(shards, tmp_path):
    whole, parts = (run_of(shards, {"name": "arcface", "centres": "adaptive", "scale": 16}, epochs=2) for _ in range(2))
    train(whole, tmp_path / "whole", quiet=True)

    class Broken(Exception):
        pass

    with pytest.MonkeyPatch.context() as patch:
        begin = callbacks.ShowSteps.on_epoch_begin

        def break_off(self, epoch, logs=None):
            if epoch == 1:
                raise Broken
            begin(self, epoch, logs)

        patch.setattr(callbacks.ShowSteps, "on_epoch_begin", break_off)
        with pytest.raises(Broken):
            train(parts, tmp_path / "parts", quiet=True)
    train(parts, tmp_path / "parts", quiet=True)
    with np.load(tmp_path / "whole/checkpoints/last.npz") as one, np.load(tmp_path / "parts/checkpoints/last.npz") as other:
        for name in one.files:
            if name != "progress.json":
                np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_centres_of_the_teacher_need_its_embeddings(tmp_path):
    from distill.images.codec import encode_jpeg
    from tests.builders import IDENTITIES, picture

    for number in range(2 * IDENTITIES):
        (tmp_path / f"p{number % 4}").mkdir(exist_ok=True)
        (tmp_path / f"p{number % 4}" / f"{number}.jpg").write_bytes(encode_jpeg(picture(number)))
    values = {"data": {"images": str(tmp_path), "size": [8, 8]}, "stage": [{"source": "images", "terms": [{"name": "arcface", "centres": "mean"}]}]}
    with pytest.raises(DistillError, match='term "arcface" with centres = "mean" needs "embedding", but source "images" gives: label'):
        open_stages(Run.model_validate(values))


def test_sub_centres_are_learned():
    with pytest.raises(ValueError, match='sub_centres = 3 are learned, but centres = "mean"'):
        Softmax(sub_centres=3, centres="mean")


def test_the_length_of_embeddings_is_told_and_chance_is_warned_of(shards):
    run = run_of(shards, {"name": "sum_of_squares", "weight": 2}, {"name": "triplet"})
    said = "\n".join(describe_stage(run, *open_stages(run), False))
    assert "sum_of_squares" in said and "(weight 2, dimension 3, mean norm" in said
    assert 'warning: rows of a class meet by chance alone in batches of 16 rows of 20 classes, and term "triplet" compares them' in said
    balanced = run.model_copy(update={"stage": (run.stage[0].model_copy(update={"balanced": Balanced(identities=4, images=4)}),)})
    assert "by chance" not in "\n".join(describe_stage(balanced, *open_stages(balanced), False))
