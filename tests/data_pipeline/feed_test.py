import json

import pytest

from data_pipeline import feed

_COCO = {
    "images": [{"id": 1, "file_name": "astronaut.png"}],
    "categories": [{"id": 1, "name": "head"}, {"id": 2, "name": "hand"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [178, 57, 95, 119]}],
}


def test_a_category_is_for_what_has_categories(photos, tmp_path):
    (tmp_path / "faces.json").write_text(json.dumps(_COCO))
    coco, text = str(tmp_path / "faces.json"), str(photos / "label.txt")
    mixed = feed.open(str(photos), coco, val_images=str(photos), val_annotations=text, category="head")
    assert (mixed.num_records, mixed.num_validation) == (1, 7)
    with pytest.raises(ValueError, match="`category` is for COCO JSON. Received: category='head'"):
        feed.open(str(photos), text, category="head")
    with pytest.raises(ValueError, match="`category` is for COCO JSON. Received: category='head'"):
        feed.open([str(photos)] * 2, [text] * 2, shares=[1, 1], category="head")


def test_of_several_sources_the_category_is_for_coco_alone(photos, tmp_path):
    (tmp_path / "faces.json").write_text(json.dumps(_COCO))
    coco, text = str(tmp_path / "faces.json"), str(photos / "label.txt")
    several = feed.open([str(photos), str(photos)], [coco, text], shares=[".7", ".3"], category="head")
    assert several.num_records == 8
    # What a run that goes on compares.
    assert several.settings == {
        "train_shares": [".7", ".3"],
        "train_images": [str(photos)] * 2,
        "train_annotations": [coco, text],
        "train_landmarks": None,
        "category": "head",
        "on_bad_data": "fail",
    }
    with pytest.raises(ValueError, match="`train_shares` must be numbers. Received: 'half,.5'"):
        feed.open([str(photos)] * 2, [coco, text], shares=["half", ".5"]).num_records  # noqa: B018
    with pytest.raises(ValueError, match="`train_images` must be given once for each of 2 shares. Received: 'photos'"):
        feed.open("photos", [coco, text], shares=[1, 1])
