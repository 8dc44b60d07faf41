"""Finished models as functions and as files for others: export, load."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack

from distill.api.given import Path, describe, load_steady, text_of
from distill.arguments import checked
from distill.results import ExportResult
from distill.storage.path import as_path

if TYPE_CHECKING:
    from distill.images.preprocessing import PreprocessingOptions
    from teachers import LoadedTeacher

PROCESS = "distill.api.export_process"


@checked
def export_model(
    student: Path,
    out: Path,
    *,
    format: str = "saved_model",
    force: bool = False,
    images: Path | None = None,
    shards: Path | None = None,
    root: Path | None = None,
    resize: str = "none",
    exif: str = "ignore",
    pairs: Path | Sequence[Path] | None = None,
    pairs_root: Path | None = None,
    number: int | None = None,
) -> ExportResult:
    """Writes a student for others to load; done only after each file was loaded in its own engine and gave the same embeddings.

    Args:
        student: run folder, .keras or .h5 file; pixels that a model.json beside a file names become part of the export.
        out: folder to write, on a local disk.
        format: saved_model, onnx, litert, litert_float16, litert_int8, openvino, or all: each one that this machine has the libraries for.
        force: replace an earlier export in `out`, and never anything else.
        images: photos to compare by, and to find the ranges of an int8 export: folder, list, .rec or .tar. None: those of the run's shards, its held-out rows
            for the comparison; drawn faces where there are none.
        shards: a set whose images are taken instead.
        root: folder of the images, where the shards hold none or a list names them.
        resize, exif: how images of another size, or with a rotation, become those of the student.
        pairs: no export may lose more than a point of TAR at FAR 1e-2 on them; pairs_root, number: as for evaluate.
    """
    from distill.data.folders import check_local
    from distill.exports.export import Judges
    from distill.exports.export import export as write

    plain = {name: None if one is None else text_of(one) for name, one in {"images": images, "shards": shards, "root": root, "pairs_root": pairs_root}.items()}
    sets: Sequence[Path] = pairs if isinstance(pairs, (list, tuple)) else [] if pairs is None else [pairs]  # type: ignore[list-item]
    judges = Judges(**plain, resize=resize, exif=exif, pairs=tuple(map(text_of, sets)), number=number)
    card = write(as_path(student), as_path(out), format, process=PROCESS, force=force, judges=judges)
    return ExportResult.of(check_local(out, "export"), card)


@checked
def load_model(path: Path, **options: Unpack[PreprocessingOptions]) -> LoadedTeacher:
    """Loads a model on disk as a callable uint8 [B, H, W, 3], RGB, 0 to 255 -> float32 [B, D].

    Args:
        path: run folder, SavedModel, or a .keras, .h5, .onnx, .tflite, .xml (OpenVINO), .pb or .meta (TensorFlow 1) file.
        options: signature, input, output, scale, offset, color, preset, feed, tags of `teachers.open_teacher`.

    Raises:
        DistillError: there is no model, or its answers depend on chance or on the other images.
    """
    return load_steady(describe(path, options))
