"""Damaged and hostile files end in one clear message: no crash of the process, no hang, no memory for what a header claims, no path outside.

Bytes are damaged in a child process with a limit on its memory and an alarm, so that a crash is a failed test that names the seed and not
the end of pytest. One example again: `python -m tests.test_fuzz KIND FOLDER SEED NUMBER 1`.
"""

import dataclasses
import io
import json
import os
import resource
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, features

from distill import DistillError
from distill.data.chunks import list_chunks, read_chunk, read_classes, write_chunks
from distill.data.kinds import is_chunk_folder
from distill.data.layout import PLAIN, UNDERSCORE, Layout, layout_in
from distill.data.lists.image_list import open_list
from distill.data.shards import FORMATS, Record, commit_shard, find_record, hdf5, open_shards, write_index
from distill.data.shards.rows import regrouped
from distill.data.shards.verify import verify
from distill.images.augmentation import RECIPES
from distill.images.codec import BadImage, decode
from distill.images.spec import ImageSpec
from distill.inspection.describe import describe
from tests.builders import meta, rows

ROOT = Path(__file__).parent.parent
SEED = 7
SECONDS = 20  # for one example; the slowest that must work, 64 megapixels, takes 2
MIB = 2**20

Read = Callable[[Path], object]
Made = tuple[list[Path], Read]  # the files that may be damaged, and what reads one of them


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """One to four of: a flipped bit, another byte, a cut, bytes put in or taken out, two blocks swapped, a number made huge or 0.

    A third of the places each lie anywhere, in the last 2,500 bytes (a footer) and in the first 4,000 (headers).
    """
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        size = len(out)
        if size < 50:
            break
        at = int([rng.integers(size), size - 1 - rng.integers(min(size, 2500)), rng.integers(min(size, 4000))][rng.integers(3)])
        length = int(rng.integers(1, 40))
        match int(rng.integers(8)):
            case 0:
                out[at] ^= 1 << int(rng.integers(8))
            case 1:
                out[at] = int(rng.integers(256))
            case 2:
                del out[at:]
            case 3:
                out[at:at] = rng.bytes(length)
            case 4:
                del out[at : at + length]
            case 5:
                other, length = int(rng.integers(size - length)), min(length, size - at)
                out[at : at + length], out[other : other + length] = out[other : other + length], out[at : at + length]
            case 6:
                out[at : at + 4] = [b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\0\0\0\0"][rng.integers(4)]
            case 7:
                out[at : at + 8] = [b"\xff" * 8, b"\xff" * 7 + b"\x7f", b"\0" * 8, struct.pack("<q", 10**9)][rng.integers(4)]
    return bytes(out)


# ----------------------------------------------------------------------------------------------------- what is damaged, and how it is read


def shards_of(format: str) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        inline, by_path = folder / "inline", folder / "path"
        FORMATS[format].write(inline, meta(), regrouped([rows(30)]))
        FORMATS[format].write(by_path, meta(images="path", dtype="float32"), regrouped([rows(5, dtype="float32", inline=False)]))
        viewed, about = folder / "views", meta(views=3, recipe=RECIPES["photo"], view_seed=7, dtype="int8")
        FORMATS[format].write(viewed, about, regrouped([rows(20, dimension=9, dtype="float32")]))
        return [inline, by_path, viewed], lambda path: read_shard(format, path)

    return make


def read_shard(format: str, path: Path) -> None:
    shards = FORMATS[format]
    said = shards.read_meta(path)
    shards.group_rows(path)
    assert sum(len(group) for group in shards.read(path)) == said.rows


def make_out(folder: Path, format: str, finished: bool = True, views: int = 1, layout: Layout = UNDERSCORE) -> Path:
    """What `distill embed` leaves: plan, two chunks, shards. Row 3 of each chunk is a reject."""
    from distill.data.shards.plan import Plan

    out = folder / f"{'finished' if finished else 'unfinished'}{views if views > 1 else ''}{'plain' if layout is PLAIN else ''}-{format}"
    about = meta(of=2, views=views, recipe=RECIPES["photo" if views > 1 else "none"])
    out.mkdir(parents=True)
    (folder / "list.txt").write_text("".join(f"{key}\t{label + 1}\n" for key, label in zip(rows(60).keys, rows(60).labels, strict=True)))
    cut = [read_chunk(path) for path in write_chunks(folder / "list.txt", out / "chunks", 30).chunks]
    (out / "shards").mkdir()
    records = []
    for chunk in cut:
        part, bad = rows(30, 30 * chunk.number, dimension=3 * views), {"key": chunk.keys[3], "reason": "the file is empty", "sha256": None}
        fine = [row for row in range(30) if row != 3]
        kept = dataclasses.replace(
            part,
            keys=[part.keys[row] for row in fine],
            labels=part.labels[fine] + 1,
            embeddings=part.embeddings[fine],
            images=[part.images[row] for row in fine],
        )
        records.append(
            commit_shard(out / "shards", format, dataclasses.replace(about, chunk=chunk.number, chunk_sha256=chunk.sha256), [kept], [bad], layout=layout)
        )
    if finished:
        write_index(out / "shards", format, records, read_classes(out / "chunks"), layout=layout)
    asked = {"source": str(folder / "list.txt"), "source_sha256": "", "chunk_rows": 30, "rows": 60, "classes": 5, "batch": 8, "skipped": {}}
    Plan(**asked, chunks=tuple(chunk.sha256 for chunk in cut), meta=about, format=format, layout=layout.name).save(out / "plan.json")
    return out


def sets(folder: Path) -> Made:
    outs = [*(make_out(folder, format) for format in FORMATS), make_out(folder, "parquet", finished=False), make_out(folder, "parquet", views=2, layout=PLAIN)]
    return [path for out in outs for path in sorted(out.rglob("*")) if path.is_file()], lambda path: read_out(out_of(path, outs))


def out_of(path: Path, outs: list[Path]) -> Path:
    return next(out for out in outs if path.is_relative_to(out))


def read_out(out: Path) -> None:
    """All that reads a set: each reader may refuse, and the next one is asked."""
    from distill.data.shards.plan import Plan

    def resumed() -> None:
        plan = Plan.load(out / "plan.json")
        for number in range(min(len(plan.chunks), 3)):
            plan.find_record(out / "shards", number)

    for read in (
        lambda: verify(out),
        lambda: verify(out, deep=True),
        resumed,
        lambda: describe(out, dict),
        lambda: describe(out / "chunks", dict),
        lambda: [find_record(out / "shards", out.name.partition("-")[2], meta(chunk=number, of=2), layout_in(out / "shards")) for number in range(2)],
    ):
        one_message(read)


def chunk_sets(folder: Path) -> Made:
    (folder / "list.txt").write_text("".join(f"id {number}/{number}.jpg\t{number % 7}\n" for number in range(50)))
    made = write_chunks(folder / "list.txt", folder / "chunks", 30)
    (folder / "plain.txt").write_text("".join(f"{number}.jpg\n" for number in range(5)))
    plain = write_chunks(folder / "plain.txt", folder / "plain")

    def read(path: Path) -> None:
        one_message(lambda: read_chunk(path))
        for one in (is_chunk_folder, list_chunks, read_classes):
            one_message(lambda one=one: one(path.parent))

    return [*made.chunks, *plain.chunks], read


def lists(folder: Path) -> Made:
    texts = {
        "labels": "".join(f"id {number // 3}/写 {number}.jpg\t{number // 3}\n" for number in range(200)),
        "names": "\ufeff" + "".join(f"a/{number}.jpg\tclass {number % 9}\r\n" for number in range(50)),
        "plain": "".join(f"{number}.jpg\n" for number in range(50)),
    }
    paths = [folder / name for name in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        path.write_bytes(text.encode())

    def read(path: Path) -> None:
        images = open_list(path)
        keys = [key for part, _ in images.batches(20) for key in part]
        assert len(keys) == images.rows
        assert not any(key.startswith("/") or ".." in key.split("/") or "\0" in key for key in keys)

    return paths, read


def pictures(folder: Path) -> Made:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 3), np.uint8)
    pixels[4:20, 4:16] //= 8
    image, kinds = Image.fromarray(pixels), ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000"]
    encoded = {kind: saved(image, kind) for kind in kinds + ["AVIF"] * features.check("avif")}
    encoded |= {
        "progressive": saved(image, "JPEG", progressive=True),
        "cmyk": saved(image.convert("CMYK"), "JPEG"),
        "palette": saved(image.quantize(9), "PNG"),
        "lzw": saved(image, "TIFF", compression="tiff_lzw"),
        "deflate": saved(image, "TIFF", compression="tiff_deflate"),
        "packbits": saved(image, "TIFF", compression="packbits"),
        "jpeg in tiff": saved(image, "TIFF", compression="jpeg"),
        "lossless": saved(image, "WEBP", lossless=True),
        "16 bits": saved(Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 256), "PNG"),
        "grey": saved(image.convert("L"), "BMP"),
    }
    for name, data in encoded.items():
        (folder / name).write_bytes(data)

    def read(path: Path) -> None:
        data = path.read_bytes()
        for spec in (ImageSpec(24, 20), ImageSpec(8, 8, "crop"), ImageSpec(5, 9, "stretch")):
            try:
                pixels = decode(data, spec)
            except BadImage as reason:
                assert str(reason) and "\n" not in str(reason) and str(folder) not in str(reason)
            else:
                assert pixels.shape == (spec.height, spec.width, 3) and pixels.dtype == np.uint8

    return [folder / name for name in encoded], read


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


