"""Reads the tensors of PyTorch's `.pth` files without torch, and nothing else of what such a file may hold."""

from __future__ import annotations

import dataclasses
import io
import math
import os
import zipfile
from collections.abc import Callable

import numpy as np

from keras_retinaface.formats import archive, pickle_tree

# Of the file format before PyTorch 1.6: its first pickle, and the second.
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_PICKLE = "data.pkl"
_TYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_MOST_AXES = 8
# Where training scripts put the network among other things.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
_PREFIX = "module."


@dataclasses.dataclass
class _Storage:
    kind: str
    key: str
    count: int


@dataclasses.dataclass
class _Tensor:
    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads the state dict of a network.

    Args:
        path: path of a file of `torch.save`, of any version; or of a zip archive of one such file.

    Returns:
        Arrays by name. A `module.` before every name, which parallel training leaves, is dropped; of a checkpoint that
        holds the network among other things, as `state_dict` or `model`, only the network is returned.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if the file is damaged, or holds anything but tensors, numbers and text; names it.
    """
    with open(path, "rb") as file:
        try:
            return _read(file)
        except archive.DAMAGE as error:
            text = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"{path}: not a readable PyTorch file: {text}") from error


def _read(file, is_inside: bool = False) -> dict[str, np.ndarray]:
    start = file.read(4)
    file.seek(0)
    if start != b"PK\x03\x04":
        return _read_old(file)
    with zipfile.ZipFile(file) as opened:
        names = opened.namelist()
    if len(names) == 1 and not is_inside and not names[0].endswith(_PICKLE):
        ((_, content),) = archive.members(file)
        return _read(io.BytesIO(content), is_inside=True)
    members = {name.split("/", 1)[-1]: content for name, content in archive.members(file)}
    if _PICKLE not in members:
        raise ValueError(f"a zip archive without {_PICKLE}; one of TorchScript or of another program")
    if members.get("byteorder", b"little") != b"little":
        raise ValueError("its numbers are of a big-endian machine")

    def content_of(storage: _Storage) -> bytes:
        return members[f"data/{storage.key}"]

    return _arrays(pickle_tree.read(io.BytesIO(members[_PICKLE]), _FUNCTIONS, _open_storage), content_of)


def _read_old(file) -> dict[str, np.ndarray]:
    """Reads the format before PyTorch 1.6: pickles one behind the other, then the numbers of every storage."""
    content = file.read()
    file = io.BytesIO(content)
    if pickle_tree.read(file, {}) != _MAGIC or pickle_tree.read(file, {}) != _PROTOCOL:
        raise ValueError("neither a zip archive nor of PyTorch's older format")
    system = pickle_tree.read(file, {})
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("its numbers are of a big-endian machine")
    used: dict[str, _Storage] = {}

    def open_storage(reference):
        storage = _open_storage(reference)
        return used.setdefault(storage.key, storage)

    tree = pickle_tree.read(file, _FUNCTIONS, open_storage)
    keys = pickle_tree.read(file, {})
    if not isinstance(keys, list) or set(keys) != set(used) or len(keys) != len(used):
        raise ValueError("its list of storages is damaged")
    found = {}
    for key in keys:
        storage = used[key]
        size = storage.count * np.dtype(_TYPES[storage.kind]).itemsize
        if int.from_bytes(file.read(8), "little") != storage.count:
            raise ValueError(f"storage {key} is damaged")
        found[key] = file.read(size)
    return _arrays(tree, lambda storage: found[storage.key])


def _open_storage(reference) -> _Storage:
    """Returns the storage that a pickle refers to: its type, key, device, count, and in old files a view of it."""
    if not isinstance(reference, tuple) or len(reference) not in (5, 6) or reference[0] != "storage":
        raise ValueError("its pickle refers to what is no storage")
    _, kind, key, _, count, *view = reference
    if (
        not isinstance(kind, pickle_tree.Name)
        or kind.text.split("torch.", 1)[-1] not in _TYPES
        or view not in ([], [None])
    ):
        raise ValueError(f"it holds a storage of another kind than numbers: {_shown(kind)}")
    if not isinstance(key, str) or type(count) is not int or count < 0:
        raise ValueError("a storage is damaged")
    return _Storage(kind.text.split("torch.", 1)[-1], key, count)


def _tensor(storage, offset, size, stride, *_) -> _Tensor:
    numbers = (offset, *size, *stride)
    if not isinstance(storage, _Storage) or any(type(n) is not int or n < 0 for n in numbers):
        raise ValueError("a tensor is damaged")
    if len(size) != len(stride) or len(size) > _MOST_AXES:
        raise ValueError("a tensor is damaged")
    return _Tensor(storage, offset, tuple(size), tuple(stride))


def _ordered_dict(*arguments) -> dict:
    """Returns a dict of nothing, of another dict or of pairs; those with keys that are no text hold no weights."""
    pairs = arguments[0] if arguments else ()
    if len(arguments) > 1 or not isinstance(pairs, (dict, list, tuple)):
        raise ValueError("its pickle is damaged: a dict of what are no pairs")
    pairs = list(pairs.items()) if isinstance(pairs, dict) else list(pairs)
    if any(type(pair) not in (tuple, list) or len(pair) != 2 or type(pair[0]) not in (str, int) for pair in pairs):
        raise ValueError("its pickle is damaged: a dict of what are no pairs")
    return dict(pairs)


def _shown(value: object) -> str:
    """Returns text as it is, cut, and of anything else its kind: showing what a file nests may take for ever."""
    text = value.text if isinstance(value, pickle_tree.Name) else value
    return repr(text[:80]) if isinstance(text, str) else type(text).__name__


_FUNCTIONS = {
    "collections.OrderedDict": _ordered_dict,
    # Of learning rate schedules, beside the weights in checkpoints of trainings.
    "collections.Counter": _ordered_dict,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
}


def _array(tensor: _Tensor, content: bytes) -> np.ndarray:
    storage, dtype = tensor.storage, np.dtype(_TYPES[tensor.storage.kind])
    if len(content) != storage.count * dtype.itemsize:
        raise ValueError(f"storage {storage.key}: expected {storage.count} of {dtype}. Received: {len(content)} bytes")
    numbers = np.frombuffer(content, dtype)
    count = math.prod(tensor.size)
    last = tensor.offset + sum((side - 1) * step for side, step in zip(tensor.size, tensor.stride)) if count else 0
    if count > storage.count or last >= max(storage.count, 1):
        raise ValueError(f"a tensor of {tensor.size} does not lie in its storage of {storage.count} numbers")
    strides = [step * dtype.itemsize for step in tensor.stride]
    array = np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.size, strides, writeable=False)
    if storage.kind == "BFloat16Storage":  # the upper half of a float32
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return array


def _arrays(tree, content_of: Callable[[_Storage], bytes]) -> dict[str, np.ndarray]:
    """Returns the arrays of a state dict, or of the one in a checkpoint."""
    for name in _WRAPPERS:
        if isinstance(tree, dict) and isinstance(tree.get(name), dict):
            tree = tree[name]
            break
    if not isinstance(tree, dict) or not tree:
        raise ValueError("expected a state dict: tensors by name")
    for name, value in tree.items():
        if not isinstance(name, str) or not isinstance(value, _Tensor):
            raise ValueError(
                f"expected a state dict: tensors by name. Received: {_shown(name)}, {type(value).__name__}"
            )
    cut = len(_PREFIX) if all(name.startswith(_PREFIX) for name in tree) else 0
    return {name[cut:]: _array(tensor, content_of(tensor.storage)) for name, tensor in tree.items()}
