"""How an export gets its name: whole or not at all, in the place of an earlier export or of nothing, and never of anything else.

After a kill at any moment the earlier export or the new one is whole, under its name or beside it, and the next export moves it back.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from distill.data.kinds import read_card, strange_in_export
from distill.data.names import SYSTEM
from distill.errors import DistillError
from distill.storage.files import sweep, temporary_for


def refuse_existing(out: Path, force: bool) -> None:
    """Raises DistillError where `out` holds anything but an earlier export that may be replaced."""
    if not os.path.lexists(out) or (out.is_dir() and not out.is_symlink() and not any(out.iterdir())):
        return
    if out.is_symlink() or read_card(out) is None:
        raise DistillError(f"{out} exists and is no export of distill; it is left alone. Choose another name.")
    if not force:
        raise DistillError(f"{out} holds an earlier export. Choose another name, or say --force to replace it.")
    if os.path.lexists(_aside(out)):
        raise DistillError(f"{_aside(out)} has the name that the export in {out} takes while it is replaced, and is no part of one alone. Move it away.")
    if strange := strange_in_export(out):
        names = ", ".join(strange[:3]) + (" ..." if len(strange) > 3 else "")
        raise DistillError(f"{out} holds an earlier export and what is no part of one ({names}); it is left alone. Move that away, or choose another name.")


def _aside(out: Path) -> Path:
    """Returns the name of an earlier export while it is replaced; not a temporary name, because `sweep` must never remove it."""
    return out.parent / f".{out.name}.earlier"


def tidy(out: Path) -> None:
    """Repairs what a killed export left beside `out`: removes its temporaries, and moves the earlier export back or, where the new one is whole, removes it."""
    sweep(out.parent)
    earlier = _aside(out)
    if out.is_symlink() or read_card(earlier) is None:
        return
    if read_card(out) is None:
        with suppress(OSError):  # the name is taken since; that is refused next, and the earlier export stays where it is
            earlier.rename(out)
    else:
        _drop(earlier, out, temporary_for(out))


def _drop(earlier: Path, out: Path, temporary: Path) -> None:
    """Removes an earlier export, under a name that the next `sweep` would remove too. Files of the system in it move to `out` first; where
    anything else in it is no part of an export, it stays."""
    for left in list(earlier.iterdir()):
        if SYSTEM.fullmatch(left.name) and not os.path.lexists(out / left.name):
            left.rename(out / left.name)
    if not strange_in_export(earlier, system=True):
        earlier.rename(temporary)
        shutil.rmtree(temporary, ignore_errors=True)


def put(temporary: Path, out: Path) -> None:
    """Renames the finished folder to `out`. An earlier export is moved aside first and back when the rename fails; see `tidy` for a kill."""
    if not out.exists() or not any(out.iterdir()):
        temporary.rename(out)  # POSIX renames over an empty folder
        return
    earlier = _aside(out)
    out.rename(earlier)
    try:
        temporary.rename(out)
    except OSError:
        earlier.rename(out)
        raise
    _drop(earlier, out, temporary)
