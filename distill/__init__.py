"""distill: a big image-embedding teacher in, a small student out.

What flows: an image list is cut into chunks, a Beam pipeline lets the teacher write one shard of embeddings for each chunk,
sources stream the shards as batches, a student trains on them in stages, is evaluated against its teacher, and is exported.

    import distill

    distill.embed("photos", "out", teacher="teacher")
    distill.train("run.toml", "runs/student", set={"data.shards": "out"})
    distill.export_model("runs/student", "student")
    model = distill.load_model("student")  # uint8 [B, H, W, 3] -> float32 [B, D]

The verbs are functions here, with the options of the command line as keywords; what they return has types (distill/results.py).

Rooms, in the order of the flow: imagelist, chunks, shards (what lies on disk), images (bytes to pixels), sources (batches),
students, losses, train, evaluate, report, export; faces draws identities for demo and tests; cli holds the verbs.
Beside them `pipelines` (Apache Beam) and `teachers` (a file on disk as a teacher).
Nothing heavy is imported here: TensorFlow, Keras and Beam load when a verb needs them.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distill.api import (
        chunk,
        compare,
        draw_faces,
        draw_views,
        embed,
        evaluate,
        export_model,
        import_set,
        load_model,
        open_shards,
        plan,
        train,
        verify,
    )

__version__ = "0.1.0"
__all__ = [
    "Damaged",
    "DistillError",
    "Interrupted",
    "Unfinished",
    "chunk",
    "compare",
    "draw_faces",
    "draw_views",
    "embed",
    "evaluate",
    "export_model",
    "import_set",
    "load_model",
    "open_shards",
    "plan",
    "train",
    "verify",
]


class DistillError(Exception):
    """A message for a person: what, where, received, expected, the way out. Ends a verb with exit code 2."""

    exit_code = 2


class Damaged(DistillError):
    """A file is proven to be damaged: all of its bytes were read, or a hash says so. What a system fails to do is an OSError, never this."""


class Unfinished(DistillError):
    """The input was right, but not everything asked for was done. Ends a verb with exit code 1."""

    exit_code = 1


class Interrupted(DistillError):
    """Ctrl-C, or another signal that asks the process to end, while there was something to say of what is kept. Exit code 130, or the signal's."""

    exit_code = 130


def __getattr__(name: str) -> Any:
    """Loads the verbs when one is first asked for, so that `import distill` costs nothing."""
    if name not in __all__:
        raise AttributeError(f"module 'distill' has no attribute {name!r}")
    from distill import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
