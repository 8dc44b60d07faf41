"""distill report: pages of one run and of several, of runs that are finished or not, and what it answers to everything else."""

import json

import numpy as np
import pytest

import distill
from distill import DistillError
from distill.config.files import dump_run, load_run
from distill.evaluation.disagreement import disagreeing, shown_pairs, thumbnail
from distill.evaluation.pair_sets import PairSet
from distill.evaluation.pairs import Pairs
from distill.evaluation.verification import verify_pairs
from distill.images.codec import encode_jpeg
from distill.report.run_files import RunFiles
from distill.report.run_page import write_run_report
from distill.storage.files import sha256_file
from tests.conftest import inside, messages, snapshot
from tests.report.test_report import RUN, Page, shown, write_history


def make_run(folder, epochs=3, terms=True, seed=0):
    """A run of two stages, evaluated beside a teacher on 400 pairs, with small images of the pairs that differ."""
    write_history(folder / "history.csv", epochs=epochs, stages=2, seed=seed)
    (folder / "run.toml").write_text(RUN.format(shards=folder / "gone").replace("seed = 7", f"seed = {seed}"))
    (folder / "run.toml").write_text(dump_run(load_run(folder / "run.toml")))
    (folder / "summary.json").write_text(json.dumps({"parameters": 28336, "epochs": 2 * epochs, "student": "student.keras"}))
    if terms:
        lines = (folder / "history.csv").read_text().splitlines()
        shares = [",share_cosine,share_softmax", *[",1.0," for _ in range(epochs)], *[f",0.{at},0.{10 - at}" for at in range(3, 3 + epochs)]]
        (folder / "history.csv").write_text("".join(f"{line}{share}\n" for line, share in zip(lines, shares, strict=True)))
    return folder


def evaluate_it(folder, sets=2, keep=True):
    rng, found = np.random.default_rng(3), {"model": {"path": str(folder / "student.keras")}, "teacher": {"path": "teacher"}}
    arrays = {"model": {}, "teacher": {}}
    same = np.tile([True, False], 200)
    for number in range(1, sets + 1):
        end = "" if number == 1 else f"_{number}"
        for who, noise in (("teacher", 0.1), ("model", 0.2)):
            scores = np.clip(np.where(same, 0.6, 0.1) + rng.normal(0, noise, 400), -1, 1)
            figures = {"folder": f"set{number}.bin", **verify_pairs(scores, same).as_dict(), "identities": None, "trained_identities": None}
            value = figures["accuracy"]
            figures["intervals"] = {"of": "pairs", "resamples": 1000, "figures": {"accuracy": {"value": value, "low": value - 0.01, "high": value + 0.01}}}
            if who == "model":
                figures["minus_teacher"] = {"accuracy": {"value": -0.02, "low": -0.03, "high": -0.01}}
            if number == 1:
                found[who]["pairs"] = figures
            else:
                found[who].setdefault("more_pairs", []).append(figures)
            arrays[who] |= {f"scores{end}": scores, f"same{end}": same}
            arrays[who] |= {f"{side}{end}": np.array([f"image {2 * row + at}" for row in range(400)]) for at, side in enumerate(("first", "second"))}
        if keep:
            last = [(found[who].get("more_pairs") or [found[who]["pairs"]])[-1]["threshold"] for who in ("teacher", "model")]
            rows = disagreeing(arrays["teacher"][f"scores{end}"], arrays["model"][f"scores{end}"], tuple(last))
            small = rng.integers(0, 256, (len(rows), 72, 72, 3), dtype=np.uint8)
            arrays["model"] |= {f"shown{end}": rows, f"shown_first{end}": small, f"shown_second{end}": small}
    for who, one in arrays.items():
        np.savez(folder / f"scores-{who}.npz", **one)
    (folder / "evaluation.json").write_text(json.dumps(found))


