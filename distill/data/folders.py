"""Whose folder it is. distill writes into folders that are empty, not there yet, or its own; nothing in a folder of somebody else's changes.

A folder is one of ours when a file in it proves it by what it says (the plan of a set, the card of an export ...), see KINDS. Beside such a
proof other files may lie; they stay as they are. Without it a folder may hold nothing but what systems put into every folder, and the files of a
run that ended before that proof was written.

Only files of our own names are ever removed, here, one by one.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
import stat
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from distill.data.layout import FORMAT_VERSIONS, INDEXES, NUMBERED, find_index
from distill.data.names import SYSTEM
from distill.errors import DistillError
from distill.storage.files import failure, is_temporary, read_toml
from distill.storage.locks import CLAIM
from distill.storage.path import RemotePath, StoragePath, close_to, is_remote, place, readable

HEAD = 1 << 14  # bytes that tell what a file is
SMALL = 1 << 20  # bytes; a larger file is no note of ours

LOGS = r"(?!\.).*\.(log|out)"  # what a person, nohup or a batch system lets a run say into its folder
NOTES = re.compile(r"(estimate|error|finished|phase)\.json|(progress|failed)-\d{5,}\.json")  # in OUT/state
CHUNKS = re.compile(rf"{NUMBERED}\.parquet|classes\.txt|listing\.tsv\.zst")
CARD = "assets.extra/distill.json"
DRAWN = b"Software\0distill views"  # in the head of a PNG
SHARDS = re.compile(rf"{NUMBERED}\.(parquet|h5)")
SHARD_SAYS = frozenset({"version", "chunk", "of", "chunk_sha256", "rows", "dimension", "dtype", "teacher"})  # in its metadata, whatever the version
EXPORT = re.compile(
    r"saved_model\.pb|keras_metadata\.pb|fingerprint\.pb|assets|variables(/variables\.(index|data-\d{5}-of-\d{5}))?|assets\.extra(/distill\.json)?"
)

_PLAN = re.compile(rb'\{\s*"source": "(?:[^"\\]|\\.)*",\s*"source_sha256": "[^"]*",\s*"chunk_rows": \d+,\s*"chunks": \[')
_INDEX = re.compile(rb'\{\s*"version": \d+,\s*"format": "[a-z0-9]+",\s*"rows": \d+,\s*"rejects": \d+,\s*"classes": "[0-9a-f]{64}"')


@dataclass(frozen=True)
class Kind:
    """A folder that distill writes. what: in words; is_ours: whether a file in it proves that it is one; before: what may lie there before
    that file does, as {name, below a folder with "/": what proves the file}; signs: names without one of which it is none; far: whether it may lie
    in an object store."""

    what: str
    option: str
    is_ours: Callable[[StoragePath], bool]
    before: Mapping[str, Callable[[StoragePath], bool]] = field(default_factory=dict)
    signs: frozenset[str] = frozenset()
    far: bool = False


# ------------------------------------------------------------------------------------------------------------------------- what proves it


def _head(path: StoragePath) -> bytes:
    """The first bytes of a file, b"" where none is."""
    try:
        if isinstance(path, RemotePath):
            return path.read_bytes(HEAD)[:HEAD]
        with path.open("rb") as file:
            return file.read(HEAD)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return b""


def _says(path: StoragePath, *keys: str) -> bool:
    """Whether a file is a JSON object with these keys."""
    try:
        if path.stat().st_size > SMALL:
            return False
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError, RecursionError):
        return False
    return isinstance(value, dict) and value.keys() >= set(keys)


def _holds_arrays(path: StoragePath, *names: str) -> bool:
    """Whether a file is an .npz with one of these arrays."""
    try:
        with path.open("rb") as opened, zipfile.ZipFile(opened) as file:
            return any(f"{name}.npy" in file.namelist() or name in file.namelist() for name in names)
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return False


def _is_set(folder: StoragePath) -> bool:
    """A plan, an index, or one shard of ours."""
    if _PLAN.match(_head(folder / "plan.json")) or any(_INDEX.match(_head(folder / "shards" / name)) for name in INDEXES):
        return True
    return _has_shard(folder / "shards")


def _has_shard(folder: StoragePath) -> bool:
    called_so = islice((name for name, _ in _entries(folder) if SHARDS.fullmatch(name)), 8)  # of somebody else's thousands a few are enough
    for name in called_so:
        with suppress(DistillError):
            if _is_shard(folder / name):
                return True
    return False


def _is_shard(path: StoragePath) -> bool:
    """Whether a file has the metadata of a shard, of which nothing else is looked at. OSError where the system fails to read it."""
    try:
        said = json.loads(_said_in_hdf5(path) if path.suffix == ".h5" else _said_in_parquet(path).get(b"distill", b""))
    except (ValueError, RecursionError):
        return False
    return isinstance(said, dict) and said.keys() >= SHARD_SAYS and said.get("version") in FORMAT_VERSIONS


def _said_in_parquet(path: StoragePath) -> dict[bytes, bytes]:
    """The metadata in the footer of a Parquet file; none where it is damaged or another file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(readable(path), memory_map=False) as file:
            return file.metadata.metadata or {}
    except (pa.ArrowException, OSError, ValueError) as error:
        if failed := failure(path, error):
            raise failed from error
        return {}


