"""A model, or stored features, on pairs of templates: the figures as evaluation.json holds them, and the arrays behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from distill.errors import DistillError
from distill.evaluation.embed import Model, Progress, embed_images, spec_for
from distill.evaluation.features import StoredFeatures
from distill.evaluation.template_lists import TemplateList, TemplatePairs, read_template_list, read_template_pairs
from distill.evaluation.templates import TemplateOptions, pair_scores, template_facts, template_table
from distill.evaluation.verification import ALL_FARS, verify_pairs
from distill.storage.path import StoragePath


@dataclass(frozen=True)
class TemplateSet:
    """Templates and their pairs. root: the folder of the images, for models; features need none."""

    images: TemplateList
    pairs: TemplatePairs
    root: StoragePath
    options: TemplateOptions


def open_templates(images: StoragePath, pairs: StoragePath, root: StoragePath | None, options: TemplateOptions) -> TemplateSet:
    """Returns what two lists name. root: None for the folder of the first."""
    listed = read_template_list(images)
    if options.scores and listed.scores is None:
        raise DistillError(f"{images} has no fourth number, the score of the detector, on its lines. Leave --detector-scores out, or add it.")
    found = read_template_pairs(pairs, listed)
    genuine = int(found.same.sum())
    if not 0 < genuine < len(found):
        raise DistillError(f"{pairs}: {genuine:,} genuine and {len(found) - genuine:,} impostor pairs: figures need some of each. Give another list.")
    return TemplateSet(listed, found, images.parent if root is None else root, options)


@dataclass(frozen=True)
class ImageReading:
    """How images become those of a model; see `embed_images` and `spec_for`."""

    resize: str = "none"
    size: tuple[int, int] | None = None
    exif: str = "ignore"
    flip: bool = False


def judge_templates(
    source: Model | StoredFeatures, given: TemplateSet, reading: ImageReading, progress: Progress
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Returns the figures of pairs of templates, and the arrays behind them. Features hold an image and its mirror image side by side where `flip` is asked for."""
    if isinstance(source, StoredFeatures):
        table = template_table(source.of(given.images), given.images, given.options)
    else:
        spec = spec_for(source, reading.resize, reading.size, reading.exif)
        features = embed_images(source, given.root, given.images.keys, spec, progress=progress, flip=reading.flip, unit=False)
        table = template_table(features, given.images, TemplateOptions(False, given.options.norm, given.options.scores))
        del features
    scores = pair_scores(table, given.pairs)
    del table
    found = verify_pairs(scores, given.pairs.same, fars=ALL_FARS[1:])
    curve = found.curve.corners()
    arrays = {"template_scores": scores, "template_same": given.pairs.same}
    arrays |= {"template_roc_far": curve.far, "template_roc_tar": curve.tar, "template_roc_thresholds": curve.thresholds}
    known = {"identities": None, "trained_identities": None, **({"flip": True} if reading.flip else {})}
    return {"folder": given.pairs.name, **template_facts(given.images, given.options), **known, **found.as_dict()}, arrays
