"""Errors of dense face geometry as on AFLW2000-3D: 68 points or all vertices, by yaw."""

from __future__ import annotations

import dataclasses
import os
import pathlib

import numpy as np

from keras_retinaface.evaluation import mat_file
from keras_retinaface.formats import npz_file

# Bounds of |yaw|, degrees; the quoted mean is that of the three groups, not of all faces.
YAW_BOUNDS = (0, 30, 60, 90)
_NUM_AXES = {"landmarks": 3, "vertices": 3, "yaw": 1}


@dataclasses.dataclass(frozen=True)
class Meshes:
    """Geometry of faces, one an image.

    Attributes:
        names: names of the images.
        landmarks: float64 `[N, 68, 3]`, pixels, y down, or None.
        vertices: float64 `[N, V, 3]`, as `landmarks`, or None.
        yaw: float64 `[N]`, degrees, or None; truth has it.
    """

    names: tuple[str, ...]
    landmarks: np.ndarray | None = None
    vertices: np.ndarray | None = None
    yaw: np.ndarray | None = None


def evaluate(predicted: Meshes, truth: Meshes) -> dict:
    """Computes every error that both sides have geometry for.

    Args:
        predicted: predicted meshes, with landmarks or vertices.
        truth: true meshes with `landmarks`, whose tight box is the normaliser, and `yaw`.

    Returns:
        `points_2d`, `points_3d`, `vertices_3d` (those that both have): NME by pose, as from `by_pose`, depths aligned;
        `faces`: compared; `missing`: true faces without a prediction, which no mean holds.

    Raises:
        ValueError: if there is nothing to compare.
    """
    row = {name: index for index, name in enumerate(predicted.names)}
    faces = np.array([index for index, name in enumerate(truth.names) if name in row], np.int64)
    found = np.array([row[truth.names[index]] for index in faces], np.int64)
    if not faces.size:
        raise ValueError(f"no face is in both; predicted are {predicted.names[:1]} .., true {truth.names[:1]} ..")
    size, yaw = tight_size(truth.landmarks[faces]), truth.yaw[faces]
    numbers = {}
    for kind in ("landmarks", "vertices"):
        ours, theirs = getattr(predicted, kind), getattr(truth, kind)
        if ours is None or theirs is None:
            continue
        ours, theirs = ours[found], theirs[faces]
        if kind == "landmarks":
            numbers["points_2d"] = by_pose(nme(ours[..., :2], theirs[..., :2], size), yaw)
        name = "points_3d" if kind == "landmarks" else "vertices_3d"
        numbers[name] = by_pose(nme(ours, theirs, size, has_aligned_depth=True), yaw)
    if not numbers:
        raise ValueError("predicted and true meshes have neither landmarks nor vertices in common")
    return {**numbers, "faces": len(faces), "missing": len(truth.names) - len(faces)}


def load(path: str | os.PathLike) -> Meshes:
    """Reads meshes.

    Args:
        path: a folder as for `load_aflw2000`, or an `.npz` with `names` and any of `landmarks`, `vertices`, `yaw`.

    Raises:
        ValueError: if the file lacks names, or its arrays do not have as many rows as there are names.
    """
    if os.path.isdir(path):
        return load_aflw2000(path)
    content = npz_file.read(path)
    if "names" not in content or content["names"].ndim != 1:
        raise ValueError(f"{path}: expected `names`. Received: {sorted(content)}")
    names = tuple(str(name) for name in content["names"])
    arrays = {key: content[key] for key in _NUM_AXES if key in content}
    for key, array in arrays.items():
        if array.dtype.kind not in "iuf" or array.ndim != _NUM_AXES[key]:
            raise ValueError(
                f"{path}: `{key}` must be numbers with {_NUM_AXES[key]} axes. Received: {array.dtype} {array.shape}"
            )
        if len(array) != len(names):
            raise ValueError(f"{path}: expected {len(names)} rows in `{key}`. Received: {len(array)}")
        if not _is_finite(array):
            raise ValueError(f"{path}: expected finite numbers in `{key}`")
    return Meshes(names, **{key: array.astype(np.float64) for key, array in arrays.items()})


