"""Figures on pairs: how long they take, how much memory, and whether the interval of a difference holds what it promises; and how fast images are embedded.

Seconds are those of all cores together. `--cases 1000` also counts in how many of so many simulated cases the interval of the difference of two models
holds the true difference; 930 to 970 of 1,000 are expected of 95 %.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import NormalDist

import numpy as np

from benchmarks.bench import interleaved, rate, save, show
from distill.data.shards import GROUP_ROWS, Rows
from distill.evaluation.intervals import Design, resample
from distill.evaluation.leaks import BOUND, _Near
from distill.evaluation.template_lists import TemplatePairs
from distill.evaluation.templates import pair_scores
from distill.evaluation.verification import verify_pairs
from distill.images.codec import decode

PAIRS, RESAMPLES, LARGE, LARGE_GENUINE = 6000, 1000, 8_010_270, 10_270  # LFW, and IJB-B 1:1
TEMPLATES = 12_115  # of IJB-B
CASE_PAIRS, CASE_RESAMPLES, CASE_FOLDS, CASE_FAR = 600, 1000, 10, 0.1
CASES = ("pairs", "identities without effect", "identities with effect")
BATCH = 128  # images a call, as embed_images has it
Model = tuple[float, float, float]  # the mean of genuine scores, and the deviations of a person and of a photo
TEACHER, STUDENT = 0.34, 0.28  # means of genuine scores; deviations are .1, and half of each score's variance is common to both


def drawn_scores(rng: np.random.Generator, same: np.ndarray, numbers: np.ndarray | None, effect: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores of teacher and student on the same pairs: mean + people of the pair + pair, each half common and half own, in all of deviation .1.

    effect: share of the variance that the people of a pair have, each person half of it.
    """
    scores = []
    common_pair = rng.normal(size=len(same))
    people = 0 if numbers is None else int(numbers.max()) + 1
    common_person = rng.normal(size=people)
    for mean in (TEACHER, STUDENT):
        noise = np.sqrt(0.5) * (common_pair + rng.normal(size=len(same))) * np.sqrt(1 - effect)
        if numbers is not None:
            person = np.sqrt(0.5) * (common_person + rng.normal(size=people))
            both = np.where(same, np.sqrt(2) * person[numbers[0]], person[numbers[0]] + person[numbers[1]])  # of variance 2 either way
            noise = noise + np.sqrt(effect / 2) * both
        scores.append(np.where(same, mean, 0.0) + 0.1 * noise)
    return scores[0], scores[1]


def truth() -> dict[str, float]:
    """Differences of teacher and student in the figures that endless pairs would give: genuine N(m, .1), impostors N(0, .1)."""
    bell = NormalDist()
    figures = {}
    for sign, mean in ((1, TEACHER), (-1, STUDENT)):
        each = {"accuracy": bell.cdf(mean / 0.2), "auc": bell.cdf(mean / 0.1 / np.sqrt(2)), "eer": 1 - bell.cdf(mean / 0.2)}
        each[f"tar@{CASE_FAR:g}"] = bell.cdf(mean / 0.1 - bell.inv_cdf(1 - CASE_FAR))
        figures.update({name: figures.get(name, 0.0) + sign * value for name, value in each.items()})
    return {**figures, "published": figures["accuracy"]}


