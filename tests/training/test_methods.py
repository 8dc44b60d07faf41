"""Runs without a run file: what fits a set, by numbers; every bad input is one line with the command that is right; what `init` prints."""

import dataclasses
import json
import re
import tomllib

import pytest

from distill import DistillError
from distill.config.catalog import BACKBONES, METHODS, example, examples, listing
from distill.config.data import Holdout
from distill.config.files import build_run, load_run
from distill.config.losses import TERMS
from distill.config.student import Student
from distill.data.sources import held_out
from distill.results import TrainResult
from distill.training.choices import Facts, Wishes, choose_batch, choose_epochs, choose_holdout, choose_student, values_of
from distill.training.methods import plan_run
from tests.builders import make_set
from tests.conftest import inside, messages

NAMES = tuple(f"id{number:04d}" for number in range(100))
PHOTOS = Facts(600, (112, 112), 512)
LABELLED = Facts(600, (48, 48), 16, NAMES)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """150 rows of 20 identities, 8x8, 3 numbers each."""
    return make_set(tmp_path_factory.mktemp("set") / "shards")


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("bare") / "shards", labelled=False)


def planned(method, facts, **wishes):
    places = {"images": "photos", "size": [48, 48]} if method == "labels" else {"shards": "out"}
    places |= {"teacher": "teacher"} if method == "noise" else {}
    return build_run(values_of(method, facts, Wishes(**wishes), places), (), method)


def test_600_photos_without_labels():
    """540 to learn from: 17 batches of 32 an epoch, so 118 epochs are 2,006 steps."""
    run = planned("cosine", PHOTOS)
    assert (run.data.batch, run.data.holdout) == (32, Holdout(by="key", fraction=0.1))
    assert [stage.epochs for stage in run.stage] == [118]
    assert (run.student.backbone, run.student.embedding, run.data.shards, run.data.size) == ("small_conv", 512, "out", None)


def test_few_photos_are_augmented():
    """Not where the set has views, each with its own embedding; not many, which a student cannot learn by heart; not those too large for views."""
    assert planned("cosine", PHOTOS).data.augment == planned("labels", LABELLED).data.augment == "face"
    for facts in (dataclasses.replace(PHOTOS, views=8), dataclasses.replace(PHOTOS, rows=20_000), dataclasses.replace(PHOTOS, size=(2000, 8))):
        assert planned("cosine", facts).data.augment is None
    assert planned("noise", Facts(0, (48, 48))).data.augment is None


def test_a_million_photos():
    """950,000 to learn from: 7,422 batches of 128 an epoch, and 8 epochs are enough."""
    run = planned("cosine", Facts(10**6, (112, 112), 512))
    assert (run.data.batch, run.student.backbone, run.stage[0].epochs) == (128, "mobilefacenet", 8)
    assert planned("cosine", Facts(10**6, (48, 48), 512)).student.backbone == "small_conv"
    assert choose_student(Facts(10**6, (96, 200), 512)) == "mobilefacenet" and choose_student(Facts(49_999, (112, 112), 512)) == "small_conv"


def test_stages_share_the_epochs():
    """5 of 100 identities are held out: 570 rows to learn from are 18 batches of 32."""
    joint, arcface = planned("joint", LABELLED, steps=1710), planned("arcface", LABELLED, epochs=7)
    assert [stage.epochs for stage in joint.stage] == [48, 47]
    assert [stage.epochs for stage in arcface.stage] == [4, 3] and [term.name for term in arcface.stage[1].terms] == ["arcface"]
    labels = planned("labels", LABELLED, epochs=12)
    assert [stage.epochs for stage in labels.stage] == [2, 10] and labels.data.holdout.by == "key" and labels.data.size == (48, 48)
    assert choose_epochs(10, [1, 1, 1], Wishes(steps=1)) == [1, 1, 1]
    with pytest.raises(DistillError, match="--epochs 1: this method has 2 stages"):
        choose_epochs(10, [4, 4], Wishes(epochs=1))


def test_noise_asks_its_teacher():
    run = planned("noise", Facts(0, (48, 48)), steps=250)
    assert (run.stage[0].steps, run.stage[0].epochs, run.stage[0].teacher, run.student.embedding) == (100, 3, "teacher", 128)
    assert planned("noise", Facts(0, (48, 48)), steps=30).stage[0].steps == 30


@pytest.mark.parametrize(("rows", "batch"), [(0, 128), (100, 16), (511, 16), (512, 32), (1023, 32), (1024, 64), (2047, 64), (2048, 128), (10**7, 128)])
def test_batches(rows, batch):
    assert choose_batch(rows) == batch


