"""The kind of a reason that a reject log holds as text. Short, because the way out of each kind is told by pipelines.rejects, which knows the options."""

from distill.errors import Reason

# How the reasons in a reject log begin, by their kind; any other one is "damaged". It holds the text alone, so that the kind is found from it.
# In memory a reason has its kind with it.
_KINDS = {
    "size": ("the image is ",),
    "missing": ("no such ",),
    "unreadable": ("the key is not", "a link in the path", "the file is a link", "the file cannot be opened", "not a regular file"),
    "empty": ("the file is empty", "the record holds no image"),
    "text": ("text, not an image",),
    "format": ("not an image in a known format", "a format that is not read"),
    "frames": ("more than one frame",),
    "large": ("over ", "the file has ", "the record has "),
    "depth": ("32-bit pixels",),
    "answer": ("the teacher's embedding",),
    "range": ("the embedding",),
}
SIZE_ADVICE = "; --resize stretch or crop changes sizes"


def reason_in_log(text: str) -> Reason:
    """Returns a reason that was read from a reject log, with its kind, such as "size" or "damaged", whatever numbers and names stand in it.

    >>> reason_in_log("the image is 50x50 (height x width), expected 32x32; --resize stretch or crop changes sizes").kind
    'size'
    """
    return Reason(text, next((kind for kind, starts in _KINDS.items() if text.startswith(starts)), "damaged"))


def plain(reason: str) -> str:
    """Returns a reason of a reject log without the options of `distill embed` that it ends with, for verbs that have others."""
    return reason.removesuffix(SIZE_ADVICE)
