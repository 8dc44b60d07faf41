"""The terms of a stage: what all have (term), those on embeddings (embedding) and on classes (margin). A new one joins `AnyTerm`."""

from typing import Annotated, get_args

from pydantic import Field

from distill.config.losses.embedding import Cosine, Mse
from distill.config.losses.margin import Arcface, Softmax
from distill.config.losses.term import ClassTerm, Head, Term

AnyTerm = Annotated[Mse | Cosine | Softmax | Arcface, Field(discriminator="name")]
TERMS: dict[str, type[Term]] = {kind.model_fields["name"].default: kind for kind in get_args(get_args(AnyTerm)[0])}

__all__ = ["TERMS", "AnyTerm", "Arcface", "ClassTerm", "Cosine", "Head", "Mse", "Softmax", "Term"]
