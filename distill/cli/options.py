"""Options that several verbs have, how their words become values, and how a result is printed as JSON."""

from __future__ import annotations

import functools
import inspect
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypeAlias

import typer

from distill.errors import DistillError
from distill.storage.path import StoragePath, as_path

Options: TypeAlias = Mapping[str, tuple[Any, Any]]  # {name: (annotation, default)}


def one_of(*words: str) -> dict[str, Any]:
    """What an option of few words says of itself in help, and what the Tab key completes."""
    return {"metavar": "|".join(words), "autocompletion": lambda: list(words)}


IMAGES, TEACHER, PREPROCESSING, VIEWS, WORK, OUTPUT = "Images", "Teacher", "Preprocessing", "Views", "Work", "Output"  # groups of options in help
ONLY_IMAGES = "the images: a folder of class folders or of photos, a text list, train.rec or .tar"
A_MODEL = "folder of a SavedModel or a run, or a .keras, .h5, .onnx, .tflite, .xml, .pb or .meta file"
Images = Annotated[str, typer.Argument(metavar="SOURCE", help=ONLY_IMAGES)]
Source = Annotated[str, typer.Argument(metavar="SOURCE", help=f"{ONLY_IMAGES}; or chunks of one")]
Out = Annotated[StoragePath, typer.Argument(parser=as_path, metavar="OUT", help="the folder to write: a new or empty one, or one that distill made")]
Model = Annotated[str, typer.Argument(metavar="MODEL", help=A_MODEL)]
AsJson = Annotated[bool, typer.Option("--json", help="print the result as JSON")]

Root = Annotated[
    str | None,
    typer.Option(metavar="FOLDER", rich_help_panel=IMAGES, help="folder, .rec or .tar that keys are relative to; default: SOURCE, or the folder of the list"),
]
RootOfSet = Annotated[
    str | None, typer.Option("--root", metavar="FOLDER", rich_help_panel=IMAGES, help="folder, .rec or .tar with the images, where the shards hold none")
]
AllFiles = Annotated[bool, typer.Option("--all-files", rich_help_panel=IMAGES, help="list files of any suffix, and every folder as a class")]
StripPrefix = Annotated[
    str, typer.Option(metavar="PREFIX", rich_help_panel=IMAGES, help="remove this prefix from every path of a text list, such as /old/root/")
]
LabelFrom = Annotated[
    str, typer.Option(metavar="folder", rich_help_panel=IMAGES, help="label the rows of a text list of bare paths by the folder that each file is in")
]
Resize = Annotated[
    str, typer.Option(**one_of("none", "stretch", "crop"), rich_help_panel=IMAGES, help="what to do with an image of another size; none: it is an error")
]
Exif = Annotated[
    str, typer.Option(**one_of("ignore", "apply"), rich_help_panel=IMAGES, help="EXIF rotation of a photo; apply: the model sees it as a viewer shows it")
]
Size = Annotated[
    str | None, typer.Option(metavar="HxW", rich_help_panel=IMAGES, help="height x width of the images, such as 112x112, where the model takes any size")
]

Teacher_ = Annotated[str, typer.Option("--teacher", metavar="MODEL", rich_help_panel=TEACHER, help=A_MODEL)]
Batch = Annotated[int, typer.Option(metavar="N", rich_help_panel=TEACHER, help="images per call of the teacher")]
Preset = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        autocompletion=lambda: ["insightface", "insightface-128", "unit", "none"],
        rich_help_panel=PREPROCESSING,
        help="insightface, insightface-128, unit or none, in place of --scale, --offset and --color",
    ),
]
Scale = Annotated[
    float | None, typer.Option(metavar="X", rich_help_panel=PREPROCESSING, help="the model sees pixel * scale + offset; pixels are 0 to 255", show_default="1")
]
Offset = Annotated[float | None, typer.Option(metavar="X", rich_help_panel=PREPROCESSING, help="see --scale", show_default="0")]
Color = Annotated[
    str | None, typer.Option(**one_of("rgb", "bgr"), rich_help_panel=PREPROCESSING, help="colour order that the model expects", show_default="rgb")
]
Signature = Annotated[str | None, typer.Option(metavar="NAME", rich_help_panel=PREPROCESSING, help="signature of a SavedModel", show_default="serving_default")]
Output = Annotated[
    str | None,
    typer.Option(metavar="NAME", rich_help_panel=PREPROCESSING, help="which of the model's outputs is the embedding", show_default="output, or the only one"),
]
Input = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", rich_help_panel=PREPROCESSING, help="which of the model's inputs takes the images", show_default="the only one that is not fed"
    ),
]
Feed = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        rich_help_panel=PREPROCESSING,
        help="a constant for an input beside the images, such as phase_train=false; may be given several times",
    ),
]
Tags = Annotated[
    str | None,
    typer.Option(
        metavar="TAG,TAG",
        rich_help_panel=PREPROCESSING,
        help="tags of the graph in a SavedModel that has several",
        show_default="serve, else the one without tags",
    ),
]

