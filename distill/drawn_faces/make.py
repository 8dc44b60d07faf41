"""Makes the teacher that ships with distill anew: draws identities, trains on their labels, judges it on others.

    python -m distill.drawn_faces.make            in place of the one that is here; five minutes on two cores
    python -m distill.drawn_faces.make FOLDER     FOLDER/teacher and FOLDER/teacher.json, to be compared with it

Every step is a command line of distill in a process of its own, in a temporary folder. Training ends elsewhere in the last digits on another
processor, with another number of threads or another TensorFlow, so the fingerprint is another one then; the figures differ by some tenths of a percent.
"""

import argparse
import json
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from distill import __version__, drawn_faces
from distill.demo import FULL, write_run_files
from distill.storage.json_files import read_json, write_json

# The larger check is what the card says first; the smaller one takes seconds, and a test makes it again.
CHECKS = {"judged": (100, 20, 6000), "quick_check": (40, 8, 2000)}  # identities, pictures of each, pairs
RUN, FACES = "demo/runs/teacher", "demo/faces/teacher"  # as in a demo, and as its run file has it
STUDENT = f"{RUN}/student.keras"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=drawn_faces.HOME)
    make(parser.parse_args().folder.absolute())


def make(folder: Path) -> dict[str, Any]:
    """Writes folder/teacher and folder/teacher.json; returns what the latter holds."""
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        _train(work)
        card = _card(work)
        _keep(work / RUN, folder / drawn_faces.TEACHER.name)
    write_json(folder / drawn_faces.CARD.name, card)
    return card


def _train(work: Path) -> None:
    (work / "demo").mkdir()
    write_run_files(work / "demo", FULL)
    text = (work / "demo/teacher.toml").read_text(encoding="utf-8")
    (work / "demo/teacher.toml").write_text(text.replace(work.as_posix() + "/", ""), encoding="utf-8")
    _draw(work, FACES, drawn_faces.IDENTITIES, drawn_faces.IMAGES, drawn_faces.FIRST)
    _distill(work, "train", "demo/teacher.toml", "--out", RUN)


def _card(work: Path) -> dict[str, Any]:
    summary, model = read_json(work / RUN / "summary.json"), json.loads(_distill(work, "inspect", STUDENT, "--json"))
    run = (work / RUN / "run.toml").read_text(encoding="utf-8")
    return {
        "what": "a network that tells drawn faces apart; trained on drawings of distill faces alone, on no photograph of anybody",
        "made_by": f"distill {__version__}, python -m distill.drawn_faces.make",
        "trained_on": {
            "identities": drawn_faces.IDENTITIES,
            "first": drawn_faces.FIRST,
            "last": drawn_faces.FIRST + drawn_faces.IDENTITIES - 1,
            "images_of_each": drawn_faces.IMAGES,
            "size": drawn_faces.SIZE,
            "epochs": summary["epochs"],
            "seconds": summary["seconds"],
        },
        **{name: _judge(work, name, *sizes) for name, sizes in CHECKS.items()},
        "seed": int(run.partition("seed = ")[2].split()[0]),
        "parameters": model["parameters"],
        "embedding": model["dimension"],
        "bytes": model["bytes"],
        "fingerprint": model["fingerprint"],
        "versions": {"python": platform.python_version(), **{name: version(name) for name in ("tensorflow", "keras", "numpy")}},
    }


def _judge(work: Path, name: str, identities: int, images: int, pairs: int) -> dict[str, Any]:
    """Draws identities that it never saw, and returns how many there are, the first of them, and its figures on pairs of them."""
    _draw(work, name, identities, images, drawn_faces.JUDGED_FIRST)
    judged = json.loads(_distill(work, "evaluate", RUN, "--pairs", name, "--number", str(pairs), "--json"))["model"]["pairs"]
    told = {"identities": identities, "first": drawn_faces.JUDGED_FIRST, "images_of_each": images, "pairs": pairs}
    return {**told, "accuracy": judged["accuracy"], "accuracy_std": judged["std"], "tar_at_far_1e-2": judged["tar"]["0.01"]["tar"]}


def _keep(run: Path, teacher: Path) -> None:
    """What a finished run is without its checkpoints; paths in it as seen from the folder that it lies in."""
    write_json(run / "summary.json", {**read_json(run / "summary.json"), "student": "student.keras", "best": "student.keras", "history": "history.csv"})
    teacher.mkdir(parents=True, exist_ok=True)
    for name in ("run.toml", "student.keras", "history.csv", "identities.txt", "summary.json"):
        shutil.copyfile(run / name, teacher / name)


def _draw(work: Path, name: str, identities: int, images: int, first: int) -> None:
    sizes = {"--identities": identities, "--images": images, "--size": drawn_faces.SIZE, "--first": first}
    _distill(work, "faces", name, *(str(word) for pair in sizes.items() for word in pair))


def _distill(work: Path, *words: str) -> str:
    """Runs a command line of distill in `work`, its progress to be seen; returns what it printed."""
    print(f"$ distill {shlex.join(words)}", file=sys.stderr, flush=True)
    return subprocess.run([sys.executable, "-m", "distill.cli", *words], cwd=work, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
