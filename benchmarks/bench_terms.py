"""What each term makes of the same student, pictures and number of steps, judged on pairs of identities that nobody was trained on.

The teacher that ships with distill labels drawn faces once; then the student learns from nothing by each term alone, and where a term is meant to stand beside
another one, beside it. The rows that `--seeds` repeats are the plain distillation, joint training, and the three kinds of class centres. Margins are
milder than those of papers, because a student without a first stage of softmax does not begin with large ones.
What a folder (--folder) holds already is not done again.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import distill
from benchmarks.bench import save
from distill.demo import FULL, STUDENT

BATCH, RATE = 128, 1e-2
COSINE = {"name": "cosine", "weight": 64.0}
ARCFACE = {"name": "arcface", "scale": 24.0, "angle_add": 0.2}
TRIPLET = {"balanced": {"identities": 32, "images": 4}}
VARIANTS: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {  # terms, and more of the stage
    "cosine": ([COSINE], {}),
    "mse": ([{"name": "mse", "weight": 64.0}], {}),
    "sum_of_squares": ([{"name": "sum_of_squares"}], {}),
    "kl": ([{"name": "kl", "weight": 64.0}], {}),
    "rkd_distance": ([{"name": "rkd_distance", "weight": 64.0}], {}),
    "rkd_angle": ([{"name": "rkd_angle", "weight": 64.0}], {}),
    "queue": ([{"name": "queue"}], {}),
    "softmax": ([{"name": "softmax", "scale": 24.0}], {}),
    "softmax, smoothed labels": ([{"name": "softmax", "scale": 24.0, "label_smoothing": 0.1}], {}),
    "linear_softmax": ([{"name": "linear_softmax"}], {}),
    "sphereface": ([{"name": "sphereface", "scale": 24.0, "angle_mult": 1.2}], {}),
    "cosface": ([{"name": "cosface", "scale": 24.0, "cos_sub": 0.1}], {}),
    "arcface, learned centres": ([ARCFACE], {}),
    "arcface, mean centres": ([{**ARCFACE, "centres": "mean"}], {}),
    "arcface, adaptive centres": ([{**ARCFACE, "centres": "adaptive"}], {}),
    "arcface, 3 sub-centres": ([{**ARCFACE, "sub_centres": 3}], {}),
    "arcface, straight-through gradient": ([{**ARCFACE, "gradient": "straight_through"}], {}),
    "curricularface": ([{"name": "curricularface", "scale": 24.0, "angle_add": 0.2}], {}),
    "adaface": ([{"name": "adaface", "scale": 24.0, "margin": 0.2}], {}),
    "magface": ([{"name": "magface", "scale": 24.0, "lower_margin": 0.1, "upper_margin": 0.3}], {}),
    "softmax + centre": ([{"name": "softmax", "scale": 24.0}, {"name": "centre", "weight": 0.01}], {}),
    "softmax + centre_mean": ([{"name": "softmax", "scale": 24.0}, {"name": "centre_mean"}], {}),
    "triplet, hard": ([{"name": "triplet"}], TRIPLET),
    "triplet, all": ([{"name": "triplet", "mining": "all"}], TRIPLET),
    "triplet, squared euclidean": ([{"name": "triplet", "distance": "squared_euclidean"}], TRIPLET),
    "cosine + arcface": ([COSINE, ARCFACE], {}),
    "cosine + arcface, auto weight": ([COSINE, {**ARCFACE, "weight": "auto"}], {}),
    "cosine + arcface, adaptive centres": ([COSINE, {**ARCFACE, "centres": "adaptive"}], {}),
}
REPEATED = ("cosine", "cosine + arcface", "arcface, learned centres", "arcface, mean centres", "arcface, adaptive centres")


def prepare(folder: Path) -> None:
    """Pictures to learn from and to judge by, and the teacher's embeddings of the first."""
    if not (folder / "set" / "_index.json").exists():
        teacher = Path(distill.__file__).parent / "drawn_faces" / "teacher" / "student.keras"
        distill.draw_faces(folder / "faces", identities=FULL.identities, images=FULL.images, size=FULL.size)
        distill.draw_faces(folder / "unseen", identities=FULL.unseen, images=FULL.unseen_images, size=FULL.size, first=FULL.identities)
        distill.embed(folder / "faces", folder / "set", teacher=teacher, engine="processes")


def run_file(folder: Path, name: str, seed: int, epochs: int) -> str:
    """Returns a run of one stage as TOML."""
    import tomli_w

    terms, more = VARIANTS[name]
    stage = {"source": "shards", "epochs": epochs, "terms": terms, **more}
    stage |= {"optimizer": {"name": "adamw", "learning_rate": RATE, "weight_decay": 1e-3}, "schedule": {"name": "cosine", "warmup": 0.1}}
    student = {"backbone": "small_conv", "widths": json.loads(STUDENT), "embedding": 128, "dropout": 0.0}
    return tomli_w.dumps({"seed": seed, "student": student, "data": {"shards": str(folder / "set"), "batch": BATCH}, "stage": [stage]})


def judge(folder: Path, name: str, seed: int, steps: int) -> dict[str, float]:
    """Returns pair accuracy and TAR at FAR 1e-2 of a student of this variant, each in [0, 1], and the loss at the end of its training."""
    place = folder / f"{steps} {name} {seed}.json"
    if not place.exists():
        run, out = folder / "run.toml", folder / "runs" / f"{steps} {name} {seed}"
        run.write_text(run_file(folder, name, seed, max(1, round(steps / FULL.epoch_steps))))
        trained = distill.train(run, out=out)
        found = distill.evaluate(out, pairs=folder / "unseen", number=FULL.pairs, out=folder / "evaluations" / f"{steps} {name} {seed}").model
        place.write_text(json.dumps({"accuracy": found.accuracy, "tar": found.tar[0.01], "loss": trained.as_dict()["last"]["loss"]}))
    return json.loads(place.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="work here and keep it")
    parser.add_argument("--steps", type=int, default=8 * FULL.epoch_steps)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="the first is that of all variants")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    asked = parser.parse_args()
    results: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary)
        prepare(folder)
        print(f"{'':<36}{'accuracy':>10}{'TAR at FAR 1 %':>16}{'loss':>10}   ({asked.steps} steps of {BATCH})")
        for name in asked.only:
            seeds = asked.seeds if name in REPEATED else asked.seeds[:1]
            found = [judge(folder, name, seed, asked.steps) for seed in seeds]
            results[name] = {figure: [one[figure] for one in found] for figure in found[0]}
            mean = {figure: statistics.mean(values) for figure, values in results[name].items()}
            lowest = (
                f"   {len(seeds)} seeds, accuracy {100 * min(results[name]['accuracy']):.1f} to {100 * max(results[name]['accuracy']):.1f}" if seeds[1:] else ""
            )
            print(f"{name:<36}{100 * mean['accuracy']:>8.1f} %{100 * mean['tar']:>14.1f} %{mean['loss']:>10.3f}{lowest}", flush=True)
    save("bench_terms", {"steps": asked.steps, "variants": results})


if __name__ == "__main__":
    main()
