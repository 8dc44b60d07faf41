"""Whose folder it is. distill writes into folders that are empty, new, or its own; it changes nothing in any other folder.

A folder is ours when the content of a file in it proves it (the plan of a set, the card of an export ...), see KINDS. Other files beside such a
proof stay as they are. Without a proof, a folder may have only what operating systems put into every folder, and the files of a
run that ended before the proof was written.

Only files with names of ours are ever removed, here, one by one.
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

from distill.data.kinds import DRAWN, KINDS, PAGE, PLAN_HEAD, SHARDS, Kind, entries_of, head_of, is_lock, is_run_file, is_set, kind_of, strange_names
from distill.data.layout import INDEXES, find_index
from distill.data.names import SYSTEM
from distill.errors import DistillError
from distill.storage.files import is_temporary
from distill.storage.objects import RemotePath
from distill.storage.path import StoragePath, as_path, close_to

# ------------------------------------------------------------------------------------------------------------------- taken for another


def no_set(path: StoragePath) -> str:
    """Returns the message for a path that is no finished set of shards: what is there instead, and what to do."""
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
    """Returns the verb that began the set in a folder, "embed" or "import"; None where no set was begun."""
    head = head_of(folder / "plan.json")
    if PLAN_HEAD.match(head):
        try:
            return "import" if json.loads((folder / "plan.json").read_bytes()).get("batch") == 0 else "embed"
        except ValueError:
            return "embed"
    return "embed" if any(name.startswith(".launcher") and is_lock(folder / name) for name, _ in entries_of(folder)) and not is_set(folder) else None


MODELS = (".keras", ".h5", ".hdf5", ".onnx", ".tflite", ".xml", ".pb", ".meta")  # suffixes of models in one file, and of graphs of TensorFlow 1


def is_model(path: StoragePath) -> bool:
    """Returns whether the names of files say that a model lies there: a SavedModel, a model in one file, a graph of TensorFlow 1 with its checkpoint."""
    if not path.is_dir():
        return path.suffix.lower() in MODELS or path.suffix == ".index" and any(found.suffix == ".meta" for found in path.parent.iterdir())
    return (path / "saved_model.pb").is_file() or {".meta", ".index"} <= {found.suffix for found in path.iterdir()}


def _file_in_words(path: StoragePath) -> str:
    """Returns what a file is: ("run.toml") -> "a run file"."""
    if SHARDS.fullmatch(path.name):
        return "a single shard or chunk"
    if path.suffix.lower() in MODELS:
        return "a model"
    return "a run file" if path.suffix.lower() == ".toml" and is_run_file(path) else "a file"


def no_model(path: str | os.PathLike[str] | StoragePath, best: str) -> str:
    """Returns why a folder of distill is no model, and what to do; "" where it is not ours, or unknown.

    best: what to do with the student of the best epoch, "{}" for its path: "distill export {} OUT".
    """
    folder = as_path(path)
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
    """Raises DistillError unless `path` can become or stay a folder of `kind`: it is missing, empty, or one already (or one of `others`).

    Nothing is written. In a foreign folder only names are read, and the first bytes of files that have names of ours.
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
    """Returns the path for a folder of `kind`. Raises DistillError where it cannot be one: a remote path for a kind that is local only, or a file
    with its name or the name of a folder above it."""
    folder, wanted = as_path(path), KINDS[kind]
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
    """Returns the local path for a folder of `kind`; see `check_place`. Raises DistillError for a remote one too."""
    folder = check_place(path, kind)
    if isinstance(folder, RemotePath):
        raise _only_local(folder, KINDS[kind])
    return folder


def _only_local(folder: RemotePath, wanted: Kind) -> DistillError:
    copy = {"gs": "gcloud storage cp -r", "s3": "aws s3 cp --recursive"}[folder.scheme]
    return DistillError(f"{folder}: {wanted.what} can only be written on a local disk. Give a local {wanted.option}, and copy it there afterwards ({copy}).")


def _check_above(folder: Path, wanted: str) -> None:
    """Raises DistillError where the first existing path among a folder and its parents is no folder."""
    there = next((above for above in (folder, *folder.parents) if os.path.lexists(above)), None)
    if there is not None and not there.is_dir():
        what = "a link that leads nowhere" if there.is_symlink() and not there.exists() else "a file"
        raise DistillError(f"{there} is {what}; {wanted}. Use another name.")


def check_image_file(path: str | os.PathLike[str] | StoragePath, option: str = "--out", usual: str = "views.png") -> StoragePath:
    """Returns the path for a PNG. Raises DistillError where a folder or a foreign file has the name, or its folder is missing.

    option, usual: what it was given as, and a name that it might have, for messages.
    """
    image = as_path(path)
    if image.is_dir():
        raise DistillError(f"{image} is a folder; {option} is to be a PNG file. Use another name, such as {image / usual}.")
    if not isinstance(image, RemotePath):
        _check_above(image.parent, f"{option} {image} is to be a file in a folder")
        if not image.parent.is_dir():
            raise DistillError(f"{image.parent}: no such folder, so {image.name} cannot be written in it. Make it first.")
    if (os.path.lexists(image) if isinstance(image, Path) else image.exists()) and not any(mark in head_of(image) for mark in DRAWN):
        raise DistillError(f"{image} is there already and does not say that distill drew it; it is left alone. Use another name as {option}.")
    return image


