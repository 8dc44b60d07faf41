"""Image lists: one fixed order, a class table, and a clear error that names the line or the file for everything else."""

import bz2
import os
import re
import subprocess
import sys
import tarfile
import time
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill import DistillError
from distill.data.chunks import write_chunks
from distill.data.lists import text as text_lists
from distill.data.lists import walk
from distill.data.lists.folder import FolderList
from distill.data.lists.image_list import Rule, open_list, way_to


def rows_of(images, batch=1000):
    """All (key, label) of a list; label None where it has none."""
    rows = []
    for keys, labels in images.batches(batch):
        assert len(keys) <= batch
        assert labels is None or (labels.dtype == np.int32 and len(labels) == len(keys))
        rows += zip(keys, [None] * len(keys) if labels is None else labels.tolist(), strict=True)
    assert len(rows) == images.rows
    return rows


@pytest.fixture
def text(tmp_path):
    def write(content):
        path = tmp_path / "list.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def error(source) -> str:
    with pytest.raises(DistillError) as caught:
        rows_of(open_list(source))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -------------------------------------------------------------------------------------------------------------------------------- folders


def make(root, *names):
    for name in names:
        path = os.path.join(os.fsencode(root), name if isinstance(name, bytes) else name.encode())
        os.makedirs(os.path.dirname(path), exist_ok=True)
        open(path, "wb").close()
    return root


def test_folder_order_is_by_bytes_of_class_then_key(tmp_path):
    make(tmp_path, "b/2.jpg", "b/10.jpg", "a b/x", "a/z.jpg", "a/deep/er/1.png", "a/deep.jpg", "a/Z.jpg", "é/1", "Z/1", "日本/人 1.jpg")
    images = open_list(tmp_path)
    assert images.classes == ["Z", "a", "a b", "b", "é", "日本"]
    assert rows_of(images) == [
        ("Z/1", 0),
        ("a/Z.jpg", 1),
        ("a/deep.jpg", 1),  # "." before "/": the order of whole keys, not of one folder after another
        ("a/deep/er/1.png", 1),
        ("a/z.jpg", 1),
        ("a b/x", 2),
        ("b/10.jpg", 3),
        ("b/2.jpg", 3),
        ("é/1", 4),
        ("日本/人 1.jpg", 5),
    ]
    assert images.root == tmp_path and images.skipped == {}
    assert rows_of(images, 3) == rows_of(images) and rows_of(images, 1) == rows_of(images)


def test_what_is_skipped_is_counted(tmp_path):
    root = make(tmp_path / "root", "a/1.jpg", "a/.hidden", ".git/x", "a/.more/1.jpg", "beside.txt", "b/c/2.jpg", "empty/.keep")
    make(tmp_path, "outside/secret.jpg")
    (root / "a/out.jpg").symlink_to(tmp_path / "outside/secret.jpg")
    (root / "linked out").symlink_to(tmp_path / "outside")
    (root / "a/broken.jpg").symlink_to("nowhere")
    (root / "b/c/up").symlink_to("..")
    (root / "b/c/top").symlink_to(root)
    (root / "b/self").symlink_to("self")
    (root / "b/file link.jpg").symlink_to("../a/1.jpg")
    (root / "twin").symlink_to("a")
    os.mkfifo(root / "a/pipe")
    images = open_list(root)
    assert rows_of(images) == [("a/1.jpg", 0), ("b/c/2.jpg", 1), ("b/file link.jpg", 1), ("twin/1.jpg", 2)]
    assert images.classes == ["a", "b", "twin"]
    assert images.skipped == {
        "names with a leading dot": 6,  # .git, .hidden and .more in a, the same two by way of twin, .keep
        "files beside the class folders": 1,
        "links out of the root": 3,  # linked out, out.jpg twice
        "broken links": 3,  # broken.jpg twice, self
        "links back up": 2,
        "not regular files": 2,
        "class folders without an image": 1,
    }
    images = open_list(root, Rule(all_files=True))
    assert images.classes == ["a", "b", "empty", "twin"] and "class folders without an image" not in images.skipped


IMAGES = ["jpg", "jpeg", "jpe", "jfif", "png", "bmp", "gif", "tif", "tiff", "webp", "ppm", "pgm", "jp2", "avif", "heic"]


