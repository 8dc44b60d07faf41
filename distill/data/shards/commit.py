"""How the shard, reject log and record of one chunk get their names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distill.data.layout import UNDERSCORE, Layout
from distill.data.shards.formats import FORMATS, ShardFormat, shard_path
from distill.data.shards.record import Record, RowsThere
from distill.data.shards.rows import Rows, ShardMeta, regrouped
from distill.errors import Damaged, Unfinished
from distill.runtime.lines import many
from distill.storage.files import committed, named, sha256_file, sync
from distill.storage.json_files import json_text
from distill.storage.path import StoragePath


def commit_shard(
    folder: StoragePath,
    format: str,
    meta: ShardMeta,
    rows: Iterable[Rows],
    rejects: list[dict[str, Any]],
    *,
    least: RowsThere = RowsThere(),  # noqa: B008
    layout: Layout = UNDERSCORE,
) -> Record:
    """Writes the shard, the reject log and the record of one chunk in the order that `distill.data.shards` tells.

    `rows` may come in parts of any size; `rejects` may be filled meanwhile: the log is written after the rows are. A shard that is there already
    stays until the new one takes its name, because its images may be nowhere else.

    Args:
        least: rows of the shard that is there, where it may not be replaced by one of fewer.
        layout: that of the set, which is one for all its chunks.
    Raises:
        Unfinished: what was written does not read back, or has fewer rows than `least`; nothing was changed then.
    """
    shard, shards, labelled = shard_path(folder, format, meta.chunk, meta.of), FORMATS[format], 0
    ledger, path = (folder / name(meta.chunk, meta.of) for name in (layout.ledger, layout.record))

    def counted() -> Iterator[Rows]:
        nonlocal labelled
        for group in regrouped(rows):
            labelled += int((group.labels >= 0).sum())
            yield group

    # left from the inside to the outside: the shard gets its name first, the record last
    with committed(path) as record_file, committed(ledger) as ledger_file, committed(shard) as shard_file:
        done = _written(shards, shard, shard_file, meta, counted())
        if done.rows < least.rows:
            raise _fewer(shard, least, done.rows, rejects)
        ledger_file.write_text("".join(json.dumps(reject, ensure_ascii=False) + "\n" for reject in rejects), encoding="utf-8")
        record = _record(meta, done, len(rejects), labelled, (shard.name, shard_file), (ledger.name, ledger_file))
        record_file.write_bytes(json_text(asdict(record)))
        for file in (record_file, ledger_file, shard_file):  # a full disk shows here, before anything is changed
            sync(file)
        for old in (folder / layout.index, path):
            old.unlink(missing_ok=True)
        if isinstance(folder, Path):
            sync(folder)
    return record


def _record(meta: ShardMeta, done: ShardMeta, rejects: int, labelled: int, shard: tuple[str, Path], ledger: tuple[str, Path]) -> Record:
    """Returns the record of a chunk. shard, ledger: their final names, and where their bytes are now."""
    return Record(
        number=meta.chunk,
        of=meta.of,
        chunk_sha256=meta.chunk_sha256,
        rows=done.rows,
        rejects=rejects,
        labelled=labelled,
        mean_norm=done.mean_norm,
        shard=shard[0],
        shard_bytes=shard[1].stat().st_size,
        shard_sha256=sha256_file(shard[1]),
        ledger=ledger[0],
        ledger_bytes=ledger[1].stat().st_size,
        ledger_sha256=sha256_file(ledger[1]),
    )


def _written(shards: ShardFormat, shard: StoragePath, file: Path, meta: ShardMeta, groups: Iterable[Rows]) -> ShardMeta:
    try:
        done = shards.write(file, meta, groups)
    except OSError as error:  # pyarrow says the temporary name, HDF5 none
        raise (named(error, shard) if error.errno and not error.filename else error) from error
    try:
        if shards.read_meta(file) == done:
            return done
    except Damaged:
        pass
    raise Unfinished(f"{shard}: what was written does not read back. The disk may be full or failing; nothing was committed, run the same command again.")


def _fewer(shard: StoragePath, least: RowsThere, rows: int, rejects: list[dict[str, Any]]) -> Unfinished:
    verb = "is" if len(rejects) == 1 else "are"
    why = f", because {many(len(rejects), 'images')} {verb} rejected now ({rejects[0]['key']!r}: {rejects[0]['reason']})" if rejects else ""
    held = (
        f"held {many(least.rows, 'rows')}"
        if least.known
        else f"is damaged and may have held up to {least.rows:,} rows (its record and its reject log are gone too)"
    )
    return Unfinished(
        f"{shard} {held}; made again it would hold {rows:,}{why}. It stays as it is. Put the images back, or a whole copy of it; "
        f"or accept fewer rows: distill embed ... --only {int(shard.name.partition('-')[0])}"
    )
