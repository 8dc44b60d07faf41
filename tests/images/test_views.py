"""A view is a pure function: the same bytes whatever process, thread, run or instruction set makes it."""

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill import DistillError
from distill.images.augmentation import RANGES, RECIPES, Change, Recipe, find_recipe
from distill.images.codec import decode, encode_jpeg
from distill.images.views import key_hash, replay, view
from distill.synthetic.faces import draw_face
from tests.conftest import distill

SHEETS = Path(__file__).parents[1] / "golden" / "sheets"


def face(number: int = 0, size: int = 48) -> np.ndarray:
    return draw_face(number, 0, size)


def only(**changes) -> Recipe:
    """A recipe in which one thing always happens, with the value given."""
    return Recipe(**{name: value if name in ("flip", "grey") else Change(1.0, value, value) for name, value in changes.items()})


def seen(image: np.ndarray, recipe: Recipe, number: int = 1) -> np.ndarray:
    return view(image, recipe, 0, "anna/1.jpg", number)


def test_view_0_is_the_picture():
    image = face()
    assert all(view(image, recipe, 0, "a", 0) is image for recipe in RECIPES.values())
    assert view(image, RECIPES["none"], 0, "a", 3) is image


def test_key_hash_by_hand():
    """printf anna/1.jpg | b2sum -l 64"""
    assert key_hash("anna/1.jpg") == 0x5788D960101911A7


def test_flip_is_a_mirror():
    assert np.array_equal(seen(face(), only(flip=1.0)), face()[:, ::-1])


@pytest.mark.parametrize(("name", "value"), [("scale", 1.0), ("rotation", 0.0), ("contrast", 1.0), ("brightness", 0.0), ("shift", 0.0)])
def test_a_change_by_nothing_changes_nothing(name, value):
    assert np.array_equal(seen(face(), only(**{name: value})), face())


def test_a_shift_by_whole_pixels_moves_them_and_mirrors_the_border():
    image = face()
    moved = seen(image, only(shift=6 / 48))
    assert np.array_equal(moved[6:, 6:], image[:-6, :-6])
    assert np.array_equal(moved[:6, 6:], image[6:0:-1, :-6]), "without the edge itself: 6, 5, ... 1"
    back = seen(image, only(shift=-6 / 48))
    assert np.array_equal(back[:-6, :-6], image[6:, 6:]) and np.array_equal(back[-6:, :-6], image[-2:-8:-1, 6:])
    assert np.array_equal(seen(image, Recipe(shift=Change(1, 5 / 48, 5 / 48), scale=Change(1, 1 + 1e-12, 1 + 1e-12))), seen(image, only(shift=5 / 48)))


def test_flipped_and_shifted_is_flipped_first():
    image = face()
    both = seen(image, only(flip=1.0, shift=5 / 48))
    assert np.array_equal(both, seen(np.ascontiguousarray(image[:, ::-1]), only(shift=5 / 48)))


def test_a_quarter_turn_about_the_middle():
    """Exact, because the middle of an even number of pixels lies between two: counterclockwise as np.rot90."""
    image = face()
    assert np.array_equal(seen(image, only(rotation=90.0)), np.rot90(image))


@pytest.mark.parametrize("changes", [{"scale": 1.25}, {"scale": 0.8125}, {"rotation": 11.0}, {"rotation": -20.5, "scale": 1.125, "shift": 0.05}], ids=str)
@pytest.mark.parametrize("shape", [(48, 48), (40, 56)], ids=str)
def test_moving_agrees_with_skimage(changes, shape):
    """Interpolation in 32nds of a pixel is within some levels of exact interpolation."""
    from skimage.transform import AffineTransform, warp

    image = face()[: shape[0], :] if shape[1] <= 48 else np.pad(face(), ((0, 0), (0, 8), (0, 0)))[: shape[0]]
    (height, width), shift, around = shape, changes.get("shift", 0.0), 20
    right, down = round(shift * width), round(shift * height)
    left = image[: height - down, : width - right]  # what a shift leaves; it goes on mirrored
    wide = np.pad(left, ((down + around, around), (right + around, around), (0, 0)), mode="reflect")
    middle = ((width - 1) / 2 + around, (height - 1) / 2 + around)
    there = (
        AffineTransform(translation=(-middle[0], -middle[1]))
        + AffineTransform(scale=changes.get("scale", 1.0), rotation=-np.deg2rad(changes.get("rotation", 0.0)))
        + AffineTransform(translation=middle)
    )
    expected = warp(wide, there.inverse, order=1, preserve_range=True)[around:-around, around:-around]
    off = np.abs(seen(np.ascontiguousarray(image), only(**changes)).astype(float) - expected)
    assert off.mean() < 0.7 and np.quantile(off, 0.99) < 6


