"""What evaluate is asked, as keywords: their types, what is wrong with them, and the request that they make."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from distill.api.given import Path, Size, size_of, text_of
from distill.arguments import PATHS
from distill.errors import DistillError
from distill.images.preprocessing import PreprocessingOptions
from distill.storage.path import StoragePath, as_path

if TYPE_CHECKING:
    from distill.config.data import Holdout
    from distill.evaluation.on_templates import TemplateSet
    from distill.evaluation.request import EvaluationRequest


class Judging(PreprocessingOptions, total=False):
    """What models are judged by, and how images are handed to them; `distill.evaluate` explains each."""

    pairs: Path | Sequence[Path] | None
    pairs_root: Path | None
    number: int | None
    seed: int
    identify: Path | None
    flip: bool
    resamples: int | None
    groups: Path | None
    speed: bool | None
    probe: Path | None
    templates: Path | None
    template_pairs: Path | None
    template_root: Path | None
    template_norm: str
    detector_scores: bool
    shards: Path | None
    leaks: bool | None
    leak_bound: float | None
    root: Path | None
    resize: str
    exif: str
    size: Size | None


def request_of(asked: Judging, target: StoragePath | None, holdout: Holdout | None, reference: str) -> EvaluationRequest:
    """Returns what is asked, with the pairs and people opened. Raises DistillError for what cannot be, before a model is loaded.

    Args:
        target: folder of the files, None for nowhere.
        holdout: of the rows that agreement is taken on.
        reference: the model that differences are to.
    """
    from distill.evaluation.groups import read_groups
    from distill.evaluation.identification import open_people
    from distill.evaluation.pair_sets import open_pairs
    from distill.evaluation.probe import open_labelled
    from distill.evaluation.request import EvaluationRequest

    given, images, people, shards, root = (
        paths_of(asked.get("pairs"), "pairs"),
        *(_path(asked.get(name)) for name in ("pairs_root", "identify", "shards", "root")),
    )
    check_asked(asked)
    probe = _path(asked.get("probe"))
    check_target(target, [*given, *(path for path in (images, people, probe) if path is not None)])
    sets, faces = open_pairs(given, images, asked.get("number"), asked.get("seed", 0)), None if people is None else open_people(people)
    groups = asked.get("groups")
    return EvaluationRequest(
        sets=sets,
        shards=shards,
        holdout=holdout,
        root=None if root is None else text_of(root),
        resize=asked.get("resize", "none"),
        size=size_of(asked.get("size")),
        out=target,
        exif=asked.get("exif", "ignore"),
        people=faces,
        flip=asked.get("flip", False),
        resamples=asked.get("resamples"),
        groups=None if groups is None else read_groups(as_path(groups), sets, faces),
        reference=reference,
        probe=None if probe is None else open_labelled(probe, asked.get("seed", 0), None if root is None else text_of(root)),
        templates=_templates(asked),
        leaks=asked.get("leaks"),
        leak_bound=asked.get("leak_bound"),
    )


def check_asked(asked: Judging) -> None:
    """Raises DistillError where an evaluation has nothing to judge by, or an option nothing to say."""
    pairs, resamples = bool(paths_of(asked.get("pairs"), "pairs")) or asked.get("identify") is not None, asked.get("resamples")
    templates = _check_templates(asked)
    judged = pairs or templates or asked.get("probe") is not None
    if asked.get("flip") and not judged:
        raise DistillError("--flip is for --pairs, --identify, --templates and --probe; stored embeddings are those of images as they are. Leave it out.")
    if not judged and asked.get("shards") is None:
        raise DistillError("Nothing to evaluate on. Give --pairs FOLDER (a folder of class folders), --shards SHARDS, or both.")
    if (bound := asked.get("leak_bound")) is not None and not 0 < bound <= 1:
        raise DistillError(f"--leak-bound {bound:g}: expected a cosine above 0 and up to 1, 0.95 for example.")
    if (bound is not None or asked.get("leaks") is not None) and not (pairs and asked.get("shards") is not None):
        raise DistillError(
            "--leak-bound, --leaks and --no-leaks say how the rows of --shards are looked for among the images of --pairs or --identify. Give both."
        )
    if resamples is not None and resamples < 0:
        raise DistillError(f"--resamples {resamples}: expected how often to draw pairs again, 1000 for example, or 0 for no intervals.")


def _check_templates(asked: Judging) -> bool:
    """Returns whether templates are asked for. Raises DistillError where one of the lists is missing, or an option is without them."""
    given, norm = [asked.get(name) is not None for name in ("templates", "template_pairs")], asked.get("template_norm", "keep")
    if given[0] != given[1]:
        raise DistillError("--templates LIST names the images of each template and --template-pairs LIST the pairs of templates. Give both.")
    if not given[0] and (asked.get("template_root") is not None or norm != "keep" or asked.get("detector_scores")):
        raise DistillError("--template-root, --template-norm and --detector-scores are for --templates, which is not given. Leave them out.")
    if norm not in ("keep", "unit"):
        raise DistillError(f"--template-norm {norm}: expected keep or unit.")
    return given[0]


def _templates(asked: Judging) -> TemplateSet | None:
    """Returns the templates that are asked for, None for none."""
    from distill.evaluation.on_templates import open_templates
    from distill.evaluation.templates import TemplateOptions

    images, pairs, root = (_path(asked.get(name)) for name in ("templates", "template_pairs", "template_root"))
    if images is None or pairs is None:
        return None
    norm: Literal["keep", "unit"] = "unit" if asked.get("template_norm") == "unit" else "keep"
    return open_templates(images, pairs, root, TemplateOptions(asked.get("flip", False), norm, asked.get("detector_scores", False)))


def check_target(target: StoragePath | None, sources: Sequence[StoragePath]) -> None:
    """Raises DistillError where an evaluation cannot be written to a folder, or would lie among the images."""
    from distill.data.folders import check_apart, check_folder

    if target is None:
        return
    check_folder(target, "evaluation", "run")
    for path in sources:
        if path.is_dir():
            check_apart(path, target, "evaluation")


def paths_of(given: object, name: str) -> list[StoragePath]:
    """Returns the paths that an argument names: one, several, or none."""
    if given is None:
        return []
    several: Sequence[Any] = given if isinstance(given, (list, tuple)) else [given]
    if (odd := next((one for one in several if not isinstance(one, PATHS)), None)) is not None:
        raise DistillError(f"evaluate: received {name}={odd!r} ({type(odd).__name__}), expected a path or a list of paths.")
    return [as_path(one) for one in several]


def _path(given: Any) -> StoragePath | None:
    return None if given is None else as_path(given)
