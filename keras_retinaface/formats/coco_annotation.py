"""Writes faces as COCO's annotations. Reading them is in `data_pipeline.coco`."""

from __future__ import annotations

from collections.abc import Sequence

CATEGORIES = ({"id": 1, "name": "face"},)
# Of a keypoint: labelled and seen.
_VISIBLE = 2


def image(number: int, name: str, size: tuple[int, int]) -> dict:
    """Returns the row of an image of (height, width) pixels."""
    return {"id": number, "file_name": name, "width": size[1], "height": size[0]}


def face(
    number: int,
    image_number: int,
    box: Sequence[float],
    *,
    is_ignored: bool,
    landmarks=None,
    score: float | None = None,
    digits: int = 1,
) -> dict:
    """Returns the row of a face.

    Args:
        number: id of the row, from 1.
        image_number: id of its image.
        box: x, y, width and height, pixels.
        is_ignored: whether training takes it neither for a face nor for background.
        landmarks: float `[5, 2]`, (x, y), pixels; None where they are not known.
        score: probability of a face; None where somebody annotated it.
        digits: decimals of box and landmarks.
    """
    row = {"id": number, "image_id": image_number, "category_id": 1, "iscrowd": int(is_ignored)}
    row["bbox"], row["area"] = [round(float(value), digits) for value in box], round(float(box[2] * box[3]), 1)
    if score is not None:
        row["score"] = round(score, 4)
    if landmarks is not None:
        row["keypoints"] = [
            number for x, y in landmarks for number in (round(float(x), digits), round(float(y), digits), _VISIBLE)
        ]
        row["num_keypoints"] = len(landmarks)
    return row
