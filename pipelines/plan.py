"""What is asked for (Job) and what a data set is (Plan). One folder holds one plan; a job that asks for something else is refused."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from distill.data.archives.archive import index_of, is_holder
from distill.data.archives.reader import read_bytes
from distill.data.chunks import chunk_name, list_chunks, read_chunk, read_classes, said_sha256, write_chunks
from distill.data.folders import check_apart, check_folder, remove_own
from distill.data.kinds import CHUNKS, NOTES, is_chunk_folder
from distill.data.layout import LAYOUTS, PLAIN, UNDERSCORE, Layout, find_index, layout_in
from distill.data.lists import listing
from distill.data.lists.image_list import Rule, check_source, way_to
from distill.data.lists.listing import ADDED, GONE, REMOVED, RESIZED, TOUCHED, Changes
from distill.data.shards import FORMATS, Record, ShardMeta, find_record, read_index, read_ledger, shard_path
from distill.data.shards.golden import check_golden
from distill.data.shards.rows import DTYPES, EXACT, MAX_VIEWS
from distill.errors import BadImage, Damaged, DistillError, Reason
from distill.images.augmentation import RECIPES, Recipe
from distill.images.codec import decode, reason_in_ledger
from distill.images.spec import EXIF, RESIZE, ImageSpec
from distill.images.views import check_size, software
from distill.runtime.progress import phase, watched
from distill.storage.files import committed, is_there, read_json, sha256_file, temporary_for, write_json
from distill.storage.path import StoragePath, is_remote, place
from pipelines.rejects import LOOKED, grouped, in_words, look, spread
from teachers import Teacher

CHOICES = {"format": tuple(FORMATS), "dtype": tuple(DTYPES), "images": ("inline", "path"), "resize": RESIZE, "exif": EXIF}
SOFTWARE = ("tensorflow", "numpy", "simplejpeg", "pillow", "pyarrow", "h5py")
SAMPLE = 200  # images whose size on disk is looked at for the estimate


@dataclass(frozen=True)
class Job:
    """What a person asked for. Crosses to every worker; a few hundred bytes.

    root: folder that keys are relative to, or the file that holds the images; size: (height, width) for a teacher that takes any; only: chunk
    numbers, empty for all. views: of each picture, the plain one among them; add_views: how many more than the set was first made with, and then
    views, recipe and view_seed may be those of the plan; recipe None: that of the plan, else "face" where there are views. relist: whether a list
    is held against what lies there now before a set goes on; None: where it lies on this machine.
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
    exif: str = "ignore"
    views: int = 1
    add_views: int = 0
    recipe: Recipe | None = None
    view_seed: int = 0
    size: tuple[int, int] | None = None
    batch: int = 128
    only: tuple[int, ...] = ()
    retry_rejects: bool = False
    max_rejects: float = 0.01
    dry_run: bool = False
    all_files: bool = False
    strip_prefix: str = ""
    label_from: str = ""
    relist: bool | None = None

    def __post_init__(self) -> None:
        Rule(self.all_files, self.strip_prefix, self.label_from)
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise DistillError(f"--{name} {getattr(self, name)} is unknown. Expected one of: {', '.join(known)}.")
        for name in ("rows", "batch"):
            if getattr(self, name) < 1:
                raise DistillError(f"--{name} {getattr(self, name)}: expected 1 or more.")
        if not 1 <= self.views <= MAX_VIEWS or not 0 <= self.add_views < MAX_VIEWS:
            raise DistillError(f"--views {self.views}, --add-views {self.add_views}: expected 1 to {MAX_VIEWS}, the plain picture among them.")
        if self.views > 1 and self.add_views:
            raise DistillError("--views makes a set and --add-views extends one that is there. Give one of them.")
        if self.recipe == RECIPES["none"] and self.views + self.add_views > 1:
            raise DistillError("--recipe none changes nothing, so all views would be the same picture. Use another recipe, or one view.")
        if self.recipe and self.recipe != RECIPES["none"] and self.views + self.add_views == 1:
            raise DistillError(f"--recipe {self.recipe.name} is for views, and one view is the plain picture. Say how many: --views 8.")
        if not 0 <= self.view_seed < 2**63:
            raise DistillError(f"--view-seed {self.view_seed}: expected 0 to 2**63 - 1.")
        if not 0 <= self.max_rejects <= 1:
            raise DistillError(f"--max-rejects {self.max_rejects}: expected a fraction of all rows, from 0 to 1.")

    def check_paths(self) -> None:
        """DistillError where SOURCE or the root is not there. Apart from the other checks, because it may ask an object store."""
        check_source(place(self.source))
        if (self.strip_prefix or self.label_from) and is_chunk_folder(self.source):
            option = "--strip-prefix" if self.strip_prefix else "--label-from"
            raise DistillError(
                f"{self.source} holds chunks, whose keys and labels stand, so {option} would change nothing. Leave it out, or name the text list."
            )
        if not place(self.root).is_dir() and not is_holder(self.root):
            raise DistillError(f"{self.root}: no such folder, .rec or .tar, so no key can be read. Name the images' root with --root.")

    def check_out(self) -> None:
        """DistillError where OUT is no place to write in: around or inside SOURCE, or with files of somebody else's."""
        check_apart(self.source, self.out, own="chunks")
        check_folder(self.out, "set")

    @property
    def rule(self) -> Rule:
        """How names of the list become rows."""
        return Rule(self.all_files, self.strip_prefix, self.label_from)

    def image_spec(self, height: int, width: int) -> ImageSpec:
        """Returns what images must be. EXIF rotation that is not applied stays unsaid, as in sets of the first two format versions."""
        return ImageSpec(height, width, self.resize, None if self.exif == "ignore" else self.exif)

    @property
    def folder(self) -> StoragePath:
        return place(self.out)

    @property
    def chunks(self) -> StoragePath:
        return self.folder / "chunks"

    @property
    def shards(self) -> StoragePath:
        return self.folder / "shards"

    @property
    def state(self) -> StoragePath:
        return self.folder / "state"


