"""Cut the sample photographs of scikit-image into class folders of JPEGs and PNGs, with every odd file that real folders hold among them.

python docs/examples/photos.py photos
"""

import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image

PICTURES = ("astronaut.png", "chelsea.png", "coffee.png", "hubble_deep_field.jpg", "ihc.png", "motorcycle_left.png", "retina.jpg", "rocket.jpg")
SIZE, CROPS = 112, 12


def cut(out: Path) -> int:
    """Write the folder; returns the number of files."""
    samples = files("skimage.data")
    for name in PICTURES:
        with samples.joinpath(name).open("rb") as file:
            picture = Image.open(file).convert("RGB")
        folder = out / Path(name).stem
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng([len(name), picture.width])
        for number in range(CROPS):
            left, top = (int(rng.integers(0, room - SIZE)) for room in picture.size)
            crop = picture.crop((left, top, left + SIZE, top + SIZE))
            crop.save(folder / f"{number:02d}.{'jpg' if number % 2 else 'png'}")
    odd = out / "odd files"
    odd.mkdir(exist_ok=True)
    whole = (out / "coffee" / "01.jpg").read_bytes()
    (odd / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    (odd / "empty.jpg").write_bytes(b"")
    (odd / "a text.jpg").write_text("This is not a photograph.\n")
    crop.convert("CMYK").save(odd / "cmyk.jpg")
    crop.convert("L").save(odd / "grey.jpg")
    Image.fromarray(np.asarray(crop.convert("L")).astype(np.uint16) * 257).save(odd / "sixteen bits.png")
    crop.convert("P").save(odd / "one frame.gif")
    (odd / "many frames.gif").write_bytes(samples.joinpath("no_time_for_that_tiny.gif").read_bytes())
    return sum(path.is_file() for path in out.rglob("*"))


if __name__ == "__main__":
    print(f"{cut(Path(sys.argv[1]))} files in {sys.argv[1]}")
