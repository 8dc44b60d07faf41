"""How help and mistakes on the command line look: verbs and options in groups, whole sentences, plain text where no terminal reads it.

Help is written without rich: importing it costs more than everything else that `distill --help` does, and its table of six columns leaves an
option a third of a screen of 80 columns. The groups are the names given as `rich_help_panel`.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any

from typer.core import TyperCommand, TyperGroup

ORDER = (  # of the groups in a verb's help; others follow
    "Arguments",
    "Without a run file",
    "Student",
    "Length",
    "Pairs",
    "Templates (IJB-B, IJB-C)",
    "Teacher",
    "Preprocessing",
    "Images",
    "Views",
    "Work",
    "Output",
)
LAST = "Options"  # of parameters that name no group: --json, --help
WIDEST = 120  # columns; longer lines are hard to read, whatever the terminal is
SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": WIDEST}
COMPLETION = {
    "install_completion": "complete words with the Tab key from now on: set it up for this shell (bash, zsh, fish)",
    "show_completion": "print what --install-completion would set up",
}
# pydantic's text, which typer 0.29 passes on alone
_NUMBER = re.compile(r"should be a valid (integer|number)")
_SENTENCE = re.compile(r"(.+?[.!?])(?=\s|$)", re.DOTALL)


class Verb(TyperCommand):
    """A verb whose help shows its options in groups."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return _usage(self.params, "[-- OPTIONS OF BEAM]" if self.context_settings.get("allow_extra_args") else "")

    def format_help(self, ctx: Any, formatter: Any) -> None:
        _write_help(self, ctx, formatter)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        _write_groups(self.get_params(ctx), formatter)

    def get_help_option(self, ctx: Any) -> Any:
        return _plain_help(super().get_help_option(ctx))


class Verbs(TyperGroup):
    """All verbs, in groups; a word that is none of them is answered with the one that is like it."""

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = super().get_params(ctx)
        for option in params:
            _answer_no(option)
            option.help = COMPLETION.get(option.name, option.help)
        return params

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return ["VERB ...", "[options]"]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        _write_help(self, ctx, formatter)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            verb = self.get_command(ctx, name)
            if verb is not None and not verb.hidden:
                groups.setdefault(getattr(verb, "rich_help_panel", None) or "Verbs", []).append((name, first_sentence(verb.help or "")))
        width = max(len(name) for name in self.commands)
        for title, verbs in groups.items():
            with formatter.section(_bold(title)):
                formatter.write_dl([(_name(name) + " " * (width - len(name)), told) for name, told in verbs])
        _write_groups(self.get_params(ctx), formatter)

    def get_help_option(self, ctx: Any) -> Any:
        return _plain_help(super().get_help_option(ctx))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if not args[0].startswith("-") and args[0] not in self.commands:
            ctx.fail(f"no verb {args[0]!r}. {_did_you_mean(get_close_matches(args[0], self.commands, cutoff=0.6))}".strip())
        return super().resolve_command(ctx, args)


def first_sentence(text: str) -> str:
    """Returns the first sentence of a help text, on one line.

    >>> first_sentence("Train a student. Running it again goes on.")
    'Train a student.'
    """
    text = " ".join(text.partition("\b")[0].split())
    found = _SENTENCE.match(text)
    return found[1] if found else text


def mistake_in_words(error: Any, words: Sequence[str] = ()) -> str:
    """Returns what typer found wrong with a command line, as one message that begins with the command and ends with the way out.

    words: the command line.
    """
    ctx = getattr(error, "ctx", None)
    command = ctx.command_path if ctx is not None else "distill"
    if isinstance(name := getattr(error, "option_name", None), str) and hasattr(error, "possibilities"):
        told = f"no option {name!r}. {_instead(name, ctx, words)}".strip()
    elif (number := _NUMBER.search(error.format_message())) is not None and (param := getattr(error, "param", None)) is not None:
        given = next((f"{option} {value}" for option in param.opts for value in _values(option, words) if not _is_number(value, number[1])), _word(param))
        told = f"{given}: expected a {'whole ' if number[1] == 'integer' else ''}number."
    else:
        told = " ".join(error.format_message().split())
        told = re.sub(r"'(--?[\w-]+)'", r"\1", told)
        told = told[:1].lower() + told[1:]
        param = getattr(error, "param", None)
        missing = hasattr(error, "param_type")  # typer's MissingParameter, which it does not give out
        if missing and param is not None and param.param_type_name == "option" and param.help:
            told = f"{told.rstrip('.')} {_word(param)}: {param.help}."
    return f"{command}: {told} ({command} --help lists {'the verbs' if command == 'distill' else 'what it takes'}.)"


