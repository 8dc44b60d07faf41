"""What proves that distill wrote a file or folder, from names and first bytes alone, and which names it uses in each kind of folder.

A row for each kind of folder makes it long; two files would have to be read together.

A folder is ours when the content of a file in it proves it (the plan of a set, the card of an export ...), see KINDS. Nothing is written or removed here.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from distill.data.layout import FORMAT_VERSIONS, INDEXES, NUMBERED
from distill.data.names import SYSTEM
from distill.errors import DistillError
from distill.storage.files import failure, is_temporary, sha256_file
from distill.storage.json_files import read_toml
from distill.storage.locks import CLAIM
from distill.storage.objects import RemotePath
from distill.storage.path import StoragePath, as_path, is_remote, readable

HEAD = 1 << 14  # first bytes that identify a file
SMALL = 1 << 20  # bytes; no note of ours is larger
LOGS = r"(?!\.).*\.(log|out)"  # output of a run that a person, nohup or a batch system keeps in its folder
NOTES = re.compile(r"(estimate|error|finished|phase)\.json|(progress|failed)-\d{5,}\.json")  # in OUT/state
CHUNKS = re.compile(rf"{NUMBERED}\.parquet|classes\.txt|listing\.tsv\.zst")
CARD = "assets.extra/distill.json"
PAGE = b'<meta name="generator" content="distill '  # in the head of a page
# What the head of a PNG that distill drew says: what the picture is.
DRAWN = {b"Software\0distill views": "contact sheet of views", b"Software\0distill compare": "matrix of photos"}
SHARDS = re.compile(rf"{NUMBERED}\.(parquet|h5)")
SHARD_KEYS = frozenset({"version", "chunk", "of", "chunk_sha256", "rows", "dimension", "dtype", "teacher"})  # keys of its metadata in every version


SAVED_MODEL = r"saved_model\.pb|keras_metadata\.pb|fingerprint\.pb|assets|variables(/variables\.(index|data-\d{5}-of-\d{5}))?|assets\.extra(/distill\.json)?"
EXPORT = re.compile(SAVED_MODEL)
EXPORTED = re.compile(rf"saved_model(/({SAVED_MODEL}))?")  # where other formats stand beside it
MODEL_CARD, MODEL_PAGE = "model.json", "README.md"  # of an export
SCORES = ("scores", "cosines", "identified", "probed", "template_scores")  # arrays of which an evaluation writes one at least
RUN_EXPORTS = "exports.json"  # in the folder of a run: what its exports are worth


PLAN_HEAD = re.compile(rb'\{\s*"source": "(?:[^"\\]|\\.)*",\s*"source_sha256": "[^"]*",\s*"chunk_rows": \d+,\s*"chunks": \[')
_INDEX = re.compile(rb'\{\s*"version": \d+,\s*"format": "[a-z0-9]+",\s*"rows": \d+,\s*"rejects": \d+,\s*"classes": "[0-9a-f]{64}"')


@dataclass(frozen=True)
class Kind:
    """A folder that distill writes. what: its name in messages; is_ours: whether a file in it proves that it is one; before: what may be there before
    that file, {pattern of a name, "/" after a folder: proof}; signs: it has at least one of these names; remote: whether it may be in an object
    store."""

    what: str
    option: str
    is_ours: Callable[[StoragePath], bool]
    before: Mapping[str, Callable[[StoragePath], bool]] = field(default_factory=dict)
    signs: frozenset[str] = frozenset()
    remote: bool = False


def head_of(path: StoragePath) -> bytes:
    """Returns the first bytes of a file, b"" where it is missing."""
    try:
        if isinstance(path, RemotePath):
            return path.read_bytes(HEAD)[:HEAD]
        with path.open("rb") as file:
            return file.read(HEAD)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return b""


def _has_keys(path: StoragePath, *keys: str) -> bool:
    """Returns whether a file is a JSON object with these keys."""
    try:
        if path.stat().st_size > SMALL:
            return False
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError, RecursionError):
        return False
    return isinstance(value, dict) and value.keys() >= set(keys)


def _has_arrays(path: StoragePath, *names: str) -> bool:
    """Returns whether a file is an .npz with one of these arrays."""
    try:
        with path.open("rb") as opened, zipfile.ZipFile(opened) as file:
            return any(f"{name}.npy" in file.namelist() or name in file.namelist() for name in names)
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return False


def is_set(folder: StoragePath) -> bool:
    """Returns whether a folder has a plan, an index, or one shard of ours."""
    if PLAN_HEAD.match(head_of(folder / "plan.json")) or any(_INDEX.match(head_of(folder / "shards" / name)) for name in INDEXES):
        return True
    return _has_shard(folder / "shards")


def _has_shard(folder: StoragePath) -> bool:
    names = islice((name for name, _ in entries_of(folder) if SHARDS.fullmatch(name)), 8)  # a few of thousands of foreign files are enough
    for name in names:
        with suppress(DistillError):
            if _is_shard(folder / name):
                return True
    return False


def _is_shard(path: StoragePath) -> bool:
    """Returns whether a file has the metadata of a shard; nothing else of it is checked. Raises OSError where the system fails to read it."""
    try:
        meta = json.loads(_hdf5_metadata(path) if path.suffix == ".h5" else _parquet_metadata(path).get(b"distill", b""))
    except (ValueError, RecursionError):
        return False
    return isinstance(meta, dict) and meta.keys() >= SHARD_KEYS and meta.get("version") in FORMAT_VERSIONS


def _parquet_metadata(path: StoragePath) -> dict[bytes, bytes]:
    """Returns the metadata in the footer of a Parquet file; {} where it is damaged or another file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(readable(path), memory_map=False) as file:
            return file.metadata.metadata or {}
    except (pa.ArrowException, OSError, ValueError) as error:
        if failed := failure(path, error):
            raise failed from error
        return {}


