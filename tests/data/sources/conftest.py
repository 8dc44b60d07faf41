"""Two sets and a folder of the same 150 images of 20 identities, which tests of sources only read."""

import pytest

from distill.images.codec import encode_jpeg
from tests.builders import IDENTITIES, make_set, picture


@pytest.fixture(scope="package")
def shards(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("set") / "shards")


@pytest.fixture(scope="package")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("folder")
    for number in range(150):
        path = root / f"p{number % IDENTITIES:02d}" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode_jpeg(picture(number)))
    return root


@pytest.fixture(scope="package")
def viewed(tmp_path_factory):
    """150 rows of 3 views: embedding (number, -number, 1 + view), blue lighter or darker by the view."""
    return make_set(tmp_path_factory.mktemp("viewed") / "shards", views=3)
