"""What every shard of a set says of itself, from a job and its teacher."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version

from distill.data.shards import ShardMeta
from distill.errors import DistillError
from distill.images.augmentation import RECIPES, Recipe
from distill.images.views import check_size, software
from pipelines.job import Job

SOFTWARE = ("tensorflow", "numpy", "simplejpeg", "pillow", "pyarrow", "h5py")


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