def _hdf5_metadata(path: StoragePath) -> str | bytes:
    """Returns the metadata of a shard from an HDF5 file; "" where it has none, is damaged or another file."""
    import h5py

    try:
        with h5py.File(readable(path), "r", locking=False) as file:
            meta = file.attrs.get("distill", "")
            return meta if isinstance(meta, (bytes, str)) else ""
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError, IndexError, OverflowError) as error:
        if failed := failure(path, error):
            raise failed from error
        return ""


def chunk_files(folder: StoragePath) -> list[StoragePath]:
    """Returns the files of a folder that have names of chunks, sorted by name."""
    names = re.compile(rf"{NUMBERED}\.parquet")
    return sorted(path for path in folder.iterdir() if names.fullmatch(path.name)) if folder.is_dir() else []


def is_chunk_folder(path: str | StoragePath) -> bool:
    """Returns whether a folder has chunks, a whole set or not. Shards have similar names, but are none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for file in chunk_files(as_path(path)):
        try:
            return bytes((pq.read_schema(readable(file)).metadata or {}).get(b"format", b"")).startswith(b"distill.chunk.")
        except (pa.ArrowException, OSError, ValueError) as error:  # no chunk, or a damaged one: look at the next
            if failed := failure(file, error):
                raise failed from error
    return False


def _is_run(folder: StoragePath) -> bool:
    """Returns whether a run wrote run.toml, not a person: it is byte-equal to what the writer gives, or is beside a checkpoint or a summary."""
    import tomli_w

    from distill.config.files import load_run

    written = folder / "run.toml"
    try:
        load_run(written)
        if tomli_w.dumps(read_toml(written)).encode() == written.read_bytes():
            return True
    except (DistillError, OSError, ValueError):
        return False
    return _has_keys(folder / "summary.json", "parameters", "epochs", "student") or _has_arrays(folder / "checkpoints/last.npz", "progress.json")


def is_run_file(path: StoragePath) -> bool:
    """Returns whether a file is a valid run file, whoever wrote it."""
    from distill.config.files import load_run

    try:
        return bool(load_run(path))
    except (DistillError, OSError, ValueError):
        return False


def read_card(path: str | StoragePath) -> dict[str, Any] | None:
    """Returns the card of an export; None where the folder is no export of ours."""
    for name, key in ((CARD, "made_by"), (MODEL_CARD, "exports")):  # distill inspect --save writes model.json too, beside models of anybody
        try:
            card = json.loads((as_path(path) / name).read_bytes())
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(card, dict) and key in card and str(card.get("made_by", "")).startswith("distill ") and _lists_exports(card.get("exports", {})):
            return card
    return None


def _lists_exports(exports: object) -> bool:
    """Returns whether the part of a card is {format: {"file": name, "bytes": whole number, "cosine_q01": number, ...}}."""
    return isinstance(exports, dict) and all(
        isinstance(one, dict) and isinstance(one.get("file"), str) and isinstance(one.get("bytes"), int) and isinstance(one.get("cosine_q01"), (int, float))
        for one in exports.values()
    )


def strange_in_export(folder: Path, *, system: bool = False) -> list[str]:
    """Returns the names below a local folder that are no part of the export in it. system: whether names of operating systems directly in it count.

    model.json and README.md are parts of it where the export wrote them, README.md as long as nobody has changed it; those of a SavedModel are, unless model.json
    tells of other formats alone.
    """
    try:
        told = json.loads((folder / MODEL_CARD).read_bytes())
        other = "saved_model" not in told["exports"]
        files = {str(name) for one in told["exports"].values() for name in one["files"]} | {MODEL_CARD}
        if sha256_file(folder / MODEL_PAGE) == told["readme_sha256"]:
            files.add(MODEL_PAGE)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        files, other = set(), False
    names = (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")))
    parts = EXPORTED if "saved_model" in files else EXPORT
    known = (name for name in names if system or not SYSTEM.fullmatch(name.partition("/")[0]))
    return [name for name in known if (other or not parts.fullmatch(name)) and name not in files]


def _is_evaluation(folder: StoragePath) -> bool:
    try:
        return has_models(json.loads((folder / "evaluation.json").read_bytes()))
    except (OSError, ValueError, RecursionError):
        return False


def has_models(content: object) -> bool:
    """Returns whether the content of a JSON file is that of evaluation.json: {who: {"path": ..., ...}}."""
    return isinstance(content, dict) and bool(content) and all(isinstance(figures, dict) and "path" in figures for figures in content.values())


def has_exports(content: object) -> bool:
    """Returns whether the content of a JSON file is that of a run's exports.json: {format: {"path": ..., "cosine_q01": ..., ...}}."""
    return isinstance(content, dict) and bool(content) and all(isinstance(one, dict) and one.keys() >= {"path", "cosine_q01"} for one in content.values())


