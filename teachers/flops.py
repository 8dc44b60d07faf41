"""Floating-point operations of a model for one image: 2 for each multiplication with an addition in its convolutions and matrix products.

Everything else (additions of biases, activations, normalisation, pooling) is left out, as papers do; in a network of convolutions it is a few per cent.
A convolution of a kernel of k x k over c channels of a group, with m numbers in its answer, has 2 m k k c.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.errors import DistillError

Sizes = Sequence[int | None] | None
CALLS = ("PartitionedCall", "StatefulPartitionedCall")
AS_A_WHOLE = ("_XlaMustCompile", "_noinline", "api_implements", "_lower_using_switch_merge")  # the last one: conditions stay what they are
CHOOSING = ("If", "StatelessIf", "While", "StatelessWhile", "Case", "StatelessCase", "NextIteration")


def multiplied(output: Sizes, each: int | None, where: str) -> int:
    """Returns 2 x numbers of the output x multiply-adds of each of them. DistillError where a size is not known."""
    if output is None or each is None or any(size is None or size < 0 for size in output):
        raise DistillError(f"the size of what {where} answers is not known")
    return 2 * math.prod(size or 0 for size in output) * each


# ------------------------------------------------------------------------------------------------------------------------- TensorFlow


def of_tensorflow(call: Callable[[Any], Any], shape: Sequence[int], dtype: Any) -> int:
    """Returns those of a function of one tensor, which is traced for `shape`.

    Calls within calls are written out, and what reads a variable becomes a place of its size, so that TensorFlow tells all sizes in one graph
    and no weight is copied: to make constants of them took 1.4 GB for a ResNet-101 of 170 MB.
    """
    import tensorflow as tf

    traced = tf.function(call).get_concrete_function(tf.TensorSpec(shape, dtype))
    written_out = _written_out(traced)
    _place_variables(written_out, traced)
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(written_out, name="")
    return of_operations(graph.get_operations())


def _written_out(function: Any) -> Any:
    """Returns the GraphDef of a concrete function without calls, also those that would be compiled as a whole, as Keras has convolutions in groups."""
    import tensorflow as tf
    from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef
    from tensorflow.python.grappler import tf_optimizer

    meta, config = MetaGraphDef(), tf.compat.v1.ConfigProto()
    meta.graph_def.CopyFrom(function.graph.as_graph_def())
    library = meta.graph_def.library.function
    for one in [*library, *meta.graph_def.node, *(node for inner in library for node in inner.node_def)]:
        for name in AS_A_WHOLE:
            one.attr.pop(name, None)
    meta.collection_def["train_op"].node_list.value.extend(tensor.name for tensor in [*function.inputs, *function.outputs])
    config.graph_options.rewrite_options.min_graph_nodes = -1  # small graphs too
    config.graph_options.rewrite_options.optimizers.append("function")
    return tf_optimizer.OptimizeGraph(config, meta)


def _place_variables(graph: Any, function: Any) -> None:
    """Makes of each operation in a GraphDef that reads a variable a placeholder of the variable's size."""
    sizes = {id(variable.handle): variable for variable in function.variables}
    known = {inner.op.name: sizes[id(outer)] for outer, inner in function.graph.captures if id(outer) in sizes}
    through = {node.name: node.input[0].partition(":")[0] for node in graph.node if node.op in ("Identity", "EnsureShape") and node.input}
    for node in graph.node:
        if node.op != "ReadVariableOp":
            continue
        place = node.input[0].partition(":")[0]
        while place in through:
            place = through[place]
        if place in known:
            del node.input[:]
            node.op = "Placeholder"
            node.attr["shape"].shape.CopyFrom(known[place].shape.as_proto())


def of_operations(operations: Iterable[Any]) -> int:
    """Returns those of operations of a graph of TensorFlow whose sizes are known."""
    return sum(map(_of_operation, operations))


def _of_operation(one: Any) -> int:
    def sizes(tensor: Any) -> Sizes:
        return None if tensor.shape.rank is None else tensor.shape.as_list()

    kind, where = one.type, f"{one.type} {one.name}"
    if kind in (*CHOOSING, *CALLS):
        raise DistillError(f"{where} chooses or repeats other operations while it runs")
    if kind not in TENSORFLOW:
        return 0
    answer, given = sizes(one.outputs[0]), [sizes(tensor) for tensor in one.inputs]
    if kind == "Einsum":
        return _of_einsum(one.get_attr("equation").decode(), given, where)
    return TENSORFLOW[kind](answer, given, one.get_attr, where)


def _of_convolution(answer: Sizes, given: Sequence[Sizes], attribute: Callable[[str], Any], where: str) -> int:
    """Weights are [height, width, channels of a group, channels]."""
    return multiplied(answer, _product(given[1][:-1] if given[1] else None), where)


