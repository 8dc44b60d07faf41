"""Options that several verbs have, how their words become values, and how a result is printed as JSON."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distill import DistillError
from distill.remote import place

if TYPE_CHECKING:
    from teachers import Teacher

Out = Annotated[Path, typer.Argument(help="folder to write", parser=place, metavar="OUT")]
Workers = Annotated[str, typer.Option(help="how many chunks at a time; 0: one a core; auto: measure, and choose the engine too")]
AsJson = Annotated[bool, typer.Option("--json", help="print the result as JSON")]
Root = Annotated[str | None, typer.Option(help="folder (or .rec or .tar) that keys are relative to; default: SOURCE itself, or the folder of the list")]
AllFiles = Annotated[bool, typer.Option("--all-files", help="in class folders take files of any suffix, and every folder as a class")]
StripPrefix = Annotated[str, typer.Option(help="beginning that is taken off every path of a text list: /old/root/")]
LabelFrom = Annotated[str, typer.Option(help="folder: of a text list of bare paths, each file's folder is its label")]
Resize = Annotated[str, typer.Option(help="an image of another size: none (it is an error), stretch or crop")]
Exif = Annotated[str, typer.Option(help="EXIF rotation of a photo: ignore, or apply, so that it is seen as a viewer shows it")]
Views = Annotated[int, typer.Option(help="views of each picture that the teacher labels, the picture as it is among them")]
RecipeName = Annotated[str | None, typer.Option("--recipe", help="what views are: face (the default), photo, or a TOML file; distill views shows them")]
Size = Annotated[str | None, typer.Option(help="HEIGHTxWIDTH, where the model takes images of any size")]
Signature = Annotated[str | None, typer.Option(help="SavedModel signature; default serving_default")]
Output = Annotated[str | None, typer.Option(help="name of its output; default: output, or the only one")]
Scale = Annotated[float | None, typer.Option(help="the model sees pixel * scale + offset; pixels are 0 to 255; default 1")]
Offset = Annotated[float | None, typer.Option(help="see --scale; default 0")]
Color = Annotated[str | None, typer.Option(help="rgb or bgr: the order that the model wants; default rgb")]
Preset = Annotated[str | None, typer.Option(help="insightface, insightface-128, unit or none, in place of --scale, --offset and --color")]
Feed = Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="a constant for an input beside the images: phase_train=false; may be given several times")]
Tags = Annotated[str | None, typer.Option(help="of the graph in a SavedModel that has several, with commas; default serve, else the one without tags")]


def open_described(
    path: str, signature: str | None = None, output: str | None = None, scale: float | None = None, offset: float | None = None,
    color: str | None = None, preset: str | None = None, feed: Sequence[str] | Mapping[str, Any] | None = None,
    tags: str | Sequence[str] | None = None,
) -> Teacher:  # fmt: skip
    from teachers import open_teacher

    fed = feed if isinstance(feed, Mapping) else parse_feed(feed or ())
    tagged = [tag.strip() for tag in tags.split(",") if tag.strip()] if isinstance(tags, str) else tags
    return open_teacher(path, signature=signature, output=output, scale=scale, offset=offset, color=color, preset=preset, feed=fed, tags=tagged)


def parse_feed(words: Sequence[str]) -> dict[str, str]:
    """["a=1"] -> {"a": "1"}."""
    fed = dict[str, str]()
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.strip() or name.strip() in fed:
            raise DistillError(f"--feed {word}: expected NAME=VALUE, each name once, such as --feed phase_train=false.")
        fed[name.strip()] = value
    return fed


def parse_recipe(name: str | None) -> Any:
    from distill.views import find_recipe

    return None if name is None else find_recipe(name)


def parse_size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    height, cross, width = text.partition("x")
    if not (cross and height.isdecimal() and width.isdecimal()):
        raise DistillError(f"--size {text}: expected HEIGHTxWIDTH, such as 112x112.")
    return int(height), int(width)


def print_json(value: Any) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:  # a terminal of fewer letters, or a name that is no text: JSON has an escape of its own
        text = json.dumps(value, indent=2, default=str)
    print(text)


def debugging() -> bool:
    return os.environ.get("DISTILL_DEBUG") == "1"
