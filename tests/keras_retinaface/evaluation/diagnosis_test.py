import zipfile

import numpy as np
import pytest

from keras_retinaface.evaluation import diagnosis, prediction, table, wider_face

WRONG = {
    "corners `x1 y1 x2 y2 score`": lambda x, y, w, h, s: (x, y, x + w, y + h, s),
    "centres": lambda x, y, w, h, s: (x + w / 2, y + h / 2, w, h, s),
    "swapped axes `y x height width score`": lambda x, y, w, h, s: (y, x, h, w, s),
    "corners with swapped axes": lambda x, y, w, h, s: (y, x, y + h, x + w, s),
    "the score first, `score x y width height`": lambda x, y, w, h, s: (s, x, y, w, h),
    "the score first and corners": lambda x, y, w, h, s: (s, x, y, x + w, y + h),
    "look normalised": lambda x, y, w, h, s: (x / 1100, y / 2500, w / 1100, h / 2500, s),
}


def _misread(predictions, convert, names):
    """Returns what is read of files whose rows are not `x y width height score`."""
    rows = {name: prediction.to_rows(found)[:, :5] for name, found in predictions.items()}
    wrong = {name: prediction.of_rows(np.stack(convert(*rows[name].T), axis=1)) for name in rows}
    return table.stack(wrong, names)


@pytest.mark.parametrize("message", WRONG)
def test_wrong_formats_are_named(ground_truth, predictions, message):
    with pytest.raises(ValueError, match=message):
        diagnosis.check(_misread(predictions, WRONG[message], ground_truth.names), ground_truth)


def test_swapped_images_are_named(ground_truth, predictions):
    wrong = dict(zip(ground_truth.names, (predictions[name] for name in ground_truth.names[::-1])))
    with pytest.raises(ValueError, match="look swapped between images: in .* are the faces of "):
        diagnosis.check(table.stack(wrong, ground_truth.names), ground_truth)


def test_right_formats_pass_however_bad(ground_truth, predictions):
    rng = np.random.default_rng(0)
    noise = {
        name: prediction.of_rows(np.column_stack([rng.uniform(0, 500, (20, 4)), rng.random(20)]))
        for name in ground_truth.names
    }
    few = {name: found.select(slice(-2, None)) for name, found in predictions.items()}
    for right in (predictions, {}, noise, few):
        diagnosis.check(table.stack(right, ground_truth.names), ground_truth)


@pytest.mark.parametrize("name", ["jitter_low", "jitter_high", "edges"])
def test_official_sets_pass_and_their_wrong_twins_do_not(shared, tmp_path, name):
    ground_truth = wider_face.load_ground_truth(shared / "wider_face" / "ground_truth")
    ground_truth = ground_truth.select(ground_truth.names[1::10])
    zipfile.ZipFile(shared / "evaluation" / f"{name}.zip").extractall(tmp_path)
    predictions, _ = prediction.read(tmp_path, ground_truth.names)
    diagnosis.check(table.stack(predictions, ground_truth.names), ground_truth)
    if name == "edges":  # boxes of a drawing board, which hardly ever meet a face
        return
    for message, convert in WRONG.items():
        with pytest.raises(ValueError, match=message):
            diagnosis.check(_misread(predictions, convert, ground_truth.names), ground_truth)
