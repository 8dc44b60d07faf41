"""Makes the plan of OUT, or agrees on the one that is there. One folder holds one plan; a job that asks for something else is refused."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from distill.data.archives.archive import index_of, is_archive
from distill.data.chunks import list_chunks, read_chunk, read_classes, stated_sha256, write_chunks
from distill.data.folders import remove_own
from distill.data.kinds import CHUNKS, is_chunk_folder
from distill.data.layout import UNDERSCORE, Layout, layout_in
from distill.data.lists import listing
from distill.data.lists.image_list import Rule
from distill.data.lists.listing import ADDED, REMOVED, RESIZED, Changes
from distill.data.shards import FORMATS, ShardMeta
from distill.data.shards.plan import Plan
from distill.data.shards.rows import MAX_VIEWS
from distill.errors import Damaged, DistillError
from distill.images.augmentation import RECIPES
from distill.images.views import software
from distill.runtime.progress import phase
from distill.storage.files import committed, is_there, sha256_file, temporary_for
from distill.storage.path import StoragePath, as_path
from pipelines.job import Job
from pipelines.metadata import fewer_views, with_views
from pipelines.relisting import find_changes, note_on, refusal
from pipelines.reuse import has_rows


def resolve_plan(job: Job, meta: ShardMeta, accept: Callable[[Plan, StoragePath], None] = lambda plan, chunks: None) -> tuple[Plan, str]:
    """The plan of OUT: made now, or the one that is there if it agrees with this job; else an error that names both sides. And a note, or "".

    A plan under which nothing was labelled yet, such as a dry run leaves, gives way to another wish, and so do added views that no shard has
    yet. One that changes by added views is not written here: see `save_plan`.

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
        changes = Changes() if differing else find_changes(job, plan)
        unlike = changes.in_words(ADDED, REMOVED, RESIZED)
        if not differing and not unlike:
            if changes.accepted and not job.dry_run:
                listing.update(job.chunks / listing.LISTING, changes.accepted)
            return plan, note_on(changes)
        if unlike and labelled:
            raise DistillError(refusal(job, plan, unlike))
        if labelled and plan.imported:
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


def save_plan(job: Job, plan: Plan) -> None:
    """Write a plan that has other views than the one in OUT, before the first of them is labelled."""
    path = job.folder / "plan.json"
    if plan != Plan.load(path):
        plan.save(path)


def _anew(job: Job, meta: ShardMeta, old: Plan, accept: Callable[[Plan, StoragePath], None]) -> Plan:
    """Replaces a plan under which nothing was labelled, and its chunks. What can refuse the new one does so before anything of the old one goes.

    plan.json is replaced last and in one rename, so that OUT has a plan whenever this is killed; `_has_chunks` then tells that it is not whole.
    """
    _check_no_views_added(job)
    own = as_path(job.source).resolve() == job.chunks.resolve()  # SOURCE itself: they stay, perhaps the only copy of the list
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
    source = as_path(job.source).resolve()
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
        return tuple(map(stated_sha256, list_chunks(job.chunks))) == plan.chunks
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


def _forget(job: Job, plan: Plan, number: int) -> None:
    """Remove what a run left of a chunk of which it could label no row, and the index and its class table with it."""
    layout, chunk = plan.names, (number, len(plan.chunks))
    for name in (layout.index, layout.record(*chunk), layout.ledger(*chunk), plan.shard_path(job.shards, number).name, layout.classes):
        (job.shards / name).unlink(missing_ok=True)


def _labelled_views(job: Job, plan: Plan) -> Plan:
    """The plan without added views that no shard has yet."""
    if plan.meta.views == plan.first_views:
        return plan
    most = plan.first_views
    for number in range(len(plan.chunks)):
        try:
            most = max(most, FORMATS[plan.format].read_meta(plan.shard_path(job.shards, number)).views)
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
    source = as_path(job.source).resolve()
    asked = {"format": job.format, "batch": job.batch, **_compared(meta)}
    there = {"format": plan.format, "batch": plan.batch, **_compared(plan.meta)}
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


def _compared(meta: ShardMeta) -> dict[str, Any]:
    """What decides the bytes of a set, by name; a recipe by its own, and each piece of software for itself. The version follows from the others."""
    compared: dict[str, Any] = {**meta.fields(), "recipe": meta.recipe.name if meta.recipe.name in RECIPES else meta.recipe.as_dict()}
    del compared["version"]
    software = compared.pop("software")
    return {**compared, **{f"software {name}": version for name, version in software.items()}}


def _source_sha256(source: StoragePath) -> str:
    """What shows that a list has changed: of a text list its bytes, of a file that holds images, which may have 100 GB, size and index."""
    if not source.is_file():
        return ""
    if not is_archive(source):
        return sha256_file(source)
    index = as_path(index_of(str(source))) if source.suffix.lower() == ".rec" else source.with_suffix(".idx")
    return f"{source.stat().st_size} bytes" + (f", index {sha256_file(index)}" if index.is_file() else "")


def _cut(job: Job, folder: StoragePath) -> dict[str, int]:
    """Put chunks into a folder, cut from the list, or copied where SOURCE is others than these; returns what the list passed over, by reason."""
    if not is_chunk_folder(job.source):
        with phase("cutting chunks"):
            return write_chunks(job.source, folder, job.rows, rule=job.rule, root=job.root).skipped
    if as_path(job.source).resolve() != folder.resolve():
        folder.mkdir(exist_ok=True)
        for path in (*list_chunks(job.source), as_path(job.source) / "classes.txt"):
            _copy(path, folder / path.name)
    return {}