def test_which_files_are_images(tmp_path):
    names = [f"a/1.{suffix}" for suffix in IMAGES] + ["a/2.JPG", "a/3.x.Png", "a/photo", "a/4."]
    make(tmp_path, *names, "a/Thumbs.db", "a/notes.txt", "a/desktop.ini", "a/1.jpg.part", "b/1.json", "readme.txt")
    images = open_list(tmp_path)
    assert sorted(key for key, _ in rows_of(images)) == sorted(names) and images.classes == ["a"]
    assert images.skipped == {"files that are no images": 5, "files beside the class folders": 1, "class folders without an image": 1}
    every = open_list(tmp_path, Rule(all_files=True))
    assert every.rows == len(names) + 5 and every.classes == ["a", "b"] and every.skipped == {"files beside the class folders": 1}


SYSTEM = ["__MACOSX", "lost+found", "$RECYCLE.BIN", "System Volume Information", "@eaDir"]


def test_system_folders_are_no_classes_and_hold_no_rows(tmp_path):
    make(tmp_path, *(f"{name}/{inside}1.jpg" for name in (*SYSTEM, "$Recycle.Bin", "z") for inside in ("", "@eaDir/")))
    make(tmp_path, "a/1.jpg", "a/@eadir/2.jpg", "a/lost+found")
    os.mkdir(tmp_path / "empty")
    images = open_list(tmp_path)
    assert rows_of(images) == [("a/1.jpg", 0), ("a/lost+found", 0), ("z/1.jpg", 1)] and images.classes == ["a", "z"]
    assert images.skipped == {"system folders": 8, "class folders without an image": 1}
    assert len(open_list(tmp_path, Rule(all_files=True)).classes) == 9


def test_a_folder_and_a_list_of_its_files_give_equal_tables(tmp_path):
    root = make(tmp_path / "root", "b/1.jpg", "10/1.jpg", "é/x.png", "__MACOSX/1.jpg", "none/readme.txt")
    os.mkdir(root / "empty")
    rows = rows_of(open_list(root))
    (tmp_path / "list").write_text("".join(f"{key}\t{key.partition('/')[0]}\n" for key, _ in rows).replace("\t10", "\t010"))
    assert [name.removeprefix("0") for name in open_list(tmp_path / "list").classes] == open_list(root).classes == ["10", "b", "é"]


def test_what_distill_wrote_is_never_listed(tmp_path):
    root = make(tmp_path / "root", "a/1.jpg", "out/plan.json/1.jpg", "b/classes.txt", "b/2.jpg")
    for out in ("a/deep", "chunks"):
        write_chunks(root / "a", root / out)
    images = open_list(root)
    assert rows_of(images) == [("a/1.jpg", 0), ("b/2.jpg", 1), ("out/plan.json/1.jpg", 2)] and images.classes == ["a", "b", "out"]
    assert images.skipped == {"folders that distill wrote": 2, "files that are no images": 1}
    assert "holds chunks, and no images that are listed" in error(root / "chunks")


def test_a_flat_folder_has_no_labels(tmp_path):
    make(tmp_path, "b.jpg", "a.PNG", "é", "Thumbs.db", ".hidden", "@eaDir/1.jpg", "texts/1.txt")
    images = open_list(tmp_path)
    assert rows_of(images) == rows_of(images, 2) == [("a.PNG", None), ("b.jpg", None), ("é", None)] and images.classes == []
    assert images.skipped == {"names with a leading dot": 1, "system folders": 1, "files that are no images": 2, "class folders without an image": 1}
    make(tmp_path, "texts/1.jpg")  # now there is a class, and more photos beside it than in it
    assert "2 images lie beside the class folders, and only 1 in them ('texts' for one)" in error(tmp_path)
    assert open_list(tmp_path, Rule(all_files=True)).rows == 3  # as earlier versions: what is in folders
    make(tmp_path, "texts/1.jpg", "texts/2.png")  # files beside it are counted
    images = open_list(tmp_path)
    assert rows_of(images) == [("texts/1.jpg", 0), ("texts/2.png", 0)] and images.skipped["files beside the class folders"] == 4


def test_names_that_no_list_can_have(tmp_path):
    assert "b'a/\\xff.jpg' is not UTF-8" in error(make(tmp_path / "1", b"a/\xff.jpg", "a/1.jpg"))
    assert "b'\\xfe' is not UTF-8" in error(make(tmp_path / "2", b"\xfe/1.jpg"))
    assert "'a/1\\n2.jpg' holds a control character" in error(make(tmp_path / "3", "a/1\n2.jpg"))
    assert "'a\\tb' holds a control character" in error(make(tmp_path / "4", "a\tb/1.jpg"))