def test_a_page_of_all_sets_shows_the_pairs_that_differ_as_images(tmp_path):
    run = make_run(tmp_path / "run")
    evaluate_it(run)
    made = distill.write_report(run, progress=False)
    assert made.path == run / "report.html" and made.bytes < 3_000_000 and "loses 2.00 points" in made.verdicts[0]
    text = made.path.read_text()
    page, read = Page(text), shown(text)
    assert text.index("It loses 2.00 points") < text.index("<h2>")  # the verdict stands first
    headings = ["Data and fingerprints", "Training", "On pairs", "Teacher against student, pair by pair", "Agreement with the teacher"]
    headings += ["The student&#39;s probes against the teacher&#39;s gallery", "Groups", "Accuracy against size and time", "Exports", "Next"]
    assert [text.index(f"<h2>{heading}</h2>") for heading in headings] == sorted(text.index(f"<h2>{heading}</h2>") for heading in headings)
    assert sum(load.startswith("data:image/jpeg;base64,") for load in page.loads) == 2 * 2 * 12
    assert "student, set1.bin" in read and "teacher, set2.bin" in read and "How much each term moves the embedding" in read
    assert 'alt=""' not in text and text.count("<img") == text.count("alt=")


def test_what_the_verbs_find_beside_pairs_has_a_section_each(tmp_path):
    """Keys as `distill evaluate` writes them; of an evaluation that lacks them each section names the option that fills it."""
    run = make_run(tmp_path / "run", terms=False)
    evaluate_it(run, sets=1)
    empty = shown(distill.write_report(run, progress=False).path.read_text())
    for words in ("--groups FILE", "--shards SHARDS", "--speed", "--probe FOLDER", "--teacher TEACHER", "distill export"):
        assert words in empty, words
    found = json.loads((run / "evaluation.json").read_text())
    model, across = found["model"], {"value": -0.012, "low": -0.02, "high": -0.006}
    one = {**{name: model["pairs"][name] for name in ("folder", "accuracy", "auc", "eer", "tar")}, "minus_teacher": {"accuracy": across}}
    model["asymmetric"] = {"projected": True, "pairs": {**one, "accuracy": 0.8125, "mirrored": {"accuracy": 0.75}}}
    near = {"number": 6, "by": "teacher", "named": [{"image": f"a/{n}.jpg", "row": f"b/{n}.jpg", "cosine": 0.96, "rows": 1} for n in range(6)]}
    nobody = {"left_out": "whom the pairs show is not known"}
    model["leaks"] = {"shards": "out", "part": "all rows", "bound": 0.95, "rows": 320, "images": 24000, "identities": nobody, "near_duplicates": near}
    model["leaks"]["equal_files"] = {"number": 0, "named": []}
    model["probe"] = {"name": "cats", "accuracy": 0.625, "classes": 4, "train": 64, "test": 16, "classifier": "logistic regression, C = 1"}
    ranks = {"rank1": 0.875, "probes": 1900, "gallery": 100, "intervals": {"figures": {"rank1": {"value": 0.875, "low": 0.85, "high": 0.9}}}}
    model["identification"] = {**ranks, "minus_teacher": {"rank1": {"value": -0.05, "low": -0.07, "high": -0.03}}}
    (run / "evaluation.json").write_text(json.dumps(found))
    (run / "exports.json").write_text(
        json.dumps({"onnx": {"path": "x/student.onnx", "bytes": 4_500_000, "cosine_q01": 0.9999, "cosine_min": 0.9, "images": 64}})
    )
    read = " ".join(shown(distill.write_report(run, progress=False).path.read_text()).split())
    assert "set1.bin 81.25% −1.20 −2.00 to −0.60 75.00%" in read and "through the projection that its run has learned" in read
    assert "files that show the same picture 6 a/0.jpg is b/0.jpg (0.960)" in read and "and 2 more" in read and "equal files 0 none" in read
    assert "whom the pairs show is not known" in read and "student 62.50% - 4 64 16" in read
    assert "student 87.50% 85.00% to 90.00% −5.00 −7.00 to −3.00 1,900 100" in read
    assert "onnx 4.50 MB 0.999900 0.900000 64 - x/student.onnx" in read