_broken_off: set[str] = set()  # OUTs whose run was broken off in this process; its threads may still work


def break_off(job: Job) -> None:
    """Let the threads of this process that work for this OUT stop at their next batch."""
    _broken_off.add(job.out)


def go_on(job: Job) -> None:
    """A new run may work for this OUT."""
    _broken_off.discard(job.out)


def is_broken_off(job: Job) -> bool:
    return job.out in _broken_off


def leave_note(job: Job, name: str, value: dict[str, Any]) -> None:
    """A file in OUT/state for the launcher. On a full disk there is no room for it: the launcher then says what is missing, and that."""
    with suppress(OSError):
        write_json(job.state / name, value)


@contextmanager
def phases_noted(job: Job) -> Iterator[None]:
    """The launcher is told of the phases of the block."""
    with watched(lambda text: leave_note(job, "phase.json", {"phase": text})):
        yield


def clear_notes(job: Job) -> None:
    """Remove what earlier runs left in OUT/state, and nothing that has another name."""
    remove_own(job.state, NOTES)


@dataclass(frozen=True)
class Plan:
    """Everything that decides the bytes of a set. chunk_rows: rows of one chunk, 0 where the source was chunks already.

    skipped: how many names of the source are no rows, by reason; told, not compared. first_views: how many views the set was made with before
    any were added. rule: how names became rows; None in plans of earlier versions, which took every file. layout: what the files beside the shards
    are called; plans of earlier versions say nothing, and theirs is plain.
    """

    source: str
    source_sha256: str
    chunk_rows: int
    chunks: tuple[str, ...]
    rows: int
    classes: int
    meta: ShardMeta
    format: str
    batch: int
    skipped: dict[str, int]
    first_views: int = 1
    rule: Rule | None = None
    layout: str = PLAIN.name

    __pydantic_config__ = EXACT

    def __post_init__(self) -> None:
        """ValueError where no layout is called so."""
        if self.layout not in LAYOUTS:
            raise ValueError(f"layout {self.layout!r}, expected {' or '.join(LAYOUTS)}")

    def save(self, path: StoragePath) -> None:
        self.meta.check()
        told = {**asdict(self), "meta": self.meta.as_dict()}
        unsaid = {"rule": None, "layout": PLAIN.name}  # as in plans of earlier versions
        write_json(path, {name: value for name, value in told.items() if name not in unsaid or value != unsaid[name]})

    @classmethod
    def load(cls, path: StoragePath) -> Plan:
        try:
            plan = read_json(path, cls)
            plan.meta.check()
        except ValueError as error:
            raise DistillError(f"{path} is not a plan of distill embed ({error}). Use another OUT.") from error
        return plan

    def chunk_meta(self, number: int) -> ShardMeta:
        """What the shard of a chunk says of itself, but for its rows and mean norm."""
        return replace(self.meta, chunk=number, of=len(self.chunks), chunk_sha256=self.chunks[number])

    def find_record(self, shards: StoragePath, number: int) -> Record | None:
        """The record of a chunk that is done, None where it has to be made."""
        return find_record(shards, self.format, self.chunk_meta(number), self.names)

    @property
    def names(self) -> Layout:
        """What the files beside the shards are called."""
        return LAYOUTS[self.layout]


