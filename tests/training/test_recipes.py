"""The recipes of docs/examples, each from its command to its student: shortened by --set, on drawn pictures and a real teacher, through the command line."""

import csv
import json
from pathlib import Path

import pytest

from distill.config.files import load_run
from tests.builders import embed
from tests.conftest import inside, once

RECIPES = Path(__file__).parents[2] / "docs" / "examples"
FAST = ("two_stages", "joint_softmax_mse", "head_then_all")  # by small_conv
SMALL = ["student.backbone=small_conv", "student.widths=[8, 8]"]
DONOR = ("fine_tune", "triplets", "head_then_all", "other_embedding")  # go on from a run
SHORT = {  # what makes each of them short; 120 pictures
    "noise_mse": ["data.size=[32, 32]", "stage.1.epochs=2"],
    "embeddings_mse": ["stage.1.epochs=2"],
    "joint_softmax_mse": ["stage.1.epochs=2"],
    "softmax_resnet50v2": ["stage.1.epochs=1"],
    "arcface_combined": ["stage.1.epochs=1"],
    "arcface_centre": ["stage.1.epochs=1"],
    "two_stages": ["stage.1.epochs=2", "stage.2.epochs=2", "stage.2.schedule.at=[2, 4, 6]", "data.batch=24"],
    "fine_tune": ["stage.1.epochs=1"],
    "triplets": ["stage.1.balanced.identities=6", "stage.1.schedule.at=[1, 2, 3]"],
    "head_then_all": ["stage.2.epochs=1"],
    "other_embedding": ["stage.2.epochs=1"],
}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory, faces, quick):
    def make(root):
        assert embed(faces, root, quick).returncode == 0

    return once(tmp_path_factory, "recipes", make)


def train(name, out, labelled, quick, donor=None, small=True):
    changes = [*SHORT[name], *(SMALL if small else [])]
    changes += [f"stage.1.teacher={quick}"] if name == "noise_mse" else [f"data.shards={labelled}"]
    if "data.batch=24" not in changes:
        changes.append("data.batch=40")
    if donor:
        changes.append(f"student.weights={donor}")
    return inside("train", RECIPES / f"{name}.toml", "--out", out, *(word for change in changes for word in ("--set", change)))


@pytest.fixture(scope="module")
def donor(tmp_path_factory, labelled, quick):
    """A finished run of two_stages, by small_conv."""

    def make(root):
        assert train("two_stages", root, labelled, quick).returncode == 0

    return once(tmp_path_factory, "donor", make)


def test_every_recipe_is_tried():
    assert {path.stem for path in RECIPES.glob("*.toml")} == SHORT.keys()


@pytest.mark.parametrize("name", SHORT)
def test_a_recipe_begins_with_its_command_and_tells_its_time(name):
    text = (RECIPES / f"{name}.toml").read_text()
    assert text.startswith(f"# distill train docs/examples/{name}.toml --out runs/{name}\n")
    assert "on two cores" in "".join(line for line in text.splitlines() if line.startswith("#"))
    load_run(RECIPES / f"{name}.toml")


def finished(done, out):
    assert done.returncode == 0, done.stderr
    summary = json.loads((out / "summary.json").read_text())
    rows = list(csv.DictReader((out / "history.csv").read_text().splitlines()))
    assert summary["epochs"] == len(rows) and (out / "student.keras").is_file()
    return done.stderr


@pytest.mark.parametrize("name", FAST)
def test_a_recipe_runs(name, labelled, quick, request, tmp_path):
    donor = request.getfixturevalue("donor") if name in DONOR else None
    finished(train(name, tmp_path / "run", labelled, quick, donor), tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORT)
def test_a_recipe_runs_with_its_own_net(name, labelled, quick, request, tmp_path):
    donor = request.getfixturevalue("donor") if name in DONOR else None  # of small_conv, so those go on with that
    finished(train(name, tmp_path / "run", labelled, quick, donor, small=donor is not None), tmp_path / "run")
