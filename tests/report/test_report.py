"""Pages that hold all they show, escape every text, and draw what the verbs left on disk."""

import base64
import csv
import io
import json
import re
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest

from distill import DistillError
from distill.config.files import dump_run, load_run
from distill.config.stage import ShardsStage
from distill.evaluation.pairs import draw_pairs
from distill.evaluation.rates import roc
from distill.evaluation.verification import verify_pairs
from distill.images.codec import encode_jpeg
from distill.report import figures
from distill.report.about_part import stage_in_words
from distill.report.demo_page import NAMES, write_demo_report
from distill.report.page import Case, Cases, Code, Commands, Faces, Facts, Figure, Section, Table, Text, Tiles, render, write_page
from distill.report.run_files import read_history
from distill.report.run_page import write_run_report
from distill.report.words import duration

QUALITY = {"teacher": 0.7, "student": 0.8, "labels_only": 1.0, "noise_only": 4.0}  # noise on an identity's direction
EVIL = "<script>alert(\"x\")</script> & 'quotes'"


class Page(HTMLParser):
    """Checks that tags close in order, and collects what the page would load."""

    VOID = {"meta", "img", "source", "br"}

    def __init__(self, text):
        super().__init__()
        self.open, self.loads, self.seen = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        self.loads += [value for name, value in attributes if name in ("src", "srcset", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def size(png):
    from PIL import Image

    with Image.open(io.BytesIO(png)) as image:
        image.load()
        assert image.format == "PNG"
        return image.size


def write_history(path, epochs, stages=1, held_out=True, seed=0):
    """A history.csv as a run leaves it: every second stage knows labels too."""
    rng, rows = np.random.default_rng(seed), []
    for stage in range(1, stages + 1):
        for epoch in range(1, epochs + 1):
            at = (stage - 1) * epochs + epoch
            row = {"stage": stage, "epoch": epoch, "seconds": 3.5, "images_per_second": 5000, "learning_rate": 1e-2 * 0.8**epoch}
            row |= {"loss": 64 * 0.85**at + rng.random(), "agreement": 1 - 0.8**at}
            row |= {"held_out_loss": 64 * 0.86**at + 1 + rng.random(), "held_out_agreement": 0.98 - 0.8**at} if held_out else {}
            row |= {"accuracy": 1 - 0.9**epoch} if stage == 2 else {}
            rows.append(row)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        table = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        table.writeheader()
        table.writerows(rows)


def fake_demo(out, identities=12, images=7, pairs=400, png_of=None):
    """What a demo leaves behind, with embeddings that are noisy directions; returns its summary."""
    rng = np.random.default_rng(0)
    keys = [f"id{who:04d}/{number:03d}.jpg" for who in range(identities) for number in range(images)]
    for number, key in enumerate(keys):
        path = out / "faces" / "unseen" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = png_of(*divmod(number, images)) if png_of else rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        path.write_bytes(encode_jpeg(pixels))
    for unfinished in (".a-folder/000.jpg", "id0000/.000.jpg.host.1.2-3.tmp"):  # sorts first, and is no picture
        path = out / "faces" / "unseen" / unfinished
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
    directions = rng.normal(size=(identities, 32)) / np.sqrt(32)
    drawn = draw_pairs(out / "faces" / "unseen", pairs)
    first, second = (np.array([keys.index(key) for key in side]) for side in (drawn.first, drawn.second))
    who, same = np.arange(len(keys)) // images, drawn.same
    summary = {}
    for name, noise in QUALITY.items():
        table = directions[who] + noise * rng.normal(size=(len(keys), 32)) / np.sqrt(32)
        table /= np.linalg.norm(table, axis=1, keepdims=True)
        scores = np.einsum("nd,nd->n", table[first], table[second])
        judged = verify_pairs(scores, same)
        folder = out / "runs" / name if name == "student" else out / "evaluation" / name
        folder.mkdir(parents=True)
        extra = {"cosines": 1 - rng.gamma(4, 0.01, 500)} if name == "student" else {}
        np.savez(folder / "scores-model.npz", scores=scores, same=same, first=drawn.first, second=drawn.second, **extra)
        (folder / "evaluation.json").write_text(json.dumps({"model": {"pairs": judged.as_dict()}}))
        write_history(out / "runs" / name / "history.csv", 1 if name == "noise_only" else 12, held_out=False)
        (out / f"{name}.toml").write_text(f"# {EVIL}\nseed = 1\n")
        size = 290_000 if name == "teacher" else 25_000
        summary[name] = {"accuracy": judged.accuracy, "accuracy_std": judged.std, "tar_at_far_1e-2": judged.tar[0].tar}
        summary[name] |= {"parameters": size, "seconds": 100.4}
    summary["student"]["agreement"] = 0.96
    return summary


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo")
    summary = fake_demo(out)
    return out, summary, write_demo_report(out, summary).read_text(encoding="utf-8")


def test_a_page_holds_all_it_shows(demo):
    page = Page(demo[2])
    assert len(page.loads) > 10 and all(load.startswith("data:image/png;base64,") for load in page.loads)
    assert "script" not in page.seen and "link" not in page.seen and "http" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", demo[2])
    for load in page.loads:
        size(base64.b64decode(load.partition(",")[2]))


def test_the_demo_page_shows_the_figures_of_the_summary(demo):
    _, summary, text = demo
    for name, words in NAMES.items():
        assert words in text and f"{summary[name]['accuracy']:.1%} ± {summary[name]['accuracy_std']:.1%}" in text
    assert "11.6 times" in text and "8.6%" in text and "1 min 40 s" in text and "0.960" in text
    for heading in ("The faces", "Verification: same person or not?", "Where the student errs", "Training", "How it was done"):
        assert f"<h2>{heading}</h2>" in text


def test_the_students_errors_are_its_farthest(demo):
    out, _, text = demo
    with np.load(out / "runs" / "student" / "scores-model.npz") as stored:
        scores, same = stored["scores"], stored["same"]
    threshold = json.loads((out / "runs" / "student" / "evaluation.json").read_text())["model"]["pairs"]["threshold"]
    wrong = int(((scores >= threshold) != same).sum())
    assert wrong and f"judges {wrong} of 400 pairs wrong" in text
    assert f"student {scores[same].min():.2f}, teacher" in text and f"student {scores[~same].max():.2f}, teacher" in text


def test_every_text_is_escaped(tmp_path):
    png = figures.png_of(np.zeros((2, 2, 3), np.uint8))
    blocks = [
        Text(EVIL),
        Tiles([(EVIL, EVIL)]),
        Facts([(EVIL, [EVIL]), (EVIL, [EVIL, EVIL])]),
        Commands([(EVIL, EVIL)]),
        Table([EVIL, EVIL], [[EVIL, (EVIL, 0.5)]], EVIL),
        Figure((png, png), EVIL),
        Faces(png, EVIL),
        Cases([Case(png, png, EVIL, EVIL)]),
        Code(EVIL, EVIL),
    ]
    text = write_page(tmp_path / "deep" / "page.html", EVIL, [Section(EVIL, blocks)], EVIL).read_text()
    page = Page(text)
    assert "script" not in page.seen and "<script" not in text and text.count("&lt;script&gt;") >= 22
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["page.html"]


def html(*blocks):
    return render("", [Section("", blocks)])


def test_neighbouring_figures_stand_side_by_side():
    image = Figure((b"", b""), "")
    assert html(image, image, Text("then"), image).count('class="figures"') == 2


def test_lines_of_a_file_stand_as_they_are():
    assert "<pre>a = 1\n\n  b &lt; 2\n</pre>" in html(Code("", "a = 1\n\n  b < 2\n"))


def test_bars_stay_inside_their_cell():
    text = html(Table(["a", "b"], [["row", ("12 %", 1.7)], ["row", ("-3 %", -0.2)]]))
    assert "width:100.0%" in text and "width:0.0%" in text


RUN = """
seed = 7
[student]
backbone = "small_conv"
embedding = 64
[data]
shards = "{shards}"
size = [32, 32]
holdout = {{ by = "identity", fraction = 0.1 }}
[[stage]]
source = "noise"
teacher = "big & small.onnx"
steps = 9
epochs = 4
terms = [{{ name = "cosine", weight = 64.0 }}]
[[stage]]
source = "shards"
epochs = 4
terms = [{{ name = "cosine", weight = 8.0 }}, {{ name = "softmax" }}]
"""


@pytest.fixture
def run(tmp_path):
    run = tmp_path / "joint & co"
    write_history(run / "history.csv", epochs=4, stages=2)
    rows = [{"stage": 1, "source": "noise", "trained_on": 1152, "held_out": 0}, {"stage": 2, "source": "shards", "trained_on": 10800, "held_out": 1200}]
    (run / "summary.json").write_text(json.dumps({"parameters": 28336, "rows": rows}))
    (run / "student.keras").touch()
    (run / "run.toml").write_text(RUN.format(shards=tmp_path / "gone"))
    (run / "run.toml").write_text(dump_run(load_run(run / "run.toml")))  # in the letters of a run
    return run


def shown(text):
    """A page's text as it is read: without tags, style and pictures."""
    return unescape(re.sub(r"<style>.*?</style>|<[^>]*>", " ", text, flags=re.DOTALL))


def test_astage_in_words_says_what_is_frozen_and_multiplied():
    multipliers = [{"layers": "head", "learning_rate": 10.0}]
    for freeze, words in (("backbone", "backbone"), (["conv1*", "norm1"], "conv1*, norm1")):
        stage = ShardsStage(terms=[{"name": "cosine"}], freeze=freeze, multipliers=multipliers)
        assert stage_in_words(stage).endswith(f"adamw at 0.001, schedule constant, frozen: {words}, head at 10 times the rate")


def test_the_page_of_a_run(run):
    text = write_run_report(run).read_text(encoding="utf-8")
    Page(text)
    read = shown(text)
    assert "Run joint &amp; co" in text and "28,336" in text and "seed = 7" in text and "<b>8</b><span>epochs" in text and "28 s" in text
    history = read_history(run / "history.csv")
    assert f"{history['held_out_agreement'][-1]:.4f}" in text
    assert np.isnan(history["accuracy"][:4]).all() and np.isfinite(history["accuracy"][4:]).all()
    assert "stage 1: 1,152 rows of noise, other ones in each epoch trained on, none held out" in read
    assert "stage 2: 10,800 rows of the shards trained on, 1,200 held out (0.1 of all identities)" in read
    assert "at big & small.onnx, asked about noise" in read and "gone, which cannot be opened now" in read
    assert "2: source shards, 4 epochs, loss 8 × cosine + 1 × softmax, adamw at 0.001, schedule constant" in read
    assert f"{run}/student.keras" in read and "embeddings of 64 numbers" in read
    assert f"distill evaluate '{run}' --pairs PAIRS --teacher 'big & small.onnx' --shards {run.parent / 'gone'} --out '{run}'" in read
    assert f"distill export '{run}' '{run}-export'" in read
    assert "Solid: rows trained on; dashed: rows held out." in read and "vertical line marks where a stage begins" in read


def test_the_page_of_a_run_shows_its_evaluation(run):
    assert "No pairs were evaluated yet" in shown(write_run_report(run).read_text())
    rng = np.random.default_rng(2)
    same = np.tile([True, False], 1000)
    judged = verify_pairs(np.where(same, 0.6, 0.1) + rng.normal(0, 0.2, 2000), same)
    agreement = {"shards": "out", "part": "held-out rows", "mean": 0.9512, "rows": 1200}
    (run / "evaluation.json").write_text(json.dumps({"model": {"pairs": {"folder": "unseen", **judged.as_dict()}, "agreement": agreement}}))
    read = shown(write_run_report(run).read_text())
    assert f"{judged.accuracy:.1%} of the pairs of its evaluation judged right" in re.sub(r"\s+", " ", read)
    assert f"{judged.accuracy:.2%} ± {judged.std:.2%}" in read and f"{judged.tar[0].tar:.2%}" in read and "student, unseen" in read and "2,000" in read
    assert "no scores lie in the run, so nothing is drawn" in read and "No intervals were taken" in read
    assert "1,200 rows: held-out rows of out; whether the student was trained on them is not known" in read and "0.9512" in read


def test_captions_describe_the_plots(tmp_path):
    write_history(tmp_path / "history.csv", epochs=3, held_out=False)
    read = shown(write_run_report(tmp_path).read_text())
    assert "Solid: rows trained on." in read and "dashed" not in read and "by heart" not in read and "vertical" not in read


def test_a_run_file_of_another_version_stands_in_the_page_as_it_is(tmp_path):
    write_history(tmp_path / "history.csv", epochs=3)
    (tmp_path / "run.toml").write_text("nonsense = 1\n")
    assert "nonsense = 1" in write_run_report(tmp_path).read_text()


def test_a_table_says_that_it_scrolls_where_a_phone_is_too_narrow_for_it():
    narrow, wide = Table(["", "accuracy"], [["student", "95.8%"]]), Table([""] + 5 * ["a column"], [["the student", *5 * ["12,345,678"]]])
    assert "scrolls" not in html(narrow) and narrow.width < 200 and 'class="wide" tabindex="0"' in html(narrow)
    assert "it scrolls sideways" in html(wide) and wide.width > 500
    assert Table(["none"], []).width > 0


def test_a_run_without_history_is_said(tmp_path):
    with pytest.raises(DistillError, match=r"history\.csv: no such file"):
        write_run_report(tmp_path)
    (tmp_path / "history.csv").write_text("stage,epoch,loss\n")
    with pytest.raises(DistillError, match="no epochs"):
        write_run_report(tmp_path)


def test_every_figure_is_a_png_and_the_same_again():
    rng = np.random.default_rng(1)
    same = np.tile([True, False], 200)
    scores = np.clip(np.where(same, 0.6, 0.1) + rng.normal(0, 0.15, 400), -1, 1)
    points = roc(scores, same)
    history = {"stage": np.array([1.0, 2.0]), "loss": np.array([40.0, 1.0]), "learning_rate": np.array([0.1, np.nan])}
    for draw, arguments in [
        (figures.curve, [{**history, "held_out_loss": history["loss"]}, "loss", "loss"]),
        (figures.losses, [{"one": history, "two": history, "three": history}]),
        (figures.histograms, [{"model": (scores, same, 0.35)}]),
        (figures.rocs, [{"model": (points.far, points.tar)}, 200]),
        (figures.agreements, [{"student": 1 - rng.gamma(4, 0.01, 300)}]),
    ]:
        light, dark = figures.both(draw, *arguments)
        assert light != dark and size(light) == size(dark) and size(light)[0] == figures.WIDTH * figures.PIXELS_PER_INCH
    assert draw(*arguments) == light  # the last and quickest of them


def test_contact_sheet_pixels():
    from PIL import Image

    sheet = figures.contact_sheet(np.stack([np.full((4, 6, 3), value, np.uint8) for value in (10, 20, 30)]), columns=2, gap=1)
    with Image.open(io.BytesIO(sheet)) as image:
        pixels = np.asarray(image)
    assert pixels.shape == (9, 13, 4)
    assert pixels[0, 0].tolist() == [10, 10, 10, 255] and pixels[0, 7].tolist() == [20, 20, 20, 255] and pixels[5, 0, 0] == 30
    assert pixels[0, 6, 3] == 0 and pixels[8, 12, 3] == 0  # the gap, and the place that no picture took


def test_durations_read_well():
    assert [duration(seconds) for seconds in (0.4, 59.4, 59.6, 200, 3599.6, 7500)] == ["0 s", "59 s", "1 min 00 s", "3 min 20 s", "1 h 00 min", "2 h 05 min"]
