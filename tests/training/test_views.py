"""Training on real shards with views: joint and margin losses as ever, the teacher asked where it is named, augmentation said to be what it is."""

import json
import os
import shutil

import numpy as np
import pytest

from distill import DistillError
from distill.config.files import load_run
from distill.config.run import Run
from distill.data.shards import open_shards
from distill.images.augmentation import Recipe
from distill.images.codec import decode_batch
from distill.training.describe import describe_stage
from distill.training.stages import open_stages, prove_teacher
from distill.training.trainer import train
from tests.builders import make_set

TERMS = [{"name": "cosine", "weight": 64.0}, {"name": "arcface", "scale": 16.0, "angle_add": 0.1}]


def run_of(shards, terms=TERMS, epochs=3, **data) -> Run:
    return Run.model_validate(
        {
            "seed": 1,
            "student": {"widths": [8], "embedding": 3, "dropout": 0.0},
            "data": {"shards": str(shards), "batch": 32, "holdout": {"by": "key", "fraction": 0.2}, **data},
            "stage": [{"source": "shards", "epochs": epochs, "terms": terms, "optimizer": {"name": "adamw", "learning_rate": 0.01}}],
        }
    )


@pytest.fixture(scope="module")
def viewed(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("viewed") / "shards", (300, 100), views=3)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("plain") / "shards", (300, 100))


@pytest.mark.parametrize("views", ["one", "all", "plain"])
def test_joint_losses_learn_from_views(views, viewed, tmp_path, capsys):
    summary = train(run_of(viewed, views=views), tmp_path / "run")
    told = capsys.readouterr().err
    data = open_stages(run_of(viewed, views=views))[0]
    assert {"one": "(one of 3 views of each an epoch)", "all": "(3 views of each)", "plain": "rows of shards,"}[views] in told
    assert data.train.rows == (3 if views == "all" else 1) * open_shards(viewed).rows - (3 if views == "all" else 1) * data.held_out.rows
    assert summary["last"]["held_out_agreement"] > 0.9 and summary["last"]["arcface"] > 0
    assert told.count("warning") == told.count("steps in all are few")


def test_augmentation_without_views_is_called_what_it_is(plain):
    run = run_of(plain, augment="face")
    told = "\n".join(describe_stage(run, open_stages(run)[0], False))
    assert "augmented: images are changed anew each epoch" in told and "--views" in told
    labels_only = run_of(plain, terms=TERMS[1:], augment="face")
    assert "warning" not in "\n".join(describe_stage(labels_only, open_stages(labels_only)[0], False)), "labels stay right"


@pytest.mark.parametrize(
    ("data", "message"),
    [({"augment": "fase"}, "recipe 'fase' is unknown"), ({"augment": "face"}, "holds 3 views of each picture"), ({"views": "some"}, "data.views")],
    ids=str,
)
def test_wrong_wishes_are_one_message(data, message, viewed):
    with pytest.raises((DistillError, ValueError), match=message):
        open_stages(run_of(viewed, **data))


def test_a_teacher_at_hand_answers_the_golden_views_again(viewed):
    """A teacher made for this set: it knows each view of each golden row by its pixels."""
    from distill.images.views import view

    shards = open_shards(viewed)
    pixels, _ = decode_batch([row.image for row in shards.golden], shards.meta.image)
    answers = {}
    for image, row in zip(pixels, shards.golden, strict=True):
        for number, answer in enumerate(np.array(row.embedding).reshape(3, -1)):
            answers[view(image, shards.meta.recipe, shards.meta.view_seed, row.key, number).tobytes()] = answer
    asked = []

    def open_teacher(path, preprocessing, beside):
        asked.append((path, preprocessing, beside))
        return lambda images: np.array([answers[image.tobytes()] for image in images], np.float32)

    run = run_of(viewed, teacher="there")
    (line,) = prove_teacher(run, open_teacher)
    assert line.startswith("4 golden rows, 3 views each labelled again by there: worst cosine 1.0000000") and len(asked) == 1
    assert asked == [("there", shards.meta.reading, False)]
    with pytest.raises(DistillError, match="there answers the golden rows of .* otherwise than they are stored: cosine -1.0000"):
        prove_teacher(run, lambda path, preprocessing, beside: lambda images: -np.array([answers[image.tobytes()] for image in images]))
    for odd in (lambda images: np.zeros((len(images), 3)), lambda images: np.full((len(images), shards.dimension), np.nan)):
        with pytest.raises(DistillError, match="otherwise than they are stored"):
            prove_teacher(run, lambda path, preprocessing, beside, odd=odd: odd)
    assert prove_teacher(run_of(viewed), None) == []


