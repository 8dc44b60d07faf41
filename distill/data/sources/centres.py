"""Means of what the teacher said of each class. Short: one pass over the rows that a student learns from."""

from __future__ import annotations

import numpy as np

from distill.data.sources.shards import ShardSource


def class_means(source: ShardSource) -> np.ndarray:
    """Returns the mean of the stored embeddings of each class, of the plain pictures, over the rows of the source's part alone.

    A row group at a time, so that memory is that of the result.

    Returns:
        float32 [classes, D]; zeros for a class that has no row there.
    """
    sums, counts = np.zeros((source.classes, source.set.dimension)), np.zeros(source.classes, np.int64)
    for found, rows in source.groups(["embedding", "label"]):
        labels, embeddings = found.labels[rows], found.embeddings[rows].reshape(len(rows), -1)
        order = np.argsort(labels, kind="stable")
        there, starts = np.unique(labels[order], return_index=True)
        sums[there] += np.add.reduceat(embeddings[order].astype(np.float64), starts, axis=0)
        counts += np.bincount(labels, minlength=source.classes)
    return (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)
