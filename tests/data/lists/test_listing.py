"""The listing of a set: what was added, removed or changed since is said, and nothing else is."""

import json
import os
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill import DistillError
from distill.data.chunks import write_chunks
from distill.data.lists import listing
from distill.data.lists.image_list import Rule
from distill.data.lists.listing import ADDED, LISTING, REMOVED, RESIZED, TOUCHED
from tests.conftest import inside

NEVER = lambda row, key: False  # noqa: E731


def keep(path, keys, sizes=None, times=None):
    with listing.written(path) as write:
        write(listing.head(len(keys)))
        write("".join(line + "\n" for line in listing.lines_of(keys, sizes or [1] * len(keys), times or [7] * len(keys))))
    return path


def compared(kept, now, may_change=NEVER):
    changes = listing.compare(iter(kept), iter(now), may_change)
    return {kind: (changes.counts[kind], changes.names[kind]) for kind in changes.counts}


def test_what_is_written_is_read(tmp_path):
    keys = [f"a/{'ü' * 50}{number}.jpg" for number in range(50_000)]
    path = keep(tmp_path / "l", keys, list(range(50_000)))
    assert list(listing.read(path)) == [f"{key}\t{number}\t7" for number, key in enumerate(keys)]
    assert path.stat().st_size < 50_000 * 20  # packed
    listing.update(path, {keys[3]: f"{keys[3]}\t99\t100"})
    assert list(listing.read(path))[2:5] == [f"{keys[2]}\t2\t7", f"{keys[3]}\t99\t100", f"{keys[4]}\t4\t7"]


