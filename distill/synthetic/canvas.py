"""Tools to paint faces: soft shapes on a float32 canvas, colours and clouds.

Coordinates: x to the right, y down, the image spans -1 to 1 in both. Edges are soft over one pixel instead of being supersampled."""

import math
from types import SimpleNamespace

import numpy as np


def rgb(*parts: float) -> np.ndarray:
    """Returns a colour, 0 to 1 each: float32 [3]."""
    return np.array(parts, "float32")


def between(palette: list[np.ndarray], place: float) -> np.ndarray:
    """Returns the colour at `place` (0 to 1) of a palette, linear between neighbours: float32 [3]."""
    at = place * (len(palette) - 1)
    low = min(int(at), len(palette) - 2)
    return palette[low] + (palette[low + 1] - palette[low]) * (at - low)


class Canvas:
    """An unfinished image: planes float32 [3, S, S], and the position of each pixel on the upright head (x, y: float32 [S, S])."""

    def __init__(self, size: int, who: SimpleNamespace, how: SimpleNamespace):
        self.size, self.who, self.how = size, who, how
        self.planes = np.zeros((3, size, size), "float32")
        self.cos, self.sin = math.cos(how.roll), math.sin(how.roll)
        self.grain = 2 / size / how.zoom  # one pixel
        axis = (np.arange(size, dtype="float32") + 0.5) * self.grain - 1 / how.zoom
        across, down = axis - how.shift_x, (axis - how.shift_y)[:, None]
        self.x, self.y = across * self.cos + down * self.sin, down * self.cos - across * self.sin
        self.turn = math.cos(how.yaw), math.sin(how.yaw), math.cos(how.pitch), math.sin(how.pitch)
        taper = np.clip(self.y / who.height, -0.4, 1.1) + 0.4
        self.face_x = (self.x - 0.10 * how.yaw * taper) / (1 + 0.55 * who.jaw * taper)

    def place(self, x: float, y: float, out: float = 0.0) -> tuple[float, float, float]:
        """Returns where the point (x, y) of the head, `out` above its surface, is seen, and how narrow things look there: (x, y, 0.15 to 1.3)."""
        reach = (x / self.who.width) ** 2 + (y / self.who.height) ** 2
        depth = 0.95 * self.who.width * math.sqrt(max(1 - reach, 0.04)) + out
        yaw_cos, yaw_sin, pitch_cos, pitch_sin = self.turn
        back = depth * yaw_cos - x * yaw_sin
        return x * yaw_cos + depth * yaw_sin, y * pitch_cos + back * pitch_sin, min(max(back / depth, 0.15), 1.3)

    def blob(
        self,
        x: float,
        y: float,
        wide: float,
        high: float,
        colour: np.ndarray,
        *,
        tilt: float = 0.0,
        power: float = 2.0,
        alpha: float = 1.0,
        soft: float = 0.0,
        ring: float = 0.0,
    ) -> None:
        """Paints a super-ellipse of radii `wide` and `high` at (x, y); only its own window of pixels is touched.

        `soft` widens the edge, as a share of the smaller radius; `ring` > 0 paints a ring of that thickness instead.
        """
        column = (x * self.cos - y * self.sin + self.how.shift_x + 1 / self.how.zoom) / self.grain
        row = (x * self.sin + y * self.cos + self.how.shift_y + 1 / self.how.zoom) / self.grain
        # The corner of a square is 1.41 radii away; beyond it are the ring and half of the soft edge.
        span = (1.42 * max(wide, high) + soft * min(wide, high) / 2 + ring) / self.grain + 2
        rows = slice(max(int(row - span), 0), max(int(row + span) + 1, 0))
        columns = slice(max(int(column - span), 0), max(int(column + span) + 1, 0))
        u, v = self.x[rows, columns] - x, self.y[rows, columns] - y
        if u.size == 0:
            return
        if tilt:
            cos, sin = math.cos(tilt), math.sin(tilt)
            u, v = u * cos + v * sin, v * cos - u * sin
        cover = cover_of(u, v, wide, high, power, self.grain + soft * min(wide, high), ring)
        self.blend(cover if alpha == 1 else cover * alpha, colour[:, None, None], (slice(None), rows, columns))

    def blend(self, cover: np.ndarray, colour: np.ndarray, window: tuple = (slice(None),)) -> None:
        """Computes planes += cover * (colour - planes): cover float32 [h, w] in 0 to 1, colour float32 [3, 1 or h, 1 or w]."""
        part = self.planes[window]
        part += cover * (colour - part)

    def head(self, grow: float = 0.0) -> np.ndarray:
        """Returns how much of each pixel the head covers, jaw included, `grow` larger all round: float32 [S, S]."""
        chin = self.who.height * (1 + 0.06 * max(self.how.open, 0.0)) + grow
        return cover_of(self.face_x, self.y, self.who.width + grow, chin, self.who.square, self.grain)


def cover_of(u: np.ndarray, v: np.ndarray, wide: float, high: float, power: float, edge: float, ring: float = 0.0) -> np.ndarray:
    """Returns how much of each pixel is inside |u/wide|^power + |v/high|^power = 1: 0 to 1, linear over `edge` about the line."""
    u, v = u / wide, v / high
    level = np.sqrt(u * u + v * v) if power == 2 else (np.abs(u) ** power + np.abs(v) ** power) ** (1 / power)
    radius = min(wide, high)
    if ring:
        level = np.abs(level - 1) + (1 - ring / 2 / radius)
    level *= -radius / edge
    level += 0.5 + radius / edge
    return unit(level)


def unit(values: np.ndarray) -> np.ndarray:
    """Clips to 0 to 1, in place, in half the time of np.clip on small windows."""
    return np.minimum(np.maximum(values, 0, out=values), 1, out=values)


def cloud(rng: np.random.Generator, size: int, knots: int, planes: int = 1) -> np.ndarray:
    """Returns smooth noise, -1 to 1: float32 [planes, size, size], linear between knots x knots random values."""
    at = np.linspace(0, knots - 1, size, dtype="float32")[:, None]
    weights = np.maximum(1 - np.abs(at - np.arange(knots, dtype="float32")), 0)
    return weights @ rng.uniform(-1, 1, (planes, knots, knots)).astype("float32") @ weights.T
