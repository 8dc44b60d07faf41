"""What a person sees while work goes on: exact lines of bars, phases and the training's table, in logs, terminals of two widths and notebooks."""

import os
import pty
import re
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from distill.runtime.display import Bar, Display
from distill.runtime.lines import PLAIN, Reach, bar_line, duration, many, phase_line, plain_line, speed
from distill.runtime.progress import bar, phase, phases, shown, watched
from distill.runtime.quiet import quiet_import
from distill.training.table import Extent, Pace, TrainingDisplay, table_columns, table_heading, table_row

FAR = Reach("embedding", 12_000, 5_822_653, 30, 400.0, 14_526.6, "images")


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def display_of(clock: Clock) -> Display:
    return Display(clock, beat=False)


@pytest.mark.parametrize(
    "seconds, text", [(0, "0:00"), (59.6, "1:00"), (754, "12:34"), (5025, "1:23:45"), (86_399, "23:59:59"), (183_900, "2d 03:05"), (-3, "0:00")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_speeds():
    assert (speed(4812.3, "images"), speed(2.25, "shards"), speed(None, "rows"), speed(12, "")) == ("4,812 images/s", "2.2 shards/s", "", "12/s")


def test_a_bar_fits_any_width():
    assert bar_line(FAR, 80) == "embedding  ─────────────────  12,000/5,822,653  400 images/s  4:02:07 left  0:30"
    assert len(bar_line(FAR, 80)) == 80 and bar_line(FAR, 120).count("─") == 30
    half = Reach("verifying", 5, 10, 2)
    assert bar_line(half, 60, letters=PLAIN) == "verifying  ###############---------------  5/10  0:02"
    assert bar_line(FAR, 60) == "embedding  12,000/5,822,653  400 images/s  4:02:07 left"
    assert bar_line(FAR, 41) == "embedding  12,000/5,822,653  4:02:07 left"
    assert all(len(bar_line(FAR, width)) <= width for width in range(200))


def test_what_has_no_end_yet_turns():
    assert bar_line(Reach("embedding", 0, 0, 4), 80, 1, PLAIN) == "/ embedding  0:04"
    assert phase_line("importing TensorFlow", 1, 80, 0, PLAIN) == "| importing TensorFlow"
    assert phase_line("importing TensorFlow", 75, 80, 2, PLAIN) == "- importing TensorFlow  1:15"


def test_a_line_of_a_log():
    assert plain_line(FAR) == "embedding: 12,000/5,822,653, 400 images/s, 4:02:07 left, 0:30 so far"


def test_the_rate_leaves_out_the_start_and_what_an_earlier_run_did():
    """400 of 1,000 rows are there; 20 s later the first 100 are labelled, 10 s after that 200 more: 20 a second, and 300 are left."""
    clock = Clock()
    rows = Bar("embedding", "images", 0.0)
    rows.clock = clock
    rows.report(400, 1000, 0)
    clock.now = 20.0
    rows.report(500, 1000, 100)
    assert rows.reach(20.5).rate is None
    clock.now = 30.0
    rows.report(700, 1000, 300)
    found = rows.reach(30.0)
    assert (found.rate, found.left, found.elapsed) == (20.0, 15.0, 30.0)
    assert rows.reach(34.0).left == 11.0  # the clock goes on between two calls


def test_a_log_gets_a_line_each_30_seconds_and_names_long_phases_once(capsys):
    clock = Clock()
    display = display_of(clock)
    rows = Bar("embedding", "images", 0.0)
    rows.clock = clock
    with display.showing(rows):
        for second in range(1, 96):
            clock.now = float(second)
            rows.report(second * 10, 10_000)
            display.look()
    assert capsys.readouterr().err.splitlines() == [
        "embedding: 300/10,000, 10 images/s, 16:10 left, 0:30 so far",
        "embedding: 600/10,000, 10 images/s, 15:40 left, 1:00 so far",
        "embedding: 900/10,000, 10 images/s, 15:10 left, 1:30 so far",
    ]


def test_phases_of_a_log(capsys):
    clock = Clock()
    from distill.runtime import progress

    display = Display(clock, beat=False)
    token = progress._here.set(display)
    try:
        with phases() as show:
            for text, until in (("reading the list", 1.5), ("importing TensorFlow", 9.0), ("", 20.0), ("trying the teacher", 22.1)):
                show(text)
                while clock.now < until:
                    clock.now += 0.5
                    display.look()
    finally:
        progress._here.reset(token)
    assert capsys.readouterr().err.splitlines() == ["importing TensorFlow ...", "trying the teacher ..."]


def test_silence(capsys):
    with phase("nobody watches"):
        pass
    with shown(False), bar("drawing") as tell, phase("not this one either"):
        tell(1, 2)
        TrainingDisplay().line("nor a table")
    said = capsys.readouterr()
    assert said.out == said.err == ""


def test_a_watcher_gets_the_innermost_phase():
    told = []
    with watched(told.append), phase("loading the model"):
        with phase("importing TensorFlow"):
            pass
        with phases() as show:
            show("reading")
            show("")
    assert told == ["loading the model", "importing TensorFlow", "loading the model", "reading", "loading the model", ""]


def test_progress_is_heard_while_a_library_is_hushed(capfd, monkeypatch):
    monkeypatch.delenv("DISTILL_DEBUG", raising=False)
    monkeypatch.setattr(sys, "stderr", os.fdopen(2, "w", closefd=False))
    with quiet_import():
        os.write(2, b"chatter from C")
        display_of(Clock()).line("importing TensorFlow ...")
    assert capfd.readouterr().err == "importing TensorFlow ...\n"


# ------------------------------------------------------------------------------------------------------------------- trainings

ROW = {
    "stage": 1,
    "epoch": 3,
    "seconds": 9.0,
    "images_per_second": 1234.4,
    "learning_rate": 0.0098,
    "loss": 12.3456,
    "cosine": 0.0877,
    "agreement": 0.9123,
    "accuracy": 0.5,
    "held_out_loss": 11.1,
    "held_out_cosine": 0.08,
    "held_out_agreement": 0.92,
}


def table(width, names=tuple(ROW)):
    columns = table_columns(names, width)
    return [*table_heading(columns), table_row(columns, {name: ROW.get(name) for name in names} | {"epoch": "3/20", "left": 5025.0})]


def test_the_table_at_80_and_at_120_columns():
    assert table(80) == [
        "                                        held-out   held-out",
        "  epoch      loss  agreement  accuracy      loss  agreement  images/s      left",
        "   3/20   12.3456     0.9123    0.5000   11.1000     0.9200     1,234   1:23:45",
    ]
    assert table(120) == [
        "                                                  held-out   held-out",
        "  epoch        lr      loss  agreement  accuracy      loss  agreement  images/s      left",
        "   3/20    0.0098   12.3456     0.9123    0.5000   11.1000     0.9200     1,234   1:23:45",
    ]


def test_terms_are_shown_where_there_are_several():
    assert table(120, (*ROW, "arcface"))[:2] == [
        "                                                  held-out   held-out    cosine   arcface",
        "  epoch        lr      loss  agreement  accuracy      loss  agreement  distance      loss  images/s      left",
    ]


def test_the_table_of_a_stage_that_holds_nothing_out():
    names = ("stage", "epoch", "learning_rate", "loss", "agreement", "images_per_second")
    assert table(80, names) == ["  epoch        lr      loss  agreement  images/s      left", "   3/20    0.0098   12.3456     0.9123     1,234   1:23:45"]


def test_time_left_is_that_of_the_whole_run():
    """Two stages: 3 epochs of 10 steps and 2 of 5. The first two steps (of 4 s) are not counted, others take half a second; after an epoch come 4 batches,
    which take 60 s with their compiling, then 6 s."""
    pace, now = Pace([Extent(3, 10, 64, 4), Extent(2, 5, 64, 4)]), 100.0
    pace.begin(0, 0, now)
    for step in (1, 2):
        now += 4.0
        pace.at(step, now)
        assert pace.left is None
    for step in range(3, 11):
        now += 0.5
        pace.at(step, now)
    assert pace.images_per_second == 128.0 and pace.left == (20 + 10) * 0.5
    now += 60.0
    pace.end(now)
    assert pace.left == (20 + 10) * 0.5 + 4 * (4 * 0.5)
    pace.begin(0, 1, now)
    pace.at(5, now + 2.5)
    assert pace.left == (5 + 10 + 10) * 0.5 + 4 * (4 * 0.5)
    pace.at(10, now + 5.0)
    pace.end(now + 5.0 + 6.0)
    assert pace.left == (10 + 10) * 0.5 + 3 * 6.0
    pace.begin(1, 0, 500.0)
    assert pace.left is None  # another stage has steps of its own


def test_a_training_on_the_screen(capsys, monkeypatch):
    clock = Clock()
    display = TrainingDisplay()
    display.console, display.clock = display_of(clock), clock
    display.plan([Extent(2, 4, 32), Extent(1, 4, 32)])
    for epoch in (0, 1):
        display.start(0, epoch)
        for step in range(1, 5):
            clock.now += 10.0
            display.tick(step, {"loss": 1 / step, "agreement": 0.5})
            display.console.look()
        display.epoch({"stage": 1, "epoch": epoch + 1, "loss": 0.25, "agreement": 0.5, "images_per_second": 3.0})
    display.stop()
    assert capsys.readouterr().err.splitlines() == [
        "epoch 1: 1/2: 3/4, loss 0.3333  agreement 0.5000, 3.2 images/s, 1:30 left, 0:30 so far",
        "  epoch      loss  agreement  images/s      left",
        " 1: 1/2    0.2500     0.5000         3      1:20",
        "epoch 1: 2/2: 3/4, loss 0.3333  agreement 0.5000, 3.2 images/s, 0:50 left, 1:10 so far",
        " 1: 2/2    0.2500     0.5000         3      0:40",
    ]


# ------------------------------------------------------------------------------------------------------------------- notebooks


@pytest.fixture
def outputs(monkeypatch):
    """A kernel of Jupyter, as far as it is asked: every text that each of its outputs held, one after another."""
    made = []

    def display(data, raw, display_id):
        made.append([data["text/plain"]])
        return SimpleNamespace(update=lambda data, raw, told=made[-1]: told.append(data["text/plain"]))

    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    return made


def test_a_training_in_a_notebook_is_one_output(outputs, capsys):
    clock = Clock()
    display = TrainingDisplay()
    display.console, display.clock = display_of(clock), clock
    display.plan([Extent(118, 4, 32)])
    display.line("device: CPU")
    for epoch in range(118):
        display.start(0, epoch)
        clock.now += 10.0
        display.tick(4, {"loss": 0.5})
        display.doing("held-out rows")
        display.console.look()
        display.epoch({"stage": 1, "epoch": epoch + 1, "loss": 0.25})
    display.stop()
    (told,) = outputs
    assert any(text.splitlines()[-1].startswith("epoch 2/118, held-out rows  4/4") for text in told)
    lines = told[-1].splitlines()
    assert lines[:2] == ["device: CPU", "  epoch      loss      left"] and len(lines) == 2 + 118
    assert [line.split()[0] for line in lines[2:]] == [f"{epoch}/118" for epoch in range(1, 119)]
    assert capsys.readouterr() == ("", "")


def test_what_is_over_is_gone_from_a_notebook(outputs):
    from distill.runtime import progress

    display = display_of(clock := Clock())
    token = progress._here.set(display)
    try:
        with phase("over at once"):
            pass
        assert outputs == []
        with phase("drawing the report"):
            display.look()
        with bar("embedding", "images") as tell:
            clock.now = 5.0
            tell(1, 2)
            display.look()
    finally:
        progress._here.reset(token)
    ((first, gone, second, last),) = outputs
    assert first.endswith(" drawing the report") and second.startswith("embedding  ━") and gone == last == ""


# ------------------------------------------------------------------------------------------------------------------- terminals


def in_terminal(*words: object, columns: int) -> tuple[int, str]:
    """A command line in a terminal of so many columns: its exit code, and all that came to the terminal."""
    mine, theirs = pty.openpty()
    env = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm", "PYTHONIOENCODING": "utf-8"}
    process = subprocess.Popen([sys.executable, "-m", "distill.cli", *map(str, words)], stdin=theirs, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    said, until = b"", time.monotonic() + 120
    while time.monotonic() < until:
        try:
            got = os.read(mine, 1 << 16)
        except OSError:  # the last who wrote is gone
            break
        if not got:
            break
        said += got
    os.close(mine)
    return process.wait(60), said.decode()


@pytest.mark.parametrize("columns", [80, 120])
def test_a_verb_in_a_terminal(columns, tmp_path):
    code, said = in_terminal("faces", tmp_path / "f", "--identities", 60, "--images", 12, "--size", 112, columns=columns)
    assert code == 0
    lines = [line.split("\x1b[K")[0] for line in re.split(r"[\r\n]+", said)]
    bars = [line for line in lines if line.startswith("drawing  ") and "━" in line]
    assert bars and all(len(line) < columns for line in bars) and any(re.search(r"━+─*  \d+/60", line) for line in bars), said
    last = said[said.rindex("\x1b[K") :]
    assert "drawing" not in last and "720 pictures" in last  # the bar is gone when the result is told
    assert "\x1b[?25l" not in said  # a program that is killed leaves a cursor


def test_the_same_verb_in_a_log_says_nothing_meanwhile(tmp_path):
    words = [sys.executable, "-m", "distill.cli", "faces", tmp_path / "f", "--identities", "4", "--images", "2", "--size", "32"]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stderr == "" and "8 pictures" in done.stdout


@pytest.mark.parametrize(
    "plural, one",
    [
        ("chunks", "1 chunk"),
        ("classes", "1 class"),
        ("identities", "1 identity"),
        ("names with a leading dot", "1 name with a leading dot"),
        ("files that are no images", "1 file that is no image"),
        ("names that end in a slash", "1 name that ends in a slash"),
        ("class folders without an image", "1 class folder without an image"),
        ("images carry", "1 image carries"),
        ("system folders", "1 system folder"),
    ],
)
def test_one_is_in_the_singular(plural, one):
    assert many(1, plural) == one and [many(number, plural) for number in (0, 1200)] == [f"0 {plural}", f"1,200 {plural}"]