def nme(predicted: np.ndarray, truth: np.ndarray, size: np.ndarray, *, has_aligned_depth: bool = False) -> np.ndarray:
    """Computes the normalised mean error of every face.

    Args:
        predicted: float `[N, P, 2]` or `[N, P, 3]`, pixels: landmarks or all vertices.
        truth: float, as `predicted`.
        size: float `[N]`, normaliser, pixels, as from `tight_size`.
        has_aligned_depth: whether to bring both depths to mean 0 first: a weak-perspective truth has no absolute one.

    Returns:
        float64 `[N]`: mean distance over `size`.

    Raises:
        ValueError: if the shapes differ.
    """
    predicted, truth = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    if predicted.shape != truth.shape or predicted.ndim != 3 or predicted.shape[2] not in (2, 3):
        raise ValueError(
            "`predicted` and `truth` must both be [N, P, 2] or [N, P, 3]. "
            f"Received: {predicted.shape} and {truth.shape}"
        )
    difference = predicted - truth
    if has_aligned_depth and difference.shape[2] == 3:
        difference[..., 2] -= difference[..., 2].mean(axis=1, keepdims=True)
    return np.linalg.norm(difference, axis=-1).mean(axis=1) / size


def tight_size(landmarks: np.ndarray) -> np.ndarray:
    """Computes sqrt(width x height) of the tight box around landmarks, the normaliser of 3DDFA.

    Args:
        landmarks: float `[N, 68, 2 or more]`, the true ones, pixels.

    Returns:
        float64 `[N]`, pixels.
    """
    points = np.asarray(landmarks, np.float64)[..., :2]
    return np.sqrt(np.prod(points.max(axis=1) - points.min(axis=1), axis=-1))


def by_pose(errors: np.ndarray, yaw: np.ndarray) -> dict[str, float | None]:
    """Averages errors over groups of yaw.

    Args:
        errors: float `[N]`.
        yaw: float `[N]`, degrees, of either sign; over 90 counts as 90.

    Returns:
        `"0-30"`, `"30-60"`, `"60-90"`: means, None for an empty group; `"mean"`: of the groups, None if one is empty;
        `"all"`: of all faces.
    """
    yaw = np.minimum(np.abs(np.asarray(yaw, np.float64)), YAW_BOUNDS[-1])
    errors = np.asarray(errors, np.float64)
    group = np.searchsorted(YAW_BOUNDS[1:-1], yaw, side="left")
    means = {}
    for index, (low, high) in enumerate(zip(YAW_BOUNDS, YAW_BOUNDS[1:])):
        is_in = group == index
        means[f"{low}-{high}"] = float(errors[is_in].mean()) if is_in.any() else None
    means["mean"] = None if None in means.values() else float(np.mean(list(means.values())))
    means["all"] = float(errors.mean()) if errors.size else None
    return means


def load_aflw2000(directory: str | os.PathLike) -> Meshes:
    """Reads the true points and poses of AFLW2000-3D.

    Args:
        directory: folder with `image*.mat` beside `image*.jpg`.

    Returns:
        Names with `.jpg`, landmarks and yaw.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a file lacks what is read.
    """
    names, landmarks, yaws = [], [], []
    for path in sorted(pathlib.Path(directory).glob("*.mat")):
        content = mat_file.read(path, ["pt3d_68", "Pose_Para"])
        points, pose = content.get("pt3d_68", np.zeros(0)), content.get("Pose_Para", np.zeros(0))
        if points.shape != (3, 68) or pose.size < 2 or not all(_is_finite(values) for values in (points, pose)):
            raise ValueError(f"{path}: expected `pt3d_68` [3, 68] and `Pose_Para` of finite numbers")
        names.append(path.with_suffix(".jpg").name)
        landmarks.append(points.T)
        yaws.append(pose.reshape(-1)[1])  # pitch, yaw, roll, ...; radians
    if not names:
        raise FileNotFoundError(f"no .mat files in {directory}")
    return Meshes(tuple(names), np.array(landmarks, np.float64), yaw=np.degrees(np.array(yaws, np.float64)))


def _is_finite(values: np.ndarray) -> bool:
    return values.dtype.kind in "iuf" and bool(np.isfinite(values).all())
