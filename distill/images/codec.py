"""Bytes into pixels. The only place where that happens, so that teacher and student see equal pixels.

An image is uint8 RGB [height, width, 3], 0 to 255. On baseline, progressive, grey and any-subsampling JPEG and on 8-bit PNG the pixels
equal those of `skimage.io.imread` byte for byte. JPEG goes through simplejpeg, which releases the GIL; all else through Pillow. The mode
is read from the header, never guessed from the shape: grey is repeated, alpha dropped, palettes expanded, 16 bits keep the high byte,
CMYK is converted as Pillow does. Colour profiles are not applied, EXIF rotation where the spec says so (in a TIFF always, by Pillow itself).
Bytes behind the end of an image are allowed.

What cannot become such an image raises `BadImage`, whose text is the reason and depends on nothing but the bytes and the image spec
(no path, no address), so that reject logs are equal wherever they were written. Everything here may run in many threads.
"""

import io
import math
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from distill.errors import BadImage, Reason
from distill.images.exif import JPEG_HEAD, Encoded, orientation, quiet_pillow, turned
from distill.images.foreign import unknown_image
from distill.images.reasons import SIZE_ADVICE
from distill.images.spec import MAX_PIXELS, ImageSpec
from distill.storage.path import StoragePath, as_path

if TYPE_CHECKING:
    from PIL.Image import Image

_REDUCED, _SUB_IMAGES, _DNG_VERSION = 254, 330, 50706  # TIFF tags
MAX_BYTES = 256 * 2**20
TILE = 2**22  # pixels that a tile may have in any image

# Formats whose decoders look at nothing but these bytes and whose first bytes say what they are. Left out on purpose: EPS and WMF, which
# Pillow hands to other programs, and TGA, which has no signature and would take a text file for an image.
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")
# The texts are libjpeg-turbo's, as simplejpeg 1.9 passes them on; it has no class or number for them.
# Stray bytes before the end marker are common in photos from the web, and every viewer shows such a photo whole.
_HARMLESS = re.compile(r"extraneous bytes before marker 0xd9")
_CUT = "Premature end of JPEG"

Item = TypeVar("Item")
Made = TypeVar("Made")


def decode(data: Encoded, spec: ImageSpec | None = None) -> np.ndarray:
    """Encoded bytes to uint8 [H, W, 3] RGB: of the image's own size without a spec, else of the spec's. Raises BadImage.

    More than one frame, over 64 megapixels in the header (seen before anything is allocated) and truncated bytes are BadImage.
    """
    if not len(data):
        raise BadImage("the file is empty", "empty")
    turn = orientation(data) if spec is not None and spec.exif == "apply" else 1
    pixels = _decode_jpeg(data, spec, turn) if data[:2] == JPEG_HEAD else None
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
    at = 2 if data[:2] == JPEG_HEAD else len(data)
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
    encoded: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=quality, colorspace="RGB", colorsubsampling=sampling, fastdct=False)
    return encoded


def write_png(path: str | os.PathLike[str] | StoragePath, pixels: np.ndarray, software: str) -> None:
    """uint8 [H, W, 3] RGB to a PNG file that names the software, whole or not at all."""
    from PIL import Image, PngImagePlugin

    from distill.storage.files import committed

    with committed(as_path(path)) as temporary:
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
        decoded: np.ndarray = simplejpeg.decode_jpeg(data, strict=True)
        return decoded
    except ValueError as error:
        reason = str(error)
        if _HARMLESS.search(reason):
            return None
        raise BadImage(f"truncated: {reason}" if reason.startswith(_CUT) else f"damaged JPEG: {reason}") from error


def _decode_by_pillow(data: memoryview, spec: ImageSpec | None, turn: int) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    quiet_pillow()
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
        raise unknown_image(data) from error
    except Image.DecompressionBombError as error:
        raise BadImage(f"over {MAX_PIXELS // 10**6} megapixels", "large") from error
    except Exception as error:  # Pillow's decoders let any exception through for damaged bytes, and damaged bytes must end in a reject
        reason = re.sub(r"<[^>]* at 0x[0-9a-f]+>", "the file", str(error)) or type(error).__name__
        raise BadImage(f"cannot be decoded: {reason}") from error


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
        if bytes(name) == b"IEND":
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
    if tags and (bytes(data[8:11]) == b"CR\2" or (_SUB_IMAGES in tags and tags.get(_REDUCED, 0) == 1)):
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
        raise BadImage(f"the image is {height}x{width} (height x width), expected {spec.height}x{spec.width}{SIZE_ADVICE}", "size")


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
