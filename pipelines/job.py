"""What is asked for: a Job, which crosses to every worker. Threads of this process learn here that their run was broken off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from distill.data.archives.archive import is_archive
from distill.data.folders import check_apart, check_folder
from distill.data.kinds import is_chunk_folder
from distill.data.layout import UNDERSCORE, Layout
from distill.data.lists.image_list import Rule, check_source
from distill.data.shards import FORMATS, ShardMeta
from distill.data.shards.plan import Plan
from distill.data.shards.rows import DTYPES, MAX_VIEWS
from distill.data.shards.run_state import Phase, RunState
from distill.errors import DistillError
from distill.images.augmentation import RECIPES, Recipe
from distill.images.spec import EXIF, RESIZE, ImageSpec
from distill.runtime.progress import watched
from distill.storage.path import StoragePath, as_path
from teachers import Teacher

CHOICES = {"format": tuple(FORMATS), "dtype": tuple(DTYPES), "images": ("inline", "path"), "resize": RESIZE, "exif": EXIF}


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
        self._check_views()
        if not 0 <= self.max_rejects <= 1:
            raise DistillError(f"--max-rejects {self.max_rejects}: expected a fraction of all rows, from 0 to 1.")

    def _check_views(self) -> None:
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

    def check_paths(self) -> None:
        """DistillError where SOURCE or the root is not there. Apart from the other checks, because it may ask an object store."""
        check_source(as_path(self.source))
        if (self.strip_prefix or self.label_from) and is_chunk_folder(self.source):
            option = "--strip-prefix" if self.strip_prefix else "--label-from"
            raise DistillError(
                f"{self.source} holds chunks, whose keys and labels stand, so {option} would change nothing. Leave it out, or name the text list."
            )
        if not as_path(self.root).is_dir() and not is_archive(self.root):
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
        return as_path(self.out)

    @property
    def chunks(self) -> StoragePath:
        return self.folder / "chunks"

    @property
    def shards(self) -> StoragePath:
        return self.folder / "shards"

    @property
    def state(self) -> StoragePath:
        return self.folder / "state"

    @property
    def notes(self) -> RunState:
        """What the steps of a run leave for its launcher."""
        return RunState(self.state)


_broken_off: set[str] = set()  # OUTs whose run was broken off in this process; its threads may still work


def break_off(job: Job) -> None:
    """Let the threads of this process that work for this OUT stop at their next batch."""
    _broken_off.add(job.out)


def go_on(job: Job) -> None:
    """A new run may work for this OUT."""
    _broken_off.discard(job.out)


def is_broken_off(job: Job) -> bool:
    return job.out in _broken_off


@contextmanager
def phases_noted(job: Job) -> Iterator[None]:
    """The launcher sees the phases of the block."""
    with watched(lambda text: job.notes.write(Phase(text))):
        yield


@dataclass(frozen=True)
class Task:
    """One element: label the chunk of `meta` as the plan says. It holds nothing of the other chunks: a set may have thousands."""

    job: Job
    format: str
    batch: int
    meta: ShardMeta
    layout: Layout = UNDERSCORE

    @classmethod
    def of(cls, job: Job, plan: Plan, number: int) -> Task:
        return cls(job, plan.format, plan.batch, plan.chunk_meta(number), plan.names)
