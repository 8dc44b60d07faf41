"""Tars of images with labels: the rows are those of the same files on disk, and what is cut, damaged or mixed is one clear error."""

import io
import os
import subprocess
import tarfile
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill import DistillError
from distill.data.archives import archive, tar
from distill.data.archives.reader import read_bytes
from distill.data.lists.image_list import open_list
from distill.data.sources import ImageSource
from distill.images.codec import BadImage


def write(path, files, format=tarfile.PAX_FORMAT):
    """files: (name, bytes), or TarInfo for what has none."""
    with tarfile.open(path, "w", format=format) as tar:
        for one in files:
            info = one if isinstance(one, tarfile.TarInfo) else tarfile.TarInfo(one[0])
            if isinstance(one, tuple):
                info.size = len(one[1])
            tar.addfile(info, None if isinstance(one, tarfile.TarInfo) else io.BytesIO(one[1]))
    return path


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def rows_of(images, batch=2):
    rows = []
    for keys, labels in images.batches(batch):
        rows += zip(keys, [None] * len(keys) if labels is None else labels.tolist(), strict=True)
    assert len(rows) == images.rows
    return rows


def error(path) -> str:
    with pytest.raises(DistillError) as caught:
        rows_of(open_list(path))
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    return str(caught.value)


LONG = "a folder/" * 20 + "ü 日本.jpg"


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_rows_labels_and_bytes(tmp_path, format):
    files = [("n/2.jpg", b"two"), ("n/2.cls", b"7\n"), ("1.cls", b"0"), ("1.side.PNG", b"one" * 999), (LONG, b"long"), (LONG[:-4] + ".cls", b"3")]
    others = [special("n", tarfile.DIRTYPE), special("2.jpg", tarfile.SYMTYPE, "n/2.jpg"), ("n/._2.jpg", b"of a Mac"), ("n/2.json", b"{}")]
    path = write(tmp_path / "a.tar", files + others, format)
    images = open_list(path)
    assert rows_of(images) == [("tar:n/2.jpg", 7), ("tar:1.side.PNG", 0), ("tar:" + LONG, 3), ("tar:2.jpg", 7)]  # a link has the label of its file
    assert images.classes == [str(number) for number in range(8)] and images.root == path
    assert images.skipped == {"names with a leading dot": 1, "files that are no images": 1}
    assert [read_bytes(str(path), key) for key, _ in rows_of(images)] == [b"two", b"one" * 999, b"long", b"two"]


def names_of(images):
    return [key.removeprefix("tar:") for key, _ in rows_of(images)]


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_links_are_rows_or_counted(tmp_path, format):
    long = "a folder/" * 20
    path = write(
        tmp_path / "a.tar",
        [
            ("p/a/1.jpg", b"one"),
            special("p/b/hard.jpg", tarfile.LNKTYPE, "p/a/1.jpg"),
            special("p/a/soft.jpg", tarfile.SYMTYPE, "1.jpg"),
            special("p/b/up.png", tarfile.SYMTYPE, "../a/soft.jpg"),
            special(long + "hard.jpg", tarfile.LNKTYPE, long + "long.jpg"),
            (long + "long.jpg", b"long"),
            special("p/twin", tarfile.SYMTYPE, "a"),
            special("p/both", tarfile.SYMTYPE, "./"),
            special("p/b/gone.jpg", tarfile.SYMTYPE, "2.jpg"),
            special("p/b/out.jpg", tarfile.SYMTYPE, "../../../etc/x.jpg"),
            special("abs.jpg", tarfile.SYMTYPE, "/etc/x.jpg"),
            special("p/b/gone2.jpg", tarfile.LNKTYPE, "nowhere.jpg"),
            special("p/self.jpg", tarfile.SYMTYPE, "self.jpg"),
            special("p/pipe.jpg", tarfile.FIFOTYPE),
            special("p/device", tarfile.CHRTYPE),
            special("p/dir", tarfile.DIRTYPE),
            special("p/c", tarfile.SYMTYPE, "twin"),
        ],
        format,
    )
    images = open_list(path)
    expected = {
        "p/a/1.jpg": b"one",
        long + "long.jpg": b"long",
        "p/b/hard.jpg": b"one",
        "p/a/soft.jpg": b"one",
        "p/b/up.png": b"one",
        long + "hard.jpg": b"long",
    }
    expected |= {f"p/{name}/{file}": b"one" for name in ("twin", "c") for file in ("1.jpg", "soft.jpg")}
    assert {name: read_bytes(str(path), "tar:" + name) for name in names_of(images)} == expected and images.rows == len(expected)
    assert images.skipped == {"not regular files": 2, "links back up": 2, "links out of the root": 2, "broken links": 2}


