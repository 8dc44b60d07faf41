"""Every engine makes the same bytes, and none hangs or loses anything when it is killed. Flink and Prism run where their programs are."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing

import psutil
import pytest

from distill import DistillError
from distill.data.shards.verify import verify
from pipelines.engines import ENGINES, Workers, beam_options, check_reach, find_engine
from pipelines.job import Job
from teachers import Teacher
from tests.builders import contents, embed  # noqa: F401 - a fixture
from tests.conftest import distill
from tests.stores import BUCKET, serving
from tests.warm import warm

IMAGE = "europe-docker.pkg.dev/a-project/distill:1"
DATAFLOW = ("--project=a-project", "--region=europe-west4", f"--temp_location=gs://{BUCKET}/tmp", f"--sdk_container_image={IMAGE}", "--no_auth")


def program(name: str) -> str:
    path = os.environ.get(name, "")
    if not path:
        pytest.skip(f"{name} names no program here; `make test-engines` brings it where a registry has it")
    return path


def begun(engine: str) -> Callable[..., subprocess.CompletedProcess]:
    """How its launcher begins: Dask starts its own processes, in ways that a forked one may change."""
    return distill if engine == "dask" else warm


DASK = pytest.param("dask", marks=pytest.mark.engines)  # half a minute each: a cluster has to start


@pytest.mark.parametrize("engine", ["portable", DASK])
def test_the_same_bytes_from_every_engine(engine, undisturbed, faces, teacher, tmp_path):  # noqa: F811
    done = embed(faces, tmp_path / "out", teacher, "--engine", engine, "--workers", 2, through=begun(engine))
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "out") == contents(undisturbed)
    assert "Done." in done.stdout and not any(word in done.stderr for word in ("WARNING", "ERROR", "INFO", "Traceback")), done.stderr


@pytest.mark.engines
def test_the_same_views_from_another_engine(faces, teacher, tmp_path):
    for engine in ("local", "dask"):
        done = embed(faces, tmp_path / engine, teacher, "--views", 3, "--engine", engine, "--workers", 2, through=begun(engine))
        assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "local") == contents(tmp_path / "dask")


@pytest.mark.engines
@pytest.mark.parametrize("engine, variable, flag", [("prism", "PRISM", "prism_location"), ("flink", "FLINK_JOB_SERVER", "flink_job_server_jar")])
def test_the_same_bytes_from_runners_outside_python(engine, variable, flag, undisturbed, faces, teacher, tmp_path):  # noqa: F811
    words = ("--engine", engine, "--workers", 2, "--", f"--{flag}={program(variable)}")
    done = embed(faces, tmp_path / "out", teacher, *words, through=distill)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "out") == contents(undisturbed)


@pytest.mark.parametrize("engine", ["portable", DASK])
def test_a_chunk_that_fails_takes_no_other_with_it(engine, faces, teacher, tmp_path):
    """Its file is in the list but under no root that may be read: a failure of storage, not of one image."""
    out = tmp_path / "out"
    assert embed(faces, out, teacher, "--dry-run").returncode == 0
    (out / "chunks" / "00002-of-00005.parquet").write_bytes(b"PAR1 damaged")
    done = embed(out / "chunks", out, teacher, "--root", faces, "--engine", engine, "--workers", 2, through=begun(engine))
    assert done.returncode != 0 and "00002-of-00005" in done.stderr and "Traceback" not in done.stderr


def workers_below(process: subprocess.Popen) -> list[psutil.Process]:
    """The launcher's workers as processes: Beam's, or Dask's."""
    names = ("sdk_worker_main", "multiprocessing.spawn")
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if any(name in word for word in child.cmdline() for name in names):
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


def kill_once(engine: str, out, faces, teacher, chance: random.Random) -> None:
    """Start, wait for a random moment, kill the launcher with all its processes or one worker; the run then has to end by itself."""
    command = [sys.executable, "-m", "distill.cli", "embed", faces, out, "--teacher", teacher, "--rows", 25, "--batch", 8, "--engine", engine, "--workers", 2]
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)
    time.sleep(chance.uniform(1, 25))
    workers = workers_below(process) if engine != "local" and chance.random() < 0.5 else []
    if workers:
        chance.choice(workers).kill()
        _, told = process.communicate(timeout=240)  # no run hangs
        assert process.returncode in (0, 1), told  # Dask starts another worker and goes on
        assert "Traceback" not in told
    else:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    for _ in range(100):  # whatever a killed launcher leaves ends by itself
        if not [one for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] and str(out) in one.info["cmdline"]]:
            break
        time.sleep(0.1)


