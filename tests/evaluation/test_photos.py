"""Photos side by side: how they are read, their cosines, and the thresholds that an evaluation found."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill.errors import DistillError
from distill.evaluation.embed import spec_for
from distill.evaluation.photos import cosines, read_photos
from distill.evaluation.thresholds import read_thresholds
from distill.images.spec import ImageSpec

SIZE = 8
SPEC = ImageSpec(SIZE, SIZE)
RED, DARK_RED, BLUE, GREY = (228, 128, 128), (178, 128, 128), (128, 128, 228), (128, 128, 128)


class MeanColour:
    """The mean of each colour, less 128."""

    height: int | None = SIZE
    width: int | None = SIZE
    dimension: int = 3

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return (images.mean(axis=(1, 2)) - 128).astype(np.float32)


def photo(path: Path, colour: tuple[int, int, int], height: int = SIZE, width: int = SIZE, **saving: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), colour, np.uint8)).save(path, **saving)
    return path


def rotated(path: Path) -> Path:
    """A photo whose EXIF data say that it lies on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return photo(path, RED, exif=exif, quality=95)


def test_cosines_of_photos(tmp_path: Path) -> None:
    """Red and dark red are one direction, blue is at a right angle; of grey nothing is left, so it is like nothing."""
    paths = [photo(tmp_path / f"{number}.png", colour) for number, colour in enumerate((RED, DARK_RED, BLUE, GREY))]
    matrix = cosines(MeanColour(), read_photos([*paths, paths[0]], SPEC))
    expected = np.array([[1, 1, 0, 0, 1], [1, 1, 0, 0, 1], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0], [1, 1, 0, 0, 1]])
    np.testing.assert_allclose(matrix, expected, atol=1e-6)
    assert matrix.dtype == np.float64


def test_more_photos_than_a_batch(tmp_path: Path) -> None:
    paths = [photo(tmp_path / f"{number}.png", (128 + number, 128, 227 - number)) for number in range(70)]
    found = cosines(MeanColour(), read_photos(paths, SPEC))
    vectors = np.array([(number, 0, 99 - number) for number in range(70)], float)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(found, unit @ unit.T, atol=1e-6)


def test_photos_of_any_size(tmp_path: Path) -> None:
    """The middle of a picture that is twice as wide is what a crop leaves; stretched it is all of it."""
    right, wide = photo(tmp_path / "right.png", RED), tmp_path / "wide.png"
    pixels = np.zeros((2 * SIZE, 4 * SIZE, 3), np.uint8)
    pixels[:, SIZE : 3 * SIZE] = RED
    Image.fromarray(pixels).save(wide)
    cropped = read_photos([right, wide], ImageSpec(SIZE, SIZE, "crop"))
    assert cropped.resized == (str(wide),) and cropped.names == (str(right), str(wide)) and cropped.turned == ()
    np.testing.assert_array_equal(cropped.pixels[1], cropped.pixels[0])
    assert read_photos([right, wide], ImageSpec(SIZE, SIZE, "stretch")).pixels[1, :, 0].max() < 128
    with pytest.raises(DistillError, match=r"^[^ ]*wide\.png: the image is 16x32 \(height x width\), expected 8x8; --resize stretch or crop changes sizes\."):
        read_photos([right, wide], SPEC)


def test_a_photo_on_its_side_is_named(tmp_path: Path) -> None:
    paths = [rotated(tmp_path / "a.jpg"), photo(tmp_path / "b.png", RED)]
    assert read_photos(paths, SPEC).turned == (str(paths[0]),)
    assert read_photos(paths, ImageSpec(SIZE, SIZE, exif="apply")).turned == ()


def test_photos_that_are_none(tmp_path: Path) -> None:
    one = photo(tmp_path / "id0" / "1.png", RED)
    for few, answer in ((0, "0 images"), (1, "1 image")):
        with pytest.raises(DistillError, match=f"compare: {answer} given. Expected two or more"):
            read_photos([one, one][:few], SPEC)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    for path, answer in (
        ("id0/11.png", r"id0/11\.png: no such file\. Did you mean .*/id0/1\.png\?$"),
        ("nope/x", r"nope/x: no such file\.$"),
        ("id0", "id0 is a folder. compare takes photos"),
        ("broken.png", r"^[^ ]*/broken\.png: .*\. Leave out what cannot be read\.$"),
    ):
        with pytest.raises(DistillError, match=answer) as caught:
            read_photos([tmp_path / path, one], SPEC)
        assert "\n" not in str(caught.value)
    many = [tmp_path / f"{number}.png" for number in range(5)]
    for path in many:
        path.write_bytes(b"no picture")
    with pytest.raises(DistillError, match="and 2 more. Leave out what cannot be read"):
        read_photos(many, SPEC)


def test_an_embedding_that_is_not_finite_is_named(tmp_path: Path) -> None:
    paths = [photo(tmp_path / "a.png", RED), photo(tmp_path / "b.png", BLUE)]

    class Faulty(MeanColour):
        def __call__(self, images: np.ndarray) -> np.ndarray:
            found = super().__call__(images)
            found[images[:, 0, 0, 2] > 200] = np.nan
            return found

    with pytest.raises(DistillError) as caught:
        cosines(Faulty(), read_photos(paths, SPEC))
    assert str(caught.value) == f"the model's embedding of {paths[1]} is not finite."


