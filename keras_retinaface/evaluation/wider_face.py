"""Average precision on WIDER FACE by the protocol of the official MATLAB code. Reading is in `prediction`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection

import numpy as np

from keras_retinaface.evaluation import mat_file, pairing, prediction
from keras_retinaface.evaluation import table as table_lib
from keras_retinaface.formats import annotation_text

SUBSETS = ("easy", "medium", "hard")
# From which a detection has found a face.
MIN_OVERLAP = 0.5
NUM_THRESHOLDS = 1000
# Written as the official code does: linspace and arange differ in the last bits, and scores may sit on a threshold.
THRESHOLDS = 1.0 - np.arange(1, NUM_THRESHOLDS + 1) / NUM_THRESHOLDS


@dataclasses.dataclass(frozen=True)
class GroundTruth:
    """The faces of a split, all images in one table.

    Attributes:
        names: "event/image" without extension, in official order; image `i` owns rows `offsets[i]:offsets[i + 1]`.
        offsets: int64 `[images + 1]`.
        boxes: float64 `[rows, 4]`, xyxy, pixels. A face-free image holds one row of zeros.
        keep: bool `[rows]` by subset: rows that count there; the others are neither wanted nor punished.
    """

    names: tuple[str, ...]
    offsets: np.ndarray
    boxes: np.ndarray
    keep: dict[str, np.ndarray]

    @property
    def num_faces(self) -> int:
        """Faces of all images; the zero rows of face-free images are none."""
        return int(np.count_nonzero(self.boxes.any(axis=1)))

    def check(self, detections: table_lib.Table) -> None:
        """Raises a ValueError if detections are of other images, or of these in another order."""
        if detections.names != self.names:
            raise ValueError(
                f"`detections` must be of the {len(self.names)} images of the ground truth. "
                f"Received: {len(detections.names)} images"
            )

    def select(self, names: Collection[str]) -> GroundTruth:
        """Cuts the ground truth to some images, in the order that it has.

        Args:
            names: "event/image" without extension.

        Raises:
            ValueError: if a name is unknown.
        """
        unknown = sorted(set(names).difference(self.names))
        if unknown:
            raise ValueError(f"{len(unknown)} images are not in the ground truth. Received: {unknown[0]!r} first")
        images, rows, offsets = table_lib.cut(self.names, self.offsets, names)
        return GroundTruth(
            names=tuple(self.names[i] for i in images),
            offsets=offsets,
            boxes=self.boxes[rows],
            keep={subset: keep[rows] for subset, keep in self.keep.items()},
        )


@dataclasses.dataclass(frozen=True)
class Curve:
    """Precision and recall at `THRESHOLDS`.

    Attributes:
        precision: float64 `[1000]`; NaN where nothing is detected yet.
        recall: float64 `[1000]`; NaN if there is no face to find.
        num_faces: faces to find.
    """

    precision: np.ndarray
    recall: np.ndarray
    num_faces: int


def load_ground_truth(directory: str | os.PathLike) -> GroundTruth:
    """Reads the official `wider_{face,easy,medium,hard}_val.mat`.

    Args:
        directory: folder that holds the four files.

    Raises:
        FileNotFoundError: if one of them is missing.
        ValueError: if a file is damaged, or the subsets speak of other images than the faces.
    """
    paths = {part: os.path.join(directory, f"wider_{part}_val.mat") for part in ("face", *SUBSETS)}
    for path in paths.values():
        if not os.path.isfile(path):
            raise FileNotFoundError(f"the official ground truth has four files; {path} is missing")
    names, boxes = _read_faces(paths["face"])
    counts = np.array([len(rows) for rows in boxes], np.int64)
    offsets = table_lib.to_offsets(counts)
    keep = {}
    for subset in SUBSETS:
        kept = _read_subset(paths[subset])
        if len(kept) != len(names):
            raise ValueError(f"{paths[subset]}: {len(kept)} images, but {paths['face']} has {len(names)}")
        keep[subset] = np.zeros(offsets[-1], bool)
        for offset, size, rows in zip(offsets, counts, kept):
            if rows.size and not 1 <= rows.min() <= rows.max() <= size:
                raise ValueError(f"{paths[subset]}: a row number is outside 1..{size}")
            keep[subset][offset + rows - 1] = True
    return GroundTruth(tuple(names), offsets, np.concatenate([np.zeros((0, 4)), *boxes]), keep)


def _read_faces(path: str) -> tuple[list[str], list[np.ndarray]]:
    """Returns the names of the images and their boxes, float64 `[n, 4]`, xyxy."""
    keys = ("event_list", "file_list", "face_bbx_list")
    content = mat_file.read(path, keys)
    events, files, boxes = (_cells(content.get(key), path, f"`{key}`") for key in keys)
    if not len(events) == len(files) == len(boxes):
        raise ValueError(f"{path}: expected as many lists as events. Received: {len(files)} for {len(events)}")
    names, rows = [], []
    for event, event_files, event_boxes in zip(events, files, boxes):
        titles = [f"{_word(event, path)}/{_word(title, path)}" for title in _cells(event_files, path, "names")]
        faces = [_table(table, path, 4) for table in _cells(event_boxes, path, "boxes")]
        if len(titles) != len(faces):
            raise ValueError(f"{path}: expected boxes for every image. Received: {len(faces)} for {len(titles)}")
        for title in titles:
            if expected := annotation_text.name_fault(title):
                annotation_text.fail(path, expected, title)
        names.extend(titles)
        # The file has x, y, width, height; a width may be negative.
        rows.extend(np.concatenate([face[:, :2], face[:, :2] + face[:, 2:]], axis=1) for face in faces)
    if len(set(names)) != len(names):
        raise ValueError(f"{path}: expected every image once")
    return names, rows


def _read_subset(path: str) -> list[np.ndarray]:
    """Returns the numbers of the rows that count, int64 `[n]` an image."""
    events = _cells(mat_file.read(path, ["gt_list"]).get("gt_list"), path, "`gt_list`")
    tables = [table for event in events for table in _cells(event, path, "row numbers")]
    rows = [_table(table, path, 1)[:, 0] for table in tables]
    if any((numbers != np.floor(numbers)).any() for numbers in rows):
        raise ValueError(f"{path}: expected whole row numbers")
    return [numbers.astype(np.int64) for numbers in rows]


def _cells(value, path: str, what: str) -> np.ndarray:
    if not isinstance(value, np.ndarray) or value.dtype != object:
        raise ValueError(f"{path}: expected cells of {what}")
    return value.reshape(-1, order="F")


def _word(value, path: str) -> str:
    # A cell of one cell of one text, or that text.
    while isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    if not isinstance(value, str):
        raise ValueError(f"{path}: expected a name. Received: {annotation_text.shorten(value)}")
    return value


def _table(value, path: str, num_columns: int) -> np.ndarray:
    while isinstance(value, np.ndarray) and value.dtype == object and value.size == 1:
        value = value.item()
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iuf" or value.size % num_columns:
        raise ValueError(f"{path}: expected a table of {num_columns} columns")
    table = value.reshape(-1, num_columns).astype(np.float64)
    if not (np.abs(table) <= annotation_text.LARGEST).all():
        raise ValueError(f"{path}: expected finite numbers")
    return table


def evaluate(detections: table_lib.Table, ground_truth: GroundTruth, *, compat: str = "matlab") -> dict:
    """Computes the average precision of every subset.

    Args:
        detections: detections of the images of the ground truth.
        ground_truth: the faces.
        compat: "matlab", the official code, or "python", its common port: detections in the order given, not by score,
            and scores scaled in double precision.

    Returns:
        `easy`, `medium`, `hard`: average precision in [0, 1], NaN for a subset without faces; `images`, `faces`: how
        many were looked at.

    Raises:
        ValueError: if the detections are of other images than the faces.
    """
    curves = precision_recall(detections, ground_truth, compat=compat)
    return {
        **{subset: average_precision(curve) for subset, curve in curves.items()},
        "images": len(ground_truth.names),
        "faces": ground_truth.num_faces,
    }


def precision_recall(
    detections: table_lib.Table, ground_truth: GroundTruth, *, compat: str = "matlab"
) -> dict[str, Curve]:
    """Computes the curves that `evaluate` integrates.

    Args:
        detections: as for `evaluate`.
        ground_truth: the faces.
        compat: as for `evaluate`.

    Returns:
        One curve by subset.
    """
    if compat not in prediction.COMPATS:
        raise ValueError(f"`compat` must be one of {prediction.COMPATS}. Received: compat={compat!r}")
    ground_truth.check(detections)
    detections = detections.best_first() if compat == "matlab" else detections
    best = _best_faces(detections, ground_truth)
    steps = _threshold_steps(detections.rows.scores, np.diff(detections.offsets), compat)
    return {subset: _curve(best, steps, ground_truth.keep[subset]) for subset in SUBSETS}


def average_precision(curve: Curve) -> float:
    """Integrates a curve over all its points, under the running maximum of precision from the right.

    Source: PASCAL VOC 2010, as the official `VOCap.m`.
    """
    if not curve.num_faces:
        return float("nan")
    recall = np.concatenate([[0.0], curve.recall, [1.0]])
    # MATLAB's max() passes over NaN.
    precision = np.concatenate([[0.0], np.nan_to_num(curve.precision, nan=0.0), [0.0]])
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall) * envelope[1:]))


def _best_faces(detections: table_lib.Table, ground_truth: GroundTruth) -> np.ndarray:
    # The row that each detection overlaps most, of all rows of its image, or -1 where that is under the threshold.
    # Whether the row is kept or already found plays no part, so one pass serves all subsets.
    boxes = detections.rows.boxes
    pairs = pairing.find(ground_truth.boxes, ground_truth.offsets, boxes, detections.offsets, MIN_OVERLAP, pixel=1)
    best = np.full(len(boxes), -1, np.int64)
    # The last write wins, so the largest overlap goes last, and of equal ones the first face.
    order = np.lexsort((-pairs.faces, pairs.overlaps))
    best[pairs.detections[order]] = pairs.faces[order]
    return best


def _threshold_steps(scores, counts, compat: str) -> np.ndarray:
    # For each detection the first threshold at which it counts, or NUM_THRESHOLDS for never.
    scaled = _scale(scores, compat)
    if compat == "python" and scaled.size:
        scaled = _suffix_maximum(scaled, counts)
    steps = NUM_THRESHOLDS - np.searchsorted(THRESHOLDS[::-1], scaled, side="right")
    # Equal scores everywhere scale to 0 / 0, which reaches no threshold.
    return np.where(np.isnan(scaled), NUM_THRESHOLDS, steps)


def _scale(scores, compat: str) -> np.ndarray:
    # Minimum and maximum over the data set become 0 and 1; the start values are those of the two programs.
    if compat == "matlab":
        scores = scores.astype(np.float32)
        limits = np.finfo(np.float32)
        lowest, highest = limits.max, limits.tiny
    else:
        lowest, highest = 1.0, 0.0
    if not scores.size:
        return scores.astype(np.float64)
    lowest = min(scores.dtype.type(lowest), scores.min())
    highest = max(scores.dtype.type(highest), scores.max())
    with np.errstate(invalid="ignore", divide="ignore"):
        return ((scores - lowest) / (highest - lowest)).astype(np.float64)


def _suffix_maximum(scaled, counts) -> np.ndarray:
    # The port counts everything up to the last detection that reaches a threshold, sorted or not.
    ends = np.cumsum(counts)
    result = scaled.copy()
    for first, last in zip(ends - counts, ends):
        result[first:last] = np.maximum.accumulate(scaled[first:last][::-1])[::-1]
    return result


def _curve(best, steps, keep) -> Curve:
    is_matched = best >= 0
    is_kept = np.zeros(len(best), bool)
    is_kept[is_matched] = keep[best[is_matched]]
    # A detection of an ignored face is neutral. The first of a kept one finds it, and later ones are false: no second
    # choice among the other faces.
    is_counted = ~is_matched | is_kept
    kept = np.flatnonzero(is_kept)
    _, first = np.unique(best[kept], return_index=True)
    proposals = _cumulate(steps[is_counted])
    found = _cumulate(steps[kept[first]])
    num_faces = int(np.count_nonzero(keep))
    with np.errstate(invalid="ignore", divide="ignore"):
        return Curve(found / proposals, found / np.float64(num_faces), num_faces)


def _cumulate(steps) -> np.ndarray:
    # How many detections count at each threshold, float64 [1000].
    return np.cumsum(np.bincount(steps, minlength=NUM_THRESHOLDS + 1)[:NUM_THRESHOLDS], dtype=np.float64)
