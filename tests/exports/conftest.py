"""One tiny student, and one export of it in all formats, made in one process for all tests of this room, which only read it."""

import functools
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from distill.exports.export import Judges, export
from distill.storage.files import sha256_file
from tests.conftest import once
from tests.warm import forked

HEIGHT, WIDTH, DIMENSION = 20, 24, 5
PROCESS = "distill.api.export_process"
exported_by = functools.partial(export, process=PROCESS)


def save_student(path, height=HEIGHT, width=WIDTH, outputs=1, scale=1 / 127.5, policy="float32"):
    import keras

    keras.utils.set_random_seed(3)
    keras.config.set_dtype_policy(policy)
    try:
        images = keras.Input((height, width, 3))
        inner = keras.layers.Rescaling(scale, offset=-1)(images)
        inner = keras.layers.Conv2D(4, 3, strides=2, activation="relu")(inner)
        inner = keras.layers.GlobalAveragePooling2D()(keras.layers.BatchNormalization()(inner))
        inner = keras.layers.Dropout(0.5)(inner)
        keras.Model(images, [keras.layers.Dense(DIMENSION)(inner) for _ in range(outputs)]).save(path)
    finally:
        keras.config.set_dtype_policy("float32")
    return path


def student_of(path):
    """The Keras student as a function uint8 [N, H, W, 3] -> float32 [N, D]."""
    import keras

    model = keras.models.load_model(path, compile=False)
    return lambda pixels: np.asarray(model(pixels.astype(np.float32), training=False), np.float32)


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Path:
    def make(folder: Path) -> None:
        folder.mkdir()
        save_student(folder / "student.keras")

    return once(tmp_path_factory, "exports-run", make)


@pytest.fixture(scope="session")
def expected(run):
    return student_of(run / "student.keras")


@pytest.fixture(scope="session")
def pictures():
    random = np.random.default_rng(5)
    return random.integers(0, 256, (6, HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    from distill.synthetic.folder import draw_folder

    return once(tmp_path_factory, "exports-photos", lambda root: draw_folder(root, identities=12, images=6, size=24))


@pytest.fixture(scope="session")
def everything(tmp_path_factory, run, photos) -> tuple[Path, dict]:
    """(OUT, what was returned) of `--format all`, from a run folder that has an evaluation."""
    for library in ("tf2onnx", "onnx", "onnxruntime", "openvino", "ai_edge_litert"):
        pytest.importorskip(library)

    def make(folder: Path) -> None:
        folder.mkdir()
        own = folder / "run"
        own.mkdir()
        (own / "student.keras").write_bytes((run / "student.keras").read_bytes())
        (own / "run.toml").write_text(RUN)
        (own / "evaluation.json").write_text(json.dumps({"model": {**EVALUATION["model"], "sha256": sha256_file(own / "student.keras")}}))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("distill.exports.export.subprocess", SimpleNamespace(run=forked))
            card = exported_by(own, folder / "out", "all", judges=Judges(images=str(photos), resize="stretch"))
        (folder / "card.json").write_text(json.dumps(card))

    made = once(tmp_path_factory, "exports-all", make)
    return made / "out", json.loads((made / "card.json").read_text())


RUN = """
[data]
images = "gone"
size = [20, 24]
holdout = { by = "identity", fraction = 0.2 }

[[stage]]
source = "images"
epochs = 1
terms = [{ name = "softmax" }]
"""
EVALUATION = {
    "model": {
        "path": "somewhere/run/student.keras",
        "pairs": {
            "folder": "unseen",
            "accuracy": 0.97,
            "std": 0.01,
            "threshold": 0.4,
            "auc": 0.99,
            "eer": 0.03,
            "genuine": 3000,
            "impostors": 3000,
            "tar": {
                "0.01": {"far": 0.01, "tar": 0.93, "reached": 0.01, "threshold": 0.4375, "accepted": 30, "impostors": 3000},
                "0.001": {"far": 0.001, "tar": None, "threshold": None},
            },
            "intervals": {"of": "identities", "resamples": 1000, "figures": {"accuracy": {"value": 0.97, "low": 0.96, "high": 0.98}}},
        },
        "agreement": {"shards": "set", "part": "held-out rows", "mean": 0.9125, "quantiles": {"1": 0.7}, "rows": 900},
    },
    "teacher": {"path": "other", "pairs": {"accuracy": 0.99}},
}
