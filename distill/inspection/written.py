"""Describes single files that distill writes or reads, and the smaller folders, as a dict of plain values. `describe` tries this file first.

A TOML, HTML, JSON or CSV file that a verb wrote is recognised by its content, not by its name, and is never taken for a list of images.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from shlex import quote
from typing import Any

from distill.data.folders import MODELS
from distill.data.kinds import DRAWN, KINDS, SCORES, has_exports, has_models
from distill.data.layout import INDEXES, NUMBERED
from distill.errors import DistillError
from distill.storage.files import sha256_file
from distill.storage.path import StoragePath

LARGEST = 1 << 26  # bytes of a JSON or HTML file that is read; an index of a million chunks is larger, and is opened as a set
_REJECT_LOG = re.compile(rf"_?{NUMBERED}\.rejects\.jsonl")
_TITLE = re.compile(r"<title>(.*?)</title>", re.DOTALL)
# kind: keys of its JSON object; the first that fits counts
JSONS: dict[str, frozenset[str]] = {
    "model.json": frozenset({"format", "preprocessing"}),
    "plan of a set": frozenset({"chunks", "meta", "rows"}),
    "index of a set": frozenset({"records", "meta", "rows"}),
    "chunk record": frozenset({"number", "of", "shard", "ledger", "rows", "rejects"}),
    "forecast": frozenset({"rows", "chunks", "gigabytes", "rates"}),
    "description of drawn faces": frozenset({"identities", "images", "size", "seed"}),
    "card of an export": frozenset({"made_by"}),
    "summary of a run": frozenset({"parameters", "epochs", "student"}),
    "summary of a demo": frozenset({"teacher", "student", "labels_only", "noise_only"}),
    "estimate of a run of distill embed": frozenset({"todo_chunks", "todo_rows"}),
    "progress of a chunk": frozenset({"done", "made"}),
    "failure of a chunk": frozenset({"chunk", "reason"}),
    "error of a run of distill embed": frozenset({"message", "exit_code"}),
    "phase of a run of distill embed": frozenset({"phase"}),
}
# (names, kind, how many folders up the whole is) of files that mean nothing alone
PARTS: tuple[tuple[re.Pattern[str], str, int], ...] = (
    (re.compile(r"\.(launcher|trainer)(\.claims)?"), "lock of a run", 1),
    (re.compile(r"events\.out\.tfevents\..*"), "figures for TensorBoard", 2),
    (re.compile(r"events|checkpoints|state"), "folder of a run's own files", 1),
    (re.compile(r"(_?classes|identities)\.txt"), "class table", 1),
    (re.compile(r"listing\.tsv\.zst"), "sizes and times of listed images", 1),
    (re.compile(r"(saved_model|keras_metadata|fingerprint)\.pb|variables|assets|assets\.extra"), "part of a SavedModel", 1),
    (re.compile(r"variables\.(index|data-\d{5}-of-\d{5})"), "part of a SavedModel", 2),
    (re.compile(r"README\.md"), "description of an export", 1),
    (re.compile(r"student\.bin"), "part of an OpenVINO model", 1),
    (re.compile(r"finished\.json"), "note that a run of distill embed has ended", 2),
)
PROOFS = ("plan.json", "run.toml", "saved_model.pb", "model.json", *INDEXES, "classes.txt")  # names in the whole
TEXTS = (".toml", ".html", ".htm", ".json")  # suffixes that are never image lists
# suffixes that are no image and are described elsewhere: Pillow, the last resort, takes 0.15 s to load
OTHERS = (*MODELS, ".parquet", ".rec", ".tar", ".txt", ".tsv", ".csv", ".lst")
LONG = frozenset({"chunks", "meta", "records", "golden", "stages"})  # keys that are described by their length


def find_written(path: StoragePath) -> tuple[str, dict[str, Any]] | None:
    """Returns (kind, description) of a path, or None where it is none of these.

    Raises:
        DistillError: a TOML, HTML or JSON file that distill does not know; it is no list of images.
    """
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        return None
    if (part := _part(path)) is not None:
        return part
    suffix = path.suffix.lower()
    if suffix == ".toml":
        return _toml(path)
    if suffix in (".html", ".htm"):
        return _page(path)
    if suffix == ".json":
        return _json(path)
    if not isinstance(path, Path):
        return None
    if suffix == ".jsonl" and _REJECT_LOG.fullmatch(path.name):
        return _reject_log(path)
    if suffix == ".npz":
        return _arrays(path)
    if path.name == "history.csv":
        return _history(path)
    return None if suffix in OTHERS else _image(path)


def _folder(path: StoragePath) -> tuple[str, dict[str, Any]] | None:
    if (path / "run.toml").is_file():  # a run's folder may have an evaluation
        return None
    if (part := _part(path)) is not None:
        return part
    if KINDS["evaluation"].is_ours(path):
        return "evaluation", _figures(_read(path / "evaluation.json"))
    if KINDS["demo"].is_ours(path):
        finished = (path / "summary.json").is_file()
        report = {"report": str(path / "report.html")} if (path / "report.html").is_file() else {}
        return "demo", {"finished": finished, **report, **({} if finished else {"next": f"distill demo {path}"})}
    return _several(path)


def _several(folder: StoragePath) -> tuple[str, dict[str, Any]] | None:
    """Describes a folder of runs only, or of evaluations only, as `--out runs/NAME` makes it."""
    for proof, kind in (("run.toml", "folder of runs"), ("evaluation.json", "folder of evaluations")):
        inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        if inside and all((path / proof).is_file() for path in inside):
            finished = {path.name: "finished" if (path / "summary.json").is_file() else "not finished" for path in inside}
            names: Any = finished if proof == "run.toml" else [path.name for path in inside]
            return kind, {kind.rpartition(" ")[2]: names, "next": f"distill inspect {quote(str(inside[0]))}"}
    return None


def _part(path: StoragePath) -> tuple[str, dict[str, Any]] | None:
    """Describes a file or folder that is a part of another one, with the path of the whole."""
    for names, kind, below in PARTS:
        if names.fullmatch(path.name) and len(path.parents) >= below:
            whole = path.parents[below - 1]
            if any((whole / proof).exists() for proof in PROOFS):
                return kind, {"part_of": str(whole), "next": f"distill inspect {quote(str(whole))}"}
    return None


def _read(path: StoragePath) -> dict[str, Any]:
    """Returns a JSON object. Raises DistillError where the file is none."""
    if path.stat().st_size > LARGEST:
        raise DistillError(f"{path} has more than {LARGEST:,} bytes, which no JSON file of distill's has that is inspected by itself.")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DistillError(f"{path} is no JSON: {error}.") from None
    if not isinstance(content, dict):
        raise DistillError(f"{path} is nothing that distill reads or writes: a JSON file of another program.")
    return content


def _json(path: StoragePath) -> tuple[str, dict[str, Any]]:
    content = _read(path)
    if has_exports(content):
        return "exports of a run", {name: f"{one['path']}, cosine {one['cosine_q01']:.6f}" for name, one in content.items()}
    if has_models(content):
        return "evaluation", _figures(content)
    kind = next((kind for kind, keys in JSONS.items() if content.keys() >= keys), None)
    if kind is None:
        raise DistillError(f"{path} is nothing that distill reads or writes: a JSON file, but none of these: {', '.join(JSONS)}, evaluation.")
    if kind == "model.json":
        return kind, {"format": content["format"], "preprocessing": content["preprocessing"]}
    short = {
        name: len(value) if name in LONG and isinstance(value, (list, dict)) else value
        for name, value in content.items()
        if name not in ("meta", "kind", "path")
    }
    return kind, short


def _figures(content: dict[str, Any]) -> dict[str, Any]:
    """Returns the evaluated models with the figures that are single values."""
    found: dict[str, Any] = {}
    for who, model in content.items():
        if isinstance(model, dict):
            rest = {key: value for part in ("pairs", "agreement") for key, value in (model.get(part) or {}).items() if not isinstance(value, (dict, list))}
            found[who] = {"path": model.get("path"), **rest}
    return found


def _toml(path: StoragePath) -> tuple[str, dict[str, Any]]:
    from distill.images.augmentation import find_recipe
    from distill.storage.json_files import read_toml

    try:
        values = read_toml(path)
    except ValueError as error:
        raise DistillError(f"{path} cannot be read as TOML: {error}") from None
    if not values.keys() & {"stage", "student", "data"}:
        recipe = find_recipe(str(path))
        return "recipe of views", recipe.as_dict()
    return "run file", run_in_words(path)


def run_in_words(path: StoragePath) -> dict[str, Any]:
    """Describes a run file with a line for each stage, or its problems."""
    from distill.config.files import load_run

    try:
        run = load_run(path)
    except DistillError as error:
        return {"valid": False, "problems": str(error).splitlines(), "next": "mend these, and inspect it again"}
    stages = [
        f"stage {number}: {stage.epochs} epoch{'s' * (stage.epochs != 1)} on {stage.source}, learning from {' and '.join(term.name for term in stage.terms)}"
        for number, stage in enumerate(run.stage, 1)
    ]
    next_ = f"distill train {path} --out runs/{path.stem}"
    return {"valid": True, "student": f"{run.student.backbone}, {run.student.numbers}", "stages": stages, "next": next_}


def _page(path: StoragePath) -> tuple[str, dict[str, Any]]:
    text = path.read_bytes()[:LARGEST].decode("utf-8", errors="replace")
    title = _TITLE.search(text[:10_000])
    if not (path.name == "report.html" or "distill" in text[:10_000]):
        raise DistillError(f"{path} is nothing that distill reads or writes: a page, but no report of distill.")
    return "report", {"title": " ".join(title[1].split()) if title else "", "bytes": path.stat().st_size, "next": "open it in a browser"}


def _reject_log(path: StoragePath) -> tuple[str, dict[str, Any]]:
    from distill.data.shards import read_reject_log

    rejects = read_reject_log(path)
    return "rejects of a chunk", {"rejects": len(rejects), "first": [f"{reject.key}: {reject.reason}" for reject in rejects[:10]]}


def _arrays(path: Path) -> tuple[str, dict[str, Any]]:
    import zipfile

    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as stored:
            names = stored.files
            if not set(SCORES) & set(names):
                if "progress.json" in names:
                    return "checkpoint", {"arrays": len(names), "bytes": path.stat().st_size}
                if {*names} == {"centres", "identity"}:
                    return "means of the teacher's embeddings of each class", dict(zip(("classes", "dimension"), stored["centres"].shape, strict=True))
                raise DistillError(f"{path} is nothing that distill reads or writes: arrays, but neither scores of an evaluation nor a checkpoint.")
            found: dict[str, Any] = {f"{name}_rows": len(stored[name]) for name in SCORES if name in names}
            if "cosines" in names:
                found["mean_cosine"] = float(stored["cosines"].mean())
            return "scores of an evaluation", found
    except (ValueError, zipfile.BadZipFile) as error:
        raise DistillError(f"{path} cannot be read as arrays: {error}.") from None


def _history(path: Path) -> tuple[str, dict[str, Any]] | None:
    import csv

    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or "epoch" not in rows[0]:
        return None
    return "history of a run", {"epochs": len(rows), "last": {name: value for name, value in rows[-1].items() if value}}


def _image(path: Path) -> tuple[str, dict[str, Any]] | None:
    from PIL import Image, UnidentifiedImageError

    from distill.images.exif import orientation

    try:
        with Image.open(path) as image:
            width, height, mode, form = image.width, image.height, image.mode, image.format
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
        return None
    data = path.read_bytes()
    kind = next((kind for mark, kind in DRAWN.items() if mark in data[:4096]), "image")
    turn = orientation(data)
    return kind, {
        "width": width,
        "height": height,
        "mode": mode,
        "format": form,
        "bytes": len(data),
        "exif_rotation": "none" if turn == 1 else f"orientation {turn}",
        "sha256": sha256_file(path),
    }