def check_page(path: str | os.PathLike[str] | StoragePath) -> Path:
    """Returns the local path for an HTML page. DistillError where a folder or a foreign file has the name, or its folder is missing."""
    page = as_path(path)
    if isinstance(page, RemotePath):
        raise DistillError(f"{page}: a page can only be written on a local disk. Give a local --out, and copy it there afterwards.")
    if page.is_dir():
        raise DistillError(f"{page} is a folder; --out is to be an HTML file. Use another name, such as {page / 'report.html'}.")
    if page.suffix.lower() not in (".html", ".htm"):
        raise DistillError(f"--out {page}: expected the name of an HTML file, such as {page}.html.")
    _check_above(page.parent, f"--out {page} is to be a file in a folder")
    if not page.parent.is_dir():
        raise DistillError(f"{page.parent}: no such folder, so {page.name} cannot be written in it. Make it first.")
    if os.path.lexists(page) and PAGE not in head_of(page):
        raise DistillError(f"{page} is there already and does not say that distill wrote it; it is left alone. Use another name as --out.")
    return page


def check_apart(source: str | os.PathLike[str] | StoragePath, out: str | os.PathLike[str] | StoragePath, kind: str = "set", own: str = "") -> None:
    """Raises DistillError where the images are inside the folder to be written, or that folder inside the images, however the two are spelt or linked,
    or the images are inside the parts of a set.

    own: the folder in OUT that may be SOURCE ("chunks"). An OUT that is ours already is accepted, as in earlier versions.
    """
    begin, end, wanted = as_path(source), as_path(out), KINDS[kind]
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
    """Returns the set in whose shards/, chunks/ or state/ a path is, except its chunks themselves, else None."""
    real = source.resolve()
    for inner in (real, *real.parents):
        if inner.name in ("chunks", "shards", "state") and not (inner == real and inner.name == "chunks") and is_set(inner.parent):
            return inner.parent
    return None


def _lies_in(path: StoragePath, folder: StoragePath) -> bool:
    """Returns whether `path`, which may be missing, is `folder` or is below it."""
    if not (isinstance(path, Path) and isinstance(folder, Path)):
        if not (isinstance(path, RemotePath) and isinstance(folder, RemotePath) and path.scheme == folder.scheme):
            return False
        inner, outer = (posixpath.normpath(one.path) for one in (path, folder))
        return inner == outer or inner.startswith(f"{outer}/")
    real = Path(os.path.realpath(path))
    return any(_same(above, folder) for above in (real, *real.parents))


def _same(one: StoragePath, other: StoragePath) -> bool:
    """Returns whether two paths are the same; existing ones by the system's own number, so that case and mounts do not matter."""
    if not (isinstance(one, Path) and isinstance(other, Path)):
        return str(one) == str(other)
    try:
        return os.path.samestat(os.stat(one), os.stat(other))
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)


# ------------------------------------------------------------------------------------------------------------------------ what is removed


def remove_own(folder: StoragePath, names: re.Pattern[str], first: str = "") -> None:
    """Removes the files directly in `folder` that have names of ours, `first` before the others; everything else stays."""
    own = [name for name, is_file in entries_of(folder) if is_file and (names.fullmatch(name) or is_temporary(name))]
    for name in sorted(own, key=lambda name: name != first):
        (folder / name).unlink(missing_ok=True)


@dataclass(frozen=True)
class Made:
    """What was missing when a verb began. new: names of ours in the folder; missing: the folder and its parents."""

    folder: StoragePath
    new: tuple[str, ...]
    missing: tuple[StoragePath, ...]

    def give_back(self) -> None:
        """Removes the files and empty folders among them; the caller has locked the folder."""
        for path in (*(self.folder / name for name in self.new), *self.missing):
            with suppress(OSError):
                if isinstance(path, Path) and not stat.S_ISREG(os.lstat(path).st_mode):
                    path.rmdir()
                else:
                    path.unlink(missing_ok=True)


def make_folder(folder: StoragePath, *own: str) -> Made:
    """Makes a folder and its parents; returns what `Made.give_back` removes again. own: names that the verb makes in it."""
    missing = tuple(path for path in (folder, *folder.parents) if not os.path.lexists(path)) if isinstance(folder, Path) else ()
    new = tuple(name for name in own if not (folder / name).exists())
    folder.mkdir(parents=True, exist_ok=True)
    return Made(folder, new, missing)
