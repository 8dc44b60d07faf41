"""A trained student as a file that others load. An export under its final name has been loaded again and gave the student's embeddings.

SavedModel, three signatures, each returns {"output": float32 [N, D]}:

- `serving_default`: float32 [N, H, W, 3], RGB, 0 to 255
- `uint8`: uint8 [N, H, W, 3], the same picture
- `encoded`: string [N], the bytes of a JPEG or PNG of exactly H x W; decoded in the graph to the pixels that `distill.images.codec` gives
  (byte-equal on baseline, progressive, grey and CMYK JPEG of every subsampling, on PNG of 1 to 16 bits, palette and alpha)

The `.keras` file is reopened with the TensorFlow backend in a process of its own, on the CPU: a student trained with JAX exports too,
no GPU rounds the comparison (TF32 keeps 10 of 23 bits), and nothing here loads TensorFlow in the caller's process.
`assets.extra/distill.json`, which every loader ignores, says what the export is; it is how a later export knows what it may replace.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from distill import __version__
from distill.data.folders import check_local, make_folder, no_model, strangers
from distill.data.kinds import CARD, EXPORT, read_card
from distill.data.names import SYSTEM
from distill.errors import DistillError
from distill.runtime.progress import phase
from distill.storage.files import sha256_file, sweep, temporary_for, write_json
from distill.storage.path import StoragePath, close_to, local_copy, place

TOLERANCE = 1e-5  # largest difference of one number of an embedding, as a share of the embedding's norm
PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8"


def export(student: str | StoragePath, out: str | StoragePath, format: str = "saved_model", *, force: bool = False) -> dict[str, Any]:
    """A run folder or a `.keras` file into an export; returns what the export's card says, with its path and its bytes on disk.

    `force` replaces an earlier export at `out`, and never anything else; without it `out` must not exist (an empty folder may).
    DistillError when the student cannot be exported or its export does not give the same embeddings; `out` is then as it was. Killed at
    any moment, the earlier export or the new one is whole, under its name or beside it from where the next export puts it back.
    """
    if format not in FORMATS:
        raise DistillError(f"export format {format!r} is unknown. Expected one of: {', '.join(FORMATS)}.")
    file = student_file(student)
    from distill.training.origin import origin_of

    origin = origin_of(student)
    learned_from = origin.as_card() if origin.known else None
    return FORMATS[format](file, check_local(out, "export"), force=force, teacher=_teacher_of(place(student)), learned_from=learned_from)


def student_file(student: str | StoragePath) -> Path:
    """The `.keras` file of a run folder, or the file itself."""
    path = folder = place(student)
    expected = "Expected a .keras file, or the folder of a finished run, which holds student.keras."
    if path.is_dir():
        path = folder / "student.keras"
    if not path.is_file():
        if told := no_model(folder, "distill export {} OUT"):
            raise DistillError(told)
        if read_card(folder) is not None:
            raise DistillError(f"{folder} is an export already: a SavedModel to ship as it is. {expected}")
        if folder.is_dir():
            raise DistillError(f"{folder} is a folder without student.keras. {expected}")
        raise DistillError(f"{folder}: nothing is there.{close_to(folder)} {expected}")
    return local_copy(str(path))


def _teacher_of(run: StoragePath) -> str | None:
    """The fingerprint of the teacher whose shards a run learned from; None for a bare file, or where the shards are gone."""
    from distill.config.files import load_run
    from distill.data.shards import open_shards

    try:
        shards = load_run(run / "run.toml").data.shards
        return open_shards(shards).meta.teacher if shards else None
    except (DistillError, OSError):
        return None


def export_saved_model(
    keras_file: str | Path, out: str | Path, *, force: bool = False, teacher: str | None = None, learned_from: dict[str, Any] | None = None
) -> dict[str, Any]:
    """One `.keras` file into a SavedModel folder; see `export`. Takes about 15 s, most of it the start of TensorFlow.

    teacher: fingerprint for the card; learned_from: what the card says of the rows (`Origin.as_card`).
    Exporting the same file again gives equal bytes but for `fingerprint.pb`, TensorFlow's random id.
    """
    keras_file, out = Path(keras_file), Path(os.path.abspath(out))
    if not zipfile.is_zipfile(keras_file):
        raise DistillError(f"{keras_file} is no .keras file (which is a zip archive). Expected the student.keras of a run.")
    _tidy(out)
    _refuse_existing(out, force)
    made = make_folder(out.parent)
    temporary = temporary_for(out)
    try:
        facts = _in_own_process(keras_file, temporary)
        card: dict[str, Any] = {"made_by": f"distill {__version__}", "format": "saved_model", "student": sha256_file(keras_file), "teacher": teacher}
        card |= {"learned_from": learned_from} if learned_from else {}
        card |= facts
        (temporary / CARD).parent.mkdir(exist_ok=True)
        write_json(temporary / CARD, card)
        _put(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        made.give_back()
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    return {**card, "path": str(out), "bytes": size}


FORMATS: dict[str, Callable[..., dict[str, Any]]] = {"saved_model": export_saved_model}


def _refuse_existing(out: Path, force: bool) -> None:
    if not os.path.lexists(out) or (out.is_dir() and not out.is_symlink() and not any(out.iterdir())):
        return
    if out.is_symlink() or read_card(out) is None:
        raise DistillError(f"{out} exists and is no export of distill; it is left alone. Choose another name.")
    if not force:
        raise DistillError(f"{out} holds an earlier export. Choose another name, or say --force to replace it.")
    if os.path.lexists(_aside(out)):
        raise DistillError(f"{_aside(out)} has the name that the export in {out} takes while it is replaced, and is no part of one alone. Move it away.")
    if strange := strangers(out, EXPORT):
        names = ", ".join(strange[:3]) + (" ..." if len(strange) > 3 else "")
        raise DistillError(f"{out} holds an earlier export and what is no part of one ({names}); it is left alone. Move that away, or choose another name.")


def _aside(out: Path) -> Path:
    """Where an earlier export stands while the new one takes its place. Not a temporary's name: `sweep` must never remove it."""
    return out.parent / f".{out.name}.earlier"