def standing(job: Job, format: str, meta: ShardMeta, layout: Layout) -> Record | None:
    """Returns the record of a finished chunk that needs no work, else None.

    --only makes a chunk again whatever is there, --retry-rejects where one of its rejects can be read and decoded now.
    """
    if meta.chunk in job.only:
        return None
    record = find_record(job.shards, format, meta, layout)
    return None if record and job.retry_rejects and _mended(job, record, meta.image) else record


def taken_over(job: Job, format: str, meta: ShardMeta) -> ShardMeta | None:
    """What the shard of the chunk of `meta` says of itself, where its rows can be taken over: it lacks nothing but views, or, where it holds the
    pictures, nothing at all. None where all has to be made.

    Its footer is enough: who died while the shard was being replaced may have left no record, or the ledger of another one. OSError where the
    system cannot tell.
    """
    if meta.chunk in job.only:
        return None
    try:
        there = FORMATS[format].read_meta(shard_path(job.shards, format, meta.chunk, meta.of))
    except (FileNotFoundError, Damaged):
        return None
    whole = meta.images == "inline" and there.unwritten() == meta.unwritten()
    return there if whole or fewer_views(meta, there) else None


def _mended(job: Job, record: Record, spec: ImageSpec) -> bool:
    for reject in read_ledger(job.shards / record.ledger):
        try:
            data = read_bytes(job.root, reject.key)
            decode(data, spec)
        except BadImage:
            continue
        if hashlib.sha256(data).hexdigest() != reject.sha256:  # the same bytes were decoded then: the teacher's answer was at fault
            return True
    return False


def meta_of(job: Job) -> ShardMeta:
    """What every shard of a set says of itself, before views are added. Loads the teacher."""
    teacher = job.teacher.load()
    meta = ShardMeta(
        chunk=-1,
        of=0,
        chunk_sha256="",
        dimension=teacher.dimension,
        dtype=job.dtype,
        teacher=job.teacher.fingerprint(),
        reading=teacher.preprocessing,
        image=job.image_spec(*_image_size(job, teacher.height, teacher.width)),
        images=job.images,
        software={name: version(name) for name in SOFTWARE},
    )
    return meta if job.views == 1 else with_views(meta, job.views, job.recipe or RECIPES["face"], job.view_seed)


def with_views(meta: ShardMeta, views: int, recipe: Recipe, seed: int) -> ShardMeta:
    """The metadata of a set with so many views. DistillError where images are too large for that recipe."""
    check_size(recipe, meta.image.height, meta.image.width)
    return replace(meta, views=views, recipe=recipe, view_seed=seed, software={**meta.software, **software()})


def fewer_views(meta: ShardMeta, there: ShardMeta) -> bool:
    """Whether `there` says what `meta` says but for views that are not there yet, so that its embeddings can be taken over."""
    if there.views >= meta.views:
        return False
    if there.views == 1:
        there = with_views(there, 1, meta.recipe, meta.view_seed)
    return replace(there.unwritten(), views=meta.views) == meta.unwritten()


