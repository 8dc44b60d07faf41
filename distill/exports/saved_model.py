"""Writes a student as a SavedModel, loads it again and compares each signature. Runs in a process that has TensorFlow."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distill.errors import DistillError

TOLERANCE = 1e-5  # largest difference of one number of an embedding, as a share of the embedding's norm
SIGNATURES = ("serving_default", "uint8", "normalized", "encoded")
PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8"


def write_saved_model(model: Any, folder: Path) -> dict[str, Any]:
    """Saves a Keras student, loads it again and compares. Returns facts for its card. DistillError where a signature answers otherwise than the student."""
    import tensorflow as tf

    height, width, _ = sizes_of(model)
    module = _servable(model, height, width)
    signatures = {name: getattr(module, name) for name in SIGNATURES}
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="distill-") as plain:  # TensorFlow takes [ ] * ? in a path for a pattern, so it gets a path without them
        link = Path(plain) / "export"
        link.symlink_to(folder.absolute(), target_is_directory=True)
        tf.saved_model.save(module, str(link), signatures=signatures)
        _hide_from_python(folder / "saved_model.pb", SIGNATURES[1:])
        differences = _compare(model, str(link), height, width)
    worst = max(differences, key=lambda name: differences[name])
    if not differences[worst] <= TOLERANCE:
        raise DistillError(
            f"the export does not give the student's embeddings: signature {worst} differs by {differences[worst]:.2e} of the norm, {TOLERANCE:.0e} is allowed."
        )
    return {"signatures": sorted(signatures), "difference": differences}


def sizes_of(model: Any) -> tuple[int, int, int]:
    """Returns height, width and dimension. DistillError where it is no student."""
    shapes = [[tuple(tensor.shape) for tensor in tensors] for tensors in (model.inputs, model.outputs)]
    if [len(side) for side in shapes] == [1, 1] and len(shapes[0][0]) == 4 and len(shapes[1][0]) == 2:
        (_, height, width, channels), (_, dimension) = shapes[0][0], shapes[1][0]
        if height and width and channels == 3 and dimension:
            return int(height), int(width), int(dimension)
    raise DistillError(
        f"its inputs are {shapes[0]} and its outputs {shapes[1]}. Expected a student: one input (None, H, W, 3) of fixed size and one output (None, D)."
    )


def _servable(model: Any, height: int, width: int) -> Any:
    """Returns a tf.Module of SIGNATURES, with the variables and nothing of Keras."""
    import tensorflow as tf

    def signature(shape: list, dtype: Any) -> Callable:
        return tf.function(input_signature=[tf.TensorSpec(shape, dtype, name="images")])

    @signature([None, height, width, 3], tf.float32)
    def embed(images: Any) -> dict[str, Any]:
        rows = tf.shape(images)[0]
        # an empty batch gets one image: with oneDNN a convolution of no rows has another shape on some processors (TensorFlow 2.21)
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
            # the fast DCT, TensorFlow's default, differs by some levels from every other decoder
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

    @signature([None, height, width, 3], tf.float32)
    def embed_normalized(images: Any) -> dict[str, Any]:
        output = embed(images)["output"]  # tf.math.l2_normalize leaves what is shorter than 1e-6 as short as it is
        return {"output": tf.math.divide_no_nan(output, tf.norm(output, axis=-1, keepdims=True))}

    @signature([None], tf.string)
    def embed_encoded(images: Any) -> dict[str, Any]:
        return embed(tf.cast(tf.map_fn(decode, images, fn_output_signature=tf.TensorSpec([height, width, 3], tf.uint8)), tf.float32))

    module = tf.Module()
    module.weights = [variable.value for variable in model.weights]  # not .variables: the seeds of dropout change at every load
    # the network is traced and saved once
    module.serving_default, module.uint8, module.normalized, module.encoded = embed, embed_uint8, embed_normalized, embed_encoded
    return module


def _hide_from_python(file: Path, names: Sequence[str]) -> None:
    """Takes signatures out of what `tf.saved_model.load(...).signatures` lists, and leaves them to servers and as functions of the loaded object.

    TFLiteConverter.from_saved_model converts all that are listed there. It has no kernel for the decoders of `encoded`, and of several signatures it quantises none.
    TF Serving and saved_model_cli read the other list (`signature_def`), which keeps them all.
    """
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    saved = SavedModel.FromString(file.read_bytes())
    nodes = saved.meta_graphs[0].object_graph_def.nodes
    listed = nodes[next(child.node_id for child in nodes[0].children if child.local_name == "signatures")]
    kept = [child for child in listed.children if child.local_name not in names]
    del listed.children[:]
    listed.children.extend(kept)
    file.write_bytes(saved.SerializeToString(deterministic=True))


def _compare(model: Any, folder: str, height: int, width: int) -> dict[str, float]:
    """Returns, for each signature of the loaded folder, the largest difference to the Keras model on 8 images, as a share of the norm."""
    import tensorflow as tf

    from distill.images.codec import decode, encode_jpeg

    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (8, -(-height // 8), -(-width // 8), 3)).repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width]
    samples = np.clip(coarse + random.normal(0, 12, coarse.shape), 0, 255).astype(np.uint8)
    encoded = [encode_jpeg(image, 90) if row % 2 else tf.io.encode_png(image).numpy() for row, image in enumerate(samples)]
    loaded = tf.saved_model.load(folder)
    floats = samples.astype(np.float32)
    given = {"serving_default": floats, "uint8": samples, "normalized": floats, "encoded": np.array(encoded, object)}
    seen = {**dict.fromkeys(given, samples), "encoded": np.stack([decode(data) for data in encoded])}
    differences = {}
    for name, images in given.items():
        expected = np.asarray(model(seen[name].astype(np.float32), training=False), np.float64)
        norms = np.maximum(np.linalg.norm(expected, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        if name == "normalized":
            expected, norms = expected / norms, np.ones_like(norms)
        function = loaded.signatures[name] if name in loaded.signatures else getattr(loaded, name)
        received = function(images=tf.constant(images))["output"].numpy()
        differences[name] = float((np.abs(expected - received) / norms).max())
    return differences
