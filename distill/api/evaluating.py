"""Judging models: evaluate."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

from distill.api.given import Path, Size, describe, load_steady, size_of, text_of
from distill.arguments import PATHS, checked
from distill.errors import DistillError
from distill.results import EvaluateResult, Judged
from distill.storage.objects import RemotePath
from distill.storage.path import StoragePath, as_path

if TYPE_CHECKING:
    from distill.images.preprocessing import PreprocessingOptions


@checked
def evaluate(
    model: Path,
    *,
    pairs: Path | Sequence[Path] | None = None,
    pairs_root: Path | None = None,
    number: int | None = None,
    seed: int = 0,
    identify: Path | None = None,
    flip: bool = False,
    resamples: int | None = None,
    groups: Path | None = None,
    shards: Path | None = None,
    teacher: Path | None = None,
    root: Path | None = None,
    resize: str = "none",
    exif: str = "ignore",
    size: Size | None = None,
    out: Path | None = None,
    progress: bool = True,
    **options: Unpack[PreprocessingOptions],
) -> EvaluateResult:
    """Judges a model: verification on pairs of unseen identities, and agreement with its teacher on shards.

    Args:
        model: run folder, SavedModel, .keras, .h5, .onnx or .tflite file.
        pairs: folder of class folders, of identities that it was not trained on, from which pairs are drawn; a .bin file of the field (LFW, CFP-FP,
            AgeDB-30); a text list of pairs (LFW's pairs.txt, or PATH<TAB>PATH<TAB>0|1). Or several of these.
        pairs_root: folder of the images that a text list of pairs names; None: the folder of the list.
        number: how many pairs to draw from a folder, half of them genuine; None: 6,000, or as many as there are.
        identify: folder of class folders, for rank-1 identification: the first image of each identity is the gallery, all others are probes.
        flip: the embedding of an image is the sum of its own and that of its mirror image, as in most published figures; not in the agreement.
        resamples: how often identities (or pairs) are drawn again for 95 % intervals; 0: no intervals; None: 1,000, none of more than 100,000 pairs.
        groups: text file, IDENTITY<TAB>GROUP on each line, for the figures of each group, the worst first.
        shards: a set, for the agreement with the embeddings in it.
        teacher: another model to judge on the same pairs.
        out: folder for evaluation.json and scores-*.npz; None writes nothing.
        options: signature, output, scale, offset, color, preset, feed, tags; of the teacher where one is given, else of the model.

    Returns:
        Figures of the model and of the teacher. Where no agreement could be told, `left_out` of a model says why.
    """
    given, people, target = _paths(pairs), None if identify is None else as_path(identify), None if out is None else as_path(out)
    _check_asked(bool(given or people), shards, flip, resamples)
    described = {"model": describe(model, {} if teacher is not None else options)}
    if teacher is not None:
        described["teacher"] = describe(teacher, options)
    from distill.evaluation.evaluate import evaluate_models
    from distill.evaluation.groups import read_groups
    from distill.evaluation.identification import open_people
    from distill.evaluation.pair_sets import open_pairs
    from distill.evaluation.request import EvaluationRequest
    from distill.runtime.progress import bar, shown
    from distill.training.origin import origin_of

    images = None if pairs_root is None else as_path(pairs_root)
    _check_target(target, [*given, *(path for path in (images, people) if path is not None)])
    sets, faces = open_pairs(given, images, number, seed), None if people is None else open_people(people)
    request = EvaluationRequest(
        sets=sets,
        shards=None if shards is None else as_path(shards),
        holdout=origin_of(as_path(model)).holdout,
        root=None if root is None else text_of(root),
        resize=resize,
        size=size_of(size),
        out=target,
        exif=exif,
        people=faces,
        flip=flip,
        resamples=resamples,
        groups=None if groups is None else read_groups(as_path(groups), sets, faces),
    )
    with shown(progress):
        found = evaluate_models({who: (one.path, partial(load_steady, one, size_of(size))) for who, one in described.items()}, request, bar)
    if target is not None and not isinstance(target, RemotePath) and all((target / name).is_file() for name in ("run.toml", "history.csv")):
        from distill.report.run_page import write_run_report

        write_run_report(target)  # a run whose own folder has the figures now shows them
    return EvaluateResult({who: Judged(figures["path"], figures) for who, figures in found.items()})


def _check_asked(pairs: bool, shards: Path | None, flip: bool, resamples: int | None) -> None:
    """Raises DistillError where an evaluation has nothing to judge by, or an option nothing to say. pairs: whether there are pairs or people."""
    if flip and not pairs:
        raise DistillError("--flip is for --pairs and --identify; stored embeddings are those of images as they are. Leave it out.")
    if not pairs and shards is None:
        raise DistillError("Nothing to evaluate on. Give --pairs FOLDER (a folder of class folders), --shards SHARDS, or both.")
    if resamples is not None and resamples < 0:
        raise DistillError(f"--resamples {resamples}: expected how often to draw pairs again, 1000 for example, or 0 for no intervals.")


def _check_target(target: StoragePath | None, sources: Sequence[StoragePath]) -> None:
    """Raises DistillError where an evaluation cannot be written to a folder, or would lie among the images."""
    from distill.data.folders import check_apart, check_folder

    if target is None:
        return
    check_folder(target, "evaluation", "run")
    for path in sources:
        if path.is_dir():
            check_apart(path, target, "evaluation")


def _paths(given: Path | Sequence[Path] | None) -> list[StoragePath]:
    """Returns the paths that an argument names: one, several, or none."""
    if given is None:
        return []
    several: Sequence[Any] = given if isinstance(given, (list, tuple)) else [given]
    if (odd := next((one for one in several if not isinstance(one, PATHS)), None)) is not None:
        raise DistillError(f"evaluate: received pairs={odd!r} ({type(odd).__name__}), expected a path or a list of paths.")
    return [as_path(one) for one in several]
