"""Images are looked at before any is labelled; rejects are told in groups with their ways out; a set without a labelled row gives way."""

import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from distill.data.shards import open_shards
from distill.images.reasons import reason_in_log
from distill.images.spec import ImageSpec
from pipelines.rejects import LOOKED, WAYS, Group, grouped, in_words, look, spread
from tests.conftest import inside


def jpeg(side: int, turn: int = 1) -> bytes:
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = turn
    pixels = np.random.default_rng(side).integers(0, 256, (side, side, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(file, "JPEG", quality=95, exif=exif)
    return file.getvalue()


@pytest.fixture
def wrong(tmp_path):
    """24 images of another size, two of them damaged."""
    for number in range(24):
        path = tmp_path / "wrong" / f"id{number // 12}" / f"{number:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(40)[: 300 if number in (3, 20) else None])
    return tmp_path / "wrong"


def test_groups():
    rejects = [
        ("a", reason_in_log("the file is empty")),
        *((f"b{n}", reason_in_log(f"the image is {n}x5 (height x width), expected 9x9; --resize stretch or crop changes sizes")) for n in (3, 4)),
    ]
    groups = grouped(rejects)
    assert groups == [Group("size", 2, "b3", rejects[1][1]), Group("empty", 1, "a", "the file is empty")]
    assert in_words(groups).startswith("2 of another size, 'b3' for one: the image is 3x5 (height x width), expected 9x9 (--resize stretch or crop")
    assert set(WAYS) >= {"damaged", "size", "missing"} and LOOKED == 200


def test_the_look_is_spread_and_the_same_each_time():
    assert spread(list("abcde"), 3) == ["a", "c", "e"] and spread(["a"], 7) == ["a"] and spread(["a"], 0) == []


def test_a_look_reads_and_decodes(wrong):
    keys = ["id0/00.jpg", "id0/03.jpg", "id0/none.jpg"]
    bad, pixels = look(str(wrong), keys, ImageSpec(40, 40))
    assert [key for key, _ in bad] == keys[1:] and pixels.shape == (1, 40, 40, 3)


def test_a_list_of_another_size_ends_before_anything_is_labelled(wrong, teacher, tmp_path):
    out = tmp_path / "out"
    done = inside("embed", wrong, out, "--teacher", teacher, "--rows", 10)
    assert done.returncode == 2 and "none of the 24 images looked at can be embedded: 22 of another size" in done.stderr
    assert "--resize stretch or crop" in done.stderr and "2 damaged" in done.stderr and not out.exists()
    done = inside("embed", wrong, out, "--teacher", teacher, "--rows", 10, "--resize", "crop", "--max-rejects", 0.05)
    assert done.returncode == 1 and "warning: 2 of 24 images looked at cannot be embedded, --max-rejects allows 0.05" in done.stderr
    assert done.stderr.count("2 damaged, 'id0/03.jpg' for one") == 1
    assert "2 of 24 images were rejected, --max-rejects allows a fraction of 0.05: 2 damaged. Shards and reject logs" in done.stderr
    done = inside("embed", wrong, out, "--teacher", teacher, "--rows", 10, "--resize", "crop", "--max-rejects", 0.05)  # nothing was looked at this time
    assert "2 of 24 images were rejected" in done.stderr and "2 damaged, 'id0/03.jpg' for one" in done.stderr
    for number in (3, 20):
        (wrong / f"id{number // 12}" / f"{number:02d}.jpg").write_bytes(jpeg(40))
    done = inside("embed", wrong, out, "--teacher", teacher, "--rows", 10, "--resize", "crop", "--retry-rejects")
    assert done.returncode == 0 and "no rejects" in done.stdout, done.stderr


@pytest.mark.parametrize("format", ["parquet", "hdf5"])
def test_a_set_without_a_labelled_row_gives_way(format, wrong, teacher, tmp_path):
    out = tmp_path / "out"
    words = ("embed", wrong, out, "--teacher", teacher, "--rows", 10, "--format", format)
    done = inside(*words, "--max-rejects", 1)
    assert done.returncode == 0 and "0 rows" in done.stdout and "22 of another size" in done.stdout
    assert inside(*words, "--resize", "stretch", "--max-rejects", 1).returncode == 0
    assert open_shards(out).rows == 22
    done = inside(*words, "--resize", "crop", "--max-rejects", 1)
    assert done.returncode == 2 and "says otherwise" in done.stderr and open_shards(out).rows == 22


def test_exif_rotation_is_counted_and_applied(teacher, faces, tmp_path):
    shutil.copytree(faces / "id0000", tmp_path / "photos" / "a")
    (tmp_path / "photos" / "a" / "turned.jpg").write_bytes(jpeg(32, 6))
    done = inside("embed", tmp_path / "photos", tmp_path / "plain", "--teacher", teacher)
    assert done.returncode == 0 and "1 image carries an EXIF rotation that is not applied; --exif apply turns them" in done.stdout
    done = inside("embed", tmp_path / "photos", tmp_path / "out", "--teacher", teacher, "--exif", "apply")
    assert done.returncode == 0 and "EXIF" not in done.stdout
    plain, applied = (json.loads((tmp_path / name / "shards" / "_index.json").read_text()) for name in ("plain", "out"))
    assert (
        (plain["meta"]["version"], applied["meta"]["version"]) == (1, 3)
        and "exif" not in plain["meta"]["image"]
        and applied["meta"]["image"]["exif"] == "apply"
    )
    assert inside("verify", tmp_path / "out", "--deep", "--teacher", teacher).returncode == 0
    (tmp_path / "upright").mkdir()
    pixels = np.rot90(np.asarray(Image.open(tmp_path / "photos" / "a" / "turned.jpg")), -1)
    Image.fromarray(pixels).save(tmp_path / "upright" / "u.png")
    pair = (tmp_path / "photos" / "a" / "turned.jpg", tmp_path / "upright" / "u.png")
    assert json.loads(inside("compare", teacher, *pair, "--exif", "apply", "--json").stdout)["cosines"][0][1] > 0.9999
    assert "1 of 2 images carry an EXIF rotation" in inside("compare", teacher, *pair).stderr
