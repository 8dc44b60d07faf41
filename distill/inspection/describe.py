"""Describes a path as a dict of plain values: everything that distill reads or writes."""

from __future__ import annotations

from collections.abc import Callable
from shlex import quote
from typing import Any

from distill.data.chunks import list_chunks, read_chunk, read_classes
from distill.data.folders import is_model
from distill.data.kinds import KINDS, is_chunk_folder, read_card
from distill.data.layout import find_index
from distill.data.shards import FORMATS, Record, ShardMeta, open_shards
from distill.data.shards.plan import Plan
from distill.data.shards.run_state import ChunkFailure, ChunkProgress, Estimate, Phase, RunError, RunState
from distill.errors import Damaged, DistillError, NoShard
from distill.images.augmentation import RECIPES
from distill.inspection.written import TEXTS, find_written, run_in_words
from distill.storage.json_files import read_json
from distill.storage.locks import owner_of
from distill.storage.path import StoragePath, is_remote


def describe(path: StoragePath, describe_model: Callable[[StoragePath], dict[str, Any]]) -> dict[str, Any]:
    """Returns the description by the first kind that fits. describe_model: describes a teacher or student on disk."""
    if not path.exists():
        raise DistillError(f"{path}: nothing is there.")
    looked = not is_remote(path) or path.suffix.lower() in TEXTS and path.is_file()  # no other remote file is fetched for its kind
    if (written := find_written(path) if looked else None) is not None:
        return {"kind": written[0], "path": str(path), **written[1]}
    for kind, fits, describe_it in _kinds(describe_model):
        if fits(path):
            return {"kind": kind, "path": str(path), **describe_it(path)}
    raise DistillError(f"{path} is nothing that distill reads or writes: expected {', '.join(kind for kind, _, _ in _kinds(describe_model))}.")


def in_words(found: dict[str, Any]) -> str:
    """Returns a description as text: a line for each entry, lists and dicts indented below their name, the next commands last."""
    lines = list[str]()
    left_out = {"gigabytes"} if "bytes" in found else {"run"} if "stages" in found else set()  # which other lines give in shorter form
    shown = {name: value for name, value in found.items() if name not in {"next", *left_out}} | {name: found[name] for name in ("next",) if name in found}
    for name, value in shown.items():
        if name == "bytes":
            lines.append(f"size: {_size_in_words(value)}")
        elif name == "next":  # a line for each command
            lines += [f"next: {command}" for command in value.splitlines()]
        elif isinstance(value, dict):
            lines += [f"{name.replace('_', ' ')}:", *(f"  {key}: {_short(one)}" for key, one in value.items())]
        elif isinstance(value, list) and value and not isinstance(value[0], (int, float)):
            lines += [
                f"{name.replace('_', ' ')}:",
                *(f"  {_short(one)}" for one in value[:10]),
                *([f"  ... {len(value) - 10} more"] if len(value) > 10 else []),
            ]
        else:
            lines.append(f"{name.replace('_', ' ')}: {_short(value)}")
    return "\n".join(lines)


def _kinds(describe_model: Callable[[StoragePath], dict[str, Any]]) -> list[tuple[str, Callable[[StoragePath], bool], Callable[[StoragePath], dict[str, Any]]]]:
    def model(path: StoragePath) -> dict[str, Any]:
        found = {"format" if name == "kind" else name: value for name, value in describe_model(path).items()}
        return {**found, "next": f"distill embed SOURCE OUT --teacher {quote(str(path))}"}

    return [
        ("set of shards", lambda path: _index(path) is not None, _set),
        ("unfinished set of shards", _is_unfinished, _unfinished),
        ("chunks", is_chunk_folder, _chunks),
        ("run", lambda path: (path / "run.toml").is_file(), _run),
        ("export", lambda path: path.is_dir() and read_card(path) is not None, lambda path: _export(path, model)),
        ("model", lambda path: is_model(path) and not _is_shard(path), model),
        ("shard", _is_shard, _shard),
        ("chunk", lambda path: path.suffix == ".parquet", _chunk),
        ("image list", lambda path: path.is_dir() or path.is_file(), _list),
    ]


