"""The verbs from Python: the README's lines as they stand, what results say of themselves, types, and what an import costs."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import distill
from distill import DistillError
from distill.results import CompareResult, EmbedResult, VerifyResult
from tests.conftest import inside, messages
from tests.warm import warm, warm_code

ROOT = Path(__file__).parent.parent


def test_an_import_loads_nothing_and_knows_the_verbs():
    code = "import sys, distill; dir(distill); print([n for n in ('numpy', 'pyarrow', 'pydantic', 'typer', 'rich', 'distill.api') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
    assert {"embed", "train", "load_model", "DistillError"} <= set(dir(distill)) and callable(distill.embed)
    with pytest.raises(AttributeError, match="no attribute 'embd'"):
        distill.embd  # noqa: B018


def test_the_lines_of_the_readme_run(tmp_path, faces, quick):
    section = (ROOT / "README.md").read_text().partition("## From Python")[2]
    code = re.search(r"```python\n(.*?)```", section, re.S)[1]
    for name, there in (("photos", faces), ("unseen", faces), ("one.jpg", faces / "id0000" / "000.jpg"), ("two.jpg", faces / "id0001" / "000.jpg")):
        (tmp_path / name).symlink_to(there)
    (tmp_path / "teacher.onnx").symlink_to(quick)
    code = code.replace('teacher="teacher"', 'teacher="teacher.onnx"').replace('shards="out", out=', 'shards="out", steps=8, out=')
    done = warm_code(f"import os; os.chdir({str(tmp_path)!r})\n{code}\nprint(repr(model), repr(distill.open_shards('out')))")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^1 one\.jpg +1\.000 .*\n2 two\.jpg .* 1\.000", done.stdout, re.M) and "taken for the same person" in done.stdout
    assert "<model student: uint8 [N, 32, 32, 3] -> float32 [N, 3]>" in done.stdout and "120 rows, 0 rejects" in done.stdout


def test_results_are_what_the_command_line_prints(tmp_path, faces, quick):
    made = distill.embed(faces, tmp_path / "out", teacher=quick, rows=60, progress=False)
    assert isinstance(made, EmbedResult) and (made.rows, made.chunks, made.committed, made.estimate["rows"]) == (120, 2, True, 120)
    found = distill.verify(tmp_path / "out", progress=False)
    assert isinstance(found, VerifyResult) and found.ok and "<td>120</td>" in found._repr_html_()
    done = inside("verify", tmp_path / "out")
    assert done.stdout == f"{found.in_words()}\nnext: distill train --shards {tmp_path / 'out'} --out runs/NAME\n"
    assert json.loads(inside("verify", tmp_path / "out", "--json").stdout) == json.loads(json.dumps(found.as_dict()))
    shards = distill.open_shards(tmp_path / "out")
    assert len(shards) == 120 and [path.is_file() for path in shards.paths] == [True, True] and "<td>120</td>" in shards._repr_html_()
    shards.paths[0].unlink()
    with pytest.raises(DistillError, match="not there"):
        distill.verify(tmp_path / "out", progress=False)


def test_bad_input_is_one_message(tmp_path, faces, quick):
    for size in ("12", (3,), (0, 4), "3xa", 5):
        with pytest.raises(DistillError, match="HEIGHTxWIDTH"):
            distill.embed(faces, tmp_path / "out", teacher=quick, size=size)
    for threshold in (1.5, float("nan")):
        with pytest.raises(DistillError, match="from -1 to 1"):
            distill.compare(quick, [faces, faces], threshold=threshold)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: distill.train(shards="out", out="run", steps="5"), "train: received steps='5' (str), expected a whole number or None."),
        (lambda: distill.train(shards=5, out="run"), "train: received shards=5 (int), expected a path or None."),
        (lambda: distill.embed("photos", "out", teacher="t", rows=True), "embed: received rows=True (bool), expected a whole number."),
        (lambda: distill.embed("photos", "out", teacher="t", dry_run="no"), "embed: received dry_run='no' (str), expected True or False."),
        (lambda: distill.embed("photos", "out", teacher="t", only=[1, "2"]), "embed: received '2' (str) in only, expected a list of whole numbers."),
        (lambda: distill.compare("t", 5), "compare: received images=5 (int), expected a list of paths."),
        (lambda: distill.train(shard="x"), "train: no argument 'shard'. Did you mean shards?"),
        (lambda: distill.embed("photos", "out", teacher="t", view=8), "embed: no argument 'view'. Did you mean views?"),
        (lambda: distill.embed("photos", "out", teacher="t", presett="unit"), "embed: no argument 'presett'. Did you mean preset?"),
        (lambda: distill.verify("out", xyzzy=1), "verify: no argument 'xyzzy'. Known: shards, deep, teacher, sample, root, progress."),
        (lambda: distill.load_model("t", scal=2), "load_model: no argument 'scal'. Did you mean scale?"),
        (lambda: distill.embed("photos", "out"), "embed: the argument 'teacher' is missing."),
        (lambda: distill.load_model("t", scale="a"), "open_teacher: received scale='a' (str), expected a number or None."),
    ],
)
def test_a_wrong_type_is_one_message(quick, tmp_path, monkeypatch, call, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t").symlink_to(quick)
    with pytest.raises(DistillError) as caught:
        call()
    assert str(caught.value) == words and [path.name for path in tmp_path.iterdir()] == ["t"]


def test_keywords_are_those_of_the_types():
    from distill.api.judging import Judging
    from distill.arguments import KEYWORDS
    from distill.images.preprocessing import PreprocessingOptions
    from distill.training.methods import Planned

    assert {kind: set(names) for kind, names in KEYWORDS.items()} == {
        f"Unpack[{kind.__name__}]": set(kind.__annotations__) for kind in (PreprocessingOptions, Planned, Judging)
    }


def test_a_threshold_gives_verdicts():
    matrix = np.array([[1.0, 0.9, 0.1], [0.9, 1.0, 0.2], [0.1, 0.2, 1.0]])
    found = CompareResult(("a.jpg", "b.jpg", "a.jpg"), matrix, 0.5)
    assert [(one.cosine, one.same) for one in found.verdicts] == [(0.9, True), (0.1, False), (0.2, False)]
    assert found.in_words().splitlines()[-4:] == [
        "1 and 2: same (0.900)",
        "1 and 3: different (0.100)",
        "2 and 3: different (0.200)",
        "1 of 3 pairs reach the threshold of 0.5 (*): taken for the same person",
    ]
    assert str(found) == found.in_words() and repr(found) == "CompareResult(3 images, threshold=0.5, 1 pair the same)"
    assert "0.900*" in found.in_words() and found.as_dict()["verdicts"][0]["same"] is True


@pytest.mark.parametrize(
    "value, written",
    [
        ({"by": "key", "fraction": 0.3}, '{ by = "key", fraction = 0.3 }'),
        ([{"name": "cosine", "weight": 64.0}], '[{ name = "cosine", weight = 64.0 }]'),
        ("a\nb", '"a\\nb"'),
        ((48, 48), "[48, 48]"),
        (True, "true"),
    ],
)
def test_a_change_of_a_run_may_be_any_value_of_toml(value, written):
    from distill.api.training import _overrides

    assert _overrides({"data.x": value}) == [f"data.x={written}"]
    assert tomllib.loads(f"x = {written}")["x"] == (list(value) if isinstance(value, tuple) else value)
    assert _overrides("student.dropout=0.2") == ["student.dropout=0.2"]


def test_what_is_wrong_with_a_run_comes_before_its_folder(tmp_path, faces, quick):
    distill.embed(faces, tmp_path / "out", teacher=quick, progress=False)
    for words, said in ((["out"], "distill train --shards out --out runs/NAME"), (["--shards", "out"], "--out FOLDER")):
        done = warm("train", *words, cwd=tmp_path)
        assert done.returncode == 2 and said in done.stderr and len(messages(done)) == 1
