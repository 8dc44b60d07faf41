"""Shards on disk. A shard under its final name is whole, and its record proves that its reject log is there; nothing here edits one in place.

Order of commit for chunk 17 of 59, when all three are written and synced under temporary names: an old record goes, then
`00017-of-00059.parquet` gets its name (over an old shard, whose images may be nowhere else), `_00017-of-00059.rejects.jsonl` (also when empty), and
`_00017-of-00059.json` (the record: rows, rejects, size and sha256 of both files). So a record stands beside its own files or not at all.
`_index.json` gathers the records and comes last, only when the set is whole. Sets that began before have these names without the underscore:
see distill.data.layout.
"""

from distill.data.shards.commit import commit_shard
from distill.data.shards.formats import FORMATS, shard_path
from distill.data.shards.index import ShardSet, open_shards, read_index, write_index
from distill.data.shards.record import Record, Reject, RowsThere, find_record, read_reject_log, rows_there
from distill.data.shards.rows import GROUP_ROWS, Rows, ShardMeta, view_column

__all__ = [
    "FORMATS",
    "GROUP_ROWS",
    "RowsThere",
    "Record",
    "Reject",
    "Rows",
    "ShardMeta",
    "ShardSet",
    "commit_shard",
    "find_record",
    "open_shards",
    "read_index",
    "read_reject_log",
    "rows_there",
    "shard_path",
    "view_column",
    "write_index",
]
