"""`distill compare`: the matrix in words, in colours, as JSON and as a picture; another model beside it; verdicts."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import distill
from distill import DistillError
from distill.results import CompareResult
from distill.results.comparison import Beside
from tests.conftest import inside, messages

SIZE = 32
COLOURS = {"red": (228, 128, 128), "dark": (178, 128, 128), "blue": (128, 128, 228), "violet": (228, 128, 228)}
LESS = "--offset=-128"  # the teacher `quick` answers the mean colour; less 128 its cosines are of any size


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("photos")
    for name, colour in COLOURS.items():
        Image.fromarray(np.full((SIZE, SIZE, 3), colour, np.uint8)).save(folder / f"{name}.png")
    Image.fromarray(np.full((40, 80, 3), COLOURS["red"], np.uint8)).save(folder / "wide.png")
    return {path.stem: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def evaluation(quick: Path, photos: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real evaluation.json of `quick`, of which a FAR of 0.1 has a threshold and one of 0.01 too few pairs."""
    faces, out = tmp_path_factory.mktemp("faces"), tmp_path_factory.mktemp("out")
    for person in range(12):
        for number in range(8):
            (faces / f"p{person}").mkdir(exist_ok=True)
            colour = np.clip(np.random.default_rng(person).integers(60, 190, 3) + 4 * number, 0, 255)
            Image.fromarray(np.full((SIZE, SIZE, 3), colour, np.uint8)).save(faces / f"p{person}" / f"{number}.png")
    done = inside("evaluate", quick, "--pairs", faces, "--number", 400, "--resamples", 0, "--out", out, LESS)
    assert done.returncode == 0, done.stderr
    return out


def test_it_prints_the_matrix(quick: Path, photos: dict[str, Path]) -> None:
    names = [photos[name] for name in ("red", "dark", "blue", "violet")]
    done = inside("compare", quick, *names, LESS, "--threshold", 0.6)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == ["1", "2", "3", "4"]
    assert lines[1][2:] == ["1.000", "1.000*", "0.000", "0.707*"] and lines[3][2:] == ["0.000", "0.000", "1.000", "0.707*"]
    assert "1 and 2: same (1.000)" in done.stdout and "1 and 3: different (0.000)" in done.stdout
    assert done.stdout.endswith("4 of 6 pairs reach the threshold of 0.6 (*): taken for the same person\n")
    assert not messages(done)
    told = json.loads(inside("compare", quick, *names, LESS, "--json").stdout)
    assert set(told) == {"images", "cosines"} and told["cosines"][0][3] == pytest.approx(0.707107)


def test_photos_of_another_size_are_cropped_and_said(quick: Path, photos: dict[str, Path]) -> None:
    done = inside("compare", quick, photos["red"], photos["wide"], LESS)
    assert done.returncode == 0 and "1.000" in done.stdout.splitlines()[1].split()[-1]
    (said,) = messages(done)
    assert said.startswith(
        f"1 of 2 photos have another size than the model takes and were cropped in the middle and scaled, {photos['wide']} for one; --resize"
    )
    assert json.loads(inside("compare", quick, photos["red"], photos["wide"], LESS, "--json").stdout)["resized"] == [str(photos["wide"])]
    refused = inside("compare", quick, photos["red"], photos["wide"], "--resize", "none")
    assert refused.returncode == 2 and "the image is 40x80 (height x width), expected 32x32; --resize stretch or crop changes sizes" in refused.stderr


def test_a_teacher_beside_it(quick: Path, photos: dict[str, Path], tmp_path: Path) -> None:
    """The options of preprocessing are the teacher's then: the student sees pixels as they are, so that all its cosines are near 1."""
    names = [photos[name] for name in ("red", "dark", "blue")]
    done = inside("compare", quick, *names, "--teacher", quick, LESS, "--plot", tmp_path / "both.png")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == str(quick) and lines[6] == f"{quick} (teacher)" and len(lines) == 15
    assert float(lines[2].split()[-1]) > 0.8 and lines[8].split()[-1] == "0.000"
    assert re.fullmatch(r"the models' cosines differ by 0\.\d{3} on average, most by 0\.\d{3} \([12] and 3\)", lines[12])
    assert Image.open(tmp_path / "both.png").size[0] > 1.5 * Image.open(tmp_path / "both.png").size[1]
    told = distill.compare(quick, names, teacher=quick, offset=-128)
    assert told.as_dict()["teacher"]["cosines"][0] == pytest.approx([1, 1, 0], abs=1e-5) and told.as_dict()["teacher"]["path"] == str(quick)
    assert told._repr_html_().count("<table") == 2


def test_the_threshold_of_an_evaluation(quick: Path, photos: dict[str, Path], evaluation: Path) -> None:
    names = [photos[name] for name in ("red", "dark", "blue")]
    cut = json.loads((evaluation / "evaluation.json").read_text())["model"]["pairs"]["tars"]["conservative"]["0.1"]["threshold"]
    done = inside("compare", quick, *names, LESS, "--evaluation", evaluation, "--far", 0.1)
    assert done.returncode == 0, done.stderr
    assert f"pairs reach the threshold of {cut:.4g} (*)" in done.stdout
    assert f"the threshold is that of a FAR of 0.1 (200 impostor pairs) of {quick} in {evaluation / 'evaluation.json'}" in done.stdout
    found = distill.compare(quick, names, evaluation=evaluation, far=0.1, offset=-128)
    assert found.threshold == cut and found.verdicts[0].same and not found.verdicts[1].same
    both = inside("compare", quick, *names, "--teacher", quick, LESS, "--evaluation", evaluation, "--far", 0.1).stdout
    assert "1 and 3: same (0.8" in both and "; teacher: different (0.000)  <- they differ" in both
    assert re.search(r"teacher: [0-3] of 3 pairs reach its threshold of -?[0-9.e-]+ \(\*\)\n", both), both
    few = inside("compare", quick, *names, LESS, "--evaluation", evaluation)
    assert (
        few.returncode == 2 and "has no threshold at a FAR of 0.01: 1,000 impostor pairs are needed, there are 200. Choose with --far from: 0.1." in few.stderr
    )


