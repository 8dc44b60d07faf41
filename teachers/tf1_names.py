"""Which tensors of a TensorFlow 1 graph are meant: the image, the embedding, and what is needed for it. Nothing in such a graph says so."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from distill.errors import DistillError
from teachers.loaded import Shape, list_signatures, text_of

OUTPUT, INPUT = "embeddings", "input"  # FaceNet's names
MOST = 8  # names that a message lists
LISTED = "graph"


def find_output(graph: Any, where: str, wanted: str | None) -> Any:
    """Returns the tensor of the embeddings: the wanted one, else FaceNet's, else the only one that may be. DistillError with those there are."""
    candidates = [tensor for op in graph.get_operations() for tensor in op.outputs if not tensor.consumers() and _may_be_embeddings(tensor)]
    found = tensor_of(graph, wanted or OUTPUT)
    if found is None and wanted is None and len(candidates) == 1:
        found = candidates[0]
    if found is None:
        named = f"has no tensor {wanted!r}" if wanted else f"has no tensor {OUTPUT!r}, and does not say which one is the embedding"
        listing = listing_of({shown(op.outputs[0]): op.outputs[0] for op in _placeholders(graph.get_operations())}, candidates)
        raise DistillError(f"{where} {named}. Name it with --output.{listing}")
    return found


def find_input(graph: Any, where: str, wanted: str | None, output: Any, fed: Iterable[Any]) -> Any:
    """Returns the tensor that takes the images: the wanted one, else the only placeholder that can, else the one of FaceNet's name."""
    if wanted is not None:
        found = tensor_of(graph, wanted)
        if found is None:
            listing = listing_of({shown(op.outputs[0]): op.outputs[0] for op in _placeholders(graph.get_operations())}, [output])
            raise DistillError(f"{where} has no tensor {wanted!r} that {shown(output)} depends on. Choose another with --input.{listing}")
        return found
    needed, names = needed_for(output, fed), {tensor.name for tensor in fed}
    there = [op.outputs[0] for op in _placeholders(needed) if op.outputs[0].name not in names]
    for fits in (_takes_images, _may_take_images):
        if len(found := [tensor for tensor in there if fits(tensor)]) == 1:
            return found[0]
    usual = tensor_of(graph, INPUT)
    if usual is None or usual.op not in needed:
        raise DistillError(
            f"{where} does not say which tensor takes the images. Name it with --input.{listing_of({shown(one): one for one in there}, [output])}"
        )
    return usual


def needed_for(output: Any, known: Iterable[Any]) -> list[Any]:
    """Returns the operations that are run for `output` where `known` tensors are given."""
    known = list(known)
    names, ends, found, todo = {tensor.name for tensor in known}, {tensor.op.name for tensor in known}, dict[str, Any](), [output.op]
    while todo:
        if (op := todo.pop()).name not in found:
            found[op.name] = op
            todo += [tensor.op for tensor in op.inputs if tensor.name not in names]
            todo += [before for before in op.control_inputs if before.name not in ends]
    return list(found.values())


def _placeholders(operations: Iterable[Any]) -> list[Any]:
    return [op for op in operations if op.type in ("Placeholder", "PlaceholderWithDefault")]


def _takes_images(tensor: Any) -> bool:
    return tensor.shape.rank == 4 and _may_take_images(tensor)


def _may_take_images(tensor: Any) -> bool:
    sizes = tensor.shape.as_list() if tensor.shape.rank is not None else [None] * 4
    return (tensor.dtype.is_floating or tensor.dtype.name == "uint8") and len(sizes) == 4 and any(size in (3, None) for size in (sizes[1], sizes[3]))


def _may_be_embeddings(tensor: Any) -> bool:
    """Float [N, D], where the number of images is not fixed to another one."""
    return tensor.dtype.is_floating and tensor.shape.rank == 2 and tensor.shape.as_list()[0] is None


def tensor_of(graph: Any, name: str) -> Any:
    """Returns the tensor of that name, of which `:0` may be left out; None where there is none."""
    try:
        return graph.get_tensor_by_name(name if ":" in name else f"{name}:0")
    except (KeyError, ValueError):
        return None


def shown(tensor: Any) -> str:
    """Returns its name as messages say it."""
    return tensor.name.removesuffix(":0")


def sides_of(inputs: Mapping[str, Any], outputs: Iterable[Any]) -> dict[str, dict[str, dict[str, str]]]:
    """Returns what a graph takes and answers, as `Model.signatures`."""
    texts = {name: text_of(tensor.dtype.name, shape_of(tensor)) for name, tensor in inputs.items()}
    return {LISTED: {"inputs": texts, "outputs": {shown(tensor): text_of(tensor.dtype.name, shape_of(tensor)) for tensor in outputs}}}


def listing_of(inputs: Mapping[str, Any], outputs: Iterable[Any]) -> str:
    """Returns the same, to stand behind a message; of many the first."""
    return list_signatures(sides_of(dict(list(inputs.items())[:MOST]), list(outputs)[:MOST]))


def dtype_of(tensor: Any) -> np.dtype:
    return np.dtype(tensor.dtype.as_numpy_dtype)


def shape_of(tensor: Any) -> Shape | None:
    return None if tensor.shape.rank is None else tuple(tensor.shape.as_list())
