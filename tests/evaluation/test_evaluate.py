"""What evaluate says beside a figure: on which rows, on whom, and what the model had learned from; and what it does not say."""

import json
import shutil
from dataclasses import dataclass, replace

import keras
import numpy as np
import pytest

import distill
from distill import DistillError
from distill.config.data import Holdout
from distill.config.files import dump_run, load_run
from distill.config.run import Run
from distill.data.shards import open_shards
from distill.data.sources import held_out
from distill.evaluation.evaluate import evaluate_models
from distill.evaluation.identification import open_people
from distill.evaluation.pair_sets import drawn_set, folder_set
from distill.evaluation.pairs import draw_pairs
from distill.evaluation.request import EvaluationRequest
from distill.evaluation.verification import cosine_scores, verify_pairs
from distill.images.codec import decode, encode_jpeg
from distill.results import EvaluateResult, Judged
from distill.results.agreement import asymmetric_notes
from distill.training.checkpoint import Progress
from distill.training.origin import Origin, _of_card, origin_of, projection_of
from distill.training.run_folder import RunFolder
from distill.training.stages import open_stages
from distill.training.trainer import people, train
from tests.builders import IDENTITIES, SIZE, make_set, picture
from tests.conftest import inside


@dataclass
class Model:
    """Answers with the first so many colours of a corner; p0 to p19 of the set have other reds."""

    dimension: int = 3
    height: int | None = SIZE
    width: int | None = SIZE

    def __call__(self, images):
        return images[:, 4, 4, : self.dimension].astype(np.float32) - 100


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """A labelled set of 150 rows and 3 numbers, a run of 2 numbers that learned from all of it, and pictures of p18 to p21 to make pairs of."""
    root = tmp_path_factory.mktemp("judge")
    make_set(root / "set")
    make_set(root / "other", (100, 40))
    stage = {"source": "shards", "terms": [{"name": "cosine"}]}
    student = {"widths": [4], "embedding": 2, "dropout": 0.0}
    train(Run.model_validate({"student": student, "data": {"shards": str(root / "set"), "batch": 50}, "stage": [stage]}), root / "run", quiet=True)
    for number in range(18 * 4, 22 * 4):
        path = root / "faces" / f"p{number // 4}" / f"{number % 4}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_jpeg(picture(number)))
    shutil.copy(root / "run" / "student.keras", root / "bare.keras")
    return root


def in_words(judged):
    return EvaluateResult({who: Judged(figures["path"], figures) for who, figures in judged.items()}).in_words()


def asked(room, path, model=None, **question):
    return evaluate_models({"model": (str(path), lambda: model or Model())}, EvaluationRequest(**question))["model"]


def student_of(room):
    student = keras.models.load_model(room / "run" / "student.keras", compile=False)
    model = Model(2)
    model.__class__ = type("Student", (Model,), {"__call__": lambda self, images: np.asarray(student(images.astype(np.float32)))})
    return model


def test_a_run_is_known_by_its_folder(room):
    set_ = open_shards(room / "set")
    everybody = frozenset(f"p{number}" for number in range(IDENTITIES))
    expected = Origin(True, None, {"shards": set_.identity}, everybody)
    for path in ("run", "run/student.keras", "run/checkpoints/best.keras"):
        assert origin_of(room / path) == expected
    assert origin_of(room / "bare.keras") == origin_of(room) == origin_of(room / "nowhere") == Origin()


def test_people_are_those_that_train_and_their_donors(room, tmp_path):
    stage = {"source": "shards", "terms": [{"name": "cosine"}]}
    whole = Run.model_validate({"data": {"shards": str(room / "set")}, "stage": [stage]})
    fraction = 0.5
    part = Run.model_validate({"data": {"shards": str(room / "set"), "holdout": {"fraction": fraction}}, "stage": [stage]})
    taught = {f"p{number}" for number in range(IDENTITIES) if not held_out(f"p{number}", fraction)}
    assert people(part, open_stages(part)) == taught != people(whole, open_stages(whole))
    donors = {"run": {f"p{number}" for number in range(IDENTITIES)}, "bare.keras": None}
    for donor, expected in donors.items():
        after = part.model_copy(update={"student": part.student.model_copy(update={"weights": str(room / donor)})})
        assert people(after, open_stages(after)) == expected
    folder = RunFolder(tmp_path)
    folder.checkpoints.mkdir()
    for names, kept in ((None, []), ({"b", "a"}, ["a\nb\n"]), (set(), [""])):
        folder.people = names
        folder.save(Progress(), {})
        assert [path.read_text() for path in tmp_path.glob("identities.txt")] == kept


