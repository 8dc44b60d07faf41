"""EXIF rotation: where it stands in an image file, and images turned by it."""

import io
import logging
import re
import warnings
from typing import Literal

import numpy as np

_PILLOW_SPEAKS = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
JPEG_HEAD, PNG_HEAD, EXIF_HEAD = b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"Exif\0\0"
Encoded = bytes | bytearray | memoryview


def orientation(data: Encoded) -> int:
    """Returns how an image is to be turned by its EXIF data, 1 (not at all) to 8. A usual JPEG takes 1 us. Of a TIFF it is 1: Pillow turns it.

    Source: Exif 2.32, tag 0x0112; JPEG (APP1), PNG (eXIf), WebP (EXIF) and AVIF (whose own turning Pillow gives as EXIF).
    """
    if data[:2] == JPEG_HEAD:
        exif = _exif_of_jpeg(data)
    elif data[:8] == PNG_HEAD:
        exif = _exif_of_png(data)
    elif data[:4] == b"RIFF":
        exif = _exif_of_webp(data)
    else:
        exif = _exif_of_avif(data) if data[4:8] == b"ftyp" else b""
    return _orientation_in(exif.removeprefix(EXIF_HEAD)) if exif else 1


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
        if data[at + 1] == 0xE1 and data[at + 4 : at + 10] == EXIF_HEAD:
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

    quiet_pillow()
    try:
        with Image.open(io.BytesIO(data), formats=("AVIF",)) as image:
            return bytes(image.info.get("exif", b""))
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


def quiet_pillow() -> None:
    """Pillow warns and logs of odd metadata; what matters is in the reason. (Of damaged LZW TIFFs libtiff itself writes to stderr.)"""
    if _PILLOW_SPEAKS not in warnings.filters:  # only ever inserted, so that it is safe in threads, which `catch_warnings` is not
        warnings.filters.insert(0, _PILLOW_SPEAKS)  # type: ignore[attr-defined]
        logging.getLogger("PIL").addHandler(logging.NullHandler())
