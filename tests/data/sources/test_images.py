"""Images straight from files: those that cannot be used are left out, counted and named."""

import re

import numpy as np
import pytest

from distill import DistillError, Unfinished
from distill.data.sources import ImageSource
from distill.images.augmentation import RECIPES
from distill.images.codec import encode_jpeg
from tests.builders import SIZE, picture, same_batches


def test_a_broken_image_is_left_out_counted_and_named(tmp_path, folder, caplog):
    for number in range(6):
        (tmp_path / "a").mkdir(exist_ok=True)
        (tmp_path / "a" / f"{number}.jpg").write_bytes(encode_jpeg(picture(number)))
    (tmp_path / "a" / "bad.jpg").write_bytes(b"no image")
    source = ImageSource(tmp_path, size=(SIZE, SIZE), batch=4, seed=0)
    for epoch in range(2):
        assert sum(len(images) for images, _ in source.epoch(epoch)) == 6
    assert source.left_out == {"text": 1} and len([record for record in caplog.records if "bad.jpg" in record.getMessage()]) == 1


def mixed(root, good, bad, size=SIZE * 2):
    """Pictures of the right size, and every other one of another size as long as there are any."""
    for number in range(good + bad):
        path = root / f"p{number % 3}" / f"{number:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_jpeg(picture(number) if number % 2 == 0 or number > 2 * bad else np.zeros((size, size, 3), np.uint8)))
    return root


@pytest.mark.parametrize(
    ("good", "bad", "max_rejects", "words"),
    [
        (
            0,
            9,
            1.0,
            "none of 9 images from all over the list can be used: 9 size; 'p0/000.jpg' for one: the image is 16x16 (height x width), expected 8x8. "
            'Set resize = "stretch" or "crop" in [data], or another size.',
        ),
        (10, 10, 0.01, "10 images cannot be used so far, more than max_rejects = 0.01 of 20: 10 size; 'p"),
        (10, 10, 0.49, "10 images cannot be used so far, more than max_rejects = 0.49 of 20: 10 size; 'p"),
        (10, 10, 0.5, None),
        (100, 1, 0.01, None),
        (99, 0, 0.0, None),
    ],
)
def test_too_many_images_of_another_size_are_said_before_the_first_step(tmp_path, good, bad, max_rejects, words, caplog):
    if not good:
        for number in range(bad):
            (tmp_path / f"p{number % 3}").mkdir(exist_ok=True)
            (tmp_path / f"p{number % 3}" / f"{number:03d}.jpg").write_bytes(encode_jpeg(np.zeros((16, 16, 3), np.uint8)))
    else:
        mixed(tmp_path, good, bad)
    source = ImageSource(tmp_path, size=(SIZE, SIZE), batch=8, seed=0, max_rejects=max_rejects)
    if words is None:
        source.look_first()
        assert source.left_out == ({"size": bad} if bad else {})
        assert sum(len(images) for images, _ in source.epoch(0)) == good
    else:
        with pytest.raises(Unfinished, match=re.escape(words)) as raised:
            source.look_first()
        assert "--" not in str(raised.value)
    assert len(caplog.records) <= 3 and not any("--resize" in record.getMessage() for record in caplog.records)


def test_images_that_a_look_did_not_see_end_the_epoch_when_there_are_too_many(tmp_path):
    """Of 1,000 keys the look reads 200; the 60 that are missing lie between them, and 54 of them in the batches until more than 50 are known."""
    (tmp_path / "p").mkdir()
    seen = set(np.linspace(0, 999, 200).round().astype(int).tolist())
    missing = [number for number in range(1000) if number not in seen][:60]
    for number in set(range(1000)) - set(missing):
        (tmp_path / "p" / f"{number}.jpg").write_bytes(encode_jpeg(picture(number)))
    (tmp_path / "list.txt").write_text("".join(f"p/{number}.jpg\t{number % 2}\n" for number in range(1000)))
    source = ImageSource(tmp_path / "list.txt", size=(SIZE, SIZE), batch=64, seed=0, max_rejects=0.05)
    source.look_first()
    assert source.left_out == {}
    with pytest.raises(
        Unfinished, match=r"54 images cannot be used so far, more than max_rejects = 0.05 of 1,000: 54 missing; .* Set root in \[data\] to the folder"
    ):
        list(source.epoch(0))


def test_a_last_batch_of_nothing_but_broken_files_leaves_no_step_out(tmp_path):
    (tmp_path / "a").mkdir()
    for number in range(4):
        (tmp_path / "a" / f"{number}.jpg").write_bytes(encode_jpeg(picture(number)))
    (tmp_path / "a" / "bad.jpg").write_bytes(b"no image")
    source = ImageSource(tmp_path, size=(SIZE, SIZE), batch=4, seed=0)
    sizes = set()
    for epoch in range(12):  # the broken file comes last in some of them
        batches = list(source.epoch(epoch))
        sizes.add(tuple(len(images) for images, _ in batches))
        assert all(same_batches(batches[start:], list(source.epoch(epoch, start))) for start in range(3))
    assert sizes == {(4, 4), (3, 1)}
    with pytest.raises(DistillError, match="no such file|no such folder|none of the 4 images"):
        list(ImageSource(tmp_path, size=(SIZE, SIZE), batch=4, seed=0, root=str(tmp_path / "a")).epoch(0))


def test_pictures_too_large_for_a_recipe_are_told_when_a_source_opens(folder):
    with pytest.raises(DistillError, match="up to 1024x1024, received 2000x8"):
        ImageSource(folder, size=(2000, 8), batch=8, seed=0, augment=RECIPES["face"])