def test_a_damaged_listing_is_said_to_be_so(tmp_path):
    whole = keep(tmp_path / "l", [f"{number}" for number in range(5000)]).read_bytes()
    for content in (whole[: len(whole) // 2], whole[:-3], b"", b"distill.listing.1\t0\n", whole[:40] + b"\xff" * 9 + whole[49:]):
        (tmp_path / "l").write_bytes(content)
        with pytest.raises(DistillError, match="l is damaged: .*--no-relist goes on without"):
            list(listing.read(tmp_path / "l"))
    for text in ("distill.listing.1\t2\na\t1\t1\n", "distill.listing.1\t1\na\t1\n", "x\t1\na\t1\t1\n", "distill.listing.1\t1\na\t1\t1"):
        with listing.written(tmp_path / "l") as write:
            write(text)
        with pytest.raises(DistillError, match="is damaged"):
            list(listing.read(tmp_path / "l"))


def test_each_kind_of_difference():
    old = ["a/1\t1\t7", "a/2\t1\t7", "a b/1\t1\t7", "b/1\t1\t7", "c/1\t1\t7"]  # "a/" comes before "a b/": the order of classes
    assert compared(old, old) == {}
    assert compared(old, old[1:4]) == {REMOVED: (2, ["a/1", "c/1"])}
    assert compared(old[1:4], old) == {ADDED: (2, ["a/1", "c/1"])}
    assert compared(old, [*old[:2], "a b/1\t2\t7", "b/1\t1\t8", old[4]]) == {RESIZED: (1, ["a b/1"]), TOUCHED: (1, ["b/1"])}
    assert compared(["a\t-1\t0", "b\t5\t7"], ["a\t3\t9", "b\t-1\t0"]) == {RESIZED: (1, ["a"]), REMOVED: (1, ["b"])}
    changes = listing.compare(iter(old), iter(["a/1\t1\t7", "a/2\t5\t9", *old[2:]]), lambda row, key: (row, key) == (1, "a/2"))
    assert changes.counts == {} and changes.accepted == {"a/2": "a/2\t5\t9"}
    many = listing.compare(iter(()), iter(f"a/{number}\t1\t1" for number in range(1234)), NEVER)
    assert many.in_words(ADDED, REMOVED) == "1,234 added ('a/0', 'a/1', 'a/2' ...)"


FILES = st.dictionaries(
    st.tuples(st.sampled_from(["a", "a b", "a.b", "é", ""]), st.sampled_from(["1", "2/3", "x y"])), st.tuples(st.integers(0, 2), st.integers(0, 2))
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(old=FILES, new=FILES)
def test_any_two_listings(old, new):
    """What sets of names and a dict of sizes say."""
    lines = []
    for files in (old, new):
        keys = sorted(files, key=lambda parts: (parts[0].encode() or parts[1].encode().partition(b"/")[0], "/".join(filter(None, parts)).encode()))
        lines.append([f"{'/'.join(filter(None, key))}\t{files[key][0]}\t{files[key][1]}" for key in keys])
    counts = {
        ADDED: len(new.keys() - old.keys()),
        REMOVED: len(old.keys() - new.keys()),
        RESIZED: sum(old[key][0] != new[key][0] for key in old.keys() & new.keys()),
        TOUCHED: sum(old[key][0] == new[key][0] and old[key] != new[key] for key in old.keys() & new.keys()),
    }
    assert listing.compare(iter(lines[0]), iter(lines[1]), NEVER).counts == {kind: count for kind, count in counts.items() if count}


@pytest.fixture
def photos(faces, tmp_path):
    for name in ("id0000", "id0001"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for path in sorted((faces / name).iterdir())[:4]:
            shutil.copy2(path, tmp_path / "photos" / name)
    return tmp_path / "photos"


@pytest.mark.parametrize("kind", ["folder", "flat", "list", "tar"])
def test_a_listing_is_kept_beside_the_chunks_and_holds_against_the_same_files(photos, kind, tmp_path):
    keys = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.jpg"))
    (tmp_path / "list").write_text("\n".join(keys))
    os.system(f"cd {photos} && tar cf ../photos.tar .")
    source, root = {
        "folder": (photos, photos),
        "flat": (photos / "id0000", photos / "id0000"),
        "list": (tmp_path / "list", photos),
        "tar": (tmp_path / "photos.tar", tmp_path / "photos.tar"),
    }[kind]
    out = write_chunks(source, tmp_path / "out", 3, root=str(root)).folder
    kept = list(listing.read(out / LISTING))
    assert [listing.key_of(line) for line in kept] == {"folder": keys, "flat": [f"{n:03d}.jpg" for n in range(4)], "list": keys, "tar": ["photos.tar"]}[kind]
    status = os.stat(photos / "id0000/000.jpg" if kind != "tar" else source)
    assert kept[0].endswith(f"\t{status.st_size}\t{status.st_mtime_ns}")
    assert list(listing.found(source, str(root), Rule(), iter(kept))) == kept
    assert not (write_chunks(source, tmp_path / "plain", 3).folder / LISTING).exists()  # distill chunk: a list is shared without


# ------------------------------------------------------------------------------------------------------------------------- distill embed


def embed(source, out, teacher, *words):
    done = inside("embed", source, out, "--teacher", teacher, "--rows", 4, "--batch", 4, "--workers", 1, *words)
    return done.returncode, done.stdout + done.stderr


def test_embed_says_what_differs(photos, teacher, tmp_path):
    """Added, removed and exchanged photos end a second run; --no-relist goes on, and so does one whose files are only newer."""
    out = tmp_path / "out"
    first = photos / "id0000/000.jpg"
    assert embed(photos, out, teacher, "--dry-run")[0] == 0
    shutil.copy2(first, photos / "id0001/new.jpg")  # nothing is labelled yet: the plan gives way
    code, said = embed(photos, out, teacher)
    assert code == 0 and "9 rows in 3 shards" in said
    before = {path.name: path.read_bytes() for path in (out / "shards").iterdir() if path.is_file()}
    os.utime(first, ns=(5, 5))
    code, said = embed(photos, out, teacher)
    assert code == 0 and "1 of another time but the same size ('id0000/000.jpg'), taken for the same" in said and "all there already" in said
    first.write_bytes(first.read_bytes() + b"x")
    (photos / "id0001/001.jpg").unlink()
    shutil.copytree(photos / "id0000", photos / "id0005")
    for words in ((), ("--dry-run",)):
        code, said = embed(photos, out, teacher, *words)
        assert code == 2 and "4 added ('id0005/000.jpg', 'id0005/001.jpg', 'id0005/002.jpg' ...), 1 removed ('id0001/001.jpg'), 1 of another size" in said
        assert "use another OUT for what lies there now, or --no-relist" in said and "Traceback" not in said
    assert embed(photos, out, teacher, "--no-relist", "--dry-run")[0] == 0
    assert before == {path.name: path.read_bytes() for path in (out / "shards").iterdir() if path.is_file()}
    code, said = embed(photos, out, teacher, "--all-files", "--no-relist", "--dry-run")
    assert code == 2 and "all_files: False there, True asked for" in said
    (out / "chunks" / LISTING).unlink()  # as in a set of an earlier version
    plan = json.loads((out / "plan.json").read_text())
    assert plan.pop("rule") == {"all_files": False, "strip_prefix": "", "label_from": ""}
    (out / "plan.json").write_text(json.dumps(plan))
    assert embed(photos, out, teacher, "--dry-run")[0] == 0
    code, said = embed(photos, out, teacher, "--relist", "--dry-run")
    assert code == 2 and "keeps no listing" in said


def test_files_that_are_mended_on_purpose_are_no_difference(photos, teacher, tmp_path):
    out, keys = tmp_path / "out", sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.jpg"))
    (tmp_path / "list").write_text("".join(f"{key}\t{key[:6]}\n" for key in [*keys, "id0001/late.jpg"]))
    broken = photos / keys[1]
    good = broken.read_bytes()
    broken.write_bytes(good[:200])
    asked = (tmp_path / "list", out, teacher, "--root", photos)
    assert embed(*asked, "--max-rejects", 1)[0] == 0
    broken.write_bytes(good)
    shutil.copy2(broken, photos / "id0001/late.jpg")
    code, said = embed(*asked, "--dry-run")
    assert code == 2 and "2 of another size ('id0000/001.jpg', 'id0001/late.jpg')" in said and "are mended: --retry-rejects" in said
    code, said = embed(*asked, "--retry-rejects")
    assert code == 0 and "2 changed files are embedded as they are now" in said and "no rejects" in said
    assert "changed" not in embed(*asked, "--dry-run")[1]  # the listing has them as they are
    broken.write_bytes(good + b"x")
    assert embed(*asked, "--retry-rejects", "--dry-run")[0] == 2  # it is no reject any more
    assert embed(*asked, "--only", 0)[0] == 0 and embed(*asked, "--dry-run")[0] == 0  # its chunk is made from what lies there


@pytest.mark.parametrize("kind", ["folder", "list"])
def test_a_reject_may_be_taken_away(photos, quick, tmp_path, kind):
    """A person removes the broken photo that the ledger names; a photo that was labelled is another matter."""
    keys = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.jpg"))
    (tmp_path / "list").write_text("".join(f"{key}\n" for key in keys))
    source, out = {"folder": photos, "list": tmp_path / "list"}[kind], tmp_path / "out"
    for key in (keys[1], keys[-1]):
        (photos / key).write_bytes(b"")
    asked = (source, out, quick, "--root", photos, "--max-rejects", 1)
    assert embed(*asked)[0] == 0
    for key in (keys[1], keys[-1]):
        (photos / key).unlink()
    for words in ((), ("--retry-rejects",)):
        code, said = embed(*asked, *words)
        assert code == 0 and f"2 removed that had been rejected ({keys[1]!r}, {keys[-1]!r})" in said and "all there already" in said, said
    (photos / keys[2]).unlink()
    code, said = embed(*asked)
    assert code == 2 and f"1 removed ({keys[2]!r})" in said, said
