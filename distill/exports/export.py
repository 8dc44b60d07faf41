"""A trained student as files that others load. An export has its final name only after each file was loaded in its own engine and gave the student's embeddings.

OUT is the SavedModel itself (format saved_model), or a folder of `student.onnx`, `student.float32.tflite` ... (format all: with the SavedModel in
OUT/saved_model). `model.json` and `README.md` stand beside them; by model.json, or by the card in a SavedModel, a later export knows what it may replace.

SavedModel, four signatures, each returns {"output": float32 [N, D]}:

- `serving_default`: float32 [N, H, W, 3], RGB, 0 to 255
- `uint8`: uint8 [N, H, W, 3], the same image
- `normalized`: as `serving_default`, with embeddings of length 1
- `encoded`: string [N], the bytes of a JPEG or PNG of exactly H x W; decoded in the graph to the pixels that `distill.images.codec` gives
  (byte-equal on baseline, progressive, grey and CMYK JPEG of every subsampling, on PNG of 1 to 16 bits, palette and alpha)

In Python, `tf.saved_model.load(EXPORT).signatures` lists the first alone, so that `tf.lite.TFLiteConverter.from_saved_model(EXPORT)` converts that one; the
others are functions of what is loaded: `loaded.uint8(images)`. TensorFlow Serving and saved_model_cli know all four. `assets.extra/distill.json`, which
every loader ignores, is its own card.

All heavy work runs in a process of its own (`work`).
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from distill import __version__
from distill.data.folders import check_local, make_folder, no_model
from distill.data.kinds import CARD, MODEL_CARD, MODEL_PAGE, RUN_EXPORTS, has_exports, read_card
from distill.errors import DistillError
from distill.exports.card import judged_of, model_card, model_page
from distill.exports.formats import FORMATS, chosen
from distill.exports.place import put, refuse_existing, tidy
from distill.exports.samples import Where
from distill.exports.work import NO_IMAGES, Report, Work
from distill.runtime.progress import phase
from distill.storage.files import sha256_file, temporary_for
from distill.storage.json_files import read_json, write_json
from distill.storage.path import StoragePath, as_path, close_to, local_copy

HDF5 = b"\x89HDF\r\n\x1a\n"

log = logging.getLogger("distill")
OF_SAVED_MODEL = ("height", "width", "dimension", "parameters", "signatures", "difference", "tensorflow", "keras")  # facts on its own card


@dataclass(frozen=True)
class Judges:
    """What an export is proven by, as a person named it; see `Where` and `Work`."""

    images: str | None = None
    shards: str | None = None
    root: str | None = None
    resize: str = "none"
    exif: str = "ignore"
    pairs: tuple[str, ...] = ()
    pairs_root: str | None = None
    number: int | None = None


def export(
    student: str | StoragePath,
    out: str | StoragePath,
    format: str = "saved_model",
    *,
    process: str,
    force: bool = False,
    judges: Judges = Judges(),  # noqa: B008 - frozen
) -> dict[str, Any]:
    """Exports a run folder, a `.keras` or `.h5` file; returns the card of the export, with its path and its bytes on disk. Takes about 20 s, 60 s for all formats.

    Args:
        format: a key of FORMATS, or "all": each one that this machine has the libraries for.
        process: the module that is run in a process of its own; it calls `work.main` with how users load models, and how Keras files are read.
        force: replaces an earlier export at `out`, and never anything else; without it `out` must be missing or an empty folder.

    Raises:
        DistillError: the student cannot be exported, or an export gives other embeddings; `out` is then as it was.
    """
    places, left_out = chosen(format)
    file = student_file(student)
    run = _run_of(as_path(student))
    out = Path(os.path.abspath(check_local(out, "export")))
    if not zipfile.is_zipfile(file) and not _is_hdf5(file):
        raise DistillError(f"{file} is no .keras file (which is a zip archive) and no .h5 file (HDF5). Expected the student.keras of a run, or a Keras model.")
    known = _provenance(as_path(student), run, file)
    where = _where(judges, run, known["fingerprints"].get("holdout"))
    if where.nothing and format in FORMATS and FORMATS[format].calibrated:
        raise DistillError(f"{file}: {format} {NO_IMAGES}")
    work = Work(str(file.resolve()), "", format, places, where, *_pairs(judges))
    tidy(out)
    refuse_existing(out, force)
    made = make_folder(out.parent)
    temporary = temporary_for(out)
    try:
        temporary.mkdir()
        report = _in_own_process(replace(work, folder=str(temporary)), process, out)
        card = {"made_by": f"distill {__version__}", "format": format, "student": known["fingerprints"]["student"], **known, **report.facts}
        card |= {"exports": report.exports, "left_out": {**left_out, **report.left_out}}
        _write_cards(temporary, card, places, judged_of(run, known["fingerprints"]["student"]))
        put(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        made.give_back()
    if run is not None and as_path(student).is_dir():
        _note(run, out, card, places)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    return {**card, "path": str(out), "bytes": size}


def student_file(student: str | StoragePath) -> Path:
    """Returns the `.keras` file of a run folder, or the file itself, which may be an `.h5` file too."""
    path = folder = as_path(student)
    expected = "Expected a .keras or .h5 file, or the folder of a finished run, which holds student.keras."
    if path.is_dir():
        path = folder / "student.keras"
    if not path.is_file():
        if message := no_model(folder, "distill export {} OUT"):
            raise DistillError(message)
        if read_card(folder) is not None:
            raise DistillError(f"{folder} is an export already, to ship as it is. {expected}")
        if folder.is_dir():
            raise DistillError(f"{folder} is a folder without student.keras. {expected}")
        raise DistillError(f"{folder}: nothing is there.{close_to(folder)} {expected}")
    return local_copy(str(path))


def _is_hdf5(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(len(HDF5)) == HDF5


def _run_of(student: StoragePath) -> StoragePath | None:
    """Returns the folder of the run whose final student is exported, None where it is none."""
    folder = student.parent if student.name == "student.keras" else student
    return folder if folder.is_dir() and (folder / "run.toml").is_file() else None


def _provenance(student: StoragePath, run: StoragePath | None, file: Path) -> dict[str, Any]:
    """Returns what is known of where a student comes from: the fingerprint of its teacher, what it learned from, and all fingerprints."""
    from distill.training.origin import origin_of

    origin, teacher = origin_of(student), _teacher_of(student if run is None else run)
    prints = {
        "student": sha256_file(file),
        "teacher": teacher,
        "data": dict(origin.sets),
        "run": _sha256(run / "run.toml") if run is not None else None,
        "holdout": origin.holdout.model_dump() if origin.holdout else None,
    }
    return {"teacher": teacher, **({"learned_from": origin.as_card()} if origin.known else {}), "fingerprints": prints}


def _sha256(path: StoragePath) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


def _teacher_of(run: StoragePath) -> str | None:
    """Returns the fingerprint of the teacher of a run's shards; None for a bare file, or where the shards are gone."""
    from distill.config.files import load_run
    from distill.data.shards import open_shards

    try:
        shards = load_run(run / "run.toml").data.shards
        return open_shards(shards).meta.teacher if shards else None
    except (DistillError, OSError):
        return None


