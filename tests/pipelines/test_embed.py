"""The pipeline with a real teacher: right rows, every engine the same bytes, killed and resumed, nothing lost."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from distill import DistillError
from distill.data.shards import open_shards
from distill.data.shards.verify import verify
from tests.builders import ROWS, contents, embed, inspected, start
from tests.conftest import TEACHER, distill, inside, messages, snapshot
from tests.warm import warm


def test_embeddings_are_what_the_signature_gives_for_skimage_pixels(undisturbed, faces, teacher, tmp_path):
    """float32 within 1e-5 of a row's norm; float16 within one rounding of that."""
    import skimage.io
    import tensorflow as tf

    exact = tmp_path / "exact"
    assert embed(faces, exact, teacher, "--dtype", "float32").returncode == 0
    signature = tf.saved_model.load(str(teacher)).signatures["serving_default"]
    keys = []
    for out, tolerance in ((exact, 1e-5), (undisturbed, 1e-5 + 2**-11)):
        shards = open_shards(out)
        for number in range(5):
            for rows in shards.read(number):
                pixels = np.stack([skimage.io.imread(faces / key) for key in rows.keys])
                expected = signature(tf.constant(pixels.astype(np.float32)))["output"].numpy()
                assert (np.abs(rows.embeddings - expected) <= tolerance * np.linalg.norm(expected, axis=1, keepdims=True)).all()
                assert [shards.classes[label] for label in rows.labels] == [key.split("/")[0] for key in rows.keys]
                assert [(faces / key).read_bytes() for key in rows.keys] == rows.images
                keys += rows.keys
    assert keys[:120] == keys[120:] == sorted(path.relative_to(faces).as_posix() for path in faces.rglob("*.jpg"))


def test_processes_give_the_same_bytes_as_threads(undisturbed, faces, teacher, tmp_path):
    done = embed(faces, tmp_path / "out", teacher, "--engine", "processes", "--workers", 2, through=distill)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "out") == contents(undisturbed)


def test_hdf5_holds_the_same_rows(undisturbed, faces, teacher, tmp_path):
    assert embed(faces, tmp_path / "out", teacher, "--format", "hdf5").returncode == 0
    left, right = open_shards(undisturbed), open_shards(tmp_path / "out")
    for number in range(5):
        for one, other in zip(left.read(number), right.read(number), strict=True):
            assert one.keys == other.keys and one.images == other.images
            assert np.array_equal(one.labels, other.labels) and np.array_equal(one.embeddings, other.embeddings)
    assert not verify(tmp_path / "out", deep=True).problems