def _said_in_hdf5(path: StoragePath) -> str | bytes:
    """What an HDF5 file says in the attribute of shards; "" where it has none, is damaged or another file."""
    import h5py

    try:
        with h5py.File(readable(path), "r", locking=False) as file:
            said = file.attrs.get("distill", "")
            return said if isinstance(said, (bytes, str)) else ""
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError, IndexError, OverflowError) as error:
        if failed := failure(path, error):
            raise failed from error
        return ""


def chunk_files(folder: StoragePath) -> list[StoragePath]:
    """What is called as chunks are in a folder, in the order of the names."""
    called_so = re.compile(rf"{NUMBERED}\.parquet")
    return sorted(path for path in folder.iterdir() if called_so.fullmatch(path.name)) if folder.is_dir() else []


def is_chunk_folder(path: str | StoragePath) -> bool:
    """Whether a folder holds chunks, a whole set or not. A folder of shards, whose files have like names, does not."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for file in chunk_files(place(path)):
        try:
            return (pq.read_schema(readable(file)).metadata or {}).get(b"format", b"").startswith(b"distill.chunk.")
        except (pa.ArrowException, OSError, ValueError) as error:  # no chunk, or a damaged one: the next may tell
            if failed := failure(file, error):
                raise failed from error
    return False


def _is_run(folder: StoragePath) -> bool:
    """A run.toml that a run wrote, not a person: in the very letters of the writer; or one that can be read, beside a checkpoint or a summary."""
    import tomli_w

    from distill.config.run import load_run

    written = folder / "run.toml"
    try:
        load_run(written)
        if tomli_w.dumps(read_toml(written)).encode() == written.read_bytes():
            return True
    except (DistillError, OSError, ValueError):
        return False
    return _says(folder / "summary.json", "parameters", "epochs", "student") or _holds_arrays(folder / "checkpoints/last.npz", "progress.json")


def _is_run_file(path: StoragePath) -> bool:
    """Whether a file is a run file, whoever wrote it."""
    from distill.config.run import load_run

    try:
        return bool(load_run(path))
    except (DistillError, OSError, ValueError):
        return False


def read_card(path: str | StoragePath) -> dict[str, Any] | None:
    """What an export says of itself; None where the folder is no export of ours."""
    try:
        card = json.loads((place(path) / CARD).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return card if isinstance(card, dict) and str(card.get("made_by", "")).startswith("distill ") else None


def _is_evaluation(folder: StoragePath) -> bool:
    try:
        judged = json.loads((folder / "evaluation.json").read_bytes())["model"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
    return isinstance(judged, dict) and "path" in judged


def _is_lock(path: StoragePath) -> bool:
    """What holds a folder for one process: a file that says so, or a folder of claims."""
    if is_remote(path) or path.is_dir():
        return all(CLAIM.fullmatch(name) or is_temporary(name) for name, _ in _entries(path))
    return path.is_file() and re.fullmatch(rb"(process \d+ on [^\n]*\n)?", _head(path)) is not None


def _is_file(path: StoragePath) -> bool:
    return path.is_file()


def _any(path: StoragePath) -> bool:
    return True


KINDS = {
    "set": Kind(
        "a set of shards",
        "OUT",
        _is_set,
        {
            r"\.launcher(\.claims)?": _is_lock,
            "state/": _any,
            r"state/error\.json": lambda path: _says(path, "message", "exit_code"),
            r"state/finished\.json": lambda path: _head(path).strip() == b"{}",
            r"state/estimate\.json": lambda path: _says(path, "rows", "chunks", "todo_chunks", "todo_rows", "bytes"),
            r"state/progress-\d{5,}\.json": lambda path: _says(path, "done", "made"),
            r"state/failed-\d{5,}\.json": lambda path: _says(path, "chunk", "reason"),
            LOGS: _is_file,
            "chunks": lambda path: is_chunk_folder(path) or not _strange(path, {}),
            "shards/": _any,
        },
        frozenset({"plan.json", "shards"}),
        far=True,
    ),
    "chunks": Kind("chunks", "OUT", is_chunk_folder, {}, frozenset({"classes.txt"}), far=True),
    "run": Kind("a run", "--out", _is_run, {r"\.trainer(\.claims)?": _is_lock, "checkpoints/": _any, LOGS: _is_file}, frozenset({"run.toml"})),
    "export": Kind("an export", "OUT", lambda folder: read_card(folder) is not None, {}, frozenset({"assets.extra"})),
    "evaluation": Kind(
        "an evaluation",
        "--out",
        _is_evaluation,
        {r"scores-(model|teacher)\.npz": lambda path: _holds_arrays(path, "scores", "cosines"), LOGS: _is_file},
        far=True,
    ),
    "drawing": Kind("drawn identities", "OUT", lambda folder: _says(folder / ".drawing.json", "identities", "images", "size", "seed")),
    "demo": Kind("a demo", "OUT", lambda folder: _head(folder / "teacher.toml").startswith(b"# distill train "), {LOGS: _is_file}),
}
LISTED = ("set", "chunks", "run", "export")  # what is never taken for images
SIGNS = frozenset(INDEXES).union(*(KINDS[kind].signs for kind in LISTED))


def kind_of(folder: StoragePath, names: Collection[str] | None = None) -> str | None:
    """What of ours that holds no list of images a folder is: "set", "chunks", "run", "export", or None.

    names: what lies in it, where the caller knows; without one of SIGNS among them nothing is read.
    """
    there = SIGNS.intersection(names if names is not None else (name for name, _ in _entries(folder)))
    if any(_INDEX.match(_head(folder / name)) for name in there.intersection(INDEXES)):  # the shards of a set, which may have gone elsewhere without it
        return "set"
    return next((kind for kind in LISTED if KINDS[kind].signs & there and KINDS[kind].is_ours(folder)), None)


# ------------------------------------------------------------------------------------------------------------------- taken for another


def no_set(path: StoragePath) -> str:
    """Why no finished set of shards is at a path, by what lies there, and what to do."""
    expected = "Expected the folder that distill embed wrote."
    if not path.exists():
        return f"{path}: nothing is there.{close_to(path)} {expected}"
    if not path.is_dir():
        return f"{path} is {_file_in_words(path)}, no set of shards. {expected}"
    around = path.parent if path.name in ("chunks", "shards", "state") else path
    if find_index(around / "shards") is None and (verb := _unfinished_by(around)) is not None:
        return f"{around} is a set of shards that is not finished. Run the same distill {verb} again: it makes what is missing."
    if around != path and _is_set(around):
        return f"{path} is a part of {around}. Name that folder, {around}, as the set of shards."
    kind = next((kind for kind in KINDS if kind != "drawing" and KINDS[kind].is_ours(path)), None)
    if kind == "chunks":
        return f"{path} holds chunks of an image list, which the teacher has to embed first: distill embed {path} OUT --teacher TEACHER, then give OUT."
    if kind == "demo":
        return f"{path} is a demo, no set of shards. Its own set is {path / 'set'}."
    if kind not in (None, "set") or (path / "run.toml").is_file():
        return f"{path} is {KINDS[kind or 'run'].what}, no set of shards. {expected}"
    if any(SHARDS.fullmatch(name) for name, is_file in _entries(path) if is_file):
        return (
            f"{path} holds no {INDEXES[0]} (nor the {INDEXES[1]} of older sets), only shards. If they were copied here, copy the files beside them too, "
            "whose names begin with _; else finish the set."
        )
    if (path / "saved_model.pb").is_file():
        return f"{path} is a model, no set of shards. {expected}"
    if not any(not SYSTEM.fullmatch(name) for name, _ in _entries(path)):
        return f"{path} is empty. {expected}"
    return f"{path} is no set of shards. If it holds photos, let the teacher embed them first: distill embed {path} OUT --teacher TEACHER, then give OUT."


def _unfinished_by(folder: StoragePath) -> str | None:
    """The verb that began the set in a folder, "embed" or "import"; None where no set was begun, or no plan says how."""
    head = _head(folder / "plan.json")
    if _PLAN.match(head):
        try:
            return "import" if json.loads((folder / "plan.json").read_bytes()).get("batch") == 0 else "embed"
        except ValueError:
            return "embed"
    return "embed" if any(name.startswith(".launcher") and _is_lock(folder / name) for name, _ in _entries(folder)) and not _is_set(folder) else None


MODELS = (".keras", ".h5", ".hdf5", ".onnx")


def _file_in_words(path: StoragePath) -> str:
    """("run.toml") -> "a run file"."""
    if SHARDS.fullmatch(path.name):
        return "a single shard or chunk"
    if path.suffix.lower() in MODELS:
        return "a model"
    return "a run file" if path.suffix.lower() == ".toml" and _is_run_file(path) else "a file"


def no_model(path: str | os.PathLike[str] | StoragePath, best: str) -> str:
    """Why a folder that distill wrote holds no model, and what to do; "" where it is none of ours, or not known.

    best: what to do with the student of the best epoch, "{}" for its path: "distill export {} OUT".
    """
    folder = place(path)
    kind = kind_of(folder) if folder.is_dir() else None
    if kind == "run" and not (folder / "student.keras").is_file():
        saved = folder / "checkpoints" / "best.keras"
        way = f", or take the best student so far: {best.format(saved)}" if saved.is_file() else ""
        return f"{folder} is a run that has not finished, so it has no student yet. Run the same distill train again to finish it{way}."
    if kind == "set":
        return f"{folder} is a set of shards, no model. To train a student from it: distill train --shards {folder} --out runs/NAME, then give runs/NAME."
    if kind == "chunks":
        return f"{folder} holds chunks of an image list, no model. Give the folder of a run (student.keras) or another model."
    return ""


# ------------------------------------------------------------------------------------------------------------------- before it is written


def check_folder(path: str | os.PathLike[str] | StoragePath, kind: str, *others: str) -> None:
    """DistillError unless `path` may become a folder of `kind` or go on as one: it is not there, is empty, or holds one (or one of `others`).

    Nothing is written, and of a folder of somebody else's nothing is read but names and the first bytes of files that are called as ours are.
    """
    folder, wanted = check_place(path, kind), KINDS[kind]
    if any(KINDS[one].is_ours(folder) for one in (kind, *others)):
        return
    strange = _strange(folder, wanted.before)
    if not strange:
        return
    if kind == "run" and strange == ["run.toml"] and _is_run_file(folder / "run.toml"):
        raise DistillError(
            f"{folder / 'run.toml'} is a run file that no run wrote, and a run writes its own under that name. It was left alone: give it another name, "
            "or use another folder as --out."
        )
    names = ", ".join(strange[:3]) + (" ..." if len(strange) > 3 else "")
    other = kind_of(folder)
    holds = f"{KINDS[other].what} ({names})" if other else f"files that are no part of {wanted.what} ({names})"
    raise DistillError(f"{folder} holds {holds}. Nothing was written: use an empty or a new folder as {wanted.option}.")


def check_place(path: str | os.PathLike[str] | StoragePath, kind: str) -> Path | RemotePath:
    """The place where a folder of `kind` is to be. DistillError where none can be: far away one that is written on a disk only; where a file has
    the name, or one of the names above it."""
    folder, wanted = place(path), KINDS[kind]
    if isinstance(folder, RemotePath):
        if not wanted.far:
            raise _only_local(folder, wanted)
        if folder.is_file():
            raise DistillError(f"{folder} is an object; {wanted.option} is to be a folder. Use another name.")
    else:
        _check_above(folder, f"{wanted.option} {folder} is to be a folder")
    if (within := _set_around(folder)) is not None:
        raise DistillError(f"{wanted.option} {folder} lies in what {within}, a set of shards, is made of. Use another folder.")
    return folder


def check_local(path: str | os.PathLike[str] | StoragePath, kind: str) -> Path:
    """As `check_place`, for what is written on a disk only."""
    folder = check_place(path, kind)
    if isinstance(folder, RemotePath):
        raise _only_local(folder, KINDS[kind])
    return folder


def _only_local(folder: RemotePath, wanted: Kind) -> DistillError:
    copy = {"gs": "gcloud storage cp -r", "s3": "aws s3 cp --recursive"}[folder.scheme]
    return DistillError(f"{folder}: {wanted.what} can only be written on a local disk. Give a local {wanted.option}, and copy it there afterwards ({copy}).")


def _check_above(folder: Path, wanted: str) -> None:
    """DistillError where the first of a folder and those above it that is there is no folder."""
    there = next((above for above in (folder, *folder.parents) if os.path.lexists(above)), None)
    if there is not None and not there.is_dir():
        what = "a link that leads nowhere" if there.is_symlink() and not there.exists() else "a file"
        raise DistillError(f"{there} is {what}; {wanted}. Use another name.")


def check_picture(path: str | os.PathLike[str] | StoragePath) -> StoragePath:
    """Where a PNG is to be written. DistillError where a folder or a file of somebody else's has the name, or no folder is there to write it in."""
    picture = place(path)
    if picture.is_dir():
        raise DistillError(f"{picture} is a folder; --out is to be a PNG file. Use another name, such as {picture / 'views.png'}.")
    if not isinstance(picture, RemotePath):
        _check_above(picture.parent, f"--out {picture} is to be a file in a folder")
        if not picture.parent.is_dir():
            raise DistillError(f"{picture.parent}: no such folder, so {picture.name} cannot be written in it. Make it first.")
    if (os.path.lexists(picture) if isinstance(picture, Path) else picture.exists()) and DRAWN not in _head(picture):
        raise DistillError(f"{picture} is there already and does not say that distill views drew it; it is left alone. Use another name as --out.")
    return picture


