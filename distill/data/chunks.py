"""Chunks: the rows of an image list in numbered Parquet files, all of one size but the last, and the class table beside them.

    00017-of-00059.parquet    key: string, label: int32 (null where rows have no label); the chunk's number counts from 0
    classes.txt               UTF-8, LF; line n is class n; empty where rows have no labels
    listing.tsv.zst           sizes and times of the files, kept by distill embed; see `distill.data.lists.listing`

Metadata of a chunk: `format` ("distill.chunk.1"), `chunk` and `of` (decimal), `sha256` of its rows and `classes`, the SHA-256 of
classes.txt. The rows are hashed as the text list they could be: for each row the key in UTF-8, then, if it has a label, a tab and the
label in decimal, then LF. Keys have no control characters, so different rows give different texts.

Files get their names when all are written, classes.txt last: a folder with classes.txt is a whole set. Equal rows give equal bytes
(with one version of pyarrow): no compression, no dictionary, no clock, no path. So no row takes fewer bytes than its key has, which is
how a reader recognises a damaged count of rows before it reserves memory for it.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from distill.data.archives.archive import is_archive
from distill.data.columns import labels_of
from distill.data.kinds import chunk_files, is_chunk_folder
from distill.data.lists import listing
from distill.data.lists.image_list import ImageList, Rule, open_list
from distill.errors import Damaged, DistillError
from distill.runtime.progress import phase
from distill.storage.files import committed, failure, is_there, read_whole, sweep
from distill.storage.path import StoragePath, as_path, readable

FORMAT = "distill.chunk.1"
CLASSES = "classes.txt"
SCHEMA = pa.schema([pa.field("key", pa.string(), nullable=False), pa.field("label", pa.int32())])

_COUNT = re.compile("[0-9]{1,9}")


@dataclass(frozen=True)
class Chunk:
    """The rows of one chunk. labels: int32 [n], -1 for none. classes: SHA-256 of the class table."""

    number: int
    of: int
    sha256: str
    classes: str
    keys: list[str]
    labels: np.ndarray


@dataclass(frozen=True)
class ChunkSet:
    """A whole set. written: how many chunks are new. skipped: how many names of the image list are no rows, by reason."""

    folder: StoragePath
    rows: int
    classes: list[str]
    chunks: tuple[StoragePath, ...]
    written: int
    skipped: dict[str, int]


def chunk_name(number: int, of: int) -> str:
    """Returns the file name of a chunk: (17, 59) -> "00017-of-00059.parquet"."""
    return f"{number:05d}-of-{of:05d}.parquet"


def write_chunks(
    source: str | StoragePath,
    out: str | StoragePath,
    rows: int = 100_000,
    progress: Callable[[int, int], None] | None = None,
    rule: Rule = Rule(),  # noqa: B008
    root: str | None = None,
) -> ChunkSet:
    """Splits the image list `source` into chunks of `rows` rows in the folder `out`; progress is called with (rows done, all rows).

    Where `out` has the same set already, nothing changes and `written` is 0; another set there is refused. 5.8 million lines take
    10 s in 230 MB on one core. root: what keys are relative to, if the listing (`distill.data.lists.listing`) is to be kept.
    """
    out = as_path(out)
    if rows < 1:
        raise DistillError(f"rows is {rows}, expected at least 1 row in a chunk.")
    if is_chunk_folder(source):
        raise DistillError(f"{source} holds chunks already. Use it as it is, or cut the list that it was made from.")
    with phase("reading the list"):
        images = open_list(source, rule)
    return write_list(images, out, rows, progress, lambda names: _listed(images, rows, as_path(source), root, out, names))


def write_list(
    images: ImageList,
    out: StoragePath,
    rows: int,
    progress: Callable[[int, int], None] | None = None,
    batches: Callable[[ExitStack], Iterator[tuple[list[str], np.ndarray | None]]] | None = None,
) -> ChunkSet:
    """Splits an open image list into chunks; see `write_chunks`. batches: yields those of the list, where the caller does something with them."""
    out.mkdir(parents=True, exist_ok=True)
    sweep(out)
    of = -(-images.rows // rows)
    paths = tuple(out / chunk_name(number, of) for number in range(of))
    table = "".join(name + "\n" for name in images.classes).encode()
    _refuse_another_set(out, paths, table)
    written = done = 0
    with ExitStack() as names:  # exits in reverse order, so classes.txt gets its name last
        if not is_there(out / CLASSES):
            names.enter_context(committed(out / CLASSES)).write_bytes(table)
        for number, (keys, labels) in enumerate(batches(names) if batches else images.batches(rows)):
            labels = np.full(len(keys), -1, np.int32) if labels is None else labels
            chunk = Chunk(number, of, rows_sha256(keys, labels), hashlib.sha256(table).hexdigest(), keys, labels)
            written += _write_one(names, paths[number], chunk)
            done += len(keys)
            if progress is not None:
                progress(done, images.rows)
    return ChunkSet(out, images.rows, images.classes, paths, written, images.skipped)


def _listed(
    images: ImageList, rows: int, source: StoragePath, root: str | None, out: StoragePath, names: ExitStack
) -> Iterator[tuple[list[str], np.ndarray | None]]:
    """Yields the batches of a list; with a root, the listing is written beside the chunks meanwhile."""
    if root is None or not listing.is_kept(source, root):
        yield from images.batches(rows)
        return
    write = names.enter_context(listing.written(out / listing.LISTING))
    if is_archive(source):
        lines = listing.archive_lines(source)
        write(listing.head(len(lines)) + "".join(line + "\n" for line in lines))
        yield from images.batches(rows)
        return
    write(listing.head(images.rows))
    for keys, labels, sizes, times in listing.sized_batches(images, rows, root):
        write("".join(line + "\n" for line in listing.lines_of(keys, sizes, times)))
        yield keys, labels


def _write_one(names: ExitStack, path: StoragePath, chunk: Chunk) -> int:
    """Writes one chunk under a temporary name that `names` will change. Returns 0 if the same chunk exists already, else 1."""
    if is_there(path):
        there = read_chunk(path)
        if (there.sha256, there.classes) != (chunk.sha256, chunk.classes):
            raise DistillError(f"{path} has rows of sha256 {there.sha256[:12]}, the list's have {chunk.sha256[:12]}. Use another folder.")
        return 0
    meta = {"format": FORMAT, "chunk": str(chunk.number), "of": str(chunk.of), "sha256": chunk.sha256, "classes": chunk.classes}
    labels = pa.array(chunk.labels, pa.int32(), mask=chunk.labels == -1)
    pq.write_table(
        pa.Table.from_arrays([pa.array(chunk.keys, pa.string()), labels], schema=SCHEMA.with_metadata(meta)),
        readable(names.enter_context(committed(path))),
        compression="none",
        use_dictionary=False,
        write_statistics=False,
        row_group_size=len(chunk.keys),
    )
    return 1


def rows_sha256(keys: list[str], labels: np.ndarray) -> str:
    """Returns the SHA-256 of rows (see the module); label -1 is none. (["a.jpg"], [7]) hashes as `printf 'a.jpg\\t7\\n' | sha256sum` does."""
    if 4 * np.count_nonzero(np.diff(labels)) > len(keys):  # shuffled: with many classes the lookup below takes 1.0 us a row, this 0.4
        lines = "".join([f"{key}\n" if label == -1 else f"{key}\t{label}\n" for key, label in zip(keys, labels.tolist(), strict=True)])
    else:  # class by class: 0.2 us
        endings = {label: f"\t{label}\n" for label in np.unique(labels).tolist()} | {-1: "\n"}
        lines = "".join(chain.from_iterable(zip(keys, map(endings.__getitem__, labels.tolist()), strict=True)))
    return hashlib.sha256(lines.encode()).hexdigest()


def _refuse_another_set(out: StoragePath, paths: tuple[StoragePath, ...], table: bytes) -> None:
    expected = {path.name for path in paths}
    for path in chunk_files(out):
        if path.name not in expected:
            raise DistillError(f"{out} holds another set: {path.name} is no chunk of this one ({len(paths)} chunks). Use another folder.")
    if is_there(out / CLASSES) and read_whole(out / CLASSES) != table:
        raise DistillError(f"{out} holds another set: its {CLASSES} is not the class table of this one. Use another folder.")


def read_chunk(path: str | StoragePath) -> Chunk:
    """Returns one chunk, its metadata and hash verified. Raises DistillError where the file is no chunk, damaged, or another chunk than its name says."""
    path = as_path(path)
    try:
        with pq.ParquetFile(readable(path)) as file:
            number, of, sha256, classes = _check_meta(path, file)
            # not `read`: it reserves memory for as many values as the footer claims of each column
            table = pa.Table.from_batches(file.iter_batches(max(file.metadata.num_rows, 1), use_threads=False), file.schema_arrow)
        table.validate(full=True)
    except FileNotFoundError as error:
        raise DistillError(f"{path}: no such chunk. Run distill chunk again.") from error
    except (pa.ArrowException, OSError, MemoryError, OverflowError, UnicodeDecodeError) as error:
        raise _damaged(path, error) from error
    keys, labels = table["key"].to_pylist(), labels_of(table["label"].combine_chunks())
    digest = "" if table["key"].null_count else rows_sha256(keys, labels)
    if digest != sha256:
        raise DistillError(f"{path} is damaged: its rows have sha256 {digest[:12]}, its metadata says {sha256[:12]}. Cut the list again.")
    return Chunk(number, of, sha256, classes, keys, labels)


def _damaged(path: StoragePath, error: Exception) -> Exception:
    """Returns what to raise for an error of pyarrow: the system's failure, or damage."""
    if failed := failure(path, error):
        return failed
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return Damaged(f"{path} is damaged or no chunk: {reason}. Expected a file written by distill chunk.")


