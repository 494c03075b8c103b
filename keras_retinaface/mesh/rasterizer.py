"""Finds the triangle at each pixel: tensorflow-graphics' C++ kernel, built once, or the same rule in plain TensorFlow.

The kernel in the wheel of tensorflow-graphics does not load on the TensorFlow versions that we support, but the wheel
holds its sources. They are compiled at the first use into `$KERAS_RETINAFACE_CACHE`, or else
`$XDG_CACHE_HOME/keras_retinaface` (`~/.cache/keras_retinaface`), one file for each TensorFlow, compiler and source.
What is loaded from there runs, so a folder that other users can write, or that lies in one, is not used.
Whatever goes wrong on that way is logged as a warning and leads to the plain-TensorFlow rule, which is slower.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import os
import pathlib
import shutil
import stat
import subprocess

import tensorflow as tf
from absl import logging

from keras_retinaface import atomic

KERNEL, PLAIN = "kernel", "plain"
_SOURCES = ("rasterize_triangles_op.cc", "rasterize_triangles_impl.cc", "rasterize_triangles_impl.h")
_BUILD_SECONDS = 300
# Pixels tried at once by the plain rule: about 100 MB of temporaries.
_CHUNK_PIXELS = 1 << 20
# The kernel's arithmetic: 16 fractional bits.
_FIXED = 65536.0
_CULL_BACK = 1
# Its products overflow where two coordinates multiply to more than 2^15, and near zero it has few digits.
_USUAL_W = 2.0


def rasterize(
    clip_vertices: tf.Tensor, triangles: tf.Tensor, image_size: tuple[int, int], *, backend: str | None = None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Finds the nearest front-facing triangle at each pixel centre. Not differentiable.

    Args:
        clip_vertices: float32 `[B, V, 4]`, clip space (x, y, z, w).
        triangles: int32 `[T, 3]`, counter-clockwise seen from outside in a space with y up.
        image_size: (height, width) in pixels; row 0 is at y = -w in clip space.
        backend: `KERNEL`, `PLAIN`, or the kernel where it can be had if missing.

    Returns:
        int32 `[B, H, W]`, the triangle, 0 also where there is none; and bool `[B, H, W]`, whether there is one.

    Raises:
        ValueError: if the backend is unknown, or `KERNEL` is asked for and cannot be had.
    """
    if backend not in (None, KERNEL, PLAIN):
        raise ValueError(f"`backend` must be {KERNEL!r}, {PLAIN!r} or None. Received: backend={backend!r}")
    height, width = image_size
    ops = None if backend == PLAIN else load_kernel()
    if ops is None and backend == KERNEL:
        raise ValueError("`backend` is 'kernel', but the kernel could not be built; the log says why")

    def one(vertices):
        if ops is None:
            return _plain(vertices, triangles, height, width)
        _, ids, depth = ops.rasterize_triangles(vertices, triangles, width, height, 1, _CULL_BACK)
        return tf.ensure_shape(ids[0], (height, width)), tf.ensure_shape(depth[0], (height, width))

    clip_vertices = tf.stop_gradient(tf.cast(clip_vertices, tf.float32))
    # Clip space is homogeneous, so each mesh may be scaled to where the kernel's arithmetic is at its best.
    usual = tf.reduce_mean(tf.abs(clip_vertices[..., 3:]), -2, keepdims=True)
    clip_vertices *= _USUAL_W / tf.maximum(usual, 1e-6)
    ids, depth = tf.map_fn(one, clip_vertices, fn_output_signature=(tf.int32, tf.float32))
    return ids, depth < 1.0


