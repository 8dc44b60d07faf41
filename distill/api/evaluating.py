"""Judging models: evaluate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack, cast

from distill.api.given import Path, describe, load_steady, size_of
from distill.arguments import checked
from distill.errors import DistillError
from distill.results import EvaluateResult, Judged
from distill.storage.objects import RemotePath
from distill.storage.path import StoragePath, as_path, close_to

if TYPE_CHECKING:
    from distill.api.judging import Judging
    from distill.config.data import Holdout
    from distill.evaluation.embed import Model
    from distill.evaluation.request import EvaluationRequest
    from distill.images.preprocessing import PreprocessingOptions
    from teachers import Teacher

OF_IMAGES = ("pairs", "pairs_root", "number", "identify", "groups", "probe", "speed", "shards", "root", "size")  # what stored features cannot be asked


@checked
def evaluate(
    model: Path | Sequence[Path], *, teacher: Path | None = None, out: Path | None = None, progress: bool = True, **asked: Unpack[Judging]
) -> EvaluateResult:
    """Judges models: verification on pairs of unseen identities, and agreement with their teacher on shards.

    Args:
        model: run folder, SavedModel, .keras, .h5, .onnx, .tflite, .xml (OpenVINO), .meta or .pb (TensorFlow 1) file. Or a list of these, each loaded
            in its turn; they are called by the last parts of their paths then, and differences are to `teacher`, or without one to the first of them.
        teacher: another model to judge on the same pairs.
        out: folder for evaluation.json and scores-*.npz; None writes nothing.
        pairs: folder of class folders, of identities that it was not trained on, from which pairs are drawn; a .bin file of the field (LFW, CFP-FP,
            AgeDB-30); a text list of pairs (LFW's pairs.txt, or PATH<TAB>PATH<TAB>0|1). Or several of these.
        pairs_root: folder of the images that a text list of pairs names; None: the folder of the list.
        number: how many pairs to draw from a folder, half of them genuine; None: 6,000, or as many as there are.
        seed: another one draws other pairs.
        identify: folder of class folders, for rank-1 identification: the first image of each identity is the gallery, all others are probes.
        flip: the embedding of an image is the sum of its own and that of its mirror image, as in most published figures; not in the agreement.
        resamples: how often identities (or pairs) are drawn again for 95 % intervals; 0: no intervals; None: 1,000, none of more than 100,000 pairs.
        groups: text file, IDENTITY<TAB>GROUP on each line, for the figures of each group, the worst first.
        probe: folder of class folders, or a set of shards with labels, for a linear classifier on the embeddings, which learns from four fifths of each
            identity's images and is judged on the others; `seed` chooses them. Needs scikit-learn (extra `probe`).
        speed: whether to say what each model costs: bytes, parameters, operations, and how long it takes on the CPU, which is measured for up to 40 s a
            model. None: of several models. False: of several models all but the time.
        templates: list of the images of each template, IMAGE TEMPLATE MEDIA on each line, as IJB-B and IJB-C have it.
        template_pairs: list of pairs of templates, TEMPLATE TEMPLATE 1 (0 for two people) on each line. Then `model` may be the features of the images of the
            list, in its order: an .npy, an .npz, or a set of shards that has the images under the same names.
        template_root: folder of the images of the list, for models; None: the folder of the list.
        template_norm: "keep": long features count for more; "unit": all images of a media alike.
        detector_scores: each image counts as the fourth number of its line says.
        shards: a set, for the agreement with the embeddings in it, and for what pairs and people show of its rows.
        leaks: whether all its rows are looked through for files and pictures of the evaluation; None: where it lies on this machine.
        leak_bound: the cosine from which on two pictures count as the same; None: 0.95.
        root: folder, .rec or .tar with the images, where the shards hold none.
        resize, exif, size: how images are brought to the size of a model; size for models that take any.
        signature, input, output, scale, offset, color, preset, feed, tags: of the teacher where one is given, else of the model; of several models none may
            be given here, model.json beside a model says them.

    Returns:
        Figures of the models and of the teacher. Where no agreement could be told, `left_out` of a model says why.
    """
    from distill.api.judging import paths_of, request_of
    from distill.evaluation.evaluate import evaluate_models
    from distill.evaluation.features import is_features
    from distill.runtime.progress import bar, shown

    models, target, size = paths_of(model, "model"), None if out is None else as_path(out), size_of(asked.get("size"))
    if any(is_features(path) and (asked.get("templates") is not None or not path.is_dir()) for path in models):  # a folder without lists is meant as a model
        return _on_features(models, teacher, asked, target, progress)
    described = _describe_all(models, None if teacher is None else as_path(teacher), _options_of(asked))
    request = request_of(asked, target, _holdout(models), "teacher" if teacher is not None else next(iter(described)))
    request = _with_costs(request, asked.get("speed"), described, size)
    request = replace(request, made_by=_maker(described, request.shards))
    with shown(progress):
        found = evaluate_models({who: (one.path, partial(_load, one, described, size)) for who, one in described.items()}, request, bar)
    if target is not None and not isinstance(target, RemotePath) and all((target / name).is_file() for name in ("run.toml", "history.csv")):
        from distill.report.run_page import write_run_report

        write_run_report(target)  # a run whose own folder has the figures now shows them
    return EvaluateResult({who: Judged(figures["path"], figures) for who, figures in found.items()})


def _describe_all(models: Sequence[StoragePath], teacher: StoragePath | None, options: PreprocessingOptions) -> dict[str, Teacher]:
    """Returns the models by the names that figures have: one is "model", several are called by their paths. All are there, and none is there twice."""
    from distill.evaluation.model_names import short_names

    if not models:
        raise DistillError("evaluate: no model is given. Expected the path of one, or a list of paths.")
    if len(models) > 1 and teacher is None and (said := [f"--{name}" for name, value in options.items() if value]):
        raise DistillError(
            f"{' and '.join(said)}: of which of the {len(models)} models? Give the one that is meant as --teacher, or write it beside each model: "
            f"distill inspect MODEL {said[0]} ... --save."
        )
    given = [describe(path, cast("PreprocessingOptions", {}) if teacher is not None else options) for path in models]
    given += [] if teacher is None else [describe(teacher, options)]
    if len(models) > 1:
        _check_different(given, [str(path) for path in models] + ([] if teacher is None else [f"--teacher {teacher}"]))
    names = ["model"] if len(models) == 1 else short_names(models, _taken(models, teacher))
    return dict(zip([*names, *(["teacher"] if teacher is not None else [])], given, strict=True))


def _taken(models: Sequence[StoragePath], teacher: Path | None) -> set[str]:
    """Returns the names that no model of several may have: "model" is that of one alone, and "teacher" that of what the others are compared with, which
    without --teacher is the first."""
    from distill.evaluation.model_names import short_names

    return {"model"} if teacher is None and short_names(models[:1]) == ["teacher"] else {"model", "teacher"}


def _on_features(models: Sequence[StoragePath], teacher: Path | None, asked: Judging, target: StoragePath | None, progress: bool) -> EvaluateResult:
    """Judges stored features on templates."""
    from distill.api.judging import request_of
    from distill.evaluation.evaluate import evaluate_features
    from distill.evaluation.features import is_features
    from distill.evaluation.model_names import short_names
    from distill.runtime.progress import bar, shown

    features = next(path for path in models if is_features(path))
    if teacher is not None or not all(map(is_features, models)):
        raise DistillError(f"{features} has embeddings and is no model: it is judged on --templates and --template-pairs alone, beside other such files.")
    if said := [name for name in (*OF_IMAGES, *_options_of(asked)) if cast("dict[str, Any]", asked).get(name)]:
        raise DistillError(f"--{said[0].replace('_', '-')} is for models, and {features} has embeddings of images as they are. Leave it out.")
    if asked.get("templates") is None:
        raise DistillError(f"{models[0]} has embeddings and is no model. Name the lists that it is judged by with --templates and --template-pairs.")
    if missing := [path for path in models if not path.exists()]:
        raise DistillError(f"{missing[0]}: no such file.{close_to(missing[0])}")
    names = ["model"] if len(models) == 1 else short_names(models, ("model", "teacher"))
    with shown(progress):
        found = evaluate_features(dict(zip(names, map(str, models), strict=True)), request_of(asked, target, None, names[0]), bar)
    return EvaluateResult({who: Judged(figures["path"], figures) for who, figures in found.items()})


def _check_different(described: Sequence[Teacher], said: Sequence[str]) -> None:
    """Raises DistillError where two are the same model. said: what was typed for each."""
    places = dict[str, str]()
    for words, one in zip(said, described, strict=True):
        path = as_path(one.path)
        place = str(path) if isinstance(path, RemotePath) else str(path.resolve())
        if place in places:
            raise DistillError(f"evaluate: {places[place]} and {words} are the same model, {one.path}. Name each model once.")
        places[place] = words


def _with_costs(request: EvaluationRequest, speed: bool | None, described: dict[str, Teacher], size: tuple[int, int] | None) -> EvaluationRequest:
    """Returns the request with what tells the cost of models, where it is asked for."""
    from distill.api.costs import Latencies, cost_of

    several = "model" not in described
    if not (several or speed):
        return request
    latency = None if speed is False else Latencies(described, size).of
    return replace(request, cost=lambda model: cost_of(model, size), latency=latency)


def _options_of(asked: Judging) -> PreprocessingOptions:
    """Returns those keywords that say how a model wants its images."""
    from distill.images.preprocessing import PreprocessingOptions

    given: Any = {name: value for name, value in asked.items() if name in PreprocessingOptions.__annotations__}
    return given


def _holdout(models: Sequence[StoragePath]) -> Holdout | None:
    """Returns which rows were kept from the training of the first model that kept some."""
    from distill.training.origin import origin_of

    return next((holdout for path in models if (holdout := origin_of(path).holdout) is not None), None)


def _maker(described: dict[str, Teacher], shards: StoragePath | None) -> str | None:
    """Returns which of the models has made a set: that of its fingerprint; the teacher, where the set does not say who made it."""
    from distill.data.shards import open_shards
    from distill.data.shards.rows import UNKNOWN

    if shards is None:
        return None
    meta = open_shards(shards).meta
    if meta.teacher == UNKNOWN:
        return "teacher" if "teacher" in described else None
    wanted = meta.reading.scale, meta.reading.offset, meta.reading.color
    as_then = {who: one for who, one in described.items() if (one.preprocessing.scale, one.preprocessing.offset, one.preprocessing.color) == wanted}
    return next((who for who, one in as_then.items() if one.fingerprint() == meta.teacher), None)


def _load(teacher: Teacher, described: dict[str, Teacher], size: tuple[int, int] | None) -> Model:
    """Loads a model; of several, after the others were let go, so that no two are in memory."""
    from teachers import let_go

    for other in described.values() if "model" not in described else ():
        if other is not teacher:
            let_go(other)
    return load_steady(teacher, size)