def test_what_is_held_out():
    """Of the names id0000 to id0099 5 have a hash in the first tenth."""
    assert choose_holdout("cosine", LABELLED) == ({"by": "identity", "fraction": 0.1}, 0.05)
    assert choose_holdout("labels", LABELLED) == ({"by": "key", "fraction": 0.1}, 0.1)  # of classes that never trained nothing could be told
    assert choose_holdout("cosine", Facts(199, (48, 48), 16, NAMES[:19])) == (None, 0.0)
    assert choose_holdout("cosine", Facts(200, (48, 48), 16, NAMES[:19])) == ({"by": "key", "fraction": 0.1}, 0.1)
    assert choose_holdout("cosine", Facts(2000, (48, 48), 16)) == ({"by": "key", "fraction": 0.05}, 0.05)
    kept = tuple(name for name in (f"p{number}" for number in range(60)) if not held_out(name, 0.2))[:30]
    assert len(kept) == 30 and choose_holdout("cosine", Facts(300, (48, 48), 16, kept))[0]["by"] == "key"  # no name is held out


def test_a_set_is_looked_at(shards, bare):
    run = plan_run(shards=shards)
    assert (run.student.embedding, run.data.batch, run.data.holdout.by, run.seed) == (3, 16, "identity", 1)
    assert plan_run(shards=bare).data.holdout is None  # 150 rows without a label
    changed = plan_run(shards=shards, student="mobilefacenet", embedding=64, batch=50, seed=5, epochs=3, set_=["student.dropout=0.25"])
    assert (changed.student.backbone, changed.student.embedding, changed.student.dropout) == ("mobilefacenet", 64, 0.25)
    assert changed.student.widths is None and (changed.data.batch, changed.seed, changed.stage[0].epochs) == (50, 5, 3)
    noise = plan_run(method="noise", teacher="t", shards=shards)
    assert noise.data.size is None and noise.data.holdout.by == "identity" and noise.stage[0].reading.scale == 1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "neither a run file nor --shards was given, so it is not known what to learn from. Expected: distill train --shards OUT --out RUN, or"),
        ({"images": "photos"}, "--images was given without --method labels, so it is not known what to learn from. Expected: distill train --method labels"),
        (
            {"method": "joint"},
            "--method joint needs --shards, the folder that distill embed wrote. Expected: distill train --method joint --shards OUT --out RUN",
        ),
        ({"method": "labels"}, "needs --images. Expected: distill train --method labels --images FOLDER --size HEIGHTxWIDTH --out RUN"),
        ({"method": "labels", "size": (48, 48)}, "needs --images. Expected: distill train --method labels --images FOLDER --size 48x48 --out RUN"),
        ({"method": "labels", "images": "photos"}, "needs --size. Expected: distill train --method labels --images photos --size HEIGHTxWIDTH --out RUN"),
        ({"method": "noise"}, "--method noise needs --teacher. Expected: distill train --method noise --teacher TEACHER --size HEIGHTxWIDTH --out RUN"),
        ({"method": "noise", "teacher": "t"}, "needs --size, or --shards to judge by. Expected: distill train --method noise --teacher t --size"),
        ({"method": "cosin"}, '--method: received "cosin". Did you mean cosine? Known: cosine, joint, arcface, labels, noise.'),
        ({"shards": "out", "student": "mobilefacnet"}, '--student: received "mobilefacnet". Did you mean mobilefacenet? distill init --list'),
        ({"shards": "out", "student": "resnet50"}, "Did you mean ResNet50?"),
        ({"shards": "out", "epochs": 2, "steps": 100}, "--epochs and --steps were both given, and each says how long to train. Leave one out."),
        ({"shards": "out", "epochs": 0}, "--epochs 0: expected 1 or more."),
        ({"shards": "out", "batch": -1}, "--batch -1: expected 1 or more."),
        ({"shards": "out", "images": "photos"}, "--method cosine takes no --images: it does not learn from image files."),
        ({"shards": "out", "size": (4, 4)}, "--method cosine takes no --size: the set says how large its images are."),
        ({"shards": "out", "teacher": "t"}, "--method cosine takes no --teacher"),
        ({"shards": "out", "method": "labels"}, "--method labels takes no --shards"),
        (
            {"run": "run.toml", "method": "joint"},
            "--method was given together with the run file run.toml, which says everything itself. Leave one of them out.",
        ),
        ({"run": "run.toml", "shards": "out"}, "Leave one of them out, or change the file's value: --set data.shards=OUT."),
        ({"run": "nowhere.toml"}, "nowhere.toml: no such run file. `distill init > run.toml` writes one to start from."),
    ],
)
def test_what_does_not_fit_together(options, message):
    with pytest.raises(DistillError) as caught:
        plan_run(**options)
    assert message in str(caught.value) and "\n" not in str(caught.value) and caught.value.exit_code == 2


def test_sets_that_a_method_cannot_learn_from(bare):
    for method in ("joint", "arcface"):
        with pytest.raises(DistillError, match=f"--method {method} learns from labels too, but not every row of .* has one. Use --method cosine"):
            plan_run(shards=bare, method=method)


