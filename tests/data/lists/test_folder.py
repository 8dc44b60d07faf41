"""Real photographs, and every odd file that real folders hold: each is labelled or in the ledger with a reason, none is lost."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from distill.data.shards import open_shards
from distill.images.codec import decode
from tests.conftest import inside

SCRIPT = Path(__file__).parents[3] / "docs" / "examples" / "photos.py"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    assert runpy.run_path(str(SCRIPT))["cut"](root) == 8 * 12 + 8
    return root


def test_photographs_are_labelled_or_in_the_ledger(photos, teacher, tmp_path):
    done = inside("embed", photos, tmp_path / "out", "--teacher", teacher, "--resize", "crop", "--max-rejects", 1)
    assert done.returncode == 0, done.stderr
    shards = open_shards(tmp_path / "out")
    (group,) = shards.read(0)
    ledger = [json.loads(line) for line in (shards.folder / shards.records[0].ledger).read_text().splitlines()]
    reasons = {reject["key"].removeprefix("odd files/"): reject["reason"] for reject in ledger}
    assert sorted(group.keys + [reject["key"] for reject in ledger]) == sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.*"))
    assert sorted(reasons) == ["a text.jpg", "broken.jpg", "empty.jpg", "many frames.gif"]
    assert (
        "text" in reasons["a text.jpg"] and "truncated" in reasons["broken.jpg"] and "empty" in reasons["empty.jpg"] and "frame" in reasons["many frames.gif"]
    )
    assert [shards.classes[label] for label in group.labels] == [key.split("/")[0] for key in group.keys]
    assert [(photos / key).read_bytes() for key in group.keys] == group.images
    verified = inside("verify", tmp_path / "out", "--deep", "--teacher", teacher)
    assert verified.returncode == 0 and "worst cosine 1.0" in verified.stdout or "worst cosine 0.99999" in verified.stdout


def test_without_resize_photos_of_another_size_are_told_before_any_is_labelled(photos, teacher, tmp_path):
    done = inside("embed", photos, tmp_path / "out", "--teacher", teacher)
    assert done.returncode == 2 and not (tmp_path / "out").exists()
    assert f"none of the {8 * 12 + 8} images looked at can be embedded" in done.stderr and "--resize stretch or crop" in done.stderr
    assert "the image is 112x112 (height x width), expected 32x32" in done.stderr


def test_photographs_decode_as_skimage_reads_them(photos):
    import skimage.io

    for path in sorted(photos.rglob("*.*")):
        if path.parent.name != "odd files":
            assert np.array_equal(decode(path.read_bytes()), skimage.io.imread(path)), path
    grey, sixteen = (decode((photos / "odd files" / name).read_bytes()) for name in ("grey.jpg", "sixteen bits.png"))
    assert np.array_equal(grey[..., 0], skimage.io.imread(photos / "odd files" / "grey.jpg")) and (grey == grey[..., :1]).all()
    assert np.array_equal(sixteen[..., 2], skimage.io.imread(photos / "odd files" / "sixteen bits.png") >> 8)