def is_lock(path: StoragePath) -> bool:
    """Returns whether a path is the lock of a folder: a file with the name of a process, or a folder of claims."""
    if is_remote(path) or path.is_dir():
        return all(CLAIM.fullmatch(name) or is_temporary(name) for name, _ in entries_of(path))
    return path.is_file() and re.fullmatch(rb"(process \d+ on [^\n]*\n)?", head_of(path)) is not None


def _is_file(path: StoragePath) -> bool:
    return path.is_file()


def _any(path: StoragePath) -> bool:
    return True


KINDS = {
    "set": Kind(
        "a set of shards",
        "OUT",
        is_set,
        {
            r"\.launcher(\.claims)?": is_lock,
            "state/": _any,
            r"state/error\.json": lambda path: _has_keys(path, "message", "exit_code"),
            r"state/finished\.json": lambda path: head_of(path).strip() == b"{}",
            r"state/estimate\.json": lambda path: _has_keys(path, "rows", "chunks", "todo_chunks", "todo_rows", "bytes"),
            r"state/progress-\d{5,}\.json": lambda path: _has_keys(path, "done", "made"),
            r"state/failed-\d{5,}\.json": lambda path: _has_keys(path, "chunk", "reason"),
            LOGS: _is_file,
            "chunks": lambda path: is_chunk_folder(path) or not strange_names(path, {}),
            "shards/": _any,
        },
        frozenset({"plan.json", "shards"}),
        remote=True,
    ),
    "chunks": Kind("chunks", "OUT", is_chunk_folder, {}, frozenset({"classes.txt"}), remote=True),
    "run": Kind("a run", "--out", _is_run, {r"\.trainer(\.claims)?": is_lock, "checkpoints/": _any, LOGS: _is_file}, frozenset({"run.toml"})),
    "export": Kind("an export", "OUT", lambda folder: read_card(folder) is not None, {}, frozenset({"assets.extra", MODEL_CARD})),
    "evaluation": Kind("an evaluation", "--out", _is_evaluation, {r"scores-.+\.npz": lambda path: _has_arrays(path, *SCORES), LOGS: _is_file}, remote=True),
    "drawing": Kind("drawn identities", "OUT", lambda folder: _has_keys(folder / ".drawing.json", "identities", "images", "size", "seed")),
    "demo": Kind("a demo", "OUT", lambda folder: head_of(folder / "teacher.toml").startswith(b"# distill train "), {LOGS: _is_file}),
}


LISTED = ("set", "chunks", "run", "export")  # folders that are never listed as images
SIGNS = frozenset(INDEXES).union(*(KINDS[kind].signs for kind in LISTED))


def kind_of(folder: StoragePath, names: Collection[str] | None = None) -> str | None:
    """Returns which of LISTED a folder is: "set", "chunks", "run", "export", or None.

    names: of what is in it, where the caller knows them; without one of SIGNS among them nothing is read.
    """
    there = SIGNS.intersection(names if names is not None else (name for name, _ in entries_of(folder)))
    if any(_INDEX.match(head_of(folder / name)) for name in there.intersection(INDEXES)):  # the shards of a set, perhaps copied without the rest
        return "set"
    return next((kind for kind in LISTED if KINDS[kind].signs & there and KINDS[kind].is_ours(folder)), None)


def strange_names(folder: StoragePath, known: Mapping[str, Callable[[StoragePath], bool]], most: int = 4) -> list[str]:
    """Returns up to `most` names below a folder, sorted, that are not `known` (see Kind.before), a system's, or an unfinished file of ours."""
    found: list[str] = []
    for name, is_file in entries_of(folder):
        inside = {rest.removeprefix(f"{name}/"): proof for rest, proof in known.items() if rest.startswith(f"{name}/")}
        if SYSTEM.fullmatch(name) or is_temporary(name):
            continue
        if not is_file and inside:
            found += [f"{name}/{one}" for one in strange_names(folder / name, {rest: proof for rest, proof in inside.items() if rest}, most)]
        elif not any(re.fullmatch(pattern, name) and proof(folder / name) for pattern, proof in known.items()):
            found.append(name)
        if len(found) >= most:
            break
    return sorted(found)


def entries_of(folder: StoragePath) -> Iterator[tuple[str, bool]]:
    """Yields (name, is no folder) for each entry of a folder; nothing where it is missing."""
    if isinstance(folder, RemotePath):
        yield from ((path.name, is_file) for path, is_file in folder.entries() if path != folder)
    elif isinstance(folder, Path):
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
            for entry in entries:
                yield entry.name, not entry.is_dir()
