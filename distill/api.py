"""The verbs as functions, for Python: `import distill` gives them. The command line calls these and prints what they return."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from teachers import LoadedTeacher, Teacher


def load_model(path: str, **reading: Any) -> LoadedTeacher:
    """Loads a model on disk as a callable uint8 [B, H, W, 3] -> float32 [B, D]; reading: the options of `teachers.open_teacher`."""
    from teachers import open_teacher

    return load_steady(open_teacher(path, **reading))


def load_steady(teacher: Teacher, size: tuple[int, int] | None = None) -> LoadedTeacher:
    """It loaded. DistillError where its answers depend on chance or on the other images."""
    from teachers.trial import check_steady

    loaded = teacher.load()
    check_steady(loaded, size)
    return loaded
