"""The part of an ONNX graph that leads from the images to one output, with what is constant done.

What follows from constants alone is computed here, once.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import torch
from onnx import inliner, numpy_helper

from deploy.reading.on_host import ON_HOST
from deploy.reading.operators import HOST_INPUTS, OPERATORS
from deploy.reading.pointwise import as_host
from deploy.reading.values import OPSET, Attributes, Host, NotReadError
from edge_bench.core.errors import InputError, first_line

OLDEST = 7
"""Opset from which operators broadcast as they do today."""
OWN = ("", "ai.onnx")
HALF = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
MADE_OF_SHAPES = ("ConstantOfShape", "Shape", "Size")
"""What needs no picture, whatever it reads."""


class UnreadError(InputError):
    """A graph that this reader does not cover, so that it gives no gradients."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """An operator that the images lead to.

    Attributes:
        on_host: computes shapes alone, in numpy.
        spent: values that no later step reads.
    """

    operator: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Attributes
    on_host: bool = False
    spent: tuple[str, ...] = ()

    def takes_numbers(self, at: int) -> bool:
        """Is this input taken as numbers, rather than as a tensor?"""
        return self.on_host or at in HOST_INPUTS.get(self.operator, ())


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Steps in order, and the constants that they read, by name.

    Attributes:
        is_half: some of it is computed in float16 or bfloat16.
    """

    steps: tuple[Step, ...]
    constants: dict[str, Host]
    is_half: bool


def read_graph(model: onnx.ModelProto, where: str, images: str, output: str) -> Reading:
    """The steps from the input `images` to `output`.

    Args:
        where: the file, for messages.

    Raises:
        UnreadError: operators that are not covered, each by its name.
    """
    if model.functions:
        model = inliner.inline_local_functions(model)
    version = max((e.version for e in model.opset_import if e.domain in OWN), default=0)
    if version < OLDEST:
        raise UnreadError(
            f"{where}: its graph is of opset {version}, and gradients are read off opset {OLDEST} "
            "and newer; convert it (onnx.version_converter)"
        )
    nodes = _leading_to(output, model.graph)
    _refuse_unknown(nodes, where)
    constants = {tensor.name: _plain(tensor) for tensor in model.graph.initializer}
    constants.pop(images, None)
    steps: list[Step] = []
    of_shapes: set[str] = set()
    for node in nodes:
        step = _step(node, version)
        if all(name in constants for name in step.inputs if name):
            constants |= _computed(step, constants, where)
            continue
        known = all(name in constants or name in of_shapes for name in step.inputs if name)
        step = replace(step, on_host=known and step.operator in ON_HOST)
        if step.on_host or step.operator in MADE_OF_SHAPES:
            of_shapes |= set(step.outputs)
        steps.append(step)
    half = any(tensor.data_type in HALF for tensor in model.graph.initializer) or any(
        step.operator == "Cast" and step.attributes["to"] in HALF for step in steps
    )
    return Reading(steps=_with_spent(steps, output), constants=constants, is_half=half)


def _leading_to(output: str, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes whose values reach `output`, in the graph's order."""
    wanted, found = {output}, []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted |= set(node.input)
            found.append(node)
    return found[::-1]


def _refuse_unknown(nodes: list[onnx.NodeProto], where: str) -> None:
    unknown = Counter(
        node.op_type if node.domain in OWN else f"{node.domain}:{node.op_type}"
        for node in nodes
        if node.domain not in OWN or node.op_type not in OPERATORS.keys() | ON_HOST | {"Constant"}
    )
    if unknown:
        told = ", ".join(f"{name} ({count})" for name, count in sorted(unknown.items()))
        raise UnreadError(
            f"{where}: gradients cannot be read off its graph, which has operators that are not "
            f"covered: {told}"
        )


def _step(node: onnx.NodeProto, version: int) -> Step:
    stated = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    for name, value in stated.items():
        if isinstance(value, onnx.TensorProto):
            stated[name] = _plain(value)
    if node.op_type == "Split":
        stated["outputs"] = len(node.output)
    return Step(
        operator=node.op_type,
        name=node.name,
        inputs=tuple(node.input),
        outputs=tuple(node.output),
        attributes=stated | {OPSET: version},
    )


def _plain(tensor: onnx.TensorProto) -> Host:
    """The array of a constant; floats of any width as float32, which is what is computed with."""
    array = numpy_helper.to_array(tensor)
    # bfloat16 and the floats of 8 bits are of a type that numpy does not know by kind.
    narrow = array.dtype.kind == "V" and "float" in array.dtype.name
    return array.astype(np.float32) if array.dtype.kind == "f" or narrow else array


def _computed(step: Step, constants: dict[str, Host], where: str) -> dict[str, Host]:
    """The outputs of a step of constants alone."""
    try:
        if step.operator == "Constant":
            return {step.outputs[0]: _constant(step.attributes)}
        given = [constants[name] if name else None for name in step.inputs]
        with torch.no_grad():
            found = apply(step, given)
    except Exception as error:
        raise unread(step, error, where) from None
    return {
        name: value if isinstance(value, np.ndarray) else value.numpy()
        for name, value in zip(step.outputs, found, strict=False)
        if name
    }


def _constant(a: Attributes) -> Host:
    for name, value in a.items():
        if name in ("value", "value_float", "value_int", "value_floats", "value_ints"):
            array = np.asarray(value)
            return array.astype(np.float32) if array.dtype.kind == "f" else array
    raise NotReadError("a constant that is neither a tensor nor numbers")


def apply(step: Step, given: list[Any]) -> tuple[Any, ...]:
    """What a step makes of its inputs: tensors, arrays where no image is needed, or None."""
    on_host = ON_HOST.get(step.operator)
    if on_host is not None and all(
        value is None or isinstance(value, np.ndarray) for value in given
    ):
        found = on_host(step.attributes, *given)
    else:
        numbers = HOST_INPUTS.get(step.operator, ())
        inputs = [
            as_host(value) if isinstance(value, np.ndarray) and at not in numbers else value
            for at, value in enumerate(given)
        ]
        found = OPERATORS[step.operator](step.attributes, *inputs)
    return found if isinstance(found, tuple) else (found,)


def unread(step: Step, error: Exception, where: str) -> UnreadError:
    """Which step could not be computed, and why."""
    name = f" {step.name}" if step.name else ""
    why = f"{error}" if isinstance(error, NotReadError) else first_line(error)
    return UnreadError(
        f"{where}: gradients cannot be read off its graph, since the operator "
        f"{step.operator}{name} is not covered as it stands ({why})"
    )


def _with_spent(steps: list[Step], output: str) -> tuple[Step, ...]:
    """The steps, each with what it is the last to read."""
    made = {name for step in steps for name in step.outputs}
    last = {name: i for i, step in enumerate(steps) for name in step.inputs if name in made}
    last.pop(output, None)
    spent: dict[int, list[str]] = {}
    for name, at in last.items():
        spent.setdefault(at, []).append(name)
    return tuple(replace(step, spent=tuple(spent.get(i, ()))) for i, step in enumerate(steps))