def _image_size(job: Job, height: int | None, width: int | None) -> tuple[int, int]:
    if height and width:
        if job.size not in (None, (height, width)):
            raise DistillError(f"--size {job.size[0]}x{job.size[1]}: {job.teacher.path} takes {height}x{width} and nothing else. Leave --size out.")
        return height, width
    if job.size is None:
        raise DistillError(f"{job.teacher.path} takes images of any size. Say which it should see: --size HEIGHTxWIDTH.")
    return job.size


def agree(job: Job, meta: ShardMeta, accept: Callable[[Plan, StoragePath], None] = lambda plan, chunks: None) -> tuple[Plan, str]:
    """The plan of OUT: made now, or the one that is there if it agrees with this job; else an error that names both sides. And a note, or "".

    A plan under which nothing was labelled yet, such as a dry run leaves, gives way to another wish, and so do added views that no shard has
    yet. One that changes by added views is not written here: see `keep`.

    accept: refuses, by an error, a plan for which another one would give way, while nothing of that is gone; given the folder of its chunks too.
    """
    path = job.folder / "plan.json"
    for folder in (job.folder, job.shards):
        folder.mkdir(parents=True, exist_ok=True)
    if is_there(path):
        plan = _labelled_views(job, Plan.load(path))
        if job.add_views:
            plan, meta = _widened(job, meta, plan)
        differing = _differences(job, meta, plan)
        labelled = has_rows(job, plan)
        if not differing and not labelled and not _has_chunks(job, plan):  # killed while one plan gave way to another
            return _anew(job, meta, plan, accept), ""
        changes = Changes() if differing else _relisted(job, plan)
        unlike = changes.in_words(ADDED, REMOVED, RESIZED)
        if not differing and not unlike:
            if changes.accepted and not job.dry_run:
                listing.update(job.chunks / listing.LISTING, changes.accepted)
            return plan, _note(changes)
        if unlike and labelled:
            raise DistillError(_unlike(job, plan, unlike))
        if labelled and not plan.batch:
            raise DistillError(
                f"{path}: this set was made by distill import, and distill embed adds nothing to it. Use another OUT; {job.chunks} as SOURCE is the same list."
            )
        if labelled:
            said = "; ".join(differing)
            raise DistillError(f"{path} says otherwise: {said}. One folder holds one data set: use another OUT, or ask for the same.")
        return _anew(job, meta, plan, accept), ""
    _check_no_views_added(job)
    plan = _plan_of(job, meta, job.chunks, _cut(job, job.chunks), layout_in(job.shards))
    plan.save(path)
    return plan, ""


def _anew(job: Job, meta: ShardMeta, old: Plan, accept: Callable[[Plan, StoragePath], None]) -> Plan:
    """Replaces a plan under which nothing was labelled, and its chunks. What can refuse the new one does so before anything of the old one goes.

    plan.json is replaced last and in one rename, so that OUT has a plan whenever this is killed; `_has_chunks` then tells that it is not whole.
    """
    _check_no_views_added(job)
    own = place(job.source).resolve() == job.chunks.resolve()  # SOURCE itself: they stay, perhaps the only copy of the list
    given = old.source == str(job.chunks.resolve())  # SOURCE of the plan before: they are not of distill's making alone
    with _beside(job.chunks) as folder:
        chunks = job.chunks if own else folder
        plan = _plan_of(job, meta, chunks, _cut(job, chunks), UNDERSCORE)
        if given and plan.chunks != old.chunks:
            raise DistillError(f"{job.chunks} was SOURCE of this set and holds another list than {job.source}; it is left alone. Use another OUT.")
        accept(plan, chunks)
        for number in range(len(old.chunks)):
            _forget(job, old, number)
        if not own and not given:
            remove_own(job.chunks, CHUNKS, first="classes.txt")
            _move_in(folder, job.chunks)
        plan.save(job.folder / "plan.json")
    return plan


