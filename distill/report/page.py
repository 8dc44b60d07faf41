"""Pages: one HTML file that holds everything it shows and asks no network for anything.

A page is a list of sections, a section a list of blocks (Text, Tiles, Facts, Table, Figure, Faces, Cases, Commands, Code); `write_page` lays them out
for a laptop and for a phone, on light and on dark paper. Every text is escaped here, so that a class folder may be called what it likes.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from distill import __version__
from distill.storage.files import committed

PHONE = 330  # pixels that a table has on a phone of 390


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    words: str

    def html(self) -> str:
        return f"<p>{escape(self.words)}</p>"


@dataclass(frozen=True)
class Tiles:
    """Figures to be seen first: (value, what it is) each."""

    values: Sequence[tuple[str, str]]

    def html(self) -> str:
        tiles = "".join(f"<div><b>{escape(value)}</b><span>{escape(words)}</span></div>" for value, words in self.values)
        return f'<div class="tiles">{tiles}</div>'


@dataclass(frozen=True)
class Facts:
    """(what, one line or several of text) each, one under the other. Long words such as paths are broken anywhere."""

    values: Sequence[tuple[str, str | Sequence[str]]]

    def html(self) -> str:
        rows = ""
        for name, told in self.values:
            lines = [told] if isinstance(told, str) else told
            rows += f"<dt>{escape(name)}</dt><dd>{'<br>'.join(map(escape, lines))}</dd>"
        return f"<dl>{rows}</dl>"


@dataclass(frozen=True)
class Table:
    """Rows of texts under column names; `strong` is the row to look at first. A cell (text, share) has a bar of that share, 0 to 1."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str | tuple[str, float]]]
    caption: str = ""
    strong: int | None = None

    def html(self) -> str:
        head = "".join(f'<th scope="col">{escape(name)}</th>' for name in self.columns)
        body = ""
        for number, row in enumerate(self.rows):
            cells = "".join(self._cell(place, cell) for place, cell in enumerate(row))
            body += f"<tr{' class=strong' if number == self.strong else ''}>{cells}</tr>"
        note = f"<p class=note>{escape(self.caption)}</p>" if self.caption else ""
        hint = '<p class="hint">This table is wider than the screen: it scrolls sideways.</p>' if self.width > PHONE else ""
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return f'{hint}<div class="wide" tabindex="0" role="group">{table}</div>{note}'

    @property
    def width(self) -> int:
        """Pixels on a phone, about: of each column its longest cell, of its heading the longest word."""
        columns = zip(*self.rows, strict=True) if self.rows else [()] * len(self.columns)
        letters = 0
        for name, cells in zip(self.columns, columns, strict=True):
            texts = [cell[0] if isinstance(cell, tuple) else cell for cell in cells]
            letters += max(map(len, [*texts, *name.split()]), default=0)
        return round(7.3 * letters + 16 * len(self.columns))

    def _cell(self, place: int, cell: str | tuple[str, float]) -> str:
        if isinstance(cell, tuple):
            text, share = cell
            return f'<td>{escape(text)}<i class="bar"><i style="width:{100 * min(1.0, max(0.0, share)):.1f}%"></i></i></td>'
        return f'<th scope="row">{escape(cell)}</th>' if place == 0 else f"<td>{escape(cell)}</td>"


@dataclass(frozen=True)
class Figure:
    """A plot, as a PNG for light and one for dark paper, with a caption that says what is to be seen."""

    pngs: tuple[bytes, bytes]
    caption: str

    def html(self) -> str:
        dark = f'<source media="(prefers-color-scheme: dark)" srcset="{_inline(self.pngs[1])}">'
        image = f'<img src="{_inline(self.pngs[0])}" alt="{escape(self.caption)}">'
        return f"<figure><picture>{dark}{image}</picture><figcaption>{escape(self.caption)}</figcaption></figure>"


@dataclass(frozen=True)
class Faces:
    """A picture made of photos (PNG bytes), over the whole width."""

    png: bytes
    caption: str

    def html(self) -> str:
        image = f'<img src="{_inline(self.png)}" alt="{escape(self.caption)}">'
        return f'<figure class="faces">{image}<figcaption>{escape(self.caption)}</figcaption></figure>'


@dataclass(frozen=True)
class Case:
    """One pair: two PNGs, what is true of it, and the scores it was given."""

    first: bytes
    second: bytes
    truth: str
    scores: str


@dataclass(frozen=True)
class Cases:
    """Pairs of pictures side by side, with their scores."""

    cases: Sequence[Case]

    def html(self) -> str:
        return f'<div class="cases">{"".join(map(self._case, self.cases))}</div>'

    def _case(self, case: Case) -> str:
        images = "".join(f'<img src="{_inline(png)}" alt="{escape(case.truth)}">' for png in (case.first, case.second))
        return f"<div><div>{images}</div><b>{escape(case.truth)}</b><span>{escape(case.scores)}</span></div>"


@dataclass(frozen=True)
class Commands:
    """Command lines to be typed next: (what it does, the line) each. A long one is broken over several lines."""

    values: Sequence[tuple[str, str]]

    def html(self) -> str:
        lines = "".join(f"<p>{escape(words)}</p><pre>{escape(line)}</pre>" for words, line in self.values)
        return f'<div class="commands">{lines}</div>'