def test_a_model_of_any_size_is_told_one() -> None:
    free = MeanColour()
    free.height = free.width = None
    with pytest.raises(DistillError, match="the model takes images of any size: say which one they have"):
        spec_for(free, "crop")
    assert spec_for(free, "crop", (4, 6)) == ImageSpec(4, 6, "crop", "ignore")


# --------------------------------------------------------------------------------------------------------------------------- thresholds


def rate(far: float, threshold: float | None, **more: object) -> dict:
    return {"far": far, "tar": 0.9, "threshold": threshold, **more}


PAIRS = {
    "impostors": 3000,
    "tar": {"0.01": rate(0.01, 0.4)},
    "tars": {
        "conservative": {
            "0.1": rate(0.1, 0.25),
            "0.01": rate(0.01, 0.4),
            "0.001": rate(0.001, None, left_out="10,000 impostor pairs are needed, there are 3,000"),
        },
        "nearest": {"0.01": rate(0.01, 0.39)},
    },
}


def evaluated(folder: Path, **models: dict) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "evaluation.json"
    path.write_text(json.dumps(models))
    return path


@pytest.mark.parametrize("given", ["run", "run/evaluation", "run/evaluation/evaluation.json"])
def test_the_threshold_of_a_rate(tmp_path: Path, given: str) -> None:
    path = evaluated(
        tmp_path / "run" / "evaluation", model={"path": "runs/a", "pairs": PAIRS}, teacher={"path": "t", "pairs": {"tar": {"0.01": rate(0.01, 0.3)}}}
    )
    found = read_thresholds(tmp_path / given)
    assert found.at(0.01, "somewhere/else", "model").value == 0.4
    assert found.at(0.1, "runs/a", "model").value == 0.25
    assert found.at(0.01, "t", "model").value == 0.3  # of that path, whatever it is called there
    assert found.at(0.01, "runs/a", "model").source == f"a FAR of 0.01 (3,000 impostor pairs) of runs/a in {path}"
    assert found.has("elsewhere", "teacher") and found.has("t", "x") and not found.has("elsewhere", "x")
    for far, said in (
        (0.02, "has no threshold at a FAR of 0.02. Choose with --far from: 0.1, 0.01, 0.001."),
        (0.001, "has no threshold at a FAR of 0.001: 10,000 impostor pairs are needed, there are 3,000. Choose with --far from: 0.1, 0.01."),
    ):
        with pytest.raises(DistillError) as caught:
            found.at(far, "runs/a", "model")
        assert str(caught.value) == f"{path} {said}"


def test_of_several_models_the_one_of_that_path(tmp_path: Path) -> None:
    several = {name: {"path": f"runs/{name}", "pairs": {"impostors": 9, "tar": {"0.01": rate(0.01, cut)}}} for name, cut in (("a", 0.2), ("b", 0.3))}
    path = evaluated(tmp_path, **several)
    assert read_thresholds(path).at(0.01, "runs/b", "model").value == 0.3
    assert read_thresholds(path).at(0.01, "runs/../runs/b", "model").value == 0.3
    with pytest.raises(DistillError, match=r"does not say which of its models runs/c is. It has: runs/a, runs/b\.$"):
        read_thresholds(path).at(0.01, "runs/c", "model")


def test_what_is_no_evaluation(tmp_path: Path) -> None:
    with pytest.raises(DistillError, match="no evaluation.json there. distill evaluate MODEL --pairs FOLDER --out FOLDER writes one"):
        read_thresholds(tmp_path)
    for text, said in (
        ("{}", "has no figures of a model"),
        ("[1]", "is no evaluation of distill"),
        ("{", "is no evaluation of distill"),
        ('{"a": 1}', "is no evaluation"),
    ):
        (tmp_path / "evaluation.json").write_text(text)
        with pytest.raises(DistillError, match=said):
            read_thresholds(tmp_path)
    with pytest.raises(DistillError, match="model was not evaluated on pairs, so it has no thresholds"):
        read_thresholds(evaluated(tmp_path, model={"agreement": {}})).at(0.01, "x", "model")
    for odd in (
        {"tar": 3},
        {"tar": {"0.01": 4}},
        {"tars": {"conservative": []}},
        {"tar": {"0.01": {"threshold": "x"}}},
        {"tar": {"0.01": {"threshold": True}}},
    ):
        with pytest.raises(DistillError, match="has no threshold at a FAR of 0.01"):
            read_thresholds(evaluated(tmp_path, model={"pairs": odd})).at(0.01, "x", "model")


def test_pictures_are_read_as_bytes_of_any_kind(tmp_path: Path) -> None:
    """A name says nothing: a PNG called .jpg is a PNG."""
    data = io.BytesIO()
    Image.fromarray(np.full((SIZE, SIZE, 3), RED, np.uint8)).save(data, "PNG")
    (tmp_path / "a.jpg").write_bytes(data.getvalue())
    np.testing.assert_array_equal(read_photos([tmp_path / "a.jpg"] * 2, SPEC).pixels[0], np.full((SIZE, SIZE, 3), RED))
