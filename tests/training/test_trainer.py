"""Training: what a stage learns, what a run leaves on disk, and that a killed run ends as an undisturbed one."""

import csv
import importlib.util
import json
import math
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from distill import DistillError, Unfinished
from distill.config.files import dump_run, load_run
from distill.config.run import Run
from distill.data.sources import NoiseSource
from distill.evaluation.verification import cosine_scores
from distill.images.codec import encode_jpeg
from distill.models.norms import settle_averages
from distill.training import stages
from distill.training.callbacks import BestStudent, Epoch, Plateau, SettleAverages, StageRun, count_left_out, stage_callbacks
from distill.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from distill.training.describe import check_batches, describe_stage
from distill.training.model import Training, build_parts
from distill.training.optimizers import Rate, build_optimizer
from distill.training.run_folder import RunFolder, taught_alike
from distill.training.stages import StageData, open_stages
from distill.training.table import TrainingDisplay
from distill.training.trainer import train
from tests.conftest import put
from tests.warm import Begun

SIDE, DIMENSION, CLASSES = 16, 12, 6
NOISE, IMAGES = stages.SOURCES["noise"], stages.SOURCES["images"]


class Arrays:
    """A source over arrays in memory: pictures around one picture a class, embeddings around one direction a class."""

    name = "shards"
    fields = ("embedding", "label")
    image_shape = (SIDE, SIDE, 3)
    dimension: int | None = DIMENSION
    classes = CLASSES
    rows = 300
    broken = None  # (epoch, what to raise)

    def __init__(self, batch=64, seed=0, part="all", pause=0.0):
        rng = np.random.default_rng(5)
        self.labels = rng.integers(0, self.classes, self.rows).astype(np.int32)
        pictures = rng.integers(0, 256, (self.classes, *self.image_shape))[self.labels]
        self.images = np.clip(pictures + rng.normal(0, 30, pictures.shape), 0, 255).astype(np.uint8)
        directions = rng.normal(size=(self.classes, DIMENSION))[self.labels]
        self.embeddings = (4 * directions + rng.normal(size=directions.shape)).astype(np.float32)
        fifth = np.arange(self.rows) % 5 == 0
        self.kept = np.arange(self.rows) if part == "all" else np.flatnonzero(fifth == (part == "held_out"))
        self.part, self.batch, self.seed, self.pause = part, batch, seed, pause
        self.rows = len(self.kept)
        self.steps = -(-self.rows // batch)

    def epoch(self, number, start=0):
        if self.broken and self.broken[0] == number and self.part != "held_out":
            raise self.broken[1]
        order = self.kept if self.part == "held_out" else np.random.default_rng([self.seed, number]).permutation(self.kept)
        for step in range(start, self.steps):
            rows = order[step * self.batch : (step + 1) * self.batch]
            time.sleep(self.pause)
            values = {"embedding": self.embeddings[rows], "label": self.labels[rows]}
            yield self.images[rows], {name: values[name] for name in self.fields}

    def epoch_images(self, number):
        yield from (images for images, _ in self.epoch(number))

    def teaches_nothing(self, field):
        return ""

    left_out = {}
    class_names = tuple(f"person {number}" for number in range(CLASSES))

    def identity(self):
        return "" if self.name == "noise" else "what lies in arrays"


class Unlabelled(Arrays):
    name = "noise"
    fields = ("embedding",)
    classes = 0

    def __init__(self, **options):
        self.classes = CLASSES
        super().__init__(**options)
        self.classes = 0


class Labels(Arrays):
    name = "images"
    fields = ("label",)
    dimension = None


def use(kinds=None, pause=0.0):
    """Let runs read arrays instead of files."""
    kinds = {"shards": Arrays, "noise": Unlabelled, "images": Labels, **(kinds or {})}
    for name, kind in kinds.items():
        stages.SOURCES[name] = lambda run, stage, teacher, kind=kind: parts_of(run, kind, pause)


def parts_of(run, kind, pause=0.0):
    taught = kind(batch=run.data.batch, seed=run.seed, part="train" if run.data.holdout else "all", pause=pause)
    return taught, kind(batch=run.data.batch, seed=run.seed, part="held_out") if run.data.holdout else None


@pytest.fixture(autouse=True)
def arrays(monkeypatch):
    monkeypatch.setattr(stages, "SOURCES", dict(stages.SOURCES))
    use()


ADAM = {"name": "adamw", "learning_rate": 1e-2, "weight_decay": 1e-3}
COSINE = {"name": "cosine", "weight": 64.0}
ARCFACE = {"name": "arcface", "scale": 16.0, "angle_add": 0.2}


def run_of(*stage_list, student=None, **data):
    stage_list = stage_list or ({"epochs": 2, "optimizer": ADAM, "terms": [COSINE]},)
    student = {"widths": [8, 8], "embedding": DIMENSION, **(student or {})}
    data = {"shards": "arrays", "images": "arrays", "size": [SIDE, SIDE], "batch": 64, **data}
    return Run.model_validate({"seed": 3, "student": student, "data": data, "stage": list(stage_list)})


def two_stages():
    """Dropout, two optimizers, a plateau, a head, a projection: all that has a state to be stored."""
    first = {"epochs": 2, "optimizer": ADAM, "schedule": {"name": "cosine", "warmup": 0.2}, "terms": [COSINE]}
    plateau = {"name": "plateau", "factor": 0.5, "patience": 1}
    second = {"epochs": 3, "optimizer": {"name": "sgd", "learning_rate": 0.02, "momentum": 0.9}, "schedule": plateau, "terms": [COSINE, ARCFACE]}
    return run_of(first, second, student={"embedding": 8, "dropout": 0.3}, holdout={"by": "key", "fraction": 0.2})


def history_of(folder):
    with open(folder / "history.csv", newline="") as file:
        return list(csv.DictReader(file))


def figures_of(folder):
    """The history without what a clock wrote."""
    return [{name: value for name, value in row.items() if name not in ("seconds", "images_per_second")} for row in history_of(folder)]


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A process that trains two_stages(), killed when its third checkpoint is there; it starts early, to run beside other tests."""
    folder = tmp_path_factory.mktemp("killed")
    code = f"from tests.training.test_trainer import *; use(pause=0.2); train(two_stages(), {str(folder)!r}, quiet=True)"
    process = Begun(("-c", code), cwd=Path(__file__).parents[2])

    def kill():
        while process.poll() is None and not ((folder / "history.csv").exists() and len(history_of(folder)) >= 3):
            time.sleep(0.01)
        process.kill()
        process.wait()

    watcher = threading.Thread(target=kill)
    watcher.start()
    yield lambda: watcher.join() or folder
    process.kill()
    watcher.join()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, killed):
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "SOURCES", dict(stages.SOURCES))
        use()
        return folder, train(two_stages(), folder, quiet=True)


def test_what_a_run_leaves_on_disk(undisturbed):
    folder, summary = undisturbed
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"run.toml", "history.csv", "student.keras", "summary.json", "checkpoints/last.npz", "checkpoints/best.keras"} <= names
    assert any(name.startswith("events/events.out") for name in names)
    assert not list((folder / "checkpoints").glob(".*"))
    assert summary == json.loads((folder / "summary.json").read_text())
    assert summary["epochs"] == 5
    assert summary["steps"] == 5 * 4  # 240 rows in batches of 64, the last of 48
    rows = history_of(folder)
    assert [(row["stage"], row["epoch"]) for row in rows] == [("1", "1"), ("1", "2"), ("2", "1"), ("2", "2"), ("2", "3")]
    assert float(rows[-1]["agreement"]) > 0.5
    assert float(rows[-1]["agreement"]) > float(rows[0]["agreement"])
    assert float(rows[-1]["accuracy"]) > 0.5
    assert rows[0]["arcface"] == ""
    assert float(rows[-1]["held_out_arcface"]) > 0  # held out by key: their classes did train


def test_the_saved_student_has_no_head_and_no_projection(undisturbed):
    folder, summary = undisturbed
    student = keras.models.load_model(folder / "student.keras", compile=False)
    assert student.output_shape == (None, 8)
    assert student.count_params() == summary["parameters"]


def test_a_finished_run_says_so_and_changes_nothing(undisturbed, capsys):
    folder, summary = undisturbed
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert train(two_stages(), folder) == summary
    assert "is finished: 5 epochs" in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_another_run_in_the_same_folder_is_refused(undisturbed):
    other = two_stages().model_copy(update={"seed": 4})
    with pytest.raises(DistillError, match=re.escape("holds another run. Different (there, here): seed: 3, 4.")):
        train(other, undisturbed[0], quiet=True)


def test_a_run_whose_source_failed_goes_on_as_if_it_had_not(tmp_path):
    """The source fails in the third epoch; its message comes through, and the next call goes on, loss scale of float16 included."""

    class Broken(Arrays):
        broken = (2, DistillError("chunk 17 is gone"))

    run = run_of({"epochs": 3, "optimizer": ADAM, "terms": [COSINE]}, student={"dropout": 0.3, "precision": "mixed_float16"})
    use({"shards": Broken})
    with pytest.raises(DistillError, match="^chunk 17 is gone$"):
        train(run, tmp_path / "stopped", quiet=True)
    assert len(history_of(tmp_path / "stopped")) == 2
    use()
    train(run, tmp_path / "stopped", quiet=True)
    train(run, tmp_path / "whole", quiet=True)
    assert figures_of(tmp_path / "stopped") == figures_of(tmp_path / "whole")


def test_a_killed_run_ends_as_an_undisturbed_one(killed, undisturbed, capsys):
    folder = killed()
    done = len(history_of(folder))
    assert 3 <= done < 5
    assert not (folder / "student.keras").exists()
    train(two_stages(), folder)
    assert f"going on after stage 2, epoch {done - 2}" in capsys.readouterr().err
    assert figures_of(folder) == figures_of(undisturbed[0])
    weights = [keras.models.load_model(each / "student.keras", compile=False).get_weights() for each in (folder, undisturbed[0])]
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


WRITER = """
import sys
import numpy as np
from distill.config.run import Run
from distill.training.checkpoint import Progress
from distill.training.run_folder import RunFolder
run = Run.model_validate({"data": {"shards": "x"}, "stage": [{"terms": [{"name": "cosine"}]}]})
folder, number = RunFolder(sys.argv[1]), 0
with folder.held(run):
    print("ready", flush=True)
    while True:
        number += 1
        folder.save(Progress(epoch=number), {str(part): np.full(200_000, number, np.float32) for part in range(5)})
"""


def test_a_kill_while_a_checkpoint_is_written_leaves_a_whole_one(tmp_path):
    seen = []
    for pause in (0.31, 0.05, 0.123, 0.2):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"ready\n"
        time.sleep(pause)
        process.kill()
        process.wait()
        loaded = RunFolder(tmp_path).load()
        if loaded:
            seen.append(loaded[0].epoch)
            assert all((array == loaded[0].epoch).all() for array in loaded[1].values())
    assert seen
    with RunFolder(tmp_path).held(load_run(tmp_path / "run.toml")):
        pass
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["last.npz"]  # what the dead left behind is swept


def test_the_step_of_a_cursor_is_stored_only_within_an_epoch(tmp_path):
    """Checkpoints are written at an epoch's end, where the version before has no step and reads none; one within an epoch is not gone on with."""
    assert "step" not in json.loads(Progress(stage=1, epoch=2).to_json())
    path = tmp_path / "last.npz"
    save_checkpoint(path, Progress(stage=1, epoch=2), {"weights": np.ones(2)})
    progress, _ = load_checkpoint(path)
    assert (progress.stage, progress.epoch, progress.step) == (1, 2, 0)
    save_checkpoint(path, Progress(stage=1, epoch=2, step=7), {"weights": np.ones(2)})
    with pytest.raises(DistillError, match="was taken after step 7 of an epoch, by a later version of distill"):
        load_checkpoint(path)


def test_a_damaged_checkpoint_is_said_to_be_damaged(tmp_path):
    folder = RunFolder(tmp_path)
    with folder.held(run_of()):
        folder.save(Progress(epoch=1), {"weights": np.ones(1000)})
    path = folder.checkpoints / "last.npz"
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    with pytest.raises(DistillError, match=r"last\.npz is damaged: Bad CRC"):
        folder.load()


def test_a_loss_that_is_not_finite_stops_with_the_last_good_checkpoint(tmp_path):
    bad = {"epochs": 1, "optimizer": {"name": "sgd", "learning_rate": 1e30}, "terms": [{"name": "mse"}]}
    run = run_of({"epochs": 1, "optimizer": ADAM, "terms": [COSINE]}, bad)
    with pytest.raises(Unfinished, match=r"stage 2, epoch 1, step \d of 5: .* the checkpoint of stage 1, epoch 1 stays"):
        train(run, tmp_path, quiet=True)
    progress, arrays = RunFolder(tmp_path).load()
    assert (progress.stage, progress.epoch) == (0, 1)
    assert all(np.isfinite(array).all() for array in arrays.values())


def test_weights_that_became_infinite_in_the_last_step_are_not_stored(tmp_path):
    run = run_of({"epochs": 1, "optimizer": {"name": "sgd", "learning_rate": 1e38}, "terms": [{"name": "mse", "weight": 1e6}]}, batch=300)
    with pytest.raises(Unfinished, match="stage 1, epoch 1, step 1 of 1: a weight or a figure is not finite; there is no checkpoint yet"):
        train(run, tmp_path, quiet=True)
    assert not list((tmp_path / "checkpoints").glob("last*"))


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({"source": "noise", "teacher": "t", "steps": 5, "terms": [ARCFACE]}, 'stage 2: term "arcface" needs "label", but source "noise" gives: embedding.'),
        ({"source": "images", "terms": [COSINE]}, 'stage 2: term "cosine" needs "embedding", but source "images" gives: label.'),
    ],
)
def test_terms_that_the_source_cannot_feed_are_refused_before_work(tmp_path, stage, message):
    with pytest.raises(DistillError, match=re.escape(message)):
        train(run_of({"terms": [COSINE]}, stage), tmp_path, quiet=True)
    assert not (tmp_path / "history.csv").exists()