def _of_depthwise(answer: Sizes, given: Sequence[Sizes], attribute: Callable[[str], Any], where: str) -> int:
    """Weights are [height, width, channels, times]."""
    return multiplied(answer, _product(given[1][:2] if given[1] else None), where)


def _of_transposed(answer: Sizes, given: Sequence[Sizes], attribute: Callable[[str], Any], where: str) -> int:
    """Weights are [height, width, channels of the answer, channels given]: each number given is spread over one kernel of each channel."""
    return multiplied(given[2], _product(given[1][:-1] if given[1] else None), where)


def _of_product(answer: Sizes, given: Sequence[Sizes], attribute: Callable[[str], Any], where: str) -> int:
    turned = attribute("transpose_a") if where.startswith("MatMul ") else attribute("adj_x")
    return multiplied(answer, given[0][-2 if turned else -1] if given[0] else None, where)


TENSORFLOW: Mapping[str, Callable[..., int]] = {
    "Conv2D": _of_convolution,
    "Conv3D": _of_convolution,
    "DepthwiseConv2dNative": _of_depthwise,
    "Conv2DBackpropInput": _of_transposed,
    "MatMul": _of_product,
    "BatchMatMul": _of_product,
    "BatchMatMulV2": _of_product,
    "BatchMatMulV3": _of_product,
    "Einsum": _of_product,
}


def _of_einsum(equation: str, given: Sequence[Sizes], where: str) -> int:
    """("ab,bc->ac", [2, 3], [3, 4]) -> 2 x 2 x 3 x 4: of each letter its size once."""
    sides = equation.replace(" ", "").partition("->")[0].split(",")
    if "." in equation or len(sides) != 2 or any(size is None or len(letters) != len(size) for letters, size in zip(sides, given, strict=False)):
        raise DistillError(f"the size of what {where} ({equation}) answers is not known")
    letters = {letter: size for side, sizes in zip(sides, given, strict=True) for letter, size in zip(side, sizes or (), strict=True)}
    return multiplied(list(letters.values()), 1, where)


# ------------------------------------------------------------------------------------------------------------------------------- ONNX


def of_onnx(path: Path, name: str, shape: Sequence[int]) -> int:
    """Returns those of an ONNX file whose input `name` is given `shape`; sizes of the answers are inferred by onnx."""
    import onnx

    copy = onnx.load(path, load_external_data=False)
    del copy.graph.value_info[:]  # sizes as they were written, which another one of the input makes untrue
    for given in copy.graph.input:
        if given.name == name:
            del given.type.tensor_type.shape.dim[:]
            for size in shape:
                given.type.tensor_type.shape.dim.add().dim_value = size
    for answer in copy.graph.output:
        answer.type.tensor_type.ClearField("shape")
    try:
        graph = onnx.shape_inference.infer_shapes(copy, data_prop=True).graph
    except Exception as error:  # of onnx' own classes, which are not public
        raise DistillError(f"onnx {onnx.__version__} cannot tell the sizes within it: {str(error).splitlines()[0] if str(error) else error!r}") from error
    sizes: dict[str, Sizes] = {one.name: _onnx_sizes(one) for side in (graph.value_info, graph.input, graph.output) for one in side}
    sizes |= {one.name: list(one.dims) for one in graph.initializer}
    return sum(_of_node(node, sizes) for node in graph.node)


def _onnx_sizes(one: Any) -> Sizes:
    tensor = one.type.tensor_type
    return [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim] if tensor.HasField("shape") else None


def _of_node(node: Any, sizes: Mapping[str, Sizes]) -> int:
    where, answer = f"{node.op_type} {node.name or node.output[0]}", sizes.get(node.output[0]) if node.output else None
    if node.op_type in ("If", "Loop", "Scan"):
        raise DistillError(f"{where} chooses or repeats other operations while it runs")

    def given(place: int) -> Sizes:
        return sizes.get(node.input[place]) if place < len(node.input) else None

    if node.op_type in ("Conv", "ConvInteger", "QLinearConv"):  # weights are [channels, channels of a group, height, width]
        weights = given(3 if node.op_type == "QLinearConv" else 1)
        return multiplied(answer, _product(weights[1:] if weights else None), where)
    if node.op_type == "ConvTranspose":  # weights are [channels given, channels of the answer in a group, height, width]
        weights = given(1)
        return multiplied(given(0), _product(weights[1:] if weights else None), where)
    if node.op_type == "Gemm":
        turned, first = any(one.name == "transA" and one.i for one in node.attribute), given(0)
        return multiplied(answer, first[0 if turned else 1] if first else None, where)
    if node.op_type in ("MatMul", "MatMulInteger", "QLinearMatMul"):
        first = given(0)
        return multiplied(answer, first[-1] if first else None, where)
    if node.op_type == "Einsum":
        equation = next(one.s.decode() for one in node.attribute if one.name == "equation")
        return _of_einsum(equation, [given(place) for place in range(len(node.input))], where)
    return 0