def test_colours_by_hand():
    grey = np.full((4, 4, 3), (10, 100, 250), np.uint8)
    assert seen(grey, only(brightness=0.2))[0, 0].tolist() == [61, 151, 255], "51 more, and no more than white"
    assert seen(grey, only(contrast=2.0))[0, 0].tolist() == [0, 73, 255], "twice as far from 127.5: -107.5, 72.5 and the 512th that is always added, 372.5"
    assert seen(grey, only(cast=0.5))[0, 0].tolist() == [5, 50, 125]
    assert seen(grey, only(grey=1.0))[0, 0].tolist() == [90] * 3, "0.299 * 10 + 0.587 * 100 + 0.114 * 250 = 90.2"


def test_erasing_takes_its_part_of_the_area():
    image = np.full((100, 100, 3), 200, np.uint8)
    for number in range(1, 30):
        gone = (seen(image, only(erasing=0.25), number) != 200).all(axis=2)
        rows, columns = np.flatnonzero(gone.any(axis=1)), np.flatnonzero(gone.any(axis=0))
        assert gone.sum() == len(rows) * len(columns), "a rectangle"
        assert abs(gone.mean() - 0.25) < 0.02 and 0.49 < len(rows) / len(columns) < 2.05


def test_jpeg_is_one_written_and_read():
    image = face()
    assert np.array_equal(seen(image, only(jpeg=30.0)), decode(encode_jpeg(image, 30, "420")))


def test_blur_keeps_the_mean_and_takes_the_detail():
    image = face()
    soft = seen(image, only(blur=0.03)).astype(float)
    assert abs(soft.mean() - image.mean()) < 1 and np.abs(np.diff(soft, axis=1)).mean() < 0.8 * np.abs(np.diff(image.astype(float), axis=1)).mean()


def test_each_change_happens_as_often_as_its_chance_says():
    image = face()
    for name in ("flip", "grey"):
        changed = [not np.array_equal(seen(image, Recipe(**{name: 0.25}), number), image) for number in range(1, 401)]
        assert 70 < sum(changed) < 130, name  # 100, and 3.5 deviations of 8.7 on each side
    for name, low, high in (("rotation", 5, 6), ("brightness", 0.2, 0.3), ("contrast", 0.5, 0.6), ("jpeg", 20, 30), ("blur", 0.02, 0.03)):
        changed = [not np.array_equal(seen(image, Recipe(**{name: Change(0.25, low, high)}), number), image) for number in range(1, 401)]
        assert 70 < sum(changed) < 130, name


def test_views_differ_by_number_key_and_seed():
    image, recipe = face(), RECIPES["photo"]
    several = [view(image, recipe, seed, key, number).tobytes() for seed in (0, 1) for key in ("a", "b") for number in (1, 2, 3)]
    assert len(set(several)) == 12


@st.composite
def recipes(draw) -> Recipe:
    def change(name: str) -> Change:
        least, most, _ = RANGES[name]
        low, high = sorted((draw(st.floats(least, most)), draw(st.floats(least, most))))
        return Change(draw(st.floats(0, 1)), low, high)

    return Recipe(flip=draw(st.floats(0, 1)), grey=draw(st.floats(0, 1)), **{name: change(name) for name in RANGES})


@settings(max_examples=150, deadline=None)
@given(
    recipe=recipes(), seed=st.integers(0, 2**63 - 1), key=st.text(max_size=20), number=st.integers(1, 2**40), size=st.integers(1, 70), tall=st.integers(1, 70)
)
def test_any_recipe_gives_a_picture_and_the_same_one_again(recipe, seed, key, number, size, tall):
    image = np.random.default_rng(0).integers(0, 256, (tall, size, 3), np.uint8)
    before = image.copy()
    made = view(image, recipe, seed, key, number)
    assert made.dtype == np.uint8 and made.shape == image.shape and np.array_equal(image, before)
    assert np.array_equal(view(image, recipe, seed, key, number), made)


def test_replay_in_many_threads_is_each_view_alone():
    images = np.stack([face(number) for number in range(40)])
    keys, numbers = [f"{row}.jpg" for row in range(40)], [row % 4 for row in range(40)]
    alone = np.stack([view(images[row], RECIPES["photo"], 5, keys[row], numbers[row]) for row in range(40)])
    with ThreadPoolExecutor(8) as pool:
        for made in pool.map(lambda _: replay(images, RECIPES["photo"], 5, keys, numbers), range(16)):
            assert np.array_equal(made, alone)
    assert np.array_equal(replay(list(images), RECIPES["photo"], 5, keys, numbers), alone)
    assert replay(images, RECIPES["photo"], 5, keys, 0) is images


def many() -> str:
    """A digest of 300 views."""
    digest = hashlib.sha256()
    for size in (48, 112):
        pictures = [face(number, size) for number in range(5)]
        for number in range(150):
            digest.update(view(pictures[number % 5], RECIPES["photo"], 3, f"{number}.jpg", number).tobytes())
    return digest.hexdigest()