def strangers(folder: Path, known: re.Pattern[str]) -> list[str]:
    """Names below a folder on disk that are none of ours; those of systems do not count where they lie in the folder itself."""
    names = (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")))
    return [name for name in names if not known.fullmatch(name) and not SYSTEM.fullmatch(name.partition("/")[0])]


def _strange(folder: StoragePath, known: Mapping[str, Callable[[StoragePath], bool]], most: int = 4) -> list[str]:
    """Up to `most` names below a folder that are not `known` (see Kind.before), nor a system's, nor an unfinished file of ours; sorted."""
    found: list[str] = []
    for name, is_file in _entries(folder):
        inside = {rest.removeprefix(f"{name}/"): proof for rest, proof in known.items() if rest.startswith(f"{name}/")}
        if SYSTEM.fullmatch(name) or is_temporary(name):
            continue
        if not is_file and inside:
            found += [f"{name}/{one}" for one in _strange(folder / name, {rest: proof for rest, proof in inside.items() if rest}, most)]
        elif not any(re.fullmatch(pattern, name) and proof(folder / name) for pattern, proof in known.items()):
            found.append(name)
        if len(found) >= most:
            break
    return sorted(found)


def _entries(folder: StoragePath) -> Iterator[tuple[str, bool]]:
    """(name, is no folder) of what lies in a folder; of nothing where there is no folder."""
    if isinstance(folder, RemotePath):
        yield from ((path.name, is_file) for path, is_file in folder.entries() if path != folder)
    elif isinstance(folder, Path):
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
            for entry in entries:
                yield entry.name, not entry.is_dir()


def check_apart(source: str | os.PathLike[str] | StoragePath, out: str | os.PathLike[str] | StoragePath, kind: str = "set", own: str = "") -> None:
    """DistillError where a list of images lies in the folder to be written or that one in the list, in whatever way the two are spelt or linked,
    or the list in what a set is made of.

    own: the folder in OUT that may be SOURCE ("chunks"). What went on so before this was looked at goes on: an OUT that is ours already.
    """
    begin, end, wanted = place(source), place(out), KINDS[kind]
    within = _set_around(begin)
    if within is not None:
        raise DistillError(f"{source} lies in {within}, a set of shards. Name the images, their list, or {within}/chunks instead.")
    if own and _same(begin, end / own):
        return
    if _lies_in(end, begin):
        relation = "is the folder of the images itself" if _same(end, begin) else f"lies among the images in {source} and would be taken for some"
    elif _lies_in(begin, end):
        relation = f"is a folder around {source}, which distill did not make"
    else:
        return
    if not wanted.is_ours(end):
        raise DistillError(f"{wanted.option} {out} {relation}. Nothing was written: use a folder beside it as {wanted.option}.")


def _set_around(source: StoragePath) -> StoragePath | None:
    """The set in whose shards/, chunks/ or state/ a path lies, other than its chunks themselves."""
    real = source.resolve()
    for inner in (real, *real.parents):
        if inner.name in ("chunks", "shards", "state") and not (inner == real and inner.name == "chunks") and _is_set(inner.parent):
            return inner.parent
    return None


def _lies_in(path: StoragePath, folder: StoragePath) -> bool:
    """Whether `path`, there or not, is `folder` or lies below it, where `folder` is one."""
    if not (isinstance(path, Path) and isinstance(folder, Path)):
        if not (isinstance(path, RemotePath) and isinstance(folder, RemotePath) and path.scheme == folder.scheme):
            return False
        inner, outer = (posixpath.normpath(one.path) for one in (path, folder))
        return inner == outer or inner.startswith(f"{outer}/")
    real = Path(os.path.realpath(path))
    return any(_same(above, folder) for above in (real, *real.parents))


def _same(one: StoragePath, other: StoragePath) -> bool:
    """Whether two paths are one place; by the system's own number for it where it is there, so that case and mounts do not matter."""
    if not (isinstance(one, Path) and isinstance(other, Path)):
        return str(one) == str(other)
    try:
        return os.path.samestat(os.stat(one), os.stat(other))
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)