@pytest.mark.engines
def test_a_dask_worker_killed_while_it_starts_ends_the_run_in_one_message(faces, teacher, tmp_path):
    command = [sys.executable, "-m", "distill.cli", "embed", faces, tmp_path / "out", "--teacher", teacher, "--rows", 25, "--engine", "dask", "--workers", 2]
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)
    until = time.monotonic() + 60
    while not (workers := workers_below(process)) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    workers[0].kill()
    _, told = process.communicate(timeout=120)
    assert "Traceback" not in told
    assert process.returncode == 0 or (process.returncode == 1 and "workers did not start" in told and "run the same command again" in told)


@pytest.mark.slow
@pytest.mark.parametrize("engine, kills", [("local", 17), ("processes", 17), ("dask", 16)])
def test_fifty_kills_lose_nothing(engine, kills, undisturbed, faces, teacher, tmp_path):  # noqa: F811
    out, chance = tmp_path / "out", random.Random(engine)
    for _ in range(kills):
        kill_once(engine, out, faces, teacher, chance)
        for path in list(out.glob("shards/*.parquet"))[3:]:  # when a round got far, part of it is taken away: kills go on hitting work
            path.unlink()
    done = embed(faces, out, teacher, "--engine", engine, "--workers", 2, through=begun(engine))
    assert done.returncode == 0, done.stderr
    assert contents(out) == contents(undisturbed) and not verify(out, deep=True).problems
    assert not [path for path in (out / "shards").iterdir() if path.name.startswith(".")]


def test_an_unknown_engine_lists_the_known():
    with pytest.raises(DistillError, match="local, processes, dask, portable, flink, prism, dataflow"):
        find_engine("spark")


def cloud_job(**other: object) -> Job:
    named = {"source": "gs://bucket/list.txt", "out": "gs://bucket/out", "root": "gs://bucket/faces", "teacher": Teacher("gs://bucket/teacher", "saved_model")}
    return Job(**{**named, **other})  # type: ignore[arg-type]


def test_workers_elsewhere_are_not_given_local_paths(tmp_path):
    check_reach(ENGINES["dataflow"], cloud_job())
    (tmp_path / "list.txt").write_text("a.jpg\n")
    with pytest.raises(DistillError, match="do not see SOURCE .*list.txt"):
        check_reach(ENGINES["dataflow"], cloud_job(source=str(tmp_path / "list.txt")))


def test_flink_takes_the_flags_that_people_know():
    options = beam_options(ENGINES["flink"], 4, ["--flink_master=flink.example:8081", "--flink_version=2.0"]).get_all_options()
    assert options["flink_master"] == "flink.example:8081" and options["parallelism"] == 4 and options["environment_type"] == "LOOPBACK"


@pytest.fixture
def without_credentials(monkeypatch):
    """Otherwise each process looks for Google's credentials for half a minute."""
    auth = pytest.importorskip("apache_beam.internal.gcp.auth")
    if not hasattr(auth, "_Credentials") or not auth._GOOGLE_AUTH_AVAILABLE:
        pytest.skip("needs the extra dataflow")
    pytest.importorskip("google.cloud.storage")
    monkeypatch.setattr(auth._Credentials, "_credentials_init", True)
    monkeypatch.setattr(auth._Credentials, "_credentials", None)