def test_folders_given_as_run_files(shards, tmp_path):
    (tmp_path / "photos" / "anna").mkdir(parents=True)
    for folder, message in [
        (shards, f"is a set of shards, not a run file. To learn from it: distill train --shards {shards} --out runs/NAME"),
        (shards.parent, f"is a set of shards, not a run file. To learn from it: distill train --shards {shards.parent} --out runs/NAME"),
        (tmp_path / "photos", f"distill embed {tmp_path / 'photos'} OUT --teacher TEACHER"),
    ]:
        with pytest.raises(DistillError, match=re.escape(message)):
            plan_run(folder)
    (tmp_path / "run.toml").write_text(example("joint"))
    assert plan_run(tmp_path) == load_run(tmp_path / "run.toml")


def test_on_the_command_line(shards, tmp_path):
    for words in (["--shards", shards, "--method", "labels"], [shards], ["--shards", shards, "--steps", "5", "--epochs", "5"], []):
        done = inside("train", *words, "--out", tmp_path / "run")
        assert done.returncode == 2 and done.stdout == "" and len(messages(done)) == 1, done.stderr
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", examples())
def test_init_prints_a_run_file(name, tmp_path):
    done = inside("init", name)
    assert done.returncode == 0 and not messages(done)
    (tmp_path / "run.toml").write_text(done.stdout)
    assert load_run(tmp_path / "run.toml") == build_run(tomllib.loads(example(name)), (), name)


def test_init_lists_what_can_be_named():
    done = inside("init", "--list")
    assert done.stdout.strip() == listing() and inside("init").stdout == inside("init", "cosine").stdout
    assert all(f"\n  {name}" in listing() for name in (*METHODS, "staged", *BACKBONES, *TERMS, "sgd", "cosine_restarts"))
    assert "\n  steps            the rate times `factor` after each of `at`, " in listing() and '; at (needed), factor = 0.1, unit = "steps"\n' in listing()
    assert "\n  each   learning_rate = 0.001, clip_norm (none), clip_value (none), accumulate = 1, ema (none)\n" in listing()
    assert "\n  cosine          learns from the embedding; cosine distance from the teacher's direction: 1 - cosine similarity; weight = 1\n" in listing()
    assert 'scale = 64, angle_add = 0.5, angle_mult = 1, cos_sub = 0, guard = "mirror", gradient = "exact"\n' in listing()
    wrong = inside("init", "jont")
    assert wrong.returncode == 2 and 'no run file "jont". Did you mean joint?' in wrong.stderr


def test_from_shards_to_a_student(shards, tmp_path):
    """The run that is written is the one that was planned; a dry run before it leaves nothing."""
    words = ("train", "--shards", shards, "--out", tmp_path / "run", "--epochs", 2, "--set", "student.widths=[4]")
    dry = inside(*words, "--dry-run", "--json")
    told = json.loads(dry.stdout)
    assert dry.returncode == 0 and not (tmp_path / "run").exists(), dry.stderr
    assert told["stages"][0]["epochs"] == 2 and told["steps"] == 2 * told["stages"][0]["steps"] and told["seconds"] > 0
    done = inside(*words)
    assert done.returncode == 0, done.stderr
    assert f"warning: {told['steps']} steps in all are few" in done.stderr
    assert load_run(tmp_path / "run" / "run.toml") == plan_run(shards=shards, epochs=2, set_=["student.widths=[4]"])
    assert f"run file: {tmp_path / 'run' / 'run.toml'}" in done.stdout and f"{told['parameters']:,} parameters" in done.stdout
    assert f"next: distill evaluate {tmp_path / 'run'} --pairs FOLDER --shards {shards}" in done.stdout


def test_a_low_agreement_is_told():
    made = TrainResult("run", "s", "b", "h", "r", 10, 4, 72, 1.0, {"held_out_agreement": 0.27, "held_out_cosine": 0.73})
    assert "low: an agreement of 0.27" in made.in_words() and "--steps 2000" in made.in_words() and "0.73" not in made.in_words()
    known = dataclasses.replace(made, last={"epoch": 4, "agreement": 0.91, "held_out_agreement": 0.29}, best_epoch=2).in_words().splitlines()
    assert known[3] == "lowest loss on held-out rows: after epoch 2; that student is b, which every verb takes"
    assert known[-1].startswith("low: ") and "On the images it was trained on it is 0.91, so more steps will not help" in known[-1] and "--views 8" in known[-1]
    assert "low:" not in dataclasses.replace(made, last={"held_out_agreement": 0.5}).in_words()


def test_the_listed_students_are_those_that_can_be_built():
    from distill.models.applications import INPUTS
    from distill.models.students import BACKBONES as OWN

    assert list(BACKBONES) == [*OWN, *(name for names in INPUTS.values() for name in names)]
    assert parameters("small_conv") == BACKBONES["small_conv"] == 27_188 and parameters("mobilefacenet") == BACKBONES["mobilefacenet"]


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_listed_parameters_are_counted(backbone):
    assert parameters(backbone) == BACKBONES[backbone]


def parameters(backbone):
    import keras

    from distill.models.students import build_student

    count = build_student(Student(backbone=backbone), (112, 112, 3)).count_params()
    keras.backend.clear_session()
    return count
