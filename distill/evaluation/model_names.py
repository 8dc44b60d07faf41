"""Short names for the models of one evaluation: rows of its table, keys of evaluation.json, parts of file names. Pure functions of paths."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from distill.storage.path import StoragePath

LONGEST = 120  # bytes of a name, which is part of a file name; of a longer one the end is kept


def short_names(paths: Sequence[StoragePath], taken: Collection[str] = ()) -> list[str]:
    """Returns a name for each path, all of them different: so many of its last parts, joined by "-", as tell it from the others.

    Args:
        paths: of different models.
        taken: names that none of them may have.

    >>> short_names([Path("runs/a"), Path("runs/b/student.keras"), Path("old/a")])
    ['runs-a', 'student.keras', 'old-a']
    """
    parts = [_parts(path) for path in paths]
    most = max(map(len, parts), default=0)
    sizes = [1] * len(parts)
    while True:
        names = ["-".join(each[-size:]).encode()[-LONGEST:].decode(errors="ignore") or "model" for each, size in zip(parts, sizes, strict=True)]
        unclear = [row for row, name in enumerate(names) if names.count(name) > 1 or name in taken]
        if not unclear or all(sizes[row] >= most for row in unclear):
            return _numbered(names, taken)
        sizes = [size + (row in unclear) for row, size in enumerate(sizes)]


def _parts(path: StoragePath) -> list[str]:
    """("/runs/../a/student.keras") -> ["a", "student.keras"], from the root on."""
    text = str(path.absolute()) if isinstance(path, Path) else str(path)
    found = list[str]()
    for part in text.split("/"):
        if part == ".." and found:
            found.pop()
        elif part not in ("", ".", ".."):
            found.append(part)
    return found


def _numbered(names: Sequence[str], taken: Collection[str]) -> list[str]:
    """Returns the names, with a number behind those that are still not different."""
    found = list[str]()
    for name in names:
        number, one = 1, name
        while one in found or one in taken:
            number, one = number + 1, f"{name}-{number + 1}"
        found.append(one)
    return found
