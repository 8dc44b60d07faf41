"""Pages: one HTML file that contains everything it shows and loads nothing from a network.

A page is a list of sections, a section a list of blocks (Text, Callout, Tiles, Facts, Table, Figure, Faces, Cases, Portraits, Commands, Code). Their looks
are in `blocks.html.j2` (a macro of the same name for each), `page.html.j2` and `style.css`: for a laptop, a phone and a printer, on light and on dark paper.
The templates escape every text, so a class folder may have any name.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from distill import __version__
from distill.storage.files import committed

if TYPE_CHECKING:
    from jinja2 import Template

PHONE = 330  # pixels for a table on a phone of 390


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    words: str


@dataclass(frozen=True)
class Callout:
    """What a reader is to see first: a sentence over lines that stand behind it. kind: "open", "loses" or "equal", which has a colour beside the words."""

    kind: str
    headline: str
    lines: Sequence[str] = ()


@dataclass(frozen=True)
class Tiles:
    """The most important figures: (value, what it is) each."""

    values: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Facts:
    """(name, lines of text) each, one below the other. Long words such as paths are broken anywhere."""

    values: Sequence[tuple[str, Sequence[str]]]


@dataclass(frozen=True)
class Table:
    """Rows of texts under column names; the row or rows `strong` are emphasised. A cell (text, share) has a bar of that share, 0 to 1; what stands behind a line
    break is small, below the rest. wraps: whether cells are texts of several lines, which never scroll."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str | tuple[str, float]]]
    caption: str = ""
    strong: int | Sequence[int] | None = None
    wraps: bool = False

    @property
    def strong_rows(self) -> Sequence[int]:
        return () if self.strong is None else (self.strong,) if isinstance(self.strong, int) else self.strong

    @property
    def scrolls(self) -> bool:
        """Whether it is too wide for a phone."""
        return self.width > PHONE and not self.wraps

    @property
    def width(self) -> int:
        """About how many pixels it takes on a phone: each column as wide as its longest cell or the longest word of its heading."""
        columns = zip(*self.rows, strict=True) if self.rows else [()] * len(self.columns)
        letters = 0
        for name, cells in zip(self.columns, columns, strict=True):
            texts = [line for cell in cells for line in (cell[0] if isinstance(cell, tuple) else cell).split("\n")]
            letters += max(map(len, [*texts, *name.split()]), default=0)
        return round(7.3 * letters + 16 * len(self.columns))


@dataclass(frozen=True)
class Figure:
    """A plot, as a PNG for light and one for dark paper, with a caption that explains it. alt: what it is, for those who do not see it; "": its caption."""

    pngs: tuple[bytes, bytes]
    caption: str
    alt: str = ""


@dataclass(frozen=True)
class Faces:
    """An image made of photos (PNG bytes), over the whole width."""

    png: bytes
    caption: str


@dataclass(frozen=True)
class Case:
    """One pair: two images (PNG or JPEG bytes), whether they show one person, and their scores."""

    first: bytes
    second: bytes
    truth: str
    scores: str


@dataclass(frozen=True)
class Cases:
    """Pairs of images side by side, with their scores."""

    cases: Sequence[Case]


@dataclass(frozen=True)
class Portraits:
    """Single images in a row: (PNG or JPEG bytes, lines of words below it) each."""

    values: Sequence[tuple[bytes, str]]


@dataclass(frozen=True)
class Commands:
    """Command lines to type next: (purpose, line) each. A long one is broken over several lines."""

    values: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Code:
    """The lines of a file, folded away under a title."""

    title: str
    lines: str


Block = Text | Callout | Tiles | Facts | Table | Figure | Faces | Cases | Portraits | Commands | Code


@dataclass(frozen=True)
class Section:
    """A heading ("" for none) over blocks."""

    title: str
    blocks: Sequence[Block]

    def groups(self) -> Iterator[tuple[bool, list[Block]]]:
        """Yields (whether they are figures, consecutive blocks): neighbouring figures are side by side where there is room."""
        return ((figures, list(blocks)) for figures, blocks in groupby(self.blocks, lambda block: isinstance(block, Figure)))


def render(title: str, sections: Sequence[Section], lead: str = "") -> str:
    """Returns the HTML of a page. lead: a paragraph under the title."""
    return _template().render(title=title, sections=sections, lead=lead, version=__version__)


def write_page(path: Path, title: str, sections: Sequence[Section], lead: str = "") -> Path:
    """Writes the page, whole or not at all, and returns its path. lead: a paragraph under the title."""
    page = render(title, sections, lead)
    path.parent.mkdir(parents=True, exist_ok=True)
    with committed(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


@lru_cache(maxsize=1)
def _template() -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader("distill.report", ""), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    environment.filters["inline"] = _inline
    environment.filters["percent"] = lambda share: f"{100 * min(1.0, max(0.0, share)):.1f}%"
    environment.filters["macro"] = lambda block: type(block).__name__.lower()
    return environment.get_template("page.html.j2")


def _inline(image: bytes) -> str:
    """Returns the address of an image that is part of the page."""
    kind = "jpeg" if image.startswith(b"\xff\xd8") else "png"
    return f"data:image/{kind};base64," + base64.b64encode(image).decode("ascii")
