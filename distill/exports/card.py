"""What stands beside an export: `model.json`, for programs, and `README.md`, the model card, for people.

model.json keeps `preprocessing` for `teachers`; an export has none there, because it takes RGB of 0 to 255 as a teacher does that nothing is said of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from distill import __version__
from distill.storage.path import StoragePath

SCHEMA = "distill.model.1"  # as in teachers/model_json.py
LICENCE = (
    "A student learns from its teacher's answers. The licence of the teacher, and that of the photos, may bind it too: "
    "read both before you pass this model on. distill has not looked at them."
)


def model_card(card: Mapping[str, Any], places: Mapping[str, str], judged: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the content of model.json.

    card: of the export, as `export` returns it, without what is said of the disk; places: {format: main file}; judged: as of `judged_of`.
    """
    height, width = card["height"], card["width"]
    given = {"name": "images", "shape": [None, height, width, 3], "dtype": "float32", "range": [0, 255], "colour": "RGB", "layout": "NHWC"}
    answer = {"name": "output", "shape": [None, card["dimension"]], "dimension": card["dimension"], "dtype": "float32", "unit_length": card["unit_length"]}
    return {
        "format": SCHEMA,
        "made_by": f"distill {__version__}",
        "input": given,
        "output": answer,
        "similarity": "cosine",
        "parameters": card["parameters"],
        "exports": {name: {"file": places[name] or ".", **figures} for name, figures in card["exports"].items()},
        "left_out": card["left_out"],
        "proof": card["proof"],
        **judged,
        "fingerprints": card["fingerprints"],
        **({"learned_from": card["learned_from"]} if "learned_from" in card else {}),
        "licence": LICENCE,
        "software": {"tensorflow": card["tensorflow"], "keras": card["keras"]},
    }


def judged_of(run: StoragePath | None, student: str) -> dict[str, Any]:
    """Returns {"thresholds": {FAR: cosine}, "figures": {...}} from the evaluation.json in the folder of a run; {} where it has none of this student.

    student: the SHA-256 of its file.
    """
    try:
        told = json.loads((run / "evaluation.json").read_bytes()) if run is not None else {}
        found: dict[str, Any] = next((one for who, one in told.items() if who != "teacher" and one.get("sha256") == student), {})
        pairs = found.get("pairs") or {}
        tars = (pairs.get("tars") or {}).get("conservative") or pairs.get("tar") or {}
        thresholds = {far: one["threshold"] for far, one in tars.items() if one.get("threshold") is not None}
        wanted = ("folder", "accuracy", "std", "threshold", "published", "auc", "eer", "tar", "genuine", "impostors", "identities", "intervals", "flip")
        figures = {name: pairs[name] for name in wanted if name in pairs}
        agreement = {name: found["agreement"][name] for name in ("shards", "part", "mean", "quantiles", "rows") if name in found.get("agreement", {})}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    judged = {"figures": {**({"pairs": figures} if figures else {}), **({"agreement": agreement} if agreement else {})}}
    return {**({"thresholds": thresholds} if thresholds else {}), **(judged if judged["figures"] else {})}


def model_page(card: Mapping[str, Any], told: Mapping[str, Any]) -> str:
    """Returns the model card, Markdown. told: the content of model.json."""
    height, width, dimension = card["height"], card["width"], card["dimension"]
    length = "of length 1" if card["unit_length"] else "of any length: compare them by cosine, or bring them to length 1 first"
    blocks = [
        "# Image-embedding model",
        f"Takes RGB images of {height}x{width} (height x width), values 0 to 255 as decoded, and returns {dimension} numbers for each, {length}. "
        f"{card['parameters']:,} parameters. Scaling of the pixels is inside the model. Images of faces have to be aligned as those that it learned from.",
        "## How it was made",
        _made(card),
        "## Files",
        _files(told),
        *(["Left out: " + "; ".join(f"{name}, because {reason}" for name, reason in card["left_out"].items())] if card["left_out"] else []),
        "## Figures",
        _figures(told),
        "## How to run it",
        *_snippets(told, height, width),
        "## Licence",
        LICENCE,
    ]
    return "\n\n".join(blocks) + "\n"


def _made(card: Mapping[str, Any]) -> str:
    prints = card["fingerprints"]
    lines = [f"A student of distill {__version__}, exported from {prints['student'][:16]} (SHA-256 of its .keras file)."]
    if prints.get("teacher"):
        lines.append(f"Its teacher has the fingerprint {prints['teacher'][:16]}.")
    if prints.get("data"):
        lines.append("It learned from " + ", ".join(f"{name} {identity[:16] or 'of unknown identity'}" for name, identity in prints["data"].items()) + ".")
    if holdout := prints.get("holdout"):
        lines.append(f"{holdout['fraction']:g} of them by {holdout['by']} were held out.")
    return " ".join([*lines, "The whole fingerprints are in model.json."])