def _check_no_views_added(job: Job) -> None:
    if job.add_views:
        raise DistillError(f"{job.out}: --add-views extends a set, and there is none. Make one: distill embed SOURCE {job.out} --views N.")


def _plan_of(job: Job, meta: ShardMeta, folder: StoragePath, skipped: dict[str, int], layout: Layout) -> Plan:
    """A plan of the chunks in a folder, all of which are read."""
    source = place(job.source).resolve()
    chunks = [(chunk.sha256, len(chunk.keys)) for chunk in map(read_chunk, list_chunks(folder))]
    return Plan(
        source=str(source),
        source_sha256=_source_sha256(source),
        chunk_rows=0 if is_chunk_folder(source) else job.rows,
        chunks=tuple(sha256 for sha256, _ in chunks),
        rows=sum(rows for _, rows in chunks),
        classes=len(read_classes(folder)),
        meta=meta,
        format=job.format,
        batch=job.batch,
        skipped=skipped,
        first_views=meta.views,
        rule=job.rule,
        layout=layout.name,
    )


def _has_chunks(job: Job, plan: Plan) -> bool:
    """Whether the chunks in OUT are those of its plan, by what they say of themselves."""
    try:
        return tuple(map(said_sha256, list_chunks(job.chunks))) == plan.chunks
    except DistillError:
        return False


@contextmanager
def _beside(chunks: StoragePath) -> Iterator[Path]:
    """A folder for chunks that are not to be in OUT yet: on its disk, under a temporary name; for an object store on this machine's."""
    if not isinstance(chunks, Path):
        with tempfile.TemporaryDirectory(prefix="distill-") as name:
            yield Path(name)
        return
    folder = temporary_for(chunks)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _move_in(folder: Path, chunks: StoragePath) -> None:
    """Give the files of one folder their place in another, classes.txt last."""
    chunks.mkdir(exist_ok=True)
    for path in sorted(folder.iterdir(), key=lambda path: path.name == "classes.txt"):
        if isinstance(chunks, Path):
            path.replace(chunks / path.name)
        else:
            _copy(path, chunks / path.name)


def _copy(path: StoragePath, to: StoragePath) -> None:
    with committed(to) as temporary, path.open("rb") as file, temporary.open("wb") as copy:
        shutil.copyfileobj(file, copy)


@phase("comparing the list with what was embedded")
def _relisted(job: Job, plan: Plan) -> Changes:
    """How what lies there now differs from the listing of the set; no changes where there is none or nobody is to look."""
    source, path = place(job.source).resolve(), job.chunks / listing.LISTING
    local = not is_remote(source) and not is_remote(job.root)
    if not (local if job.relist is None else job.relist):
        return Changes()
    if is_chunk_folder(source) or not path.is_file():
        if job.relist:
            raise DistillError(f"{job.out} keeps no listing of {job.source}, so nothing can be held against what lies there. Leave --relist out.")
        return Changes()
    rule = plan.rule or Rule(all_files=True)
    done: dict[int, Record | None] = {}
    rejects: dict[int, set[str]] = {}

    def record_of(row: int) -> Record | None:
        number = row // max(plan.chunk_rows, 1)
        if number not in done:
            done[number] = None if number in job.only else plan.find_record(job.shards, number)
        return done[number]

    def was_rejected(row: int, key: str) -> bool:
        record = record_of(row)
        if record is None or not record.rejects:
            return False
        if record.number not in rejects:
            rejects[record.number] = {reject.key for reject in read_ledger(job.shards / record.ledger)}
        return key in rejects[record.number]

    def may_change(row: int, key: str) -> bool:
        """A file whose chunk is made now, or that was a reject and is to be tried again."""
        return record_of(row) is None or job.retry_rejects and was_rejected(row, key)

    may_go = was_rejected  # nothing was made of it
    return listing.compare(listing.read(path), listing.found(source, job.root, rule, listing.read(path)), may_change, may_go)


