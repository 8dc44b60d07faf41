"""Drawn identities: cartoon faces in class folders, so that demo and tests have real image files to work on.

An image is a pure function of (identity, number, size, seed): the person comes from `default_rng([seed, 1, identity])`, the
circumstances of this image from `default_rng([seed, 2, identity, number])`. The 1 and the 2 keep the streams apart, because numpy
pads a short seed with zeros: [0, 5] and [0, 5, 0] are the same stream. Nothing else is random, and the clock is never read.

Coordinates: x to the right, y down, the image spans -1 to 1 in both; the head is an ellipsoid that turns (yaw, pitch) and carries
its features with it. Edges are soft over one pixel instead of being supersampled. Plain Python numbers keep float32 arrays float32.
"""

import math
from functools import lru_cache
from types import SimpleNamespace

import numpy as np

from distill.errors import DistillError
from distill.synthetic.canvas import Canvas, between, cloud, rgb, unit

# The person: every name is one number of an identity, uniform between its two limits. Lengths are in half image widths, angles in radians.
IDENTITY = {
    "width": (0.41, 0.56),
    "height": (0.57, 0.71),
    "jaw": (-0.34, 0.24),
    "square": (1.8, 3.1),
    "tone": (0.0, 1.0),
    "warmth": (-0.8, 0.8),
    "blush": (0.0, 0.40),
    "eye_gap": (0.155, 0.255),
    "eye_y": (-0.16, 0.04),
    "eye_size": (0.070, 0.130),
    "eye_round": (0.35, 0.85),
    "eye_tilt": (-0.35, 0.35),
    "iris": (0.0, 1.0),
    "iris_size": (0.60, 0.95),
    "brow_lift": (0.10, 0.19),
    "brow_size": (0.08, 0.16),
    "brow_thick": (0.010, 0.050),
    "brow_tilt": (-0.42, 0.42),
    "nose_length": (0.13, 0.31),
    "nose_width": (0.040, 0.115),
    "nose_bridge": (0.0, 1.0),
    "mouth_y": (0.29, 0.44),
    "mouth_size": (0.10, 0.22),
    "lip": (0.016, 0.062),
    "lip_red": (0.0, 1.0),
    "hair": (0.0, 1.0),
    "hair_line": (-0.54, -0.24),
    "hair_volume": (0.01, 0.22),
    "hair_length": (-0.45, 0.95),
    "hair_slant": (-0.65, 0.65),
    "hair_wave": (0.0, 0.08),
    "hair_waves": (4.0, 13.0),
    "ear_size": (0.05, 0.14),
    "ear_y": (-0.10, 0.08),
    "beard": (-1.2, 0.9),
    "moustache": (-1.2, 0.9),
    "freckles": (-1.0, 0.6),  # below 0: none
    "glasses": (-0.8, 1.2),
    "glasses_square": (2.0, 6.0),
    "glasses_size": (0.13, 0.20),  # glasses: share of images that show them
}

# The circumstances: one number of an image each, normal with this mean and deviation, clipped at two deviations.
CIRCUMSTANCES = {
    "yaw": (0.0, 0.10),
    "pitch": (0.0, 0.06),
    "roll": (0.0, 0.05),
    "zoom": (1.0, 0.03),
    "shift_x": (0.0, 0.02),
    "shift_y": (0.06, 0.02),
    "smile": (0.15, 0.32),
    "open": (-0.2, 0.35),
    "lids": (0.95, 0.10),
    "frown": (0.0, 0.25),
    "gaze_x": (0.0, 0.3),
    "gaze_y": (0.0, 0.2),
    "light_x": (0.0, 0.16),
    "light_y": (-0.1, 0.12),
    "exposure": (0.0, 0.10),
    "red": (0.0, 0.03),
    "blue": (0.0, 0.04),
    "contrast": (1.0, 0.07),
    "noise": (0.013, 0.006),
    "blur": (0.09, 0.15),
    "clutter": (0.09, 0.04),
}
# Chances that an image shows a hat, a patch in front of the face, dark glasses.
HAT, PATCH, DARK_GLASSES = 0.03, 0.05, 0.02