def _plain(vertices, triangles, height, width):
    """The kernel's rule for one image: the same fixed-point edge functions, the nearest depth, the lowest index."""
    corners = tf.gather(vertices, triangles)  # [T, 3, 4]
    x, y, z, w = tf.unstack(corners, axis=-1)
    fixed = [tf.cast(value * _FIXED, tf.int64) for value in (x, y, w)]
    edges = _edge_functions(*fixed)  # [T, 3, 3]
    left, top, right, bottom = _bounds(x, y, z, w, height, width)
    is_drawn = (right > left) & (bottom > top)
    drawn = tf.cast(tf.where(is_drawn)[:, 0], tf.int32)
    span_x = tf.reduce_max(tf.where(is_drawn, right - left, 0))
    span_y = tf.reduce_max(tf.where(is_drawn, bottom - top, 0))
    # Every triangle is tried on a window as large as the largest one needs: no loop over triangles.
    offsets_y, offsets_x = tf.meshgrid(tf.range(span_y), tf.range(span_x), indexing="ij")
    offsets_y, offsets_x = tf.reshape(offsets_y, (1, -1)), tf.reshape(offsets_x, (1, -1))
    chunk = tf.maximum(_CHUNK_PIXELS // tf.maximum(span_x * span_y, 1), 1)

    def draw(start, depth, ids):
        chosen = drawn[start : start + chunk]
        row = tf.gather(top, chosen)[:, None] + offsets_y
        column = tf.gather(left, chosen)[:, None] + offsets_x
        inside, found = _cover(
            tf.gather(edges, chosen), tf.gather(z, chosen), tf.gather(w, chosen), row, column, height, width
        )
        inside &= (row < tf.gather(bottom, chosen)[:, None]) & (column < tf.gather(right, chosen)[:, None])
        hits = tf.where(inside)
        pixel = tf.gather_nd(row * width + column, hits)[:, None]
        triangle = tf.gather(chosen, hits[:, 0])
        found = tf.gather_nd(found, hits)
        nearest = tf.tensor_scatter_nd_min(depth, pixel, found)
        # Earlier chunks hold lower indices and keep a pixel at equal depth, as in the kernel.
        is_nearer = (found == tf.gather_nd(nearest, pixel)) & (found < tf.gather_nd(depth, pixel))
        pixel, triangle = tf.boolean_mask(pixel, is_nearer), tf.boolean_mask(triangle, is_nearer)
        last = tf.shape(triangles)[0]
        lowest = tf.tensor_scatter_nd_min(tf.fill(tf.shape(ids), last), pixel, triangle)
        return start + chunk, nearest, tf.where(lowest < last, lowest, ids)

    state = (0, tf.ones((height * width,)), tf.zeros((height * width,), tf.int32))
    _, depth, ids = tf.while_loop(lambda start, *_: start < tf.size(drawn), draw, state)
    return tf.reshape(ids, (height, width)), tf.reshape(depth, (height, width))


def _edge_functions(x, y, w):
    """Returns int64 `[T, 3, 3]`: the rows of the unnormalised inverse of each triangle's (x, y, w) matrix."""
    rows = []
    for a, b in ((1, 2), (2, 0), (0, 1)):
        rows.append(
            tf.stack(
                [
                    y[:, a] * w[:, b] - w[:, a] * y[:, b],
                    x[:, b] * w[:, a] - w[:, b] * x[:, a],
                    x[:, a] * y[:, b] - y[:, a] * x[:, b],
                ],
                -1,
            )
        )
    return tf.stack(rows, 1)


def _bounds(x, y, z, w, height, width):
    """Returns int32 `[T]` left, top, right, bottom in pixels; the last two are exclusive."""
    is_ahead = (w > 0) & (z >= -w)
    safe = tf.where(is_ahead, w, 1.0)
    pixel_x, pixel_y = 0.5 * (x / safe + 1) * width, 0.5 * (y / safe + 1) * height

    def span(pixel, size):
        low = tf.reduce_min(tf.where(is_ahead, tf.floor(pixel), float(size)), -1)
        high = tf.reduce_max(tf.where(is_ahead, tf.math.ceil(pixel), 0.0), -1)
        # A triangle that reaches behind the near plane may show anywhere.
        is_cut = tf.reduce_any(is_ahead, -1) & ~tf.reduce_all(is_ahead, -1)
        low, high = tf.where(is_cut, 0.0, low), tf.where(is_cut, float(size), high)
        return [tf.cast(tf.clip_by_value(value, 0, size), tf.int32) for value in (low, high)]

    left, right = span(pixel_x, width)
    top, bottom = span(pixel_y, height)
    return left, top, right, bottom


def _cover(edges, z, w, row, column, height, width):
    """Returns bool and float32 `[N, P]`: whether the pixels lie in the triangles, and the depth there."""
    pixel_x = tf.cast(((tf.cast(column, tf.float32) + 0.5) / (0.5 * width) - 1) * _FIXED, tf.int64)
    pixel_y = tf.cast(((tf.cast(row, tf.float32) + 0.5) / (0.5 * height) - 1) * _FIXED, tf.int64)
    values = [
        edges[:, k, 0, None] * pixel_x + edges[:, k, 1, None] * pixel_y + edges[:, k, 2, None] * int(_FIXED)
        for k in range(3)
    ]
    total = values[0] + values[1] + values[2]
    inside = (values[0] >= 0) & (values[1] >= 0) & (values[2] >= 0) & (total > 0)
    total = tf.cast(tf.where(inside, total, 1), tf.float32)
    weights = [tf.cast(value, tf.float32) / total for value in values]
    clip_z = weights[0] * z[:, 0, None] + weights[1] * z[:, 1, None] + weights[2] * z[:, 2, None]
    clip_w = weights[0] * w[:, 0, None] + weights[1] * w[:, 1, None] + weights[2] * w[:, 2, None]
    depth = clip_z / tf.where(inside, clip_w, 1.0)
    return inside & (depth >= -1) & (depth < 1), depth


@functools.lru_cache(maxsize=1)
def load_kernel():
    """Returns the module with `rasterize_triangles`, built if need be, or None where it cannot be had.

    The answer is kept for the life of the process; `load_kernel.cache_clear()` asks anew.
    """
    try:
        return _load_or_build()
    except (OSError, subprocess.SubprocessError, tf.errors.OpError, ImportError) as error:
        logging.warning("no compiled rasterizer, the slower plain TensorFlow one is used: %s", error)
        return None


def _load_or_build():
    sources = _source_folder()
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++") or shutil.which("c++")
    options = [*tf.sysconfig.get_compile_flags(), "-O2", "-fPIC", "-shared"]
    content = b"".join((sources / name).read_bytes() for name in _SOURCES)
    key = hashlib.sha256(content + repr((tf.version.VERSION, tf.version.GIT_VERSION, compiler, options)).encode())
    library = cache_folder() / f"rasterizer-{tf.version.VERSION}-{key.hexdigest()[:16]}.so"
    _make_own(library.parent)
    with _lock(library.with_suffix(".lock")):
        if os.path.lexists(library):
            if library.is_symlink():
                raise PermissionError(f"{library} must be a file, not a link")
            _check_own(library)
            try:
                return tf.load_op_library(str(library))
            except (OSError, tf.errors.OpError) as error:
                logging.warning("%s does not load and is built again: %s", library, error)
        if not compiler:
            raise FileNotFoundError("no C++ compiler (g++, clang++ or $CXX)")
        logging.info("building the rasterizer once into %s, about 20 s", library.parent)
        with atomic.file(library) as built:
            files = [str(sources / name) for name in _SOURCES if name.endswith(".cc")]
            command = [*compiler.split(), *files, *options, *tf.sysconfig.get_link_flags(), "-o", str(built)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_SECONDS, check=False)
            if done.returncode:
                raise OSError(f"{compiler} failed with status {done.returncode}: {done.stderr.strip()[-500:]}")
            built.chmod(0o700)
        return tf.load_op_library(str(library))


def cache_folder() -> pathlib.Path:
    """Returns the folder that keeps the built kernel."""
    own = os.environ.get("KERAS_RETINAFACE_CACHE")
    if own:
        return pathlib.Path(own)
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "keras_retinaface"


def _make_own(folder: pathlib.Path) -> None:
    """Makes the folder, private to this user, and checks it and every folder above it.

    Raises:
        PermissionError: if another user could put a library there, which this process would load.
    """
    folder = pathlib.Path(os.path.abspath(folder))
    missing = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    for path in reversed(missing):
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
    real = pathlib.Path(os.path.realpath(folder))
    # The folder, and whatever is passed on the way to it, whether by links or not.
    for path in {*folder.parents, *real.parents}:
        _check_own(path, may_be_sticky=True)
    for path in (folder, real):
        _check_own(path)


def _check_own(path: pathlib.Path, *, may_be_sticky: bool = False) -> None:
    """Raises an error if someone else than this user or root can change what stands at a path."""
    if not hasattr(os, "getuid"):
        return  # Windows keeps a user's folders to the user
    status = os.lstat(path)
    is_shared = bool(status.st_mode & stat.S_IWOTH) or (
        status.st_mode & stat.S_IWGRP and not _is_private(status.st_gid)
    )
    if stat.S_ISLNK(status.st_mode):
        is_shared = False  # the mode of a link says nothing; the folder that it is in is looked at, and its target
    elif may_be_sticky and status.st_mode & stat.S_ISVTX:
        is_shared = False  # as /tmp: others add there, but move or remove only what is their own
    elif stat.S_ISREG(status.st_mode) and status.st_nlink != 1:
        is_shared = True  # it has another name, where others may write
    if is_shared or status.st_uid not in (0, os.getuid()):
        raise PermissionError(
            "the cache of the compiled rasterizer ($KERAS_RETINAFACE_CACHE) must be a folder that nobody else can "
            f"write, in such folders. Received: {path} ({stat.filemode(status.st_mode)}, user {status.st_uid})"
        )


def _is_private(group: int) -> bool:
    """Whether a group is this user's alone, as many systems give one to each."""
    import grp
    import pwd

    try:
        user = pwd.getpwuid(os.getuid())
        entry = grp.getgrgid(group)
    except KeyError:
        return False
    return group == user.pw_gid and entry.gr_name == user.pw_name and not set(entry.gr_mem) - {user.pw_name}


def _source_folder():
    spec = importlib.util.find_spec("tensorflow_graphics")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("tensorflow_graphics is not installed")
    return pathlib.Path(spec.submodule_search_locations[0]) / "rendering" / "kernels"


@contextlib.contextmanager
def _lock(path):
    """Lets one process at a time look for the library and build it."""
    try:
        import fcntl
    except ImportError:
        # Not a POSIX system: two processes may build at once, and the last move wins.
        yield
        return
    # Never through a link, which would empty what it names.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    with open(descriptor, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
