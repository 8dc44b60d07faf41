"""Drawn faces: pure functions of their arguments, alike within one identity and different between two."""

import os

import numpy as np
import pytest

from distill import DistillError
from distill.images.codec import decode
from distill.storage.files import temporary_for
from distill.synthetic.faces import CIRCUMSTANCES, IDENTITY, contact_sheet, describe, draw_face
from distill.synthetic.folder import RECIPE, draw_folder


def test_same_arguments_same_bytes():
    first = draw_face(3, 5, size=48, seed=7)
    draw_face(4, 5, size=48, seed=7)  # what is drawn between changes nothing: no state
    assert np.array_equal(first, draw_face(3, 5, size=48, seed=7))


@pytest.mark.parametrize("other", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_another_argument_gives_another_image(other):
    # The zeros are there on purpose: numpy takes [0, 0] and [0, 0, 0] for one seed.
    difference = np.abs(draw_face(0, 0, 48, 0).astype(int) - draw_face(other[0], other[1], 48, other[2]).astype(int))
    assert difference.mean() > 5


@pytest.mark.parametrize("size", [8, 48, 97, 112])
def test_shape_dtype_and_range(size):
    face = draw_face(1, 2, size)
    assert face.shape == (size, size, 3)
    assert face.dtype == np.uint8
    assert face.flags["C_CONTIGUOUS"]
    assert face.max() > 100
    assert face.min() < 80


@pytest.mark.parametrize("arguments", [(-1, 0, 48, 0), (0, -1, 48, 0), (0, 0, 7, 0), (0, 0, 48, -1)])
def test_wrong_arguments_are_named(arguments):
    with pytest.raises(DistillError, match="received size"):
        draw_face(*arguments)


def test_a_person_has_thirty_numbers_inside_their_limits():
    assert len(IDENTITY) >= 30
    assert len(CIRCUMSTANCES) >= 15
    people = [describe(identity) for identity in range(200)]
    for name, (low, high) in IDENTITY.items():
        values = [getattr(person, name) for person in people]
        assert low <= min(values) < max(values) <= high
        # 200 uniform draws: the mean lies within 5 standard errors (5 * 0.289 / sqrt(200) = 0.10 of the span) of the middle.
        assert abs(np.mean(values) - (low + high) / 2) < 0.11 * (high - low)


def test_pictures_of_one_person_are_nearer_than_those_of_two():
    """Mean absolute pixel difference of pictures a and b of 40 people: the same person's against the next person's."""
    people = 40
    a, b = (np.stack([draw_face(person, number, 24) for person in range(people)]).astype(float) for number in (0, 1))
    within = np.abs(a - b).mean()
    between = np.abs(a - np.roll(b, 1, axis=0)).mean()
    assert within < between
    # And not by much: background, light and pose move the pixels more than the person does, so it takes learning to tell them apart.
    assert between < 1.5 * within


def test_mean_colour_does_not_give_the_person_away():
    """Nearest mean colour finds the right person among 40 in less than one case in four."""
    colours = np.stack([[draw_face(person, number, 24).mean((0, 1)) for number in (0, 1)] for person in range(40)])
    distances = np.linalg.norm(colours[:, None, 0] - colours[None, :, 1], axis=-1)
    assert (distances.argmin(1) == np.arange(40)).mean() < 0.25


def test_size_changes_the_scale_and_not_the_person():
    """A picture drawn at 96 and averaged to 48 is near the one drawn at 48, and far from the next person's."""
    near, far = [], []
    for person in range(10):
        large = draw_face(person, 0, 96).reshape(48, 2, 48, 2, 3).mean((1, 3))
        near.append(np.abs(large - draw_face(person, 0, 48)).mean())
        far.append(np.abs(large - draw_face(person + 1, 0, 48)).mean())
    assert np.mean(near) < 0.3 * np.mean(far)


def test_folder_layout_content_and_second_run(tmp_path):
    seen = []
    written = draw_folder(tmp_path, identities=3, images=2, size=48, seed=1, first=9, progress=lambda done, of: seen.append((done, of)))
    assert written == 6
    assert seen == [(1, 3), (2, 3), (3, 3)]
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert files == [RECIPE] + [f"id{person:04d}/{number:03d}.jpg" for person in (9, 10, 11) for number in (0, 1)]
    pixels = decode((tmp_path / "id0010/001.jpg").read_bytes())
    assert pixels.shape == (48, 48, 3)
    assert np.abs(pixels.astype(int) - draw_face(10, 1, 48, 1).astype(int)).mean() < 8  # JPEG, quality 95
    before = {name: (tmp_path / name).read_bytes() for name in files}
    assert draw_folder(tmp_path, identities=3, images=2, size=48, seed=1, first=9) == 6
    assert {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_killed_drawing_is_finished(tmp_path):
    asked = {"identities": 2, "images": 2, "size": 16}
    draw_folder(tmp_path, **asked)
    whole = {path: path.read_bytes() for path in tmp_path.rglob("*.jpg")}
    (tmp_path / "id0001/000.jpg").unlink()
    (tmp_path / "id0001/001.jpg").write_bytes(b"")  # what a power cut leaves of a file that was not synced
    left = temporary_for(tmp_path / "id0001/000.jpg")
    left.with_name(left.name.replace(f".{os.getpid()}.", f".{os.getpid()}.1", 1)).write_bytes(b"half")  # of a process that is gone
    draw_folder(tmp_path, **asked)
    assert {path: path.read_bytes() for path in tmp_path.rglob("id*/*")} == whole


@pytest.mark.parametrize("name, value", [("identities", 1), ("images", 3), ("size", 17), ("seed", 1), ("first", 5)])
def test_two_drawings_are_not_mixed(tmp_path, name, value):
    asked = {"identities": 2, "images": 2, "size": 16, "seed": 0, "first": 0}
    draw_folder(tmp_path, **asked)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DistillError, match=f"holds a drawing of .*{name} {asked[name]}.*; asked for: a drawing of .*{name} {value}.*another folder"):
        draw_folder(tmp_path, **{**asked, name: value})
    assert sorted(tmp_path.rglob("*")) == before


def test_nothing_is_drawn_between_photos_and_a_refused_wish_leaves_nothing(tmp_path):
    with pytest.raises(DistillError, match="received size 7"):
        draw_folder(tmp_path / "new", identities=1, images=1, size=7)
    assert not (tmp_path / "new").exists()
    (tmp_path / "alice").mkdir()
    with pytest.raises(DistillError, match=r"no part of drawn identities \(alice\)"):
        draw_folder(tmp_path, identities=1, images=1, size=16)
    assert [path.name for path in tmp_path.iterdir()] == ["alice"]


def test_an_empty_folder_cannot_be_asked_for(tmp_path):
    with pytest.raises(DistillError, match="at least one identity"):
        draw_folder(tmp_path, identities=0)


def test_contact_sheet_has_a_row_for_each_person():
    sheet = contact_sheet(identities=3, images=5, size=32, seed=2, first=4)
    assert sheet.shape == (96, 160, 3)
    assert sheet.dtype == np.uint8
    assert np.array_equal(sheet[32:64, 64:96], draw_face(5, 2, 32, 2))