def _check_meta(path: StoragePath, file: pq.ParquetFile) -> tuple[int, int, str, str]:
    """Returns (chunk, of, sha256, classes) of an open file after it has checked columns, sizes and name."""
    meta = {key.decode(): value.decode() for key, value in (file.schema_arrow.metadata or {}).items()}
    if meta.get("format") != FORMAT or not file.schema_arrow.equals(SCHEMA):
        found = ", ".join(f"{column.name} {column.type}" for column in file.schema_arrow)
        raise DistillError(f"{path} is no chunk: format {meta.get('format')!r}, {found}. Expected {FORMAT!r}: key string, label int32")
    number, of = meta.get("chunk", ""), meta.get("of", "")
    if not (_COUNT.fullmatch(number) and _COUNT.fullmatch(of) and {"sha256", "classes"} <= meta.keys()):
        raise DistillError(f"{path} is damaged: chunk {number!r} of {of!r}, metadata {sorted(meta)}. Cut the list again.")
    if path.name != chunk_name(int(number), int(of)):
        raise DistillError(f"{path} is chunk {number} of {of} by its metadata. Expected the name {chunk_name(int(number), int(of))}.")
    size, rows = path.stat().st_size, file.metadata.num_rows
    # not by `.column(n)`: with some damaged footers pyarrow ends the process there instead of raising (found by fuzzing; `read` raises)
    unpacked = sum(file.metadata.row_group(group).total_byte_size for group in range(file.metadata.num_row_groups))
    if 4 * rows > size or unpacked > size:
        raise DistillError(f"{path} is damaged: {rows:,} rows cannot be in {size:,} bytes. Cut the list again.")
    return int(number), int(of), meta["sha256"], meta["classes"]


