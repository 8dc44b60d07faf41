"""What each stage of a run learns from: its sources opened, checked against the terms and against one another, before the first step."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from distill.config.losses import Head
from distill.config.run import Run
from distill.config.stage import Balanced, ImagesStage, NoiseStage, ShardsStage, Stage
from distill.errors import DistillError
from distill.images.preprocessing import Preprocessing
from distill.runtime.progress import phase
from distill.training.batches import Batch, join_small, joined_rows, smallest

Teacher = Callable[[np.ndarray], np.ndarray]
OpenTeacher = Callable[..., Teacher]  # of a path, its Preprocessing, and `beside`: whether a model.json says what that leaves open


@dataclass(frozen=True)
class StageData:
    """A stage with its opened sources. fields: those of a batch that its terms need; held_out_fields: those that held-out rows are evaluated by;
    not_evaluated: why by none, where rows are held out."""

    number: int
    stage: Stage
    train: Any
    held_out: Any | None
    fields: tuple[str, ...]
    held_out_fields: tuple[str, ...]
    not_evaluated: str = ""

    @property
    def name(self) -> str:
        return self.train.name

    @property
    def table(self) -> str:
        """The name of its class table."""
        return f"{self.train.name}_{self.train.classes}"

    @property
    def heads(self) -> dict[Head, str]:
        """The heads that its terms look at, each with a name under which stages on the same classes share it."""
        heads = [term.head for term in self.stage.terms if term.head]
        return {head: self.table if head == Head() else f"{self.table}_{head.name}" for head in heads}

    @property
    def joined(self) -> int:
        """Rows of a last batch that comes with the one before."""
        return joined_rows(self.train)

    @property
    def steps(self) -> int:
        """Steps of an epoch as it is trained."""
        return self.train.steps - bool(self.joined)

    def epoch(self, number: int) -> Generator[Batch, None, None]:
        """Yields the batches of an epoch as it is trained, with small ones joined."""
        yield from join_small(self.train.epoch(number), self.steps, smallest(self.train))

    def epoch_images(self, number: int) -> Generator[np.ndarray, None, None]:
        """Yields the images of the same batches alone, for which no teacher is asked."""
        alone: Iterator[Batch] = ((images, {}) for images in self.train.epoch_images(number))
        yield from (images for images, _ in join_small(alone, self.steps, smallest(self.train)))


Opened = tuple[Any, Any | None]  # the rows to learn from, and those held out where [data] has a holdout


def _open_shards(run: Run, stage: ShardsStage, open_teacher: OpenTeacher | None) -> Opened:
    return _parted(_shards(run, _part(run), stage.balanced), run)


def _shards(run: Run, part: str, balanced: Balanced | None = None) -> Any:
    from distill.data.sources import ShardSource

    return ShardSource(str(run.data.shards), part=part, holdout=run.data.holdout, views=run.data.views, balanced=balanced, **_common(run))


def _part(run: Run) -> str:
    return "train" if run.data.holdout else "all"


def _parted(taught: Any, run: Run) -> Opened:
    return taught, taught.other("held_out") if run.data.holdout else None


def _size(run: Run) -> tuple[int, int]:
    """Height and width of images, where [data] does not say them those of its shards."""
    from distill.data.shards import open_shards

    if run.data.size:
        return run.data.size
    image = open_shards(str(run.data.shards)).image
    return image.height, image.width


def _common(run: Run) -> dict[str, Any]:
    from distill.images.augmentation import find_recipe

    data = run.data
    return {
        "batch": data.batch,
        "seed": run.seed,
        "root": data.root,
        "threads": data.threads,
        "augment": find_recipe(data.augment) if isinstance(data.augment, str) else data.augment,
    }


def _open_images(run: Run, stage: ImagesStage, open_teacher: OpenTeacher | None) -> Opened:
    from distill.data.lists.image_list import Rule
    from distill.data.sources import ImageSource

    data = run.data
    rule = Rule(data.all_files, data.strip_prefix or "", data.label_from or "")
    images = ImageSource(
        str(data.images),
        size=_size(run),
        resize=data.resize,
        exif=data.exif,
        part=_part(run),
        holdout=data.holdout,
        max_rejects=data.max_rejects,
        rule=rule,
        balanced=stage.balanced,
        **_common(run),
    )
    images.look_first()
    return _parted(images, run)


def _open_noise(run: Run, stage: NoiseStage, open_teacher: OpenTeacher | None) -> Opened:
    from distill.data.sources import NoiseSource

    if open_teacher is None:
        raise DistillError('source "noise" asks a teacher, but train() was called without open_teacher.')
    teacher = open_teacher(stage.teacher, stage.reading or Preprocessing())
    noise = NoiseSource(teacher, size=_size(run), batch=run.data.batch, steps=stage.steps, seed=run.seed)
    # what counts is how the student does on real images
    return noise, _shards(run, "held_out") if run.data.shards and run.data.holdout else None


SOURCES: dict[str, Callable[[Run, Any, OpenTeacher | None], Opened]] = {"shards": _open_shards, "images": _open_images, "noise": _open_noise}
OPENING = {"shards": "reading shards", "images": "reading the list of images", "noise": "loading the teacher"}

TEACHABLE = {  # what a term needs of its field
    "label": "It needs two classes or more to learn from, and in one of them two rows.",
    "embedding": "Ask the teacher as it wants to be asked (scale, offset, colour order), or another one.",
}


def open_stages(run: Run, open_teacher: OpenTeacher | None = None) -> list[StageData]:
    """Open the sources of all stages, each once, and check that they fit the terms and one another."""
    opened: dict[Any, Opened] = {}
    stages = []
    for number, stage in enumerate(run.stage, 1):
        key = stage.rows
        if key not in opened:
            with phase(OPENING[stage.source]):
                opened[key] = SOURCES[stage.source](run, stage, open_teacher)
        taught, held_out = opened[key]
        _check_terms(run, number, stage, taught)
        stages.append(_stage_data(run, number, stage, taught, held_out))
        for table in (stage.schedule, stage.optimizer):
            if reason := table.too_long(stage.epochs, stages[-1].steps):
                raise DistillError(f"stage {number}: {reason}")
    shapes = {data.train.image_shape: data.number for data in stages}
    if len(shapes) > 1:
        found = ", ".join(f"stage {number} {shape[0]}x{shape[1]}" for shape, number in shapes.items())
        raise DistillError(f"one student takes images of one size, but the sources give: {found}. Use stages of one size.")
    return stages


def _check_terms(run: Run, number: int, stage: Stage, taught: Any) -> None:
    """DistillError where a term has nothing to learn from."""
    gives = ", ".join(taught.fields)
    for term, needs in ((each, needs) for each in stage.terms for needs in each.fields):
        if needs not in taught.fields:
            why = f' with centres = "{term.head.centres}"' if term.head and term.head.taught else ""
            raise DistillError(f'stage {number}: term "{term.name}"{why} needs "{needs}", but source "{stage.source}" gives: {gives}.')
        if reason := taught.teaches_nothing(needs):
            where = stage.teacher if isinstance(stage, NoiseStage) else getattr(run.data, stage.source)
            raise DistillError(f'stage {number}: term "{term.name}" cannot learn from {where}: {reason}. {TEACHABLE[needs]}')
    if stage.metrics and "embedding" not in taught.fields:
        raise DistillError(f'stage {number}: metrics = {list(stage.metrics)} compare embeddings, but source "{stage.source}" gives: {gives}.')


def _stage_data(run: Run, number: int, stage: Stage, taught: Any, held_out: Any | None) -> StageData:
    needed = {name for term in stage.terms for name in term.fields} | ({"embedding"} if stage.metrics else set())
    fields = tuple(name for name in taught.fields if name in needed)
    evaluated, not_evaluated = _evaluated(run, stage, taught, held_out, fields)
    return StageData(number, stage, taught, held_out if evaluated else None, fields, evaluated, not_evaluated)


def _evaluated(run: Run, stage: Stage, taught: Any, held_out: Any | None, fields: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """The fields that held-out rows can be evaluated by, and where there are none, why."""
    if run.data.holdout is None:
        return (), ""
    if held_out is None:
        return (), "[data] names no shards, and noise has no rows to hold out"
    if held_out.image_shape != taught.image_shape:
        there, here = (f"{source.image_shape[0]}x{source.image_shape[1]}" for source in (held_out, taught))
        return (), f"their images are {there}, those of this stage are {here}"
    evaluated, not_evaluated = tuple(name for name in fields if name in held_out.fields), ""
    if run.data.holdout.by == "identity":
        evaluated = tuple(name for name in evaluated if name != "label")
        not_evaluated = "their identities have no trained class, and this stage has no term on embeddings alone"
    if "embedding" in evaluated and held_out.dimension != taught.dimension:
        evaluated = tuple(name for name in evaluated if name != "embedding")
        not_evaluated = f"their embeddings have {held_out.dimension} numbers, those of this stage's teacher have {taught.dimension}"
    if not any({*term.fields} <= {*evaluated} for term in stage.terms):  # a loss without a term would say nothing
        evaluated = ()
    return evaluated, "" if evaluated else not_evaluated


def identities(stages: list[StageData]) -> dict[str, str]:
    """The identity of all files that a run learns from or is evaluated on, by the name of their source."""
    sources = [source for data in stages for source in (data.train, data.held_out) if source]
    return {source.name: identity for source in sources if (identity := source.identity())}


@phase("embedding golden rows again")
def prove_teacher(run: Run, open_teacher: OpenTeacher | None) -> list[str]:
    """Label the golden rows of the shards again where [data] names their teacher; what was found, in words. DistillError where it differs."""
    if run.data.teacher is None:
        return []
    from distill.data.shards import open_shards
    from distill.data.shards.golden import SAME, worst_answer
    from distill.data.shards.rows import UNKNOWN

    if open_teacher is None:
        raise DistillError("[data] names a teacher, but train() was called without open_teacher.")
    shards = open_shards(str(run.data.shards))
    if not shards.golden:
        raise DistillError(f"{shards.folder} has no golden rows, so its teacher cannot be compared. Leave teacher out of [data], or run distill embed again.")
    worst = worst_answer(shards.golden, shards.meta, open_teacher(run.data.teacher, shards.meta.reading, beside=shards.meta.teacher == UNKNOWN))
    if worst < SAME:
        raise DistillError(
            f"{run.data.teacher} answers the golden rows of {shards.folder} otherwise than they are stored: cosine {worst:.4f}, expected {SAME} or more. "
            "It is another teacher, or decoder, scale or colour order differ. Name the teacher that made the set, or embed it again."
        )
    each = f", {shards.meta.views} views each" if shards.meta.views > 1 else ""
    return [f"{len(shards.golden)} golden rows{each} labelled again by {run.data.teacher}: worst cosine {worst:.7f}"]
