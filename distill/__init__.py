"""distill: a big image-embedding teacher in, a small student out.

What flows: an image list is cut into chunks, a Beam pipeline lets the teacher write one shard of embeddings for each chunk,
sources stream the shards as batches, a student trains on them in stages, is evaluated against its teacher, and is exported.

    import distill

    distill.embed("photos", "out", teacher="teacher")
    distill.train("run.toml", "runs/student", set={"data.shards": "out"})
    distill.export_model("runs/student", "student")
    model = distill.load_model("student")  # uint8 [B, H, W, 3] -> float32 [B, D]

The verbs are functions here, with the options of the command line as keywords; what they return has types (distill/results/).

Rooms, from the ground to the roof: runtime, storage, images, config, losses, models, synthetic, data (archives, lists, chunks, shards, sources),
training, evaluation, exports, inspection, report, cli; docs/house.md is their map. Beside them `pipelines` (Apache Beam) and `teachers` (a file on disk as a teacher).
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
        write_report,
    )

from distill.errors import Damaged, DistillError, Interrupted, Unfinished

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
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Loads the verbs when one is first asked for, so that `import distill` costs nothing."""
    if name not in __all__:
        raise AttributeError(f"module 'distill' has no attribute {name!r}")
    from distill import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