def covered(case: str, cases: int, seed: int = 0) -> dict[str, int]:
    """In how many cases the interval of the difference holds the true one, for each figure."""
    true = truth()
    hits = dict.fromkeys(true, 0)
    same = np.tile([True, False], CASE_PAIRS // 2)
    for number in range(cases):
        rng = np.random.default_rng([seed, CASES.index(case), number])
        numbers = None
        if case != "pairs":
            first = rng.integers(0, 150, CASE_PAIRS)
            numbers = np.stack([first, np.where(same, first, (first + rng.integers(1, 150, CASE_PAIRS)) % 150)])
        scores = drawn_scores(rng, same, numbers, 0.5 if case.endswith("with effect") else 0.0)
        design = Design(same, CASE_FOLDS, numbers, CASE_RESAMPLES, seed=number)
        one, two = (resample(each, design, (CASE_FAR,)) for each in scores)
        for name, interval in one.minus(two).items():
            hits[name] += interval["low"] <= true[name] <= interval["high"]
    return hits


def seconds_of_templates(rng: np.random.Generator) -> float:
    """Seconds for the scores of IJB-B's pairs of templates, of 512 numbers."""
    table = rng.normal(size=(TEMPLATES, 512)).astype(np.float32)
    first, second = (rng.integers(0, TEMPLATES, LARGE, dtype=np.int32) for _ in range(2))
    started = time.process_time()
    pair_scores(table, TemplatePairs("drawn", first, second, first == second))
    return time.process_time() - started


def seconds_of_near_duplicates(rng: np.random.Generator) -> float:
    """Seconds to look for 12,000 images among a million rows of 512 numbers, from ten row groups."""
    groups, images = 10, rng.normal(size=(12_000, 512)).astype(np.float32)
    shown = _Near(images / np.linalg.norm(images, axis=1, keepdims=True), BOUND)
    rows = Rows([""] * GROUP_ROWS, None, rng.normal(size=(GROUP_ROWS, 512)).astype(np.float16))
    started = time.process_time()
    for _ in range(groups):
        shown.look(rows, np.ones(GROUP_ROWS, bool), [])
    return (time.process_time() - started) / groups / GROUP_ROWS * 1e6


def models(folder: Path) -> list[tuple[str, int, Path]]:
    """(name, size of its images, path): the shipped teacher of drawn faces, and untrained nets that people take for faces of 112x112."""
    from distill.config.student import Student
    from distill.models.students import build_student

    teacher = Path(__file__).parents[1] / "distill" / "drawn_faces" / "teacher" / "student.keras"
    made = [("teacher of drawn faces", 48, teacher)]
    for name in ("mobilefacenet",):
        build_student(Student(backbone=name, embedding=128), (112, 112, 3)).save(folder / f"{name}.keras")
        made.append((name, 112, folder / f"{name}.keras"))
    return made


def embedding_ratio(name: str, size: int, path: Path, faces: Path, rounds: int) -> tuple[float, float]:
    """Embedding of the images of pairs, from files, against the model's batched call on arrays in memory: ratios of images a second, and a CPU-second.

    Where other programs have the machine, the first one jumps, and the second one is what they leave as it is.
    """
    from distill.evaluation.embed import embed_images, spec_for
    from teachers import load_teacher

    keys = sorted(path.relative_to(faces).as_posix() for path in faces.rglob("*.jpg"))
    model = load_teacher(path)
    spec = spec_for(model)
    pixels = np.stack([decode((faces / key).read_bytes(), spec) for key in keys])

    def called() -> object:
        return [model(pixels[start : start + BATCH]) for start in range(0, len(pixels), BATCH)]

    def embedded() -> object:
        return embed_images(model, faces, keys, spec, batch=BATCH)

    spent: dict[str, list[float]] = {"batched call": [], "embed_images": []}

    def timed(way: str, work: Callable[[], object]) -> float:
        started = time.process_time()
        found = rate(len(keys), work)
        spent[way].append(len(keys) / (time.process_time() - started))
        return found

    ways = {"batched call": lambda: timed("batched call", called), "embed_images": lambda: timed("embed_images", embedded)}
    wall = show(f"{name}, {size}x{size}", interleaved(ways, rounds), "batched call", "images/s")["embed_images"]
    return wall, show("", {way: values[1:] for way, values in spent.items()}, "batched call", "images/CPU-s")["embed_images"]


def embedding_ratios(rounds: int) -> dict[str, object]:
    """Those of some models, on drawn faces."""
    from distill.synthetic.folder import draw_folder

    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, size, path in models(Path(folder)):
            faces = Path(folder) / f"faces{size}"
            if not faces.exists():
                draw_folder(faces, identities=32, images=8, size=size)
            wall, cpu = embedding_ratio(name, size, path, faces, rounds)
            found |= {f"embedding against the batched call, {name}": wall, f"the same by CPU time, {name}": cpu}
    return found


def seconds_of_figures() -> dict[str, object]:
    """How long the figures of scores take, and how much memory."""
    rng = np.random.default_rng(0)
    results: dict[str, object] = {}
    same = np.tile([True, False], PAIRS // 2)
    scores = np.clip(np.where(same, 0.4, 0.0) + rng.normal(0, 0.1, PAIRS), -1, 1)
    first = rng.integers(0, 2000, PAIRS)
    numbers = np.stack([first, np.where(same, first, (first + 1 + rng.integers(0, 1999, PAIRS)) % 2000)])
    for name, design in (("pairs", Design(same, 10)), ("identities", Design(same, 10, numbers))):
        started = time.process_time()
        resample(scores, design, (0.1, 0.01))
        results[f"seconds, {PAIRS:,} pairs, {RESAMPLES:,} resamples of {name}"] = time.process_time() - started
    same = np.zeros(LARGE, bool)
    same[rng.permutation(LARGE)[:LARGE_GENUINE]] = True
    scores = rng.normal(0, 0.1, LARGE)
    scores[same] += 0.5
    np.clip(scores, -1, 1, out=scores)
    started = time.process_time()
    verify_pairs(scores, same)
    results[f"seconds, all figures of {LARGE:,} pairs"] = time.process_time() - started
    results[f"seconds, scores of {LARGE:,} pairs of templates"] = seconds_of_templates(rng)
    results["seconds, near-duplicates of 12,000 images in 1,000,000 rows"] = seconds_of_near_duplicates(rng)
    results["MB at most"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="rounds of embedding pairs")
    parser.add_argument("--only-embedding", action="store_true")
    parser.add_argument("--cases", type=int, default=0, help="simulated cases of each kind")
    asked = parser.parse_args()
    results = {} if asked.only_embedding else seconds_of_figures()
    for case in CASES if asked.cases else ():
        results[f"covered of {asked.cases:,}, {case}"] = covered(case, asked.cases)
    results |= embedding_ratios(asked.rounds) if asked.rounds else {}
    for name, value in results.items():
        print(f"{name:<60}{value:>10.2f}" if isinstance(value, float) else f"{name:<60}{value}")
    save("bench_evaluate", results)


if __name__ == "__main__":
    main()