def test_a_refused_run_leaves_nothing(room, tmp_path):
    run = Run.model_validate({"data": {"shards": str(room / "set"), "batch": 1}, "stage": [{"source": "shards", "terms": [{"name": "cosine"}]}]})
    with pytest.raises(DistillError, match="batches of 1 row"):
        train(run, tmp_path / "run", quiet=True)
    assert not list(tmp_path.iterdir())


def test_a_run_of_an_earlier_version_is_known_by_the_set_it_names(room, tmp_path):
    shutil.copytree(room / "run", tmp_path / "run")
    (tmp_path / "run" / "identities.txt").unlink()
    last = tmp_path / "run" / "checkpoints" / "last.npz"
    arrays = dict(np.load(last))
    progress = json.loads(arrays["progress.json"].tobytes())
    del progress["learned_from"]
    np.savez(last, **arrays | {"progress.json": np.frombuffer(json.dumps(progress).encode(), np.uint8)})
    assert origin_of(tmp_path / "run") == origin_of(room / "run")
    toml = tmp_path / "run" / "run.toml"
    toml.write_text(toml.read_text().replace(str(room / "set"), "/gone"))
    assert origin_of(tmp_path / "run") == Origin(True, None, {"shards": ""})
    found = asked(room, tmp_path / "run", shards=room / "set")
    assert found["agreement"]["trained_on"] is None  # which set it was is not known


def test_a_run_that_learned_from_noise_was_trained_on_no_row(room, tmp_path):
    stage = {"source": "noise", "teacher": "t", "steps": 2, "terms": [{"name": "cosine"}]}
    data = {"shards": str(room / "set"), "batch": 50}
    run = Run.model_validate({"student": {"widths": [4], "embedding": 3, "dropout": 0.0}, "data": data, "stage": [stage]})
    train(run, tmp_path / "run", open_teacher=lambda path, preprocessing: Model(), quiet=True)
    assert origin_of(tmp_path / "run") == Origin(True, None, {}, frozenset())
    found = asked(room, tmp_path / "run", shards=room / "set")
    assert found["agreement"]["trained_on"] is False and "150 rows (all rows)\n" in in_words({"model": found})


@pytest.mark.parametrize("holdout", [None, Holdout(by="identity", fraction=0.5)])
def test_the_card_of_an_export_keeps_what_is_known(room, tmp_path, holdout):
    origin = replace(origin_of(room / "run"), holdout=holdout)
    (tmp_path / "assets.extra").mkdir()
    (tmp_path / "assets.extra" / "distill.json").write_text(json.dumps({"made_by": "distill 1", "learned_from": origin.as_card()}))
    assert origin_of(tmp_path) == replace(origin, identities=None)
    for broken in ({}, {"learned_from": 3}, {"learned_from": {"holdout": {"by": "name"}, "sets": {}}}):
        (tmp_path / "assets.extra" / "distill.json").write_text(json.dumps({"made_by": "distill 1", **broken}))
        assert origin_of(tmp_path) == Origin()


@pytest.mark.parametrize(
    ("path", "shards", "trained", "words"),
    [
        ("run", "set", True, "150 rows (all rows, which it was trained on)"),
        ("run", "other", None, "140 rows (all rows; whether it was trained on them is not known)"),
        ("bare.keras", "set", None, "150 rows (all rows; whether it was trained on them is not known)"),
    ],
)
def test_agreement_says_on_which_rows_it_was_taken(room, path, shards, trained, words):
    found = asked(room, room / path, shards=room / shards)
    assert found["agreement"]["trained_on"] is trained
    assert words in in_words({"model": found})


HALF, LESS, BY_KEY = Holdout(by="identity", fraction=0.5), Holdout(by="identity", fraction=0.4), Holdout(by="key", fraction=0.5)
ALL, PART, NOISE = Origin(True, None, {"shards": "s"}), Origin(True, HALF, {"shards": "s"}), Origin(True, None, {})


@pytest.mark.parametrize(
    ("origin", "asked_for", "expected"),
    [
        (PART, HALF, False),
        (PART, LESS, False),  # a part of what it never saw
        (replace(PART, holdout=LESS), HALF, True),
        (PART, BY_KEY, True),
        (PART, None, True),
        (ALL, HALF, True),  # asked for another model's held-out rows
        (NOISE, HALF, False),
        (Origin(), HALF, None),
        (Origin(), None, None),
        (replace(PART, sets={"shards": "other"}), HALF, None),
        (replace(PART, sets={"shards": ""}), HALF, None),
        (replace(PART, sets={"images": "s"}), HALF, None),
        (replace(PART, sets={"shards": "s", "images": "i"}), HALF, None),  # which may show the same pictures
        (replace(PART, donor=PART), HALF, False),
        (replace(PART, donor=ALL), HALF, True),
        (replace(PART, donor=Origin()), HALF, None),
        (replace(NOISE, donor=ALL), None, True),
        (replace(NOISE, donor=replace(NOISE, donor=Origin())), None, None),
        (replace(ALL, donor=Origin()), None, True),
    ],
)
def test_whether_a_model_was_trained_on_the_rows_it_is_asked(origin, asked_for, expected):
    """By its own training and that of the models whose weights it began with; an export's card tells the same."""
    assert origin.learned("s", asked_for) is expected
    if origin.known:
        assert _of_card(json.loads(json.dumps(origin.as_card()))).learned("s", asked_for) is expected


