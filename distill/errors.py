"""Every error that is a message for a person, with the exit code that it ends a verb with. Nothing is imported here: all rooms know it.

What code tells apart it tells by the class, or by a value on the error, never by the words. Errors cross processes, so each can be pickled.
"""

from __future__ import annotations


class DistillError(Exception):
    """A message for a person: what, where, received, expected, the way out. Ends a verb with exit code 2."""

    exit_code = 2


class BadValue(DistillError, ValueError):
    """A value that cannot be, whoever says it: a person, or a file, of which the reader then says that it is damaged."""


class Damaged(DistillError):
    """A file is proven to be damaged: all of its bytes were read, or a hash says so. What a system fails to do is an OSError, never this."""


class NoShard(DistillError):
    """A readable file that another program wrote stands where a shard is expected."""


class NoMemory(DistillError):
    """So many images at a time are more than the memory holds."""


class Reason(str):
    """Why one image cannot be used, in the words that a reject log gives. kind: what sort of reason it is, such as "size"."""

    kind: str

    def __new__(cls, text: str, kind: str = "damaged") -> Reason:
        made = super().__new__(cls, text)
        made.kind = kind
        return made


class BadImage(DistillError, ValueError):
    """One image cannot be used. The text is the reason that the reject log gives, kind as in `Reason`."""

    def __init__(self, text: str, kind: str = "damaged") -> None:
        super().__init__(text)
        self.kind = kind

    @property
    def reason(self) -> Reason:
        return Reason(str(self), self.kind)


class Unfinished(DistillError):
    """The input was right, but not everything asked for was done. Ends a verb with exit code 1."""

    exit_code = 1


class StoreError(Unfinished):
    """A store fails or refuses. What lies there is not at fault, so this is no OSError, which readers of shards take for damage.

    code: what the store calls it, where that is told apart, else "".
    """

    def __init__(self, where: object, what: str, code: str = "") -> None:
        super().__init__(str(where), what, code)
        self.code = code

    def __str__(self) -> str:
        where, what, _ = self.args
        return f"{where}: {what}. What is done stays; run the same command again when it answers."


class BrokenOff(Unfinished):
    """The run that a chunk belongs to was broken off."""


class Interrupted(DistillError):
    """Ctrl-C, or another signal that asks the process to end, while there was something to say of what is kept. Exit code 130, or the signal's."""

    exit_code = 130


def how_to_install(extra: str) -> str:
    """Returns the command that adds an extra, for messages; it is in no index of packages, where its name may be somebody else's.

    >>> how_to_install("onnx")
    "pip install -c constraints.txt '.[onnx]' where distill's source lies"
    """
    return f"pip install -c constraints.txt '.[{extra}]' where distill's source lies"
