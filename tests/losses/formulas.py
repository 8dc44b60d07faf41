"""The losses once more, in NumPy and float64, written row by row as the papers have them: what the values and gradients of distill/losses are held against.

Every function gives one value a row, in the order of the arguments that it is tested with.
"""

import numpy as np

STEP = 1e-5


def slopes(formula, point):
    """The gradient of the sum of a formula, by differences."""
    found = np.zeros_like(point)
    for place in np.ndindex(point.shape):
        shift = np.zeros_like(point)
        shift[place] = STEP
        found[place] = (formula(point + shift).sum() - formula(point - shift).sum()) / (2 * STEP)
    return found


def units(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def smooth_l1(difference):
    size = np.abs(difference)
    return np.where(size < 1, 0.5 * size**2, size - 0.5)


# ------------------------------------------------------------------------------------------------------------------- embeddings and logits


def kl(target, prediction, temperature=4.0):
    wanted, found = log_softmax(target / temperature), log_softmax(prediction / temperature)
    return temperature**2 * (np.exp(wanted) * (wanted - found)).sum(axis=-1)


def queue_similarity(target, prediction, queue, filled, temperature=0.07):
    known = queue[filled]
    return kl(units(target) @ known.T, units(prediction) @ known.T, temperature) / temperature**2


def distances(vectors):
    return np.array([[np.linalg.norm(one - other) for other in vectors] for one in vectors])


def rkd_distance(target, prediction, rows=256):
    wanted, found = (distances(each[:rows]) for each in (target, prediction))
    return smooth_l1(found / found[found > 0].mean() - wanted / wanted[wanted > 0].mean()).mean(axis=1)


def rkd_angle(target, prediction, rows=128):
    def cosines(vectors):
        apart = np.array([[units(other - one) if (other != one).any() else 0 * one for other in vectors] for one in vectors])
        return np.array([each @ each.T for each in apart])

    return smooth_l1(cosines(prediction[:rows]) - cosines(target[:rows])).mean(axis=(1, 2))


# ----------------------------------------------------------------------------------------------------------------------------------- margins


def cross_entropy(label, logits):
    return -log_softmax(logits)[np.arange(len(label)), label]


def with_target(label, cosines, target):
    """target(angle, cosine) of each row's own class, in the place of its cosine."""
    changed = cosines.copy()
    for row, own in enumerate(label):
        changed[row, own] = target(np.arccos(cosines[row, own]), cosines[row, own])
    return changed


def smoothed(label, logits, label_smoothing):
    rows, classes = logits.shape
    wanted = np.full((rows, classes), label_smoothing / classes)
    wanted[np.arange(rows), label] += 1 - label_smoothing
    return -(wanted * log_softmax(logits)).sum(axis=-1)


def guarded(angle_add, guard):
    def target(angle, cosine):
        widened = angle + angle_add
        if widened <= np.pi or guard == "none":
            return np.cos(widened)
        return {"mirror": -2 - np.cos(widened), "classic": cosine - angle_add * np.sin(np.pi - angle_add), "clip": -1.0}[guard]

    return target


def arcface(label, cosines, scale=64.0, angle_add=0.5, guard="mirror"):
    return cross_entropy(label, scale * with_target(label, cosines, guarded(angle_add, guard)))


def cosface(label, cosines, scale=64.0, cos_sub=0.35):
    return cross_entropy(label, scale * with_target(label, cosines, lambda angle, cosine: cosine - cos_sub))


def sphereface(label, cosines, scale=30.0, angle_mult=1.7):
    def target(angle, cosine):
        turns = np.floor(angle_mult * angle / np.pi)
        return (-1) ** turns * np.cos(angle_mult * angle) - 2 * turns

    return cross_entropy(label, np.reshape(scale, (-1, 1)) * with_target(label, cosines, target))


def curricularface(label, cosines, threshold, scale=64.0, angle_add=0.5):
    changed = with_target(label, cosines, guarded(angle_add, "mirror"))
    for row, own in enumerate(label):
        for other in range(cosines.shape[1]):
            if other != own and cosines[row, other] > changed[row, own]:
                changed[row, other] = cosines[row, other] * (threshold + cosines[row, other])
    return cross_entropy(label, scale * changed)


def adaface(label, cosines, norms, mean, deviation, scale=64.0, margin=0.4, concentration=0.333):
    cosines = np.clip(cosines, -1 + 1e-3, 1 - 1e-3)
    quality = np.clip(concentration * (np.clip(norms, 1e-3, 100) - mean) / (deviation + 1e-3), -1, 1)
    changed = cosines.copy()
    for row, own in enumerate(label):
        angle = np.clip(np.arccos(cosines[row, own]) - margin * quality[row], 1e-3, np.pi - 1e-3)
        changed[row, own] = np.cos(angle) - (margin + margin * quality[row])
    return cross_entropy(label, scale * changed)


def magface(label, cosines, norms, scale=64.0, norm_weight=20.0, form="easy"):
    length = np.clip(norms, 10, 110)
    margins = 0.45 + (length - 10) * (0.8 - 0.45) / (110 - 10)
    changed = cosines.copy()
    for row, own in enumerate(label):
        cosine = cosines[row, own]
        widened = np.cos(np.arccos(cosine) + margins[row])
        changed[row, own] = (widened if cosine > 0 else cosine) if form == "easy" else min(widened, cosine)
    return cross_entropy(label, scale * changed) + norm_weight * (length / 110**2 + 1 / length)


# --------------------------------------------------------------------------------------------------------------------------------- distances


def centre(label, embedding, centres):
    return ((embedding - centres[label]) ** 2).sum(axis=1) / 2


def dissimilarities(embedding, distance):
    return 1 - units(embedding) @ units(embedding).T if distance == "cosine" else distances(embedding) ** 2


def triplet_hard(label, embedding, margin=0.35, distance="cosine"):
    apart, rows = dissimilarities(embedding, distance), range(len(label))
    own = [max(apart[row, other] for other in rows if label[other] == label[row]) for row in rows]
    others = [min(apart[row, other] for other in rows if label[other] != label[row]) for row in rows]
    return np.array([max(far - near + margin, 0) for far, near in zip(own, others, strict=True)])


def triplet_all(label, embedding, margin=0.35, distance="cosine", rows=256):
    apart, count = dissimilarities(embedding[:rows], distance), len(embedding[:rows])
    found = np.zeros((count, count, count))
    for a, p, n in np.ndindex(found.shape):
        if a != p and label[a] == label[p] != label[n]:
            found[a, p, n] = max(apart[a, p] - apart[a, n] + margin, 0)
    return count * found.sum(axis=(1, 2)) / max((found > 0).sum(), 1)