def test_a_teacher_is_judged_by_what_it_learned_and_not_by_the_models_holdout(room, tmp_path):
    """The teacher learned from all rows; the model of the question held half of them out, and began with that teacher's weights or not."""
    holdout = Holdout(by="identity", fraction=0.5)
    shutil.copytree(room / "run", tmp_path / "part")
    toml = tmp_path / "part" / "run.toml"
    toml.write_text(toml.read_text().replace("[data]", '[data]\nholdout = { by = "identity", fraction = 0.5 }'))
    models = {"model": (str(tmp_path / "part"), Model), "teacher": (str(room / "run"), Model), "stranger": (str(room / "bare.keras"), Model)}
    answer = evaluate_models(models, EvaluationRequest(shards=room / "set", holdout=holdout))
    assert {who: each["agreement"]["trained_on"] for who, each in answer.items()} == {"model": False, "teacher": True, "stranger": None}
    assert "(held-out rows, which it was trained on)" in in_words({"teacher": answer["teacher"]})
    run = load_run(toml)
    for donor, expected in (("run", True), ("bare.keras", None), ("gone", None)):
        begun = run.model_copy(update={"student": run.student.model_copy(update={"weights": str(room / donor)})})
        toml.write_text(dump_run(begun))
        assert asked(room, tmp_path / "part", shards=room / "set", holdout=holdout)["agreement"]["trained_on"] is expected
    toml.write_text(dump_run(run.model_copy(update={"student": run.student.model_copy(update={"weights": str(tmp_path / "part")})})))
    assert origin_of(tmp_path / "part").learned(open_shards(room / "set").identity, holdout) is None  # its own donor


def test_held_out_rows_are_named_as_held_out(room, monkeypatch):
    holdout = Holdout(by="identity", fraction=0.5)
    identity = open_shards(room / "set").identity
    monkeypatch.setattr("distill.evaluation.evaluate.origin_of", lambda path: Origin(True, holdout, {"shards": identity}))
    found = asked(room, room / "run", shards=room / "set", holdout=holdout)
    rows = sum(held_out(f"p{number % IDENTITIES}", 0.5) for number in range(150))
    assert found["agreement"]["trained_on"] is False and f"over {rows} rows (held-out rows)" in in_words({"model": found})


def test_a_run_of_another_width_is_judged_behind_its_projection(room):
    kernel = projection_of(room / "run", 3)
    assert kernel.shape == (2, 3) and projection_of(room / "run", 4) is None and projection_of(room / "run/checkpoints/best.keras", 3) is None
    student = student_of(room)
    found = asked(room, room / "run", student, shards=room / "set")
    assert found["agreement"]["projected"] is True and found["agreement"]["dimension"] == 3
    assert "behind the projection of its run" in in_words({"model": found})
    by_hand = []
    from distill.data.sources import ShardSource

    for images, fields in ShardSource(room / "set", batch=150, seed=0).epoch(0):
        answers = student(images) @ kernel
        by_hand = np.einsum("nd,nd->n", answers, fields["embedding"]) / np.linalg.norm(answers, axis=1) / np.linalg.norm(fields["embedding"], axis=1)
    assert found["agreement"]["mean"] == pytest.approx(by_hand.mean(), abs=1e-5)


