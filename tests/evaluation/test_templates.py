"""Templates by hand, the lists of IJB with everything that may be wrong in them, and the features of all kinds of files."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distill.data.shards import Rows, commit_shard, write_index
from distill.drawn_faces import TEACHER
from distill.errors import Damaged, DistillError
from distill.evaluation import template_lists, templates
from distill.evaluation.features import StoredFeatures
from distill.evaluation.on_templates import ImageReading, judge_templates, open_templates
from distill.evaluation.template_lists import TemplatePairs, read_template_list, read_template_pairs
from distill.evaluation.templates import TemplateOptions, pair_scores, template_table
from distill.images.codec import write_png
from distill.images.spec import ImageSpec
from tests.builders import FirstColour, meta, picture
from tests.conftest import inside, messages

# template 7 has two frames of media 3 and a photo (media 1), template 20 one photo, template 9 two photos
LIST = "a.jpg 7 3\nb.jpg 20 3\nc.jpg 7 1\nd.jpg 7 3\ne.jpg 9 1\nf.jpg 9 2\n"
FEATURES = np.array([[3, 0], [0, 2], [0, 4], [1, 2], [4, 0], [0, 1]], np.float32)


@pytest.fixture
def images(tmp_path):
    (tmp_path / "list.txt").write_text(LIST)
    return read_template_list(tmp_path / "list.txt")


def pairs_of(tmp_path, text, images):
    (tmp_path / "pairs.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_template_pairs(tmp_path / "pairs.txt", images)


def unit(*numbers):
    return [pytest.approx(number / np.hypot(*numbers), abs=1e-6) for number in numbers]


def test_a_list_is_read_with_the_scores_of_its_detector(images, tmp_path):
    assert images.keys == ("a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg", "f.jpg") and images.scores is None
    assert images.ids.tolist() == [7, 9, 20] and images.templates.tolist() == [0, 2, 0, 0, 1, 1]
    (tmp_path / "scored.txt").write_bytes(b"\xef\xbb\xbf1.jpg\t1 69544 0.5\r\n\n2.jpg 1 69544 1\r\n")
    scored = read_template_list(tmp_path / "scored.txt")
    assert scored.keys == ("1.jpg", "2.jpg") and scored.scores.tolist() == [0.5, 1.0] and scored.ids.tolist() == [1]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (TemplateOptions(), [(2, 5), (4, 1), (0, 2)]),  # 7: mean of (3, 0) and (1, 2), and (0, 4)
        (TemplateOptions(norm="unit"), [((1 + 0.2**0.5) / 2, 0.8**0.5 / 2 + 1), (1, 1), (0, 1)]),
    ],
)
def test_templates_by_hand(images, options, expected, monkeypatch):
    for rows in (1 << 14, 2, 1):  # images of a media stay together
        monkeypatch.setattr(templates, "ROWS", rows)
        table = template_table(FEATURES, images, options)
        assert table.dtype == np.float32 and [list(row) for row in table] == [unit(*row) for row in expected]


def test_halves_are_summed_and_sure_images_count_for_more(images, tmp_path):
    both = np.concatenate([FEATURES - 1, np.ones_like(FEATURES)], axis=1)
    assert np.allclose(template_table(both, images, TemplateOptions(halves=True)), template_table(FEATURES, images))
    (tmp_path / "scored.txt").write_text("a 1 1 1\nb 1 2 0.25\nc 2 1 0\n")
    scored = read_template_list(tmp_path / "scored.txt")
    table = template_table(np.array([[1, 0], [0, 4], [5, 5]], np.float16), scored, TemplateOptions(scores=True))
    assert list(table[0]) == unit(1, 1) and table[1].tolist() == [0, 0]  # an image that counts nothing has no direction
    assert list(template_table(np.array([[1, 0], [0, 4], [5, 5]], np.float16), scored)[0]) == unit(1, 4)


def test_what_does_not_fit_a_list_is_said(images):
    for features, options, words in [
        (FEATURES[:5], TemplateOptions(), "has 6 images, and there are features of shape (5, 2). Expected a row for each image."),
        (FEATURES[:, :1], TemplateOptions(halves=True), "features of 1 numbers have no two halves"),
        (FEATURES, TemplateOptions(scores=True), "has no fourth number, the score of the detector"),
        (np.where(np.arange(6)[:, None] == 3, np.nan, FEATURES), TemplateOptions(), "the features of d.jpg (row 3) are not finite"),
    ]:
        with pytest.raises(DistillError, match=re.escape(words)):
            template_table(features, images, options)


@pytest.mark.parametrize(
    "text", ["7 20 1\n9 20 0\n20 7 0\n", "7\t20\t1\n\n 9  20 0\r\n20 7 0", "7 20 1\r\n9 20 0\r\n20 7 0\r\n", "\n7 20 1\n\n9 20 0\n20 7 0\n\n"]
)
@pytest.mark.parametrize("block", [16 << 20, 8])
def test_pairs_are_read_whatever_stands_between_them(tmp_path, images, text, block, monkeypatch):
    monkeypatch.setattr(template_lists, "_BLOCK", block)
    pairs = pairs_of(tmp_path, text, images)
    assert (pairs.first.tolist(), pairs.second.tolist(), pairs.same.tolist()) == ([0, 1, 2], [2, 2, 0], [True, False, False])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty. Expected TEMPLATE TEMPLATE 1 on each line"),
        ("\n\n", "is empty"),
        ("7 20 1\n9 20", "line 2 is '9 20'. Expected TEMPLATE"),
        ("7 20 1\n\n9 20 ", "line 3 is '9 20 '. Expected TEMPLATE"),
        ("7 20 1\n9 2", "line 2 is '9 2'. Expected TEMPLATE"),
        ("7 20 1\n9 20 2\n", "line 2 is '9 20 2'. Expected TEMPLATE"),
        ("7 20 1\n\n9 21 0\n", "line 3 is '9 21 0', and {list} has no image of template 21. Give lists of one protocol."),
        ("7 99999999999999999999 1\n", "line 1 is '7 99999999999999999999 1'. Expected"),
        ("7 20 1 0\n", "line 1 is '7 20 1 0'. Expected"),
        ("0x7 20 1\n", "line 1 is '0x7 20 1'. Expected"),
        ("7 20 1.0\n", "line 1 is '7 20 1.0'. Expected"),
        ("7 -20 1\n", "line 1 is '7 -20 1'. Expected"),
        ('7 "20" 1\n', "Expected"),
        (b"7 20 1\n9 20 \xff\n", "line 2 is no text in UTF-8"),
    ],
)
def test_a_list_of_pairs_that_is_wrong_is_said_with_its_line(tmp_path, images, text, words):
    with pytest.raises(DistillError, match=re.escape(words.format(list=images.name))):
        pairs_of(tmp_path, text, images)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty. Expected IMAGE TEMPLATE MEDIA"),
        ("a 1 1\nb 1", "line 2 is 'b 1'. Expected IMAGE"),
        ("a 1 1\nb 1 x\n", "line 2 is 'b 1 x'"),
        ("a 1 1 0.5\nb 1 1\n", "line 2 is 'b 1 1'"),
        ("a 1 1 nan\n", "the score of a is no finite number"),
    ],
)
def test_a_list_of_images_that_is_wrong_is_said_with_its_line(tmp_path, text, words):
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(DistillError, match=re.escape(words)):
        read_template_list(tmp_path / "list.txt")
    with pytest.raises(DistillError, match="no such file.*IMAGE TEMPLATE MEDIA"):
        read_template_list(tmp_path / "nothing.txt")


@pytest.mark.parametrize("dense", [0, 10**9])
@pytest.mark.parametrize("products", [1 << 24, 60])
def test_scores_are_the_products_of_the_pairs(monkeypatch, dense, products):
    monkeypatch.setattr(templates, "DENSE", dense)
    monkeypatch.setattr(templates, "PRODUCTS", products)
    rng = np.random.default_rng(0)
    table = rng.normal(size=(40, 5)).astype(np.float32)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    first, second = rng.integers(0, 20, 300).astype(np.int32), rng.integers(15, 40, 300).astype(np.int32)
    found = pair_scores(table, TemplatePairs("p", first, second, np.ones(300, bool)))
    assert found == pytest.approx((table[first] * table[second]).sum(axis=1), abs=1e-6) and found.max() <= 1


def test_features_are_read_from_files_that_others_wrote(tmp_path):
    from distill.data.arrays import read_embeddings

    np.save(tmp_path / "a.npy", FEATURES)
    np.savez(tmp_path / "one.npz", whatever=FEATURES)
    np.savez_compressed(tmp_path / "named.npz", image_names=np.array(list("abcdef")), image_embs=FEATURES)
    for name, keys in (("a.npy", None), ("one.npz", None), ("named.npz", list("abcdef"))):
        names, found = read_embeddings(tmp_path / name)
        assert names == keys and np.array_equal(found, FEATURES)
    np.savez(tmp_path / "twice.npz", image_names=np.array(list("abcdea")), image_embs=FEATURES)
    (tmp_path / "list.txt").write_text("a 1 1\n")
    with pytest.raises(DistillError, match="twice.npz has a more than once"):
        StoredFeatures(str(tmp_path / "twice.npz")).of(read_template_list(tmp_path / "list.txt"))
    np.savez(tmp_path / "two.npz", x=FEATURES, y=FEATURES)
    with pytest.raises(DistillError, match="two.npz holds x, y; expected image_names"):
        read_embeddings(tmp_path / "two.npz")
    np.save(tmp_path / "labels.npy", np.arange(6))
    with pytest.raises(DistillError, match=r"labels.npy holds int64 \[6\]; expected floating-point"):
        read_embeddings(tmp_path / "labels.npy")
    whole = (tmp_path / "a.npy").read_bytes()
    for name, data in (("cut.npy", whole[:-4]), ("cut.npz", (tmp_path / "one.npz").read_bytes()[:50])):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(Damaged, match=name):
            read_embeddings(tmp_path / name)
    np.save(tmp_path / "objects.npy", np.array([Path()], object))
    with pytest.raises(DistillError, match="holds Python objects"):
        read_embeddings(tmp_path / "objects.npy")


PAIRS = "7 7 1\n9 9 1\n20 20 1\n7 9 0\n7 20 0\n9 20 0\n"


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    """Templates of pictures of one colour each, their pairs, and the first colours of the pictures as features in three kinds of files."""
    root = tmp_path_factory.mktemp("ijb")
    keys = [line.split()[0] for line in LIST.splitlines()]
    features = FirstColour()(np.stack([picture(number * 11) for number in range(6)]))
    for number, key in enumerate(keys):
        write_png(root / key, picture(number * 11), "test")
    (root / "list.txt").write_text(LIST.replace(".jpg", ".png"))
    (root / "pairs.txt").write_text(PAIRS)
    for key in keys:
        (root / key).rename(root / key.replace(".jpg", ".png"))
    names = [key.replace(".jpg", ".png") for key in keys]
    np.save(root / "rows.npy", features)
    np.savez(root / "named.npz", image_names=np.array(names[::-1]), image_embs=features[::-1])
    np.save(root / "both.npy", np.concatenate([features - 5, np.full_like(features, 5)], axis=1))
    np.save(root / "short.npy", features[:5])
    (root / "set").mkdir()
    order = [3, 0, 5, 1, 4, 2]
    made = Rows([names[row] for row in order], np.zeros(6, np.int32), features[order], [b"x"] * 6)
    about = replace(meta(image=ImageSpec(8, 8)), dtype="float32")
    write_index(root / "set", "parquet", [commit_shard(root / "set", "parquet", about, [made], [])], ["one"])
    return root


def asked_of(lists, *words):
    return inside("evaluate", *words, "--templates", lists / "list.txt", "--template-pairs", lists / "pairs.txt")


def test_features_of_all_kinds_of_files_give_the_same_figures(lists, tmp_path):
    expected = None
    for name, words in (("rows.npy", ()), ("named.npz", ()), ("set", ()), ("both.npy", ("--flip",))):
        done = asked_of(lists, lists / name, *words, "--json", "--out", tmp_path / name)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)["model"]["templates"]
        assert (found["genuine"], found["impostors"], found["templates"], found["images"], found["media"]) == (3, 3, 3, 6, 5)
        assert found.pop("flip", False) is bool(words)
        scores = np.load(tmp_path / name / "scores-model.npz")["template_scores"]
        expected = expected or (found, scores)
        assert found == expected[0] and scores == pytest.approx(expected[1], abs=1e-6) and scores[:3] == pytest.approx([1, 1, 1])
    done = asked_of(lists, lists / "rows.npy", lists / "named.npz")
    assert (
        done.stdout.splitlines()[1].startswith("rows.npy")
        and "\npairs: of 3 templates of 6 images (5 media), long features count for more; accuracy is a mean of 3 folds\n" in done.stdout
    )


def test_a_model_embeds_the_images_of_the_list(lists):
    templates_ = open_templates(lists / "list.txt", lists / "pairs.txt", None, TemplateOptions())
    found, arrays = judge_templates(FirstColour(), templates_, ImageReading(), lambda done, of: None)
    stored, others = judge_templates(StoredFeatures(str(lists / "rows.npy")), templates_, ImageReading(), lambda done, of: None)
    assert found == stored and arrays["template_scores"] == pytest.approx(others["template_scores"], abs=1e-6)
    flipped, _ = judge_templates(FirstColour(), templates_, ImageReading(flip=True), lambda done, of: None)
    assert flipped["flip"] is True and flipped["auc"] == found["auc"]  # pictures of one colour are their own mirror images


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("short.npy",), "short.npy has 5 rows, "),
        (("short.npy",), "list.txt names 6 images. Expected a row for each image, in the order of the list."),
        (("rows.npy", "--detector-scores"), "list.txt has no fourth number, the score of the detector"),
        (("rows.npy", "--template-norm", "none"), "--template-norm none: expected keep or unit."),
        (("rows.npy", "--flip"), "features of 3 numbers have no two halves"),
        (("rows.npy", "--pairs", "."), "--pairs is for models, and rows.npy has embeddings of images as they are. Leave it out."),
        (("rows.npy", "--scale", 0.5), "--scale is for models, and rows.npy has embeddings"),
        (("rows.npy", "--teacher", "t.keras"), "rows.npy has embeddings and is no model: it is judged on --templates and --template-pairs alone"),
        (("rows.npy", "gone.keras"), "rows.npy has embeddings and is no model: it is judged on"),
        (("gone.npy",), "gone.npy"),
    ],
)
def test_features_that_do_not_fit_are_said(lists, words, said, monkeypatch):
    monkeypatch.chdir(lists)
    done = asked_of(lists, *words)
    assert done.returncode == 2 and said in done.stderr and done.stdout == "" and len(messages(done)) == 1, done.stderr


def test_an_image_without_features_is_named(lists, tmp_path):
    np.savez(tmp_path / "some.npz", image_names=np.array(["a.png", "b.png"]), image_embs=np.ones((2, 3)))
    done = asked_of(lists, tmp_path / "some.npz")
    assert done.returncode == 2 and "some.npz has no embedding of c.png, which" in done.stderr and "nor of 3 more" in done.stderr


def test_both_lists_are_needed(lists):
    for words, said in [
        ((lists / "rows.npy",), "Name the lists that it is judged by with --templates"),
        ((lists / "rows.npy", "--templates", lists / "list.txt"), "Give both."),
        ((TEACHER / "student.keras", "--template-pairs", lists / "pairs.txt"), "Give both."),
        ((TEACHER / "student.keras", "--pairs", lists, "--template-root", lists), "are for --templates, which is not given"),
        ((lists / "rows.npy", "--templates", lists / "list.txt", "--template-pairs", lists / "list.txt"), "list.txt: line 1 is"),
    ]:
        done = inside("evaluate", *words)
        assert done.returncode == 2 and said in done.stderr, done.stderr
    (lists / "one.txt").write_text("7 9 0\n")
    done = inside("evaluate", lists / "rows.npy", "--templates", lists / "list.txt", "--template-pairs", lists / "one.txt")
    assert "0 genuine and 1 impostor pairs: figures need some of each" in done.stderr


LETTERS = st.sampled_from(
    [b"7", b"9", b"20", b"1", b"0", b" ", b" ", b"\n", b"\n", b"\r\n", b"\t", b'"', b"-", b"x", b"\xff", b"\x00", b"\xef\xbb\xbf", b"1" * 30]
)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(LETTERS, max_size=24).map(b"".join))
def test_any_bytes_are_pairs_or_an_error_in_words(tmp_path, images, data):
    """The quick way and line by line agree on what is a list of pairs."""
    (tmp_path / "any.txt").write_bytes(data)
    try:
        slow = list(template_lists._fields(tmp_path / "any.txt"))
    except DistillError:
        slow = None
    try:
        found = read_template_pairs(tmp_path / "any.txt", images)
    except DistillError as error:
        assert str(tmp_path / "any.txt") in str(error)
        assert slow is None or any(one not in (7, 9, 20) or same > 1 for *pair, same in slow for one in pair) or not slow
    else:
        assert slow is not None and len(found) == len(slow) > 0
        assert [(*images.ids[[one, two]].tolist(), int(same)) for one, two, same in zip(found.first, found.second, found.same, strict=True)] == slow