def test_images_left_out_are_counted_in_the_summary(tmp_path, monkeypatch, capsys):
    """Every fourth of 40 pictures has another size."""
    monkeypatch.setitem(stages.SOURCES, "images", IMAGES)
    for number in range(40):
        path = tmp_path / "faces" / f"id{number % 3}" / f"{number:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        side = SIDE if number % 4 else 2 * SIDE
        path.write_bytes(encode_jpeg(np.full((side, side, 3), 80 * (number % 3), np.uint8)))
    stage = {"source": "images", "epochs": 2, "terms": [{"name": "softmax", "scale": 16.0}]}
    data = {"images": str(tmp_path / "faces"), "shards": None}
    with pytest.raises(Unfinished, match="10 images cannot be used so far, more than max_rejects = 0.2 of 40: 10 size"):
        train(run_of(stage, **data, max_rejects=0.2), tmp_path / "run", quiet=True)
    summary = train(run_of(stage, **data, max_rejects=0.25), tmp_path / "run")
    assert summary["left_out"] == {"size": 10} == json.loads((tmp_path / "run" / "summary.json").read_text())["left_out"]
    assert "left out: 10 images (size)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("term", "field", "message"),
    [
        (ARCFACE, "label", 'stage 1: term "arcface" cannot learn from arrays: all 300 rows have one class. It needs two classes or more'),
        (COSINE, "embedding", 'stage 1: term "cosine" cannot learn from arrays: all embeddings are zeros. Ask the teacher as it wants to be asked'),
    ],
)
def test_what_cannot_be_learned_from_is_refused_before_work(tmp_path, term, field, message):
    class Alike(Arrays):
        def teaches_nothing(self, asked):
            return {"label": "all 300 rows have one class", "embedding": "all embeddings are zeros"}[field] if asked == field else ""

    use({"shards": Alike})
    with pytest.raises(DistillError, match=re.escape(message)):
        train(run_of({"terms": [term]}), tmp_path, quiet=True)
    assert not (tmp_path / "history.csv").exists()
    assert open_stages(run_of({"terms": [ARCFACE if term is COSINE else COSINE]}))  # the other field is there to learn from


