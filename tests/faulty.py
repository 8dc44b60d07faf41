"""Labelling with a system that fails, or that kills: run by tests/test_faults.py in a process of its own that no thread has begun in yet.

`python -m tests.faulty faults FOLDER`, or `every`, needs tests/faults.c in front of the C library (LD_PRELOAD), `python -m tests.faulty kills FOLDER` nothing.
What is run is what a worker runs, without an engine. Prints one JSON object: what was tried, and what went wrong.
"""

import ctypes
import errno
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from distill.data.layout import PLAIN, UNDERSCORE, Layout
from distill.data.shards import FORMATS
from distill.images.codec import encode_jpeg
from distill.images.preprocessing import Preprocessing
from distill.storage.json_files import read_json, write_json
from pipelines.embed import CutChunks, EmbedChunk, commit
from pipelines.job import Job, Task
from pipelines.metadata import meta_of

SYSTEM = ("EIO", "EACCES", "EPERM", "EMFILE", "ENFILE", "ENOLCK", "ESTALE", "ENOMEM", "ETIMEDOUT", "EAGAIN", "EBUSY", "ENODEV", "EROFS", "EDQUOT", "ENXIO")
FEW = ("EIO", "ESTALE")
LAYOUT = {"parquet": UNDERSCORE, "hdf5": PLAIN}  # what is tried in each format: a new set, and one that an earlier version began


@dataclass(frozen=True)
class Mean:
    """A teacher of 8x8 pictures: the mean of each colour."""

    path: str = "mean"
    preprocessing: Preprocessing = Preprocessing(signature="s", output="o").whole()
    height = width = 8
    dimension = 3

    def load(self):
        return self

    @property
    def teacher(self):
        return self

    def fingerprint(self) -> str:
        return "m" * 64

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return images.mean(axis=(1, 2)).astype(np.float32)


def job_of(folder: Path, format: str, images: str = "inline", **asked) -> Job:
    places = [str(folder / name) for name in ("list.txt", "out", "photos")]
    return Job(*places, Mean(), format, rows=4, batch=2, images=images, max_rejects=0.5, relist=False, **asked)


def draw(folder: Path) -> None:
    """Eight pictures in two classes; the last one cannot be decoded."""
    (folder / "photos").mkdir(parents=True)
    for number in range(8):
        (folder / "photos" / f"{number}.jpg").write_bytes(encode_jpeg(np.full((8, 8, 3), 30 * number, np.uint8)) if number < 7 else b"broken")
    (folder / "list.txt").write_text("".join(f"{number}.jpg\t{number // 4}\n" for number in range(8)))


def run(job: Job) -> list[str]:
    """One run, and what it had to say."""
    shutil.rmtree(job.state, ignore_errors=True)
    job.state.mkdir(parents=True, exist_ok=True)
    tasks: list[Task] = list(CutChunks().process((job, meta_of(job))))
    commit([record for task in tasks for record in EmbedChunk().process(task)], job)
    notes = [json.loads(path.read_text()) for path in sorted(job.state.glob("*.json"))]
    return [note.get("message") or note["reason"] for note in notes if "message" in note or "reason" in note]


def begin_plain(job: Job) -> None:
    """Leave what an earlier version left when nothing was labelled yet: chunks and a plan that says nothing of a layout."""
    if said := run(replace(job, dry_run=True)):
        raise SystemExit(f"the plan was not made: {said}")
    plan = read_json(job.folder / "plan.json")
    del plan["layout"]
    write_json(job.folder / "plan.json", plan)


def contents(out: Path) -> dict[str, bytes]:
    files = (path for path in sorted(out.rglob("*")) if path.is_file() and "state" not in path.parts and not path.name.startswith("."))
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


def only_copy(folder: Path, format: str) -> tuple[Job, dict[str, bytes]]:
    """A finished set whose photos are gone, but for the rejected one: the shards hold the only ones."""
    draw(folder)
    job = job_of(folder, format)
    if LAYOUT[format] is PLAIN:
        begin_plain(job)
    said = run(job)
    if said:
        raise SystemExit(f"the set itself was not made: {said}")
    for number in range(7):
        (folder / "photos" / f"{number}.jpg").unlink()
    return job, contents(job.folder)


# ------------------------------------------------------------------------------------------------------------------------------ what fails