def _export(path: StoragePath, model: Callable[[StoragePath], dict[str, Any]]) -> dict[str, Any]:
    """Returns what an export is: its card, the first of its files as a model, and in short what each file is."""
    card = read_card(path) or {}
    files = {name: path / one["file"] for name, one in card.get("exports", {}).items()}
    first = path if (path / "saved_model.pb").is_file() else next((file for file in files.values() if file.exists()), path)
    shorter = {"format", "input", "output", "exports", "proof", "figures", "licence", "readme_sha256"}  # for programs, or said again by the model
    told = {name: value for name, value in card.items() if name not in shorter and value}
    there = {name: f"{files[name]}, {one['bytes'] / 1e6:.2f} MB, cosine {one['cosine_q01']:.6f}" for name, one in card.get("exports", {}).items()}
    return {**told, **model(first), **({"exports": there} if there else {}), "next": f"distill evaluate {quote(str(first))} --pairs FOLDER"}


def _index(path: StoragePath) -> StoragePath | None:
    return find_index(path) or find_index(path / "shards")


def _set(path: StoragePath) -> dict[str, Any]:
    shards = open_shards(path)
    size = sum(record.shard_bytes for record in shards.records)
    name = quote(str(path))
    return {
        "rows": shards.rows,
        "rejects": shards.rejects,
        "shards": len(shards.records),
        "format": shards.format,
        "gigabytes": round(size / 1e9, 3),
        "bytes": size,
        "classes": len(shards.classes),
        "every_row_labelled": shards.labelled,
        "next": f"distill verify {name} --deep\ndistill train --shards {name} --out runs/NAME",
        "meta": {name: value for name, value in _meta(shards.meta).items() if name not in ("chunk", "of", "chunk_sha256", "rows")},
    }


def _meta(meta: ShardMeta) -> dict[str, Any]:
    """Returns the metadata, with the name of a recipe where it has one."""
    return {**meta.as_dict(), "recipe": meta.recipe.name if meta.recipe.name in RECIPES else meta.recipe.as_dict()}


def _read_json(path: StoragePath, kind: Any = dict[str, Any]) -> Any:
    try:
        return read_json(path, kind)
    except ValueError as error:
        raise Damaged(f"{path} is damaged: {error}.") from error


def _is_unfinished(path: StoragePath) -> bool:
    return (path / "plan.json").is_file() or (path / ".launcher").exists()


def _unfinished(path: StoragePath) -> dict[str, Any]:
    """Returns how far a run is, or was when it ended, and which process works here now."""
    launcher = owner_of(path, "launcher")
    found: dict[str, Any] = {"launcher": {None: "unknown: this file system has no locks", "": "none at work"}.get(launcher, launcher)}
    state = RunState(path / "state")
    if error := state.read(RunError):
        found["error"] = error.message
    if launcher != "" and (doing := state.read(Phase)) and doing.phase:
        found["phase"] = doing.phase
    if not (path / "plan.json").is_file():
        return {**found, **_again(launcher, "embed"), "plan": "none yet: it is written when the teacher is loaded and the list is cut"}
    plan, shards = Plan.load(path / "plan.json"), path / "shards"
    names = {one.name for one in shards.iterdir()} if shards.is_dir() else set()
    records = [Record.load(shards / name) for name in sorted(names) if plan.names.is_record(name)]
    done = {record.number: record for record in records if record.shard in names and _size(shards / record.shard) == record.shard_bytes}
    if (views := plan.meta.views) > plan.first_views:  # shards with only the views of their first run are not done
        done = {number: record for number, record in done.items() if _views_in(shards / record.shard, plan.format) == views}
    found |= {
        "rows": plan.rows,
        "done_rows": sum(record.rows + record.rejects for record in done.values()),
        "rejects": sum(record.rejects for record in done.values()),
        "chunks": len(plan.chunks),
        "done_chunks": len(done),
        "missing_chunks": sorted(set(range(len(plan.chunks))) - set(done)),
        "failed_chunks": {str(note.chunk): note.reason for note in state.read_chunks(ChunkFailure).values()},
    }
    found |= _again(launcher, "import" if plan.imported else "embed")
    return {**found, **({} if launcher == "" else _pace(state, set(done))), "meta": _meta(plan.meta)}


def _again(launcher: str | None, verb: str) -> dict[str, Any]:
    """Returns what to do with an unfinished set that no process works on."""
    return {"next": f"run the same distill {verb} again: it goes on here"} if launcher == "" else {}