def test_again_does_nothing_and_a_lost_chunk_is_made_again(undisturbed, faces, teacher, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(undisturbed, out)
    before = contents(out)
    (out / "shards" / "00003-of-00005.parquet").unlink()
    done = embed(faces, out, teacher, "--json")
    outcome = json.loads(done.stdout)
    assert done.returncode == 0 and outcome["made"] == 25 and contents(out) == before
    assert json.loads(embed(faces, out, teacher, "--json").stdout)["made"] == 0


def test_another_plan_is_refused_with_both_sides_named(undisturbed, faces, teacher, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(undisturbed, out)
    before = contents(out)
    for words, message in (
        (("--dtype", "float32"), "dtype: 'float16' there, 'float32' asked for"),
        (("--batch", 9), "batch: 8 there, 9"),
        (("--rows", 26), "rows: 25 there, 26"),
    ):
        done = embed(faces, out, teacher, *words)
        assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert contents(out) == before


def test_how_a_list_is_read_is_never_dropped(undisturbed, faces, teacher, tmp_path):
    """On a set that was made otherwise, by the version before too, whose plans say no rule; nor for chunks, which have their keys."""
    out = tmp_path / "out"
    shutil.copytree(undisturbed, out)
    for rule in (True, False):
        plan = json.loads((out / "plan.json").read_text())
        if not rule:
            plan.pop("rule")
        (out / "plan.json").write_text(json.dumps(plan))
        before = contents(out)
        for words, message in (
            (("--label-from", "folder"), "label_from: '' there, 'folder' asked for"),
            (("--strip-prefix", "x/"), "strip_prefix: '' there, 'x/' asked for"),
        ):
            done = embed(faces, out, teacher, *words)
            assert done.returncode == 2 and message in done.stderr
            done = embed(out / "chunks", out, teacher, "--root", faces, *words)
            assert done.returncode == 2 and f"{words[0]} would change nothing" in done.stderr
        assert contents(out) == before
    assert embed(faces, out, teacher).returncode == 0 and contents(out) == before


def test_only_writes_no_index_until_the_set_is_whole(faces, teacher, tmp_path):
    out = tmp_path / "out"
    done = embed(faces, out, teacher, "--only", 1, "--only", 4)
    assert done.returncode == 0 and "3 of 5 chunks are missing" in done.stdout and not (out / "shards" / "_index.json").exists()
    assert embed(faces, out, teacher, "--only", 0, "--only", 2, "--only", 3).returncode == 0
    assert open_shards(out).rows == 120


def test_only_makes_a_chunk_again_whatever_is_there(undisturbed, faces, teacher, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(undisturbed, out)
    shard, before = out / "shards" / "00002-of-00005.parquet", contents(out)
    damaged = bytearray(shard.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    shard.write_bytes(damaged)
    found = inside("verify", out, "--deep")
    assert found.returncode == 1 and "--only 2" in found.stderr
    assert embed(faces, out, teacher, "--only", 2).returncode == 0 and contents(out) == before


def test_what_cannot_be_labelled_is_in_the_ledger_and_too_much_of_it_is_an_error(faces, teacher, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(faces, root)
    (root / "id0003" / "a text.jpg").write_text("hello")
    (root / "id0003" / "empty.jpg").write_bytes(b"")
    whole = (root / "id0000" / "000.jpg").read_bytes()
    (root / "id0000" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    done = embed(root, tmp_path / "out", teacher)
    assert done.returncode == 1 and "3 of 123 images were rejected" in done.stderr and not (tmp_path / "out" / "shards" / "_index.json").exists()
    done = embed(root, tmp_path / "out", teacher, "--max-rejects", 0.05)
    assert done.returncode == 0, done.stderr
    shards = open_shards(tmp_path / "out")
    ledger = [json.loads(line) for record in shards.records for line in (shards.folder / record.ledger).read_text().splitlines()]
    assert shards.rows == 120 and sorted(reject["key"] for reject in ledger) == ["id0000/cut.jpg", "id0003/a text.jpg", "id0003/empty.jpg"]
    assert all(reject["reason"] for reject in ledger)
    assert not verify(tmp_path / "out", deep=True).problems


def made_at(out):
    """When each shard was written; a file keeps its number until another takes its name."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in out.glob("shards/[!.]*.parquet")}


def test_retried_rejects_make_only_the_mended_chunks_again(undisturbed, faces, teacher, tmp_path):
    """Broken images in chunks 0, 2 and 4; the one of chunk 2 is mended first, then the others."""
    root, out = tmp_path / "root", tmp_path / "out"
    shutil.copytree(faces, root)
    broken = ["id0000/003.jpg", "id0006/001.jpg", "id0011/009.jpg"]
    (root / broken[0]).write_text("hello")
    (root / broken[1]).unlink()
    (root / broken[1]).touch()
    whole = (root / broken[2]).read_bytes()
    (root / broken[2]).write_bytes(whole[: len(whole) // 2])
    assert embed(root, out, teacher).returncode == 1 and not (out / "shards" / "_index.json").exists()
    before = made_at(out)
    for allowed, code in ((), 1), (("--max-rejects", 0.05), 0), (("--max-rejects", 0.05), 0):  # nothing is mended, so nothing is made
        done = embed(root, out, teacher, "--retry-rejects", *allowed, "--json")
        assert done.returncode == code and made_at(out) == before, done.stderr
    assert json.loads(done.stdout)["made"] == 0

    shutil.copy(faces / broken[1], root / broken[1])
    done = embed(root, out, teacher, "--max-rejects", 0.05, "--json")  # another file than the set was made of
    assert done.returncode == 2 and "--retry-rejects" in done.stderr and made_at(out) == before
    done = embed(root, out, teacher, "--retry-rejects", "--max-rejects", 0.05, "--json")
    outcome = json.loads(done.stdout)
    assert (outcome["made"], outcome["rows"], outcome["rejects"], outcome["committed"]) == (25, 118, 2, True)
    assert {name for name, when in made_at(out).items() if when != before[name]} == {"00002-of-00005.parquet"}
    assert embed(root, tmp_path / "afresh", teacher, "--max-rejects", 0.05).returncode == 0
    assert contents(out) == contents(tmp_path / "afresh")

    for key in broken:
        shutil.copy(faces / key, root / key)
    assert json.loads(embed(root, out, teacher, "--retry-rejects", "--json").stdout)["made"] == 25 + 20
    assert contents(out) == contents(undisturbed)


def test_a_reject_that_is_the_teachers_fault_is_not_tried_again(faces, teacher, tmp_path):
    """Its bytes are those that were decoded then; the answer does not fit into float16, as that to one row in ten here."""
    words = ("--scale", 5e4, "--max-rejects", 1)
    assert embed(faces, tmp_path / "out", teacher, *words).returncode == 0
    assert 0 < open_shards(tmp_path / "out").rejects < 30
    done = embed(faces, tmp_path / "out", teacher, *words, "--retry-rejects", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["made"] == 0


def test_a_teacher_exchanged_in_place_is_refused(undisturbed, faces, teacher, tmp_path):
    from distill.data.shards.plan import Plan
    from pipelines.job import Job, Task
    from pipelines.label import embed_chunk
    from teachers import open_teacher

    out, model = tmp_path / "out", tmp_path / "teacher"
    shutil.copytree(teacher, model)
    assert embed(faces, out, model, "--only", 0, "--only", 1).returncode == 0
    before = contents(out)
    shutil.move(model, tmp_path / "old")
    other = TEACHER.replace("default_rng(0)", "default_rng(1)").replace("sys.argv[1]", repr(str(model)))
    exec(compile(other, "teacher", "exec"), {})
    done = embed(faces, out, model)
    assert done.returncode == 2 and "teacher: '" in done.stderr and "asked for" in done.stderr and contents(out) == before
    job = Job(source=str(faces), out=str(out), root=str(faces), teacher=open_teacher(str(model)), rows=ROWS, batch=8)
    with pytest.raises(DistillError, match="is another model than when this run began"):  # as a worker meets it, where the launcher began before
        embed_chunk(Task.of(job, Plan.load(out / "plan.json"), 2))
    shutil.rmtree(model)
    shutil.move(tmp_path / "old", model)
    assert embed(faces, out, model).returncode == 0 and contents(out) == contents(undisturbed)


def test_a_failed_chunk_is_told_with_its_reason(undisturbed, faces, teacher, tmp_path):
    out = tmp_path / "out"
    assert embed(faces, out, teacher, "--dry-run").returncode == 0
    ledger = out / "shards" / "_00002-of-00005.rejects.jsonl"
    ledger.mkdir(parents=True)  # a folder has the name that the ledger should get
    done = embed(faces, out, teacher)
    assert done.returncode == 1 and "1 chunk failed, no index was written" in done.stderr and "chunk 2" in done.stderr
    found = inspected(out)
    assert (found["kind"], found["launcher"]) == ("unfinished set of shards", "none at work")
    assert list(found["failed_chunks"]) == ["2"] and "directory" in found["failed_chunks"]["2"]
    assert (found["rows"], found["done_rows"], found["chunks"], found["done_chunks"], found["missing_chunks"]) == (120, 95, 5, 4, [2])
    assert "failed chunks:\n  2: " in inside("inspect", out).stdout
    ledger.rmdir()
    assert embed(faces, out, teacher).returncode == 0 and contents(out) == contents(undisturbed)


def test_a_run_that_ended_with_an_error_tells_it(faces, teacher, tmp_path):
    (tmp_path / "list.txt").write_text("id0000/000.jpg\nid0000/nope.jpg\n")
    assert embed(tmp_path / "list.txt", tmp_path / "out", teacher, "--root", faces).returncode == 1
    found = inspected(tmp_path / "out")
    assert "1 of 2 images were rejected" in found["error"] and found["launcher"] == "none at work"


def test_a_run_that_is_refused_leaves_nothing(undisturbed, faces, teacher, tmp_path):
    """Neither a folder that was not there before, nor another byte in one that was: not even in its notes."""
    for wrong in (("--output", "nope"), ("--only", 9), ("--root", tmp_path), ("--add-views", 2), ("--size", "64x64")):
        done = embed(faces, tmp_path / "deep" / "out", teacher, *wrong)
        assert done.returncode == 2 and len(messages(done)) == 1, done.stderr
        assert not (tmp_path / "deep").exists()
    shutil.copytree(undisturbed, tmp_path / "out")
    before = snapshot(tmp_path / "out", ".launcher", times=False)
    for wrong in (("--output", "nope"), ("--only", 9), ("--dtype", "float32"), ("--size", "64x64"), ("--format", "hdf5")):
        assert embed(faces, tmp_path / "out", teacher, *wrong).returncode == 2
        assert snapshot(tmp_path / "out", ".launcher", times=False) == before


def test_dry_run_plans_and_stops(faces, teacher, tmp_path):
    done = embed(faces, tmp_path / "out", teacher, "--dry-run")
    assert done.returncode == 0 and "120 rows in 5 chunks" in done.stderr and "GB free" in done.stderr
    assert not list((tmp_path / "out" / "shards").glob("*.parquet"))
    assert embed(faces, tmp_path / "out", teacher, "--rows", 50).returncode == 0  # a plan without shards gives way
    assert open_shards(tmp_path / "out").rows == 120 and len(open_shards(tmp_path / "out").records) == 3


@pytest.mark.parametrize("engine", ["local", pytest.param("processes", marks=pytest.mark.slow)])
def test_killed_at_random_moments_and_resumed(engine, undisturbed, faces, teacher, tmp_path):
    out, rng = tmp_path / "out", random.Random(engine)
    for _ in range(2):
        process = start(out, faces, teacher, "--engine", engine)
        until = time.monotonic() + 60
        wanted = rng.randrange(1, 5)
        while len(list(out.glob("shards/*.parquet"))) < wanted and process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        process.kill_all()
        found = inspected(out)
        assert found["kind"] == "set of shards" or found["launcher"] == "none at work" and "same distill embed again" in found["next"]
        records = list(out.glob("shards/[!.]*-of-*.json"))
        assert found.get("done_chunks", 5) == len(records) <= len(list(out.glob("shards/[!.]*.parquet"))) and "rows_in_progress" not in found
    done = embed(faces, out, teacher, "--engine", engine, through=warm)
    assert done.returncode == 0, done.stderr
    assert contents(out) == contents(undisturbed)
    assert not [path for path in (out / "shards").iterdir() if path.name.startswith(".")]


def test_a_lost_worker_ends_the_run_with_an_error(faces, quick, tmp_path):
    out = tmp_path / "out"
    process = start(out, faces, quick, "--engine", "processes", "--workers", 2)
    until, workers = time.monotonic() + 60, []
    while len(workers) < 2 and process.poll() is None and time.monotonic() < until:
        time.sleep(0.5)
        children = psutil.Process(process.pid).children(recursive=True)
        workers = [child for child in children if "apache_beam.runners.worker.sdk_worker_main" in child.cmdline()]  # not the shell above it
    time.sleep(0.5)
    workers[0].kill()
    _, told = process.communicate(timeout=60)
    assert process.returncode == 1 and "worker process was lost" in told and "Run the same command again" in told
    assert embed(faces, out, quick).returncode == 0 and open_shards(out).rows == 120


def test_a_second_launcher_is_refused(faces, teacher, tmp_path):
    out = tmp_path / "out"
    first = start(out, faces, teacher)
    until = time.monotonic() + 60
    while not (out / "state").exists() and time.monotonic() < until:
        time.sleep(0.01)
    first.send_signal(signal.SIGSTOP)  # it holds OUT, however long the other one takes to start
    second = embed(faces, out, teacher)
    first.send_signal(signal.SIGCONT)
    first.communicate(timeout=120)
    assert second.returncode == 2 and "another launcher" in second.stderr


@pytest.mark.parametrize(
    "words, message",
    [
        (("--format", "csv"), "parquet, hdf5"),
        (("--engine", "spark"), "local, processes"),
        (("--max-rejects", "2"), "from 0 to 1"),
        (("--only", "9"), "chunks 0 to 4"),
        (("--signature", "nope"), "serving_default"),
        (("--output", "nope"), "output"),
        (("--size", "64x64"), "32x32"),
        (("--root", "/nowhere"), "/nowhere"),
        (("--", "--no_such_flag=1"), "no_such_flag"),
    ],
)
def test_wrong_input_is_one_message(words, message, faces, teacher, tmp_path):
    done = embed(faces, tmp_path / "out", teacher, *words)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr and len(messages(done)) == 1


def test_a_wrong_teacher_or_source_is_one_message(faces, teacher, tmp_path):
    for source, model in ((faces, tmp_path / "none"), (tmp_path / "none", teacher), (faces, faces)):
        done = embed(source, tmp_path / "out", model)
        assert done.returncode == 2 and ("none" in done.stderr or str(faces) in done.stderr) and len(messages(done)) == 1


RESNET50 = """
import sys, keras
keras.utils.set_random_seed(0)
inputs = keras.Input((112, 112, 3), name="images")
net = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(112, 112, 3), pooling="avg")
outputs = keras.layers.Dense(512, name="embedding")(net(keras.layers.Rescaling(1 / 127.5, -1)(inputs)))
keras.Model(inputs, {"output": outputs}).export(sys.argv[1], verbose=False)
"""


@pytest.mark.slow
def test_resnet50_killed_ten_times_gives_the_bytes_of_an_undisturbed_run(tmp_path):
    teacher, faces, random_moment = tmp_path / "resnet50", tmp_path / "faces", random.Random(50)
    subprocess.run([sys.executable, "-c", RESNET50, str(teacher)], check=True, capture_output=True)
    assert distill("faces", faces, "--identities", 100, "--images", 20).returncode == 0
    command = ("--teacher", teacher, "--rows", 100, "--batch", 32)
    assert distill("embed", faces, tmp_path / "undisturbed", *command, timeout=600).returncode == 0
    out, kills, finished = tmp_path / "killed", 0, 0
    while kills < 10:
        words = [sys.executable, "-m", "distill.cli", "embed", faces, out, *command]
        process = subprocess.Popen([str(word) for word in words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        time.sleep(random_moment.uniform(2, 22))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
        if len(list(out.glob("shards/*.parquet"))) == 20:  # done before its ten kills: half of it is taken away and has to be made again
            finished += 1
            for path in list(out.glob("shards/*.parquet"))[::2]:
                path.unlink()
    done = distill("embed", faces, out, *command, timeout=600)
    assert done.returncode == 0, done.stderr
    assert contents(out) == contents(tmp_path / "undisturbed") and open_shards(out).rows == 2000
    assert not verify(out, deep=True).problems