Views = Annotated[int, typer.Option(metavar="N", rich_help_panel=VIEWS, help="views of each picture to embed, the picture as it is among them")]
RecipeName = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        metavar="face|photo|FILE",
        autocompletion=lambda: ["face", "photo"],
        rich_help_panel=VIEWS,
        show_default="face",
        help="how views are made; a TOML file for a recipe of your own",
    ),
]

Rows = Annotated[int, typer.Option(metavar="N", rich_help_panel=WORK, help="rows of one chunk, the unit of work and of retry")]
Workers = Annotated[str, typer.Option(metavar="N|auto", rich_help_panel=WORK, help="chunks at a time; 0: one a core; auto: measure, and choose the engine too")]

Dtype = Annotated[str, typer.Option(**one_of("float16", "float32", "int8"), rich_help_panel=OUTPUT, help="type of the stored embeddings")]
StoredImages = Annotated[
    str, typer.Option("--images", **one_of("inline", "path"), rich_help_panel=OUTPUT, help="inline: the shards hold the image bytes; path: only their SHA-256")
]
DryRun = Annotated[bool, typer.Option("--dry-run", rich_help_panel=WORK, help="cut the list, print rows, chunks and GB, and stop")]


def parse_tags(words: str | None) -> list[str] | None:
    """("serve, gpu") -> ["serve", "gpu"]."""
    return None if words is None else [tag.strip() for tag in words.split(",") if tag.strip()]


def parse_feed(words: Sequence[str] | None) -> dict[str, str]:
    """["a=1"] -> {"a": "1"}."""
    fed = dict[str, str]()
    for word in words or ():
        name, equals, value = word.partition("=")
        if not equals or not name.strip() or name.strip() in fed:
            raise DistillError(f"--feed {word}: expected NAME=VALUE, each name once, such as --feed phase_train=false.")
        fed[name.strip()] = value
    return fed


def print_json(value: Any) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:  # a terminal of fewer letters, or a name that is no text: JSON has an escape of its own
        text = json.dumps(value, indent=2, default=str)
    print(text)


def debugging() -> bool:
    return os.environ.get("DISTILL_DEBUG") == "1"


HANDED: Options = {
    "signature": (Signature, None),
    "input": (Input, None),
    "output": (Output, None),
    "scale": (Scale, None),
    "offset": (Offset, None),
    "color": (Color, None),
    "preset": (Preset, None),
    "feed": (Feed, None),
    "tags": (Tags, None),
}
PIXELS: Options = {"resize": (Resize, "none"), "exif": (Exif, "ignore"), "size": (Size, None)}
LISTED: Options = {"all_files": (AllFiles, False), "strip_prefix": (StripPrefix, ""), "label_from": (LabelFrom, "")}


def takes(*groups: Options) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a verb the options of some groups, which stand in its help as its own do and come to it as **options, --feed and --tags parsed."""
    options = {name: one for group in groups for name, one in group.items()}
    shared = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind) for name, (kind, default) in options.items()]

    def with_options(verb: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(verb, eval_str=True)
        own = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]

        @functools.wraps(verb)
        def call(**given: Any) -> None:
            if "feed" in options:
                given |= {"feed": parse_feed(given["feed"]), "tags": parse_tags(given["tags"])}
            verb(**given)

        call.__signature__ = signature.replace(parameters=[*own, *shared])  # type: ignore[attr-defined]
        call.__annotations__ = {each.name: each.annotation for each in (*own, *shared)}
        return call

    return with_options
