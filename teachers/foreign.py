"""What was given for a model and is something else, said before a library guesses at it: by its name, and by its first bytes."""

import zipfile
from pathlib import Path

from distill.errors import DistillError
from distill.storage.path import StoragePath
from teachers.causes import reason

ONNX = "Export it as ONNX: torch.onnx.export(model, images, 'model.onnx', input_names=['images'], dynamic_axes={'images': {0: 'N'}}), in inference mode."
WEIGHTS = "holds weights without the model that they belong to. Save the whole model where it was made, as a SavedModel or .keras file."
ARCHIVE = "is an archive. Unpack it and name the model in it."
# Names that other systems give their models: what such a file is, and the way out.
NAMES = {
    **dict.fromkeys((".pt", ".pth", ".torchscript"), f"is a PyTorch file, which runs code when it is read. {ONNX}"),
    **dict.fromkeys((".ckpt", ".safetensors", ".npz", ".npy", ".params", ".index"), WEIGHTS),
    ".pbtxt": "is a model as text. Save it as a SavedModel folder with a saved_model.pb.",
    **dict.fromkeys((".pkl", ".pickle", ".joblib"), "is a pickle, which runs code when it is read, and is never read here. Export it as ONNX."),
    **dict.fromkeys((".engine", ".trt", ".plan"), "is a TensorRT engine. Name the ONNX file that it was built from."),
    **dict.fromkeys((".mlmodel", ".mlpackage", ".caffemodel", ".prototxt"), "is of a system that is not read here. Convert it to ONNX."),
    **dict.fromkeys((".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z"), ARCHIVE),
}
HDF5 = b"\x89HDF\r\n\x1a\n"
ZIP = b"PK\x03\x04"
POINTER = b"version https://git-lfs"


def known_name(path: StoragePath) -> str | None:
    """What a file of that name is, as the end of a sentence; None where the name says nothing."""
    if path.suffix.lower() == ".json" and path.with_suffix(".params").exists():
        return "is a network of MXNet. Convert it to ONNX."
    return NAMES.get(path.suffix.lower())


def first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(512)


def check_whole(path: Path, named: object) -> None:
    """DistillError where a file is empty, a pointer of Git LFS, or a web page. named: the model, for the message."""
    head = first_bytes(path)
    what = f"teacher {named}" if str(path) == str(named) else f"teacher {named}: {path.name}"
    if not head:
        raise DistillError(f"{what} is an empty file. Copy it again.")
    if head.startswith(POINTER):
        raise DistillError(f"{what} is a pointer of Git LFS, not the file itself. Fetch it: git lfs pull.")
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html")):
        raise DistillError(f"{what} is a web page (HTML), not a model. Download the file itself.")


def keras_suffix(path: Path, named: object) -> str:
    """ ".keras" or ".h5", by what a Keras file holds and not by its name. DistillError where it is no whole model."""
    import h5py

    check_whole(path, named)
    head, where = first_bytes(path), f"teacher {named}"
    if head.startswith(HDF5):
        try:
            with h5py.File(path, "r") as file:
                whole = "model_config" in file.attrs
        except OSError as error:
            raise DistillError(f"{where} cannot be opened as HDF5: {reason(error)} If it was cut off on its way, copy it again.") from error
        if not whole:
            raise DistillError(f"{where} {WEIGHTS}")
        return ".h5"
    if not head.startswith(ZIP):
        raise DistillError(f"{where} is no Keras file: it begins with {head[:8]!r}, expected a .keras (zip) or .h5 (HDF5) file.")
    if not zipfile.is_zipfile(path):
        raise DistillError(f"{where} is cut off: a zip archive without its end. Copy it again.")
    with zipfile.ZipFile(path) as archive:
        names, damaged = archive.namelist(), archive.testzip()
    if damaged:
        raise DistillError(f"{where} is damaged: {damaged} in it has another checksum than it was written with. Copy it again.")
    if "config.json" not in names:
        listed = ", ".join(names[:4]) + (" ..." if len(names) > 4 else "")
        raise DistillError(f"{where} is no Keras file: a zip archive of {listed or 'nothing'}, expected config.json and weights in it.")
    return ".keras"