# ------------------------------------------------------------------------------------------------------------------------ what is removed


def remove_own(folder: StoragePath, names: re.Pattern[str], first: str = "") -> None:
    """Remove the files directly in `folder` that are called as ours are, `first` before the others; whatever else lies there stays."""
    own = [name for name, is_file in _entries(folder) if is_file and (names.fullmatch(name) or is_temporary(name))]
    for name in sorted(own, key=lambda name: name != first):
        (folder / name).unlink(missing_ok=True)


@dataclass(frozen=True)
class Made:
    """What a folder lacked when a verb began: new, names of ours in it; missing, the folder and those above it that were not there."""

    folder: StoragePath
    new: tuple[str, ...]
    missing: tuple[StoragePath, ...]

    def give_back(self) -> None:
        """Remove of it what is a file, or a folder with nothing in it; whoever calls this holds the folder."""
        for path in (*(self.folder / name for name in self.new), *self.missing):
            with suppress(OSError):
                if isinstance(path, Path) and not stat.S_ISREG(os.lstat(path).st_mode):
                    path.rmdir()
                else:
                    path.unlink(missing_ok=True)


def make_folder(folder: StoragePath, *own: str) -> Made:
    """Make a folder and those above it; what `Made.give_back` removes again. own: names that the verb makes in it."""
    missing = tuple(path for path in (folder, *folder.parents) if not os.path.lexists(path)) if isinstance(folder, Path) else ()
    new = tuple(name for name in own if not (folder / name).exists())
    folder.mkdir(parents=True, exist_ok=True)
    return Made(folder, new, missing)
