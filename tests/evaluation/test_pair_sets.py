"""What `--pairs` names: `.bin` files in each way that programs write them, text lists, and what is refused, each in one line."""

import os
import pickle
import struct
from dataclasses import dataclass

import numpy as np
import pytest

from distill import DistillError
from distill.errors import Damaged
from distill.evaluation.bin_file import read_bin
from distill.evaluation.evaluate import evaluate_models
from distill.evaluation.pair_sets import open_pairs
from distill.evaluation.request import EvaluationRequest
from distill.images.codec import encode_jpeg
from distill.results import EvaluateResult, Judged
from tests.conftest import inside

COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0))


@dataclass
class MeanColour:
    """The mean of each colour, less 128."""

    height: int | None = 8
    width: int | None = 8
    dimension: int = 3

    def __call__(self, images):
        return (images.mean(axis=(1, 2)) - 128).astype(np.float32)


def flat(person, shade=1.0):
    return encode_jpeg(np.full((8, 8, 3), np.array(COLOURS[person]) * shade, np.uint8), 100)


PEOPLE = [0, 0, 0, 1, 1, 1, 2, 3, 2, 2, 3, 0]  # of the images, two by two
IMAGES = [flat(person, 0.8 + 0.02 * row) for row, person in enumerate(PEOPLE)]
SAME = [True, False, True, False, True, False]


def python2(images, same):
    """A list of str and a list of bools as Python 2 writes them in its highest protocol."""
    strings = b"".join(b"T" + struct.pack("<i", len(image)) + image for image in images)
    return b"\x80\x02]q\x00(" + strings + b"e]q\x01(" + b"".join(b"\x88" if one else b"\x89" for one in same) + b"e\x86q\x02."


def python2_arrays(images, same):
    """Arrays of bytes as NumPy writes them in Python 2."""
    kind = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    arrays = (made + b"(K\x01M" + struct.pack("<H", len(image)) + b"\x85" + kind + b"\x89T" + struct.pack("<i", len(image)) + image + b"tb" for image in images)
    return b"\x80\x02](" + b"".join(arrays) + b"e](" + b"".join(b"\x88" if one else b"\x89" for one in same) + b"e\x86."


def oldest(images, same):
    """The same in protocol 0."""
    strings = b"".join(b"S" + repr(image)[1:].encode() + b"\na" for image in images)
    return b"((lp0\n" + strings + b"(lp1\n" + b"".join(b"I0%d\na" % one for one in same) + b"tp2\n."


def rows(images):
    return [np.frombuffer(image, np.uint8).copy() for image in images]


WAYS = {
    "python 2": python2(IMAGES, SAME),
    "python 2, arrays": python2_arrays(IMAGES, SAME),
    "protocol 0": oldest(IMAGES, SAME),
    **{f"python 3, {protocol}": pickle.dumps((IMAGES, SAME), protocol) for protocol in (0, 2, 3, 4, 5)},
    **{f"arrays, {protocol}": pickle.dumps((rows(IMAGES), SAME), protocol) for protocol in (0, 2, 4, 5)},
    "columns": pickle.dumps(([row[:, None] for row in rows(IMAGES)], SAME)),
    "lists, numbers": pickle.dumps([tuple(IMAGES), [int(one) for one in SAME]]),
    "answers in an array": pickle.dumps((IMAGES, np.array(SAME)), 4),
    "answers as big-endian numbers": pickle.dumps((IMAGES, np.array(SAME, ">i4")), 2),
}


@pytest.mark.parametrize("way", WAYS)
def test_bin_files_of_every_writer(tmp_path, way):
    (tmp_path / "lfw.bin").write_bytes(WAYS[way])
    images, same = read_bin(tmp_path / "lfw.bin")
    assert images == IMAGES and same.tolist() == SAME and same.dtype == bool