def test_images_of_two_sizes_are_refused():
    class Larger(Labels):
        image_shape = (SIDE, 2 * SIDE, 3)

    use({"images": Larger})
    with pytest.raises(DistillError, match="one student takes images of one size, but the sources give: stage 1 16x16, stage 2 16x32"):
        open_stages(run_of({"terms": [COSINE]}, {"source": "images", "terms": [ARCFACE]}))


def test_a_source_that_breaks_its_promise_is_named(tmp_path):
    class Short(Arrays):
        def epoch(self, number, start=0):
            yield from list(super().epoch(number, start))[:-1]

    use({"shards": Short})
    with pytest.raises(DistillError, match='source "shards" gave 4 batches in epoch 0, but promised 5'):
        train(run_of(), tmp_path, quiet=True)


def test_held_out_identities_are_judged_by_their_embeddings_only():
    joint, labels = {"terms": [COSINE, ARCFACE]}, {"source": "images", "terms": [ARCFACE]}
    by_identity = open_stages(run_of(joint, labels, holdout={"fraction": 0.2}))
    assert [data.held_out_fields for data in by_identity] == [("embedding",), ()]
    assert by_identity[1].held_out is None
    assert "not judged: their identities have no trained class" in describe_stage(run_of(holdout={"fraction": 0.2}), by_identity[1], False)[-1]
    by_key = open_stages(run_of(joint, labels, holdout={"by": "key", "fraction": 0.2}))
    assert [data.held_out_fields for data in by_key] == [("embedding", "label"), ("label",)]
    assert open_stages(run_of(joint))[0].held_out is None


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_regularisers_of_a_backbone_are_part_of_the_loss(monkeypatch, precision):
    """A kernel of ones, 3 x 4 of them, with l2(.5): 6. Its answers to 255s have the mean 3 * 255 * 1/255 = 3, with activity l1(.1): .1 * 4 * 3 = 1.2 a row."""
    images = keras.Input((SIDE, SIDE, 3))
    signal = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(images))
    dense = keras.layers.Dense(
        4,
        use_bias=False,
        kernel_initializer="ones",
        kernel_regularizer=keras.regularizers.L2(0.5),
        activity_regularizer=keras.regularizers.L1(0.1),
        dtype=precision,
    )
    student = keras.Model(images, dense(signal))
    monkeypatch.setattr("distill.training.model.begin_student", lambda *given: (student, []))
    run = run_of({"terms": [{"name": "mse"}]}, student={"embedding": 4})
    data = open_stages(run)[0]
    model = Training(build_parts(run, [data]), data)
    white, wanted = np.full((2, SIDE, SIDE, 3), 255, np.uint8), {"embedding": np.zeros((2, DIMENSION), np.float32)}
    answers = model(white, training=True)
    term = float(np.mean(np.square(answers["embedding"])))
    assert float(model.compute_loss(y=wanted, y_pred=answers, training=True)) == pytest.approx(term + 6 + 1.2, rel=1e-3)
    assert float(model.compute_loss(y=wanted, y_pred=answers, training=False)) == pytest.approx(term, rel=1e-3)


