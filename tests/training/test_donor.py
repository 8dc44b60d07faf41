"""What a run takes from the run that it starts from: rows of class heads by name, and a student that ends in the teacher's space."""

import json
import re
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

from distill.config.losses import Head
from distill.config.run import Run
from distill.errors import DistillError
from distill.models.heads import build_head
from distill.training.donor import _keep
from distill.training.layers import find_layers
from distill.training.model import Training, build_parts
from distill.training.rehearsal import rehearse
from distill.training.stages import open_stages
from distill.training.trainer import train
from tests.builders import IDENTITIES, make_set

OTHERS = [f"p{IDENTITIES - 1 - number}" if number % 2 else f"new {number}" for number in range(IDENTITIES)]  # p18, p16 ... p0 at 1, 3 ... 19


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """Two sets that share every second class, and a run on the first one that has a class head of each kind."""
    room = tmp_path_factory.mktemp("donor")
    make_set(room / "set")
    make_set(room / "others", names=OTHERS)
    terms = [{"name": "arcface"}, {"name": "softmax", "sub_centres": 2}]
    train(run_of(room / "set", *terms), room / "run", quiet=True)
    return room


def run_of(shards, *terms, holdout=None, **student):
    data = {"shards": str(shards), "batch": 64} | ({"holdout": holdout} if holdout else {})
    student = {"widths": [4], "embedding": 4, **student}
    return Run.model_validate({"student": student, "data": data, "stage": [{"epochs": 1, "terms": list(terms), "optimizer": {"learning_rate": 1e-9}}]})


def arrays_of(run):
    with np.load(run / "checkpoints" / "last.npz") as stored:
        return {name: stored[name] for name in stored.files}


def test_a_checkpoint_names_its_classes(room):
    stored = arrays_of(room / "run")
    assert json.loads(stored["classes/shards_20"].tobytes()) == [f"p{number}" for number in range(IDENTITIES)]
    assert stored["shards_20/0"].shape == (20, 4) and stored["shards_20_cosine_2/0"].shape == (40, 4)


def test_rows_of_the_same_people_are_kept(room, tmp_path, capsys):
    """Ten of twenty classes are in both tables; the learning rate is too small to move them in one epoch."""
    run = run_of(room / "others", {"name": "arcface"}, {"name": "softmax", "sub_centres": 2}, weights=str(room / "run"), head="kept")
    train(run, tmp_path / "run")
    said = capsys.readouterr().err
    assert f"class head shards_20: 10 of 20 classes begin with their rows of shards_20 in {room / 'run' / 'checkpoints' / 'last.npz'}" in said
    assert "class head shards_20_cosine_2: 10 of 20 classes begin with their rows of shards_20_cosine_2" in said
    old, new = arrays_of(room / "run"), arrays_of(tmp_path / "run")
    for name, each in (("shards_20/0", 1), ("shards_20_cosine_2/0", 2)):
        before, after = (stored[name].reshape(20, each, 4) for stored in (old, new))
        np.testing.assert_allclose(after[1::2], before[18::-2], atol=1e-6)  # p18 is the second of the others
        assert np.abs(after[0::2] - before[0::2]).max() > 0.1
    assert json.loads(new["classes/shards_20"].tobytes()) == OTHERS


def test_columns_biases_and_averages_of_a_linear_head_go_with_their_class(room):
    head, numbers = Head(kind="linear", batch_norm=True), np.arange(1.0, 21)
    (data,) = open_stages(run_of(room / "others", {"name": "arcface"}))
    layer = build_head(head, 20, "linear", 4, None)
    table = [f"p{number}" for number in range(IDENTITIES)]
    stored = {"shards_20_linear_norm/0": np.tile(numbers, (4, 1))} | {f"shards_20_linear_norm/{place}": numbers for place in range(1, 6)}
    said = _keep(layer, head, data, stored, {"shards_20": table}, Path("last.npz"))
    assert said == "class head shards_20_linear_norm: 10 of 20 classes begin with their rows of shards_20_linear_norm in last.npz"
    assert [variable.shape for variable in layer.variables] == [(4, 20), *[(20,)] * 5]
    for variable in layer.variables:
        np.testing.assert_array_equal(np.atleast_2d(variable)[:, 1::2], np.tile(numbers[18::-2], (variable.shape[0] if len(variable.shape) > 1 else 1, 1)))


def test_a_rehearsal_says_what_is_kept(room):
    run = run_of(room / "others", {"name": "arcface"}, weights=str(room / "run"), head="kept")
    assert any("class head shards_20: 10 of 20 classes begin" in note for note in rehearse(run).notes)


def test_rows_of_people_that_were_held_out_are_not_kept(room, tmp_path, capsys):
    train(run_of(room / "set", {"name": "arcface"}, holdout={"by": "identity", "fraction": 0.5}), tmp_path / "donor", quiet=True)
    train(run_of(room / "set", {"name": "arcface"}, weights=str(tmp_path / "donor"), head="kept"), tmp_path / "run")
    kept = int(re.search(r"class head shards_20: (\d+) of 20 classes", capsys.readouterr().err)[1])
    trained = (tmp_path / "donor" / "identities.txt").read_text().splitlines()
    assert 0 < kept == len(trained) < 20


