"""Run files: what loads is complete; what does not load says which key, what it received and what was expected."""

import re
import tomllib
from pathlib import Path

import pytest

from distill import DistillError
from distill.config.files import build_run, differences, dump_run, load_run
from distill.config.problems import keys_like
from distill.images.augmentation import find_recipe

EXAMPLES = sorted((Path(__file__).parents[2] / "distill" / "examples").glob("*.toml"))
GOOD = """
[data]
shards = "out/shards"
images = "faces"
size = [48, 48]
[[stage]]
epochs = 2
terms = [{ name = "cosine", weight = 64.0 }]
[[stage]]
source = "noise"
teacher = "teacher"
steps = 10
terms = [{ name = "mse" }]
"""


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "run.toml"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_loads_and_comes_back_the_same(path, file):
    run = load_run(path)
    assert load_run(file(dump_run(run))) == run
    assert f"distill init {path.stem} > run.toml; distill train run.toml --out" in path.read_text().splitlines()[0]


def test_the_six_examples_are_there():
    assert [path.stem for path in EXAMPLES] == ["arcface", "cosine", "joint", "labels", "noise", "staged"]


def test_defaults_are_resolved_and_what_is_not_set_is_left_out(file):
    run = load_run(file(GOOD.replace('name = "mse"', 'name = "mse" }, { name = "cosine"')))
    assert run.student.embedding == 128
    assert run.stage[0].terms[0].options == {}
    assert "teacher" not in dump_run(run).split("[[stage]]")[1]
    arcface = load_run(file(GOOD + '[[stage]]\nterms = [{ name = "arcface", angle_add = 0.3 }]')).stage[2].terms[0]
    assert arcface.options == {"scale": 64.0, "angle_add": 0.3, "angle_mult": 1.0, "cos_sub": 0.0, "guard": "mirror", "gradient": "exact"}
    assert load_run(file(GOOD), ['stage.1.schedule={name="plateau"}']).stage[0].schedule.patience == 3


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("student.embeding=3", "unknown key student.embeding. Did you mean embedding? Known here: backbone, "),
        ("sed=3", "unknown key sed. Did you mean seed? Known here: data, seed, stage, student."),
        ("stage.1.optimizer.lr=3", "unknown key stage.1.optimizer.lr. Did you mean stage.1.optimizer.learning_rate? Known here: accumulate, clip_norm, "),
        ("student.embedding='big'", "student.embedding: received 'big', should be a valid integer."),
        ("student.embedding=2.5", "student.embedding: received 2.5, should be a valid integer."),
        ("student.embedding=true", "student.embedding: received True, should be a valid integer."),
        ("student.embedding=0", "student.embedding: received 0, should be greater than or equal to 1."),
        ("student.dropout=1.0", "student.dropout: received 1.0, should be less than 1."),
        ("student.precision=float8", "student.precision: received 'float8', should be 'float32', 'mixed_float16' or 'mixed_bfloat16'."),
        ("student.widths=[]", "student.widths"),
        ("data.size=[48]", "data.size"),
        ("data.holdout={fraction=1.0}", "data.holdout.fraction: received 1.0, should be less than 1."),
        ("stage.1.balanced={identities=30}", "stage.1.balanced.images is missing."),
        ("stage.1.balanced={identities=1,images=4}", "stage.1.balanced: identities = 1 leaves no two images of different people in a batch; use 2 or more."),
        ("stage.1.balanced={identities=30,images=1}", "stage.1.balanced: images = 1 leaves no two images of one person in a batch; use 2 or more."),
        ("stage.1.balanced=30", "stage.1.balanced: received 30, expected a table of: identities, images. Write balanced = { identities = ... }."),
        ("stage.2.balanced={identities=30,images=4}", 'stage.2: "balanced" belongs to source "shards" or "images", but source is "noise"; leave it out.'),
        ("stage.1.epochs=0", "stage.1.epochs: received 0, should be greater than or equal to 1."),
        ("stage.1.terms=[]", "stage.1.terms"),
        ("stage.1.terms.1.weight=-1.0", "stage.1.terms.1.weight: received -1.0, should be greater than 0."),
        ("stage.1.terms.1.weight=autos", "stage.1.terms.1.weight: received 'autos', should be a number above 0, or \"auto\"."),
        ("stage.1.terms.1.weight=nan", "stage.1.terms.1.weight: received nan, should be a finite number."),
        ("stage.1.terms.1.name=face", "stage.1.terms.1.name: received 'face', should be 'mse', 'cosine', 'sum_of_squares', "),
        ("stage.1.terms.1.scale=64.0", 'stage.1.terms.1: "scale" belongs to term "softmax" or "sphereface" or "cosface" or "arcface" or '),
        ("stage.1.terms.1.wieght=2.0", "unknown key stage.1.terms.1.wieght. Did you mean weight? Known here: name, share, weight."),
        ("stage.1.terms=[{weight=2.0}]", "stage.1.terms.1.name is missing."),
        (
            "stage.1.terms=['mse']",
            "stage.1.terms.1: received 'mse', expected a table of: name and the keys of that term, which distill init --list shows. Write { name = ... }.",
        ),
        ("stage.1.terms.1.name=['mse']", "stage.1.terms.1.name: received ['mse'], should be 'mse', 'cosine', "),
        ("stage.2.source=web", "stage.2.source: received 'web', should be 'shards', 'images' or 'noise'."),
        ("stage.1.terms=[{name='cosine'},{name='cosine'}]", "stage.1: a term stands twice: cosine, cosine"),
        ("stage.1.terms=[{name='arcface',angle_mult=2.0}]", "stage.1.terms.1: angle_mult * pi + angle_add must not be above 2 pi"),
        ("stage.1.optimizer={name='adam',momentum=0.9}", '"momentum" belongs to optimizer "sgd", but name is "adam"'),
        ("stage.1.optimizer={momentum=0.9}", '"momentum" belongs to optimizer "sgd", but name is "adamw"; leave it out.'),
        ("stage.1.optimizer={name='adam',weight_decay=0.1}", 'optimizer "adam" takes no "weight_decay"; use "adamw"'),
        ("stage.1.optimizer={clip_norm=1.0,clip_value=0.5}", "stage.1.optimizer: clip_norm and clip_value do not go together; leave one out."),
        ("stage.1.optimizer={ema=1.0}", "stage.1.optimizer.ema: received 1.0, should be less than 1."),
        ("stage.1.optimizer={accumulate=0}", "stage.1.optimizer.accumulate: received 0, should be greater than or equal to 1."),
        ("stage.1.schedule={name='steps',at=[20,10]}", "stage.1.schedule: at has to rise from one to the next, but is [20, 10]."),
        ("stage.1.schedule={name='steps'}", 'stage.1.schedule: schedule "steps" needs "at".'),
        ("stage.1.schedule={name='steps',at=[1],unit='hours'}", "stage.1.schedule.unit: received 'hours', should be 'steps' or 'epochs'."),
        ("stage.1.schedule={name='constant',at=[1]}", 'stage.1.schedule: "at" belongs to schedule "steps", but name is "constant"; leave it out.'),
        (
            "stage.1.freeze=conv*",
            """stage.1.freeze: received 'conv*', should be "backbone", "all but head" or a list of patterns of layers' names and of backbone,""",
        ),
        ("stage.1.freeze=[3]", "stage.1.freeze: received [3], should be "),
        ("stage.1.multipliers=[{layers='head'}]", 'stage.1.multipliers.1: "head" is multiplied by nothing; give it a learning_rate or a weight_decay.'),
        ("stage.1.multipliers=[{layers='head',learning_rate=0.0}]", "stage.1.multipliers.1.learning_rate: received 0.0, should be greater than 0."),
        ("stage.1.multipliers=[{layers='head',weight_decay=10.0}]", 'stage.1: multipliers multiply the weight_decay of "head", but that of the optimizer is 0'),
        ("stage.1.schedule={name='cosine',patience=3}", '"patience" belongs to schedule "plateau", but name is "cosine"; leave it out.'),
        ("stage.1.steps=3", 'stage.1: "steps" belongs to source "noise", but source is "shards"'),
        ("stage.2.teacher=3", "stage.2.teacher: received 3, should be a valid string."),
        ("stage.1.reading={scale=2.0}", 'stage.1: "reading" belongs to source "noise", but source is "shards"'),
        ("stage.2.reading={colour='bgr'}", "unknown key stage.2.reading.colour. Did you mean color? Known here: color, feed, input, offset, "),
        ("stage.2.reading={color='grb'}", "stage.2.reading.color: received 'grb', should be 'rgb' or 'bgr'."),
        ("stage.2.reading={scale=inf}", "stage.2.reading.scale: received inf, should be a finite number."),
        ("data={}", 'stage 1 has source "shards", but [data] names no shards; add shards = PATH'),
        ("data={images='faces'}", 'stage 1 has source "shards", but [data] names no shards'),
        ("student={backbone='MobileNetV2',widths=[8]}", '"widths" belongs to backbone "small_conv", but backbone is "MobileNetV2"'),
        ("stage.3.epochs=1", "--set stage.3.epochs=1: 3 must be a number from 1 to 2"),
        ("seed.x=1", "x lies inside a plain value"),
        ("seed", "expected KEY=VALUE"),
        ("stage=[]", "stage"),
    ],
)
def test_wrong_runs_name_key_value_and_what_was_expected(file, override, message):
    with pytest.raises(DistillError, match=re.escape(message)) as caught:
        load_run(file("seed = 1\n" + GOOD), [override])
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            GOOD.partition("[[stage]]\nsource")[0].replace("[[stage]]", "[stage]"),
            "stage: received one table ([stage]), expected a list of tables. Write [[stage]], with two brackets",
        ),
        (
            GOOD.replace('terms = [{ name = "cosine", weight = 64.0 }]', '[stage.terms]\nname = "cosine"'),
            "stage.1.terms: received one table ([stage.terms]), expected a list of tables. Write [[stage.terms]]",
        ),
        (GOOD.replace("[data]", "[[data]]"), "data: received a list, expected one table. Write [data], with single brackets, once."),
        (GOOD.replace("[data]", "[data]\nholdout = 0.1"), "data.holdout: received 0.1, expected a table of: by, fraction. Write holdout = { by = ... }."),
        (GOOD.replace("size = [48, 48]", "size = 48"), "data.size: received 48, expected a list: write size = [...]."),
        (
            GOOD.replace("epochs = 2", 'optimizer = "adamw"'),
            "stage.1.optimizer: received 'adamw', expected a table of: name and the keys of that optimizer, which distill init --list "
            "shows. Write optimizer = { name = ... }.",
        ),
    ],
)
def test_other_brackets_than_those_of_the_place(file, text, message):
    with pytest.raises(DistillError) as caught:
        load_run(file(text))
    assert message in str(caught.value) and "tuple" not in str(caught.value) and "instance" not in str(caught.value)