def _size(shard: StoragePath) -> int:
    """Returns bytes; -1 where the shard is just being replaced."""
    try:
        return shard.stat().st_size
    except FileNotFoundError:
        return -1


def _views_in(shard: StoragePath, format: str) -> int:
    """Returns the number of views; 0 where the shard is just being replaced."""
    try:
        return FORMATS[format].read_meta(shard).views
    except (FileNotFoundError, Damaged):
        return 0


def _pace(state: RunState, done: set[int]) -> dict[str, Any]:
    """Returns the rows of unfinished chunks, and rows a second since the plan was made, by the clock of the file server."""
    chunks = state.read_chunks(ChunkProgress)
    found: dict[str, Any] = {"rows_in_progress": sum(note.done for number, note in chunks.items() if number not in done)}
    made, began, last = sum(note.made for note in chunks.values()), state.last_written(Estimate), state.last_written(ChunkProgress)
    if made and began is not None and last is not None and last - began > 1:
        found["rows_per_second"] = round(made / (last - began), 1)
    return found


def _chunks(path: StoragePath) -> dict[str, Any]:
    chunks = [read_chunk(one) for one in list_chunks(path)]
    return {
        "rows": sum(len(chunk.keys) for chunk in chunks),
        "chunks": len(chunks),
        "classes": len(read_classes(path)),
        "next": f"distill embed {quote(str(path))} OUT --root FOLDER --teacher MODEL",
    }


def _run(path: StoragePath) -> dict[str, Any]:
    summary = path / "summary.json"
    state = _read_json(summary) if summary.is_file() else {"finished": False, "next": "run the same distill train again"}
    file = path / "run.toml"
    words = {name: value for name, value in run_in_words(file).items() if name in ("student", "stages", "problems")}
    found = {**words, "run": file.read_text(encoding="utf-8").splitlines(), "summary": state}
    if state.get("finished") is False:
        return found
    name = quote(str(path))
    return {**found, "next": f"distill evaluate {name} --pairs FOLDER\ndistill export {name} OUT"}


def _is_shard(path: StoragePath) -> bool:
    return _shard_format(path) is not None


def _shard_format(path: StoragePath) -> str | None:
    for name, shards in FORMATS.items():
        if path.suffix == f".{shards.suffix}" and path.is_file():
            try:
                shards.read_meta(path)
            except NoShard:
                return None
            except DistillError:  # it is a shard; its description reports the fault
                pass
            return name
    return None


def _shard(path: StoragePath) -> dict[str, Any]:
    shards = FORMATS[str(_shard_format(path))]
    return {"meta": _meta(shards.read_meta(path)), "row_groups": len(shards.group_rows(path))}


def _chunk(path: StoragePath) -> dict[str, Any]:
    chunk = read_chunk(path)
    keys = chunk.keys[:3]
    return {"chunk": chunk.number, "of": chunk.of, "rows": len(chunk.keys), "sha256": chunk.sha256, "first_keys": keys}


def _list(path: StoragePath) -> dict[str, Any]:
    from distill.data.lists.image_list import open_list

    images = open_list(path)
    rows, first = 0, list[str]()
    for keys, _ in images.batches(100_000):
        first, rows = first or list(keys[:3]), rows + len(keys)
    return {
        "rows": rows,
        "classes": len(images.classes),
        "first_keys": first,
        **({"skipped": images.skipped} if images.skipped else {}),
        **_drawn(path),
        "next": f"distill embed {quote(str(path))} OUT --teacher MODEL",
    }


def _drawn(path: StoragePath) -> dict[str, Any]:
    """Returns how the images of a folder were drawn, where distill drew them."""
    return {"drawn": _read_json(path / ".drawing.json")} if not is_remote(path) and KINDS["drawing"].is_ours(path) else {}


def _size_in_words(size: int) -> str:
    """Returns a size as text: (24_500) -> "24.5 kB"."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.3g} {unit}" if size < 1000 * scale else f"{size / scale:,.0f} {unit}"
    return f"{size} bytes"


def _short(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(one)}" for key, one in value.items()) or "none"
    if isinstance(value, list) and len(value) > 12:
        return f"{', '.join(map(str, value[:12]))} ... ({len(value)} in all)"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(_short(one) if isinstance(one, dict) else str(one) for one in value)
    return f"{value:,}" if type(value) is int else str(value)