def test_a_bin_file_that_ends_too_early_is_damaged(tmp_path):
    file = tmp_path / "lfw.bin"
    for way in ("python 2", "python 3, 4", "arrays, 5", "arrays, 2"):
        whole = WAYS[way]
        for size in (2, 9, len(whole) // 2, len(whole) - 1):
            file.write_bytes(whole[:size])
            with pytest.raises(DistillError, match=r"lfw\.bin is cut off or damaged \(.*\)\. Copy it again\.$") as caught:
                read_bin(file)
            assert isinstance(caught.value, Damaged) and "\n" not in str(caught.value)


class Runs:
    def __init__(self, *parts):
        self.parts = parts

    def __reduce__(self):
        return self.parts


TRACE = "ran"
LARGE = b"\x80\x04" + b"\x8e" + struct.pack("<Q", 2**62)
BOMB = (
    b"\x80\x02(c_codecs\nencode\nq\x00X"
    + struct.pack("<I", 10_000)
    + b"a" * 10_000
    + b"q\x01X\x06\x00\x00\x00latin1q\x02"
    + b"h\x00h\x01h\x02\x86R" * 10_000
    + b"l."
)
HOSTILE = {
    "a call of the system": (pickle.dumps(Runs(os.system, (f"touch {TRACE}",))), r"names posix\.system"),
    "eval": (pickle.dumps((Runs(eval, (f"open({TRACE!r}, 'w')",)), [])), r"names builtins\.eval"),
    "a module's attribute": (b"\x80\x04\x8c\x08builtins\x8c\x08__dict__\x93.", r"names builtins\.__dict__"),
    "an object": (pickle.dumps(MeanColour()), r"names tests\."),
    "a name that moves the cursor": (b"\x80\x04\x8c\x05\x1b[2J\n\x8c\x01x\x93.", r"names \?\[2J\?\.x, and was not loaded"),
    "an array of objects": (pickle.dumps((np.array([b"1", None], object), [True])), "holds an array of O8"),
    "a numpy function": (pickle.dumps((Runs(np.load, ("x",)), [])), "names numpy"),
    "a changed function": (b"\x80\x02c_codecs\nencode\n}b.", "uses the opcode '}'"),
    "a changed name": (b"\x80\x02c_codecs\nencode\n)b.", "changes a _Name"),
    "encode of something else": (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00rot\x86R.", "calls text to bytes"),
    "an instance": (b"(ios\nsystem\n.", "uses the opcode 'i'"),
    "a persistent name": (b"\x80\x02Px\n.", "uses the opcode 'P'"),
    "numbers with a point": (pickle.dumps(([0.5], [True])), "uses the opcode 'G'"),
    "a dictionary": (pickle.dumps({"a": 1}), "uses the opcode '}'"),
    "texts": (pickle.dumps((["a", "b"], [True])), "holds str as image 0, where bytes are expected"),
    "answers of 2": (pickle.dumps((IMAGES[:2], [2])), "holds '2' as the answer of pair 0"),
    "one list": (pickle.dumps(IMAGES), "holds something else than two lists"),
    "too few answers": (pickle.dumps((IMAGES, SAME[:3])), "holds 12 images and 3 answers"),
    "pictures": (pickle.dumps(([np.zeros((8, 8), np.uint8)] * 2, [True])), r"holds an array of the shape \(8, 8\)"),
    "numbers": (pickle.dumps(([np.zeros(8, np.int32)] * 2, [True])), "holds array as image 0"),
    "no pickle": (b"\xff\xd8\xff", "is no pickle"),
    "a text that becomes large": (BOMB, "would become larger than it is"),
    "a large size": (LARGE, "cut off or damaged"),
    "a large array of bytes": (b"\x80\x05\x96" + struct.pack("<Q", 2**40), "cut off or damaged"),
    "a large frame": (b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b"].", "cut off or damaged|two lists"),
    "a large place": (b"\x80\x02]r\xff\xff\xff\x7f.", "two lists"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pickle_runs_nothing(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    data, words = HOSTILE[name]
    (tmp_path / "lfw.bin").write_bytes(data)
    with pytest.raises(DistillError, match=rf"^.*lfw\.bin.* {words}") as caught:
        read_bin(tmp_path / "lfw.bin")
    assert os.listdir(tmp_path) == ["lfw.bin"] and "\n" not in str(caught.value)


def test_an_array_whose_shape_is_a_lie_is_refused(tmp_path):
    honest = pickle.dumps((rows(IMAGES[:2]), [True]), 2)
    number = struct.pack("<H", len(IMAGES[0]))
    assert honest.count(b"M" + number + b"\x85") >= 1  # the shape (n,)
    (tmp_path / "lfw.bin").write_bytes(honest.replace(b"M" + number + b"\x85", b"M\xff\xff\x85", 1))
    with pytest.raises(DistillError, match=r"holds an array of the shape \(65535,\)"):
        read_bin(tmp_path / "lfw.bin")


# --------------------------------------------------------------------------------------------------------- lists of text


@pytest.fixture
def lfw(tmp_path):
    """Images as LFW names them, and a list of two folds with a pair of each kind."""
    for person, name in enumerate(("Ann_A", "Bea_B", "Cid", "Dot")):
        (tmp_path / "lfw" / name).mkdir(parents=True)
        for number in (1, 2, 3):
            (tmp_path / "lfw" / name / f"{name}_{number:04d}.jpg").write_bytes(flat(person, 0.8 + 0.05 * number))
    (tmp_path / "pairs.txt").write_text("2\t1\nAnn_A\t1\t2\nAnn_A\t1\tBea_B\t3\nCid\t2\t3\nCid\t1\tDot\t2\n")
    return tmp_path


def test_lfws_own_list(lfw):
    (found,) = open_pairs([lfw / "pairs.txt"], root=lfw / "lfw")
    assert found.pairs.first == ("Ann_A/Ann_A_0001.jpg", "Ann_A/Ann_A_0001.jpg", "Cid/Cid_0002.jpg", "Cid/Cid_0001.jpg")
    assert found.pairs.second == ("Ann_A/Ann_A_0002.jpg", "Bea_B/Bea_B_0003.jpg", "Cid/Cid_0003.jpg", "Dot/Dot_0002.jpg")
    assert found.pairs.same.tolist() == [True, False] * 2 and found.folds == 2
    assert found.identities == (("Ann_A", "Ann_A", "Cid", "Cid"), ("Ann_A", "Bea_B", "Cid", "Dot"))
    for image in (lfw / "lfw").rglob("*.jpg"):
        image.rename(image.with_suffix(".png"))
    assert open_pairs([lfw / "pairs.txt"], root=lfw / "lfw")[0].pairs.first[0] == "Ann_A/Ann_A_0001.png"


def test_a_list_of_one_number_is_of_pairs_of_each_kind(lfw):
    (lfw / "lfw" / "dev.txt").write_text("2\r\nAnn_A 1 2\r\nCid 2 3\r\nAnn_A 1 Bea_B 3\r\nCid 1 Dot 2\r\n\r\n")
    (found,) = open_pairs([lfw / "lfw" / "dev.txt"])  # the root is the folder of the list
    assert found.pairs.same.tolist() == [True, True, False, False] and found.folds == 10


@pytest.mark.parametrize(("last", "known"), [("lfw/Cid/Cid_0001.jpg\tlfw/Dot/Dot_0002.jpg\t0", True), ("lfw/Cid/Cid_0001.jpg\tlfw/Dot/Dot_0002.jpg\t1", False)])
def test_lines_of_two_paths(lfw, last, known):
    (lfw / "list.tsv").write_text(f"lfw/Ann_A/Ann_A_0001.jpg\tlfw/Ann_A/Ann_A_0002.jpg\t1\nlfw/Ann_A/Ann_A_0001.jpg\tlfw/Bea_B/Bea_B_0001.jpg\t0\n{last}\n")
    (found,) = open_pairs([lfw / "list.tsv"])
    assert found.pairs.same.tolist() == [True, False, not known] and len(found.pairs.keys()) == 5
    assert (found.identities is not None) == known  # folders are people where every pair agrees
    if known:
        assert found.identities[1] == ("lfw/Ann_A", "lfw/Bea_B", "lfw/Dot")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("2\t2\nAnn_A\t1\t2\n", "first line promises 8 pairs, 1 are there. Copy it again"),
        ("1\t1\nAnn_A\t1\tx\nAnn_A\t1\tBea_B\t1\n", r"line 2 is 'Ann_A\\t1\\tx'. Expected NAME<TAB>NUMBER<TAB>NUMBER, or"),
        ("1\t1\nAnn_A\t1\t9\nAnn_A\t7\tBea_B\t1\n", r"line 2 names Ann_A/Ann_A_0009\.jpg, which is not in .*, nor are 1 more\. .*--pairs-root"),
        (
            "lfw/Cid/Cid_0001.jpg\tgone.jpg\t1\n",
            r"line 1 names gone\.jpg, which is not in [^,]*\. Mend the list, or name the folder that has them with --pairs-root",
        ),
        ("a b 1\n", r"line 1 is 'a b 1'\. Expected PATH<TAB>PATH<TAB>1"),
        ("a\tb\t2\n", r"line 1 is 'a\\tb\\t2'"),
        ("1\nAnn_A\t1\t2\nAnn_A\t1\t3\n", "2 genuine and 0 impostor pairs, of 1 identity: figures need some of each"),
    ],
)
def test_lists_that_are_wrong(lfw, text, words):
    path = lfw / "lfw" / "list.txt" if "Ann_A" in text else lfw / "list.txt"
    path.write_text(text)
    with pytest.raises(DistillError, match=words) as caught:
        open_pairs([path])
    assert "\n" not in str(caught.value)


def test_options_that_say_nothing_are_refused(lfw):
    (lfw / "lfw.bin").write_bytes(WAYS["python 2"])
    for given, options, words in (
        (["lfw.bin"], {"number": 20}, r"--number 20 says how many pairs are drawn from a folder; .*lfw\.bin names its own"),
        (["lfw.bin"], {"root": lfw}, "--pairs-root .* names the images of a text list of pairs, and none is given"),
        (["lfw.bin", "lfw.bin"], {}, "is given twice"),
        (["lfv.bin"], {}, r"no folder and no file\. Did you mean .*lfw\.bin\?"),
        (["pairs.txt"], {"root": lfw / "gone"}, "gone: no such folder, so the images of .*pairs.txt cannot be read"),
    ):
        with pytest.raises(DistillError, match=words):
            open_pairs([lfw / name for name in given], **options)


# --------------------------------------------------------------------------------------------------------- several at once


def test_a_row_of_figures_for_each_set(lfw):
    (lfw / "faces.bin").write_bytes(WAYS["python 3, 4"])
    sets = open_pairs([lfw / "faces.bin", lfw / "lfw", lfw / "pairs.txt"], root=lfw / "lfw")
    result = evaluate_models({"model": ("m", MeanColour)}, EvaluationRequest(sets=sets, out=lfw / "out"))
    first, *more = (result["model"]["pairs"], *result["model"]["more_pairs"])
    assert (first["folder"], first["genuine"], first["impostors"], first["identities"]) == (str(lfw / "faces.bin"), 3, 3, None)
    assert [one["genuine"] for one in more] == [12, 2] and [one["identities"] for one in more] == [4, 4] and more[1]["folds"] == 2
    assert first["accuracy"] == 1.0
    words = EvaluateResult({who: Judged(one["path"], one) for who, one in result.items()}).in_words()
    table = words.splitlines()
    assert [line.split("  ")[0] for line in table[1:4]] == ["model, faces.bin", "model, lfw", "model, pairs.txt"]
    assert "model, faces.bin: pairs: whom they show is not known; accuracy is a mean of 3 folds" in table
    assert "model, lfw: as published (10 folds, 400 distances): 100.00% ± 0.00%; optimistic, with the best threshold on these pairs: 100.00%;" in words
    with np.load(lfw / "out" / "scores-model.npz") as held:
        assert held["roc_far"].tolist() == [0, 0, 1] and held["roc_tar_2"].tolist() == [0, 1, 1]
        assert held["same_3"].tolist() == [True, False] * 2 and held["first"][2] == "image 4" and len(held["scores_2"]) == 24


def test_nothing_is_written_where_a_later_model_fails(lfw):
    class Broken(MeanColour):
        def __call__(self, images):
            return np.full((len(images), 3), np.nan, np.float32)

    sets = open_pairs([lfw / "pairs.txt"], root=lfw / "lfw")
    with pytest.raises(DistillError, match="embedding of Ann_A/Ann_A_0001.jpg is not finite"):
        evaluate_models({"model": ("m", MeanColour), "teacher": ("t", Broken)}, EvaluationRequest(sets=sets, out=lfw / "out"))
    assert not (lfw / "out").exists()
    (lfw / "faces.bin").write_bytes(pickle.dumps((IMAGES[:11] + [b"no image"], SAME)))
    with pytest.raises(DistillError, match=r"faces\.bin: image 11: text, not an image"):
        evaluate_models({"model": ("m", MeanColour)}, EvaluationRequest(sets=open_pairs([lfw / "faces.bin"])))


def test_the_command_line_refuses_before_a_model_is_loaded(lfw):
    (lfw / "evil.bin").write_bytes(HOSTILE["a call of the system"][0])
    (lfw / "model.onnx").write_bytes(b"\x08")  # never opened as a model
    for words, answer in (
        (["--pairs", lfw / "evil.bin"], "names posix.system, and was not loaded"),
        (["--pairs", lfw / "pairs.txt"], "names Ann_A/Ann_A_0001.jpg, which is not in"),
    ):
        done = inside("evaluate", lfw / "model.onnx", *words, "--out", lfw / "out")
        assert done.returncode == 2 and answer in done.stderr and not (lfw / "out").exists(), done.stderr
