"""Bytes to pixels: equal to skimage's imread, every odd mode by its rule, everything else a reject with a reason."""

import ast
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, ImageOps
from skimage import data as samples
from skimage.io import imread

import distill
import pipelines
from distill import DistillError
from distill.data.archives.reader import read_bytes
from distill.images import codec as images
from distill.images.codec import BadImage, decode, decode_batch, encode_jpeg
from distill.images.exif import orientation
from distill.images.reasons import plain, reason_in_log
from distill.images.spec import ImageSpec
from pipelines.rejects import WAYS

FACE = np.ascontiguousarray(samples.astronaut()[:75, 190:251])  # odd in both directions, so that chroma blocks are cut
GREY = np.ascontiguousarray(FACE[:, :, 0])


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "unclosed <socket", ResourceWarning)  # what tests of other rooms left, collected at any time
        yield


def saved(image, kind, **options) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def reason(data, spec=None) -> str:
    with pytest.raises(BadImage) as caught:
        decode(data, spec)
    return str(caught.value)


JPEGS = {
    "baseline 4:2:0": saved(FACE, "JPEG", quality=90),
    "4:2:2": saved(FACE, "JPEG", subsampling="4:2:2"),
    "4:4:4": saved(FACE, "JPEG", subsampling="4:4:4"),
    "4:4:0": simplejpeg.encode_jpeg(FACE, colorsubsampling="440"),
    "4:1:1": simplejpeg.encode_jpeg(FACE, colorsubsampling="411"),
    "progressive": saved(FACE, "JPEG", progressive=True),
    "progressive 4:4:4": saved(FACE, "JPEG", progressive=True, subsampling=0, quality=99),
    "optimised": saved(FACE, "JPEG", optimize=True, quality=30),
    "restart markers": saved(FACE, "JPEG", restart_marker_blocks=2),
    "RGB inside": saved(FACE, "JPEG", keep_rgb=True),
    "grey": saved(GREY, "JPEG"),
    "grey progressive": saved(GREY, "JPEG", progressive=True),
    "one pixel": saved(FACE[:1, :1], "JPEG"),
}


@pytest.mark.parametrize("name", JPEGS)
def test_jpeg_equals_imread(name, tmp_path):
    (tmp_path / "a.jpg").write_bytes(JPEGS[name])
    expected = imread(tmp_path / "a.jpg")
    expected = expected if expected.ndim == 3 else np.repeat(expected[:, :, None], 3, 2)
    pixels = decode(JPEGS[name])
    assert pixels.dtype == np.uint8 and pixels.tobytes() == expected.tobytes()
    batch, bad = decode_batch([JPEGS[name]], ImageSpec(*expected.shape[:2]))
    assert not bad and batch[0].tobytes() == expected.tobytes()


def test_png_equals_imread(tmp_path):
    (tmp_path / "a.png").write_bytes(saved(FACE, "PNG"))
    assert (decode(saved(FACE, "PNG")) == imread(tmp_path / "a.png")).all()
    assert (decode(saved(FACE, "PNG")) == FACE).all()


def png(width, height, depth, colour, rows: bytes) -> bytes:
    """A PNG made by hand: filter byte 0 before each row, as the rows say."""

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_modes_by_hand():
    def rgb(data):
        return decode(data).tolist()

    assert rgb(png(2, 1, 16, 0, b"\0" + struct.pack(">2H", 0x12FF, 0xFFFF))) == [[[0x12] * 3, [0xFF] * 3]]  # 16-bit grey: the high byte
    assert rgb(png(1, 1, 16, 2, b"\0" + struct.pack(">3H", 0x01FF, 0x8000, 0xFE00))) == [[[0x01, 0x80, 0xFE]]]  # 16-bit RGB
    assert rgb(png(1, 1, 16, 4, b"\0" + struct.pack(">2H", 0x7FFF, 3))) == [[[0x7F] * 3]]  # 16-bit grey with alpha
    assert rgb(png(1, 1, 16, 6, b"\0" + struct.pack(">4H", 0x0100, 0x0200, 0x0300, 0))) == [[[1, 2, 3]]]  # 16-bit RGBA
    assert rgb(png(1, 1, 8, 6, b"\0\x0a\x14\x1e\0")) == [[[10, 20, 30]]]  # wholly transparent: alpha is dropped, not blended
    assert rgb(png(1, 1, 8, 4, b"\0\x0a\0")) == [[[10, 10, 10]]]
    assert rgb(png(8, 1, 1, 0, b"\0\xaa")) == [[[255] * 3, [0] * 3] * 4]  # one bit a pixel
    assert rgb(png(2, 1, 2, 0, b"\0\x60")) == [[[85] * 3, [170] * 3]]  # two bits a pixel, scaled to 0..255
    assert rgb(b"P5 2 1 65535\n\x12\xff\x34\x00") == [[[0x12] * 3, [0x34] * 3]]
    assert rgb(b"P6 1 1 255\n\x01\x02\x03") == [[[1, 2, 3]]]