@dataclass(frozen=True)
class Code:
    """Lines as they stand in a file, folded away under a title."""

    title: str
    lines: str

    def html(self) -> str:
        return f"<details><summary>{escape(self.title)}</summary><pre>{escape(self.lines)}</pre></details>"


Block = Text | Tiles | Facts | Table | Figure | Faces | Cases | Commands | Code


@dataclass(frozen=True)
class Section:
    """A heading ("" for none) over blocks. Neighbouring figures stand side by side where there is room."""

    title: str
    blocks: Sequence[Block]

    def html(self) -> str:
        parts, row = [], ""
        for block in self.blocks:
            if isinstance(block, Figure):
                row += block.html()
                continue
            parts += [f'<div class="figures">{row}</div>'] if row else []
            parts.append(block.html())
            row = ""
        parts += [f'<div class="figures">{row}</div>'] if row else []
        heading = f"<h2>{escape(self.title)}</h2>" if self.title else ""
        return f"<section>{heading}{''.join(parts)}</section>"


STYLE = """
:root { color-scheme: light dark; --ink: #1f2933; --soft: #5b6874; --paper: #fbfbf9; --card: #fff; --line: #e1e5e9; --accent: #0072b2; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e9ee; --soft: #9aa7b4; --paper: #14181d; --card: #1c2229; --line: #313a44; --accent: #56b4e9; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 2.2rem 1.1rem 3rem; }
h1 { font-size: clamp(1.5rem, 4vw, 2.1rem); line-height: 1.2; margin: 0 0 .4rem; letter-spacing: -.01em; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .7rem; }
p { max-width: 70ch; margin: .5rem 0 1rem; }
.lead { font-size: 1.06rem; color: var(--soft); margin-bottom: 1.5rem; }
.note, figcaption, footer { color: var(--soft); font-size: .88rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: .8rem; margin-bottom: 1rem; }
.tiles > div, figure, .cases > div, details, .wide, dl, .commands { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.tiles > div { padding: .8rem 1rem; }
.tiles b { display: block; font-size: 1.5rem; line-height: 1.3; white-space: nowrap; font-variant-numeric: tabular-nums; }
.tiles span { color: var(--soft); font-size: .88rem; line-height: 1.35; display: block; }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: .5rem 1.2rem; margin: .4rem 0 1rem; padding: .8rem 1rem; }
dt { color: var(--soft); }
dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
.commands { padding: .8rem 1rem; margin-bottom: 1rem; }
.commands p { margin: .2rem 0; color: var(--soft); font-size: .88rem; }
.commands pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0 0 .7rem; }
.wide { overflow-x: auto; margin: .4rem 0; }
.hint { display: none; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .55rem .9rem; text-align: right; white-space: nowrap; border-top: 1px solid var(--line); font-weight: 400; }
thead th { color: var(--soft); font-size: .85rem; border-top: 0; white-space: normal; vertical-align: bottom; }
th:first-child { text-align: left; position: sticky; left: 0; background: var(--card); }
.strong th, .strong td { font-weight: 650; }
.bar { display: block; height: 4px; border-radius: 2px; background: var(--line); margin-top: .25rem; min-width: 5rem; }
.bar i { display: block; height: 100%; border-radius: 2px; background: var(--accent); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 430px), 1fr)); gap: 1rem; margin: .8rem 0; align-items: start; }
figure { margin: 0; padding: .9rem; }
.figures > :only-child { max-width: 720px; }
.faces { margin: .8rem 0; }
figure img { width: 100%; height: auto; display: block; }
figcaption { margin-top: .6rem; line-height: 1.4; }
.cases { display: grid; grid-template-columns: repeat(auto-fill, minmax(160px, 1fr)); gap: .8rem; }
.cases > div { padding: .7rem; }
.cases > div > div { display: grid; grid-template-columns: 1fr 1fr; gap: 4px; margin-bottom: .5rem; }
.cases img { width: 100%; display: block; border-radius: 4px; }
.cases b { display: block; font-size: .9rem; }
.cases span { color: var(--soft); font-size: .85rem; line-height: 1.35; display: block; }
details { padding: .6rem .9rem; margin: .6rem 0; }
summary { cursor: pointer; }
pre { overflow-x: auto; font-size: .82rem; line-height: 1.45; margin: .6rem 0 .2rem; }
@media (max-width: 600px) {
  main { padding: 1.4rem .8rem 2rem; }
  th, td { padding: .45rem .5rem; font-size: .84rem; }
  thead th { font-size: .76rem; }
  .bar { min-width: 3.2rem; }
  figure { padding: .5rem; }
  .tiles { grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); gap: .6rem; }
  .tiles > div { padding: .6rem .7rem; }
  .tiles b { font-size: 1.2rem; white-space: normal; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .6rem; }
  .hint { display: block; margin: .4rem 0 0; color: var(--soft); font-size: .82rem; }
}
footer { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: .8rem; }
"""


def write_page(path: str | Path, title: str, sections: Sequence[Section], lead: str = "") -> Path:
    """Writes the page, whole or not at all, and returns its path. lead: a paragraph under the title."""
    path = Path(path)
    body = "".join(section.html() for section in sections)
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{escape(title)}</title><style>{STYLE}</style></head>\n<body><main>'
        f"<h1>{escape(title)}</h1>{f'<p class=lead>{escape(lead)}</p>' if lead else ''}{body}"
        f"<footer>distill {__version__}. This file holds all that it shows.</footer></main></body></html>\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with committed(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def _inline(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