def test_images_that_are_not_reachable_are_said_in_a_line(tmp_path):
    run = make_run(tmp_path / "run", terms=False)
    evaluate_it(run, sets=1, keep=False)
    read = shown(distill.write_report(run, progress=False).path.read_text())
    assert "their images are not reachable from here (set1.bin), and this evaluation kept no thumbnails" in read and "each stage has one term" in read


def test_several_runs_stand_side_by_side(tmp_path):
    runs = [make_run(tmp_path / name, seed=seed) for seed, name in enumerate(("one", "other"))]
    for run in runs:
        evaluate_it(run, sets=1)
    done = inside("report", *runs, "--out", tmp_path / "runs.html")
    assert done.returncode == 0 and f"the page of 2 runs: {tmp_path / 'runs.html'}" in done.stdout, done.stderr
    text = (tmp_path / "runs.html").read_text()
    Page(text)
    read = shown(text)
    assert "What differs" in read and " ".join(read.split()).count("seed 0 1") == 1 and "Highest accuracy on set1.bin" in read
    assert inside("report", *runs, "--out", tmp_path / "runs.html").returncode == 0  # a page of ours gives way
    assert json.loads(inside("report", runs[0], "--json").stdout)["runs"] == [str(runs[0])]


def test_a_run_that_is_not_finished_has_a_page_that_says_so(tmp_path):
    run = make_run(tmp_path / "run")
    (run / "summary.json").unlink()
    assert "The run is not finished" in shown(distill.write_report(run, progress=False).path.read_text())
    (run / "history.csv").unlink()
    with pytest.raises(DistillError, match="has not finished its first epoch"):
        distill.write_report(run, progress=False)


def test_bad_input_is_one_message_and_changes_nothing(tmp_path):
    run, other = make_run(tmp_path / "run"), make_run(tmp_path / "other")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    (tmp_path / "mine.html").write_text("<html>mine</html>")
    for words, said in [
        ((tmp_path / "photos",), "a folder without run.toml and history.csv, no run"),
        ((tmp_path / "runn",), "nothing is there"),
        ((run, other), "say where it goes: --out FILE"),
        ((run, run, "--out", tmp_path / "new.html"), "given twice"),
        ((run, "--out", tmp_path / "mine.html"), "does not say that distill wrote it"),
        ((run, "--out", tmp_path / "photos"), "is a folder"),
        ((run, "--out", tmp_path / "new.txt"), "expected the name of an HTML file"),
        ((run, "--out", tmp_path / "none" / "new.html"), "no such folder"),
        ((run, "--out", "gs://bucket/new.html"), "only be written on a local disk"),
    ]:
        before = snapshot(tmp_path)
        done = inside("report", *words)
        assert done.returncode == 2 and len(messages(done)) == 1 and said in done.stderr and snapshot(tmp_path) == before, (words, done)
    for name, text in (("evaluation.json", "{"), ("history.csv", "epoch,loss\n1,many\n"), ("scores-model.npz", "x")):
        evaluate_it(run, sets=1)
        (run / name).write_text(text)
        done = inside("report", run)
        assert done.returncode == 2 and len(messages(done)) == 1 and f"{name} is damaged" in done.stderr, done
        make_run(run)


def test_an_evaluation_that_lacks_figures_is_said(tmp_path):
    run = make_run(tmp_path / "run")
    (run / "evaluation.json").write_text(json.dumps({"model": {"path": str(run), "pairs": {"folder": "a", "accuracy": 1.0}}}))
    with pytest.raises(DistillError, match="the pairs of model lack std, threshold, tar, genuine, impostors. Evaluate the run again"):
        distill.write_report(run, progress=False)


def test_pairs_differ_by_their_places_and_not_by_their_cosines():
    teacher = np.array([0.9, 0.8, 0.1, 0.2])
    assert disagreeing(teacher, teacher * 0.1 + 0.5, (0.5, 0.55)).tolist() == []  # the same order, closer together
    assert disagreeing(teacher, teacher * 0.1 + 0.5, (0.5, 0.585)).tolist() == [1]  # .58 is judged differently now
    assert disagreeing(teacher, np.array([0.5, 0.1, 0.2, 0.3]), (0.5, 0.05), 2).tolist() == [2, 3]  # the student accepts all, the teacher not these
    assert disagreeing(teacher, np.array([0.5, 0.1, 0.2, 0.3]), (0.5, 0.4), 2).tolist() == [1, 2]
    assert disagreeing(np.zeros(3), np.zeros(3), (0.1, 0.1)).tolist() == []


