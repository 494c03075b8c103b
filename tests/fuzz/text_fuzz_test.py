"""Damaged annotation files give records or one ValueError of ours, quickly, in little memory, and write nothing.

The short form runs with the suite; FUZZ_CASES=4000 sets how many files of each kind are tried.
"""

import io
import os
import pathlib
import re
import resource
import tempfile
import time

import numpy as np
import pytest
import scipy.io
import tensorflow as tf

from data_pipeline import coco, shard, wider_face
from data_pipeline import record as record_lib
from keras_retinaface.evaluation import aflw2000, annotation, fddb, prediction
from keras_retinaface.evaluation import wider_face as benchmark
from tests.fuzz import text_damage

CASES = int(os.environ.get("FUZZ_CASES", "60"))
SLOWEST = 5.0
# A file of some kilobytes may take this much for good; interpreter and allocator keep a part of what was freed.
MOST_MEGABYTES = 64

_POINTS = " ".join(f"{20 + i} {30 + i} 0.0" for i in range(5))
_LABEL = f"# a/b.jpg\n10 20 30 40 {_POINTS} 0.9\n5 6 7 8\n# c.jpg\n1 2 3 4 {_POINTS}\n"
_WIDER = "0--A/a.jpg\n2\n10 20 30 40 0 0 0 0 0 0\n5 6 7 8 1 0 0 1 0 0\n0--A/b.jpg\n0\n0 0 0 0 0 0 0 0 0 0\n"
_COCO = (
    '{"images": [{"id": 1, "file_name": "a.jpg", "width": 90, "height": 80}, {"id": 2, "file_name": "b.jpg"}], '
    '"annotations": [{"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [1, 2, 30.5, 40], "keypoints": '
    "[1, 2, 2, 3, 4, 2, 5, 6, 2, 7, 8, 2, 9, 9, 0]}, "
    '{"id": 2, "image_id": 2, "category_id": 0, "bbox": [5, 5, 9, 9]}], '
    '"categories": [{"id": 0, "name": "face"}, {"id": 1, "name": "face"}]}'
)
_PREDICTION = "0--A/a.jpg\n2\n10.5 20 30 40 0.9\n1 2 3 4 0.25\n"
_ELLIPSES = "2002/img_1\n2\n80 40 1.5 250 200 1\n30 20 -0.5 25 20 1\n2002/img_2\n0\n"
_CSV = ",".join(annotation.CSV_COLUMNS) + "\na.jpg,10,20,30,40,1,2,3,4,5,6,7,8,,\nb.jpg,1,1,2,2,1,2,3,4,5,6,7,8,9,10\n"
_XML = "<?xml version='1.0'?><dataset><images><image file='a.jpg'><box top='1' left='2' width='30' height='40'>{}</box>"
_XML = _XML.format("<part name='30' x='1' y='2'/>") + "</image></images></dataset>"


def _mat(**variables):
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, variables, do_compression=len(variables) == 1)
    return buffer.getvalue()


def _cells(*values):
    cells = np.empty((len(values), 1), object)
    cells[:, 0] = values
    return cells


def _faces():
    boxes = _cells(np.array([[1.0, 2, 3, 4], [5, 6, 7, 8]]), np.array([[9.0, 9, 9, 9]]))
    return _mat(
        event_list=_cells("0--A"), file_list=_cells(_cells("a", "b")), face_bbx_list=_cells(_cells(*boxes[:, 0]))
    )


def _rows():
    return _mat(gt_list=_cells(_cells(np.array([[1.0], [2.0]]), np.array([[1.0]]))))


def _tfrecord():
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "a.tfrecord"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for size in (30, 5, 0, 90):
                writer.write(b"x" * size)
        return path.read_bytes()


def _read_ground_truth(path):
    path.rename(path.with_name("wider_face_val.mat"))
    for subset in benchmark.SUBSETS:
        path.with_name(f"wider_{subset}_val.mat").write_bytes(_rows())
    return benchmark.load_ground_truth(path.parent)


def _read_subset(path):
    path.rename(path.with_name("wider_hard_val.mat"))
    for name in ("easy", "medium"):
        path.with_name(f"wider_{name}_val.mat").write_bytes(_rows())
    path.with_name("wider_face_val.mat").write_bytes(_faces())
    return benchmark.load_ground_truth(path.parent)


def _read_prediction(path):
    (path.parent / "0--A").mkdir(exist_ok=True)
    path.rename(path.parent / "0--A" / "a.txt")
    return prediction.read(path.parent, ["0--A/a"])


def _read_folds(path):
    path.rename(path.with_name("FDDB-fold-01-ellipseList.txt"))
    return fddb.read_ellipses(path.parent)


def _read_pose(path):
    return aflw2000.load_aflw2000(path.parent)


KINDS = {
    "label": ("label.txt", _LABEL.encode(), lambda path: wider_face.read(str(path))),
    "label_skip": ("label.txt", _LABEL.encode(), lambda path: wider_face.read(str(path), record_lib.BadData("skip"))),
    "label_evaluated": ("label.txt", _LABEL.encode(), annotation.read),
    "wider": ("wider.txt", _WIDER.encode(), lambda path: wider_face.read(str(path))),
    "wider_skip": ("wider.txt", _WIDER.encode(), lambda path: wider_face.read(str(path), record_lib.BadData("skip"))),
    "coco": ("coco.json", _COCO.encode(), lambda path: coco.read(str(path))),
    "coco_skip": ("coco.json", _COCO.encode(), lambda path: coco.read(str(path), record_lib.BadData("skip"))),
    "csv": ("faces.csv", _CSV.encode(), annotation.read),
    "xml": ("faces.xml", _XML.encode(), annotation.read),
    "prediction": ("p.txt", _PREDICTION.encode(), _read_prediction),
    "fddb": ("ellipses.txt", _ELLIPSES.encode(), _read_folds),
    "fddb_detections": ("found.txt", _PREDICTION.encode(), fddb.read_detections),
    "mat_faces": ("faces.mat", _faces(), _read_ground_truth),
    "mat_subset": ("subset.mat", _rows(), _read_subset),
    "mat_pose": ("image1.mat", _mat(pt3d_68=np.ones((3, 68)), Pose_Para=np.ones((1, 7))), _read_pose),
    "tfrecord": ("a.tfrecord", _tfrecord(), lambda path: shard.find_runs(str(path), record_lib.BadData())),
}


def _clear(folder):
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


def _files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("kind", KINDS)
def test_damage_gives_records_or_an_error_of_ours(kind, tmp_path):
    name, whole, read = KINDS[kind]
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / name).write_bytes(whole)
    assert read(folder / name), "the file is good before it is damaged"
    num_read, before = 0, None
    for seed in range(CASES):
        _clear(folder)
        (folder / name).write_bytes(text_damage.damage(whole, seed))
        begin = time.monotonic()
        try:
            read(folder / name)
            num_read += 1
        except ValueError as error:
            # Ours name the file, and stay one line that can be read; those of NumPy and Python name nothing.
            assert type(error) is ValueError and re.search(r"\.(txt|json|csv|xml|mat|tfrecord)\b", str(error)), seed
            assert len(str(error)) < 600 and "\n" not in str(error), seed
        except FileNotFoundError as error:
            pytest.fail(f"seed {seed}: {error}")
        assert time.monotonic() - begin < SLOWEST, seed
        if seed == CASES // 4:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < MOST_MEGABYTES
    assert num_read < CASES and _files(tmp_path)[0] == "in" and len(list(tmp_path.iterdir())) == 1
