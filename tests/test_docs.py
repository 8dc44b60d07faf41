"""Every command of README.md and docs/: each one parses, and each one is run here, by another test, or is named below as one that cannot be run.

A slow test types each page's commands in their order into one folder.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer

ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "distill" / "drawn_faces" / "teacher"  # what the demo leaves in demo/teacher
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

# What no machine of the tests can run, by the first words of the command, and why.
NOT_HERE = {
    "gcloud": "needs an account of Google Cloud",
    "docker": "needs a registry with the base images",
    "go install": "`make test-engines` runs it",
    "python3 -m venv": "`make` runs it",
    "python3.11 -m venv": "`make` runs it",
    "pip install": "`make` runs it, with the extra of the tests",
    "make": "typed by hand before a release; tests/test_docker.py reads the Makefile",
    "tensorboard": "a server that does not end",
    "export": "names for the commands below it",
    ". .venv/bin/activate": "`make` made it",
    "--machine_type": "options for the command above it",
}
# What stands on a page only for other machines: object stores, data sets that cannot be had here.
ELSEWHERE = ("gs://", "s3://", "$BUCKET", "faces_emore", "w600k_r50", "lfw", "facenet/", "teacher facenet ", "ijbb_")


@dataclass(frozen=True)
class Command:
    """One command line of a page. line: where it begins."""

    page: Path
    line: int
    text: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text, comments=True)

    @property
    def reason(self) -> str:
        """Why it cannot be run here; empty where it can."""
        found = [why for start, why in NOT_HERE.items() if self.text.startswith(start)]
        return found[0] if found else "needs data or a store that is not here" if any(name in self.text for name in ELSEWHERE) else ""

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line} {self.text}"


def commands(page: Path) -> list[Command]:
    """The command lines in the page's blocks of bash; continued lines are one."""
    found, begun = list[Command](), ""
    inside, start = False, 0
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("```"):
            inside, begun = line.strip() == "```bash" and not inside, ""
        elif inside and line.strip() and not line.lstrip().startswith("#"):
            start = start if begun else number
            begun += line.strip()
            if begun.endswith("\\"):
                begun = begun[:-1]
            else:
                found.append(Command(page, start, begun))
                begun = ""
    return found


ALL = [command for page in PAGES for command in commands(page)]


def test_the_pages_have_commands():
    assert len(ALL) > 20 and {command.page.name for command in ALL} >= {"README.md", "dataflow.md"}


@pytest.mark.parametrize("command", [each for each in ALL if each.words[0] == "distill"], ids=str)
def test_a_command_of_a_page_parses(command):
    """The verb exists and takes these options; nothing is run."""
    from distill.cli.main import app

    group = typer.main.get_command(app)
    words = command.words[1:]
    if ">" in words:
        words = words[: words.index(">")]
    verb = group.get_command(typer.Context(group), words[0])
    assert verb is not None, command
    verb.make_context(words[0], words[1:])


def test_every_command_is_run_or_named():
    unknown = [str(each) for each in ALL if not each.reason and each.words[0] not in ("distill", "python", "cat", "ls")]
    assert not unknown


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for name in re.findall(r"`(docs/[\w./-]+)`|\]\((?!https?:)([\w./-]+)\)", page.read_text(encoding="utf-8")):
            target = "".join(name)
            assert (ROOT / target).exists() or (page.parent / target).exists(), f"{page.name}: {target}"


# Shorter where the page's own would take minutes; nothing else is changed.
SHORTER = {"distill train --": "--steps 40"}


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_of_a_page_run_in_their_order(page, tmp_path, faces, teacher):
    """Typed into one folder as it stands, with `photos`, `unseen`, `teacher`, three photos and a finished demo's teacher in it."""
    here = [each for each in commands(page) if not each.reason]
    if not here:
        pytest.skip("no commands")
    prepare(tmp_path, faces, teacher)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    for command in here:
        added = next((more for start, more in SHORTER.items() if command.text.startswith(start) and "--dry-run" not in command.text), "")
        text = shlex.join(shlex.split(command.text, comments=True)) if added else command.text
        done = subprocess.run(["bash", "-c", f"{text} {added}"], cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def prepare(folder, faces, teacher):
    """What the pages' commands expect to find; those of docs/ go on from the README's."""
    for name, there in {"photos": faces, "unseen": faces, "teacher": teacher, "docs": ROOT / "docs", "demo/teacher": SHIPPED}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).symlink_to(there)
    pictures = sorted(faces.rglob("*.jpg"))
    for name, picture in zip(("one.jpg", "two.jpg", "other.jpg"), (pictures[0], pictures[1], pictures[-1]), strict=True):
        shutil.copy(picture, folder / name)
    (folder / "bin").mkdir()
    for name, words in (("distill", "-m distill"), ("python", "")):
        script = folder / "bin" / name
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {words} "$@"\n')
        script.chmod(0o755)
    for command in ("distill embed photos out --teacher teacher", "distill train --shards out --out runs/student --steps 40"):
        subprocess.run(["bash", "-c", command], cwd=folder, env={**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}, check=True, timeout=600)
