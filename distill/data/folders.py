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
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from distill.data.kinds import DRAWN, KINDS, PLAN_HEAD, SHARDS, Kind, entries_of, head_of, is_lock, is_run_file, is_set, kind_of, strange_names
from distill.data.layout import INDEXES, find_index
from distill.data.names import SYSTEM
from distill.errors import DistillError
from distill.storage.files import is_temporary
from distill.storage.objects import RemotePath
from distill.storage.path import StoragePath, close_to, place

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
    if around != path and is_set(around):
        return f"{path} is a part of {around}. Name that folder, {around}, as the set of shards."
    kind = next((kind for kind in KINDS if kind != "drawing" and KINDS[kind].is_ours(path)), None)
    if kind == "chunks":
        return f"{path} holds chunks of an image list, which the teacher has to embed first: distill embed {path} OUT --teacher TEACHER, then give OUT."
    if kind == "demo":
        return f"{path} is a demo, no set of shards. Its own set is {path / 'set'}."
    if kind not in (None, "set") or (path / "run.toml").is_file():
        return f"{path} is {KINDS[kind or 'run'].what}, no set of shards. {expected}"
    if any(SHARDS.fullmatch(name) for name, is_file in entries_of(path) if is_file):
        return (
            f"{path} holds no {INDEXES[0]} (nor the {INDEXES[1]} of older sets), only shards. If they were copied here, copy the files beside them too, "
            "whose names begin with _; else finish the set."
        )
    if (path / "saved_model.pb").is_file():
        return f"{path} is a model, no set of shards. {expected}"
    if not any(not SYSTEM.fullmatch(name) for name, _ in entries_of(path)):
        return f"{path} is empty. {expected}"
    return f"{path} is no set of shards. If it holds photos, let the teacher embed them first: distill embed {path} OUT --teacher TEACHER, then give OUT."


def _unfinished_by(folder: StoragePath) -> str | None:
    """The verb that began the set in a folder, "embed" or "import"; None where no set was begun, or no plan says how."""
    head = head_of(folder / "plan.json")
    if PLAN_HEAD.match(head):
        try:
            return "import" if json.loads((folder / "plan.json").read_bytes()).get("batch") == 0 else "embed"
        except ValueError:
            return "embed"
    return "embed" if any(name.startswith(".launcher") and is_lock(folder / name) for name, _ in entries_of(folder)) and not is_set(folder) else None


MODELS = (".keras", ".h5", ".hdf5", ".onnx")


def _file_in_words(path: StoragePath) -> str:
    """("run.toml") -> "a run file"."""
    if SHARDS.fullmatch(path.name):
        return "a single shard or chunk"
    if path.suffix.lower() in MODELS:
        return "a model"
    return "a run file" if path.suffix.lower() == ".toml" and is_run_file(path) else "a file"


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
    strange = strange_names(folder, wanted.before)
    if not strange:
        return
    if kind == "run" and strange == ["run.toml"] and is_run_file(folder / "run.toml"):
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
        if not wanted.remote:
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
    if (os.path.lexists(picture) if isinstance(picture, Path) else picture.exists()) and DRAWN not in head_of(picture):
        raise DistillError(f"{picture} is there already and does not say that distill views drew it; it is left alone. Use another name as --out.")
    return picture


def strangers(folder: Path, known: re.Pattern[str]) -> list[str]:
    """Names below a folder on disk that are none of ours; those of systems do not count where they lie in the folder itself."""
    names = (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")))
    return [name for name in names if not known.fullmatch(name) and not SYSTEM.fullmatch(name.partition("/")[0])]


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
        if inner.name in ("chunks", "shards", "state") and not (inner == real and inner.name == "chunks") and is_set(inner.parent):
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
    own = [name for name, is_file in entries_of(folder) if is_file and (names.fullmatch(name) or is_temporary(name))]
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
