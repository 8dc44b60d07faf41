"""A trained student as a file that others load. An export has its final name only after it was loaded again and gave the student's embeddings.

SavedModel, four signatures, each returns {"output": float32 [N, D]}:

- `serving_default`: float32 [N, H, W, 3], RGB, 0 to 255
- `uint8`: uint8 [N, H, W, 3], the same image
- `normalized`: as `serving_default`, with embeddings of length 1
- `encoded`: string [N], the bytes of a JPEG or PNG of exactly H x W; decoded in the graph to the pixels that `distill.images.codec` gives
  (byte-equal on baseline, progressive, grey and CMYK JPEG of every subsampling, on PNG of 1 to 16 bits, palette and alpha)

In Python, `tf.saved_model.load(EXPORT).signatures` lists the first alone, so that `tf.lite.TFLiteConverter.from_saved_model(EXPORT)` converts that one; the
others are functions of what is loaded: `loaded.uint8(images)`. TensorFlow Serving and saved_model_cli know all four.

`saved_model` writes it in a process of its own. `assets.extra/distill.json`, which every loader ignores, is the card of the export; by it a later
export knows what it may replace.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from distill import __version__
from distill.data.folders import check_local, make_folder, no_model, strangers
from distill.data.kinds import CARD, EXPORT, read_card
from distill.data.names import SYSTEM
from distill.errors import DistillError
from distill.runtime.progress import phase
from distill.storage.files import sha256_file, sweep, temporary_for
from distill.storage.json_files import write_json
from distill.storage.path import StoragePath, as_path, close_to, local_copy


def export(student: str | StoragePath, out: str | StoragePath, format: str = "saved_model", *, force: bool = False) -> dict[str, Any]:
    """Exports a run folder or a `.keras` file; returns the card of the export, with its path and its bytes on disk.

    `force` replaces an earlier export at `out`, and never anything else; without it `out` must be missing or an empty folder.
    Raises DistillError when the student cannot be exported or its export gives other embeddings; `out` is then as it was. After a kill at
    any moment, the earlier export or the new one is whole, under its name or beside it, and the next export moves it back.
    """
    if format not in FORMATS:
        raise DistillError(f"export format {format!r} is unknown. Expected one of: {', '.join(FORMATS)}.")
    file = student_file(student)
    from distill.training.origin import origin_of

    origin = origin_of(student)
    learned_from = origin.as_card() if origin.known else None
    return FORMATS[format](file, check_local(out, "export"), force=force, teacher=_teacher_of(as_path(student)), learned_from=learned_from)


def student_file(student: str | StoragePath) -> Path:
    """Returns the `.keras` file of a run folder, or the file itself."""
    path = folder = as_path(student)
    expected = "Expected a .keras file, or the folder of a finished run, which holds student.keras."
    if path.is_dir():
        path = folder / "student.keras"
    if not path.is_file():
        if message := no_model(folder, "distill export {} OUT"):
            raise DistillError(message)
        if read_card(folder) is not None:
            raise DistillError(f"{folder} is an export already: a SavedModel to ship as it is. {expected}")
        if folder.is_dir():
            raise DistillError(f"{folder} is a folder without student.keras. {expected}")
        raise DistillError(f"{folder}: nothing is there.{close_to(folder)} {expected}")
    return local_copy(str(path))


def _teacher_of(run: StoragePath) -> str | None:
    """Returns the fingerprint of the teacher of a run's shards; None for a bare file, or where the shards are gone."""
    from distill.config.files import load_run
    from distill.data.shards import open_shards

    try:
        shards = load_run(run / "run.toml").data.shards
        return open_shards(shards).meta.teacher if shards else None
    except (DistillError, OSError):
        return None