SKIN = [rgb(0.98, 0.86, 0.76), rgb(0.93, 0.74, 0.58), rgb(0.78, 0.56, 0.40), rgb(0.55, 0.37, 0.25), rgb(0.36, 0.24, 0.17)]
HAIR = [rgb(0.07, 0.06, 0.1), rgb(0.25, 0.15, 0.10), rgb(0.48, 0.3, 0.16), rgb(0.58, 0.24, 0.1), rgb(0.85, 0.7, 0.4), rgb(0.75, 0.75, 0.76)]
IRIS = [rgb(0.16, 0.09, 0.05), rgb(0.42, 0.26, 0.11), rgb(0.30, 0.46, 0.24), rgb(0.25, 0.48, 0.72), rgb(0.50, 0.56, 0.60)]
RED, BLUSH, THROAT = rgb(0.72, 0.16, 0.22), rgb(0.85, 0.35, 0.30), rgb(0.25, 0.06, 0.08)
WHITE, BLACK = rgb(0.96, 0.95, 0.93), rgb(0.05, 0.05, 0.06)


def draw_face(identity: int, number: int, size: int = 112, seed: int = 0) -> np.ndarray:
    """Returns image `number` of person `identity`: uint8 [size, size, 3] RGB, 0 to 255. The same arguments give the same bytes."""
    if size < 8 or min(identity, number, seed) < 0:
        raise DistillError(
            f"a face needs size >= 8 and identity, number and seed >= 0; received size {size}, identity {identity}, number {number}, seed {seed}."
        )
    who = describe(identity, seed)
    how = photograph(identity, number, seed)
    canvas = Canvas(size, who, how)
    paint_behind(canvas, who, how)
    paint_head(canvas, who, how)
    paint_nose_and_mouth(canvas, who, how)
    for side in (-1, 1):
        paint_eye(canvas, who, how, side)
    paint_hair(canvas, who)
    paint_before(canvas, who, how)
    return develop(canvas, how)


@lru_cache(4096)
def describe(identity: int, seed: int = 0) -> SimpleNamespace:
    """Returns the numbers of one person: every name of IDENTITY, the colours made of them, moles (x, y, darkness) and spots (x, y)."""
    rng = np.random.default_rng([seed, 1, identity])
    low, high = np.array(list(IDENTITY.values())).T
    who = SimpleNamespace(**dict(zip(IDENTITY, rng.uniform(low, high).tolist(), strict=True)))
    who.skin = between(SKIN, who.tone) * rgb(1 + 0.05 * who.warmth, 1, 1 - 0.12 * who.warmth)
    who.hair_colour, who.iris_colour = between(HAIR, who.hair), between(IRIS, who.iris)
    who.lips = between([who.skin * rgb(0.92, 0.62, 0.62), RED], who.lip_red)
    who.moles = rng.uniform([-0.3, -0.1, -0.5], [0.3, 0.45, 0.8], (3, 3)).tolist()
    who.spots = rng.uniform([-0.30, 0.02], [0.30, 0.22], (9, 2)).tolist()
    return who


def photograph(identity: int, number: int, seed: int = 0) -> SimpleNamespace:
    """Returns the numbers of one image: every name of CIRCUMSTANCES, four chances in 0 to 1, and the generator for the painting."""
    rng = np.random.default_rng([seed, 2, identity, number])
    mean, deviation = np.array(list(CIRCUMSTANCES.values())).T
    values = mean + deviation * rng.standard_normal(len(CIRCUMSTANCES)).clip(-2, 2)
    return SimpleNamespace(**dict(zip(CIRCUMSTANCES, values.tolist(), strict=True)), chance=rng.random(4).tolist(), rng=rng)


def paint_behind(canvas: Canvas, who: SimpleNamespace, how: SimpleNamespace) -> None:
    """Paints background, long hair, neck, clothes and ears."""
    wall, cloth = rgb(*how.rng.uniform(0.1, 0.9, 3)), rgb(*how.rng.uniform(0.05, 0.9, 3))
    canvas.planes[:] = wall[:, None, None] + cloud(how.rng, canvas.size, 4, 3) * 0.25
    canvas.planes += cloud(how.rng, canvas.size, 11) * how.clutter
    drift = -0.20 * how.yaw * who.width
    if who.hair_length > -0.2:
        middle, high = (who.hair_length - who.height) / 2, (who.hair_length + who.height) / 2 + who.hair_volume
        canvas.blob(drift, middle, who.width * 1.06 + who.hair_volume, high, who.hair_colour * 0.8, power=2.6)
    canvas.blob(0, who.height + 0.1, who.width * 0.50, 0.35, who.skin * 0.80, power=4)
    canvas.blob(0, who.height + 0.62, 0.95, 0.42, cloth, power=2.5)
    for side in (-1, 1):
        shown = min(1 - 1.2 * side * how.yaw, 1)
        if shown > 0.55:
            x = side * who.width * (1 + 0.05 * shown) + drift
            canvas.blob(x, who.ear_y + 0.5 * how.pitch, who.ear_size * 0.6 * shown, who.ear_size * 1.2, who.skin * 0.88)


