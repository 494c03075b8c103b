"""Average precision by the rules of COCO, on the ground truth of WIDER FACE: its subsets, or every face."""

from __future__ import annotations

import dataclasses

import numpy as np

from keras_retinaface.evaluation import pairing, wider_face
from keras_retinaface.evaluation import table as table_lib

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_POINTS = np.linspace(0.0, 1.0, 101)
# COCO's default of 100 would cut 59 crowded images of the validation set.
MAX_DETECTIONS = 1000


@dataclasses.dataclass(frozen=True)
class Result:
    """What COCO's evaluation prints.

    Attributes:
        precision: float64 `[10, 101]`, by `IOU_THRESHOLDS` and `RECALL_POINTS`; NaN without faces.
        max_recall: float64 `[10]`, recall over all detections; NaN without faces.
    """

    precision: np.ndarray
    max_recall: np.ndarray

    @property
    def ap(self) -> float:
        """Mean over IoU .5:.05:.95 and recall."""
        return float(self.precision.mean())

    @property
    def ap50(self) -> float:
        """Average precision at IoU 0.5."""
        return float(self.precision[0].mean())

    @property
    def ap75(self) -> float:
        """Average precision at IoU 0.75."""
        return float(self.precision[5].mean())


def evaluate(
    detections: table_lib.Table,
    ground_truth: wider_face.GroundTruth,
    *,
    subset: str | None = None,
    max_detections: int = MAX_DETECTIONS,
) -> Result:
    """Computes COCO's average precision.

    Args:
        detections: detections of the images of the ground truth.
        ground_truth: the faces; the zero rows of face-free images are left out.
        subset: name of WIDER FACE's subset: faces outside it are ignored, each forgiving the one detection that falls
            to it, by IoU (not COCO's crowd rule, which goes by the detection's own area and forgives any number). None:
            all faces.
        max_detections: best detections of an image that are looked at.

    Returns:
        Precision and recall.

    Raises:
        ValueError: if the subset is unknown, or the detections are of other images than the faces.
    """
    if subset is not None and subset not in wider_face.SUBSETS:
        raise ValueError(f"`subset` must be one of {wider_face.SUBSETS} or None. Received: subset={subset!r}")
    ground_truth.check(detections)
    is_face = ground_truth.boxes.any(axis=1)
    faces = ground_truth.boxes[is_face]
    face_offsets = np.concatenate([[0], np.cumsum(is_face)])[ground_truth.offsets]
    is_ignored = np.zeros(len(faces), bool) if subset is None else ~ground_truth.keep[subset][is_face]

    best = detections.best_first().head(max_detections)
    boxes, scores = best.rows.boxes, best.rows.scores
    pairs = pairing.find(faces, face_offsets, boxes, best.offsets, IOU_THRESHOLDS[0])
    # A detection's faces by preference: those that count, then the larger overlap, then (COCO's way) the later face.
    order = np.lexsort((-pairs.faces, -pairs.overlaps, is_ignored[pairs.faces], pairs.detections))
    pairs = pairing.Pairs(*(column[order] for column in pairs))
    by_score = np.argsort(-scores, kind="stable")
    curves = [
        _curve(match[by_score], is_ignored)
        for match in (_match(pairs, threshold, len(faces), len(boxes)) for threshold in IOU_THRESHOLDS)
    ]
    return Result(*(np.array(column) for column in zip(*curves)))


def _match(pairs: pairing.Pairs, threshold: float, num_faces: int, num_detections: int) -> np.ndarray:
    # The face of each detection, or -1. COCO lets detections choose in the order of their scores, each the best face
    # that is still free. Here all of them ask at once, each face takes the best-ranked that asks, and the rejected ask
    # their next face: since all faces rank detections alike, it ends in the same matching, after a few rounds.
    is_near = pairs.overlaps >= threshold
    faces, (askers, first) = pairs.faces[is_near], np.unique(pairs.detections[is_near], return_index=True)
    end = np.append(first, len(faces))[1:]
    holder = np.full(num_faces, len(askers))  # no one; rows of an image ascend by rank
    wanted = np.full(len(askers), -1)
    asking, following = np.arange(len(askers)), first.copy()
    while asking.size:
        wanted[asking] = faces[following[asking]]
        np.minimum.at(holder, wanted[asking], asking)
        rejected = np.flatnonzero((wanted >= 0) & (holder[wanted] != np.arange(len(askers))))
        wanted[rejected] = -1
        following[rejected] += 1
        asking = rejected[following[rejected] < end[rejected]]
    match = np.full(num_detections, -1)
    match[askers] = wanted
    return match


def _curve(match, is_ignored) -> tuple[np.ndarray, float]:
    # Precision [101] and the largest recall, of detections in the order of their scores.
    num_faces = np.count_nonzero(~is_ignored)
    if not num_faces:
        return np.full(len(RECALL_POINTS), np.nan), np.nan
    is_matched = match >= 0
    found = np.cumsum(is_matched & ~is_ignored[match], dtype=np.float64)
    false = np.cumsum(~is_matched, dtype=np.float64)
    recall = found / num_faces
    precision = np.maximum.accumulate((found / (found + false + np.spacing(1)))[::-1])[::-1]
    points = np.searchsorted(recall, RECALL_POINTS, side="left")
    return np.append(precision, 0.0)[points], recall[-1] if recall.size else 0.0