def test_folders_without_rows(tmp_path):
    assert "is empty. Expected a folder" in error(tmp_path)
    make(tmp_path, "1.txt", "2.db", "a/.x")
    assert "1 name with a leading dot" in error(tmp_path) and "2 files that are no images" in error(tmp_path)
    assert "--all-files takes every file" in error(tmp_path)


def test_what_is_no_list_is_answered_with_the_way_out(tmp_path):
    make(tmp_path, "tars/1.tar", "tars/2.tar", "one/x.TAR", "rec/train.rec", "rec/train.idx", "packed/a.zip", "photos/a/1.jpg")
    (tmp_path / "farm").mkdir()
    (tmp_path / "farm/a").symlink_to(tmp_path / "photos/a")
    assert "holds 2 tars, and one is read at a time: name each as SOURCE" in error(tmp_path / "tars")
    assert f"name that file as SOURCE, {tmp_path / 'one/x.TAR'}" in error(tmp_path / "one")
    assert f"name that file as SOURCE, {tmp_path / 'rec/train.rec'}" in error(tmp_path / "rec")
    assert "holds a.zip, which is packed: unpack it" in error(tmp_path / "packed")
    assert "1 link out of the root" in error(tmp_path / "farm") and "with --root" in error(tmp_path / "farm")
    assert f"no such image list. Did you mean {tmp_path / 'photos'}?" in error(tmp_path / "photoss") and "Photos" in error(tmp_path / "Photos")
    os.mkfifo(tmp_path / "pipe")
    assert "is a pipe; an image list is read more than once" in error(tmp_path / "pipe") and "is a device" in error("/dev/null")
    for head, expected in ((b"PK\3\4", "a zip archive"), (b"\x1f\x8b\x08", "packed by gzip, and no image list. A tar"), (b"\xff\xd8\xff\xe0", "one picture")):
        (tmp_path / "odd").write_bytes(head + bytes(100))
        assert f"is {expected}" in error(tmp_path / "odd")


@pytest.mark.parametrize("name", ["BZhang", "PAR1", "Rar!", "PK"])
def test_a_list_may_begin_with_the_letters_of_an_archive(text, name):
    assert rows_of(open_list(text(f"{name}/1.jpg\n"))) == [(f"{name}/1.jpg", None)]
    assert "packed by bzip2" in error(text(bz2.compress(b"x" * 100)))


def test_suffixes_in_capitals(tmp_path):
    make(tmp_path, "a/1.jpg")
    with tarfile.open(tmp_path / "A.TAR", "w") as tar:
        tar.add(tmp_path / "a/1.jpg", "a/1.jpg")
    assert rows_of(open_list(tmp_path / "A.TAR")) == [("tar:a/1.jpg", None)]


@pytest.mark.parametrize("folder", ["", "a/"])
def test_batches_of_a_large_folder_copy_each_name_once(tmp_path, folder, monkeypatch):
    """What is left was copied with each batch: so many files in batches of one took five seconds and more."""
    root = make(tmp_path, f"{folder}1.jpg")
    names = [f"{folder}{number:05d}.jpg" for number in range(40_000)]
    monkeypatch.setattr(walk.Walk, "files", lambda self, flat=False: iter([("a" if folder else "", (names, [1] * 40_000, [2] * 40_000))]))
    images = FolderList(root, ["a"] if folder else [], 40_000, {})
    began = time.process_time()
    assert [keys for keys, *_ in images.sized_batches(1)] == [[name] for name in names]
    assert time.process_time() - began < 4.0  # CPU time; 1.1 s was seen on a busy machine


def test_a_folder_that_changes_is_noticed(tmp_path):
    images = open_list(make(tmp_path, "a/1", "a/2"))
    (tmp_path / "a/3").touch()
    with pytest.raises(DistillError, match="2 files at first, then 3"):
        list(images.batches(10))


NAMES = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs", "M")), min_size=1, max_size=8).filter(
    lambda name: "/" not in name and not name.startswith(".") and not walk.is_system(name.encode())
)


