"""Bytes into pixels. The only place where that happens, so that teacher and student see equal pixels.

An image is uint8 RGB [height, width, 3], 0 to 255. On baseline, progressive, grey and any-subsampling JPEG and on 8-bit PNG the pixels
equal those of `skimage.io.imread` byte for byte. JPEG goes through simplejpeg, which releases the GIL; all else through Pillow. The mode
is read from the header, never guessed from the shape: grey is repeated, alpha dropped, palettes expanded, 16 bits keep the high byte,
CMYK is converted as Pillow does. Colour profiles are not applied, EXIF rotation where the spec says so (in a TIFF always, by Pillow itself).
Bytes behind the end of an image are allowed.

What cannot become such an image raises `BadImage`, whose text is the reason and depends on nothing but the bytes and the image spec
(no path, no address), so that ledgers of rejects are equal wherever they were written. Everything here may run in many threads.
"""

import io
import logging
import math
import os
import re
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from distill.errors import BadImage, Reason
from distill.images.spec import MAX_PIXELS, ImageSpec
from distill.storage.path import StoragePath, place

if TYPE_CHECKING:
    from PIL.Image import Image

_JPEG, _PNG, _EXIF = b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"Exif\0\0"
_REDUCED, _SUB_IMAGES, _DNG_VERSION = 254, 330, 50706  # TIFF tags
MAX_BYTES = 256 * 2**20
TILE = 2**22  # pixels that a tile may have in any image