def _tidy(out: Path) -> None:
    """Mend what a killed export left beside `out`: drop its temporaries, put back the earlier export or, where the new one stands, drop it."""
    sweep(out.parent)
    earlier = _aside(out)
    if out.is_symlink() or read_card(earlier) is None:
        return
    if read_card(out) is None:
        with suppress(OSError):  # something else got the name since; it is refused next, and the earlier export stays where it is
            earlier.rename(out)
    else:
        _drop(earlier, out, temporary_for(out))


def _drop(earlier: Path, out: Path, temporary: Path) -> None:
    """Remove an earlier export under a name that the next `sweep` knows, should this one be killed half-way. What systems and people put into
    it goes over to `out` before; where anything else is in it that is no part of an export, it stays."""
    for left in list(earlier.iterdir()):
        if SYSTEM.fullmatch(left.name) and not os.path.lexists(out / left.name):
            left.rename(out / left.name)
    if all(EXPORT.fullmatch(path.relative_to(earlier).as_posix()) for path in earlier.rglob("*")):
        earlier.rename(temporary)
        shutil.rmtree(temporary, ignore_errors=True)


def _put(temporary: Path, out: Path) -> None:
    """The finished folder to its name. An earlier export steps aside first and comes back when the rename fails; see `_tidy` for a kill."""
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


def _in_own_process(keras_file: Path, folder: Path) -> dict[str, Any]:
    """Run this file as a program; its last line of output is one JSON object: the facts, or {"error": message}."""
    quiet = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "distill.exports.export", str(keras_file.resolve()), str(folder)]
    with phase("writing the student and loading it again"):
        done = subprocess.run(command, env={**os.environ, **quiet}, capture_output=True, text=True, errors="replace")
    lines = done.stdout.strip().splitlines()
    try:
        answer = json.loads(lines[-1])
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise DistillError(f"{keras_file}: the export ended with code {done.returncode}: {last}") from None
    if "error" in answer:
        raise DistillError(f"{keras_file}: {answer['error']}")
    return answer


# --------------------------------------------------------------------------------------- in the process with TensorFlow


def _write(keras_file: str, folder: str) -> dict[str, Any]:
    """Save, load again, compare. Returns the facts of the card."""
    import keras
    import tensorflow as tf

    try:
        model = keras.models.load_model(keras_file, compile=False)  # safe mode stays on: a student holds no code
    except Exception as error:  # of any class; Keras says the cause last
        cause = str(error).rpartition("Exception encountered:")[2].strip() or type(error).__name__
        raise DistillError(f"cannot be opened as a Keras model: {cause.splitlines()[0]}") from error
    height, width, dimension = _sizes(model)
    module = _servable(model, height, width)
    signatures = {name: getattr(module, name) for name in ("serving_default", "uint8", "encoded")}
    Path(folder).mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="distill-") as plain:  # to TensorFlow [ ] * ? in a path are a pattern, so it gets a path without
        link = Path(plain) / "export"
        link.symlink_to(Path(folder).absolute(), target_is_directory=True)
        tf.saved_model.save(module, str(link), signatures=signatures)
        differences = _compare(model, str(link), height, width)
    worst = max(differences, key=lambda name: differences[name])
    if not differences[worst] <= TOLERANCE:
        raise DistillError(
            f"the export does not give the student's embeddings: signature {worst} differs by {differences[worst]:.2e} of the norm, "
            f"{TOLERANCE:.0e} is allowed. Nothing was written."
        )
    return {
        "height": height,
        "width": width,
        "dimension": dimension,
        "parameters": model.count_params(),
        "signatures": sorted(signatures),
        "difference": differences,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
    }


