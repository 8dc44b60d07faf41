"""Files of every published format version stay readable, with the values that they were written with."""

import json
from pathlib import Path

import numpy as np
import pytest

from distill.data.chunks import list_chunks, read_chunk, read_classes
from distill.data.layout import PLAIN
from distill.data.shards import open_shards
from distill.data.shards.verify import verify
from distill.images.codec import decode
from tests.golden.make import KEYS, LABELS, SETS, embedding, image

VERSIONS = sorted(path for path in (Path(__file__).parent / "golden").glob("v*"))


@pytest.mark.parametrize(
    "folder", [folder for version in VERSIONS for folder in sorted(version.glob("*-*"))], ids=lambda folder: f"{folder.parent.name}/{folder.name}"
)
def test_golden_shards(folder):
    shards = open_shards(folder)
    assert (shards.rows, shards.rejects, shards.classes, shards.dimension, shards.labelled) == (6, 1, ("anna", "bea"), 4, True)
    row = 0
    for number in range(2):
        for group in shards.read(number):
            for place, key in enumerate(group.keys):
                expected = np.array([embedding(row, view) for view in range(shards.meta.views)]).reshape(-1)
                near = 0 if shards.meta.dtype != "int8" else (1030 / 127) / 2  # half of the largest step
                assert key == KEYS[row] and group.labels[place] == LABELS[row]
                assert np.abs(group.embeddings[place].astype(float) - expected).max() <= near
                if group.images:
                    assert np.array_equal(decode(group.images[place]), image(row))
                row += 1
    assert row == 6 and not verify(folder, deep=True).problems
    version, name = folder.parent.name, folder.name.partition("-")[2]
    assert (shards.meta.dtype, shards.meta.views) == SETS[version][name]
    assert shards.meta.version == (int(version[1:]) if shards.layout is PLAIN else 2 if name == "int8" else 1)
    assert json.loads((folder / shards.layout.index).read_text())["version"] == int(version[1:2])
    assert (shards.layout is PLAIN) == (version in ("v1", "v2", "v3"))
    assert [shards.group_rows(number) for number in range(2)] == ([[2, 2], [2]] if version == "v3" else [[4], [2]])


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_golden_chunks(version):
    chunks = [read_chunk(path) for path in list_chunks(version / "chunks")]
    assert [key for chunk in chunks for key in chunk.keys] == KEYS and read_classes(version / "chunks") == ["anna", "bea"]
    assert [label for chunk in chunks for label in chunk.labels.tolist()] == LABELS
