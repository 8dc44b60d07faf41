"""The command line as a person meets it: help, one message for each wrong input, exit codes, and what inspect says of everything."""

import json
import os
import pickle
import pty
import re
import subprocess
import sys

import pytest

from distill import errors
from distill.cli.main import VERBS
from tests.conftest import distill, inside, messages

RUN = """
[data]
shards = "nowhere"
[[stage]]
source = "shards"
terms = [{ name = "cosine" }]
"""


def fails(done, *expected, code=2):
    assert done.returncode == code, done.stderr + done.stdout
    assert "Traceback" not in done.stderr and all(message in done.stderr for message in expected), done.stderr
    assert len(messages(done)) <= 2


VERB_NAMES = [verb.__name__.rstrip("_") for verbs in VERBS.values() for verb in verbs]


@pytest.mark.parametrize("verb", VERB_NAMES)
def test_every_verb_has_help_with_an_example(verb, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    done = inside(verb, "--help")
    assert done.returncode == 0 and f"Example: distill {verb}" in done.stdout
    assert inside(verb, "-h").stdout == done.stdout and done.stdout.startswith(f"Usage: distill {verb} ")
    assert "\033" not in done.stdout and all(len(line) <= 80 for line in done.stdout.splitlines())
    flags = [line for line in done.stdout.splitlines() if "--no-" in line]
    assert all(any(word in line for word in ("--relist", "--speed", "--leaks")) for line in flags), flags  # those that change something


def test_help_lists_every_verb_in_a_group_with_a_whole_sentence(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    done = inside("-h")
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and "..." not in done.stdout.partition("\n")[2]
    assert [line[:-1] for line in lines if line in {f"{title}:" for title in VERBS}] == list(VERBS)
    for verb in VERB_NAMES:
        line = next(number for number, line in enumerate(lines) if line.startswith(f"  {verb} "))
        assert "." in lines[line] or lines[line + 1].startswith(" " * 10) and "." in lines[line + 1], verb


@pytest.mark.parametrize(
    "words, said",
    [
        (("trian",), "distill: no verb 'trian'. Did you mean train?"),
        (("embedd", "a", "b"), "distill: no verb 'embedd'. Did you mean embed?"),
        (("xyzzy",), "distill: no verb 'xyzzy'. (distill --help"),
        (("train", "--epochs", "ten"), "distill train: --epochs ten: expected a whole number. (distill train --help"),
        (("embed", "a", "b", "--teacher", "c", "--only", 1, "--only=x"), "distill embed: --only x: expected a whole number. (distill embed --help"),
        (("compare", "a", "b", "--threshold", "high"), "distill compare: --threshold high: expected a number. (distill compare --help"),
        (("train", "--lr", "0.01"), "distill train: no option '--lr'. Use --set stage.1.optimizer.learning_rate=0.01 instead. (distill train --help"),
        (("train", "--weight-decay"), "distill train: no option '--weight-decay'. Use --set stage.1.optimizer.weight_decay=VALUE instead. (distill train"),
        (("train", "--optimizer=sgd"), "distill train: no option '--optimizer'. Use --set stage.1.optimizer.name=sgd instead. (distill train --help"),
        (("--verison",), "distill: no option '--verison'. Did you mean --version?"),
        (("embed", "a", "b", "--techer", "t"), "distill embed: no option '--techer'. Did you mean --teacher?"),
        (("verify", "a", "--no-deep"), "distill verify: no option '--no-deep'"),
        (
            ("embed", "a", "b"),
            "distill embed: missing option --teacher MODEL: folder of a SavedModel or a run, or a .keras, .h5, .onnx, .tflite, .xml, .pb or .meta file.",
        ),
        (("embed",), "distill embed: missing argument 'SOURCE'."),
        (("faces", "a", "--size", "big"), "distill faces: --size big: expected a whole number."),
        (("faces", "a", "b"), "distill faces:"),
    ],
)
def test_a_mistyped_line_is_answered_with_one_line(words, said):
    done = inside(*words)
    assert done.returncode == 2 and done.stderr.startswith(said) and len(messages(done)) == 1 and not done.stdout
    assert done.stderr.rstrip().endswith(".)")


def test_no_words_at_all_give_the_help_and_fail():
    done = inside()
    assert done.returncode == 2 and done.stderr == inside("--help").stdout


def in_terminal(*words, **surroundings):
    """What a terminal of 80 columns is sent."""
    own, other = pty.openpty()
    env = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"COLUMNS": "80", "TERM": "xterm", **surroundings}
    with subprocess.Popen([sys.executable, "-m", "distill", *words], stdout=other, stderr=other, env=env) as process:
        os.close(other)
        sent = b""
        while True:
            try:
                piece = os.read(own, 65536)
            except OSError:  # the other end is closed
                piece = b""
            if not piece:
                break
            sent += piece
    os.close(own)
    assert process.returncode == 0
    return sent.decode()


def test_colours_are_for_terminals_whose_user_wants_them():
    coloured = in_terminal("embed", "-h")
    assert "\033[1mTeacher" in coloured and "\033[36m--teacher\033[0m" in coloured
    plain = re.sub(r"\033\[\d+m", "", coloured)
    assert in_terminal("embed", "-h", NO_COLOR="1") == in_terminal("embed", "-h", TERM="dumb") == plain


@pytest.mark.parametrize(
    "shell, written, expected",
    [
        ("bash", "distill e", ["embed", "evaluate", "export"]),
        ("bash", "distill embed --te", ["--teacher"]),
        ("fish", "distill verify --d", ["--deep"]),
        ("zsh", "distill embed --dtype f", ["float16", "float32"]),
    ],
)
def test_shells_complete_words(shell, written, expected):
    """The scripts of the three shells ask in this way, and `--show-completion` prints them."""
    words = written.split(" ")
    asked = {"_DISTILL_COMPLETE": f"complete_{shell}", "COMP_WORDS": written, "COMP_CWORD": str(len(words) - 1)}
    asked |= {"_TYPER_COMPLETE_ARGS": written, "_TYPER_COMPLETE_FISH_ACTION": "get-args", "_TYPER_COMPLETE_WORD_TO_COMPLETE": words[-1]}
    done = distill(env={**os.environ, **asked})
    assert done.returncode == 0 and all(word in done.stdout for word in expected), (done.stdout, done.stderr)
    assert "--root" not in done.stdout and "verify" not in done.stdout


def test_completion_can_be_printed():
    done = distill("--show-completion", "bash")
    assert done.returncode == 0 and "complete -o default -F _distill_completion distill" in done.stdout


def test_in_a_process_of_its_own():
    assert distill("--version").stdout.strip().count(".") == 2
    done = distill("inspect", "nowhere")
    fails(done, "nowhere: nothing is there")
    assert distill("nonsense").returncode == 2 and distill("embed").returncode == 2


LISTS = {
    "an empty list": (b"", "empty"),
    "a duplicate": (b"a.jpg\nb.jpg\na.jpg\n", "lines 1 and 3"),
    "labels on some lines": (b"a.jpg\tx\nb.jpg\n", "line 2"),
    "numbers and names": (b"a.jpg\t1\nb.jpg\tanna\n", "mix"),
    "a path out of the root": (b"a.jpg\n../b.jpg\n", "line 2"),
    "an absolute path": (b"/etc/passwd\n", "line 1"),
    "no UTF-8": (b"a.jpg\n\xff\xfe.jpg\n", "line 2"),
}


@pytest.mark.parametrize("name", sorted(LISTS))
def test_wrong_lists(name, tmp_path):
    data, message = LISTS[name]
    (tmp_path / "list.txt").write_bytes(data)
    fails(inside("chunk", tmp_path / "list.txt", tmp_path / "out"), "list.txt", message)
    assert not list((tmp_path / "out").glob("*")) if (tmp_path / "out").exists() else True


def test_wrong_folders_and_options(tmp_path, faces):
    fails(inside("chunk", tmp_path / "none", tmp_path / "out"), "none")
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "a.txt").write_bytes(b"x")
    fails(inside("chunk", tmp_path / "flat", tmp_path / "out"), "folder for each class")
    fails(inside("chunk", faces, tmp_path / "out", "--rows", 0), "at least 1")
    assert inside("chunk", faces, tmp_path / "chunks", "--rows", 50).returncode == 0
    fails(inside("chunk", faces, tmp_path / "chunks", "--rows", 60), "chunks")