def paint_head(canvas: Canvas, who: SimpleNamespace, how: SimpleNamespace) -> None:
    """Paints skin, darker towards the rim, cheeks, freckles, moles and beard."""
    face = canvas.head()
    rim = 1 - 0.22 * ((canvas.x / who.width) ** 2 + (canvas.y / who.height) ** 2)
    canvas.blend(face, who.skin[:, None, None] * rim)
    for side in (-1, 1):
        x, y, narrow = canvas.place(side * 0.26, 0.17)
        canvas.blob(x, y, 0.11 * narrow, 0.09, BLUSH, alpha=who.blush, soft=1.0)
    for spot in who.spots if who.freckles > 0 else ():
        x, y, narrow = canvas.place(*spot)
        canvas.blob(x, y, 0.020 * narrow, 0.020, who.skin * 0.55, alpha=who.freckles)
    for *mole, dark in who.moles:
        if dark > 0:
            x, y, narrow = canvas.place(*mole)
            canvas.blob(x, y, 0.030 * narrow, 0.030, who.skin * 0.30, alpha=min(1, 0.3 + dark))
    if who.beard > 0:
        _, line, _ = canvas.place(0, who.mouth_y - 0.06)
        sides = 0.31 * ((canvas.x - how.yaw * 0.3) / who.width) ** 2
        below = unit((canvas.y + sides - line) / 0.06)
        canvas.blend(face * below * min(1, 0.3 + who.beard), who.hair_colour[:, None, None] * 0.9)


def paint_nose_and_mouth(canvas: Canvas, who: SimpleNamespace, how: SimpleNamespace) -> None:
    """Paints the nose with its shaded flank, lips in three pieces that can smile, the mouth between them, and the moustache."""
    x, y, narrow = canvas.place(0, who.eye_y + who.nose_length, 0.10)
    top_x, top_y, _ = canvas.place(0, who.eye_y, 0.03)
    flank, slope = math.copysign(0.55 * who.nose_width, -how.light_x), math.atan2(top_x - x, y - top_y)
    shade = 0.25 + 0.45 * who.nose_bridge
    canvas.blob((x + top_x) / 2 + flank, (y + top_y) / 2, 0.022, who.nose_length / 2, who.skin * 0.62, tilt=slope, alpha=shade)
    canvas.blob(x, y - 0.01, who.nose_width * narrow, who.nose_width * 0.62, who.skin * 0.93, alpha=0.9, soft=0.4)
    for side in (-1, 1):
        canvas.blob(x + side * who.nose_width * 0.55 * narrow, y + 0.015, who.nose_width * 0.30, 0.018, who.skin * 0.37)

    x, y, narrow = canvas.place(0, who.mouth_y, 0.03)
    wide, gap = who.mouth_size * (1 + 0.18 * how.smile) * narrow, max(how.open, 0.0) * 0.09
    for part in (-1, 0, 1):
        lift = 0.135 * how.smile * abs(part) * wide
        canvas.blob(x + part * wide * 0.45, y - lift + gap / 2, wide * 0.62, who.lip + gap / 2, who.lips, tilt=-0.5 * how.smile * part)
    if gap > 0.003:
        canvas.blob(x, y + gap / 2, wide * 0.72, gap * 0.7, THROAT)
        canvas.blob(x, y + gap * 0.1, wide * 0.55, gap * 0.25, WHITE)
    else:
        canvas.blob(x, y, wide * 0.85, 0.010, who.lips * 0.45)
    if who.moustache > 0:
        canvas.blob(x, y - who.lip - 0.035, wide * 1.05, 0.035, who.hair_colour, alpha=min(1, 0.4 + who.moustache), power=1.6)


