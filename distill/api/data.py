"""Images, chunks and sets as functions: draw, cut, look at views, verify, open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from distill.api.given import Path, Size, describe_with, load_steady, recipe_of, size_of, text_of
from distill.arguments import checked
from distill.errors import Unfinished
from distill.results import ChunkResult, FacesResult, VerifyResult, ViewsResult
from distill.runtime.lines import many
from distill.storage.files import is_there
from distill.storage.path import StoragePath, as_path

if TYPE_CHECKING:
    from distill.data.shards import ShardSet
    from distill.images.augmentation import Recipe
    from teachers import Teacher


@checked
def draw_faces(out: Path, identities: int = 400, images: int = 20, size: int = 112, seed: int = 0, first: int = 0, *, progress: bool = True) -> FacesResult:
    """Draws identities as JPEGs in class folders, `out/id0000/000.jpg` and so on; the same arguments draw the same bytes.

    Args:
        images: of each identity.
        size: height and width of each picture, in pixels.
        first: number of the first identity; another number is another face.
    """
    from distill.data.folders import check_local
    from distill.runtime.progress import bar, shown
    from distill.synthetic.folder import draw_folder

    with shown(progress), bar("drawing", "identities") as tell:
        pictures = draw_folder(check_local(out, "drawing"), identities, images, size, seed, first, progress=tell)
    return FacesResult(text_of(out), pictures, identities, size)


@checked
def chunk(
    source: Path, out: Path, *, rows: int = 100_000, all_files: bool = False, strip_prefix: str = "", label_from: str = "", progress: bool = True
) -> ChunkResult:
    """Cuts an image list into chunk files of `rows` rows; `embed` does this by itself.

    Args:
        source: folder of class folders or of photos, text list, .rec or .tar.
    """
    from distill.data.chunks import write_chunks
    from distill.data.folders import check_apart, check_folder
    from distill.data.lists.image_list import Rule
    from distill.data.sources import root_of
    from distill.runtime.progress import bar, shown

    check_apart(text_of(source), text_of(out), "chunks")
    check_folder(as_path(out), "chunks")
    with shown(progress), bar("cutting chunks", "rows") as tell:
        made = write_chunks(text_of(source), as_path(out), rows, progress=tell, rule=Rule(all_files, strip_prefix, label_from))
    return ChunkResult(text_of(out), made.rows, len(made.classes), len(made.chunks), made.skipped, root_of(as_path(source)))


@checked
def verify(shards: Path, *, deep: bool = False, teacher: Path | None = None, sample: int = 64, root: Path | None = None, progress: bool = True) -> VerifyResult:
    """Checks that a set of shards is whole: counts and sizes, with `deep` all hashes and rows. `ok` and `failure` of the result say what was found.

    Args:
        shards: OUT of `embed`, or OUT/shards.
        teacher: the one that made the set; it labels `sample` rows again.
        root: where the images lie, for a set without them.

    Raises:
        DistillError: there is no set, or the teacher's answers depend on chance.
        Unfinished: the set was made by another teacher.
    """
    from distill.data.shards import open_shards
    from distill.data.shards.rows import UNKNOWN
    from distill.data.shards.verify import check_sample
    from distill.data.shards.verify import verify as check
    from distill.runtime.progress import bar, shown

    described = None
    if teacher is not None:
        meta = open_shards(shards).meta
        described = describe_with(teacher, meta.reading, beside=meta.teacher == UNKNOWN)
        if meta.teacher != UNKNOWN and described.fingerprint() != meta.teacher:
            other = described.fingerprint()[:12]
            raise Unfinished(f"{shards} was made by teacher {meta.teacher[:12]}, {teacher} is {other}. Name the teacher that made it.")
    with shown(progress), bar("verifying", "shards") as tell:
        found = check(as_path(shards), deep=deep, on_shard=tell)
    agreed = None
    if described and not found.problems:
        agreed = check_sample(as_path(shards), described.load(), number=sample, root=None if root is None else text_of(root))
    result = VerifyResult(text_of(shards), found.rows, found.rejects, found.shards, found.deep, found.problems, agreed)
    return replace(result, failure=_failure(result, described))


@checked
def draw_views(
    images: Sequence[Path],
    *,
    recipe: Path | Recipe = "face",
    out: Path = "views.png",
    number: int = 8,
    seed: int = 0,
    size: Size = (112, 112),
    exif: str = "ignore",
) -> ViewsResult:
    """Draws a contact sheet of views as a PNG: a row for each picture, `number` views of each, the picture as it is first.

    Args:
        size: (height, width) of each view; pictures are cropped to it.
    """
    from distill.data.folders import check_image_file
    from distill.images.codec import write_png
    from distill.images.views import contact_sheet

    found = recipe_of(recipe)
    check_image_file(as_path(out))
    tiles = contact_sheet([as_path(image) for image in images], size_of(size) or (112, 112), found, seed, number, exif)
    write_png(as_path(out), tiles, "distill views")
    return ViewsResult(text_of(out), len(images), number, found.name)


@checked
def open_shards(path: Path) -> ShardSet:
    """Opens a committed set: OUT of `embed`, OUT/shards or index.json itself. Reads the index alone."""
    from distill.data.shards import open_shards as opened

    return opened(path)


def _was_imported(shards: StoragePath) -> bool:
    """Whether the plan of a set says that no teacher of its own embedded it."""
    from distill.data.shards.plan import Plan

    plan = next((plan for folder in (shards, shards.parent) if is_there(plan := folder / "plan.json")), None)
    return plan is not None and Plan.load(plan).imported


def _failure(found: VerifyResult, teacher: Teacher | None) -> str:
    """Returns what is wrong with a set and the way out, "" where nothing is. DistillError where it is the teacher's fault."""
    from distill.data.shards import open_shards
    from distill.data.shards.golden import OTHER_PIXELS, SAME
    from distill.data.shards.verify import PIXELS

    if found.problems:
        again = " ".join(f"--only {number}" for number in sorted({number for number, _ in found.problems if number >= 0}))
        imported = "Put back whole copies of them, or move these shards elsewhere and run the same distill import again"
        anew = f"Put back whole copies of them, or make these chunks again from the images that are there: distill embed ... {again}"
        anew = imported if _was_imported(as_path(found.path)) else anew
        way_out = anew if again else "Run the command that made the set again: it writes the index anew."
        if any(number == PIXELS for number, _ in found.problems):
            way_out = OTHER_PIXELS
        return f"{found.path}: {many(len(found.problems), 'problems')}. {way_out}"
    if teacher and found.sample and (worst := found.sample["worst_cosine"]) < SAME:
        image = open_shards(found.path).meta.image
        load_steady(teacher, (image.height, image.width))
        return f"{found.path}: a stored embedding is not the teacher's answer (cosine {worst:.4f}). Decoder, scale or colour order differ."
    return ""
