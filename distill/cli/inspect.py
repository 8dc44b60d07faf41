"""The verb inspect."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distill.cli.options import HANDED, PREPROCESSING, AsJson, print_json, takes
from distill.errors import DistillError
from distill.storage.path import StoragePath, as_path

if TYPE_CHECKING:
    from distill.images.preprocessing import Preprocessing
    from teachers import LoadedTeacher


@takes(HANDED)
def inspect(
    path: Annotated[StoragePath, typer.Argument(help="anything that distill reads or writes", parser=as_path, metavar="PATH")],
    save: Annotated[
        bool, typer.Option("--save", rich_help_panel=PREPROCESSING, help="save these options in model.json beside the model, where all verbs find them")
    ] = False,
    force: Annotated[bool, typer.Option("--force", rich_help_panel=PREPROCESSING, help="replace a model.json that has other options")] = False,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Say what lies at a path, and what to do with it next.

    \b
    Example: distill inspect out
    Save a model's preprocessing beside it, for all verbs:
             distill inspect w600k_r50.onnx --preset insightface --save
    """
    from distill.images.preprocessing import preprocessing_of
    from distill.inspection.describe import describe, in_words
    from teachers import describe_teacher

    asked = preprocessing_of(path, **options)
    if save and not asked.said:
        raise DistillError("--save keeps the options of this line, and none is given. Name some, such as --preset insightface --save.")
    loaded: list[LoadedTeacher] = []

    def ask(model: StoragePath) -> dict[str, Any]:
        loaded.append(describe_teacher(model, asked, beside=not save).load())
        return loaded[-1].describe()

    found = describe(path, ask)
    if (asked.said or save) and not loaded:
        raise DistillError(f"{path} is no model, but {found['kind']}. The options under Preprocessing are for models; leave them away.")
    if save:
        print(_save(loaded[-1], asked, force), file=sys.stderr)
    if as_json:
        print_json(found)
    else:
        print(in_words(found))


def _save(loaded: LoadedTeacher, asked: Preprocessing, force: bool) -> str:
    """Write model.json, unless it says the same already; what was done, in words."""
    from distill.images.preprocessing import Preprocessing
    from distill.storage.files import committed
    from teachers.model_json import path_beside, write_text

    where = path_beside(loaded.teacher.path)
    typed = Preprocessing(**{**asked.said, "feed": loaded.feed}) if loaded.feed else asked
    text = write_text(typed, where.read_bytes() if where.is_file() else b"")
    if where.is_file():
        if where.read_bytes() == text.encode():
            return f"{where} says this already"
        if not force:
            raise DistillError(f"{where} is there and says something else. It was left alone: --force replaces it.")
    with committed(where) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return f"{where}: {asked}"
