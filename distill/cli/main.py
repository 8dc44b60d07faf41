"""The command line: the verbs in their groups, what a line of words ends with, and what an error becomes.

Exit code 0: everything asked for was done. 1: the input was right, but something is missing or wrong with the data. 2: bad input.
An error is one message; --debug, anywhere on the line, shows where it came from.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from distill import __version__
from distill.cli import comparing, data, demo, evaluating, exporting, importing, inspect, reporting, training
from distill.cli.help import SETTINGS, Verb, Verbs, mistake_in_words
from distill.cli.options import debugging
from distill.errors import DistillError, Interrupted
from distill.runtime.process import keep_memory
from distill.runtime.progress import shown
from distill.runtime.quiet import QUIET
from distill.runtime.signals import signal_code, signal_words, stop_on_signals
from distill.runtime.streams import open_streams

STAYS = {
    "faces": "Pictures that were drawn stay; the same command draws the others.",
    "embed": "Finished chunks stay; the same command makes the others, those begun from their first row.",
    "import": "Finished chunks stay; the same command makes the others.",
    "train": "Finished epochs stay; the same command goes on behind the last one.",
    "demo": "Finished steps, chunks and epochs stay; the same command goes on behind them.",
}
NOTHING_STAYS = "Nothing is kept; the same command begins anew."
VERBS = {
    "Start": (demo.demo,),
    "Prepare": (data.faces, data.chunk, data.plan),
    "Embed": (data.embed, importing.import_, data.verify),
    "Look": (inspect.inspect, data.views),
    "Train": (training.init, training.train),
    "Judge": (evaluating.evaluate, comparing.compare, reporting.report),
    "Ship": (exporting.export,),
}
app = typer.Typer(cls=Verbs, context_settings=SETTINGS, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def distill(context: typer.Context, version: Annotated[bool, typer.Option("--version", help="print the version and stop")] = False) -> None:
    """Distil an image-embedding model into a small one: embed images with the teacher, train a student, evaluate and export it.

    `distill VERB --help` explains a verb; `distill demo` shows all of them at work.
    """
    if version:
        print(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)


for title, verbs in VERBS.items():
    for verb in verbs:
        more = {"allow_extra_args": True, "ignore_unknown_options": False} if verb is data.embed else None
        app.command(verb.__name__.rstrip("_"), cls=Verb, rich_help_panel=title, context_settings=more)(verb)


def run(arguments: Sequence[str]) -> int:
    """One command line in this process, as `main` would run it, and its exit code; errors are raised."""
    return app(list(arguments), prog_name="distill", standalone_mode=False) or 0


def main() -> None:
    """The console script. A thread of a broken pipeline may still run: it must not keep the process from ending."""
    import threading

    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # else pydantic looks for them in every installed package: 0.1 s
    unprinted = open_streams()
    stop_on_signals()
    code = outcome(sys.argv[1:])
    if (error := unprinted()) is not None:
        code = _say(f"distill: what it says could not be printed: {error.strerror}. Its work is not concerned.", code or 1)
        unprinted()
    if any(thread.name == "pipeline" for thread in threading.enumerate()):
        os._exit(code)
    sys.exit(code)


def outcome(words: Sequence[str]) -> int:
    """Run one command line; an error becomes one message on stderr and an exit code."""
    words = list(words)
    if "--debug" in words:
        words.remove("--debug")
        os.environ["DISTILL_DEBUG"] = "1"
    _log_to_stderr()
    keep_memory()
    if not debugging():
        os.environ.setdefault(QUIET, "3")  # for all that loads TensorFlow, and for the processes that this one starts
    stays = STAYS.get(words[0] if words else "", NOTHING_STAYS)
    try:
        _check_surroundings(words)
        with shown():
            code = run(words)
        return _say(f"{signal_words()}. {stays}", signal_code()) if code == 130 else code
    except typer.TyperException as error:
        return _say(mistake_in_words(error, words) if hasattr(error, "ctx") else str(error), error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        return _say(f"{signal_words()}. {stays}", signal_code())
    except Interrupted as error:
        return _say(f"{signal_words()} {error}", signal_code())
    except DistillError as error:
        if debugging():
            raise
        return _say(f"distill: {error}", error.exit_code)
    except OSError as error:
        if debugging():
            raise
        return _say(f"distill: {_os_error(error)}", 1)


def _check_surroundings(words: Sequence[str]) -> None:
    """DistillError where relative paths lead nowhere, because the folder that this was started in is gone."""
    if not words or {"-h", "--help", "--version"}.intersection(words):
        return
    try:
        os.getcwd()
    except OSError as error:
        raise DistillError("the folder that this was started in is not there any more. Change to one that is (cd), and run the same command again.") from error


def _os_error(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    again = " What was finished stays; make room and run the same command again." if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    if "No usable temporary directory" in str(error):  # CPython's tempfile (3.11 to 3.14), which has no class or number of its own for it
        again = " Set TMPDIR to a folder that can be written."
    return f"{where}{error.strerror or error}.{again}"


def _say(text: str, code: int) -> int:
    print(text, file=sys.stderr)
    return code


def _log_to_stderr() -> None:
    import logging

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("distill: %(message)s"))
    log = logging.getLogger("distill")
    log.handlers[:] = [handler]
    log.setLevel(logging.DEBUG if debugging() else logging.WARNING)
    log.propagate = False
