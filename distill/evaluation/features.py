"""Embeddings that lie in a file, in place of a model: an .npy or .npz that another program wrote, or a set of shards."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distill.data.arrays import read_embeddings
from distill.data.layout import find_index
from distill.data.shards import open_shards
from distill.errors import DistillError
from distill.evaluation.template_lists import TemplateList
from distill.storage.path import StoragePath, as_path

SUFFIXES = (".npy", ".npz")


@dataclass(frozen=True)
class StoredFeatures:
    """A file or a set of embeddings; nothing is read before it is asked for."""

    path: str

    def of(self, images: TemplateList) -> np.ndarray:
        """Returns the features of images, float [N, D]: by their names where the file has names, else row by row; a view of an .npy.

        Raises:
            DistillError: an image has none, or there are as many rows as images not.
        """
        path = as_path(self.path)
        if path.suffix.lower() not in SUFFIXES:
            return self._of_set(images)
        if not isinstance(path, Path):
            raise DistillError(f"{path}: features are read from this machine. Copy the file here.")
        names, table = read_embeddings(path)
        if names is not None:
            if len(set(names)) < len(names):
                twice = next(name for name, times in Counter(names).items() if times > 1)
                raise DistillError(f"{path} has {twice} more than once, so which of its embeddings is meant is not known. Keep one of each name.")
            return table[self._places({name: row for row, name in enumerate(names)}, images)]
        if len(table) != len(images):
            raise DistillError(
                f"{path} has {len(table):,} rows, {images.name} names {len(images):,} images. Expected a row for each image, in the order of the list."
            )
        return table

    def _of_set(self, images: TemplateList) -> np.ndarray:
        shards, wanted = open_shards(self.path), set(images.keys)
        places: dict[str, int] = {}
        table = np.empty((len(wanted), shards.dimension), np.float32)
        for number in range(len(shards.records)):
            for rows in shards.read(number, None, ["key", "embedding"]):
                here = [row for row, key in enumerate(rows.keys) if key in wanted and key not in places]
                table[len(places) : len(places) + len(here)] = rows.embeddings[here]
                places.update({rows.keys[row]: len(places) + place for place, row in enumerate(here)})
        return table[self._places(places, images)]

    def _places(self, places: dict[str, int], images: TemplateList) -> np.ndarray:
        if missing := [key for key in dict.fromkeys(images.keys) if key not in places]:
            more = f", nor of {len(missing) - 1:,} more" if len(missing) > 1 else ""
            raise DistillError(f"{self.path} has no embedding of {missing[0]}, which {images.name} names{more}. Give the features of all images of the list.")
        return np.array([places[key] for key in images.keys], np.int64)


def is_features(path: StoragePath) -> bool:
    """Whether a path names stored embeddings and no model, by its name or by the index of a set."""
    return path.suffix.lower() in SUFFIXES or find_index(path) is not None or find_index(path / "shards") is not None