def _sizes(model: Any) -> tuple[int, int, int]:
    shapes = [[tuple(tensor.shape) for tensor in tensors] for tensors in (model.inputs, model.outputs)]
    if [len(side) for side in shapes] == [1, 1] and len(shapes[0][0]) == 4 and len(shapes[1][0]) == 2:
        (_, height, width, channels), (_, dimension) = shapes[0][0], shapes[1][0]
        if height and width and channels == 3 and dimension:
            return int(height), int(width), int(dimension)
    raise DistillError(
        f"its inputs are {shapes[0]} and its outputs {shapes[1]}. Expected a student: one input (None, H, W, 3) of fixed size and one output (None, D)."
    )


def _servable(model: Any, height: int, width: int) -> Any:
    """A tf.Module of the three signatures, holding the variables and nothing of Keras."""
    import tensorflow as tf

    def signature(shape: list, dtype: Any) -> Callable:
        return tf.function(input_signature=[tf.TensorSpec(shape, dtype, name="images")])

    @signature([None, height, width, 3], tf.float32)
    def embed(images: Any) -> dict[str, Any]:
        rows = tf.shape(images)[0]
        # one picture stands in for none: with oneDNN a convolution of no rows has another shape on some processors (TensorFlow 2.21)
        images = tf.concat([images, tf.zeros([tf.cast(tf.equal(rows, 0), tf.int32), height, width, 3])], axis=0)
        return {"output": tf.cast(model(images, training=False), tf.float32)[:rows]}  # a student in mixed precision may end in float16

    def decode(data: Any) -> Any:
        is_png = tf.equal(tf.strings.substr(data, 0, len(PNG)), PNG)
        is_jpeg = tf.equal(tf.strings.substr(data, 0, len(JPEG)), JPEG)
        with tf.control_dependencies([tf.debugging.Assert(is_png | is_jpeg, ["expected the bytes of a JPEG or a PNG"])]):
            data = tf.identity(data)
        pixels = tf.cond(
            is_png,
            lambda: tf.io.decode_png(data, channels=3),
            # the fast DCT, TensorFlow's default, is off by up to some levels from every other decoder
            lambda: tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE", fancy_upscaling=True),
        )
        size = f"expected images of {height}x{width} (height x width)"
        right = tf.reduce_all(tf.equal(tf.shape(pixels), [height, width, 3]))
        with tf.control_dependencies([tf.debugging.Assert(right, [size, "received", tf.shape(pixels)])]):
            pixels = tf.identity(pixels)
        pixels.set_shape([height, width, 3])
        return pixels

    @signature([None, height, width, 3], tf.uint8)
    def embed_uint8(images: Any) -> dict[str, Any]:
        return embed(tf.cast(images, tf.float32))

    @signature([None], tf.string)
    def embed_encoded(images: Any) -> dict[str, Any]:
        return embed(tf.cast(tf.map_fn(decode, images, fn_output_signature=tf.TensorSpec([height, width, 3], tf.uint8)), tf.float32))

    module = tf.Module()
    module.weights = [variable.value for variable in model.weights]  # not .variables: dropout's seeds are other ones at every load
    module.serving_default, module.uint8, module.encoded = embed, embed_uint8, embed_encoded  # the network is traced and saved once
    return module


def _compare(model: Any, folder: str, height: int, width: int) -> dict[str, float]:
    """Each signature of the folder, loaded anew, against the Keras model on 8 pictures: the largest difference as a share of the norm."""
    import tensorflow as tf

    from distill.images.codec import decode, encode_jpeg

    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (8, -(-height // 8), -(-width // 8), 3)).repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width]
    pictures = np.clip(coarse + random.normal(0, 12, coarse.shape), 0, 255).astype(np.uint8)
    encoded = [encode_jpeg(picture, 90) if row % 2 else tf.io.encode_png(picture).numpy() for row, picture in enumerate(pictures)]
    loaded = tf.saved_model.load(folder).signatures
    given = {"serving_default": pictures.astype(np.float32), "uint8": pictures, "encoded": np.array(encoded, object)}
    seen = {**dict.fromkeys(given, pictures), "encoded": np.stack([decode(data) for data in encoded])}
    differences = {}
    for name, images in given.items():
        expected = np.asarray(model(seen[name].astype(np.float32), training=False), np.float64)
        received = loaded[name](images=tf.constant(images))["output"].numpy()
        norms = np.maximum(np.linalg.norm(expected, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        differences[name] = float((np.abs(expected - received) / norms).max())
    return differences


def _main(keras_file: str, folder: str) -> int:
    try:
        answer = _write(keras_file, folder)
    except DistillError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer))
    return 2 if "error" in answer else 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
