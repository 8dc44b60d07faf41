"""The golden rows of a set: the first images with their pixels and answers, by which a reader knows another decoder or another reading."""

import base64
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from simplejpeg import encode_jpeg

from distill import DistillError
from distill.data.shards import FORMATS, Rows, ShardMeta, commit_shard, open_shards, write_index
from distill.data.shards.golden import NUMBER, GoldenRow, cosine, worst_answer
from distill.data.shards.verify import PIXELS, check_sample, verify
from distill.data.sources import ShardSource
from distill.images.codec import BadImage
from distill.images.preprocessing import Preprocessing
from distill.images.spec import ImageSpec
from tests.conftest import inside

VERSIONS = sorted((Path(__file__).parents[2] / "golden").glob("v*/*-*"))
KEYS = [f"id0000/{number:03d}.jpg" for number in range(NUMBER)]


@pytest.fixture(scope="module", params=[("inline", "parquet"), ("path", "hdf5")], ids="-".join)
def made(request, tmp_path_factory, faces, teacher):
    """A set with its images, and one with their hashes only."""
    images, format = request.param
    out = tmp_path_factory.mktemp("sets") / "out"
    done = inside("embed", faces, out, "--teacher", teacher, "--rows", 50, "--images", images, "--format", format)
    assert done.returncode == 0, done.stderr
    return out


def changed(made, tmp_path, **row):
    """A copy of the set whose first golden row says something else."""
    shutil.copytree(made, tmp_path / "out")
    index = tmp_path / "out" / "shards" / "_index.json"
    value = json.loads(index.read_text())
    value["golden"][0] |= row
    index.write_text(json.dumps(value))
    return tmp_path / "out"


def test_the_first_rows_are_golden(made, faces):
    import skimage.io

    found = open_shards(made)
    assert [row.key for row in found.golden] == KEYS
    first = next(found.read(0))
    for number, row in enumerate(found.golden):
        assert row.image == (faces / row.key).read_bytes()
        assert row.pixels == hashlib.sha256(skimage.io.imread(faces / row.key).tobytes()).hexdigest()
        assert row.embedding == tuple(first.embeddings[number].astype(float).tolist())
        assert GoldenRow.from_json(json.loads(json.dumps(row.to_json()))) == row


def test_a_set_is_read_where_the_decoder_gives_the_same_pixels(made, faces, tmp_path):
    assert ShardSource(made, batch=8, seed=0, root=str(faces)).rows == 120 and not verify(made, deep=True).problems
    out = changed(made, tmp_path, pixels="0" * 64)
    with pytest.raises(DistillError, match="out: golden image 'id0000/000.jpg' decodes to other pixels than the teacher saw.*distill inspect"):
        ShardSource(out, batch=8, seed=0, root=str(faces))
    ((number, problem),) = verify(out).problems
    assert number == PIXELS and "'id0000/000.jpg' decodes to other pixels" in problem
    done = inside("verify", out)
    assert done.returncode == 1 and "decodes to other pixels" in done.stdout and "1 problem. " in done.stderr


def test_an_image_that_no_longer_decodes_is_told(made, faces, tmp_path):
    out = changed(made, tmp_path, image=base64.b64encode(b"cut").decode())
    with pytest.raises(DistillError, match="decodes to other pixels"):
        ShardSource(out, batch=8, seed=0, root=str(faces))


def test_another_scale_or_colour_order_is_seen_by_the_golden_rows_alone(made, faces, teacher):
    from teachers import load_teacher

    found = open_shards(made)
    assert worst_answer(found.golden, found.meta, load_teacher(teacher)) > 0.99999
    for reading in ({"scale": 0.5}, {"offset": 40.0}, {"color": "bgr"}):
        other = load_teacher(teacher, **reading)
        assert worst_answer(found.golden, found.meta, other) < 0.999, reading
        assert check_sample(made, other, number=1, root=str(faces))["worst_cosine"] < 0.999
    right = check_sample(made, load_teacher(teacher), number=8, root=str(faces))
    assert right["rows"] == 8 and right["worst_cosine"] > 0.99999


def test_verify_asks_the_teacher_for_the_golden_rows(made, faces, teacher, tmp_path):
    """The sample of random rows is right here; only the first golden row says the opposite of what the teacher does."""
    words = ("--teacher", teacher, "--root", faces, "--sample", 4)
    assert inside("verify", made, *words).returncode == 0
    opposite = [-number for number in open_shards(made).golden[0].embedding]
    done = inside("verify", changed(made, tmp_path, embedding=opposite), *words)
    assert done.returncode == 1 and "a stored embedding is not the teacher's answer (cosine -1.0000)" in done.stderr