ENDINGS = st.sampled_from(["", ".jpg", ".PNG", ".txt", "."])
PATHS = st.tuples(st.lists(NAMES, max_size=3), NAMES, ENDINGS).map(lambda path: (*path[0], path[1] + path[2]))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(files=st.sets(PATHS, min_size=1, max_size=12), all_files=st.booleans())
def test_any_folder(files, all_files, tmp_path_factory):
    """The rows are those of another way to find them, and rows + skipped names = files."""
    root = tmp_path_factory.mktemp("any")
    made = set()
    for parts in files:
        try:
            make(root, "/".join(parts))
            made.add(parts)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            continue  # a name is a file here and a folder there
    rows = {parts for parts in made if all_files or parts[-1].rpartition(".")[2].lower() in (*IMAGES, "") or "." not in parts[-1]}
    flat = not any(len(parts) > 1 for parts in rows)
    rows = {parts for parts in rows if flat or len(parts) > 1}
    classes = sorted({parts[0] for parts in (made if all_files else rows) if len(parts) > 1}, key=str.encode)
    if not rows:
        assert "no images" in error(root)
        return
    if not all_files and not flat and len(rows) < sum(len(parts) == 1 and parts[0].rpartition(".")[2].lower() in IMAGES and "." in parts[0] for parts in made):
        assert "lie beside the class folders, and only" in error(root)
        return
    images = open_list(root, Rule(all_files=all_files))
    expected = sorted((-1 if flat else classes.index(parts[0]), "/".join(parts).encode()) for parts in rows)
    assert [(-1 if label is None else label, key.encode()) for key, label in rows_of(images, 5)] == expected
    assert images.classes == ([] if flat else classes)
    empty = images.skipped.pop("class folders without an image", 0)
    assert images.rows + sum(images.skipped.values()) == len(made)
    assert empty == (0 if all_files else len({parts[0] for parts in made if len(parts) > 1} - {parts[0] for parts in rows}))


# ------------------------------------------------------------------------------------------------------------------------------ text lists


def test_the_lists_own_order(text):
    images = open_list(text("z.jpg\na b/ü.jpg\nm.jpg\n"))
    assert rows_of(images) == [("z.jpg", None), ("a b/ü.jpg", None), ("m.jpg", None)]
    assert images.classes == [] and images.skipped == {}
    assert rows_of(images, 2) == rows_of(images)


def test_names_as_labels(text):
    images = open_list(text("1.jpg\tzoe\n2.jpg\tann lee\n3.jpg\tzoe\n4.jpg\tÉva\n"))
    assert images.classes == ["ann lee", "zoe", "Éva"]  # by UTF-8 bytes
    assert rows_of(images) == [("1.jpg", 1), ("2.jpg", 0), ("3.jpg", 1), ("4.jpg", 2)]


def test_numbers_as_labels(text):
    images = open_list(text("1.jpg\t10\n2.jpg\t2\n3.jpg\t0\n"))
    assert images.classes == [str(number) for number in range(11)]
    assert rows_of(images) == [("1.jpg", 10), ("2.jpg", 2), ("3.jpg", 0)]


def test_leading_zeros_make_names(text):
    images = open_list(text("1.jpg\t0017\n2.jpg\t0005\n3.jpg\t1000\n4.jpg\t99999999999\n"))
    assert images.classes == ["0005", "0017", "1000", "99999999999"]
    assert [label for _, label in rows_of(images)] == [1, 0, 2, 3]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("content", ["a\t1\nb c\t0\n", "a\t1\r\nb c\t0\r\n", "a\t1\nb c\t0", "a\t1\r\nb c\t0", "a\t1\r\nb c\t0\n"])
def test_line_ends_and_byte_order_mark(text, mark, content):
    assert rows_of(open_list(text(mark + content))) == [("a", 1), ("b c", 0)]


def test_short_files(text):
    assert rows_of(open_list(text("a"))) == [("a", None)]
    assert rows_of(open_list(text("a\n"))) == [("a", None)]
    assert rows_of(open_list(text("é"))) == [("é", None)]
    assert rows_of(open_list(text("a\r\n"))) == [("a", None)]


