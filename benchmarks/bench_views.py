"""What views are worth: the same student, steps and pictures; what differs is which pictures it is shown, and of which the teacher was asked.

The demo's teacher learns from the demo's pictures; then 4,000 pictures (--identities) of other identities are labelled as they are and in 2, 8 and 16 views, and
the demo's student learns from each set for equally many steps: plain, augmented while the embedding stays the plain picture's, and views.
Judged on pairs of identities that nobody was trained on. Intervals are of 95 %, from drawing seeds and pairs again.

Everything is a command line of distill; what a folder holds already (--folder) is not done again.
"""

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.bench import save
from distill.data.shards import open_shards
from distill.demo import FULL, STUDENT, write_run_files
from distill.evaluation.folds import kfold_accuracy
from distill.evaluation.rates import tar_at_far

IMAGES, FIRST = 10, 5000
STEPS, BATCH, SEEDS, AGAIN = 1250, 128, (1, 2, 3), 200
VARIANTS = {  # set, more of [data], and of how many epochs' rows one epoch is
    "plain": ("set-1", "", 1),
    "augmented, plain embedding": ("set-1", 'augment = "{recipe}"', 1),
    "2 views": ("set-2", "", 1),
    "8 views": ("set-8", "", 1),
    "8 views, all of a row at once": ("set-8", 'views = "all"', 8),
    "16 views": ("set-16", "", 1),
}
RUN = """\
seed = {seed}
[student]
backbone = "small_conv"
widths = {widths}
embedding = 128
dropout = 0.0
[data]
shards = "{shards}"
batch = {batch}
{more}
[[stage]]
source = "shards"
epochs = {epochs}
optimizer = {{ name = "adamw", learning_rate = 1e-2, weight_decay = 1e-3 }}
schedule = {{ name = "cosine", warmup = 0.05 }}
terms = [{{ name = "cosine", weight = 64.0 }}]
"""


def distill(*words: object) -> float:
    """Run a command line; the seconds it took."""
    line = [str(word) for word in words]
    print(f"$ distill {shlex.join(line)}", file=sys.stderr, flush=True)
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "distill.cli", *line], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def prepare(folder: Path, recipe: str, identities: int) -> dict[str, dict[str, float]]:
    """Pictures, teacher, and the sets; of each set bytes a row and seconds of labelling."""
    folder.mkdir(parents=True, exist_ok=True)
    size = str(FULL.size)
    drawn = {
        "faces/train": (FULL.identities, FULL.images, 0),
        "faces/unseen": (FULL.unseen, FULL.unseen_images, FULL.identities),
        "faces/taught": (identities, IMAGES, FIRST),
    }
    for name, (number, images, first) in drawn.items():
        distill("faces", folder / name, "--identities", number, "--images", images, "--size", size, "--first", first)
    write_run_files(folder, FULL, train_teacher=True)
    distill("train", folder / "teacher.toml", "--out", folder / "runs/teacher")
    distill("export", folder / "runs/teacher", folder / "teacher", "--force")
    found = {}
    for views in (1, 2, 8, 16):
        name, told = f"set-{views}", folder / f"set-{views}.json"
        if not told.exists():
            words = ("--views", views, "--recipe", recipe) if views > 1 else ()
            distill("embed", folder / "faces/taught", folder / name, "--teacher", folder / "teacher", "--rows", 500, *words)
            shards = open_shards(folder / name)
            size_of = sum(record.shard_bytes for record in shards.records) / shards.rows
            seconds = again(folder, name, words)
            told.write_text(json.dumps({"bytes_a_row": size_of, "labelling_seconds": seconds}))
        found[name] = json.loads(told.read_text())
    return found


def again(folder: Path, name: str, words: tuple) -> float:
    """Seconds of labelling by the run's own account, imports and loading of the teacher left out."""
    command = [sys.executable, "-m", "distill.cli", "embed", folder / "faces/taught", folder / f"{name}-again"]
    command += ["--teacher", folder / "teacher", "--rows", 500, *words, "--json"]
    done = subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)["seconds"]


def judge(folder: Path, name: str, run: str) -> dict[str, np.ndarray]:
    """Scores of the unseen pairs, and which are of one identity."""
    out = folder / "evaluation" / name
    if not (out / "scores-model.npz").exists():
        (folder / f"{name}.toml").write_text(run)
        distill("train", folder / f"{name}.toml", "--out", folder / "runs" / name)
        distill("evaluate", folder / "runs" / name, "--pairs", folder / "faces/unseen", "--number", FULL.pairs, "--out", out)
    with np.load(out / "scores-model.npz") as held:
        return {"scores": held["scores"], "same": held["same"]}


def figures(scores: np.ndarray, same: np.ndarray) -> tuple[float, float]:
    return kfold_accuracy(scores, same).accuracy, tar_at_far(scores, same, 0.01).tar


def spread(judged: list[dict[str, np.ndarray]]) -> dict[str, list[float]]:
    """Mean of the seeds, and the 95 % interval of what other seeds and other pairs would have given."""
    means = np.mean([figures(**one) for one in judged], axis=0)
    rng, drawn = np.random.default_rng(0), []
    for _ in range(AGAIN):
        one = judged[int(rng.integers(len(judged)))]
        pairs = np.sort(rng.integers(0, len(one["same"]), len(one["same"])))  # in order: a pair drawn twice stays within one fold
        drawn.append(figures(one["scores"][pairs], one["same"][pairs]))
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    return {name: [float(means[place]), float(low[place]), float(high[place])] for place, name in enumerate(("accuracy", "tar"))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="work here and keep it")
    parser.add_argument("--recipe", default="face")
    parser.add_argument("--identities", type=int, default=400, help=f"of {IMAGES} pictures each, to learn from")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary)
        sets = prepare(folder, asked.recipe, asked.identities)
        epochs = -(-STEPS // -(-asked.identities * IMAGES // BATCH))
        results = {"teacher": {**spread([judge_teacher(folder)])}}
        for place, (name, (shards, more, rows)) in enumerate(VARIANTS.items()):
            runs = []
            for seed in asked.seeds:
                text = RUN.format(
                    seed=seed, widths=STUDENT, shards=folder / shards, batch=BATCH, epochs=round(epochs / rows), more=more.format(recipe=asked.recipe)
                )
                runs.append(judge(folder, f"{place}-{seed}", text))
            results[name] = {**spread(runs), **sets[shards]}
        print(f"\n{asked.identities * IMAGES:,} pictures, {epochs} epochs of batch {BATCH}; mean of the seeds, and 95 % interval")
        show(results)
    save("bench_views", results)


def judge_teacher(folder: Path) -> dict[str, np.ndarray]:
    out = folder / "evaluation" / "teacher"
    if not (out / "scores-model.npz").exists():
        distill("evaluate", folder / "teacher", "--pairs", folder / "faces/unseen", "--number", FULL.pairs, "--out", out)
    with np.load(out / "scores-model.npz") as held:
        return {"scores": held["scores"], "same": held["same"]}


def show(results: dict[str, dict]) -> None:
    print(f"{'':<30}{'accuracy':>24}{'TAR at FAR 1 %':>24}{'bytes a row':>13}{'labelling':>11}")
    for name, row in results.items():
        each = [f"{100 * mean:.1f} % ({100 * low:.1f} to {100 * high:.1f})" for mean, low, high in (row["accuracy"], row["tar"])]
        more = f"{row['bytes_a_row']:>13,.0f}{row['labelling_seconds']:>9.0f} s" if "bytes_a_row" in row else ""
        print(f"{name:<30}{each[0]:>24}{each[1]:>24}{more}")


if __name__ == "__main__":
    main()