def faults(folder: Path, few: tuple[str, ...] = FEW) -> dict:
    """few: the errors at each place but the opening, reading and looking at a shard, where it is all of them."""
    system, tried, wrong = ctypes.CDLL(None), 0, list[str]()
    for format, shards in FORMATS.items():
        job, whole = only_copy(folder / format, format)
        shard, written, layout = f"shards/00000-of-00002.{shards.suffix}", f"shards/.00000-of-00002.{shards.suffix}", LAYOUT[format]
        record, ledger, index, table = layout.record(0, 2), layout.ledger(0, 2), layout.index, layout.classes
        others = [f"shards/{layout.record(1, 2)}", f"shards/{layout.ledger(1, 2)}", f"shards/00001-of-00002.{shards.suffix}", "plan.json"]
        cases = [(op, shard, name) for op in ("open", "read", "stat") for name in SYSTEM]
        cases += [(op, path, name) for path in others for op in ("open", "read", "stat") for name in few if (op, path[-4:]) != ("stat", "json")]
        cases += [("fsync", path, name) for path in (written, *(f"shards/.{part}" for part in (record, ledger[:-6], index[:-5]))) for name in few]
        cases += [("open", written, name) for name in few]
        cases += [("rename", path, name) for path in (shard, *(f"shards/{part}" for part in (record, ledger, table, index))) for name in few]
        cases += [(op, path, name) for path in ("chunks/00000-of-00002.parquet", "chunks/classes.txt") for op in ("open", "read") for name in few]
        for op, path, name in cases:
            # a run died here before: the first chunk has lost its record, so its rows are taken over from the only copy
            restore(job.folder, whole, without=(f"shards/{record}", f"shards/{index}"))
            system.fault(op.encode(), path.encode(), getattr(errno, name))
            said = run(replace(job, retry_rejects="rejects" in path))  # nobody else reads a ledger
            hits = system.fault_hits()
            system.fault(b"", b"", 0)
            case, tried = f"{format}: {name} at {op} of {path}", tried + 1
            left = contents(job.folder)
            if not hits:
                wrong.append(f"{case} never happened")
            if not any(os.strerror(getattr(errno, name)) in one and path.rpartition("/.")[0] in one for one in said):
                wrong.append(f"{case} is told as {said}")
            if any("damaged" in one or "held" in one or "missing" in one for one in said):
                wrong.append(f"{case} is told falsely: {said}")
            wrong += [f"{case}: {one} is not what it was" for one in left if left[one] != whole[one]]
            wrong += [f"{case}: {one} is gone" for one in whole if "of-00002" in one and one.endswith((shards.suffix, ".parquet")) and one not in left]
            again = run(job)
            if again or contents(job.folder) != whole:
                wrong.append(f"{case}: afterwards {again}, {[one for one in whole if contents(job.folder).get(one) != whole[one]]}")
    return {"tried": tried, "wrong": wrong}


def restore(out: Path, whole: dict[str, bytes], without: tuple[str, ...] = ()) -> None:
    shutil.rmtree(out, ignore_errors=True)
    for name, data in whole.items():
        if name not in without:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_bytes(data)


# ------------------------------------------------------------------------------------------------------------------------------ what kills


