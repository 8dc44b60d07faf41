"""What is asked for (Job) and what a data set is (Plan). One folder holds one plan; a job that asks for something else is refused."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from distill import DistillError
from distill.chunks import Chunk, chunk_name, is_chunk_folder, list_chunks, read_chunk, read_classes, write_chunks
from distill.files import committed, sha256_file, sweep, write_json
from distill.images import RESIZE
from distill.shards import FORMATS, ShardMeta, find_record
from teachers import Teacher

CHOICES = {"format": tuple(FORMATS), "dtype": ("float16", "float32"), "images": ("inline", "path"), "resize": RESIZE}
SAMPLE = 200  # images whose size on disk is looked at for the estimate


@dataclass(frozen=True)
class Job:
    """What a person asked for. Crosses to every worker; a few hundred bytes.

    root: folder that keys are relative to; size: (height, width) for a teacher that takes any; only: chunk numbers, empty for all.
    """

    source: str
    out: str
    root: str
    teacher: Teacher
    format: str = "parquet"
    rows: int = 100_000
    dtype: str = "float16"
    images: str = "inline"
    resize: str = "none"
    size: tuple[int, int] | None = None
    batch: int = 128
    only: tuple[int, ...] = ()
    max_rejects: float = 0.01
    dry_run: bool = False

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise DistillError(f"--{name} {getattr(self, name)} is unknown. Expected one of: {', '.join(known)}.")
        for name in ("rows", "batch"):
            if getattr(self, name) < 1:
                raise DistillError(f"--{name} {getattr(self, name)}: expected 1 or more.")
        if not 0 <= self.max_rejects <= 1:
            raise DistillError(f"--max-rejects {self.max_rejects}: expected a fraction of all rows, from 0 to 1.")
        if not Path(self.source).exists():
            raise DistillError(f"{self.source}: no such image list. Expected a folder of class folders, a text list, or chunks.")
        if not Path(self.root).is_dir():
            raise DistillError(f"{self.root}: no such folder, so no key can be read. Name the images' root folder with --root.")

    @property
    def folder(self) -> Path:
        return Path(self.out)

    @property
    def chunks(self) -> Path:
        return self.folder / "chunks"

    @property
    def shards(self) -> Path:
        return self.folder / "shards"

    @property
    def state(self) -> Path:
        return self.folder / "state"


@dataclass(frozen=True)
class Plan:
    """Everything that decides the bytes of a set. Two plans agree when they are equal, `source` and `source_sha256` aside."""

    source: str
    source_sha256: str
    chunks: tuple[str, ...]
    rows: int
    classes: int
    meta: ShardMeta
    format: str
    batch: int

    def save(self, path: Path) -> None:
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> Plan:
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            return cls(**{**value, "chunks": tuple(value["chunks"]), "meta": ShardMeta(**value["meta"])})
        except (ValueError, KeyError, TypeError) as error:
            raise DistillError(f"{path} is not a plan of distill embed ({error!r}). Use another OUT.") from error


def agree(job: Job, meta: ShardMeta) -> Plan:
    """The plan of OUT: made now, or the one that is there if it agrees with this job; else an error that names both sides."""
    path, source = job.folder / "plan.json", str(Path(job.source).resolve())
    digest = sha256_file(source) if Path(source).is_file() else ""
    asked = {"format": job.format, "batch": job.batch, **asdict(meta)}
    for folder in (job.folder, job.shards):
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
    if not path.exists():
        chunks = _chunks_of(job)
        plan = Plan(
            source=source, source_sha256=digest, chunks=tuple(chunk.sha256 for chunk in chunks), rows=sum(len(chunk.keys) for chunk in chunks),
            classes=len(read_classes(job.chunks)), meta=meta, format=job.format, batch=job.batch,
        )  # fmt: skip
        plan.save(path)
        return plan
    plan = Plan.load(path)
    there = {"format": plan.format, "batch": plan.batch, **asdict(plan.meta)}
    differing = [f"{name}: {there[name]!r} there, {asked[name]!r} asked for" for name in there if there[name] != asked[name]]
    if not is_chunk_folder(source):
        if source != plan.source:
            differing.append(f"source: {plan.source} there, {source} asked for (the same list elsewhere: name {job.chunks} as SOURCE)")
        elif digest != plan.source_sha256:
            differing.append(f"the list {source} has changed since the plan was made")
    elif tuple(read_chunk(chunk).sha256 for chunk in list_chunks(source)) != plan.chunks:
        differing.append(f"chunks: those in {source} are not the plan's")
    if differing:
        raise DistillError(
            f"{path} says otherwise: {'; '.join(differing)}. One folder holds one data set: use another OUT, or ask for the same."
        )
    return plan


def _chunks_of(job: Job) -> list[Chunk]:
    """The chunks of OUT: cut from the list, or copied where SOURCE is chunks."""
    if not is_chunk_folder(job.source):
        write_chunks(job.source, job.chunks, job.rows)
    elif Path(job.source).resolve() != job.chunks.resolve():
        job.chunks.mkdir(exist_ok=True)
        sweep(job.chunks)
        for path in (*list_chunks(job.source), Path(job.source) / "classes.txt"):
            with committed(job.chunks / path.name) as temporary:
                shutil.copyfile(path, temporary)
    return [read_chunk(path) for path in list_chunks(job.chunks)]


def estimate(job: Job, plan: Plan, wanted: Iterable[int]) -> None:
    """Write OUT/state/estimate.json for the launcher to show; an error when what is still to come cannot fit on the disk."""
    number = len(plan.chunks)
    todo = [chunk for chunk in wanted if find_record(job.shards, plan.format, chunk, number, plan.chunks[chunk]) is None]
    sizes: list[int] = []
    rows = 0
    for chunk in todo:
        keys = read_chunk(job.chunks / chunk_name(chunk, number)).keys
        rows += len(keys)
        if len(sizes) < SAMPLE:
            sizes += [_size(job.root, key) for key in keys[:: max(1, len(keys) // SAMPLE)]]
    row = (
        plan.meta.width * np.dtype(plan.meta.dtype).itemsize
        + 32
        + (float(np.mean(sizes)) if sizes and plan.meta.images == "inline" else 32)
    )
    needed, free = int(rows * row), shutil.disk_usage(job.shards).free
    write_json(
        job.state / "estimate.json",
        {"rows": plan.rows, "chunks": number, "todo_chunks": len(todo), "todo_rows": rows, "bytes": needed, "free": free},
    )
    if needed > free:
        raise DistillError(
            f"{job.out}: about {needed / 1e9:.1f} GB are needed for {rows:,} rows, {free / 1e9:.1f} GB are free. Make room or use another OUT"
            + ("." if plan.meta.images == "path" else ", or leave the images out (--images path).")
        )


def _size(root: str, key: str) -> int:
    try:
        return os.stat(os.path.join(root, key)).st_size
    except OSError:
        return 0