def test_palette_is_expanded_and_its_transparency_dropped():
    palette = Image.fromarray(FACE).quantize(40)
    expected = np.array(palette.convert("RGB"))
    assert (decode(saved(palette, "PNG")) == expected).all()
    assert (decode(saved(palette, "PNG", transparency=bytes([0, 9, 255]))) == expected).all()
    assert (decode(saved(palette, "PNG", transparency=3)) == expected).all()
    assert (decode(saved(palette, "GIF")) == expected).all()


def test_cmyk_is_converted_as_pillow_does():
    data = saved(Image.fromarray(FACE).convert("CMYK"), "JPEG", quality=95)
    expected = np.array(Image.open(io.BytesIO(data)).convert("RGB"))
    assert (decode(data) == expected).all()
    batch, bad = decode_batch([data], ImageSpec(75, 61))
    assert not bad and (batch[0] == expected).all()


def test_each_image_of_a_batch_is_looked_at_for_itself():
    """What begins like the image before is decoded in place; what differs behind that, or before, is seen."""
    exif = Image.Exif()
    exif[0x0112] = 3
    usual, turned, cmyk = encode_jpeg(FACE), saved(FACE, "JPEG", exif=exif), saved(Image.fromarray(FACE).convert("CMYK"), "JPEG")
    other, cut, odd = encode_jpeg(FACE[::-1]), usual[:-100], encode_jpeg(FACE[:40])
    encoded = [usual, other, cut, memoryview(usual), cmyk, usual, turned, turned, usual, odd, b"", saved(FACE, "PNG"), usual]
    spec = ImageSpec(*FACE.shape[:2], exif="apply")
    batch, bad = decode_batch(encoded, spec)
    assert {row: reason.kind for row, reason in bad.items()} == {2: "damaged", 9: "size", 10: "empty"} and not batch[[2, 9, 10]].any()
    assert all((batch[row] == decode(data, spec)).all() for row, data in enumerate(encoded) if row not in bad)


def test_a_narrow_image_is_no_alpha_channel():
    narrow = np.arange(4 * 4, dtype=np.uint8).reshape(4, 4)  # grey, 4 wide: a guess by shape would take it for RGBA
    assert (decode(saved(narrow, "PNG")) == narrow[:, :, None]).all()


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "PPM", "WEBP", "JPEG2000"])
def test_other_formats(kind):
    lossless = {"WEBP": {"lossless": True}}.get(kind, {})
    assert (decode(saved(FACE, kind, **lossless)) == FACE).all()


def test_32_bit_pixels_have_no_range():
    assert "32-bit pixels" in reason(saved(GREY.astype(np.float32), "TIFF"))
    assert "32-bit pixels" in reason(saved(GREY.astype(np.int32), "TIFF"))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_more_than_one_frame(kind):
    first, second = Image.fromarray(FACE), Image.fromarray(FACE[::-1])
    assert "more than one frame" in reason(saved(first, kind, save_all=True, append_images=[second]))
    assert decode(saved(first, kind)).shape == FACE.shape


def test_rotation_by_exif_is_not_applied():
    turned = Image.Exif()
    turned[0x0112] = 6
    data = saved(FACE, "JPEG", exif=turned, quality=90)
    assert (decode(data) == decode(JPEGS["baseline 4:2:0"])).all()


WITH_EXIF = {"JPEG": {"quality": 90}, "PNG": {}, "WEBP": {"lossless": True}, "TIFF": {}, "AVIF": {}}