# --------------------------------------------------------------------------------------------------------- batches and batch norm


def numbered(rows, batch, broken=()):
    """Returns the data of a stage on rows that are pictures of their own number; `broken` ones are left out of their batch as ImageSource leaves them out."""

    class Numbered(Arrays):
        def epoch(self, number, start=0):
            for step in range(start, self.steps):
                each = [row for row in range(step * batch, min((step + 1) * batch, rows)) if row not in broken]
                yield np.array(each)[:, None, None, None], {"label": np.array(each)}

    source = Numbered(batch=batch)
    source.rows, source.steps = rows, -(-rows // batch)
    return StageData(1, run_of().stage[0], source, None, ("label",), ())


@pytest.mark.parametrize(
    ("rows", "batch", "sizes"),
    [
        (300, 64, [64, 64, 64, 64, 44]),
        (264, 64, [64, 64, 64, 64, 8]),  # eight are enough
        (263, 64, [64, 64, 64, 71]),
        (257, 64, [64, 64, 64, 65]),
        (256, 64, [64, 64, 64, 64]),
        (5, 64, [5]),
        (9, 4, [4, 5]),
        (8, 4, [4, 4]),
    ],
)
def test_a_last_batch_of_under_eight_rows_comes_with_the_one_before(rows, batch, sizes):
    data = numbered(rows, batch)
    batches = list(data.epoch(0))
    assert [len(images) for images, _ in batches] == sizes and data.steps == len(sizes)
    assert (
        np.concatenate([fields["label"] for _, fields in batches]).tolist()
        == list(range(rows))
        == [int(row) for images, _ in batches for row in images.ravel()]
    )


def test_a_batch_that_broken_files_left_short_comes_with_the_rows_of_the_one_before_again():
    batches = [fields["label"].tolist() for _, fields in numbered(40, 16, broken=range(18, 32)).epoch(0)]
    assert batches == [[*range(16)], [*range(16), 16, 17], [*range(32, 40)]]
    joined = [fields["label"].tolist() for _, fields in numbered(35, 16, broken=(33,)).epoch(0)]
    assert joined == [[*range(16)], [*range(16, 33), 34]]


def test_steps_of_joined_batches_are_those_of_schedule_summary_and_screen(tmp_path, capsys):
    class Odd(Arrays):
        rows = 131

    use({"shards": Odd})
    summary = train(run_of({"epochs": 2, "optimizer": ADAM, "terms": [COSINE], "schedule": {"name": "cosine"}}), tmp_path)
    told = capsys.readouterr().err
    assert summary["steps"] == 4 and "131 rows of shards, 2 steps an epoch, 2 epochs; the last batch has 3 more rows" in told
    # half a cosine over 4 steps: the last step of epoch 1 is step 1, that of epoch 2 step 3
    rates = [float(row["learning_rate"]) for row in history_of(tmp_path)]
    assert rates == pytest.approx([1e-2 * (1 + math.cos(math.pi * step / 4)) / 2 for step in (1, 3)], rel=1e-4)


def test_batches_of_one_row_are_refused_where_a_student_has_batch_norm(tmp_path):
    with pytest.raises(DistillError, match=r"stage 1: batches of 1 row \(batch = 1 in \[data\], 300 rows to learn from\): batch norm .* Use 8 rows or more"):
        train(run_of(batch=1), tmp_path / "run", quiet=True)
    data = numbered(300, 4)
    dense, norm = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]), keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization()])
    assert check_batches([data], dense) == [] == check_batches([numbered(300, 8)], norm)
    assert check_batches([data], keras.Sequential([keras.Input((4,)), norm]))[0].startswith(
        "warning: stage 1: batches of 4 rows (batch = 4 in [data], 300 rows"
    )
    with pytest.raises(DistillError, match=r"\b1 row to learn from"):
        check_batches([numbered(1, 64)], norm)