def test_a_picture_of_the_matrix(quick: Path, photos: dict[str, Path], tmp_path: Path) -> None:
    names, plot = [photos[name] for name in ("red", "blue", "wide")], tmp_path / "plot.png"
    done = inside("compare", quick, *names, LESS, "--threshold", 0.6, "--plot", plot)
    assert done.returncode == 0, done.stderr
    assert f"{plot} shows the photos and the matrix" in done.stdout
    pixels = np.asarray(Image.open(plot))
    seen = {tuple(colour) for colour in pixels.reshape(-1, 3)[::7].tolist()}
    assert {COLOURS["red"], COLOURS["blue"], (255, 255, 255)} <= seen  # thumbnails on white
    assert (8, 48, 107) in seen and (247, 251, 255) in seen  # the darkest and the palest blue: cosines 1 and 0
    assert (213, 94, 0) in seen  # a frame around the two photos of one person
    assert inside("compare", quick, *names, LESS, "--plot", plot).returncode == 0  # its own picture is replaced
    assert "kind: matrix of photos" in inside("inspect", plot).stdout
    theirs = tmp_path / "theirs.png"
    theirs.write_bytes(photos["red"].read_bytes())
    for path, said in (
        (theirs, "is there already and does not say that distill drew it; it is left alone. Use another name as --plot."),
        (tmp_path / "plot.jpg", "expected the name of a PNG file"),
        (tmp_path / "nowhere" / "plot.png", "no such folder, so plot.png cannot be written in it"),
        (tmp_path, "expected the name of a PNG file"),
    ):
        refused = inside("compare", quick, *names, "--plot", path)
        assert refused.returncode == 2 and said in refused.stderr and len(messages(refused)) == 1
    assert theirs.read_bytes() == photos["red"].read_bytes()
    assert "--plot draws up to 60 photos, 61 are given" in inside("compare", quick, *([photos["red"]] * 61), "--plot", tmp_path / "many.png").stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("--threshold", 0.4, "--evaluation", "x"),
            "--threshold 0.4 and --evaluation x both say from which cosine on two photos are the same. Give one of them.",
        ),
        (("--far", 0.01), "--far 0.01 chooses among the thresholds of an evaluation. Give it too"),
        (("--far", 1.5, "--evaluation", "x"), "--far 1.5: expected a false accept rate between 0 and 1"),
        (("--evaluation", "nowhere"), "--evaluation nowhere: no evaluation.json there."),
        (("--teacher", "nowhere"), "No model at nowhere"),
        (("--size", "12"), "HEIGHTxWIDTH"),
    ],
)
def test_what_cannot_be(quick: Path, photos: dict[str, Path], words: tuple, said: str) -> None:
    done = inside("compare", quick, photos["red"], photos["blue"], *words)
    assert done.returncode == 2 and said in done.stderr and len(messages(done)) == 1


def test_the_next_command_takes_the_evaluation_of_the_run(quick: Path, photos: dict[str, Path], evaluation: Path) -> None:
    done = inside("compare", quick, photos["red"], photos["blue"])
    assert done.stdout.splitlines()[-1] == f"next: distill evaluate {quick} --pairs FOLDER  # finds a threshold for --threshold"


def test_colours_are_of_cells_and_change_no_width() -> None:
    cosines = np.array([[1, 0.7, -0.2], [0.7, 1, 0.3], [-0.2, 0.3, 1]])
    found = CompareResult(("a", "b", "c"), cosines, 0.5, model="m", teacher=Beside("t", cosines, None))
    plain, coloured = found.in_words(), found.in_words(colours=True)
    without = re.sub(r"\033\[[\d;]*m", "", coloured)
    assert [line.rstrip() for line in without.splitlines()] == plain.splitlines() != coloured.splitlines()
    rows = coloured.splitlines()
    assert "\033[1;38;5;231;48;5;25m0.700*\033[0m" in rows[2]  # dark blue; bold, because it reaches the threshold
    assert "\033[38;5;16;48;5;153m" in rows[3] and "  -0.200" in rows[2]  # below 0 there is no colour
    assert "\033[38;5;231;48;5;25m 0.700\033[0m" in rows[8] or "\033[38;5;231;48;5;25m0.700\033[0m" in rows[8]


def test_the_api_says_what_is_wrong(quick: Path, photos: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(DistillError, match="expected a path"):
        distill.compare(quick, [photos["red"], photos["blue"]], plot=3)  # type: ignore[arg-type]
    with pytest.raises(DistillError, match="from -1 to 1"):
        distill.compare(quick, [photos["red"], photos["blue"]], threshold=7)
    free = distill.compare(quick, [photos["red"], photos["blue"]], plot=tmp_path / "a.png", offset=-128)
    assert free.plot == str(tmp_path / "a.png") and free.as_dict()["plot"] == free.plot and free.source == ""