@pytest.mark.engines
def test_the_dataflow_job_offline(without_credentials):
    """Steps, container image, accelerator hint and worker options, from the pipeline and the job as Beam would send them."""
    import apache_beam as beam

    from pipelines.embed import build

    flags = [
        *DATAFLOW,
        "--dry_run=True",
        "--machine_type=n1-standard-8",
        "--max_num_workers=16",
        "--no_use_public_ips",
        "--resource_hint=accelerator=type:nvidia-tesla-t4;count:1;install-nvidia-driver",
        "--resource_hint=min_ram=30GB",
    ]
    options = beam_options(ENGINES["dataflow"], 8, flags)
    pipeline = beam.Pipeline(options=options)
    build(pipeline, cloud_job())
    job = pipeline.run().job
    proto = job.proto_pipeline
    steps = {transform.unique_name for transform in proto.components.transforms.values()}
    assert {"Job", "Teacher", "Cut", "Spread", "Embed", "Gather", "Commit"} <= steps
    environments = [environment for environment in proto.components.environments.values() if environment.resource_hints]
    assert environments and all(IMAGE.encode() in environment.payload for environment in environments)
    hints = {urn.rpartition(":")[0].rpartition(":")[2]: value for environment in environments for urn, value in environment.resource_hints.items()}
    assert hints["accelerator"] == b"type:nvidia-tesla-t4;count:1;install-nvidia-driver" and int(hints["min_ram_bytes"]) == 30 * 10**9
    given = options.get_all_options()
    assert given["num_workers"] == 8 and given["max_num_workers"] == 16 and given["machine_type"] == "n1-standard-8"
    assert given["use_public_ips"] is False and given["number_of_worker_harness_threads"] == 1 and given["sdk_location"] == "container"
    assert given["save_main_session"] is False and "no_use_multiple_sdk_containers" in given["experiments"]


@pytest.mark.engines
def test_a_dataflow_job_submitted_polled_and_done(undisturbed, faces, teacher, tmp_path, without_credentials):  # noqa: F811
    """To a service on this machine that takes jobs as Dataflow does, reads the staged pipeline from the bucket and runs it there."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with serving("gs") as store:
        there = {**os.environ, "STORAGE_EMULATOR_HOST": store.url}
        copy = "import sys, pathlib\nfrom distill.storage.path import as_path\nroot, to = pathlib.Path(sys.argv[1]), as_path(sys.argv[2])\n"
        copy += "[(to / path.relative_to(root).as_posix()).upload(path) for path in root.rglob('*') if path.is_file()]"
        for folder, name in ((faces, "faces"), (teacher, "teacher")):
            subprocess.run([sys.executable, "-c", copy, str(folder), f"gs://{BUCKET}/{name}"], env=there, check=True, timeout=120)
        service = subprocess.Popen([sys.executable, "-m", "tests.dataflow", str(port)], env=there)
        try:
            words = ("--engine", "dataflow", "--workers", 2, "--", *DATAFLOW, f"--dataflow_endpoint=http://localhost:{port}")
            where = (f"gs://{BUCKET}/faces", f"gs://{BUCKET}/out", f"gs://{BUCKET}/teacher")
            done = embed(*where, *words, through=lambda *words: distill(*words, env=there))
            assert done.returncode == 0 and "120 rows in 5 shards" in done.stdout, done.stderr
            refused = embed(*where, "--dtype", "float32", *words, through=lambda *words: distill(*words, env=there))
            assert refused.returncode == 2 and "dtype" in refused.stderr, refused.stderr
        finally:
            service.kill()
            service.wait()
        fetch = f"import sys; from distill.storage.path import local_copy; import shutil; shutil.copytree(local_copy('gs://{BUCKET}/out'), sys.argv[1])"
        subprocess.run([sys.executable, "-c", fetch, str(tmp_path / "out")], env=there, check=True, timeout=120)
    assert contents(tmp_path / "out") == contents(undisturbed)


def test_what_a_worker_starts_is_no_worker():
    """It has the worker's command line until it becomes another program, and then it is gone: no worker was lost."""
    workers = Workers()
    code = "import os, time; child = os.fork(); print(child, flush=True) if child else None; time.sleep(60)"
    worker = subprocess.Popen([sys.executable, "-c", code, workers.mark], stdout=subprocess.PIPE, text=True)
    try:
        assert worker.stdout is not None
        below = int(worker.stdout.readline())
        assert {each.pid for each in workers.alive()} == {worker.pid}
        assert {each.pid for each in workers.alive(below=True)} == {worker.pid, below}
    finally:
        for each in workers.alive(below=True):
            each.kill()
        worker.wait()
        worker.stdout.close()