def stated_sha256(path: StoragePath) -> str:
    """Returns the sha256 in the metadata of a chunk, whose rows are not read. Raises DistillError where there is none."""
    try:
        return bytes((pq.read_schema(readable(path)).metadata or {})[b"sha256"]).decode()
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise _damaged(path, error) from error


def list_chunks(folder: str | StoragePath) -> list[StoragePath]:
    """Returns the files of a whole set in order. Raises DistillError with what is missing or does not belong there."""
    folder = as_path(folder)
    files = {path.name: path for path in chunk_files(folder)}
    if not files:
        raise DistillError(f"{folder}: no chunks. Expected 00000-of-00001.parquet and so on; make them with distill chunk SOURCE {folder}.")
    totals = {int(name.removesuffix(".parquet").rpartition("-")[2]) for name in files}
    if len(totals) > 1:
        raise DistillError(f"{folder} holds several sets: of {', '.join(map(str, sorted(totals)))} chunks. Expected one set in a folder.")
    of = totals.pop()
    names = (chunk_name(number, of) for number in range(of))
    missing = list(islice((name for name in names if name not in files), 6)) or [CLASSES] * (not is_there(folder / CLASSES))
    if missing:
        shown = ", ".join(missing[:5]) + (" ..." if len(missing) > 5 else "")
        raise DistillError(f"{folder}: the set is not whole, {shown} missing ({len(files)} of {of} are there). Run distill chunk again.")
    if len(files) != of:
        raise DistillError(f"{folder}: {max(files)} does not belong to a set of {of} chunks. Expected one set in a folder.")
    return [files[chunk_name(number, of)] for number in range(of)]


def read_classes(folder: str | StoragePath) -> list[str]:
    """Returns the class table: item n is class n; empty where rows have no labels. Raises DistillError where it is not that of the chunks."""
    folder = as_path(folder)
    first = list_chunks(folder)[0]
    data = read_whole(folder / CLASSES)
    try:
        expected = (pq.read_schema(readable(first)).metadata or {}).get(b"classes", b"").decode()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(first, error) from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != expected:
        raise DistillError(f"{folder / CLASSES} has sha256 {digest[:12]}, the chunks say {expected[:12]}. Put the old table back.")
    return data.decode().split("\n")[:-1]