def test_a_set_without_golden_rows_cannot_prove_its_teacher(viewed, tmp_path):
    shutil.copytree(viewed, tmp_path / "s")
    index = tmp_path / "s" / "_index.json"
    value = json.loads(index.read_text())
    index.write_text(json.dumps({**value, "golden": []}))
    with pytest.raises(DistillError, match="has no golden rows"):
        prove_teacher(run_of(tmp_path / "s", teacher="there"), lambda path, preprocessing, beside: None)
    index.write_text(json.dumps({**value, "golden": value["golden"] * 2}))
    with pytest.raises(DistillError, match="more than 4 golden rows"):
        open_shards(tmp_path / "s")


def test_a_run_keeps_the_recipe_that_its_file_held(plain, tmp_path):
    """So that a run that goes on after the file was changed is refused, as any other change of its settings is."""
    recipe = tmp_path / "mine.toml"
    recipe.write_text("flip = 0.5")
    run = run_of(plain, epochs=1, augment=str(recipe))
    train(run, tmp_path / "run", quiet=True)
    assert load_run(tmp_path / "run" / "run.toml").data.augment == Recipe(flip=0.5)
    recipe.write_text("flip = 0.25")
    with pytest.raises(DistillError, match="data.augment.flip: 0.5, 0.25"):
        train(run, tmp_path / "run", quiet=True)


def test_a_recipe_within_a_run_file(plain):
    assert run_of(plain, augment={"flip": 0.5, "shift": {"chance": 1, "low": 0, "high": 0.1}}).data.augment.shift.high == 0.1
    with pytest.raises(ValueError, match=r"flip 2.0, grey 0.0: expected chances from 0 to 1"):
        run_of(plain, augment={"flip": 2})


def test_a_teacher_without_shards_is_refused():
    with pytest.raises(ValueError, match="names no shards"):
        Run.model_validate({"data": {"images": "faces", "size": [8, 8], "teacher": "t"}, "stage": [{"source": "images", "terms": TERMS[1:]}]})


# ------------------------------------------------------------------------------------------------------------- a run that goes on elsewhere


@pytest.fixture(scope="module")
def begun(plain, tmp_path_factory):
    """A run whose last checkpoint is there and whose student is not, begun with another run's student and the set by its absolute path."""
    root = tmp_path_factory.mktemp("begun")
    train(run_of(plain, epochs=1), root / "donor", quiet=True)
    train(started(plain, root), root / "run", quiet=True)
    for name in ("summary.json", "student.keras"):
        (root / "run" / name).unlink()
    return root


def started(shards, beside, weights="donor", **data):
    run = run_of(shards, epochs=1, **data)
    return run.model_copy(update={"student": run.student.model_copy(update={"weights": weights and str(beside / weights)})})


def gone_on(begun, tmp_path, run):
    shutil.copytree(begun / "run", tmp_path / "run")
    before = np.load(tmp_path / "run" / "checkpoints" / "last.npz")["student/0"]
    train(run, tmp_path / "run", quiet=True)
    assert np.array_equal(np.load(tmp_path / "run" / "checkpoints" / "last.npz")["student/0"], before)
    return load_run(tmp_path / "run" / "run.toml")