@pytest.mark.parametrize(
    "change, message",
    [
        (("student.embeding=64",), "Did you mean embedding"),
        (("learning_rate=0.01",), "unknown key learning_rate. Did you mean stage.1.optimizer.learning_rate?"),
        (("stage.1.warmup=0.1",), "unknown key stage.1.warmup. Did you mean stage.1.schedule.warmup?"),
        (("student.embedding=big",), "embedding"),
        (("student.dropout=1.5",), "dropout"),
        (("stage.1.source=clouds",), "source"),
        (("stage.1.source=noise",), 'needs "teacher"'),
        (("stage.1.terms=[{name='arcface', scale=-1}]",), "scale"),
        (("stage.1.terms=[{name='hing'}]",), "hing"),
        (("nonsense",), "KEY=VALUE"),
        ((), "nowhere: nothing is there. Expected the folder that distill embed wrote."),
    ],
)
def test_wrong_run_files(change, message, tmp_path):
    (tmp_path / "run.toml").write_text(RUN)
    words = [word for override in change for word in ("--set", override)]
    fails(inside("train", tmp_path / "run.toml", "--out", tmp_path / "run", *words), message)


def test_other_wrong_inputs(tmp_path, teacher, faces):
    fails(inside("train", tmp_path / "none.toml", "--out", tmp_path / "run"), "none.toml")
    fails(inside("verify", tmp_path), "is empty. Expected the folder that distill embed wrote.")
    fails(inside("evaluate", teacher), "--pairs")
    fails(inside("evaluate", tmp_path / "none", "--pairs", faces), "none")
    fails(inside("evaluate", teacher, "--pairs", faces, "--number", 10**7), "pairs")
    fails(inside("compare", teacher, tmp_path / "a.jpg", tmp_path / "b.jpg"), "a.jpg")
    fails(inside("compare", teacher, faces / "id0000" / "000.jpg", "--size", "12"), "HEIGHTxWIDTH")
    fails(inside("export", tmp_path, tmp_path / "out"), "student.keras")
    fails(inside("faces", tmp_path / "f", "--identities", 0), "at least one")


