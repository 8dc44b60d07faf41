"""What can be named on the command line of a training and in a run file: methods, examples, backbones with their parameters.

Plain values and texts; nothing heavy is loaded for them.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from distill.errors import DistillError

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo


@dataclass(frozen=True)
class Method:
    """One way to make a student. source: of its stages; labels: whether rows need one."""

    source: str
    words: str
    labels: bool = False


METHODS = {
    "cosine": Method("shards", "learn the direction of the teacher's embeddings; rows need no labels"),
    "joint": Method("shards", "the teacher's embeddings first, then the same together with the labels (ArcFace)", labels=True),
    "arcface": Method("shards", "the teacher's embeddings first, then the labels alone (ArcFace)", labels=True),
    "labels": Method("images", "labels alone, from a folder of class folders; no teacher", labels=True),
    "noise": Method("noise", "the teacher's answers to random noise; no photos"),
}
DEFAULT = "cosine"

# Parameters of each student with an embedding of 128 numbers, for images of 112x112 (of mobilefacenet, ghostfacenet_v1
# and the iresnets they depend on the size of the images).
BACKBONES: dict[str, int] = {
    "small_conv": 27_188,
    "mobilefacenet": 1_022_336,
    "ghostfacenet_v1": 3_831_404,
    "iresnet18": 14_404_096,
    "iresnet34": 24_528_960,
    "iresnet50": 33_992_768,
    "iresnet100": 55_589_568,
    "ConvNeXtTiny": 27_921_632,
    "ConvNeXtSmall": 49_556_192,
    "ConvNeXtBase": 87_701_760,
    "ConvNeXtLarge": 196_433_216,
    "ConvNeXtXLarge": 348_418_432,
    "EfficientNetB0": 4_218_659,
    "EfficientNetB1": 6_744_327,
    "EfficientNetB2": 7_954_553,
    "EfficientNetB3": 10_986_415,
    "EfficientNetB4": 17_910_495,
    "EfficientNetB5": 28_783_991,
    "EfficientNetB6": 41_264_399,
    "EfficientNetB7": 64_435_735,
    "EfficientNetV2B0": 6_088_400,
    "EfficientNetV2B1": 7_100_212,
    "EfficientNetV2B2": 8_955_358,
    "EfficientNetV2B3": 13_133_502,
    "EfficientNetV2S": 20_500_448,
    "EfficientNetV2M": 53_319_476,
    "EfficientNetV2L": 117_915_936,
    "MobileNetV3Small": 1_015_280,
    "MobileNetV3Large": 3_123_200,
    "InceptionResNetV2": 54_539_616,
    "InceptionV3": 22_073_248,
    "MobileNet": 3_364_160,
    "MobileNetV2": 2_427_072,
    "NASNetLarge": 85_449_170,
    "NASNetMobile": 4_409_236,
    "ResNet50V2": 23_835_264,
    "ResNet101V2": 42_897_024,
    "ResNet152V2": 58_602_112,
    "Xception": 21_131_944,
    "DenseNet121": 7_172_800,
    "DenseNet169": 12_862_656,
    "DenseNet201": 18_575_552,
    "ResNet50": 23_858_176,
    "ResNet101": 42_928_640,
    "ResNet152": 58_641_408,
    "VGG16": 14_782_400,
    "VGG19": 20_092_096,
}


def examples() -> list[str]:
    """Returns the names of the run files to start from: the methods in their order, then the others."""
    found = {Path(one.name).stem for one in files("distill").joinpath("examples").iterdir() if one.name.endswith(".toml")}
    return [*METHODS, *sorted(found - METHODS.keys())]


def example(name: str) -> str:
    """Returns the text of an example, with its comments. DistillError where there is none of that name."""
    if name not in examples():
        raise DistillError(f'no run file "{name}".{near(name, examples())} Known: {", ".join(examples())}.')
    return files("distill").joinpath("examples", f"{name}.toml").read_text(encoding="utf-8")


def near(name: str, known: Sequence[str]) -> str:
    """Returns " Did you mean ...?" where a known name is close to one, else ""."""
    lower = {one.lower(): one for one in known}
    close = [name.lower()] if name.lower() in lower else difflib.get_close_matches(name.lower(), list(lower), 1)
    return f" Did you mean {lower[close[0]]}?" if close else ""


def listing() -> str:
    """Returns what `distill init --list` prints: methods, other examples, backbones with their parameters; terms, optimizers, schedules with their keys."""
    from distill.config.losses import TERMS  # pydantic, which the names above need not wait for
    from distill.config.optimizer import Moving, Optimizer
    from distill.config.schedule import Schedule, Warmed

    others = [(name, _words_of(name)) for name in examples() if name not in METHODS]
    terms = [(name, f"learns from the {kind.needs}; {kind.in_words()}") for name, kind in TERMS.items()]
    return "\n\n".join(
        [
            _table("methods: distill train --method NAME, or distill init NAME for its run file", [(name, kind.words) for name, kind in METHODS.items()]),
            _table("other run files: distill init NAME", others),
            _table("terms of a stage, with what is taken where nothing is said: terms = [{ name = NAME, ... }]", terms),
            _table("optimizers of a stage, in the same way: optimizer = { name = NAME, ... }", _kinds(Optimizer, Moving)),
            _table("schedules of a stage, which lower its learning rate: schedule = { name = NAME, ... }", _kinds(Schedule, Warmed)),
            _table(
                "students: --student NAME, or backbone = NAME; parameters with an embedding of 128 numbers and images of 112x112",
                [(name, f"{count:>11,}") for name, count in BACKBONES.items()],
            ),
            "A stage with balanced = { identities = 30, images = 4 } takes 30 identities with 4 images each into a batch, as terms that compare images need.",
            "The embedding has 128 numbers where a run file does not say how many, and with --method as many as the teacher's. Images have the size of the set's.",
        ]
    )


def _kinds(union: Any, shared: type[BaseModel]) -> list[tuple[str, str]]:
    """Returns a row a kind: its name, what it does, and the keys of its own; and one with the keys that `shared` gives to all."""
    rows = []
    for kind in get_args(get_args(union)[0]):
        words = (kind.__doc__ or "").partition("\n")[0].rstrip(".")
        own = _keys({key: field for key, field in kind.model_fields.items() if key not in shared.model_fields})
        rows.append((kind.model_fields["name"].default, f"{words[:1].lower()}{words[1:]}{f'; {own}' if own else ''}"))
    return [*rows, ("each", _keys({key: field for key, field in shared.model_fields.items() if key != "name"}))]


def _keys(fields: Mapping[str, FieldInfo]) -> str:
    """Returns keys with what is taken where nothing is said: "momentum (none), nesterov = true", and "at (needed)"."""
    words = []
    for key, field in fields.items():
        if field.is_required() or field.default is None:
            words.append(f"{key} ({'needed' if field.is_required() else 'none'})")
        else:
            words.append(f"{key} = {field.default:g}" if type(field.default) in (int, float) else f"{key} = {json.dumps(field.default)}")
    return ", ".join(words)


def _words_of(name: str) -> str:
    """Returns the first sentence of an example's second line, which says what it is for."""
    return example(name).splitlines()[1].removeprefix("# ").partition(". ")[0].rstrip(".")


def _table(title: str, rows: Sequence[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in rows)
    return "\n".join([title, *(f"  {name:<{width}}  {words}" for name, words in rows)])