def _files(told: Mapping[str, Any]) -> str:
    proof = told["proof"]
    rows = [
        f"| `{one['file']}` | {name} | {one['bytes'] / 1e6:.2f} MB | {one['cosine_q01']:.6f} | {one['ms_per_image']:.2f} |"
        for name, one in told["exports"].items()
    ]
    head = ["| file | format | size | cosine | ms |", "|---|---|---|---|---|"]
    note = (
        f"Each was loaded in its own engine and compared with the student on {proof['images']} images: {proof['source']}. cosine: 99 % of them have at least this "
        "cosine to the student's embedding. ms: one image alone, on the machine of the export."
    )
    return "\n".join([*head, *rows]) + "\n\n" + note


def _figures(told: Mapping[str, Any]) -> str:
    figures = told.get("figures", {})
    lines = []
    if pairs := figures.get("pairs"):
        lines.append(f"On pairs of {pairs['folder']} ({pairs['genuine']:,} of one person, {pairs['impostors']:,} of two):\n")
        lines += ["| figure | value | 95 % interval |", "|---|---|---|"]
        intervals = (pairs.get("intervals") or {}).get("figures", {})
        rows = {"accuracy": pairs["accuracy"], "auc": pairs.get("auc"), "eer": pairs.get("eer")}
        lines += [f"| {name} | {value:.4f} | {_interval(intervals.get(name))} |" for name, value in rows.items() if value is not None]
        for far, one in pairs["tar"].items():
            if one.get("tar") is not None:
                lines.append(f"| TAR at FAR {far}, cosine above {one['threshold']:.4f} | {one['tar']:.4f} | {_interval(intervals.get(f'tar@{far}'))} |")
    if agreement := figures.get("agreement"):
        rows_of = f"{agreement.get('rows', 0):,} rows of {agreement.get('shards', 'its shards')} ({agreement.get('part', 'all rows')})"
        lines.append(f"\nMean cosine to the teacher on {rows_of}: {agreement['mean']:.4f}.")
    return (
        "\n".join(lines).strip()
        or "None are known: there is no evaluation.json of this file in the folder of its run. distill evaluate RUN --pairs PAIRS --out RUN makes it."
    )


def _interval(value: Any) -> str:
    return f"{value['low']:.4f} to {value['high']:.4f}" if isinstance(value, dict) and {"low", "high"} <= value.keys() else ""


IMAGES = """import numpy as np
from PIL import Image

images = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in ("one.jpg", "two.jpg")])  # uint8 [2, {height}, {width}, 3]
"""
COSINE = """embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
print("cosine", embeddings[0] @ embeddings[1])
"""
RUNS = {
    "saved_model": (
        "TensorFlow",
        """import tensorflow as tf

model = tf.saved_model.load("{file}")
embeddings = model.signatures["serving_default"](tf.constant(images, tf.float32))["output"].numpy()
""",
    ),
    "onnx": (
        "onnxruntime",
        """import onnxruntime

session = onnxruntime.InferenceSession("{file}")
embeddings = session.run(["output"], {{"images": images.astype(np.float32)}})[0]
""",
    ),
    "litert": (
        "LiteRT",
        """from ai_edge_litert.interpreter import Interpreter

interpreter = Interpreter("{file}")
embeddings = interpreter.get_signature_runner("serving_default")(images=images{cast})["output"]
""",
    ),
    "openvino": (
        "OpenVINO",
        """import openvino

model = openvino.compile_model("{file}", "CPU")
embeddings = np.array(model(images.astype(np.float32))["output"])
""",
    ),
}


def _snippets(told: Mapping[str, Any], height: int, width: int) -> list[str]:
    """Returns a heading and ten lines of Python for each engine that has a file."""
    blocks = []
    for kind, (engine, lines) in RUNS.items():
        found = next((name for name in told["exports"] if name.startswith(kind)), None)
        if found is not None:
            cast = "" if told["exports"][found]["input"] == "uint8" else ".astype(np.float32)"
            code = IMAGES.format(height=height, width=width) + lines.format(file=told["exports"][found]["file"], cast=cast) + COSINE
            blocks += [f"### {engine}", f"```python\n{_ordered(code)}```"]
    return blocks


def _ordered(code: str) -> str:
    """Returns code with its imports first."""
    lines = [line for line in code.splitlines() if line]
    imports = [line for line in lines if line.startswith(("import ", "from "))]
    return "\n".join([*sorted(imports, key=lambda line: line.split()[1].lower()), "", *(line for line in lines if line not in imports)]) + "\n"