def forked(work: Callable[[], object], kill_at: int | None = None, below: Path | None = None) -> tuple[int, object]:
    """(how many changes of files below a folder it made, what it gave) of `work` in a process of its own, which is killed before change number
    `kill_at`."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        with os.fdopen(reading) as file:
            text = file.read()
        os.waitpid(child, 0)
        changes, given = json.loads(text) if text else (0, "killed")
        return changes, given
    changes = 0

    def look(event: str, arguments: tuple) -> None:
        nonlocal changes
        if event not in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"):
            return
        if "/state" in str(arguments[0]) or not str(arguments[0]).startswith(str(below)):
            return
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
            return
        if changes == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        changes += 1

    os.fsync = lambda descriptor: None  # who is killed loses nothing that was written
    if below is not None:
        sys.addaudithook(look)
    try:
        given = work()
        os.write(writing, json.dumps([changes, given]).encode())
    finally:
        os._exit(0)


def kills(folder: Path) -> dict:
    tried, wrong = 0, list[str]()
    for format, images in (("parquet", "inline"), ("parquet", "path"), ("hdf5", "inline")):
        place, layout = folder / f"{format}-{images}", LAYOUT[format]
        draw(place)
        job = job_of(place, format, images)
        if layout is PLAIN:
            forked(lambda job=job: begin_plain(job))
        forked(lambda job=job: run(job))
        old = contents(job.folder)
        record, shard, index = f"shards/{layout.record(0, 2)}", f"shards/00000-of-00002.{FORMATS[format].suffix}", f"shards/{layout.index}"
        if {record, index} - old.keys():
            wrong.append(f"{format}: the layout is not {layout.name}: {sorted(old)}")
        same = (place / "photos" / "1.jpg").read_bytes()
        swapped = bytes([*same[:-3], same[-3] ^ 1, *same[-2:]])  # a photo of the same size: so is its shard
        other = encode_jpeg(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8))
        cases = [("a new set", {}, same, {})]
        if format == "hdf5":
            cases.clear()
        if images == "inline":
            cases.append(("a shard of another size", old, other, {"only": (0,)}))
        if (format, images) == ("parquet", "inline"):
            cases.append(("a shard of the same size", old, swapped, {"only": (0,)}))
        cases.append(("a lost record", {name: data for name, data in old.items() if name not in (record, index)}, same, {}))
        for what, before, photo, asked in cases:
            (place / "photos" / "1.jpg").write_bytes(photo)
            asking, below, seen = replace(job, **asked), job.shards if before else job.folder, list[dict]()
            restore(job.folder, before)
            changes, _ = forked(lambda asking=asking: run(asking), below=below)
            new = contents(job.folder)
            if (
                changes < 10
                or (format, what) == ("parquet", "a shard of the same size")
                and (len(new[shard]), new[shard] == old[shard]) != (len(old[shard]), False)
            ):
                wrong.append(f"{format} {images}: {what} is not what is tried here: {changes} changes")
            for at in range(changes):
                restore(job.folder, before)
                forked(lambda asking=asking: run(asking), at, below)
                case, tried = f"{format} {images}: {what}, killed before change {at} of {changes}", tried + 1
                left = contents(job.folder)
                if before and left.get(shard) not in (old[shard], new[shard]):
                    wrong.append(f"{case}: the shard is lost")
                if left in seen:
                    continue
                seen.append(left)
                _, said = forked(lambda job=job: run(job))
                after = contents(job.folder)
                if said or after not in (old, new):
                    wrong.append(f"{case}: afterwards {said}, other than before {[one for one in old if after.get(one) != old[one]]}")
        (place / "photos" / "1.jpg").write_bytes(same)
        wrong += [f"{format} {images}: {problem}" for problem in earlier_states(job, layout, old, place)]
    runs_tried, runs_wrong = run_kills(folder / "run")
    return {"tried": tried + runs_tried, "wrong": wrong + runs_wrong}


def earlier_states(job: Job, layout: Layout, whole: dict[str, bytes], place: Path) -> list[str]:
    """What a kill left when record and ledger still came before the shard."""
    record, ledger, shard = (f"shards/{name}" for name in (layout.record(0, 2), layout.ledger(0, 2), f"00000-of-00002.{FORMATS[job.format].suffix}"))
    (place / "elsewhere").mkdir()
    foreign = {ledger: whole[f"shards/{layout.ledger(1, 2)}"]}
    value = json.loads(whole[record])
    value |= {"rows": 3, "rejects": 1, "shard_bytes": value["shard_bytes"] - 9, "ledger_bytes": len(foreign[ledger])}
    states = {
        "no shard": {shard: None},
        "no record": {record: None},
        "the ledger of another one, no record": {**foreign, record: None},
        "ledger and record of another one": {**foreign, record: json.dumps(value).encode()},
    }
    wrong = []
    for what, changed in states.items():
        restore(job.folder, {name: data for name, data in {**whole, **changed}.items() if data is not None}, without=(f"shards/{layout.index}",))
        _, said = forked(lambda: run(job))
        if said or contents(job.folder) != whole:
            wrong.append(f"{what}: afterwards {said}")
    return wrong


def run_kills(folder: Path) -> tuple[int, list[str]]:
    """A run folder: two epochs and the end, killed before every change; then the same run goes on, or another one gives way or is refused."""
    from distill import DistillError
    from distill.config.files import load_run
    from distill.config.run import Run
    from distill.training.checkpoint import Progress
    from distill.training.run_folder import RunFolder

    first, second = (Run.model_validate({"seed": seed, "data": {"shards": "x"}, "stage": [{"terms": [{"name": "cosine"}]}]}) for seed in (1, 2))

    def work(run: Run) -> str:
        where = RunFolder(folder)
        try:
            where.check(run)
            with where.held(run):
                progress = (where.load() or (Progress(), {}))[0]
                where.write_history(progress.history)  # as train does where it goes on
                for epoch in range(progress.epoch, 2):
                    where.best.write_text(f"the student of seed {run.seed}, epoch {epoch}")
                    where.save(Progress(epoch=epoch + 1, history=[{"seed": run.seed}] * (epoch + 1)), {"seed": np.array([run.seed])})
                if where.summary() is None:
                    where.student.write_text(f"the student of seed {run.seed}")
                    where.finish({"seed": run.seed})
        except DistillError:
            return "refused"
        return "done"

    def state() -> dict[str, bytes]:
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and path.name[0] != "."}

    tried, wrong, at = 0, list[str](), 0
    changes, _ = forked(lambda: work(first), below=folder)
    whole = state()
    if changes < 16:
        wrong.append(f"run: {changes} changes of files only")
    for at in range(changes):
        for again in (first, second):
            shutil.rmtree(folder)
            forked(lambda: work(first), at, folder)
            before, tried = state(), tried + 1
            _, said = forked(lambda again=again: work(again))
            after = state()
            said_by = load_run(folder / "run.toml").seed if "run.toml" in after else None
            if said == "refused" and (again is first or after != before):
                wrong.append(f"run, killed before change {at}: refused, or changed though refused")
            if said == "done" and again is first and after != whole:
                wrong.append(f"run, killed before change {at}: ends otherwise")
            if any(f"seed {3 - (said_by or 0)}".encode() in data for data in after.values()):
                wrong.append(f"run, killed before change {at}: run.toml of one run beside the student of another")
    return tried, wrong


if __name__ == "__main__":
    print(json.dumps({"faults": faults, "every": lambda folder: faults(folder, SYSTEM), "kills": kills}[sys.argv[1]](Path(sys.argv[2]))))
