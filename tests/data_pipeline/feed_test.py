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