def test_odd_names_survive(text):
    both = [unicodedata.normalize(form, "é.jpg") for form in ("NFC", "NFD")]  # two names
    keys = [*both, " leading", "trailing ", 'quote".jpg', "back\\slash", "a,b;c", "..hidden", "a..b/c..", "NULL"]
    keys += ["\u2028line\u0085", "#1", "👩🏽", "./x", "مرحبا", "a\u200db"]
    assert [key for key, _ in rows_of(open_list(text("\n".join(keys))))] == keys
    labelled = "\n".join(f"{number}.jpg\t{key}" for number, key in enumerate(keys))
    images = open_list(text(labelled))
    assert [images.classes[label] for _, label in rows_of(images)] == [key.strip(" ") for key in keys]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "list.txt: the list is empty"),
        ("\ufeff", "list.txt: the list is empty"),
        ("a\t1\n\t2\n", "line 2: no path"),
        ("a\t1\nb\t\n", "line 2: no label behind the tab"),
        ("a\t1\r\nb\t\r\n", "line 2: no label behind the tab"),
        ("a\t1\nb\t2\t3\n", "line 2: more than one tab"),
        ("a\nb\t2\t3\nc\n", "line 2: more than one tab"),
        ("a\t1\nb\n", "line 2 has no label, line 1 has a label"),
        ("a\nb\nc\t1\n", "line 3 has a label, line 1 has no label"),
        ("a\nb\t1\t1\n", "line 2: more than one tab"),
        ("a\t7\nb\tbob\n", "a mix of numbers (line 1: '7') and names (line 2: 'bob')"),
        ("a\tbob\nb\t7\n", "a mix of numbers (line 2: '7') and names (line 1: 'bob')"),
        ("a\t0\nb\t-1\n", "line 2: label '-1'"),
        ("a\t0\nb\t10000000\n", "line 2: label '10000000'"),
        ("a\t0\nb\t99999999999999999999999\n", "line 2: label '99999999999999999999999'"),
        ("a\nb\n/etc/passwd\n", "line 3: '/etc/passwd' leaves the root"),
        ("a\n../b\n", "line 2: '../b' leaves the root"),
        ("a\nb/../../c\n", "line 2: 'b/../../c' leaves the root"),
        ("a\nb/..\n", "line 2: 'b/..' leaves the root"),
        ("a\nb\na\n", "lines 1 and 3 both name 'a'"),
        ("b\t1\na\t1\nx\t1\r\na\t2\n", "lines 2 and 4 both name 'a'"),
        (b"a\n\xff\xfe\n", "line 2: not UTF-8 (byte 0xff)"),
        (b"a\nb\n\xc3\n", "line 3: not UTF-8 (byte 0xc3)"),
        ("\n \n\r\n", "list.txt: the list is empty"),
        ("a\n\nb\t1\n", "line 3 has a label, line 1 has no label"),
        ("a\n\n \nc/../..\n", "line 4: 'c/../..' leaves the root"),
        ("a\n\na\n", "lines 1 and 3 both name 'a'"),
        ("a\tb\n".encode("utf-16-le"), "line 1: control character 0x00. Expected a UTF-8 text list: path or path<TAB>label a line. Lists saved as UTF-16"),
        ("/old/root/a/1.jpg\n/old/root/b/2.jpg\n", "line 1: '/old/root/a/1.jpg' leaves the root, as it is absolute. Take the beginning off, such as "),
        ("path,label,sex\na.jpg,0,f\n", "line 1: 3 columns (path, label, sex). Expected two"),
        ("label\tpath\n0\ta.jpg\n", "line 1: the columns are label, path. Expected the path first"),
        ("a.jpg,0,f\nb.jpg,1,m\n", "the line 'a.jpg,0,f' has other columns than a path and a label"),
        ("a.jpg,0\nb.jpg,1\nc.jpg\n", "the line 'a.jpg,0' has a label behind a comma, the line 'c.jpg' none"),
        ("a.jpg,0\nb.jpg\n", "line 2: the line 'a.jpg,0' has a label behind a comma, the line 'b.jpg' none"),
        ("\na.jpg;0\nb.jpg;\n", "line 3: the line 'a.jpg;0' has a label behind a semicolon, the line 'b.jpg;' other columns"),
        ("0\ta/1.jpg\n1\ta/2.jpg\n", "line 1: '0\\ta/1.jpg' has the label first, as all lines have"),
        ("\n0 a/1.jpg\n1 a/2.jpg\n", "line 2: '0 a/1.jpg' has the label first, as all lines have"),
        ('"7";"a/1.jpg"\n"8";"a/2.jpg"\n', "has the label first, as all lines have"),
        ("bob,x/bob/1.jpg\namy,x/amy/2.jpg\n", "line 1: 'bob,x/bob/1.jpg' has the label first, as all lines have"),
        ('"a.jpg","0"\n"b.jpg"\n', "the line '\"b.jpg\"' is no path with or without a label"),
        ("a\nb\x00\n", "line 2: control character 0x00"),
        ("a\nb\rc\n", "line 2: control character 0x0d"),
        ("a\n\rb\n", "line 2: control character 0x0d"),
        ("a\nb\r\r\n", "line 2: control character 0x0d"),
        ("a\n\x7fb\n", "line 2: control character 0x7f"),
    ],
)
def test_wrong_lists(text, content, expected, monkeypatch):
    assert expected in error(text(content))
    monkeypatch.setattr(text_lists, "BLOCK", 5)  # the same in small blocks: lines are counted across them
    got = error(text(content))
    assert expected in got or "line 3 has a label, line 1 has no label" in got or "as it is absolute" in got