def _note(changes: Changes) -> str:
    """What is said of files that differ, but not in a way that matters."""
    touched = changes.in_words(TOUCHED)
    said = "; ".join([f"{touched}, taken for the same"] * bool(touched) + [changes.in_words(GONE)] * (GONE in changes.counts))
    if changes.accepted:
        said += "; " * bool(said) + f"{len(changes.accepted):,} changed files are embedded as they are now"
    return said


def _unlike(job: Job, plan: Plan, unlike: str) -> str:
    rejects = sum(record.rejects for number in range(len(plan.chunks)) if (record := plan.find_record(job.shards, number)))
    mended = " Files that were rejected and are mended: --retry-rejects." if rejects and not job.retry_rejects else ""
    return (
        f"{job.source}: the files are not those that {job.out} was made of: {unlike}. A set keeps the list that it began with: use another OUT for what "
        f"lies there now, or --no-relist to go on with the list as it was.{mended}"
    )


def why(job: Job, records: Iterable[Record], told: str = "") -> str:
    """Why images of these chunks were rejected, in groups. told: what was said of them before, which is not repeated."""
    ledgers = (read_ledger(job.shards / record.ledger) for record in records if record.rejects)
    return in_words(grouped((reject.key, reason_in_ledger(reject.reason)) for ledger in ledgers for reject in ledger), told=told)


def has_rows(job: Job, plan: Plan) -> bool:
    """Whether a shard of OUT holds a labelled row, or cannot be asked."""
    for number in range(len(plan.chunks)):
        shard = _shard(job, plan, number)
        try:
            if is_there(shard) and FORMATS[plan.format].read_meta(shard).rows:
                return True
        except (DistillError, OSError):
            return True
    return False


def _forget(job: Job, plan: Plan, number: int) -> None:
    """Remove what a run left of a chunk of which it could label no row, and the index and its class table with it."""
    layout, chunk = plan.names, (number, len(plan.chunks))
    for name in (layout.index, layout.record(*chunk), layout.ledger(*chunk), _shard(job, plan, number).name, layout.classes):
        (job.shards / name).unlink(missing_ok=True)


def _shard(job: Job, plan: Plan, number: int) -> StoragePath:
    return shard_path(job.shards, plan.format, number, len(plan.chunks))


def keep(job: Job, plan: Plan) -> None:
    """Write a plan that has other views than the one in OUT, before the first of them is labelled."""
    path = job.folder / "plan.json"
    if plan != Plan.load(path):
        plan.save(path)


def check_pixels(job: Job) -> None:
    """DistillError where the set that stands in OUT was made of other pixels than would be made here: its new rows would not fit the old ones,
    and its new index would say that all is well."""
    index = find_index(job.shards)
    if index is None:
        return
    try:
        shards = read_index(index)
    except Damaged:
        return  # it has to be written anew
    check_golden(job.shards, shards.golden, shards.meta)


def _labelled_views(job: Job, plan: Plan) -> Plan:
    """The plan without added views that no shard has yet."""
    if plan.meta.views == plan.first_views:
        return plan
    most = plan.first_views
    for number in range(len(plan.chunks)):
        try:
            most = max(most, FORMATS[plan.format].read_meta(_shard(job, plan, number)).views)
        except FileNotFoundError:
            continue
        except Damaged:  # nobody knows
            return plan
        if most >= plan.meta.views:
            return plan
    meta = replace(plan.meta, views=most)
    if most == 1:
        made = {name: version for name, version in meta.software.items() if name not in software()}
        meta = replace(meta, recipe=RECIPES["none"], view_seed=0, software=made)
    return replace(plan, meta=meta)