# ----------------------------------------------------------------------------------------------------------------------------- LiteRT


def of_litert(schema: Any, data: bytes, signature: str | None, shape: Sequence[int]) -> int:
    """Returns those of a .tflite file for a batch of `shape`, by the sizes that stand in the file.

    Args:
        schema: the module schema_py_generated of LiteRT or TensorFlow, None where neither is there.
        data: the whole file.
        signature: the one that is run, None in a file without signatures.
    """
    if schema is None:
        raise DistillError("neither LiteRT nor TensorFlow is here to read the file")
    model = schema.Model.GetRootAsModel(data, 0)
    graph = model.Subgraphs(_litert_graph(model, signature))
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}

    def sizes(number: int) -> list[int]:
        tensor = graph.Tensors(number)
        return [tensor.Shape(place) for place in range(tensor.ShapeLength())]

    images = next((found for found in map(sizes, map(graph.Inputs, range(graph.InputsLength()))) if len(found) == 4), [])
    if list(images[1:]) != list(shape[1:]):
        raise DistillError("the sizes in the file are those of images of another size")
    total = 0
    for one in map(graph.Operators, range(graph.OperatorsLength())):
        code = model.OperatorCodes(one.OpcodeIndex())
        kind = names.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()), "CUSTOM")
        given = [sizes(number) for number in map(one.Inputs, range(one.InputsLength())) if number >= 0]
        total += _of_litert_operation(kind, sizes(one.Outputs(0)) if one.OutputsLength() else [], given)
    return total // images[0] * shape[0]


def _litert_graph(model: Any, signature: str | None) -> int:
    """Returns the number of the graph that a signature runs; without signatures it is the first."""
    signatures = map(model.SignatureDefs, range(model.SignatureDefsLength()))
    return next((one.SubgraphIndex() for one in signatures if one.SignatureKey().decode() == signature), 0)


def _of_litert_operation(kind: str, answer: Sizes, given: Sequence[Sequence[int]]) -> int:
    if kind in ("CUSTOM", "IF", "WHILE", "CALL"):
        raise DistillError(f"it has an operation {kind}, whose parts are not told")
    if kind == "CONV_2D":  # weights are [channels, height, width, channels of a group]
        return multiplied(answer, _product(given[1][1:]), kind)
    if kind == "DEPTHWISE_CONV_2D":  # [1, height, width, channels]
        return multiplied(answer, _product(given[1][1:3]), kind)
    if kind == "TRANSPOSE_CONV":  # given: the answer's sizes, weights [channels, height, width, channels given], the images
        return multiplied(given[2], _product(given[1][:3]), kind)
    if kind == "FULLY_CONNECTED":
        return multiplied(answer, given[1][-1], kind)
    if kind == "BATCH_MATMUL":  # given[0] is [..., rows, inner], or [..., inner, rows] with adj_x
        return multiplied(answer, (_product(given[0][-2:]) or 0) // ((answer or (1, 1))[-2] or 1), kind)
    return 0


# --------------------------------------------------------------------------------------------------------------------------- OpenVINO


def of_openvino(model: Any, name: str, shape: Sequence[int]) -> int:
    """Returns those of an openvino.Model whose input `name` is given `shape`."""
    model = model.clone()
    if name in {given for port in model.inputs for given in port.get_names()}:
        model.reshape({name: list(shape)})
    return sum(map(_of_openvino_operation, model.get_ordered_ops()))


def _of_openvino_operation(node: Any) -> int:
    def sizes(port: Any) -> Sizes:
        shape = port.get_partial_shape()
        return None if shape.rank.is_dynamic else [size.get_length() if size.is_static else None for size in shape]

    kind, where = node.get_type_name(), f"{node.get_type_name()} {node.get_friendly_name()}"
    if kind in ("If", "Loop", "TensorIterator"):
        raise DistillError(f"{where} chooses or repeats other operations while it runs")
    if kind not in OPENVINO:
        return 0
    first, weights, answer = sizes(node.input(0)), sizes(node.input(1)), sizes(node.output(0))
    if kind == "MatMul":
        return multiplied(answer, first[-2 if node.get_attributes()["transpose_a"] else -1] if first else None, where)
    each = _product(weights[OPENVINO[kind] :] if weights else None)
    return multiplied(first if kind.endswith("BackpropData") else answer, each, where)


# where the sizes begin in its weights that one number of the answer, or of what is given to one with BackpropData, is multiplied with
OPENVINO = {"Convolution": 1, "GroupConvolution": 2, "ConvolutionBackpropData": 1, "GroupConvolutionBackpropData": 2, "MatMul": 0}


def _product(sizes: Iterable[int | None] | None) -> int | None:
    known = None if sizes is None else list(sizes)
    return None if known is None or any(size is None for size in known) else math.prod(size or 0 for size in known)