def test_keys_of_a_source_come_and_go_with_it(file):
    with pytest.raises(DistillError) as caught:
        load_run(file(GOOD), ["stage.2.source=shards", "stage.1.source=noise"])
    assert [line.partition("run.toml: ")[2] for line in str(caught.value).splitlines()] == [
        'stage.1: source "noise" needs "teacher".',
        'stage.1: source "noise" needs "steps".',
        'stage.2: "teacher" belongs to source "noise", but source is "shards"; leave it out.',
        'stage.2: "steps" belongs to source "noise", but source is "shards"; leave it out.',
    ]


def test_each_kind_has_exactly_its_own_fields(file):
    """What a run.toml says of each kind: all that it takes, and nothing else."""
    terms = [{"name": "mse"}, {"name": "softmax", "weight": 2}, {"name": "arcface"}]
    stages = [
        {"terms": terms},
        {"optimizer": {"name": "sgd"}, "schedule": {"name": "plateau"}, "terms": terms},
        {"optimizer": {"name": "sgd", "momentum": 0.9}, "schedule": {"name": "cosine", "warmup": 0.1}, "terms": terms},
        {"optimizer": {"name": "adam", "weight_decay": 0.0}, "terms": terms},
    ]
    written = tomllib.loads(dump_run(build_run({"data": {"shards": "s"}, "stage": stages}, [], "x")))["stage"]
    assert [stage["optimizer"] for stage in written] == [
        {"name": "adamw", "learning_rate": 1e-3, "weight_decay": 0.0},
        {"name": "sgd", "learning_rate": 1e-3, "weight_decay": 0.0},
        {"name": "sgd", "learning_rate": 1e-3, "momentum": 0.9, "weight_decay": 0.0},
        {"name": "adam", "learning_rate": 1e-3, "weight_decay": 0.0},
    ]
    assert [stage["schedule"] for stage in written] == [
        {"name": "constant", "warmup": 0.0},
        {"name": "plateau", "warmup": 0.0, "factor": 0.1, "patience": 3},
        {"name": "cosine", "warmup": 0.1},
        {"name": "constant", "warmup": 0.0},
    ]
    assert written[0]["terms"] == [
        {"name": "mse", "weight": 1.0},
        {"name": "softmax", "weight": 2.0, "scale": 64.0},
        {"name": "arcface", "weight": 1.0, "scale": 64.0, "angle_add": 0.5, "angle_mult": 1.0, "cos_sub": 0.0},
    ]


