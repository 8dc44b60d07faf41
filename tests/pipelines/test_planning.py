"""A plan gives way to another wish only when nothing was labelled under it, and a run that is refused takes nothing away."""

import os
import shutil
from dataclasses import replace

import pytest

from distill import DistillError
from distill.data.chunks import read_chunk, write_chunks
from distill.data.shards.plan import Plan
from distill.data.shards.rows import ShardMeta
from distill.images.preprocessing import Preprocessing
from distill.images.spec import ImageSpec
from pipelines import planning
from pipelines.job import Job
from pipelines.planning import resolve_plan
from teachers import Teacher

META = ShardMeta(chunk=-1, of=0, chunk_sha256="", dimension=4, dtype="float16", teacher="t", reading=Preprocessing(), image=ImageSpec(8, 8))
FLOAT = replace(META, dtype="float32")


@pytest.fixture
def job(tmp_path):
    """A set of five rows in three chunks of which nothing is labelled yet."""
    (tmp_path / "root").mkdir()
    (tmp_path / "list.txt").write_text("".join(f"a/{number}.jpg\n" for number in range(5)))
    job = Job(source=str(tmp_path / "list.txt"), out=str(tmp_path / "out"), root=str(tmp_path / "root"), teacher=Teacher("x.onnx", "onnx"), rows=2)
    resolve_plan(job, META)
    return job


def kept(job):
    return {path.relative_to(job.folder).as_posix(): path.read_bytes() for path in job.folder.rglob("*") if path.is_file()}


def keys(job):
    return [key for path in sorted(job.chunks.glob("*.parquet")) for key in read_chunk(path).keys]


def test_the_chunks_of_a_set_as_source_stay_where_they_may_be_the_only_copy(job):
    os.remove(job.source)
    before = kept(job)
    made, _ = resolve_plan(replace(job, source=str(job.chunks), dtype="float32"), FLOAT)
    after = kept(job)
    assert made.meta.dtype == "float32" and len(keys(job)) == 5 and before.pop("plan.json") != after.pop("plan.json") and before == after
    (job.folder.parent / "other.txt").write_text("b/1.jpg\n")
    with pytest.raises(DistillError, match="was SOURCE of this set and holds another list than .*other.txt; it is left alone"):
        resolve_plan(replace(job, source=str(job.folder.parent / "other.txt")), META)
    assert len(keys(job)) == 5


@pytest.mark.parametrize("wrong", ["twice", "missing", "empty", "views", "chunks"])
def test_a_wish_that_is_refused_leaves_plan_and_chunks(job, wrong, tmp_path):
    other = tmp_path / "other.txt"
    if wrong == "chunks":
        write_chunks(job.source, tmp_path / "cut", 1)
        (tmp_path / "cut" / "00003-of-00005.parquet").write_bytes(b"PAR1 and no more")
        other = tmp_path / "cut"
    elif wrong != "missing":
        other.write_text({"twice": "a/1.jpg\na/1.jpg\n", "empty": "", "views": "a/1.jpg\n"}[wrong])
    before = kept(job)
    with pytest.raises((DistillError, OSError)):
        resolve_plan(replace(job, source=str(other), add_views=3 if wrong == "views" else 0), META)
    assert kept(job) == before


def test_a_plan_that_is_not_accepted_leaves_the_one_before(job, tmp_path):
    (tmp_path / "other.txt").write_text("b/1.jpg\n")
    before = kept(job)

    def accept(made, chunks):
        assert [key for path in chunks.glob("*.parquet") for key in read_chunk(path).keys] == ["b/1.jpg"] and made.rows == 1
        raise DistillError("none can be labelled")

    with pytest.raises(DistillError, match="none can be labelled"):
        resolve_plan(replace(job, source=str(tmp_path / "other.txt")), META, accept)
    assert kept(job) == before


def test_another_list_takes_its_place(job, tmp_path):
    (job.chunks / "notes.md").write_text("mine")
    write_chunks(job.source, tmp_path / "cut", 1)
    made, _ = resolve_plan(replace(job, source=str(tmp_path / "cut")), META)
    assert len(made.chunks) == 5 and len(keys(job)) == 5
    (tmp_path / "list.txt").write_text("b/1.jpg\nb/2.jpg\n")
    assert len(resolve_plan(job, META)[0].chunks) == 1 and keys(job) == ["b/1.jpg", "b/2.jpg"]
    assert (job.chunks / "notes.md").read_text() == "mine" and not [path for path in job.folder.iterdir() if path.name.startswith(".")]


STEPS = ("_forget", "remove_own", "_move_in", "save")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("then", ["the new", "the old"])
def test_killed_while_one_plan_gives_way_to_another(job, step, then, tmp_path, monkeypatch):
    """Before each step; then either wish is made whole."""
    (tmp_path / "new.txt").write_text("b/1.jpg\nb/2.jpg\nb/3.jpg\n")
    new = replace(job, source=str(tmp_path / "new.txt"))

    def dies(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Plan if step == "save" else planning, step, dies)
        resolve_plan(new, META)
    wish = new if then == "the new" else job
    made, _ = resolve_plan(wish, META)
    assert keys(job) == [f"b/{number}.jpg" for number in (1, 2, 3)] if wish is new else [f"a/{number}.jpg" for number in range(5)]
    assert planning._has_chunks(job, made) and resolve_plan(wish, META)[0] == made == Plan.load(job.folder / "plan.json")


def test_chunks_that_are_gone_are_cut_again(job):
    shutil.rmtree(job.chunks)
    resolve_plan(job, META)
    assert len(keys(job)) == 5