def _widened(job: Job, meta: ShardMeta, plan: Plan) -> tuple[Plan, ShardMeta]:
    """The plan with the views that the job adds, if nothing but views is missing in it, and the metadata that the job asks for."""
    recipe, seed = job.recipe, job.view_seed
    if plan.meta.views > 1:
        recipe, seed = recipe or plan.meta.recipe, seed or plan.meta.view_seed
    if plan.first_views + job.add_views > MAX_VIEWS:
        raise DistillError(
            f"{job.out}: {plan.first_views} views and --add-views {job.add_views} are more than {MAX_VIEWS}. Add {MAX_VIEWS - plan.first_views} at most."
        )
    asked = with_views(meta, plan.first_views + job.add_views, recipe or RECIPES["face"], seed)
    if asked.views < plan.meta.views:
        raise DistillError(
            f"{job.out} has {plan.meta.views} views and was first made with {plan.first_views}; --add-views {job.add_views} would be fewer. "
            f"To add more: --add-views {plan.meta.views - plan.first_views + 1} or above, counted from those that it was first made with."
        )
    return (replace(plan, meta=asked) if fewer_views(asked, plan.meta) else plan), asked


def _differences(job: Job, meta: ShardMeta, plan: Plan) -> list[str]:
    """What a job asks for that its plan does not say. The list itself is not read again: its name and the hash of its file stand for it."""
    source = place(job.source).resolve()
    asked = {"format": job.format, "batch": job.batch, **_told(meta)}
    there = {"format": plan.format, "batch": plan.batch, **_told(plan.meta)}
    found = []
    if is_chunk_folder(source):
        if tuple(read_chunk(chunk).sha256 for chunk in list_chunks(source)) != plan.chunks:
            found.append(f"chunks: those in {source} are not the plan's")
    elif str(source) != plan.source:
        found.append(f"its SOURCE was {plan.source}, and {source} was asked for (where that is the same list at another place, give {job.chunks} as SOURCE)")
    elif _source_sha256(source) != plan.source_sha256:
        found.append(f"source: the list {source} has changed since the plan was made")
    elif job.rows != plan.chunk_rows:
        found.append(f"rows: {plan.chunk_rows} there, {job.rows} asked for")
    if not is_chunk_folder(source):
        rule = plan.rule or Rule(job.all_files)  # a plan of an earlier version goes on by its rule; the other options there were not
        asked |= asdict(job.rule)
        there |= asdict(rule)
    names = [name for name in {**there, **asked} if there.get(name) != asked.get(name)]
    return found + [f"{name}: {there.get(name)!r} there, {asked.get(name)!r} asked for" for name in names]


def _told(meta: ShardMeta) -> dict[str, Any]:
    """What decides the bytes of a set, by name; a recipe by its own, and each piece of software for itself. The version follows from the others."""
    told: dict[str, Any] = {**meta.fields(), "recipe": meta.recipe.name if meta.recipe.name in RECIPES else meta.recipe.as_dict()}
    del told["version"]
    software = told.pop("software")
    return {**told, **{f"software {name}": version for name, version in software.items()}}


def _source_sha256(source: StoragePath) -> str:
    """What shows that a list has changed: of a text list its bytes, of a file that holds images, which may have 100 GB, size and index."""
    if not source.is_file():
        return ""
    if not is_holder(source):
        return sha256_file(source)
    index = place(index_of(str(source))) if source.suffix.lower() == ".rec" else source.with_suffix(".idx")
    return f"{source.stat().st_size} bytes" + (f", index {sha256_file(index)}" if index.is_file() else "")


def _cut(job: Job, folder: StoragePath) -> dict[str, int]:
    """Put chunks into a folder, cut from the list, or copied where SOURCE is others than these; returns what the list passed over, by reason."""
    if not is_chunk_folder(job.source):
        with phase("cutting chunks"):
            return write_chunks(job.source, folder, job.rows, rule=job.rule, root=job.root).skipped
    if place(job.source).resolve() != folder.resolve():
        folder.mkdir(exist_ok=True)
        for path in (*list_chunks(job.source), place(job.source) / "classes.txt"):
            _copy(path, folder / path.name)
    return {}