def _where(judges: Judges, run: StoragePath | None, holdout: dict[str, Any] | None) -> Where:
    """Returns where the images of the proof come from: what was named, else what the run learned from. DistillError for what was named and is not there."""
    if judges.images is not None and judges.shards is not None:
        raise DistillError("--images and --shards both say which images an export is proven by. Give one of them.")
    if judges.images is not None:
        from distill.data.lists.image_list import check_source

        check_source(as_path(judges.images))
        return Where(images=judges.images, root=judges.root, resize=judges.resize, exif=judges.exif, given=True)
    if judges.shards is not None:
        from distill.data.shards import open_shards

        open_shards(judges.shards)
        return Where(shards=judges.shards, root=judges.root, holdout=holdout, resize=judges.resize, exif=judges.exif, given=True)
    from distill.config.files import load_run

    try:
        data = load_run(run / "run.toml").data if run is not None else None
    except (DistillError, OSError):
        data = None
    if data is None or not (data.shards or data.images):
        return Where(resize=judges.resize, exif=judges.exif)
    if data.shards:
        return Where(shards=data.shards, root=data.root, holdout=holdout, resize=judges.resize, exif=judges.exif)
    return Where(images=data.images, root=data.root, holdout=holdout, resize=data.resize, exif=data.exif)