def export_saved_model(
    keras_file: str | Path, out: str | Path, *, force: bool = False, teacher: str | None = None, learned_from: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Writes one `.keras` file as a SavedModel folder; see `export`. Takes about 15 s, most of it the start of TensorFlow.

    teacher: fingerprint for the card; learned_from: the rows on the card (`Origin.as_card`).
    Exporting the same file again gives equal bytes but for `fingerprint.pb`, TensorFlow's random id.
    """
    keras_file, out = Path(keras_file), Path(os.path.abspath(out))
    if not zipfile.is_zipfile(keras_file):
        raise DistillError(f"{keras_file} is no .keras file (which is a zip archive). Expected the student.keras of a run.")
    _tidy(out)
    _refuse_existing(out, force)
    made = make_folder(out.parent)
    temporary = temporary_for(out)
    try:
        facts = _in_own_process(keras_file, temporary)
        card: dict[str, Any] = {"made_by": f"distill {__version__}", "format": "saved_model", "student": sha256_file(keras_file), "teacher": teacher}
        card |= {"learned_from": learned_from} if learned_from else {}
        card |= facts
        (temporary / CARD).parent.mkdir(exist_ok=True)
        write_json(temporary / CARD, card)
        _put(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        made.give_back()
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    return {**card, "path": str(out), "bytes": size}


FORMATS: dict[str, Callable[..., dict[str, Any]]] = {"saved_model": export_saved_model}


def _refuse_existing(out: Path, force: bool) -> None:
    if not os.path.lexists(out) or (out.is_dir() and not out.is_symlink() and not any(out.iterdir())):
        return
    if out.is_symlink() or read_card(out) is None:
        raise DistillError(f"{out} exists and is no export of distill; it is left alone. Choose another name.")
    if not force:
        raise DistillError(f"{out} holds an earlier export. Choose another name, or say --force to replace it.")
    if os.path.lexists(_aside(out)):
        raise DistillError(f"{_aside(out)} has the name that the export in {out} takes while it is replaced, and is no part of one alone. Move it away.")
    if strange := strangers(out, EXPORT):
        names = ", ".join(strange[:3]) + (" ..." if len(strange) > 3 else "")
        raise DistillError(f"{out} holds an earlier export and what is no part of one ({names}); it is left alone. Move that away, or choose another name.")


def _aside(out: Path) -> Path:
    """Returns the name of an earlier export while it is replaced; not a temporary name, because `sweep` must never remove it."""
    return out.parent / f".{out.name}.earlier"


def _tidy(out: Path) -> None:
    """Repairs what a killed export left beside `out`: removes its temporaries, and moves the earlier export back or, where the new one is whole, removes it."""
    sweep(out.parent)
    earlier = _aside(out)
    if out.is_symlink() or read_card(earlier) is None:
        return
    if read_card(out) is None:
        with suppress(OSError):  # the name is taken since; that is refused next, and the earlier export stays where it is
            earlier.rename(out)
    else:
        _drop(earlier, out, temporary_for(out))


def _drop(earlier: Path, out: Path, temporary: Path) -> None:
    """Removes an earlier export, under a name that the next `sweep` would remove too. Files of the system in it move to `out` first; where
    anything else in it is no part of an export, it stays."""
    for left in list(earlier.iterdir()):
        if SYSTEM.fullmatch(left.name) and not os.path.lexists(out / left.name):
            left.rename(out / left.name)
    if all(EXPORT.fullmatch(path.relative_to(earlier).as_posix()) for path in earlier.rglob("*")):
        earlier.rename(temporary)
        shutil.rmtree(temporary, ignore_errors=True)


def _put(temporary: Path, out: Path) -> None:
    """Renames the finished folder to `out`. An earlier export is moved aside first and back when the rename fails; see `_tidy` for a kill."""
    if not out.exists() or not any(out.iterdir()):
        temporary.rename(out)  # POSIX renames over an empty folder
        return
    earlier = _aside(out)
    out.rename(earlier)
    try:
        temporary.rename(out)
    except OSError:
        earlier.rename(out)
        raise
    _drop(earlier, out, temporary)


def _in_own_process(keras_file: Path, folder: Path) -> dict[str, Any]:
    """Runs `saved_model` as a program; the last line of its output is one JSON object: the facts, or {"error": message}."""
    quiet = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "distill.exports.saved_model", str(keras_file.resolve()), str(folder)]
    with phase("writing the student and loading it again"):
        done = subprocess.run(command, env={**os.environ, **quiet}, capture_output=True, text=True, errors="replace")
    lines = done.stdout.strip().splitlines()
    try:
        answer = json.loads(lines[-1])
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise DistillError(f"{keras_file}: the export ended with code {done.returncode}: {last}") from None
    if "error" in answer:
        raise DistillError(f"{keras_file}: {answer['error']}")
    return answer