# Formats whose decoders look at nothing but these bytes and whose first bytes say what they are. Left out on purpose: EPS and WMF, which
# Pillow hands to other programs, and TGA, which has no signature and would take a text file for an image.
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")
# What is met among photos and is not read: by the brand of an ISO file, and by the first bytes (where they stand, what they are).
_BRANDS = {
    "AVIF": (b"avif", b"avis"),
    "HEIC": (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"),
    "CR3, a raw file of a camera": (b"crx ",),
    "QuickTime video": (b"qt  ",),
    "MP4 video": (
        b"isom",
        b"iso2",
        b"iso4",
        b"iso5",
        b"iso6",
        b"mp41",
        b"mp42",
        b"avc1",
        b"dash",
        b"M4V ",
        b"f4v ",
        b"3gp4",
        b"3gp5",
        b"3gp6",
        b"3g2a",
        b"MSNV",
    ),
}
_SIGNATURES = (
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (0, b"II\xbc", "JPEG XR"),
    (0, b"8BPS", "PSD"),
    (0, b"%PDF-", "PDF"),
    (0, b"FUJIFILMCCD-RAW", "RAF, a raw file of a camera"),
    (0, b"IIU\0", "RW2, a raw file of a camera"),
    (0, b"IIRO", "ORF, a raw file of a camera"),
    (0, b"IIRS", "ORF, a raw file of a camera"),
    (0, b"MMOR", "ORF, a raw file of a camera"),
    (0, b"%!PS", "EPS"),
    (0, b"\xc5\xd0\xd3\xc6", "EPS"),
    (0, b"gimp xcf", "XCF"),
    (0, b"v/1\1", "OpenEXR"),
    (0, b"#?RADIANCE", "Radiance HDR"),
    (0, b"DDS ", "DDS"),
    (0, b"qoif", "QOI"),
    (0, b"\0\0\1\0", "ICO"),
    (0, b"icns", "ICNS"),
    (128, b"DICM", "DICOM"),
    (0, b"\x1a\x45\xdf\xa3", "Matroska or WebM video"),
    (8, b"AVI LIST", "AVI video"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"PK\3\4", "zip"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\0\5\x16\7", "AppleDouble, what macOS keeps beside a file"),
)
# The texts are libjpeg-turbo's, as simplejpeg 1.9 passes them on; it has no class or number for them.
# Stray bytes before the end marker are common in photos from the web, and every viewer shows such a photo whole.
_HARMLESS = re.compile(r"extraneous bytes before marker 0xd9")
_CUT = "Premature end of JPEG"
_PILLOW_SPEAKS = ("ignore", None, Warning, re.compile(r"PIL\."), 0)

Encoded = bytes | bytearray | memoryview
Item = TypeVar("Item")
Made = TypeVar("Made")


# How the reasons in a ledger of rejects begin, by their kind; any other one is "damaged". It holds the text alone, so that the kind is found from it.
# In memory a reason has its kind with it.
_KINDS = {
    "size": ("the image is ",),
    "missing": ("no such ",),
    "unreadable": ("the key is not", "a link in the path", "the file is a link", "the file cannot be opened", "not a regular file"),
    "empty": ("the file is empty", "the record holds no image"),
    "text": ("text, not an image",),
    "format": ("not an image in a known format", "a format that is not read"),
    "frames": ("more than one frame",),
    "large": ("over ", "the file has ", "the record has "),
    "depth": ("32-bit pixels",),
    "answer": ("the teacher's embedding",),
    "range": ("the embedding",),
}
_ADVICE = "; --resize stretch or crop changes sizes"


def reason_in_ledger(text: str) -> Reason:
    """Returns a reason that was read from a ledger of rejects, with its kind, such as "size" or "damaged", whatever numbers and names stand in it.

    >>> reason_in_ledger("the image is 50x50 (height x width), expected 32x32; --resize stretch or crop changes sizes").kind
    'size'
    """
    return Reason(text, next((kind for kind, starts in _KINDS.items() if text.startswith(starts)), "damaged"))


def plain(reason: str) -> str:
    """Returns a reason of a ledger of rejects without the options of `distill embed` that it ends with, for verbs that have others."""
    return reason.removesuffix(_ADVICE)


def decode(data: Encoded, spec: ImageSpec | None = None) -> np.ndarray:
    """Encoded bytes to uint8 [H, W, 3] RGB: of the image's own size without a spec, else of the spec's. Raises BadImage.

    More than one frame, over 64 megapixels in the header (seen before anything is allocated) and truncated bytes are BadImage.
    """
    if not len(data):
        raise BadImage("the file is empty", "empty")
    turn = orientation(data) if spec is not None and spec.exif == "apply" else 1
    pixels = _decode_jpeg(data, spec, turn) if data[:2] == _JPEG else None
    return _fit(turned(_decode_by_pillow(memoryview(data), spec, turn) if pixels is None else pixels, turn), spec)


def decode_batch(encoded: Sequence[Encoded], spec: ImageSpec, pool: ThreadPoolExecutor | None = None) -> tuple[np.ndarray, dict[int, Reason]]:
    """Encoded images to one uint8 [B, H, W, 3] array, and {row: reason} of those that could not be decoded, whose pixels are 0.

    With a pool its threads share the rows.
    """
    if pool is None:
        out = np.empty((len(encoded), spec.height, spec.width, 3), np.uint8)
        return out, _decode_rows(encoded, spec, out)
    # a task for each image spends a third of the time on handing over; four for each core still share evenly
    return start_decoding(encoded, spec, pool, 4 * (os.cpu_count() or 1))()


def start_decoding(encoded: Sequence[Encoded], spec: ImageSpec, pool: ThreadPoolExecutor, tasks: int) -> Callable[[], tuple[np.ndarray, dict[int, Reason]]]:
    """Starts what `decode_batch` does in at most so many tasks of a pool. Returns the function that waits for it and gives its result."""
    out = np.empty((len(encoded), spec.height, spec.width, 3), np.uint8)
    step = max(8, math.ceil(len(encoded) / tasks))
    starts = range(0, len(encoded), step)
    started = [pool.submit(_decode_rows, encoded[start : start + step], spec, out[start : start + step]) for start in starts]

    def wait() -> tuple[np.ndarray, dict[int, Reason]]:
        return out, {start + row: reason for start, task in zip(starts, started, strict=True) for row, reason in task.result().items()}

    return wait


def ahead(pool: ThreadPoolExecutor, function: Callable[[Item], Made], items: Iterable[Item], depth: int = 2) -> Iterator[Made]:
    """map(function, items) in order, with up to `depth` calls made ahead in the pool. An error comes where its item would have come."""
    made: deque[Future[Made]] = deque()
    try:
        for item in items:
            made.append(pool.submit(function, item))
            if len(made) > depth:
                yield made.popleft().result()
        while made:
            yield made.popleft().result()
    finally:
        for call in made:
            call.cancel()


def _decode_rows(encoded: Sequence[Encoded], spec: ImageSpec, out: np.ndarray) -> dict[int, Reason]:
    """As `decode`, each into its row of uint8 [n, H, W, 3]. The usual JPEG is decoded in place."""
    import simplejpeg

    bad, header, shape = dict[int, Reason](), b"", out.shape[1:]
    for row, data in enumerate(encoded):
        if not header or bytes(data[: len(header)]) != header:  # most images of a set begin with the same bytes
            header = _usual_header(data, spec)
        try:
            if header and simplejpeg.decode_jpeg(data, buffer=out[row], strict=True).shape == shape:
                continue
        except ValueError:
            pass  # another size or damaged: the careful way knows what to do, or the reason
        try:
            out[row] = decode(data, spec)
        except BadImage as error:
            out[row] = 0
            bad[row] = error.reason
    return bad


def _usual_header(data: Encoded, spec: ImageSpec) -> bytes:
    """How a JPEG begins, up to the number of its colours, where that is 1 or 3 and the image is not to be turned; else b"".

    It takes 1 us; simplejpeg's own look at a header takes 3 of the 140 for an image of 112x112.
    """
    at = 2 if data[:2] == _JPEG else len(data)
    while at + 9 < len(data) and data[at] == 0xFF:
        if 0xC0 <= data[at + 1] <= 0xCF and data[at + 1] not in (0xC4, 0xC8, 0xCC):
            usual = data[at + 9] in (1, 3) and (spec.exif != "apply" or orientation(data) == 1)
            return bytes(data[: at + 10]) if usual else b""
        at += 2 + (data[at + 2] << 8) + data[at + 3]
    return b""


def encode_jpeg(pixels: np.ndarray, quality: int = 95, sampling: str = "444") -> bytes:
    """uint8 [H, W, 3] RGB to the bytes of a baseline JPEG, exact DCT. quality: 1 to 100; sampling of colours: "444" or "420"."""
    import simplejpeg

    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"expected uint8 [height, width, 3], received {pixels.dtype} {list(pixels.shape)}")
    return simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=quality, colorspace="RGB", colorsubsampling=sampling, fastdct=False)


