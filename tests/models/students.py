"""Small students, and what is inside them, for the tests of this room."""

import inspect
import types

import keras

from distill.config.student import Student
from distill.models.students import build_student

APPLICATIONS = [
    name for name, value in inspect.getmembers(keras.applications) if callable(value) and not isinstance(value, types.ModuleType) and name[0].isupper()
]


def built(backbone, side=32, **options):
    return build_student(Student(backbone=backbone, embedding=8, **options), (side, side, 3))


def smallest(backbone):
    return 75 if backbone.startswith(("Inception", "Xception")) else 32


def backbone_inside(model):
    return next(layer for layer in model.layers if isinstance(layer, keras.Model))
