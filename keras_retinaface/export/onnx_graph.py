"""Collects the nodes and constants of an ONNX graph; knows nothing of networks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import TensorProto, helper, numpy_helper


class Graph:
    """Nodes and constants under construction; every method gives the name of a value.

    Args:
        weight_type: what `weight` stores: float32, or float16, which the runtime turns back into float32 when it loads.
        prefix: beginning of all names.
    """

    def __init__(self, weight_type: type = np.float32, prefix: str = ""):
        self.nodes: list = []
        self._prefix = prefix
        self._taken: set[str] = set()
        self._weight_type = np.dtype(weight_type)
        self._constants: dict[str, np.ndarray] = {}
        self._known: dict[tuple, str] = {}

    def add(self, op: str, inputs: Sequence[str], *, name: str = "", num_outputs: int = 1, **attributes):
        """Adds a node.

        Args:
            op: an operator of ONNX's own domain.
            inputs: names of values; empty for optional ones that are left out.
            name: name of the first output; a number by default.
            num_outputs: names that are returned.
            **attributes: of the operator.

        Returns:
            The name of its output, or a list if there are several.
        """
        name = self._prefix + (name or f"{op.lower()}_{len(self.nodes)}")
        if name in self._taken:  # a layer that is called several times
            name = f"{name}_{len(self.nodes)}"
        outputs = [name] + [f"{name}_{index}" for index in range(1, num_outputs)]
        self._taken.update(outputs)
        self.nodes.append(helper.make_node(op, list(inputs), outputs, name=name, **attributes))
        return outputs if num_outputs > 1 else name

    def constant(self, values, dtype: type = np.float32, name: str = "") -> str:
        """Returns the name of an array that the file holds; equal ones without a name of their own are held once."""
        values = np.asarray(values, dtype, order="C")
        key = (values.tobytes(), values.shape, values.dtype.str, name)
        if key not in self._known:
            self._known[key] = self._prefix + (name or f"constant_{len(self._constants)}")
            self._constants[self._known[key]] = values
        return self._known[key]

    def integers(self, *values: int) -> str:
        """Returns the name of a vector of whole numbers, as shapes, axes and indices are."""
        return self.constant(values, np.int64)

    def weight(self, values, name: str) -> str:
        """Returns the name of float32 weights, stored as `weight_type`.

        Raises:
            ValueError: if a number is not finite, or too large for that type.
        """
        with np.errstate(over="ignore"):
            stored = np.asarray(values, np.float32).astype(self._weight_type)
        if not np.all(np.isfinite(stored)):
            raise ValueError(f"weights of {name} are not finite as {self._weight_type}")
        if self._weight_type == np.float32:
            return self.constant(stored, np.float32, name)
        return self.add(
            "Cast", [self.constant(stored, self._weight_type, f"{name}_stored")], name=name, to=TensorProto.FLOAT
        )

    def cast(self, value: str, to: int) -> str:
        """Turns a value into a type of `TensorProto`."""
        return self.add("Cast", [value], to=to)

    def sides(self, value: str, start: int, end: int) -> str:
        """Returns a part of a value's shape, int64."""
        return self.add("Shape", [value], start=start, end=end)

    def column(self, values: str, index: int, axis: int = -1) -> str:
        """Takes one place of an axis, which goes away."""
        return self.add("Gather", [values, self.constant(index, np.int64)], axis=axis)

    def initializers(self) -> list:
        """Returns the constants as ONNX holds them."""
        return [numpy_helper.from_array(values, name) for name, values in self._constants.items()]