def write_png(path: str | os.PathLike[str] | StoragePath, pixels: np.ndarray, software: str) -> None:
    """uint8 [H, W, 3] RGB to a PNG file that names the software, whole or not at all."""
    from PIL import Image, PngImagePlugin

    from distill.storage.files import committed

    with committed(place(path)) as temporary:
        said = PngImagePlugin.PngInfo()
        said.add_text("Software", software)
        Image.fromarray(pixels).save(temporary, "PNG", pnginfo=said)


def _decode_jpeg(data: Encoded, spec: ImageSpec | None, turn: int) -> np.ndarray | None:
    """Pixels by simplejpeg; None where Pillow has to look (CMYK, odd subsamplings, broken headers)."""
    import simplejpeg

    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    if space not in ("YCbCr", "RGB", "Gray"):  # simplejpeg would convert CMYK too, but not as Pillow does
        return None
    _check_size(height, width, spec, turn)
    try:  # strict: libjpeg only warns of missing bytes and fills up with grey; strict found every one of 25,000 truncations
        return simplejpeg.decode_jpeg(data, strict=True)
    except ValueError as error:
        reason = str(error)
        if _HARMLESS.search(reason):
            return None
        raise BadImage(f"truncated: {reason}" if reason.startswith(_CUT) else f"damaged JPEG: {reason}") from error