def test_a_tar_and_its_folder_have_the_same_rows(tmp_path):
    """Names, bytes and counts, of a folder with links, system folders and files of other kinds."""
    root = tmp_path / "root"
    for name in ("a/1.jpg", "a/2", "a/x.txt", "b/c/3.HEIC", "b/@eaDir/4.jpg", "__MACOSX/a/5.jpg", ".git/6.jpg", "b/.7.jpg", "n/8.json"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    os.link(root / "a/1.jpg", root / "b/hard.jpg")
    (root / "b/soft.png").symlink_to("../a/1.jpg")
    (root / "twin").symlink_to("b")
    (root / "a/gone.jpg").symlink_to("nowhere")
    subprocess.run(["tar", "cf", tmp_path / "all.tar", "-C", root, "."], check=True)
    packed, folder = open_list(tmp_path / "all.tar"), open_list(root)
    expected = {key: read_bytes(str(root), key) for key, _ in rows_of(folder)}
    assert {name.removeprefix("./"): read_bytes(str(packed.root), f"tar:{name}") for name in names_of(packed)} == expected
    assert set(folder.skipped) - {"class folders without an image"} == set(packed.skipped)


NAMES = st.sampled_from(["1.jpg", "2.PNG", "3", "x.txt", ".h.jpg", "@eaDir/1.jpg", "1.cls"])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    files=st.sets(st.tuples(st.sampled_from(["a", "b/c", "lost+found", "."]), NAMES), min_size=1, max_size=8),
    links=st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=4),
)
def test_rows_and_skipped_names_are_all_names(tmp_path_factory, files, links):
    names = sorted(f"{folder}/{name}" for folder, name in files if name != "1.cls" or (folder, "1.jpg") in files)
    if any(name.endswith(".cls") for name in names):  # then each image has one
        names = [name for name in names if not name.endswith((".jpg", ".PNG")) or name.endswith("1.jpg") and "@" not in name and f"{name[:-4]}.cls" in names]
    extra = [
        special(f"l{number}.jpg", tarfile.LNKTYPE if hard else tarfile.SYMTYPE, names[at % len(names)] if names else "x")
        for number, (hard, at) in enumerate(links)
    ]
    if any(name.endswith(".cls") for name in names):
        extra = []
    path = write(tmp_path_factory.mktemp("any") / "a.tar", [*((name, name.encode()) for name in names), *extra])
    try:
        images = open_list(path)
    except DistillError as caught:
        assert "no images among" in str(caught)
        return
    used = sum(name.endswith(".cls") and not name.startswith("lost") for name in names)
    assert images.rows + sum(images.skipped.values()) + used == len(names) + len(extra)


def test_names_as_labels_and_no_labels(tmp_path):
    files = [("1.jpg", b"1"), ("1.cls", b"zoe"), ("2.jpg", b"2"), ("2.cls", "Éva".encode()), ("3.jpg", b"3"), ("3.cls", b"zoe")]
    images = open_list(write(tmp_path / "a.tar", files))
    assert images.classes == ["zoe", "Éva"] and [label for _, label in rows_of(images)] == [0, 1, 0]
    padded = open_list(write(tmp_path / "b.tar", [("1.jpg", b"1"), ("1.cls", b"0017"), ("2.jpg", b"2"), ("2.cls", b"1000")]))
    assert padded.classes == ["0017", "1000"]
    bare = open_list(write(tmp_path / "c.tar", [("1.jpg", b"1"), ("2.jpg", b"2")]))
    assert rows_of(bare) == [("tar:1.jpg", None), ("tar:2.jpg", None)] and bare.classes == []


def test_a_source_of_a_tar_is_that_of_the_same_files_in_folders(faces, tmp_path):
    files = sorted(faces.rglob("*.jpg"), key=lambda file: file.relative_to(faces).as_posix())
    labelled = [
        (f"{number:05d}.{suffix}", data)
        for number, file in enumerate(files)
        for suffix, data in (("cls", file.parent.name.encode()), ("jpg", file.read_bytes()))
    ]
    path = write(tmp_path / "faces.tar", labelled)
    one, other = (ImageSource(source, size=(32, 32), batch=32, seed=3) for source in (path, faces))
    assert one.classes == other.classes == 12 and one.rows == 120
    for (images, fields), (expected, labels) in zip(one.epoch(1), other.epoch(1), strict=True):
        assert np.array_equal(images, expected) and np.array_equal(fields["label"], labels["label"])