def test_averages_are_the_mean_of_each_batch_once():
    """Batches of (0, 2) and (4, 10): means 1 and 7, variances 1 and 9; dropout, which would change them, rests and its stream stays where it was."""
    dropout, norm = keras.layers.Dropout(0.5, seed=3), keras.layers.BatchNormalization(momentum=0.9)
    student = keras.Sequential([keras.Input((1,)), keras.Sequential([keras.Input((1,)), dropout, norm])])
    stream = np.array(dropout.seed_generator.state)
    settle_averages(student, iter([np.array([[0.0], [2.0]]), np.array([[4.0], [10.0]])]))
    assert (float(norm.moving_mean[0]), float(norm.moving_variance[0])) == pytest.approx((4, 5))
    assert (norm.momentum, dropout.rate) == (0.9, 0.5) and np.array_equal(stream, np.array(dropout.seed_generator.state))
    settle_averages(student, iter([np.array([[0.0], [2.0]])]))
    assert (float(norm.moving_mean[0]), float(norm.moving_variance[0])) == pytest.approx((1, 1))


@pytest.mark.parametrize(("batch", "taken"), [(4, 512), (100, 21), (128, 16), (2000, 2), (2048, 1), (5000, 1)])
def test_averages_are_taken_from_2048_rows_and_no_teacher_is_asked(monkeypatch, batch, taken):
    asked, seen = [], []
    source = NoiseSource(lambda images: asked.append(len(images)) or np.zeros((len(images), 2), np.float32), size=(1, 1), batch=batch, steps=600, seed=4)
    data = StageData(1, run_of().stage[0], source, None, ("embedding",), ())
    monkeypatch.setattr("distill.training.callbacks.settle_averages", lambda student, batches: seen.extend(batches))
    callback = SettleAverages(StageRun(data, None, None, None, {}, None, 0, None, Epoch(2)))
    callback.set_model(None)
    callback.settle()
    assert asked == [1] and len(seen) == taken  # one picture, for the dimension, when the source was opened
    for images, (same, _) in zip(seen[:3], source.epoch(2), strict=False):
        assert np.array_equal(images, same)


