"""The process of its own that an export runs in: `python -m distill.api.export_process REQUEST`. Here, because it loads each file as users do, with `teachers`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from teachers import LoadedTeacher


def load_plainly(path: Path) -> LoadedTeacher:
    """Loads a model on disk as it is, without what a model.json beside it says."""
    from teachers import open_teacher

    return open_teacher(path, beside=False).load()


if __name__ == "__main__":
    from distill.exports.work import main

    sys.exit(main(sys.argv[1], load_plainly))