@phase("looking at the first images")
def estimate(job: Job, plan: Plan, wanted: Iterable[int], note: str = "", chunks: StoragePath | None = None) -> list[int]:
    """The chunks that have to be made, and OUT/state/estimate.json for the launcher to show, with a note on the list.

    DistillError when what is to come cannot fit on the disk, or none of the images looked at can be embedded.
    """
    number = len(plan.chunks)
    todo = [chunk for chunk in wanted if standing(job, plan.format, plan.chunk_meta(chunk), plan.names) is None]
    sampled: list[tuple[str, int | None]] = []
    looked: list[str] = []
    rows = 0
    for place_of, chunk in enumerate(todo):
        keys = read_chunk((chunks or job.chunks) / chunk_name(chunk, number)).keys
        rows += len(keys)
        held = _held_bytes(job, plan, chunk)
        looked += [] if held else spread(keys, LOOKED * (place_of + 1) // len(todo) - LOOKED * place_of // len(todo))
        if len(sampled) < SAMPLE:
            sampled += [(keys[0], held)] if held else [(key, _size(job.root, key)) for key in keys[:: max(1, len(keys) // SAMPLE)]]
    sizes = [size for _, size in sampled if size is not None]
    if sampled and not sizes:
        raise DistillError(f"{job.root}: none of the {len(sampled)} files looked at is there, {sampled[0][0]!r} for one. {way_to(job.root, sampled[0][0])}")
    warning = _look(job, plan, looked) if looked else ""
    image = float(np.mean(sizes)) if sizes and plan.meta.images == "inline" else 32
    needed = int(rows * (plan.meta.embedding_bytes + image + 32))
    free = shutil.disk_usage(shards).free if isinstance(shards := job.shards, Path) else None
    leave_note(
        job,
        "estimate.json",
        {
            "rows": plan.rows,
            "chunks": number,
            "todo_chunks": len(todo),
            "todo_rows": rows,
            "bytes": needed,
            "free": free,
            "skipped": plan.skipped,
            "note": note,
            "warning": warning,
        },
    )
    if free is not None and needed > free:
        raise DistillError(
            f"{job.out}: about {needed / 1e9:.1f} GB are needed for {rows:,} rows, {free / 1e9:.1f} GB are free. Make room or use another OUT"
            + ("." if plan.meta.images == "path" else ", or leave the images out (--images path).")
        )
    return todo


def _look(job: Job, plan: Plan, keys: list[str]) -> str:
    """What is to be said of these images before any is labelled. DistillError where none of them can be, and none of the set was yet."""
    bad, pixels = look(job.root, keys, plan.meta.image)
    if not bad:
        bad = _unanswered(job, keys, pixels)
    if not bad:
        return ""
    said = in_words(grouped(bad))
    if len(bad) == len(keys) and job.max_rejects < 1 and not has_rows(job, plan):
        raise DistillError(f"{job.root}: none of the {len(keys)} images looked at can be embedded: {said}. Nothing was labelled.")
    if len(bad) <= job.max_rejects * len(keys):
        return ""
    return f"{len(bad)} of {len(keys)} images looked at cannot be embedded, --max-rejects allows {job.max_rejects:.4g} of all: {said}"


def _unanswered(job: Job, keys: list[str], pixels: np.ndarray) -> list[tuple[str, Reason]]:
    """(key, reason) of all images looked at, where the teacher answers none of some of them with numbers."""
    teacher = job.teacher.load()
    try:
        answers = teacher(pixels)
    except DistillError:
        return []  # so many at a time, or at all: the trial of the teacher tells which
    if np.isfinite(answers).all(axis=1).any():
        return []
    return [(key, Reason("the teacher's embedding is not finite", "answer")) for key in keys]


def _held_bytes(job: Job, plan: Plan, chunk: int) -> int:
    """Bytes of an image in the shard that is taken over, and that needs no file therefore; 0 where files are read."""
    there = taken_over(job, plan.format, plan.chunk_meta(chunk)) if plan.meta.images == "inline" else None
    if there is None or not there.rows:
        return 0
    return max(1, _shard(job, plan, chunk).stat().st_size // there.rows - there.embedding_bytes)


def _size(root: str, key: str) -> int | None:
    try:
        return os.stat(os.path.join(root, key)).st_size if not is_remote(root) and not is_holder(root) else len(read_bytes(root, key))
    except (FileNotFoundError, NotADirectoryError, PermissionError, BadImage):
        return None