def test_a_run_that_goes_on_counts_no_fewer_images_than_before():
    known = {"size": 5, "damaged": 3}
    assert count_left_out({"size": 2, "empty": 1}, known) == 3
    assert known == {"size": 5, "damaged": 3, "empty": 1}


@pytest.mark.parametrize("holdout", [None, {"by": "key", "fraction": 0.2}], ids=["all rows", "held out"])
def test_the_figures_are_those_of_the_student_that_is_saved(tmp_path, holdout):
    """Six steps in all: by itself batch norm would hold .94 of what it began with."""
    run = run_of({"epochs": 3, "optimizer": ADAM, "terms": [COSINE]}, batch=150, **({"holdout": holdout} if holdout else {}))
    train(run, tmp_path, quiet=True)
    last = history_of(tmp_path)[-1]
    part = Arrays(part="held_out" if holdout else "all", batch=300)
    images, fields = next(part.epoch(0))
    for saved in ("student.keras", "checkpoints/best.keras"):
        student = keras.models.load_model(tmp_path / saved, compile=False)
        given = cosine_scores(fields["embedding"], np.asarray(student(images.astype(np.float32)))).mean()
        if holdout:
            best = min(history_of(tmp_path), key=lambda row: float(row["held_out_loss"]))
            row = last if saved == "student.keras" else best
            assert given == pytest.approx(float(row["held_out_agreement"]), abs=1e-4)
        else:  # the line tells the mean over the epoch, while the student learned
            assert given > float(last["agreement"])


