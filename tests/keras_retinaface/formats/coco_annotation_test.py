import numpy as np

from keras_retinaface.formats import coco_annotation


def test_a_face_has_its_box_and_what_is_known_beside_it():
    box = np.array([1.04, 2.06, 10.0, 20.26], np.float32)
    bare = coco_annotation.face(3, 2, box, is_ignored=True)
    assert bare == {
        "id": 3,
        "image_id": 2,
        "category_id": 1,
        "iscrowd": 1,
        "bbox": [1.0, 2.1, 10.0, 20.3],
        "area": 202.6,
    }
    points = np.arange(10).reshape(5, 2) + 0.256
    full = coco_annotation.face(3, 2, box, is_ignored=False, landmarks=points, score=0.98765, digits=2)
    assert full["bbox"] == [1.04, 2.06, 10.0, 20.26] and full["score"] == 0.9877 and full["num_keypoints"] == 5
    assert full["keypoints"][:6] == [0.26, 1.26, 2, 2.26, 3.26, 2] and full["iscrowd"] == 0


def test_an_image_has_its_width_and_height():
    assert coco_annotation.image(1, "a/b.jpg", (30, 40)) == {"id": 1, "file_name": "a/b.jpg", "width": 40, "height": 30}