# name: (what makes the files, MiB of memory beyond what the process has at the start, examples by default)
KINDS: dict[str, tuple[Callable[[Path], Made], int, int]] = {
    "parquet": (shards_of("parquet"), 512, 600),
    "hdf5": (shards_of("hdf5"), 512, 200),
    "sets": (sets, 512, 60),
    "chunks": (chunk_sets, 512, 200),
    "lists": (lists, 1024, 300),  # a label of 9,999,999 is a class table of ten million names
    "pictures": (pictures, 1536, 500),  # 64 megapixels of 16 bits, and their 8 bits
}


def one_message(read: Callable[[], object]) -> None:
    """What a reader raises is one message for a person, and it did not run out of memory on the way."""
    try:
        read()
    except (DistillError, BadImage) as error:
        assert str(error) and "\n" not in str(error)
        assert not isinstance(error.__cause__, MemoryError), error


def damage(kind: str, folder: Path, seed: int, first: int, number: int) -> None:
    """In the child: so many examples, each on one file, which is put back afterwards. Says which one is under way."""
    make, room, _ = KINDS[kind]
    folder.mkdir(parents=True, exist_ok=True)
    files, read = make(folder)
    for path in files:
        read(path)  # undamaged, so that everything is imported before memory is limited
    limit_memory(room)
    for example in range(first, first + number):
        os.write(1, b"%d\n" % example)
        rng = np.random.default_rng([seed, example])
        path = files[rng.integers(len(files))]
        good = path.read_bytes()
        path.write_bytes(damaged(good, rng))
        hdf5._checked.cache_clear()  # it knows a file by its size and time, and here a file changes twice within a tick of some clocks
        signal.alarm(SECONDS)
        one_message(lambda path=path: read(path))
        signal.alarm(0)
        path.write_bytes(good)