def test_probes_of_a_run_meet_its_teachers_gallery_behind_its_projection(room):
    kernel, student, teacher = projection_of(room / "run", 3), student_of(room), Model()
    pairs = draw_pairs(room / "faces", 16)
    sets = (folder_set(room / "faces", pairs),)
    for path, expected in ((room / "run", True), (room / "bare.keras", False)):
        models = {"model": (str(path), lambda: student), "teacher": ("t", lambda: teacher)}
        found = evaluate_models(models, EvaluationRequest(sets=sets, people=open_people(room / "faces"), resamples=20))
        assert ("asymmetric" in found["model"]) is expected and ("asymmetric_left_out" in found["model"]) is not expected
        assert not {"asymmetric", "asymmetric_left_out"} & set(found["teacher"])
        if expected:
            across = found["model"]["asymmetric"]
    images = {key: decode((room / "faces" / key).read_bytes())[None] for key in {*pairs.first, *pairs.second}}
    scores = [cosine_scores(student(images[one]) @ kernel, teacher(images[two]))[0] for one, two in zip(pairs.first, pairs.second, strict=True)]
    by_hand = verify_pairs(np.array(scores), pairs.same)
    assert across["pairs"]["accuracy"] == by_hand.accuracy and across["pairs"]["auc"] == pytest.approx(by_hand.auc)
    assert across["projected"] is True and set(across["identification"]["minus_teacher"]) == {"rank1"}
    assert asymmetric_notes({"asymmetric": across})[0].startswith("first image by the model, behind the projection of its run, second by the teacher")


def test_another_width_without_a_projection_is_refused_or_said(room):
    with pytest.raises(
        DistillError, match=r"bare.keras: its embeddings have 2 numbers, those of .*set have 3, and the projection between them is no part of it"
    ):
        asked(room, room / "bare.keras", Model(2), shards=room / "set")
    pairs = draw_pairs(room / "faces", 8)
    found = asked(room, room / "bare.keras", Model(2), shards=room / "set", sets=(folder_set(room / "faces", pairs),))
    assert "agreement" not in found and found["agreement_left_out"].startswith("its embeddings have 2 numbers") and found["pairs"]["folds"] == 4


@pytest.mark.parametrize(
    ("path", "shards", "trained", "words"),
    [
        ("run", None, 2, "2 of their 4 identities have the name of one that it was trained on"),
        ("bare.keras", None, None, "whether it was trained on their 4 identities is not known"),
        ("export", None, None, "whether it was trained on their 4 identities is not known"),
        ("export", "set", 2, "2 of their 4 identities have the name of one that it was trained on"),
        ("export", "other", None, "whether it was trained on their 4 identities is not known"),
    ],
)
def test_pairs_count_the_identities_that_the_model_was_trained_on(room, path, shards, trained, words):
    (room / "export" / "assets.extra").mkdir(parents=True, exist_ok=True)
    (room / "export" / "assets.extra" / "distill.json").write_text(json.dumps({"made_by": "distill 1", "learned_from": origin_of(room / "run").as_card()}))
    found = asked(room, room / path, sets=(drawn_set(room / "faces"),), shards=shards and room / shards)
    assert (found["pairs"]["identities"], found["pairs"]["trained_identities"]) == (4, trained)
    assert (found["leaks"]["trained_on"] is (True if shards == "set" else None)) if shards else "leaks" not in found
    answer = in_words({"model": found})
    assert words in answer and "no TAR at FAR 1 %: 1,000 impostor pairs are needed, there are 24\n" in answer and "no TAR at FAR 0.1 %: 10,000" in answer
    assert json.loads(json.dumps(found, allow_nan=False))["pairs"]["tar"]["0.01"]["tar"] is None


def test_the_command_line_ends_with_what_it_could_not_do(room):
    done = inside("evaluate", room / "run", "--shards", room / "set")
    assert done.returncode == 0 and "all rows, which it was trained on" in done.stdout and "behind the projection" in done.stdout
    done = inside("evaluate", room / "bare.keras", "--shards", room / "set")
    assert (done.returncode, done.stdout) == (2, "") and "its embeddings have 2 numbers" in done.stderr
    done = inside("evaluate", room / "bare.keras", "--shards", room / "set", "--pairs", room / "faces", "--json")
    assert done.returncode == 1 and "no agreement of the model with it could be told" in done.stderr
    assert json.loads(done.stdout)["model"]["pairs"]["genuine"] == 24
    done = inside("compare", room / "bare.keras", room / "faces" / "p18" / "0.jpg")
    assert done.returncode == 2 and "1 image given. Expected two or more" in done.stderr


def test_an_evaluation_in_the_folder_of_a_run_is_on_its_page(room, tmp_path):
    shutil.copytree(room / "run", tmp_path / "run")
    distill.evaluate(tmp_path / "run", shards=room / "set", out=tmp_path / "run", progress=False)
    found = json.loads((tmp_path / "run" / "evaluation.json").read_text())["model"]["agreement"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert f"{found['mean']:.4f}" in page and "150 rows: all rows of" in page and page.count("data:image/jpeg;base64,") == len(found["worst"])
    shutil.copytree(room / "run", tmp_path / "other")
    distill.evaluate(room / "run", shards=room / "set", out=tmp_path / "other", progress=False)  # of another model
    assert "to the stored embeddings" not in (tmp_path / "other" / "report.html").read_text()