@pytest.mark.parametrize("separator", [",", ";", " "])
@pytest.mark.parametrize(
    ("late", "expected"),
    [
        ("Smith{}John/1.jpg", "line 1501: 'John/1.jpg' is a path, and behind a"),
        ("Smith{}John/1", "line 1501: 'John/1' is a path, and behind a"),
        ("b{}c.PNG", "line 1501: 'c.PNG' is a path, and behind a"),
        ("d{0}e/x.jpg{0}bob\nb\\1{0}John\\1\n", "line 1502: 'John"),
        ("b.jpg{0}1{0}2", "line 1501: the line 'b.jpg{0}1{0}2' has other columns"),
    ],
)
def test_a_late_line_is_no_label_by_its_path(text, separator, late, expected):
    """Of a list whose first lines leave no doubt, one that is cut at the comma of its folder would shift all class numbers."""
    lines = "".join(f"p{number}.jpg{separator}anna\n" for number in range(1500))
    assert expected.format(separator) in error(text(lines + late.format(separator) + "\n"))


def test_bare_paths_that_look_like_columns(text):
    """No label first: commas and spaces in names of folders, numbers among them; and first lines that are like the others are no header."""
    for content in (
        "Smith, John/1.jpg\nDoe, Jane/2.jpg\n",
        "New folder/1.jpg\nNew folder/2.jpg\n",
        "1 (1).jpg\n1 (2).jpg\n",
        "2021 holidays/1.jpg\n2022 x/1.jpg\n",
        "image\nimage2\nimage3\n",
        "key\na\nb\n",
    ):
        images = open_list(text(content))
        assert rows_of(images) == [(line, None) for line in content.splitlines()] and not images.skipped
    assert rows_of(open_list(text('"0 a/1.jpg"\n"1 b/1.jpg"\n'))) == [("0 a/1.jpg", None), ("1 b/1.jpg", None)]


ROWS = [("id 1/a.jpg", "3"), ("id 2/b.PNG", "10"), ("id 10/c.jpg", "2")]
WRITTEN = {
    "tab": "".join(f"{key}\t{label}\n" for key, label in ROWS),
    "header": "path\tlabel\n" + "".join(f"{key}\t{label}\n" for key, label in ROWS),
    "comma": "".join(f"{key},{label}\n" for key, label in ROWS),
    "comma and spaces": "filename, class\r\n" + "".join(f"{key} , {label} \r\n" for key, label in ROWS),
    "semicolon": "file;class_id\n" + "".join(f"{key};{label}\n" for key, label in ROWS),
    "space": "".join(f"{key}  {label}\n" for key, label in ROWS),
    "quoted": "".join(f'"{key}","{label}"\n' for key, label in ROWS),
    "half quoted": "image,label\n" + "".join(f'"{key}", {label}\n' for key, label in ROWS),
    "quoted, tab": "".join(f'"{key}"\t{label}\r\n' for key, label in ROWS),
    "backslash": "".join(f"{key}\t{label}\n" for key, label in ROWS).replace("/", "\\"),
    "backslash, comma, header": "path,label\r\n" + "".join(f"{key},{label}\r\n" for key, label in ROWS).replace("/", "\\"),
    "blank": "\n" + "".join(f"{key}\t{label}\n\n" for key, label in ROWS) + "  \n",
    "spaces": "".join(f"{key} \t {label} \n" for key, label in ROWS),
    "CR": "".join(f"{key}\t{label}\r" for key, label in ROWS),
    "UTF-16": "\ufeff" + "".join(f"{key}\t{label}\r\n" for key, label in ROWS),
    "UTF-16, big": "\ufeff" + "".join(f"{key}\t{label}\n" for key, label in ROWS),
}


@pytest.mark.parametrize("block", [7, 4 << 20])
@pytest.mark.parametrize("name", WRITTEN)
def test_a_list_may_be_written_in_many_ways(text, name, block, monkeypatch):
    monkeypatch.setattr(text_lists, "BLOCK", block)
    images = open_list(text(WRITTEN[name].encode({"UTF-16": "utf-16-le", "UTF-16, big": "utf-16-be"}.get(name, "utf-8"))))
    assert rows_of(images) == [(key, int(label)) for key, label in ROWS] and images.classes == [str(number) for number in range(11)]
    header, blank = "label" in WRITTEN[name] or "class" in WRITTEN[name], 5 if name == "blank" else 0
    assert images.skipped == {reason: count for reason, count in (("blank lines", blank), ("header lines", int(header))) if count}


