"""The linear face model as NumPy arrays: shapes, an albedo palette, and the mesh hierarchy. No TensorFlow here.

Lengths are centimetres; +x is the image's right, +y up, +z towards the viewer.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import pathlib

import numpy as np
import scipy.sparse

from keras_retinaface.formats import npz_file
from keras_retinaface.geometry import five_points

ASSET = pathlib.Path(__file__).resolve().parent.parent / "assets" / "face_model.npz"
# Of the shipped file; assets/README.md has the same line.
CHECKSUM = "3b3df57746173c65964339df0edb84664b9b609d9f61328604abffbce4059855"
NUM_LEVELS = 4
# Vertices and triangles are stored in 16 bits.
_MOST_VERTICES = 1 << 16

# Skin from the lightest to the darkest, sRGB; between them tones are mixed in logarithms, as pigment absorbs.
_LIGHT_SKIN = (0.93, 0.77, 0.69)
_DARK_SKIN = (0.27, 0.17, 0.125)
_HAIR = ((0.08, 0.06, 0.05), (0.25, 0.16, 0.10), (0.60, 0.45, 0.28), (0.62, 0.61, 0.60))
_IRIS = ((0.20, 0.12, 0.08), (0.33, 0.24, 0.13), (0.30, 0.40, 0.45), (0.35, 0.42, 0.30))
# Standard deviations of the slowest smooth mode, common to the channels and of each alone; mode k has 1 / sqrt(1 + k)
# of them. Skin varies in brightness far more than in hue.
_SMOOTH_BRIGHTNESS = 0.025
_SMOOTH_HUE = 0.007


@dataclasses.dataclass(frozen=True)
class Level:
    """One step of the mesh hierarchy.

    Attributes:
        laplacian: normalised Laplacian `[V, V]` of this level's mesh, eigenvalues in [0, 2].
        down: `[V', V]` selects the vertices of the next coarser level; None on the coarsest.
        up: `[V, V']` interpolates from the next coarser level, rows sum to 1; None on the coarsest.
    """

    laplacian: scipy.sparse.csr_matrix
    down: scipy.sparse.csr_matrix | None
    up: scipy.sparse.csr_matrix | None


@dataclasses.dataclass(frozen=True)
class FaceModel:
    """A face as `mean + identity coefficients + expression coefficients`, with colours per vertex.

    Attributes:
        mean: float32 `[V, 3]`, centimetres.
        identity: float32 `[I, V, 3]`; coefficients are N(0, 1).
        expression: float32 `[E, V, 3]`; coefficients are in [0, 1].
        expression_names: names of the expressions, sides marked `_L` and `_R`.
        triangles: int32 `[T, 3]`, counter-clockwise seen from outside.
        landmarks: int32 `[68]`, vertices of the usual 68 landmarks.
        regions: name -> float32 `[V]`, how much of a vertex a region of the albedo palette covers, 0..1.
        smooth_modes: float32 `[M, V]`, slowest first, root mean square 1; carry smooth colour variation.
        levels: finest first, `NUM_LEVELS + 1` of them.
    """

    mean: np.ndarray
    identity: np.ndarray
    expression: np.ndarray
    expression_names: tuple[str, ...]
    triangles: np.ndarray
    landmarks: np.ndarray
    regions: dict[str, np.ndarray]
    smooth_modes: np.ndarray
    levels: tuple[Level, ...]

    @property
    def num_vertices(self) -> int:
        """Vertices of the finest mesh."""
        return len(self.mean)

    def shape(self, identity: np.ndarray, expression: np.ndarray) -> np.ndarray:
        """Returns float32 `[..., V, 3]`, the vertices for coefficients `[..., I]` and `[..., E]`."""
        vertices = np.tensordot(np.asarray(identity, np.float32), self.identity, 1)
        return self.mean + vertices + np.tensordot(np.asarray(expression, np.float32), self.expression, 1)

    def sample_shapes(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Draws faces: identities from the model's prior, and few strong expressions at a time.

        Args:
            rng: the only source of chance.
            count: how many.

        Returns:
            float32 `[count, V, 3]`, centimetres.
        """
        identity = rng.standard_normal((count, len(self.identity)))
        expression = rng.random((count, len(self.expression)))
        # A face holds a few expressions at once; a fifth of all faces is at rest.
        is_active = rng.random(expression.shape) < rng.choice(
            [0.0, 0.06, 0.15, 0.3], (count, 1), p=[0.2, 0.3, 0.3, 0.2]
        )
        expression *= is_active
        column = {name: i for i, name in enumerate(self.expression_names)}
        for name, left in column.items():
            right = column.get(f"{name[:-2]}_R") if name.endswith("_L") else None
            if right is not None:
                # Both sides of a face mostly move together.
                is_joint = rng.random(count) < 0.8
                expression[:, right] = np.where(is_joint, expression[:, left], expression[:, right])
        if {"mouthClose", "jawOpen"} <= set(column):
            # The shape closes the lips of an open jaw and has no meaning beyond that.
            expression[:, column["mouthClose"]] *= expression[:, column["jawOpen"]]
        return self.shape(identity, expression)

    def sample_colours(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Draws albedos from a parametric palette of skin, lips, brows, eyes, mouth and beard.

        Skin lies between a light and a dark tone, mixed in logarithms, with tint; cheeks and lips are redder than the
        skin by a random amount; brows and beard take one hair colour in random strength; the mouth is dark or shows
        teeth. Over all of it lies smooth variation along the slowest modes of the mesh.

        Args:
            rng: the only source of chance.
            count: how many.

        Returns:
            float32 `[count, V, 3]`, sRGB in 0..1.
        """
        skin = _mix_tones(rng, count)
        blood = rng.uniform(0.4, 1.2, (count, 1)) * np.array([[0.06, -0.10, -0.07]])
        # Dark skin goes with dark hair.
        hair = _pick(rng, _HAIR, count) * np.clip(1.6 * skin.mean(-1, keepdims=True), 0, 1)
        beard = rng.uniform(0, 0.75, (count, 1)) * (rng.random((count, 1)) < 0.35)
        teeth = rng.random((count, 1)) * (rng.random((count, 1)) < 0.5)
        colours = np.repeat(skin[:, None].astype(np.float32), self.num_vertices, 1)

        def paint(region, colour, strength):
            cover = self.regions[region][None, :, None] * np.reshape(strength, (-1, 1, 1)).astype(np.float32)
            colours[:] += (colour[:, None].astype(np.float32) - colours) * cover

        paint("cheek", skin * (1 + blood), rng.uniform(0, 1, count))
        paint("socket", skin * (0.80 + 0.1 * blood), rng.uniform(0, 1, count))
        paint("beard", hair, beard)
        paint("lip", skin * (0.86 + 1.8 * blood), rng.uniform(0.6, 1, count))
        paint("brow", hair, rng.uniform(0.3, 0.95, count))
        paint("nostril", skin * 0.35, np.ones(count))
        paint("sclera", rng.uniform(0.6, 0.85, (count, 1)) * np.array([[1.0, 0.97, 0.95]]), np.ones(count))
        paint("iris", _pick(rng, _IRIS, count), np.ones(count))
        paint("mouth", (1 - teeth) * np.array([[0.25, 0.09, 0.09]]) + teeth * 0.85, np.ones(count))
        fall_off = 1 / np.sqrt(1 + np.arange(len(self.smooth_modes)))[:, None]
        smooth = _SMOOTH_BRIGHTNESS * rng.standard_normal((count, len(fall_off), 1))
        smooth = fall_off * (smooth + _SMOOTH_HUE * rng.standard_normal((count, len(fall_off), 3)))
        smooth *= 0.5 + skin.mean(-1)[:, None, None]
        colours += np.swapaxes(np.tensordot(smooth.astype(np.float32), self.smooth_modes, (1, 0)), 1, 2)
        return np.clip(colours, 0, 1)

    def five_points(self, vertices: np.ndarray) -> np.ndarray:
        """Returns `[..., 5, C]`: eye centres, nose tip and mouth corners of `[..., V, C]`, image left before right."""
        return five_points.from_68(vertices[..., self.landmarks, :])


def load(path: pathlib.Path | str = ASSET) -> FaceModel:
    """Reads a face model; the shipped file is checked against its checksum.

    Args:
        path: an `.npz` that `tools/build_face_model.py` wrote.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is the shipped file and does not have the checksum it should have, or is no face model.
    """
    content = pathlib.Path(path).read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if pathlib.Path(path) == ASSET and found != CHECKSUM:
        raise ValueError(f"{path}: expected sha256 {CHECKSUM}. Received: {found}")
    arrays = npz_file.read_open(io.BytesIO(content), str(path))
    try:
        return _from_arrays(arrays)
    except (KeyError, ValueError, TypeError, IndexError, MemoryError) as error:
        raise ValueError(f"{path}: not a face model: {error}") from error


def _from_arrays(arrays: dict[str, np.ndarray]) -> FaceModel:
    names = arrays["region_names"].tolist()
    return FaceModel(
        mean=arrays["mean"],
        identity=arrays["identity"].astype(np.float32),
        expression=arrays["expression"].astype(np.float32),
        expression_names=tuple(arrays["expression_names"].tolist()),
        triangles=arrays["triangles"].astype(np.int32),
        landmarks=arrays["landmarks"].astype(np.int32),
        regions=dict(zip(names, arrays["regions"].astype(np.float32))),
        smooth_modes=arrays["smooth_modes"].astype(np.float32),
        levels=tuple(_level(arrays, level) for level in range(NUM_LEVELS + 1)),
    )


def save(model: FaceModel, path: pathlib.Path | str) -> str:
    """Writes a face model as `.npz` (bases as float16) and returns the file's sha256; the inverse of `load`."""
    arrays = {
        "mean": model.mean.astype(np.float32),
        "identity": model.identity.astype(np.float16),
        "expression": model.expression.astype(np.float16),
        "expression_names": np.array(model.expression_names),
        "triangles": model.triangles.astype(np.uint16),
        "landmarks": model.landmarks.astype(np.uint16),
        "region_names": np.array(list(model.regions)),
        "regions": np.stack(list(model.regions.values())).astype(np.float16),
        "smooth_modes": model.smooth_modes.astype(np.float16),
    }
    for number, level in enumerate(model.levels):
        for name in ("laplacian", "down", "up"):
            matrix = getattr(level, name)
            if matrix is not None:
                matrix = matrix.tocoo()
                arrays[f"{name}{number}_shape"] = np.array(matrix.shape)
                arrays[f"{name}{number}_indices"] = np.stack([matrix.row, matrix.col]).astype(np.uint16)
                arrays[f"{name}{number}_values"] = matrix.data.astype(np.float32)
    np.savez_compressed(path, **arrays)
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def _level(arrays, number):
    def matrix(name):
        key = f"{name}{number}"
        if f"{key}_values" not in arrays:
            return None
        entries = (arrays[f"{key}_values"], arrays[f"{key}_indices"].astype(np.int32))
        shape = tuple(arrays[f"{key}_shape"].tolist())
        if len(shape) != 2 or max(shape) > _MOST_VERTICES:
            raise ValueError(f"`{key}_shape` must be two numbers up to {_MOST_VERTICES}. Received: {shape}")
        return scipy.sparse.csr_matrix(entries, shape=shape)

    return Level(matrix("laplacian"), matrix("down"), matrix("up"))


def _mix_tones(rng, count):
    share = rng.beta(0.9, 1.3, (count, 1))
    tone = np.exp((1 - share) * np.log(_LIGHT_SKIN) + share * np.log(_DARK_SKIN))
    return np.clip(tone * (1 + 0.06 * rng.standard_normal((count, 3))), 0.05, 0.98)


def _pick(rng, palette, count):
    # A random mix of two entries, so that the palette is a region, not a list.
    palette = np.array(palette)
    share = rng.random((count, 1))
    return (
        share * palette[rng.integers(len(palette), size=count)]
        + (1 - share) * palette[rng.integers(len(palette), size=count)]
    )