@pytest.mark.parametrize("kind", WITH_EXIF)
@pytest.mark.parametrize("turn", range(1, 9))
def test_rotation_by_exif_as_pillow_turns(kind, turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    data = saved(FACE, kind, exif=exif, **WITH_EXIF[kind])
    expected = np.array(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    spec = ImageSpec(*expected.shape[:2], exif="apply")
    assert (decode(data, spec) == expected).all() and (decode_batch([data], spec)[0][0] == expected).all()
    assert orientation(data) == (1 if kind == "TIFF" else turn)  # a TIFF is turned by Pillow itself, always was
    shown = decode(data)
    assert shown.shape == (expected.shape if kind == "TIFF" else FACE.shape)
    half = ImageSpec(30, 20, "stretch", "apply")
    assert (decode(data, half) == np.array(Image.fromarray(expected).resize((20, 30), Image.Resampling.BILINEAR))).all()
    if turn > 4 and kind != "TIFF":
        assert reason(data, ImageSpec(75, 61, exif="apply")).startswith("the image is 61x75")


@pytest.mark.parametrize("data", [b"", b"\xff", b"\xff\xd8\xff\xe1", b"\x89PNG\r\n\x1a\n\0", b"RIFF\0", b"\0\0\0\x18ftypavif"])
def test_damaged_exif_says_nothing(data):
    assert orientation(data) == 1
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = saved(FACE, "JPEG", exif=exif)
    end = whole.index(b"Exif") + len(exif.tobytes())
    for cut in range(2, end + 10):
        assert orientation(whole[:cut]) in (1, 6)
    for value, expected in ((0, 1), (9, 1), (6, 6)):
        exif[0x0112] = value
        assert orientation(saved(FACE, "JPEG", exif=exif)) == expected
    assert orientation(memoryview(saved(FACE, "JPEG", exif=exif))) == 6


def test_a_spec_without_exif_is_written_as_before():
    assert ImageSpec(3, 4).as_dict() == {"height": 3, "width": 4, "resize": "none"}
    assert ImageSpec(3, 4, exif="apply").as_dict() == {"height": 3, "width": 4, "resize": "none", "exif": "apply"}
    with pytest.raises(DistillError, match="ignore, apply"):
        ImageSpec(3, 4, exif="rotate")


def box(*brands: bytes) -> bytes:
    return struct.pack(">I", 16 + 4 * len(brands[1:])) + b"ftyp" + brands[0] + bytes(4) + b"".join(brands[1:]) + bytes(99)


def tiff(*tags: tuple[int, int]) -> bytes:
    """One grey pixel and further tags of one LONG each."""
    fields = {256: 1, 257: 1, 258: 8, 259: 1, 262: 1, 273: 8, 278: 1, 279: 1, **dict(tags)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(fields.items()))
    return b"II*\0" + struct.pack("<I", 12) + b"CR\2\0" + struct.pack("<H", len(fields)) + entries + bytes(4)


FOREIGN = {
    "HEIC": [box(b"heic", b"mif1", b"heic"), box(b"mif1", b"mif1", b"heic"), bytes.fromhex("000000186674797068656963000000006d696631") + bytes(99)],
    "AVIF": [box(b"mif1", b"avif", b"miaf")],
    "JPEG XL": [b"\xff\x0a\xfa\x7f" + bytes(40), b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40)],
    "raw file of a camera": [box(b"crx ", b"crx "), tiff(), tiff((50706, 0x401)), tiff((254, 1), (330, 8)), b"FUJIFILMCCD-RAW 0201", b"IIU\0" + bytes(9)],
    "video": [box(b"isom", b"iso2", b"avc1"), box(b"qt  "), box(b"mp42"), b"\x1a\x45\xdf\xa3" + bytes(9), b"RIFF\0\0\0\0AVI LIST"],
    "PSD": [b"8BPS\0\1" + bytes(20)],
    "PDF": [b"%PDF-1.7\n%\xe2\xe3", b"%PDF-1.4 "],
    "SVG": [b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- " + b"x" * 99 + b" -->\n<svg/>"],
}


@pytest.mark.parametrize("name", FOREIGN)
def test_formats_that_are_not_read_are_named(name):
    for data in FOREIGN[name]:
        said = reason(data)
        assert said.startswith("a format that is not read: ") and name in said and reason_in_log(said).kind == "format"


def test_reasons_have_kinds():
    kinds = {
        "size": (JPEGS["grey"], ImageSpec(9, 9)),
        "empty": (b"", None),
        "text": (b"hello", None),
        "damaged": (JPEGS["4:4:4"][:-9], None),
        "depth": (saved(GREY.astype(np.float32), "TIFF"), None),
        "format": (b"\0\1\2\3\xff" * 9, None),
        "large": (png(8001, 8000, 8, 2, b"\0"), None),
        "frames": (saved(Image.fromarray(FACE), "GIF", save_all=True, append_images=[Image.fromarray(FACE[::-1])]), None),
    }
    for kind, (data, spec) in kinds.items():
        with pytest.raises(BadImage) as caught:
            decode(data, spec)
        reason = caught.value.reason
        assert reason.kind == reason_in_log(str(reason)).kind == kind and "--" not in plain(reason)
        assert json.loads(json.dumps(reason)) == reason == str(caught.value) and pickle.loads(pickle.dumps(reason)).kind == kind


def reasons_in_code() -> list[tuple[str, str]]:
    """(how its text begins, kind) of each reason that is made somewhere."""
    found = []
    for room in (distill, pipelines):
        for path in Path(room.__file__).parent.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("BadImage", "Reason") and node.args:
                    text = node.args[0].values[0] if isinstance(node.args[0], ast.JoinedStr) else node.args[0]
                    if isinstance(text, ast.Constant):
                        found.append((text.value, node.args[1].value if len(node.args) > 1 else "damaged"))
    return found


REASONS = sorted(set(reasons_in_code()))


@pytest.mark.parametrize("text, kind", REASONS)
def test_a_ledger_of_rejects_tells_the_kind_that_a_reason_had_in_memory(text, kind):
    assert reason_in_log(text).kind == kind


def test_every_kind_of_reason_is_made_somewhere_and_has_a_way_out():
    assert {kind for _, kind in REASONS} == set(WAYS)


def test_bytes_behind_the_end_are_allowed():
    for data in (*JPEGS.values(), saved(FACE, "PNG"), saved(FACE, "GIF"), saved(FACE, "BMP")):
        assert (decode(data + b"\xff\xd8 something else") == decode(data)).all()
    with_stray = JPEGS["baseline 4:2:0"][:-2] + b"\0" * 5 + b"\xff\xd9"  # common in photos from the web
    assert (decode(with_stray) == decode(JPEGS["baseline 4:2:0"])).all()
    assert (decode_batch([with_stray], ImageSpec(75, 61))[0][0] == decode(with_stray)).all()


@pytest.mark.parametrize(
    "data",
    [
        *(JPEGS[name] for name in ("baseline 4:2:0", "progressive", "grey", "restart markers", "RGB inside")),
        saved(Image.fromarray(FACE).convert("CMYK"), "JPEG"),
        saved(FACE, "PNG"),
        saved(GREY.astype(np.uint16) * 256, "PNG"),
        saved(Image.fromarray(FACE).quantize(9), "PNG"),
        saved(FACE[:, :60], "BMP"),  # no padding behind a row: without the last padding all pixels are there
        saved(FACE, "TIFF"),
        saved(FACE, "WEBP"),
        saved(FACE, "JPEG2000"),
    ],
    ids=lambda data: data[:12].hex(),
)
def test_truncated_anywhere(data):
    cuts = {*range(0, len(data), max(1, len(data) // 150)), *range(len(data) - 30, len(data))}
    for cut in sorted(cuts):
        assert reason(data[:cut])


def test_reasons_are_plain():
    assert reason(b"") == "the file is empty"
    assert reason(b"hello, this is no image\n") == "text, not an image: it begins 'hello, this is no image\\n'"
    assert reason(b"\x00\x01\x02\x03\xff" * 9) == "not an image in a known format: it begins with the bytes 00 01 02 03 ff 00 01 02"
    assert reason(JPEGS["baseline 4:2:0"][:-9]) == "truncated: Premature end of JPEG file"
    assert reason(saved(FACE, "PNG")[:-9]) == "truncated: the end of the image is missing"
    assert "75x61" in reason(JPEGS["grey"], ImageSpec(112, 96)) and "112x96" in reason(JPEGS["grey"], ImageSpec(112, 96))
    for data in (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM" + bytes(40), b"%!PS-Adobe-3.0 EPSF-3.0\n"):
        assert " at 0x" not in reason(data)


def test_a_huge_header_is_refused_before_memory_is_taken():
    jpeg = bytearray(JPEGS["baseline 4:2:0"])
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = struct.pack(">HH", 65500, 65500)
    gif = bytearray(saved(FACE, "GIF"))
    gif[6:10] = struct.pack("<HH", 65535, 65535)
    started = time.perf_counter()
    pngs = (png(width, height, 8, 2, b"\0") for width, height in ((100_000, 100_000), (8001, 8000), (12_000, 12_000)))
    for data in (bytes(jpeg), bytes(gif), *pngs):
        assert reason(data).startswith("over 64 megapixels")
        assert decode_batch([data], ImageSpec(4, 4, "stretch"))[1][0].startswith("over 64 megapixels")
    assert time.perf_counter() - started < 2


def test_memory_stays_low_for_huge_headers():
    code = """
from pathlib import Path
from distill.images.codec import BadImage, decode
import test_codec as t
t.decode(t.saved(t.FACE, "PNG"))
def peak(): return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
before = peak()
for side in (8001, 12_000, 20_000, 100_000):
    try: decode(t.png(side, side, 8, 2, bytes(1)))
    except BadImage: pass
print(peak() - before)
"""
    assert int(run_beside_this_file(code)) < 20_000  # KiB; 8001 x 8001 RGB alone would be 187,500


def test_batch_keeps_good_rows_and_blanks_bad_ones():
    good = [encode_jpeg(np.full((16, 24, 3), value, np.uint8)) for value in range(0, 200, 2)]
    encoded = [*good[:50], b"", *good[50:], good[0][:-40], b"text", saved(FACE, "PNG")]
    spec = ImageSpec(16, 24)
    alone, bad = decode_batch(encoded, spec)
    with ThreadPoolExecutor(3) as pool:
        shared, bad_shared = decode_batch(encoded, spec, pool)
    assert sorted(bad) == [50, 101, 102, 103] and bad == bad_shared
    assert alone.shape == (104, 16, 24, 3) and (alone == shared).all()
    assert not alone[sorted(bad)].any()
    assert [alone[row, 0, 0, 0] for row in (0, 49, 51, 100)] == [0, 98, 100, 198]
    assert bad[50] == "the file is empty" and "75x61" in bad[103]
    assert decode_batch([], spec)[0].shape == (0, 16, 24, 3)


def test_batch_takes_buffers():
    data = JPEGS["4:4:4"]
    batch, bad = decode_batch([memoryview(data), bytearray(data)], ImageSpec(75, 61))
    assert not bad and (batch == decode(data)).all()


def test_resize():
    dots = np.zeros((2, 2, 3), np.uint8)
    dots[0, 0], dots[1, 1] = 200, 100
    assert decode(saved(dots, "PNG"), ImageSpec(1, 1, "stretch")).tolist() == [[[75] * 3]]  # the mean of 200, 0, 0, 100: antialiased
    stripes = np.zeros((4, 8, 3), np.uint8)
    stripes[:, :2], stripes[:, 6:] = 255, 255  # the white ends fall away when the centre is cropped
    assert not decode(saved(stripes, "PNG"), ImageSpec(2, 2, "crop")).any()
    assert decode(saved(stripes, "PNG"), ImageSpec(2, 2, "stretch")).any()
    assert (decode(JPEGS["4:4:4"], ImageSpec(75, 61, "crop")) == decode(JPEGS["4:4:4"])).all()  # the right size is left as it is
    for shape in ((1, 1), (300, 2), (2, 300), (112, 96)):
        for how in ("stretch", "crop"):
            assert decode(JPEGS["baseline 4:2:0"], ImageSpec(*shape, how)).shape == (*shape, 3)
            assert decode_batch([JPEGS["grey"]], ImageSpec(*shape, how))[0].shape == (1, *shape, 3)


def test_a_checkerboard_does_not_alias():
    board = ((np.indices((96, 96)).sum(0) % 2) * 255).astype(np.uint8)
    small = decode(saved(board, "PNG"), ImageSpec(31, 31, "stretch"))
    assert abs(small.astype(int) - 127).max() <= 20


def test_wrong_specs():
    with pytest.raises(DistillError, match="none, stretch, crop"):
        ImageSpec(1, 1, "squash")
    with pytest.raises(DistillError, match="0x5"):
        ImageSpec(0, 5)


def test_encode_then_decode():
    assert abs(decode(encode_jpeg(FACE, 100)).astype(int) - FACE).max() <= 4
    assert encode_jpeg(FACE) == encode_jpeg(FACE)
    with pytest.raises(ValueError, match="float32"):
        encode_jpeg(FACE.astype(np.float32))


def test_other_threads_and_settings_do_not_matter():
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    encoded = [saved(FACE, kind) for kind in ("PNG", "BMP", "TIFF", "GIF", "PPM")] * 20
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(decode, encoded))
    assert all((pixels == decode(data)).all() for pixels, data in zip(got, encoded, strict=True))


def test_nothing_is_printed_about_damaged_files():
    code = """
from contextlib import suppress
from distill.images.codec import BadImage, decode
import test_codec as t
for kind in ("TIFF", "PNG", "GIF", "BMP"):
    data = t.saved(t.FACE[:9, :9], kind)
    for at in range(len(data)):
        with suppress(BadImage): decode(data[:at] + bytes([data[at] ^ 255]) + data[at + 1:])
with suppress(BadImage): decode(t.png(10_000, 10_000, 8, 2, bytes(1)))
"""
    assert run_beside_this_file(code) == ""


def run_beside_this_file(code) -> str:
    env = {**os.environ, "PYTHONPATH": os.path.dirname(__file__), "PYTHONWARNINGS": "always"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout + "".join(line for line in done.stderr.splitlines() if "Deprecat" not in line)


ORIGINALS = [*JPEGS.values(), *(saved(FACE[:20, :20], kind) for kind in ("PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000"))]


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.sampled_from(ORIGINALS), st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8), st.booleans())
def test_damaged_bytes_are_pixels_or_a_reject(data, changes, in_batch):
    damaged = bytearray(data)
    for place, value in changes:
        damaged[int(place * len(damaged))] = value
    if in_batch:
        pixels, bad = decode_batch([bytes(damaged)], ImageSpec(75, 61))
        assert pixels.shape == (1, 75, 61, 3) and (not bad or not pixels.any())
        return
    try:
        pixels = decode(bytes(damaged))
    except BadImage as error:
        assert str(error) and "\n" not in str(error) and " at 0x" not in str(error)
    else:
        assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0", b"RIFF", b"P6 "]), st.binary(max_size=200))
def test_any_bytes(start, rest):
    with suppress(BadImage):
        decode(start + rest)


# ---------------------------------------------------------------------------------------------------------------------------- read_bytes


@pytest.fixture
def root(tmp_path):
    inside = tmp_path / "root"
    (inside / "ann smith" / "日本").mkdir(parents=True)
    (inside / "ann smith" / "日本" / "ü 1.jpg").write_bytes(b"pixels")
    (inside / "empty.jpg").touch()
    (tmp_path / "secret.txt").write_text("secret")
    (inside / "out.jpg").symlink_to(tmp_path / "secret.txt")
    (inside / "up").symlink_to(tmp_path)
    (inside / "in.jpg").symlink_to("ann smith/日本/ü 1.jpg")
    (inside / "alias").symlink_to("ann smith")
    (inside / "gone.jpg").symlink_to("nothing")
    (inside / "self.jpg").symlink_to("self.jpg")
    os.mkfifo(inside / "pipe.jpg")
    return inside


def test_read_bytes(root):
    for key in ("ann smith/日本/ü 1.jpg", "in.jpg", "alias/日本/ü 1.jpg"):
        assert read_bytes(str(root), key) == b"pixels"
    linked = root.parent / "linked"
    linked.symlink_to(root)
    assert read_bytes(str(linked), "in.jpg") == b"pixels"


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("../secret.txt", "not a path below the root"),
        ("ann smith/../../secret.txt", "not a path below the root"),
        ("/etc/passwd", "not a path below the root"),
        ("", "not a path below the root"),
        ("a\0b", "not a path below the root"),
        ("out.jpg", "leads out of the root"),
        ("up/secret.txt", "leads out of the root"),
        ("up/root/empty.jpg", "the file is empty"),
        ("missing.jpg", "no such file"),
        ("empty.jpg/x.jpg", "no such file"),
        ("gone.jpg", "no such file"),
        ("self.jpg", "cannot be opened"),
        ("x" * 300, "cannot be opened"),
        ("empty.jpg", "the file is empty"),
        ("ann smith", "not a regular file"),
        ("pipe.jpg", "not a regular file"),
    ],
)
def test_read_bytes_refuses(root, key, why):
    with pytest.raises(BadImage, match=why) as caught:
        read_bytes(str(root), key)
    assert str(root) not in str(caught.value)


def test_too_large_a_file_is_not_read(root):
    with open(root / "huge.jpg", "wb") as file:
        file.truncate(images.MAX_BYTES + 1)
    with pytest.raises(BadImage, match="268,435,457 bytes"):
        read_bytes(str(root), "huge.jpg")


def test_a_missing_root_is_not_the_images_fault(tmp_path):
    with pytest.raises(DistillError, match="--root"):
        read_bytes(str(tmp_path / "unmounted"), "a.jpg")