def test_bare_paths_may_be_written_in_many_ways(text):
    plain = "a b/1.jpg\nc,d/2.jpg\n"
    for content in (plain, "filename\na b/1.jpg\nc,d/2.jpg\n", '"a b/1.jpg"\n"c,d/2.jpg"\n', "a b/1.jpg \n\nc,d/2.jpg  ", "a b\\1.jpg\r\nc,d\\2.jpg\r\n"):
        assert rows_of(open_list(text(content))) == [("a b/1.jpg", None), ("c,d/2.jpg", None)]
    assert rows_of(open_list(text("path\n"))) == [("path", None)]  # the only line is no header


def test_what_is_there_instead_of_a_key(tmp_path):
    root = make(tmp_path / "root", "a b/1.jpg", "c/é.jpg")
    for key, expected in (
        ("a b\\1.jpg", 'separates parts of a path by "\\"'),
        ("c/e\u0301.jpg", "spells accents otherwise"),
        ("a b/1.jpg 0", "behind the last space"),
        ("a b/1.jpg,0", "behind the first comma"),
        ('"a b/1.jpg";x', "behind the first semicolon"),
        ("root/a b/1.jpg", f"--root {tmp_path}"),
        ("photos/a b/1.jpg", "Take that off: --strip-prefix photos/"),
        ("anna a b/1.jpg", "what stands before the first space is no part of the path"),
        ("a b/2.jpg", "Name the images' root folder with --root."),
    ):
        assert expected in way_to(str(root), key)


def test_a_beginning_is_taken_off(text):
    for content, begin in (("/old/root/a/1.jpg\t0\n/old/root//b/2.jpg\t1\n", "/old/root"), ("C:\\x\\a\\1.jpg\t0\nC:\\x\\b\\2.jpg\t1\n", "C:\\x\\")):
        assert rows_of(open_list(text(content), Rule(strip_prefix=begin))) == [("a/1.jpg", 0), ("b/2.jpg", 1)]
        assert f"--strip-prefix {content[: len(begin)].replace(chr(92), '/').rstrip('/')}/" in error(text(content))
    with pytest.raises(DistillError, match="line 2: 'b/2.jpg' does not begin with '/old/'"):
        open_list(text("/old/a/1.jpg\nb/2.jpg\n"), Rule(strip_prefix="/old/"))
    with pytest.raises(DistillError, match="line 1: '../1.jpg' leaves the root"):
        open_list(text("/old/../1.jpg\n"), Rule(strip_prefix="/old/"))


def test_labels_from_folders_are_those_of_the_folder_itself(tmp_path):
    root = make(tmp_path / "root", "b/1.jpg", "10/x/2.jpg", "9/3.jpg")
    (tmp_path / "list").write_text("/x/b/1.jpg\n/x/10/x/2.jpg\n/x/9/3.jpg\n")
    images = open_list(tmp_path / "list", Rule(strip_prefix="/x", label_from="folder"))
    assert images.classes == ["9", "b", "x"] and [label for _, label in rows_of(images)] == [1, 2, 0]
    (tmp_path / "list").write_text("b/1.jpg\n9/3.jpg\n")
    for source, rule in ((root, Rule(label_from="folder")), (root, Rule(strip_prefix="/x"))):
        with pytest.raises(DistillError, match="is for text lists"):
            open_list(source, rule)
    images = open_list(tmp_path / "list", Rule(label_from="folder"))
    (root / "10/x/2.jpg").unlink()
    assert images.classes == open_list(root).classes and sorted(rows_of(images)) == sorted(rows_of(open_list(root)))
    for content, expected in (("1.jpg\n", "line 1: '1.jpg' lies in no folder"), ("a/1.jpg\tx\n", "line 1 has a label")):
        (tmp_path / "list").write_text(content)
        with pytest.raises(DistillError, match=expected):
            open_list(tmp_path / "list", Rule(label_from="folder"))


def test_a_binary_file(text):
    assert "control character" in error(text(bytes(range(256)) * 50))
    assert "over 1,048,576 bytes" in error(text(b"x" * 1_500_000))