def test_compare_prints_the_matrix(teacher, faces):
    images = [faces / "id0000" / "000.jpg", faces / "id0000" / "000.jpg", faces / "id0001" / "001.jpg"]
    done = inside("compare", teacher, *images, "--json")
    cosines = json.loads(done.stdout)["cosines"]
    assert cosines[0][1] == cosines[2][2] == 1.0 and cosines[0][2] == cosines[2][0] < 1.0


def test_inspect_knows_everything(tmp_path, faces, teacher):
    out = tmp_path / "out"
    assert inside("embed", faces, out, "--teacher", teacher, "--rows", 60, "--only", 0).returncode == 0
    kinds = {faces: "image list", out: "unfinished set of shards", out / "chunks": "chunks", teacher: "model"}
    for path, kind in kinds.items():
        assert json.loads(inside("inspect", path, "--json").stdout)["kind"] == kind
    assert "missing chunks: 1" in inside("inspect", out).stdout
    assert inside("embed", faces, out, "--teacher", teacher, "--rows", 60).returncode == 0
    found = json.loads(inside("inspect", out, "--json").stdout)
    assert (found["kind"], found["rows"], found["meta"]["dimension"]) == ("set of shards", 120, 16)
    kinds = {out / "shards" / "00001-of-00002.parquet": "shard", out / "chunks" / "00001-of-00002.parquet": "chunk"}
    for path, kind in kinds.items():
        assert json.loads(inside("inspect", path, "--json").stdout)["kind"] == kind


TOLD = {
    errors.DistillError: ("out: no.", 2),
    errors.BadValue: ("resize is no.", 2),
    errors.Damaged: ("out is damaged.", 2),
    errors.NoShard: ("out is no shard.", 2),
    errors.NoMemory: ("out: the memory does not suffice.", 2),
    errors.BadImage: ("the file is empty", "empty", 2),
    errors.Unfinished: ("out: not all was done.", 1),
    errors.StoreError: ("gs://b/x", "the store fails", "NO_SUCH_UPLOAD", 1),
    errors.BrokenOff: ("out: the run was broken off.", 1),
    errors.Interrupted: ("Finished epochs stay.", 130),
}


def test_every_error_is_told_here():
    assert set(TOLD) == {each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)}


@pytest.mark.parametrize("kind", TOLD, ids=lambda kind: kind.__name__)
def test_an_error_ends_a_verb_with_its_exit_code_and_is_the_same_in_another_process(kind, monkeypatch):
    *words, code = TOLD[kind]
    error = kind(*words)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind and str(again) == str(error) and vars(again) == vars(error)
    monkeypatch.setattr("distill.api.verify", lambda *_, **__: (_ for _ in ()).throw(error))
    done = inside("verify", "out")
    assert done.returncode == error.exit_code == code and done.stderr.endswith(f" {error}\n") and len(messages(done)) == 1