def test_thumbnails_are_whole_images():
    wide = np.full((10, 20, 3), 200, np.uint8)
    small = thumbnail(wide, 8)
    assert small.shape == (8, 8, 3) and (small[2:6] == 200).all() and (small[:2] == 128).all() and (small[6:] == 128).all()
    images = {f"image {at}": encode_jpeg(np.full((9, 9, 3), 40 * at, np.uint8)) for at in range(4)}
    pair_set = PairSet("a.bin", Pairs(("image 0", "image 2"), ("image 1", "image 3"), np.array([True, False])), images.__getitem__, None)
    found = shown_pairs(np.array([0.1, 0.2]), np.array([0.2, 0.1]), (0.5, 0.5), pair_set)
    assert found["shown"].tolist() == [0, 1] and found["shown_first"][:, 0, 0, 0].tolist() == [0, 80] and found["shown_second"][1, 0, 0, 0] == 120


def test_figures_of_another_run_are_none_of_this_one(tmp_path, monkeypatch):
    """Paths may be relative to anywhere, and folders of several runs have the same name: the file itself says whose figures they are."""
    (tmp_path / "y/student").mkdir(parents=True)
    run = tmp_path / "y/student"
    write_history(run / "history.csv", epochs=2)
    (run / "student.keras").write_bytes(b"mine")
    figures = {"x-student": {"path": "x/student", "sha256": "0" * 64}, "y-student": {"path": "y/student", "sha256": sha256_file(run / "student.keras")}}
    (run / "evaluation.json").write_text(json.dumps(figures))
    monkeypatch.chdir("/")
    assert RunFiles.read(run).who == "y-student" and RunFiles.read(run).student == figures["y-student"]
    (run / "student.keras").write_bytes(b"trained anew")
    assert RunFiles.read(run).student == {} and RunFiles.read(run).evaluation == {}
    (run / "evaluation.json").write_text(json.dumps({"model": {"path": "gone/student"}}))  # of an earlier version, about one model
    assert RunFiles.read(run).student == {"path": "gone/student"}
    (run / "evaluation.json").write_text(json.dumps({"a": {"path": "gone/a"}, "b": {"path": str(run / "student.keras")}}))
    assert RunFiles.read(run).who == "b"


def test_a_page_that_somebody_else_wrote_is_left_alone(tmp_path):
    (tmp_path / "run").mkdir()
    run = make_run(tmp_path / "run")
    (run / "report.html").write_text("<html>my own page</html>")
    with pytest.raises(DistillError, match="report.html is there already and does not say that distill wrote it; it is left alone"):
        write_run_report(run)
    assert (run / "report.html").read_text() == "<html>my own page</html>"


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        (
            "evaluation.json",
            '{"model": {"path": "r", "leaks": "x"}}',
            "evaluation.json is not as distill evaluate writes it: leaks of model is of another kind",
        ),
        ("exports.json", '{"onnx": {"path": "a", "bytes": "many"}}', "exports.json is not as distill writes it: onnx: bytes is of another kind"),
        ("exports.json", '{"onnx": "many"}', "exports.json is not as distill writes it: onnx: it is of another kind"),
        ("summary.json", '{"parameters": "many"}', "summary.json is not as distill writes it: parameters is of another kind"),
        ("history.csv", "epoch,stage\n1,2\n", "history.csv is damaged: it has no column loss and no column seconds"),
        ("history.csv", "epoch,loss\n\udcff,1\n", "history.csv is damaged: 'utf-8' codec can't decode byte 0xff"),
    ],
)
def test_files_that_are_not_as_they_were_written_are_named(tmp_path, name, content, told):
    write_history(tmp_path / "history.csv", epochs=2)
    (tmp_path / name).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(DistillError, match=told):
        write_run_report(tmp_path)
    assert not (tmp_path / "report.html").exists()