def test_why_held_out_rows_are_not_judged_is_said_truly():
    class Larger(Unlabelled):
        image_shape = (SIDE, 2 * SIDE, 3)

    class Wider(Unlabelled):
        dimension = DIMENSION + 1

    noise = {"source": "noise", "teacher": "t", "steps": 5, "terms": [COSINE]}
    cases = {
        "[data] names no shards, and noise has no rows to hold out": lambda part: None if part == "held_out" else Unlabelled(part=part),
        "their images are 16x32, those of this stage are 16x16": lambda part: (Larger if part == "held_out" else Unlabelled)(part=part),
        "their embeddings have 12 numbers, those of this stage's teacher have 13": lambda part: (Arrays if part == "held_out" else Wider)(part=part),
    }
    run = run_of(noise, holdout={"fraction": 0.2})
    for reason, source in cases.items():
        stages.SOURCES["noise"] = lambda run, stage, teacher, source=source: (source("train"), source("held_out"))
        told = describe_stage(run, open_stages(run)[0], False)
        assert told[-1] == f"  held-out rows are not judged: {reason}"


def test_effective_weights_are_told_in_one_unit():
    run = run_of({"terms": [COSINE, {"name": "mse", "weight": 2.0}, {"name": "softmax", "weight": 0.5, "scale": 16.0}]})
    line = describe_stage(run, open_stages(run)[0], False)[1]
    norm = np.linalg.norm(next(Arrays(seed=3).epoch(0))[1]["embedding"], axis=1).mean()
    assert f"cosine 64, mse {2 * 2 * norm**2 / DIMENSION:.4g} (weight 2, dimension 12, mean norm" in line
    assert line.endswith("softmax 8")


def test_labels_noise_and_shards_train_one_student(tmp_path, capsys):
    noise = {"source": "noise", "teacher": "t", "steps": 5, "optimizer": ADAM, "terms": [COSINE, {"name": "mse"}]}
    labels = {"source": "images", "epochs": 2, "optimizer": ADAM, "terms": [{"name": "softmax", "scale": 16.0}]}
    train(run_of(noise, labels, student={"embedding": 8, "precision": "mixed_bfloat16"}), tmp_path)
    told = capsys.readouterr().err
    for line in ("device: cpu:0, mixed_bfloat16", "stage 1: 300 rows of noise", "a projection 8 -> 12", "effective weights"):
        assert line in told
    rows = history_of(tmp_path)
    assert math.log(CLASSES) > float(rows[2]["softmax"])
    assert rows[2]["agreement"] == "" and rows[0]["accuracy"] == ""


def test_callbacks_run_in_one_order_and_only_a_plateau_lowers_the_rate():
    """Averages before anything is judged, the plateau before the checkpoint that stores its factor, the checkpoint before what is shown of it."""
    constant, plateau = (open_stages(run_of({"terms": [COSINE], "schedule": {"name": name}}))[0] for name in ("constant", "plateau"))
    names = [type(each).__name__ for each in stage_callbacks(StageRun(plateau, None, None, None, {}, None, 0, None))]
    assert names == ["ShowSteps", "SettleAverages", "FiniteGuard", "HistoryRow", "BestStudent", "Plateau", "Checkpoint", "TensorBoardEvents", "ShowRow"]
    others = stage_callbacks(StageRun(constant, None, None, None, {}, None, 0, None))
    assert [type(each).__name__ for each in others] == [name for name in names if name != "Plateau"]
    assert all(each.async_safe for each in others)


@pytest.mark.parametrize("figure", ["held_out_loss", "loss"])
def test_a_plateau_lowers_the_rate_and_the_best_student_is_kept(tmp_path, figure):
    schedule = {"name": "plateau", "patience": 2, "factor": 0.5}
    run = run_of({"optimizer": {"name": "sgd", "learning_rate": 0.1}, "schedule": schedule, "terms": [COSINE]})
    data = open_stages(run)[0]
    parts, rate, progress = build_parts(run, [data]), Rate(data.stage.schedule, 0.1, 10), Progress()
    build_optimizer(data.stage.optimizer, rate, parts.student.trainable_variables, "float32")
    stage = StageRun(data, RunFolder(tmp_path), progress, parts.student, {}, rate, 0, TrainingDisplay(quiet=True))
    best, plateau = BestStudent(stage), Plateau(stage)
    seen = []
    (tmp_path / "checkpoints").mkdir()
    for loss in (3.0, 3.0, 3.1, 2.0, 2.5, 2.0, 1.9):
        (tmp_path / "checkpoints" / "best.keras").unlink(missing_ok=True)
        stage.epoch = Epoch(figures={"loss": 9.0, figure: loss})
        best.on_epoch_end(0)
        plateau.on_epoch_end(0)
        seen.append((float(rate(0)) / 0.1, progress.best, (tmp_path / "checkpoints" / "best.keras").exists()))
    rates, best, kept = zip(*seen, strict=True)
    assert rates == pytest.approx([1, 1, 0.5, 0.5, 0.5, 0.25, 0.25])
    assert best == (3.0, 3.0, 3.0, 2.0, 2.0, 2.0, 1.9)
    assert kept == (True, False, False, True, False, False, True)