def _pairs(judges: Judges) -> tuple[tuple[str, ...], str | None, int | None]:
    """Returns the pairs of a Work. They are opened here too, so that what is missing ends the export before any work."""
    if judges.pairs:
        from distill.evaluation.pair_sets import open_pairs

        open_pairs([as_path(one) for one in judges.pairs], None if judges.pairs_root is None else as_path(judges.pairs_root), judges.number)
    return judges.pairs, judges.pairs_root, judges.number


def _in_own_process(work: Work, process: str, out: Path) -> Report:
    """Runs `work` as a program; the last line of its output is one JSON object: a Report, or {"error": message}."""
    quiet = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    with tempfile.TemporaryDirectory(prefix="distill-") as folder, phase("writing the student and loading it again"):
        request = Path(folder) / "request.json"
        write_json(request, asdict(work))
        done = subprocess.run([sys.executable, "-m", process, str(request)], env={**os.environ, **quiet}, capture_output=True, text=True, errors="replace")
    lines = done.stdout.strip().splitlines()
    try:
        answer = json.loads(lines[-1])
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise DistillError(f"{work.student}: the export ended with code {done.returncode}: {last}") from None
    if "error" in answer:
        raise DistillError(f"{work.student}: {answer['error'].replace(work.folder, str(out))} Nothing was written.")
    return Report(**answer)


def _write_cards(folder: Path, card: Mapping[str, Any], places: Mapping[str, str], judged: Mapping[str, Any]) -> None:
    """Writes model.json and README.md, and the card in a SavedModel, which is as it was before there were others."""
    if "saved_model" in card["exports"]:
        own = {name: card[name] for name in ("made_by", "format", "student", "teacher", "learned_from") if name in card} | {"format": "saved_model"}
        inside = folder / places["saved_model"] / CARD
        inside.parent.mkdir(exist_ok=True)
        write_json(inside, {**own, **{name: card[name] for name in OF_SAVED_MODEL}})
    told = model_card(card, places, judged)
    page = folder / MODEL_PAGE
    page.write_text(model_page(card, told), encoding="utf-8")
    write_json(folder / MODEL_CARD, {**told, "readme_sha256": sha256_file(page)})


def _note(run: StoragePath, out: Path, card: Mapping[str, Any], places: Mapping[str, str]) -> None:
    """Notes what was exported in the folder of its run, where a report finds it; a folder that cannot be written to is told of, and left."""
    if not isinstance(run, Path) or run.resolve().is_relative_to(Path(__file__).resolve().parents[1]):  # the teacher that ships with distill
        return
    file = run / RUN_EXPORTS
    try:
        before: Any = read_json(file) if file.exists() else {}
    except (ValueError, OSError):
        before = None
    if before != {} and not has_exports(before):
        log.warning(f"{file} is not what distill export writes there, so it is left as it is, and a report will not show this export; the export is whole.")
        return
    now = {name: {"path": str(out / places[name]), **figures, "proof": card["proof"]["source"]} for name, figures in card["exports"].items()}
    try:
        write_json(file, {**before, **now})
    except OSError as error:
        log.warning(f"{file} could not be written ({error.strerror or error}), so a report will not show this export; the export itself is whole.")