def _values(option: str, words: Sequence[str]) -> Iterator[str]:
    """What an option was given on a command line, each time that it stands there."""
    for word, after in zip(words, [*words[1:], ""], strict=True):
        if word == option:
            yield after
        elif word.startswith(f"{option}="):
            yield word.partition("=")[2]


def _is_number(text: str, kind: str) -> bool:
    try:
        return bool([int(text)] if kind == "integer" else [float(text)])
    except ValueError:
        return False


def _instead(name: str, ctx: Any, words: Sequence[str]) -> str:
    """What may be meant by an option that a verb does not have: another one, or for `train` a key of run files."""
    keys: Sequence[str] = ()
    near = _near_options(name, ctx)
    if ctx is not None and ctx.command.name == "train":
        from distill.config.problems import keys_like

        keys = keys_like(name.strip("-").replace("-", "_"), close=not near)
    if not keys:
        return _did_you_mean(near)
    value = next(iter(_values(name, words)), "")
    return f"Use --set {keys[0]}={value if value and not value.startswith('--') else 'VALUE'} instead."


def _near_options(name: str, ctx: Any) -> Sequence[str]:
    options = [option for one in ctx.command.get_params(ctx) for option in (*one.opts, *one.secondary_opts) if option.startswith("--")]
    return get_close_matches(name, options, cutoff=0.7)


def _did_you_mean(names: Sequence[str]) -> str:
    return f"Did you mean {' or '.join(names)}?" if names else ""


# ----------------------------------------------------------------------------------------------------------------------------- what is written


def _write_help(command: Any, ctx: Any, formatter: Any) -> None:
    command.format_usage(ctx, formatter)
    command.format_help_text(ctx, formatter)
    command.format_options(ctx, formatter)
    command.format_epilog(ctx, formatter)


def _write_groups(params: Sequence[Any], formatter: Any) -> None:
    """Arguments and options in groups; those of no group last."""
    groups: dict[str, list[tuple[str, str]]] = {title: [] for title in ORDER}
    last: list[tuple[str, str]] = []
    for param in params:
        if not getattr(param, "hidden", False):
            title = getattr(param, "rich_help_panel", None) or ("Arguments" if param.param_type_name == "argument" else LAST)
            (last if title == LAST else groups.setdefault(title, [])).append(_record(param))
    for title, records in {**groups, LAST: last}.items():
        if records:
            with formatter.section(_bold(title)):
                formatter.write_dl(records)


def _record(param: Any) -> tuple[str, str]:
    """(name, help) of an argument or an option."""
    if param.param_type_name == "argument":
        name = _name(_word(param))
    else:
        name = ", ".join(_name(option) for option in sorted(param.opts, key=len))
        name += "".join(f" / {_name(option)}" for option in param.secondary_opts)
        name += "" if getattr(param, "is_flag", False) else f" {_word(param)}"
    return name, " ".join(filter(None, (param.help or "", *_extras(param))))


def _extras(param: Any) -> Iterator[str]:
    shown, default = param.show_default, param.default
    if isinstance(shown, str):
        yield f"[default: {shown}]"
    elif shown and default is not None and not isinstance(default, bool) and default != "" and not callable(default):
        yield f"[default: {default}]"
    if param.required and param.param_type_name == "option":
        yield "[required]"


def _usage(params: Sequence[Any], rest: str) -> list[str]:
    """ "SOURCE OUT --teacher MODEL [options]": what must be given, and that there is more."""
    arguments = [_word(one) if one.required else f"[{_word(one)}]" for one in params if one.param_type_name == "argument"]
    required = [f"{one.opts[0]} {_word(one)}" for one in params if one.param_type_name == "option" and (one.required or "[required]" in (one.help or ""))]
    return [*arguments, *required, "[options]", *filter(None, [rest])]


def _word(param: Any) -> str:
    return param.metavar or param.name.upper()


def _bold(text: str) -> str:
    return f"\033[1m{text}\033[0m" if in_colour() else text


def _name(text: str) -> str:
    return f"\033[36m{text}\033[0m" if in_colour() else text


def in_colour(stream: Any = None) -> bool:
    """Returns whether a stream (default: stdout) is a terminal whose user wants colours; https://no-color.org."""
    stream = stream or sys.stdout
    return bool(stream and stream.isatty()) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


# --------------------------------------------------------------------------------------------------------------------------- what costs time


def _plain_help(option: Any) -> Any:
    if option is not None:
        option.help = "show this help and stop"
        _answer_no(option)
    return option


def _answer_no(option: Any) -> None:
    """A flag of all verbs that is not given is False, not None: typer loads pydantic (0.3 s) to make a bool of None."""
    if getattr(option, "is_flag", False) and option.default is None:
        option.default = False
