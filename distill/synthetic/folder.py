"""Folders of drawn identities, as image files of a class folder each, for demo, tests and trials."""

import json
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from distill.data.folders import check_folder
from distill.errors import DistillError
from distill.images.codec import encode_jpeg
from distill.storage.files import sweep, temporary_for
from distill.storage.json_files import write_json
from distill.synthetic.faces import draw_face

RECIPE = ".drawing.json"  # in a drawn folder: the arguments that it was drawn with


def draw_folder(
    out: Path, identities: int = 400, images: int = 20, size: int = 112, seed: int = 0, first: int = 0, progress: Callable[[int, int], object] | None = None
) -> int:
    """Writes `out/id0000/000.jpg` and so on (JPEG, quality 95) and returns the number of images.

    Each file gets its name when it is whole; none is synced, and one that a power cut emptied is drawn again. The same arguments write
    the same bytes: a second run draws what is missing. From 2,000 images on, every core draws.
    `progress(done, of)` is called after each identity. Raises DistillError where `out` has images of another drawing.
    """
    if min(identities, images) < 1:
        raise DistillError(f"drawing needs at least one identity and one image; received {identities} identities, {images} images.")
    draw_face(first, 0, size, seed)  # arguments that cannot be drawn leave nothing behind
    check_folder(out, "drawing")
    _claim(out, {"identities": identities, "images": images, "size": size, "seed": seed, "first": first})
    tasks = [(out, first + row, images, size, seed) for row in range(identities)]
    cores = min(os.cpu_count() or 1, identities * images // 1000)  # a process takes half a second to start
    if cores < 2:
        for done, task in enumerate(tasks, 1):
            _draw_identity(task)
            if progress is not None:
                progress(done, identities)
        return identities * images
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
        for done, _ in enumerate(pool.map(_draw_identity, tasks, chunksize=8), 1):
            if progress is not None:
                progress(done, identities)
    return identities * images


def _claim(out: Path, wanted: dict[str, int]) -> None:
    """Makes `out` the folder of this drawing and writes its description before the first image. Raises DistillError where it is another's."""
    out.mkdir(parents=True, exist_ok=True)
    sweep(out)
    try:
        there = json.loads((out / RECIPE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        there = None
    if there == wanted:
        return
    if any(path.is_dir() and not path.name.startswith(".") for path in out.iterdir()):
        drawn = _words(there) if isinstance(there, dict) else "pictures of unknown origin"
        raise DistillError(f"{out} holds {drawn}; asked for: {_words(wanted)}. They would be mixed: use another folder, or remove this one.")
    write_json(out / RECIPE, wanted)


def _words(recipe: dict[str, int]) -> str:
    return "a drawing of " + ", ".join(f"{name} {value}" for name, value in recipe.items())


def _draw_identity(task: tuple[Path, int, int, int, int]) -> None:
    out, identity, images, size, seed = task
    folder = out / f"id{identity:04d}"
    folder.mkdir(exist_ok=True)
    sweep(folder)
    for number in range(images):
        path = folder / f"{number:03d}.jpg"
        if path.is_file() and path.stat().st_size:
            continue
        temporary = temporary_for(path)  # not `committed`: to sync thousands of small files takes longer than to draw them
        temporary.write_bytes(encode_jpeg(draw_face(identity, number, size, seed), quality=95))
        temporary.replace(path)