def test_a_list_that_changes_is_noticed(text):
    path = text("a\nb\n")
    images = open_list(path)
    path.write_text("a\nb\nc\n")
    with pytest.raises(DistillError, match="changed"):
        rows_of(images)


def test_duplicates_are_found_far_apart(text):
    keys = [f"id {number % 977}/{number}.jpg" for number in range(300_000)]
    keys[299_990] = keys[3]
    keys[299_995] = keys[299_000]
    assert f"lines 4 and 299991 both name {keys[3]!r}" in error(text("\n".join(keys)))
    first, second = map(int, re.search(r"lines (\d+) and (\d+) both name", error(text("\n".join(keys[:5000] * 2)))).groups())
    assert second == first + 5000  # where all lines stand twice, one pair is named


def test_equal_hashes_of_other_keys_are_no_duplicates(text, monkeypatch):
    monkeypatch.setattr("builtins.hash", len)  # all keys of one length collide
    assert len(rows_of(open_list(text("aa\nbb\ncc\nd\n")))) == 4
    assert "lines 2 and 4" in error(text("aa\nbb\ncc\nbb\n"))


KEYS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=12).filter(
    lambda key: not key.startswith(("/", "\ufeff")) and ".." not in key and "\\" not in key and key.strip(" ")
    # a line of spaces is a blank one; a list of nothing but backslashes comes from Windows
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    keys=st.lists(KEYS, min_size=1, max_size=30, unique=True),
    labels=st.sampled_from(["none", "numbers", "names"]),
    end=st.sampled_from(["\n", "\r\n"]),
    last=st.booleans(),
    mark=st.booleans(),
    block=st.integers(1, 80),
    batch=st.integers(1, 40),
    data=st.data(),
)
def test_any_list(tmp_path_factory, keys, labels, end, last, mark, block, batch, data):
    named = {"numbers": st.integers(0, 50).map(str), "names": KEYS.map(lambda name: f"n{name}".rstrip(" "))}.get(labels)  # spaces behind a label are none of it
    given_labels = None if named is None else data.draw(st.lists(named, min_size=len(keys), max_size=len(keys)))
    lines = keys if given_labels is None else [f"{key}\t{label}" for key, label in zip(keys, given_labels, strict=True)]
    path = tmp_path_factory.mktemp("any") / "list"
    path.write_bytes((("\ufeff" if mark else "") + end.join(lines) + (end if last else "")).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_lists, "BLOCK", block)
        images = open_list(path)
        rows = rows_of(images, batch)
    assert [key for key, _ in rows] == keys
    if given_labels is None:
        assert {label for _, label in rows} == {None} and images.classes == []
    else:
        assert [images.classes[label] for _, label in rows] == given_labels


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from([b"a", b"b/", b"\t", b"\n", b"\r", b"1", b"-", b"..", b"/", b"\xef\xbb\xbf", b"\xff", b"\0"]), max_size=25))
def test_any_bytes_are_rows_or_one_clear_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "bytes.txt"
    path.write_bytes(b"".join(content))
    try:
        rows = rows_of(open_list(path))
    except DistillError as caught:
        assert str(path) in str(caught)
    else:
        assert len({key for key, _ in rows}) == len(rows) > 0


def test_memory_does_not_grow_with_rows(tmp_path):
    """One million lines more may cost their hashes (8 bytes each, twice while they are sorted), not their keys (80)."""
    path = tmp_path / "long.txt"
    with open(path, "w") as file:
        for number in range(1_200_000):
            file.write(f"identity {number // 60:06d}/{number:08d}.jpg\t{number // 60}\n")
    code = (
        "import sys\nfrom distill.data.lists.image_list import open_list\n"
        "images = open_list(sys.argv[1])\nrows = sum(len(keys) for keys, _ in images.batches(100_000))\n"
        "print(rows, next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    rows, peak = map(int, done.stdout.split())
    assert rows == 1_200_000
    assert peak < 150 * 1024  # KiB, Python and NumPy among them


def test_an_empty_folder_is_called_empty(tmp_path):
    assert error(tmp_path) == f"{tmp_path} is empty. Expected a folder for each class with images in it, or a folder with images."
    (tmp_path / "a.txt").write_bytes(b"x")
    assert error(tmp_path).startswith(f"{tmp_path}: no images (skipped: 1 file that is no image). ")
    (tmp_path / "a").mkdir()
    assert "no images in 1 class folder (skipped: " in error(tmp_path) and "1 class folder without an image" in error(tmp_path)
