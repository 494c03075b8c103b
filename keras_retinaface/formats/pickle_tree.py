"""Reads pickles that hold nothing but containers, numbers, text and arrays. No pickle is run: names in it stay names.

A pickle is a program for a machine with a stack. This machine knows the instructions that plain values are made of, and
calls nothing but the functions that its caller lists, which are this project's own.
"""

from __future__ import annotations

import dataclasses
import io
import pickletools
from collections.abc import Callable, Mapping

_PUSHED = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 "
    "BINBYTES SHORT_BINBYTES BINBYTES8 STRING BINSTRING SHORT_BINSTRING".split()
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_SHORT_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MOST_STEPS = 5_000_000
# Deeper, comparing or showing them takes the time and the stack of their whole depth.
_DEEPEST = 3


@dataclasses.dataclass(frozen=True)
class Name:
    """What a pickle calls by name, `module.name`; it is not looked up."""

    text: str


def read(file: io.BufferedIOBase, functions: Mapping[str, Callable], open_reference: Callable | None = None):
    """Reads one pickle, up to its end.

    Args:
        file: open for reading bytes; stands behind the pickle afterwards.
        functions: what stands for a name that the pickle calls, by `module.name`.
        open_reference: takes what the pickle says of data that lies outside it, and returns it.

    Raises:
        ValueError: if it is damaged, or calls or builds anything else; names it.
    """
    return _Machine(functions, open_reference).run(file)


class _Machine:
    def __init__(self, functions: Mapping[str, Callable], open_reference: Callable | None):
        self._functions, self._open_reference = functions, open_reference
        self._stack: list = []
        self._marks: list[list] = []  # the stack below each mark, as marks are dropped with what stands above
        self._memo: dict[int, object] = {}
        self._copied = 0

    def run(self, file):
        try:
            for step, (opcode, argument, _) in enumerate(pickletools.genops(file)):
                if step > _MOST_STEPS:
                    raise ValueError("it has too many steps")
                if opcode.name == "STOP":
                    if len(self._stack) != 1 or self._marks:
                        raise ValueError("its pickle is damaged: it ends in the middle")
                    return self._stack[0]
                self._do(opcode.name, argument)
        except (IndexError, KeyError, TypeError, AttributeError, UnicodeDecodeError, OverflowError) as error:
            raise ValueError(f"its pickle is damaged: {type(error).__name__}") from error
        raise ValueError("its pickle has no end")

    def _do(self, name: str, argument) -> None:
        stack = self._stack
        if name in _PUSHED:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in _SHORT_TUPLES:
            count = _SHORT_TUPLES[name]
            stack[-count:] = [tuple(_flat(stack[-count:]))]
        elif name == "MARK":
            self._marks.append(stack)
            self._stack = []
        elif name in ("TUPLE", "LIST", "DICT"):
            values = self._above_mark()
            self._stack.append(
                {"TUPLE": lambda values: tuple(_flat(values)), "LIST": list, "DICT": _pairs}[name](values)
            )
        elif name in ("SETITEM", "SETITEMS", "APPEND", "APPENDS"):
            self._fill(name)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self._memo[len(self._memo) if name == "MEMOIZE" else int(argument)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self._memo[int(argument)])
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            module, leaf = argument.split(" ") if name == "GLOBAL" else (stack.pop(-2), stack.pop())
            if not isinstance(module, str) or not isinstance(leaf, str):
                raise ValueError("its pickle is damaged: a name that is no text")
            stack.append(Name(f"{module}.{leaf}"))
        elif name in ("REDUCE", "BUILD", "BINPERSID"):
            self._call(name)
        elif name not in ("PROTO", "FRAME"):
            raise ValueError(f"its pickle holds the instruction {name}, which plain values do without")

    def _above_mark(self) -> list:
        values, self._stack = self._stack, self._marks.pop()
        return values

    def _fill(self, name: str) -> None:
        if name.endswith("S"):
            values = self._above_mark()
        else:
            count = 2 if name == "SETITEM" else 1
            values = self._stack[-count:]
            del self._stack[-count:]
        target = self._stack[-1]
        if type(target) is not (dict if name.startswith("SET") else list):
            raise ValueError("its pickle fills what is no container")
        if isinstance(target, dict):
            target.update(_pairs(values))
        else:
            target.extend(values)

    def _call(self, name: str) -> None:
        stack = self._stack
        if name == "BINPERSID":
            if self._open_reference is None:
                raise ValueError("its pickle refers to data outside it")
            stack.append(self._open_reference(stack.pop()))
            return
        argument = stack.pop()
        if name == "BUILD":  # attributes of a container, which carry no weights
            if type(stack[-1]) is not dict:
                raise ValueError("its pickle sets attributes of what is no container")
            return
        called = stack.pop()
        if not isinstance(called, Name) or called.text not in self._functions:
            wanted = called.text if isinstance(called, Name) else type(called).__name__
            raise ValueError(f"it asks to call {wanted:.80}, which may be a program; tensors alone are read")
        if type(argument) is not tuple:
            raise ValueError("its pickle is damaged: a call without arguments")
        # Each copy of a container that it refers to again counts, so that few bytes do not become many.
        self._copied += sum(len(value) for value in argument if isinstance(value, (dict, list)))
        if self._copied > _MOST_STEPS:
            raise ValueError("it has too many steps")
        stack.append(self._functions[called.text](*argument))


def _pairs(values: list) -> dict:
    if len(values) % 2:
        raise ValueError("its pickle is damaged: a key without a value")
    if any(type(key) not in (str, int) for key in values[::2]):
        raise ValueError("its pickle is damaged: a key that is neither text nor a number")
    return dict(zip(values[::2], values[1::2]))


def _flat(values: list) -> list:
    """Returns what a tuple may hold: tuples in tuples two deep, as types, places and sizes of tensors take."""
    if any(_depth(value) > _DEEPEST for value in values):
        raise ValueError("its pickle holds tuples in tuples in tuples")
    return values


def _depth(value: object) -> int:
    return 1 + max(map(_depth, value), default=0) if type(value) is tuple else 0