@pytest.mark.parametrize("row", [{"embedding": [1.0]}, {"embedding": None}, {"embedding": ["x"] * 16}, {"image": "no base64!"}, {"image": 7}], ids=str)
def test_a_damaged_golden_row_is_one_message(made, row, tmp_path):
    with pytest.raises(DistillError, match="_index.json is not an index of shards"):
        open_shards(changed(made, tmp_path, **row))


@pytest.mark.parametrize("folder", [pytest.param(folder, id=f"{folder.parent.name}-{folder.name}") for folder in VERSIONS if folder.parent.name == "v1"])
def test_an_index_without_golden_rows_still_opens(folder):
    assert open_shards(folder).golden == () and not verify(folder, deep=True).problems


def test_without_golden_rows_a_teacher_is_asked_for_the_sample_alone(made, faces, teacher, tmp_path):
    from teachers import load_teacher

    shutil.copytree(made, tmp_path / "out")
    index = tmp_path / "out" / "shards" / "_index.json"
    value = json.loads(index.read_text())
    del value["golden"]
    index.write_text(json.dumps(value))
    assert ShardSource(tmp_path / "out", batch=8, seed=0, root=str(faces)).rows == 120
    assert check_sample(tmp_path / "out", load_teacher(teacher), number=3, root=str(faces))["worst_cosine"] > 0.99999


@pytest.fixture(params=sorted(FORMATS))
def format(request) -> str:
    return request.param


def commit(folder, format, number, encoded):
    """Chunk `number` of two, with the hashes of these images."""
    meta = ShardMeta(
        chunk=number,
        of=2,
        chunk_sha256=f"{number}" * 64,
        dimension=2,
        dtype="float16",
        teacher="t" * 64,
        reading=Preprocessing(),
        image=ImageSpec(8, 8),
        images="path",
    )
    keys = [f"{number}-{row}.jpg" for row in range(len(encoded))]
    rows = Rows(
        keys,
        np.full(len(keys), -1, np.int32),
        np.array([[row + 1, 0] for row in range(len(keys))], "float16").reshape(-1, 2),
        image_sha256=[hashlib.sha256(data).digest() for data in encoded],
    )
    return commit_shard(folder, format, meta, [rows], [])


def test_rows_come_from_the_first_shard_that_has_any_and_only_as_they_were_labelled(format, tmp_path):
    """Of five rows in the second chunk the first four are looked at: one file is gone, one was replaced, so two are golden."""
    encoded = [encode_jpeg(np.full((8, 8, 3), 50 * row, np.uint8)) for row in range(5)]
    records = [commit(tmp_path, format, 0, []), commit(tmp_path, format, 1, encoded)]

    def read_image(key):
        row = int(key[2])
        if row == 1:
            raise BadImage("no such file under the root")
        return encoded[0] if row == 2 else encoded[row]

    found = write_index(tmp_path, format, records, [], read_image)
    assert [(row.key, row.image, row.embedding) for row in found.golden] == [("1-0.jpg", encoded[0], (1.0, 0.0)), ("1-3.jpg", encoded[3], (4.0, 0.0))]
    assert open_shards(tmp_path).golden == found.golden
    assert write_index(tmp_path, format, records, []).golden == ()


def test_a_set_without_rows_has_no_golden_rows(format, tmp_path):
    records = [commit(tmp_path, format, number, []) for number in range(2)]
    assert write_index(tmp_path, format, records, [], lambda key: b"").golden == () == open_shards(tmp_path).golden


@pytest.mark.parametrize(
    ("stored", "again", "expected"),
    [
        ([0, 0], [0, 0], 1),
        ([0, 0], [1, 0], 0),
        ([1, 0], [0, 0], 0),
        ([3e-9, 4e-9], [3e-9, 4e-9], 1),
        ([3e30, 4e30], [4e30, -3e30], 0),
        ([1, 0], [np.nan, 0], -1),
    ],
)
def test_an_answer_of_zeros_or_of_small_numbers_is_the_stored_one(stored, again, expected):
    assert cosine(np.array(stored, float), np.array(again, float)) == pytest.approx(expected)
