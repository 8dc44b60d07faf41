"""Every error that is a message for a person, with the exit code that it ends a verb with. Nothing is imported here: all rooms know it."""


class DistillError(Exception):
    """A message for a person: what, where, received, expected, the way out. Ends a verb with exit code 2."""

    exit_code = 2


class Damaged(DistillError):
    """A file is proven to be damaged: all of its bytes were read, or a hash says so. What a system fails to do is an OSError, never this."""


class Unfinished(DistillError):
    """The input was right, but not everything asked for was done. Ends a verb with exit code 1."""

    exit_code = 1


class Interrupted(DistillError):
    """Ctrl-C, or another signal that asks the process to end, while there was something to say of what is kept. Exit code 130, or the signal's."""

    exit_code = 130