def test_keys_that_came_later_come_back_from_a_run_file(file):
    """And are left out where they say what holds anyway."""
    optimizer = {"name": "sgd", "momentum": 0.9, "nesterov": False, "clip_norm": 5.0, "accumulate": 4, "ema": 0.999}
    used = {"optimizer": optimizer, "schedule": {"name": "cosine", "end": 0.1}, "freeze": ["conv*"], "multipliers": [{"layers": "head", "learning_rate": 10}]}
    unused = {"optimizer": {"nesterov": True, "accumulate": 1} | {"name": "sgd"}, "schedule": {"name": "cosine", "end": 0.0}, "freeze": [], "multipliers": []}
    several = [{"terms": [{"name": "cosine"}], **each} for each in (used, unused, {"freeze": "all but head"})]
    run = build_run({"data": {"shards": "s"}, "stage": several}, [], "x")
    assert load_run(file(dump_run(run))) == run
    first, second, third = tomllib.loads(dump_run(run))["stage"]
    assert first["freeze"] == ["conv*"] and first["multipliers"] == [{"layers": "head", "learning_rate": 10.0, "weight_decay": 1.0}]
    assert optimizer.items() <= first["optimizer"].items() and third["freeze"] == "all but head"
    assert second.keys() == {"source", "epochs", "optimizer", "schedule", "terms"}
    assert second["optimizer"] == {"name": "sgd", "learning_rate": 1e-3, "weight_decay": 0.0} and second["schedule"] == {"name": "cosine", "warmup": 0.0}


