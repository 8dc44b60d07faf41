"""How a verb ends for a person: what was made, then the commands that come next, as they can be typed. Short, and apart, because every group of verbs ends so."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

import typer


def print_next(*commands: Iterable[object], note: str = "") -> None:
    """Print a line for each command that comes next: the words behind `distill`; words in capitals are to be filled in."""
    for words in commands:
        print(f"next: {shlex.join(['distill', *map(str, words)])}{f'  # {note}' if note else ''}")


def given(context: typer.Context, *names: str, but: Iterable[str] = ()) -> list[str]:
    """Returns the options of this command line, as words, without those that were not typed.

    Args:
        names: of the parameters to take, by the names of the function; none for all options.
        but: parameters to leave out.
    """
    words = list[str]()
    for param in context.command.params:
        name = param.name or ""
        typed = str(getattr(context.get_parameter_source(name), "name", "")) == "COMMANDLINE"
        if not typed or param.param_type_name != "option" or (names and name not in names) or name in {*but, "as_json"}:
            continue
        value, flag = context.params[name], max(param.opts, key=len)
        if isinstance(value, bool):
            words.append(flag if value else max(param.secondary_opts, key=len, default=flag))
        else:
            for one in value if isinstance(value, (list, tuple)) else [value]:
                words += [flag, str(one)]
    return words


def training(shards: object) -> list[object]:
    """Returns the words that train a student from a set of shards."""
    return ["train", "--shards", shards, "--out", "runs/NAME"]
