"""Finished models as functions and as files for others: export, load."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from distill.api.given import Path, describe, load_steady
from distill.arguments import checked
from distill.results import ExportResult
from distill.storage.path import as_path

if TYPE_CHECKING:
    from distill.images.preprocessing import PreprocessingOptions
    from teachers import LoadedTeacher


@checked
def export_model(student: Path, out: Path, *, format: str = "saved_model", force: bool = False) -> ExportResult:
    """Writes a student for others to load; done only after it was loaded again and gave the same embeddings.

    Args:
        student: run folder or .keras file.
        out: folder to write, on a local disk.
        force: replace an earlier export in `out`, and never anything else.
    """
    from distill.data.folders import check_local
    from distill.data.kinds import CARD
    from distill.exports.export import export as write

    card, folder = write(as_path(student), as_path(out), format, force=force), check_local(out, "export")
    sizes = (card["height"], card["width"], card["dimension"], card["parameters"], card["bytes"])
    return ExportResult(folder, format, *sizes, folder / CARD, card)


@checked
def load_model(path: Path, **options: Unpack[PreprocessingOptions]) -> LoadedTeacher:
    """Loads a model on disk as a callable uint8 [B, H, W, 3], RGB, 0 to 255 -> float32 [B, D].

    Args:
        path: run folder, SavedModel, .keras, .h5 or .onnx file.
        options: signature, input, output, scale, offset, color, preset, feed, tags of `teachers.open_teacher`.

    Raises:
        DistillError: there is no model, or its answers depend on chance or on the other images.
    """
    return load_steady(describe(path, options))
