"""What bytes are that are no image which is read: by the brand of an ISO file, or by the first bytes."""

from distill.errors import BadImage

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


def unknown_image(data: memoryview) -> BadImage:
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