def paint_eye(canvas: Canvas, who: SimpleNamespace, how: SimpleNamespace, side: int) -> None:
    """Paints one eye (side -1: left in the image), its brow, and its lens where this image shows glasses."""
    x, y, narrow = canvas.place(side * who.eye_gap, who.eye_y)
    wide, tilt, iris = who.eye_size * narrow, side * who.eye_tilt, who.eye_size * who.eye_round * who.iris_size
    high = who.eye_size * who.eye_round * max(how.lids - 0.25 * max(how.smile, 0.0), 0.12)
    canvas.blob(x, y, wide * 1.18, high * 1.18 + 0.012, who.skin * 0.45, tilt=tilt, alpha=0.8)
    canvas.blob(x, y, wide, high, WHITE, tilt=tilt)
    look_x, look_y, ball = x + how.gaze_x * wide * 0.6, y + how.gaze_y * high * 0.5, min(iris, high)
    canvas.blob(look_x, look_y, iris * narrow, ball, who.iris_colour)
    canvas.blob(look_x, look_y, 0.45 * ball * narrow, 0.45 * ball, BLACK)
    if how.chance[0] < who.glasses:
        canvas.blob(x, y, who.glasses_size * narrow, who.glasses_size * 0.85, BLACK, power=who.glasses_square, ring=0.028)
        canvas.blob(x - side * narrow * who.eye_gap, y, max(who.eye_gap - who.glasses_size, 0.01), 0.015, BLACK)
    x, y, narrow = canvas.place(side * who.eye_gap * 1.05, who.eye_y - who.brow_lift - 0.03 * how.frown)
    tilt = side * (who.brow_tilt + 0.15 * how.frown)
    canvas.blob(x, y, who.brow_size * narrow, who.brow_thick, who.hair_colour * 0.7, tilt=tilt, power=2.5)


def paint_hair(canvas: Canvas, who: SimpleNamespace) -> None:
    """Paints the hair above the hairline, slanted and waved as this person wears it."""
    line_x, line_y, _ = canvas.place(0, who.hair_line)
    across = canvas.x - line_x
    line = line_y + across * (who.hair_slant + 1.3 * across) + who.hair_wave * np.sin(across * (2 * who.hair_waves))
    above = unit((line - canvas.y) / canvas.grain + 0.5)
    shine = 1 + 0.22 * np.sin(canvas.x * (3 * who.hair_waves) + canvas.y * (4 * who.hair_slant))
    canvas.blend(canvas.head(who.hair_volume) * above, who.hair_colour[:, None, None] * shine)


def paint_before(canvas: Canvas, who: SimpleNamespace, how: SimpleNamespace) -> None:
    """Paints objects that hide a part of the face."""
    colour, (x, y, wide, high) = rgb(*how.rng.uniform(0.05, 0.9, 3)), how.rng.uniform(-0.6, 0.6, 4).tolist()
    if how.chance[1] < HAT:
        _, brim, _ = canvas.place(0, who.hair_line - 0.02)
        canvas.blob(0, brim - 0.55, who.width + who.hair_volume + 0.10, 0.60, colour, power=5)
    if how.chance[2] < PATCH:
        canvas.blob(x, y + 0.2, 0.18 + 0.15 * abs(wide), 0.12 + 0.15 * abs(high), colour, tilt=3 * wide, power=4)
    if how.chance[3] < DARK_GLASSES:
        for side in (-1, 1):
            x, y, narrow = canvas.place(side * who.eye_gap, who.eye_y)
            canvas.blob(x, y, 0.17 * narrow, 0.13, BLACK, power=3)


def develop(canvas: Canvas, how: SimpleNamespace) -> np.ndarray:
    """Applies light from one side, exposure, white balance, contrast, blur and sensor noise: uint8 [S, S, 3]."""
    light = np.clip(1 + 2 * (how.light_x * canvas.x + how.light_y * canvas.y), 0.25, 1.9)
    gains = rgb(math.exp(how.exposure + how.red), math.exp(how.exposure), math.exp(how.exposure + how.blue))
    planes = (canvas.planes * gains[:, None, None] * light - 0.45) * how.contrast + 0.45
    for _ in range(round(max(how.blur, 0.0) * canvas.size / 24)):  # [1 2 1] / 4 each time, down and across
        planes[:, 1:-1] = 0.25 * (planes[:, :-2] + planes[:, 2:]) + 0.5 * planes[:, 1:-1]
        planes[:, :, 1:-1] = 0.25 * (planes[:, :, :-2] + planes[:, :, 2:]) + 0.5 * planes[:, :, 1:-1]
    planes += how.rng.standard_normal(planes.shape, dtype="float32") * max(how.noise, 0.0)
    return np.ascontiguousarray((unit(planes) * 255 + 0.5).astype("uint8").transpose(1, 2, 0))


def contact_sheet(identities: int = 8, images: int = 12, size: int = 48, seed: int = 0, first: int = 0) -> np.ndarray:
    """Returns one row for each identity, one column for each of its images: uint8 [identities * size, images * size, 3]."""
    return np.vstack([np.hstack([draw_face(first + row, column, size, seed) for column in range(images)]) for row in range(identities)])