def test_the_stages_that_the_page_on_fine_tuning_shows_are_taken():
    shown = (Path(__file__).parents[2] / "docs" / "fine-tuning.md").read_text().partition("```toml\n")[2].partition("```")[0]
    first, second = build_run({"data": {"shards": "s"}, **tomllib.loads(shown)}, [], "x").stage
    assert first.freeze == "all but head" and [each.layers for each in second.multipliers] == ["backbone", "head"]


def test_names_of_options_are_keys_of_a_stage():
    assert keys_like("lr", 2) == ["stage.2.optimizer.learning_rate"] and keys_like("momentum") == ["stage.1.optimizer.momentum"]
    assert keys_like("teacher") == ["data.teacher", "stage.1.teacher"] and keys_like("schedule") == ["stage.1.schedule.name"]


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_a_byte_order_mark_is_dropped(tmp_path, ends):
    for name, text in (("run", GOOD), ("recipe", "flip = 0.5\n")):
        (tmp_path / f"{name}.toml").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", ends).encode())
    assert load_run(tmp_path / "run.toml").stage[1].steps == 10 and find_recipe(str(tmp_path / "recipe.toml")).flip == 0.5
    (tmp_path / "run.toml").write_bytes(GOOD.encode("utf-16"))
    with pytest.raises(DistillError, match="it is UTF-16; save it as UTF-8"):
        load_run(tmp_path / "run.toml")


def test_all_problems_are_listed_one_a_line(file):
    with pytest.raises(DistillError) as caught:
        load_run(file(GOOD), ["student.embedding=0", "seed=-1", "stage.1.epochs='x'"])
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize(("text", "message"), [(None, "no such run file"), ("a = ", "cannot be read as TOML"), ("", "stage is missing")])
def test_files_that_are_no_run_files(file, tmp_path, text, message):
    path = tmp_path / "missing.toml" if text is None else file(text)
    with pytest.raises(DistillError, match=message):
        load_run(path)


def test_overrides_are_toml_values_and_bare_words_are_strings(file):
    overrides = ["student.backbone=mobilefacenet", "student.dropout=0.25", "stage.2.epochs=7", "data.holdout={fraction=0.5}", "data.size=[32, 64]"]
    run = load_run(file(GOOD), overrides)
    assert (run.student.backbone, run.student.dropout, run.stage[1].epochs) == ("mobilefacenet", 0.25, 7)
    assert (run.data.holdout.by, run.data.holdout.fraction, run.data.size) == ("identity", 0.5, (32, 64))


def test_a_reading_holds_what_was_set_and_comes_back(file):
    run = load_run(file(GOOD), ["stage.2.reading={scale=0.0078125,offset=-1,color='bgr',output='features'}"])
    assert run.stage[1].reading.said == {"scale": 0.0078125, "offset": -1.0, "color": "bgr", "output": "features"}
    assert load_run(file(dump_run(run))) == run
    assert load_run(file(GOOD)).stage[1].reading is None


def test_a_balanced_stage_comes_back_and_a_plain_one_says_nothing(file):
    run = load_run(file(GOOD), ["stage.1.balanced={ identities = 30, images = 4 }"])
    assert load_run(file(dump_run(run))) == run and run.stage[0].balanced.rows == 120
    plain = load_run(file(GOOD))
    assert "balanced" not in dump_run(plain) and differences(plain, run) == ["stage.1.balanced.identities: not set, 30", "stage.1.balanced.images: not set, 4"]
    assert run.stage[0].rows != plain.stage[0].rows


def test_differences_name_the_keys(file):
    run = load_run(file(GOOD))
    other = load_run(file(GOOD), ["student.embedding=256", "stage.2.epochs=7", "data.threads=2", 'stage.1.terms.1.name="mse"', "data.root=here"])
    assert differences(run, run) == []
    assert sorted(differences(run, other)) == [
        "data.root: not set, here",
        "data.threads: 0, 2",
        "stage.1.terms.1.name: cosine, mse",
        "stage.2.epochs: 1, 7",
        "student.embedding: 128, 256",
    ]
