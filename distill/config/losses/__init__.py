"""The terms of a stage: what all have (term), and a file for each of distill/losses that has formulas of terms. A new one joins `AnyTerm`."""

from typing import Annotated, get_args

from pydantic import Field

from distill.config.losses.adaptive import Adaface, Curricularface, Magface
from distill.config.losses.embedding import Cosine, Kl, Mse, SumOfSquares
from distill.config.losses.margin import Arcface, Cosface, LinearSoftmax, Softmax, Sphereface
from distill.config.losses.metric import Centre, CentreMean, Triplet
from distill.config.losses.relations import Queue, RkdAngle, RkdDistance
from distill.config.losses.term import ClassTerm, Head, Term

OnTeacher = Mse | Cosine | SumOfSquares | Kl | RkdDistance | RkdAngle | Queue
OnLabels = Softmax | LinearSoftmax | Sphereface | Cosface | Arcface | Curricularface | Adaface | Magface | Centre | CentreMean | Triplet
AnyTerm = Annotated[OnTeacher | OnLabels, Field(discriminator="name")]
TERMS: dict[str, type[Term]] = {kind.model_fields["name"].default: kind for kind in get_args(get_args(AnyTerm)[0])}

__all__ = [
    "TERMS",
    "Adaface",
    "AnyTerm",
    "Arcface",
    "Centre",
    "CentreMean",
    "ClassTerm",
    "Cosface",
    "Cosine",
    "Curricularface",
    "Head",
    "Kl",
    "LinearSoftmax",
    "Magface",
    "Mse",
    "Queue",
    "RkdAngle",
    "RkdDistance",
    "Softmax",
    "Sphereface",
    "SumOfSquares",
    "Term",
    "Triplet",
]