def limit_memory(room: int) -> None:
    used = int(Path("/proc/self/status").read_text().split("VmSize:")[1].split()[0]) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (used + room * MIB,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def in_child(*words: object, timeout: float = 120) -> tuple[int, str, str]:
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.test_fuzz", *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout)
    return done.returncode, done.stdout, done.stderr


def survives(kind: str, folder: Path, number: int) -> None:
    code, out, told = in_child(kind, folder, SEED, 0, number, timeout=60 + number / 5)
    example = (out.split() or ["none"])[-1]
    how = f"was ended by signal {signal.Signals(-code).name}" if code < 0 else "went wrong"
    assert code == 0, f"example {example} of {kind}, seed {SEED}, {how}:\n{told[-3000:]}"


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_one_message(kind, tmp_path):
    survives(kind, tmp_path / "files", KINDS[kind][2])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_damaged_files_are_one_message(kind, tmp_path):
    survives(kind, tmp_path / "files", 40 * KINDS[kind][2])


# -------------------------------------------------------------------------------------------------------------- numbers that cannot be


def varint(number: int) -> bytes:
    """A signed number as Parquet's footer has it (thrift's compact protocol)."""
    number, out = number << 1, bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes(out) + bytes([number])


def claims(data: bytes, there: int, claimed: int) -> Iterator[bytes]:
    """A Parquet file whose footer says `claimed` rows where it says `there`: at one place after another, and at all of them."""
    start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    body, footer = data[:start], data[start:-8]
    parts = footer.split(varint(there))
    assert len(parts) > 3  # the file's rows, those of its row group, and the values of its columns

    def with_claims(places: set[int]) -> bytes:
        made = parts[0] + b"".join(varint(claimed if place in places else there) + part for place, part in enumerate(parts[1:]))
        return body + made + len(made).to_bytes(4, "little") + b"PAR1"

    yield from (with_claims({place}) for place in range(len(parts) - 1))
    yield with_claims(set(range(len(parts) - 1)))


def claims_of_parquet(folder: Path) -> None:
    """Run in the child."""
    shard, listed = folder / "shard", folder / "list.txt"
    done = FORMATS["parquet"].write(shard, meta(), [rows(777)])
    good = shard.read_bytes()
    same_size = good.replace(b'"rows": 777', b'"rows": 9e8').replace(done.to_json().encode(), done.to_json().encode())
    for claimed in (10**9, 2**31 - 1, 2**40):
        for data in claims(good, 777, claimed):
            shard.write_bytes(data)
            yield_to(lambda: read_shard("parquet", shard), f"{claimed} rows of a shard")
        said = dataclasses.replace(done, rows=claimed).to_json().encode()
        FORMATS["parquet"].write(shard, meta(), [rows(777)])
        rewritten = pq.read_table(shard).replace_schema_metadata()
        with pq.ParquetWriter(shard, rewritten.schema, use_dictionary=False, compression="none") as writer:
            writer.write_table(rewritten)
            writer.add_key_value_metadata({"distill": said.decode()})
        *_, everywhere = claims(shard.read_bytes(), 777, claimed)
        shard.write_bytes(everywhere)
        yield_to(lambda: read_shard("parquet", shard), f"{claimed} rows of a shard and its metadata", must_fail=True)
    shard.write_bytes(same_size)
    yield_to(lambda: read_shard("parquet", shard), "a fraction of rows", must_fail=True)
    listed.write_text("".join(f"{row}.jpg\n" for row in range(777)))
    chunk = write_chunks(listed, folder / "chunks").chunks[0]
    good = chunk.read_bytes()
    for claimed in (10**9, 2**31 - 1, 2**40):
        for data in claims(good, 777, claimed):
            chunk.write_bytes(data)
            yield_to(lambda: read_chunk(chunk), f"{claimed} rows of a chunk")


def yield_to(read: Callable[[], object], what: str, must_fail: bool = False) -> None:
    """One message, or the right rows, within a second and 64 MiB."""
    before, started = peak(), time.perf_counter()
    try:
        read()
    except DistillError as error:
        assert "\n" not in str(error) and not isinstance(error.__cause__, MemoryError), f"{what}: {error!r} {error.__cause__!r}"
    else:
        assert not must_fail, what
    assert peak() - before < 64 * 1024 and time.perf_counter() - started < 5, f"{what}: {peak() - before} KiB"


def peak() -> int:
    """KiB that this process has ever had in memory."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])


def claims_of_hdf5(folder: Path) -> None:
    """Run in the child. Files of some KB that say they hold 10^9 rows, or rows that lie elsewhere."""
    many = 10**9
    secret = folder / "secret"
    secret.write_bytes(b"secret" * 1000)
    for number, break_it in enumerate(
        (
            lambda file: grow(file, many),  # no chunk of it is there: HDF5 would read zeros
            lambda file: grow(file, 0, keys=10**12),
            lambda file: grow(file, 0, width=2**33),
            lambda file: replace(file, "label", np.zeros(30, np.int32), compression="gzip", chunks=(30,)),
            lambda file: replace(file, "label", np.zeros(30, np.int32)),
            lambda file: replace(file, "label", np.zeros(30, np.int64), chunks=(30,), fletcher32=True),
            lambda file: external(file, secret),
            lambda file: linked(file, h5py.ExternalLink(str(secret), "/key")),
            lambda file: linked(file, h5py.SoftLink("/image")),
            lambda file: virtual(file, secret),
        )
    ):
        path = folder / f"{number}.h5"
        FORMATS["hdf5"].write(path, meta(), [rows(30)])
        with h5py.File(path, "r+") as file:
            break_it(file)
        yield_to(lambda path=path: read_shard("hdf5", path), f"case {number}", must_fail=True)


def grow(file: h5py.File, many: int, keys: int = 0, width: int = 0) -> None:
    said = json.loads(file.attrs["distill"])
    if many:
        for name, more in (("label", 0), ("embedding", 0), ("key_offsets", 1), ("image_offsets", 1)):
            file[name].resize(many + more, axis=0)
    if keys:
        file["key"].resize(keys, axis=0)
        file["key_offsets"][-1] = keys
    if width:
        del file["embedding"]
        file.create_dataset("embedding", (30, width), "float16", maxshape=(None, width), chunks=(1, 2**16), fletcher32=True)
    file.attrs["distill"] = np.bytes_(json.dumps({**said, "rows": many or 30, "dimension": width or 3}))


def replace(file: h5py.File, name: str, values: np.ndarray, **options: object) -> None:
    del file[name]
    file.create_dataset(name, data=values, **options)


def external(file: h5py.File, secret: Path) -> None:
    size = file["key"].shape[0]
    del file["key"]
    file.create_dataset("key", (size,), np.uint8, external=[(str(secret), 0, size)])


def linked(file: h5py.File, link: h5py.ExternalLink | h5py.SoftLink) -> None:
    del file["key"]
    file["key"] = link


def virtual(file: h5py.File, secret: Path) -> None:
    size = file["key"].shape[0]
    del file["key"]
    layout = h5py.VirtualLayout((size,), np.uint8)
    layout[:] = h5py.VirtualSource(str(secret), "key", (size,))
    file.create_virtual_dataset("key", layout)


def huge_pictures(folder: Path) -> None:
    """Run in the child. Every format whose header can say it: 60,000 x 60,000 pixels."""
    side, image = 60_000, Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 20, 3), np.uint8))
    big, little, old = struct.pack(">I", side), struct.pack("<I", side), {"height": 24, "width": 20}
    bmp, j2k, jpeg, cmyk = (bytearray(saved(*one)) for one in ((image, "BMP"), (image, "JPEG2000"), (image, "JPEG"), (image.convert("CMYK"), "JPEG")))
    bmp[18:26] = little * 2
    at = j2k.index(b"ihdr") + 4
    j2k[at : at + 8] = big * 2
    at = j2k.index(b"\xff\x51") + 6
    j2k[at : at + 8] = big * 2
    for data in (jpeg, cmyk):
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">HH", side, side)
    tiffs = [huge_tiff(saved(image, "TIFF", **options)) for options in ({}, {"compression": "tiff_lzw"}, {"compression": "tiff_deflate"})]
    webp = bytearray(saved(image, "WEBP"))
    at = webp.index(b"\x9d\x01\x2a") + 3
    webp[at : at + 4] = struct.pack("<HH", 16383, 16383)
    vp8x = b"VP8X" + struct.pack("<I", 10) + b"\0" * 4 + little[:3] * 2
    extended = b"RIFF" + struct.pack("<I", 4 + len(vp8x) + len(webp) - 12) + b"WEBP" + vp8x + bytes(webp[12:])
    texts = [b"P6 60000 60000 255\n" + bytes(60), b"P5 60000 60000 65535\n" + bytes(60)]
    avif = []
    if features.check("avif"):
        avif = [bytearray(saved(image, "AVIF"))]
        at = avif[0].index(b"ispe") + 8
        avif[0][at : at + 8] = big * 2
    tiled = [huge_tile(saved(image, "TIFF", compression=how)) for how in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg")]
    for number, data in enumerate([bmp, j2k, jpeg, cmyk, *tiffs, webp, extended, *texts, *avif, *tiled]):
        for spec in (None, ImageSpec(old["height"], old["width"]), ImageSpec(4, 4, "stretch"), ImageSpec(4, 4, "crop")):
            before = peak()
            try:
                decode(bytes(data), spec)
            except BadImage as reason:
                assert "\n" not in str(reason), number
            else:
                raise AssertionError(f"picture {number} was decoded with {spec}")
            assert peak() - before < 64 * 1024, f"picture {number}, {spec}: {peak() - before} KiB"


def huge_tiff(data: bytes) -> bytes:
    """With 60,000 in the tags for width (256), height (257) and rows of a strip (278)."""
    out = bytearray(data)
    at = int.from_bytes(data[4:8], "little")
    for entry in range(at + 2, at + 2 + 12 * int.from_bytes(data[at : at + 2], "little"), 12):
        if int.from_bytes(data[entry : entry + 2], "little") in (256, 257, 278):
            out[entry + 2 : entry + 12] = struct.pack("<HII", 4, 1, 60_000)
    return bytes(out)


def huge_tile(data: bytes) -> bytes:
    """A small picture in one tile of 12,000 x 12,000: offsets (273), bytes (279), rows (278) and planes (284) of strips become those of tiles."""
    out, entries = bytearray(data), []
    at = int.from_bytes(data[4:8], "little")
    number = int.from_bytes(data[at : at + 2], "little")
    for entry in range(at + 2, at + 2 + 12 * number, 12):
        tag, value = int.from_bytes(data[entry : entry + 2], "little"), data[entry + 2 : entry + 12]
        side = struct.pack("<HII", 4, 1, 12_000)
        entries.append({273: (324, value), 279: (325, value), 278: (322, side), 284: (323, side)}.get(tag, (tag, value)))
    out[at + 2 : at + 2 + 12 * number] = b"".join(struct.pack("<H", tag) + value for tag, value in sorted(entries))
    return bytes(out)


CLAIMS = {one.__name__: one for one in (claims_of_parquet, claims_of_hdf5, huge_pictures)}


@pytest.mark.parametrize("name", CLAIMS)
def test_what_a_header_claims_is_not_believed(name, tmp_path):
    code, _, told = in_child(name, tmp_path / "files")
    assert code == 0, told[-3000:]


# ----------------------------------------------------------------------------------------------------------------------------- JSON files

JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
    st.sampled_from([2**31, 2**63, -(2**63), 10**30, float("inf"), float("nan"), 1.5]),
    st.text(max_size=5),
    st.sampled_from(["../x.parquet", "/etc/passwd", "a\0b", "..", ".", "", "\ud800", "9" * 50]),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
RAW = [
    "",
    "null",
    "[]",
    "{}",
    "[" * 100_000,
    '{"a":' * 100_000,
    "1" * 5000,
    '"\ud800"'.encode("utf-8", "surrogatepass"),
    b"\xff\xfe",
    b"\0" * 9,
    "\ufeff{}",
    "1e999",
    "[1e999]",
    "NaN",
]


def places(value: object, above: tuple = ()) -> list[tuple]:
    """The way to every value inside a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [way for key, one in inside for way in [(*above, key), *places(one, (*above, key))]]


def changed(value: object, way: tuple, new: object, drop: bool) -> object:
    """A copy of a JSON value with another one at a place, or with nothing there."""
    copy = json.loads(json.dumps(value))
    *above, last = way
    inside = copy
    for key in above:
        inside = inside[key]
    if drop:
        del inside[last]
    else:
        inside[last] = new
    return copy


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("json")
    make_out(folder, "parquet")
    make_out(folder, "parquet", finished=False)
    return folder


@pytest.fixture
def out(folder):
    return folder / "finished-parquet"


JSON_FILES = [
    "finished-parquet/shards/_index.json",
    "finished-parquet/shards/_00001-of-00002.json",
    "finished-parquet/shards/_00001-of-00002.rejects.jsonl",
    "finished-parquet/plan.json",
    "unfinished-parquet/shards/_00001-of-00002.json",
    "unfinished-parquet/plan.json",
]


@pytest.mark.parametrize("name", JSON_FILES)
@pytest.mark.parametrize("raw", RAW, ids=lambda raw: repr(raw[:8]))
def test_no_json_at_all(folder, name, raw):
    path, out = folder / name, folder / name.partition("/")[0]
    good = path.read_bytes()
    path.write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    try:
        read_out(out)
        one_message(lambda: Record.load(path))
    finally:
        path.write_bytes(good)


@pytest.mark.parametrize("name", JSON_FILES)
@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_other_values_in_json(folder, name, data):
    path, out = folder / name, folder / name.partition("/")[0]
    good = path.read_bytes()
    value = json.loads(good)
    other = changed(value, data.draw(st.sampled_from(places(value))), data.draw(JUNK), data.draw(st.booleans()))
    path.write_bytes(json.dumps(other, indent=2 if name.endswith("json") else None).encode() + b"\n")
    try:
        read_out(out)
        if name == "finished-parquet/shards/_00001-of-00002.json" and other != value:
            assert verify(out).problems
    finally:
        path.write_bytes(good)


@pytest.mark.parametrize("field", ["shard", "ledger"])
@pytest.mark.parametrize("elsewhere", ["../secret", "/etc/passwd", "..", "", "a\0b", "sub/../../secret"])
def test_an_index_does_not_lead_out_of_its_folder(out, field, elsewhere):
    path, secret = out / "shards" / "_index.json", out / "secret"
    good = path.read_bytes()
    value = json.loads(good)
    secret.write_bytes((out / "shards" / value["records"][1][field]).read_bytes())
    value["records"][1][field] = elsewhere
    path.write_bytes(json.dumps(value).encode())
    try:
        with pytest.raises(DistillError, match="_index.json"):
            open_shards(out)
    finally:
        path.write_bytes(good)


@pytest.mark.parametrize("field", ["shard", "ledger"])
def test_a_record_does_not_lead_out_of_its_folder(out, field):
    path, secret = out / "shards" / "_00001-of-00002.json", out / "secret"
    good = path.read_bytes()
    value = json.loads(good)
    secret.write_bytes((out / "shards" / value[field]).read_bytes())
    expected = dataclasses.replace(meta(of=2), chunk=1, chunk_sha256=value["chunk_sha256"])
    assert find_record(out / "shards", "parquet", expected)
    path.write_bytes(json.dumps({**value, field: "../secret"}).encode())
    try:
        assert find_record(out / "shards", "parquet", expected) is None and verify(out).problems
    finally:
        path.write_bytes(good)


if __name__ == "__main__":
    if sys.argv[1] in CLAIMS:
        folder = Path(sys.argv[2])
        folder.mkdir(parents=True)
        limit_memory(768)
        CLAIMS[sys.argv[1]](folder)
    else:
        damage(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:6]))