def without_names(run):
    arrays = {name: array for name, array in arrays_of(run).items() if not name.startswith("classes/")}
    np.savez(run / "checkpoints" / "last.npz", **arrays)


@pytest.mark.parametrize(
    ("change", "terms", "student", "message"),
    [
        (None, [{"name": "cosine"}], {}, 'student.head = "kept", but no stage of this run learns a class head. Leave head out (or head = "new").'),
        (None, [{"name": "arcface", "sub_centres": 3}], {}, 'no head of the kind "cosine_3" there. Leave head out'),
        (None, [{"name": "arcface"}], {"embedding": 5}, 'have 4 numbers, those of this run 5. Leave head out (or head = "new"), or use the same embedding.'),
        (without_names, [{"name": "arcface"}], {}, "names no classes: no class head was trained there, or by an earlier version of distill. Leave head out"),
        (lambda run: (run / "checkpoints/last.npz").write_bytes(b"none"), [{"name": "arcface"}], {}, "is damaged"),
        (lambda run: (run / "checkpoints/last.npz").unlink(), [{"name": "arcface"}], {}, "from the last checkpoint of a run, and weights = "),
    ],
)
def test_heads_that_cannot_be_kept_are_refused_before_work(room, tmp_path, change, terms, student, message):
    shutil.copytree(room / "run", tmp_path / "donor")
    if change:
        change(tmp_path / "donor")
    with pytest.raises(DistillError, match=re.escape(message)):
        train(run_of(room / "set", *terms, weights=str(tmp_path / "donor"), head="kept", **student), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_people_that_nobody_knows_there_are_refused(room, tmp_path):
    make_set(tmp_path / "set", names=[f"new {number}" for number in range(IDENTITIES)])
    with pytest.raises(DistillError, match="20 classes here, none of them among its shards_20. Leave head out"):
        train(run_of(tmp_path / "set", {"name": "arcface"}, weights=str(room / "run"), head="kept"), tmp_path / "run", quiet=True)


def test_best_keras_has_no_heads(room, tmp_path):
    best = room / "run" / "checkpoints" / "best.keras"
    with pytest.raises(DistillError, match=re.escape(f'weights = "{best}" is none. Name its folder.')):
        train(run_of(room / "set", {"name": "arcface"}, weights=str(best), head="kept"), tmp_path / "run", quiet=True)


def test_another_size_of_embedding_is_told(room, tmp_path, capsys):
    train(run_of(room / "set", {"name": "cosine"}, weights=str(room / "run"), embedding=6), tmp_path / "run")
    assert f"student.weights: {room / 'run' / 'student.keras'} is taken but for embedding, which begins anew (4x4 there, 4x6 here)" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------------- a student in the teacher's space


def test_a_student_ends_in_the_space_of_the_teacher(room, tmp_path, capsys):
    """Embeddings of 4 numbers, a teacher of 3: the saved student gives 3, no projection stands beside it, and agreement is its own."""
    run = run_of(room / "set", {"name": "cosine"}, {"name": "arcface"}, projection="export")
    train(run, tmp_path / "run")
    said = capsys.readouterr().err
    assert "embedding 4, projected to 3" in said and "stands before the teacher" not in said
    student = keras.models.load_model(tmp_path / "run" / "student.keras", compile=False)
    assert student.output_shape == (None, 3)
    assert [layer.name for layer in student.layers[-3:]] == ["embedding", "projection", "projection_norm"]
    assert {weight.path.split("/")[-1] for weight in student.layers[-2].weights} == {"kernel"}
    stored = arrays_of(tmp_path / "run")
    assert stored["shards_20/0"].shape == (20, 3) and not [name for name in stored if name.startswith("projection")]
    assert "small_conv for 8x8, projected to 3" in rehearse(run).in_words() and rehearse(run).embedding == 4


def test_the_end_of_a_student_is_no_backbone(room):
    run = run_of(room / "set", {"name": "cosine"}, projection="export")
    (data,) = open_stages(run)
    found = find_layers(Training(build_parts(run, [data]), data), 1, data.stage.model_copy(update={"freeze": ("backbone", "projection")}))
    assert [(each.name, each.part) for each in found.frozen if each.part != "backbone"] == [("projection", "projection"), ("projection_norm", "projection")]
    assert [each.name for each in found.layers if each not in found.frozen] == ["embedding"]


def test_a_student_without_a_teacher_has_no_space_to_end_in(tmp_path):
    from distill.synthetic.folder import draw_folder

    draw_folder(tmp_path / "faces", identities=2, images=8, size=8)
    stage = {"source": "images", "epochs": 1, "terms": [{"name": "softmax"}]}
    run = Run.model_validate({"student": {"projection": "export"}, "data": {"images": str(tmp_path / "faces"), "size": [8, 8]}, "stage": [stage]})
    with pytest.raises(DistillError, match='student.projection = "export" ends in the space of one teacher\'s embeddings, but the sources give: label. Use '):
        train(run, tmp_path / "run", quiet=True)