WRONG_TARS = [
    ([], "no images among 0 files"),
    ([("1.cls", b"1"), ("x", b"")], "no images among 2 files"),
    ([("1.jpg", b"1"), ("1.cls", b"1"), ("2.jpg", b"2")], "'2.jpg' has no label, there is no '2.cls'"),
    ([("1.jpg", b"1"), ("1.jpg", b"2")], "holds '1.jpg' twice"),
    ([("1.jpg", b"1"), ("1.cls", b"")], "'1.cls' holds ''. Expected a class number"),
    ([("1.jpg", b"1"), ("1.cls", b"-1")], "'1.cls' holds '-1'"),
    ([("1.jpg", b"1"), ("1.cls", b"a\tb")], "'1.cls' holds"),
    ([("1.jpg", b"1"), ("1.cls", b"x" * 5000)], "'1.cls' holds"),
    ([("1.jpg", b"1"), ("1.cls", b"10000000")], "label '10000000': class numbers end at 9,999,999"),
    ([("1.jpg", b"1"), ("1.cls", b"9" * 40)], "class numbers end at 9,999,999"),
    ([("1.jpg", b"1"), ("1.cls", b"7"), ("2.jpg", b"1"), ("2.cls", b"bob")], "a mix of numbers ('7') and names ('bob')"),
    ([("a\nb.jpg", b"1")], "holds a control character"),
]


@pytest.mark.parametrize("files, expected", WRONG_TARS)
def test_wrong_tars(tmp_path, files, expected):
    assert expected in error(write(tmp_path / "a.tar", files))


def broken(whole: bytes):
    """Bytes and what is said of them. whole: a tar of 1.jpg and 2.jpg of 3,000 bytes each."""
    return [
        (whole[:2000], "is truncated: '1.jpg' has 3,000 bytes, 1,488 are there"),
        (whole[:3700], "no tar header at byte 3,584"),
        (whole[:4000], "no tar header at byte 3,584"),
        (whole[:3584] + b"x" + whole[3585:], "no tar header at byte 3,584 (bad checksum)"),
        (whole + whole, "goes on behind its end"),
        (b"\x1f\x8c" + bytes(600), "no tar header at byte 0"),
    ]


def test_cut_damaged_and_compressed(tmp_path):
    path = write(tmp_path / "a.tar", [("1.jpg", b"1" * 3000), ("2.jpg", b"2" * 3000)])
    assert len(rows_of(open_list(path))) == 2
    for content, expected in broken(path.read_bytes()):
        path.write_bytes(content)
        assert expected in error(path)
    path.write_bytes(b"\x1f\x8b" + bytes(600))
    assert "is packed by gzip, and no image list. A tar that was packed so becomes a .tar, which is read as it is, by gunzip." in error(path)


def test_reading_what_is_not_there(tmp_path):
    path = write(tmp_path / "a.tar", [("1.jpg", b"1" * 3000), ("2.jpg", b""), ("../3.jpg", b"3")])
    assert read_bytes(str(path), "tar:../3.jpg") == b"3"  # a name in the tar, no path
    for key, expected in (("tar:4.jpg", "no such file in the tar"), ("tar:", "no such file in the tar"), ("tar:2.jpg", "the file is empty")):
        with pytest.raises(BadImage, match=expected):
            read_bytes(str(path), key)
    os.unlink(path)
    with pytest.raises(DistillError, match="--root"):
        read_bytes(str(path), "tar:1.jpg")


@settings(max_examples=200, deadline=2000, derandomize=True)
@given(changes=st.lists(st.tuples(st.integers(0, 2**16), st.binary(min_size=1, max_size=12)), max_size=3), cut=st.integers(0, 2**14), sums=st.booleans())
def test_damaged_tars_are_rows_or_one_clear_error(tmp_path_factory, changes, cut, sums):
    path = tmp_path_factory.getbasetemp() / "fuzz.tar"
    content = bytearray(write(path, [("1.jpg", b"one"), ("1.cls", b"1"), (LONG, b"long"), (LONG[:-4] + ".cls", b"0")]).read_bytes())
    for place, data in changes:
        at = place % len(content)
        content[at : at + len(data)] = data
        if sums and at < len(content) - 512:  # the header's own sum made right again, so that what it says is looked at
            start = at // 512 * 512
            content[start + 148 : start + 156] = b" " * 8
            content[start + 148 : start + 156] = b"%06o\0 " % sum(content[start : start + 512])
    path.write_bytes(content[: len(content) - cut])
    archive._opened.clear()
    tracemalloc.start()
    try:
        for key, _ in rows_of(tar.open_tar(path, 1000)):
            read_bytes(str(path), key)
    except DistillError as raised:
        assert str(path) in str(raised)
    except BadImage as raised:
        assert str(path) not in str(raised)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 4 * 2**20