def test_a_run_has_one_trainer_at_a_time(tmp_path):
    folder = RunFolder(tmp_path)
    folder.checkpoints.mkdir()
    left, mine = folder.checkpoints / ".student.host.1.1-0.keras", folder.checkpoints / ".mine.keras"
    left.write_text("half a student of a dead trainer")
    os.utime(left, (0, 0))
    mine.write_text("not distill's")
    with folder.held(run_of()):
        assert not left.exists() and mine.exists()
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        for other in (run_of(), run_of(batch=32)):
            with pytest.raises(DistillError, match=rf"is being worked on by another trainer \(process {os.getpid()} on "):
                train(other, tmp_path, quiet=True)
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert not folder.history.exists()


@pytest.mark.parametrize("left", ["checkpoints/last.npz", "checkpoints/best.keras", "student.keras", "summary.json"])
def test_a_run_that_left_something_does_not_give_way(tmp_path, left):
    """A kill between the best student and the checkpoint of a first epoch leaves a student that no other run's run.toml may stand beside."""
    with RunFolder(tmp_path).held(run_of()):
        pass
    with RunFolder(tmp_path).held(run_of(batch=32)):  # nothing was learned: it gives way
        assert load_run(tmp_path / "run.toml").data.batch == 32
    (tmp_path / left).write_text("{}")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(DistillError, match="holds another run. Different .*batch"), RunFolder(tmp_path).held(run_of(batch=16)):
        pass
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    (tmp_path / "run.toml").unlink()
    with pytest.raises(DistillError, match=f"holds {left} but no run.toml"), RunFolder(tmp_path).held(run_of()):
        pass


@pytest.mark.parametrize("there", [True, False])
def test_a_donor_in_a_store_that_is_there_is_another_donor(folder, there):
    """As one on a disk is; where the new name leads nowhere, the one that the run began with holds, for a checkpoint has all weights."""
    named = put(folder / "student.keras", b"x") if there else folder / "student.keras"
    begun, asked = (run_of(student={"weights": weights}) for weights in ("gone.keras", str(named)))
    assert taught_alike(begun, asked, whole=True).student.weights == (str(named) if there else "gone.keras")


def test_missing_weights_are_said_before_anything_is_written(tmp_path):
    with pytest.raises(DistillError, match="student.weights: missing.keras is not there"):
        train(run_of(student={"weights": "missing.keras"}), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_teacher_is_opened_as_its_stage_says(monkeypatch):
    monkeypatch.setitem(stages.SOURCES, "noise", NOISE)
    asked = []

    def open_teacher(path, preprocessing):
        asked.append((path, preprocessing.said))
        return lambda images: images.reshape(len(images), -1)[:, :DIMENSION].astype(np.float32)

    noise = {"source": "noise", "teacher": "t", "steps": 2, "terms": [COSINE]}
    reading = {"scale": 0.0078125, "offset": -1.0, "color": "bgr", "signature": "s", "output": "o"}
    one, other = open_stages(run_of(noise, {**noise, "reading": reading}, shards=None), open_teacher)
    assert asked == [("t", {}), ("t", reading)]
    assert one.train is not other.train


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
def test_a_run_on_jax(tmp_path):
    code = f"from tests.training.test_trainer import *; use(); train(two_stages(), {str(tmp_path)!r}, quiet=True); print(keras.backend.backend())"
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], env=environment, capture_output=True, text=True)
    assert done.stdout == "jax\n", done.stderr
    rows = history_of(tmp_path)
    assert len(rows) == 5
    assert float(rows[-1]["held_out_agreement"]) > 0.5
    assert float(rows[-1]["accuracy"]) > 0.5


def test_a_run_of_an_earlier_version_goes_on_by_its_rule(tmp_path):
    """Its run.toml does not say all_files: then every file of the images was one."""
    run = Run.model_validate({"data": {"images": "photos", "size": [8, 8]}, "stage": [{"source": "images", "terms": [{"name": "arcface"}]}]})
    folder = RunFolder(tmp_path)
    assert not folder.by_its_rule(run).data.all_files
    (tmp_path / "run.toml").write_text(dump_run(run))
    assert not folder.by_its_rule(run).data.all_files
    (tmp_path / "run.toml").write_text(dump_run(run).replace("all_files = false\n", ""))
    assert folder.by_its_rule(run).data.all_files
