"""The teacher of the demo, trained on drawn faces: it ships with distill, so that the demo need not train one.

`teacher/` is the folder of a finished run without its checkpoints, and so a model to every verb; `teacher.json` says what it was trained on and what
it is worth on identities that it never saw. `python -m distill.drawn_faces.make` makes both.
"""

from pathlib import Path

HOME = Path(__file__).parent
TEACHER, CARD = HOME / "teacher", HOME / "teacher.json"

# It is trained on identities FIRST to FIRST + IDENTITIES - 1 and judged on those from JUDGED_FIRST on; the demo draws 0 to 2099.
FIRST, IDENTITIES, IMAGES, EPOCHS, SIZE = 10_000, 4000, 6, 8, 48
JUDGED_FIRST = 20_000