def test_a_run_goes_on_where_its_set_was_moved_and_says_so_in_its_run_file(begun, plain, tmp_path):
    shutil.copytree(plain, tmp_path / "moved")
    elsewhere = started(tmp_path / "moved", begun, threads=1, root=str(tmp_path), max_rejects=0.5)
    assert gone_on(begun, tmp_path, elsewhere) == elsewhere
    respelt = started(os.path.relpath(plain), begun)
    assert gone_on(begun, tmp_path / "again", respelt).data.shards == str(respelt.data.shards)


@pytest.mark.parametrize("weights", [None, "gone"])
def test_a_run_with_a_checkpoint_needs_no_donor(begun, plain, tmp_path, weights):
    """The path of a donor that was there once is kept; here it is gone, or left out."""
    run = started(plain, begun, weights)
    assert gone_on(begun, tmp_path, run).student.weights == str(begun / "donor")
    (begun / "other.keras").write_text("another donor, which is there")
    with pytest.raises(DistillError, match="holds another run. Different .*student.weights"):
        train(started(plain, begun, "other.keras"), begun / "run", quiet=True)


@pytest.mark.parametrize("kept", [True, False], ids=["known", "of an earlier version"])
def test_another_set_under_another_name_is_refused(begun, plain, tmp_path, kept):
    """Also where a run of an earlier version kept no identity: then the set that it began with is asked, and one that is gone cannot be."""
    shutil.copytree(begun / "run", tmp_path / "run")
    last = tmp_path / "run" / "checkpoints" / "last.npz"
    if not kept:
        arrays = dict(np.load(last))
        progress = {name: value for name, value in json.loads(arrays["progress.json"].tobytes()).items() if name != "learned_from"}
        np.savez(last, **arrays | {"progress.json": np.frombuffer(json.dumps(progress).encode(), np.uint8)})
    make_set(tmp_path / "other", (300, 99))
    shutil.copytree(plain, tmp_path / "moved")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(DistillError, match=r"data.shards: .*other is not what .*run learned from: other rows, labels or embeddings than .*shards had"):
        train(started(tmp_path / "other", begun), tmp_path / "run", quiet=True)
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    if not kept:
        toml = tmp_path / "run" / "run.toml"
        toml.write_text(toml.read_text().replace(str(plain), "/nowhere"))
        with pytest.raises(DistillError, match="began with /nowhere, which is not there to compare .*moved with"):
            train(started(tmp_path / "moved", begun), tmp_path / "run", quiet=True)
    else:
        train(started(tmp_path / "moved", begun), tmp_path / "run", quiet=True)


def test_a_set_that_changed_in_its_place_is_refused(begun, plain, tmp_path):
    make_set(tmp_path / "s", (300, 100))
    train(run_of(tmp_path / "s", epochs=1), tmp_path / "run", quiet=True)
    (tmp_path / "run" / "summary.json").unlink()
    shutil.rmtree(tmp_path / "s")
    make_set(tmp_path / "s", (300, 99))
    with pytest.raises(DistillError, match=r"data.shards: .*/s is not what"):
        train(run_of(tmp_path / "s", epochs=1), tmp_path / "run", quiet=True)


def test_a_finished_run_says_how_to_train_its_student_further(begun, plain, tmp_path):
    train(run_of(plain, epochs=1), begun / "donor", quiet=True)  # finished
    longer = run_of(plain, epochs=2)
    more = longer.model_copy(update={"stage": (*run_of(plain, epochs=1).stage, *longer.stage)})
    for run, told in ((longer, "stage.1.epochs: 1, 2"), (more, "stage.2.epochs: not set, 2")):
        with pytest.raises(
            DistillError, match=rf"{told}.*To train its student further, give it to another run: --out OTHER --set student.weights={begun}/donor"
        ):
            train(run, begun / "donor", quiet=True)
    with pytest.raises(DistillError, match="the same settings to go on.$"):
        train(run_of(plain, epochs=2, batch=16), begun / "donor", quiet=True)