def _decode_by_pillow(data: memoryview, spec: ImageSpec | None, turn: int) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    _hush_pillow()
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            _check_raw(data, image)
            _check_size(image.height, image.width, spec, turn)
            if image.format not in ("JPEG", "MPO") and getattr(image, "is_animated", False):  # behind a JPEG's end anything may follow
                raise BadImage(f"more than one frame in a {image.format} file", "frames")
            _check_end(data, image.format)
            _check_tiles(image)
            image.load()
            return _to_rgb(image)
    except (BadImage, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise _unknown(data) from error
    except Image.DecompressionBombError as error:
        raise BadImage(f"over {MAX_PIXELS // 10**6} megapixels", "large") from error
    except Exception as error:  # Pillow's decoders let any exception through for damaged bytes, and damaged bytes must end in a reject
        reason = re.sub(r"<[^>]* at 0x[0-9a-f]+>", "the file", str(error)) or type(error).__name__
        raise BadImage(f"cannot be decoded: {reason}") from error


def _hush_pillow() -> None:
    """Pillow warns and logs of odd metadata; what matters is in the reason. (Of damaged LZW TIFFs libtiff itself writes to stderr.)"""
    if _PILLOW_SPEAKS not in warnings.filters:  # only ever inserted, so that it is safe in threads, which `catch_warnings` is not
        warnings.filters.insert(0, _PILLOW_SPEAKS)  # type: ignore[attr-defined]
        logging.getLogger("PIL").addHandler(logging.NullHandler())


def _to_rgb(image: "Image") -> np.ndarray:
    """A loaded image to uint8 [H, W, 3] by its mode."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):  # Pillow scales a 16-bit PPM to 0..65535
        high = (np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)
        return np.repeat(high[:, :, None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise BadImage(f"32-bit pixels (mode {image.mode}), whose range the file does not tell; 8 or 16 bits a channel are expected", "depth")
    image.info.pop("transparency", None)  # alpha is dropped, in a palette too
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _check_end(data: memoryview, kind: str | None) -> None:
    """Truncated bytes that Pillow takes: it shows a PNG without its last chunk, and a JPEG 2000 that ends before its first tile."""
    if kind == "JPEG2000" and b"\xff\xd9" not in bytes(data):  # the end marker, which cannot occur inside the code stream
        raise BadImage("truncated: the end of the image is missing")
    at = 8
    while kind == "PNG":  # each chunk: length, name, so many bytes, checksum; some hundred chunks in a large file
        name, at = data[at + 4 : at + 8], at + 12 + int.from_bytes(data[at : at + 4])
        if at > len(data):
            raise BadImage("truncated: the end of the image is missing")
        if name == b"IEND":
            return


def _check_tiles(image: "Image") -> None:
    """A small TIFF may claim tiles of any size, for which libtiff would take memory."""
    tags = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    width, height = tags.get(322, 0), tags.get(323, 0)
    if not (isinstance(width, int) and isinstance(height, int)) or width * height > max(image.width * image.height, TILE):
        raise BadImage(f"the header says tiles of {height}x{width} pixels in an image of {image.height}x{image.width}")


def _check_raw(data: memoryview, image: "Image") -> None:
    """Cameras wrap what they saw in a TIFF whose first image is a thumbnail, which Pillow would take for all of it."""
    tags: Any = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    if _DNG_VERSION in tags:
        raise BadImage("a format that is not read: DNG, a raw file of a camera", "format")
    if tags and (data[8:11] == b"CR\2" or (_SUB_IMAGES in tags and tags.get(_REDUCED, 0) == 1)):
        raise BadImage("a format that is not read: a raw file of a camera", "format")


def _check_size(height: int, width: int, spec: ImageSpec | None, turn: int) -> None:
    """height, width: as the header says them; turn: the orientation by which they are still to be turned."""
    if height < 1 or width < 1:
        raise BadImage(f"the header says {height}x{width} pixels")
    if height * width > MAX_PIXELS:
        raise BadImage(f"over {MAX_PIXELS // 10**6} megapixels: the header says {height}x{width}", "large")
    if turn > 4:
        height, width = width, height
    if spec is not None and spec.resize == "none" and (height, width) != (spec.height, spec.width):
        raise BadImage(f"the image is {height}x{width} (height x width), expected {spec.height}x{spec.width}{_ADVICE}", "size")


def _fit(pixels: np.ndarray, spec: ImageSpec | None) -> np.ndarray:
    if spec is None or pixels.shape[:2] == (spec.height, spec.width):
        return pixels
    from PIL import Image

    if spec.resize == "crop":
        pixels = _centre(pixels, spec)
    resized = Image.fromarray(np.ascontiguousarray(pixels)).resize((spec.width, spec.height), Image.Resampling.BILINEAR)
    return np.array(resized)


def _centre(pixels: np.ndarray, spec: ImageSpec) -> np.ndarray:
    """The largest centred part with the spec's proportions; where pixels do not halve, the odd one stays right or below."""
    height, width = pixels.shape[:2]
    keep_height = min(height, max(1, round(width * spec.height / spec.width)))
    keep_width = min(width, max(1, round(height * spec.width / spec.height)))
    top, left = (height - keep_height) // 2, (width - keep_width) // 2
    return pixels[top : top + keep_height, left : left + keep_width]


def _unknown(data: memoryview) -> BadImage:
    """Why nobody knows these bytes, in words that a person can act on."""
    if name := _named(bytes(data[:1024])):
        return BadImage(f"a format that is not read: {name}", "format")
    start = bytes(data[:24])
    try:
        text = start.decode("ascii")
    except UnicodeDecodeError:
        text = ""
    if text and all(letter.isprintable() or letter in "\r\n\t" for letter in text):
        return BadImage(f"text, not an image: it begins {text!r}", "text")
    return BadImage(f"not an image in a known format: it begins with the bytes {start[:8].hex(' ')}", "format")


def _named(start: bytes) -> str:
    """The name of a format that is not read, by its first bytes; "" where they say nothing."""
    if start[4:8] == b"ftyp":
        brands = [start[8:12], *(start[at : at + 4] for at in range(16, min(int.from_bytes(start[:4]), len(start)), 4))]
        return next((name for name, known in _BRANDS.items() if any(brand in known for brand in brands)), "")
    if start.lstrip(b"\xef\xbb\xbf \r\n\t").startswith((b"<svg", b"<?xml", b"<!DOCTYPE svg")) and b"<svg" in start:
        return "SVG"
    return next((name for at, mark, name in _SIGNATURES if start[at : at + len(mark)] == mark), "")


# ------------------------------------------------------------------------------------------------------------------------ EXIF rotation


def orientation(data: Encoded) -> int:
    """Returns how an image is to be turned by its EXIF data, 1 (not at all) to 8. A usual JPEG takes 1 us. Of a TIFF it is 1: Pillow turns it.

    Source: Exif 2.32, tag 0x0112; JPEG (APP1), PNG (eXIf), WebP (EXIF) and AVIF (whose own turning Pillow gives as EXIF).
    """
    if data[:2] == _JPEG:
        exif = _exif_of_jpeg(data)
    elif data[:8] == _PNG:
        exif = _exif_of_png(data)
    elif data[:4] == b"RIFF":
        exif = _exif_of_webp(data)
    else:
        exif = _exif_of_avif(data) if data[4:8] == b"ftyp" else b""
    return _orientation_in(exif.removeprefix(_EXIF)) if exif else 1


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Returns an image [H, W, 3] turned upright by its EXIF orientation, 1 to 8; 5 to 8 exchange height and width.

    >>> turned(np.array([[[1], [2]]]), 6).tolist()  # the first row becomes the last column
    [[[1]], [[2]]]
    """
    if orientation > 4:
        pixels = pixels.transpose(1, 0, 2)
    upside_down, mirrored = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return np.ascontiguousarray(pixels[:: -1 if upside_down else 1, :: -1 if mirrored else 1])


def _exif_of_jpeg(data: Encoded) -> bytes:
    """What stands in the first segments, before any that makes pixels."""
    at = 2
    while at + 4 < len(data) and data[at] == 0xFF and (0xE0 <= data[at + 1] <= 0xEF or data[at + 1] == 0xFE):
        size = (data[at + 2] << 8) + data[at + 3]
        if data[at + 1] == 0xE1 and data[at + 4 : at + 10] == _EXIF:
            return bytes(data[at + 4 : at + 2 + size])
        at += 2 + size
    return b""


def _exif_of_png(data: Encoded) -> bytes:
    at = 8
    while at + 8 <= len(data) and (name := data[at + 4 : at + 8]) != b"IEND":
        size = int.from_bytes(data[at : at + 4])
        if name == b"eXIf":
            return bytes(data[at + 8 : at + 8 + size])
        at += 12 + size
    return b""


def _exif_of_webp(data: Encoded) -> bytes:
    at = 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == b"EXIF":
            return bytes(data[at + 8 : at + 8 + size])
        at += 8 + size + size % 2
    return b""


def _exif_of_avif(data: Encoded) -> bytes:
    from PIL import Image

    _hush_pillow()
    try:
        with Image.open(io.BytesIO(data), formats=("AVIF",)) as image:
            return image.info.get("exif", b"")
    except Exception:  # decoding it will say what is wrong
        return b""


def _orientation_in(exif: bytes) -> int:
    """The orientation in EXIF data, which is a TIFF without pixels; 1 where it says none or nonsense."""
    order: Literal["little", "big"] = "little" if exif[:2] == b"II" else "big"
    at = int.from_bytes(exif[4:8], order)
    for entry in range(at + 2, at + 2 + 12 * int.from_bytes(exif[at : at + 2], order), 12):
        if entry + 12 > len(exif):
            return 1
        if int.from_bytes(exif[entry : entry + 2], order) == 0x0112:
            value = int.from_bytes(exif[entry + 8 : entry + (12 if exif[entry + 2 : entry + 4] in (b"\4\0", b"\0\4") else 10)], order)
            return value if 1 <= value <= 8 else 1
    return 1