# What OpenCV may be kept from using: IPP, and every instruction set above the first it needs.
PROCESSORS = [
    {},
    {"OPENCV_IPP": "disabled"},
    {"OPENCV_CPU_DISABLE": "AVX512_SKX,AVX2"},
    {"OPENCV_IPP": "disabled", "OPENCV_CPU_DISABLE": "AVX512_SKX,AVX2,FP16,AVX,SSE4_2,SSE4_1"},
]


def test_the_same_bytes_on_other_processors_and_in_other_processes():
    found = {}
    for switches in PROCESSORS:
        environment = {**os.environ, **switches}
        command = [sys.executable, "-c", "from tests.images.test_views import many; print(many())"]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, cwd=SHEETS.parents[2])
        assert done.returncode == 0, done.stderr
        found[str(switches)] = done.stdout.strip()
    assert len(set(found.values())) == 1, found
    assert many() in found.values()


@pytest.mark.parametrize("name", ["face", "photo"])
def test_golden_sheet(name, tmp_path):
    """The views that sets of version 2 were made of. They come from PNG files, so that only views are held here."""
    pictures = [f"{number}.png" for number in range(3)]
    done = distill("views", *pictures, "--recipe", name, "--out", tmp_path / "sheet.png", "--size", "48x48", "--seed", 7, cwd=SHEETS, env=here())
    assert done.returncode == 0, done.stderr
    assert np.array_equal(decode((tmp_path / "sheet.png").read_bytes()), decode((SHEETS / f"{name}.png").read_bytes()))


def here() -> dict[str, str]:
    root = str(Path(__file__).parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])}


def test_a_recipe_of_ones_own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("flip = 0.5\nshift = { chance = 0.5, low = -0.1, high = 0.1 }\n")
    assert find_recipe(str(path)) == Recipe(flip=0.5, shift=Change(0.5, -0.1, 0.1)) and find_recipe(str(path)).name == "own"
    assert find_recipe("face") is RECIPES["face"] and RECIPES["face"].name == "face"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("flop = 0.5", "flop"),
        ("flip = 2", "flip 2"),
        ("shift = { chance = 0.5, low = 0.1, high = -0.1 }", "shift: 0.1 to -0.1, expected low <= high within -0.5 to 0.5"),
        ("jpeg = { chance = 0.5, low = 0, high = 50 }", "jpeg: 0.0 to 50.0"),
        ("scale = { chance = 1.5, low = 1, high = 1 }", "scale: chance 1.5"),
        ("flip = nan", "flip"),
        ("flip = ", "Invalid value"),
        ("flip = " + "[" * 3000, "nested too deeply"),
    ],
)
def test_a_wrong_recipe_is_one_message(text, message, tmp_path):
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(DistillError, match=message) as raised:
        find_recipe(str(tmp_path / "mine.toml"))
    assert "Expected one of none, face, photo" in str(raised.value) and "\n" not in str(raised.value)


def test_an_unknown_recipe_lists_those_there_are():
    with pytest.raises(DistillError, match="recipe 'faces' is unknown. Expected one of none, face, photo, or a TOML file"):
        find_recipe("faces")


@pytest.mark.parametrize("side", [1, 2, 70, 300, 1024])
def test_a_picture_of_one_colour_stays_one_however_it_is_moved(side):
    """Whatever lies outside a picture, or comes from a place that was worked out wrongly, would be of another colour."""
    image = np.full((side, max(1, side // 2), 3), 200, np.uint8)
    for scale, angle, shift in ((0.5, 45, 0.5), (0.5, -45, -0.5), (0.6, 90, 0.5), (2.0, 180, 0.2), (0.8, 15, 0.15)):
        assert (seen(image, only(scale=scale, rotation=angle, shift=shift)) == 200).all(), (scale, angle, shift)


def test_colours_are_worked_out_exactly():
    """Every byte, as whole numbers say: 512 times the value, to the nearest 512."""
    levels = np.arange(256).repeat(3).reshape(16, 16, 3).astype(np.uint8)
    for contrast, brightness in ((0.7, -0.15), (1.3, 0.1), (4.0, -1.0), (0.0, 0.5), (2.5, 0.0)):
        factor, offset = round(256 * contrast), 2 * round(256 * (127.5 * (1 - contrast) + 255 * brightness)) + 1
        expected = np.clip((levels.astype(int) * 2 * factor + offset + 256) // 512, 0, 255)
        assert np.array_equal(seen(levels, only(contrast=contrast, brightness=brightness)), expected)


def test_a_picture_too_large_to_move_is_told():
    with pytest.raises(DistillError, match="up to 1024x1024, received 10x1025"):
        seen(np.zeros((10, 1025, 3), np.uint8), only(rotation=3.0))


def test_a_recipe_is_one_text_however_its_numbers_were_written():
    """It stands in every shard: one read back from JSON must give the bytes of the one in the code."""
    import json

    from pydantic import TypeAdapter

    for recipe in (*RECIPES.values(), Recipe(flip=1, jpeg=Change(1, 40, 90))):
        text = json.dumps(recipe.as_dict())
        assert json.dumps(TypeAdapter(Recipe).validate_json(text).as_dict()) == text
