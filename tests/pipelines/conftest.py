"""Fixtures that tests of the pipeline share."""

import os

import pytest

from tests.builders import embed
from tests.conftest import once
from tests.warm import warm


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory, faces, teacher):
    def make(out):
        done = embed(faces, out, teacher, through=warm)
        assert done.returncode == 0, done.stderr
        assert "120 rows in 5 shards" in done.stdout and "Done.\nnext: distill verify " in done.stdout

    return once(tmp_path_factory, "undisturbed", make)


COPIES = 30  # of each picture: 3,600 rows


@pytest.fixture(scope="module")
def many(tmp_path_factory, faces):
    root = tmp_path_factory.mktemp("many")
    for path in sorted(faces.rglob("*.jpg")):
        (root / path.parent.name).mkdir(exist_ok=True)
        for copy in range(COPIES):
            os.link(path, root / path.parent.name / f"{copy}-{path.name}")
    return root
