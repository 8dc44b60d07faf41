"""Which files a checkpoint of TensorFlow 1 consists of: its graph (.meta), the list of its weights (.index) and these (.data-00000-of-00001).

The .index is what names a checkpoint. The graph is often written once for many of them, as FaceNet's are: model-2018.meta beside
model-2018.ckpt-275.index. Names alone decide, on disk and in an object store.
"""

import re
from collections.abc import Iterable

from distill.errors import DistillError
from distill.storage.path import StoragePath

GRAPH, INDEX = ".meta", ".index"
PART = re.compile(r"\.data-\d{5}-of-(\d{5})")
LATEST = re.compile(r'^\s*model_checkpoint_path:\s*"([^"]+)"', re.MULTILINE)
LONGEST = 1 << 16  # bytes of a file `checkpoint` that are looked at


def find_index(path: StoragePath) -> StoragePath | None:
    """Returns the .index of the checkpoint that a .meta, .index or .data file, the prefix of these or a folder names; None where it names none.

    Raises:
        DistillError: it has a graph without weights.
    """
    if path.is_dir():
        return _in_folder(path)
    if path.suffix == GRAPH and path.is_file():
        found = _latest(_named(path.parent, INDEX), path.stem)
        if found is None:
            raise DistillError(f"{path} is a graph without its weights: expected {path.stem}{INDEX} and its .data file in the same folder. Put them there too.")
        return found
    name = PART.split(path.name)[0] if PART.search(path.name) else path.stem if path.suffix == INDEX else path.name
    index = path.with_name(f"{name}{INDEX}")
    return index if index.is_file() and find_graph(index) is not None else None


def find_graph(index: StoragePath) -> StoragePath | None:
    """Returns the .meta of a checkpoint: that of its name, else that whose name begins its own, else the only one in the folder."""
    graphs = _named(index.parent, GRAPH)
    beginning = [graph for graph in graphs if _begins(index.stem, graph.stem)]
    return max(beginning, key=lambda graph: len(graph.stem)) if beginning else graphs[0] if len(graphs) == 1 else None


def find_parts(index: StoragePath) -> list[StoragePath]:
    """Returns the files that hold its weights, in order. DistillError where one of them is not there."""
    found = {path.name: path for path in index.parent.iterdir() if path.name.startswith(f"{index.stem}.data-")}
    sizes = {int(match[1]) for match in map(PART.search, found) if match}
    of = max(sizes, default=1)
    names = [f"{index.stem}.data-{number:05}-of-{of:05}" for number in range(of)]
    if missing := next((name for name in names if name not in found), None):
        raise DistillError(f"teacher {index} has weights in {missing}, expected in the same folder, where it is not. Put that file there too.")
    return [found[name] for name in names]


def _in_folder(folder: StoragePath) -> StoragePath | None:
    """The checkpoint that the file `checkpoint` calls the latest, else that of the highest step."""
    graphs, indexes = _named(folder, GRAPH), _named(folder, INDEX)
    if not graphs:
        return None
    if not indexes:
        raise DistillError(f"{folder} has a graph ({graphs[0].name}) without its weights: expected its {INDEX} and .data files there too.")
    told = folder / "checkpoint"
    if told.is_file():
        with told.open("rb") as stream:
            match = LATEST.search(stream.read(LONGEST).decode(errors="replace"))
        name = re.split(r"[/\\]", match[1])[-1] + INDEX if match else ""
        if index := next((index for index in indexes if index.name == name), None):
            return index
    return _latest(indexes, "")


def _named(folder: StoragePath, suffix: str) -> list[StoragePath]:
    return sorted(path for path in folder.iterdir() if path.suffix == suffix)


def _latest(indexes: Iterable[StoragePath], beginning: str) -> StoragePath | None:
    """The one of exactly that name, else the one of the highest step among those whose names begin so and that have no graph of their own."""
    found = [index for index in indexes if index.stem == beginning or not beginning or (_begins(index.stem, beginning) and not _own_graph(index))]
    exact = [index for index in found if index.stem == beginning]
    return (exact or [max(found, key=_step)])[0] if found else None


def _begins(name: str, beginning: str) -> bool:
    """Whether a name is `beginning`, or goes on behind it with a separator: model-10 does not begin with model-1."""
    return name == beginning or (name.startswith(beginning) and name[len(beginning)] in "-._")


def _own_graph(index: StoragePath) -> bool:
    return index.with_name(f"{index.stem}{GRAPH}").is_file()


def _step(index: StoragePath) -> tuple[int, str]:
    match = re.search(r"-(\d+)$", index.stem)
    return int(match[1]) if match else -1, index.name
