import shutil

import cv2
import keras
import numpy as np
import pytest
import scipy.io
import tensorflow as tf
from tensorboard.backend.event_processing import event_accumulator

from keras_retinaface.media import image_file
from keras_retinaface.network import model as model_lib
from keras_retinaface.training import callbacks, optimizer, start, validation, weight_average
from keras_retinaface.weights import arrays
from tests import pictures

_FACE = (40, 220, 90)


@pytest.fixture
def model():
    model = model_lib.RetinaFace()
    start.initialise(model, "mobilenet025")
    model.compile(optimizer=keras.optimizers.SGD(optimizer.WarmupSteps(0.01, 0, (5,))))
    return model


@pytest.fixture(scope="module")
def copy():
    """What `SaveModel` writes; it has other weights after every epoch."""
    return model_lib.RetinaFace()


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    """A folder with two photos and one with their ground truth, in the form of the official one."""
    from tests import conftest

    root = tmp_path_factory.mktemp("truth")
    photos = conftest.ROOT / "examples" / "photos"
    boxes = {}
    (root / "images/0--Parade").mkdir(parents=True)
    for line in (photos / "label.txt").read_text().splitlines():
        if line.startswith("#"):
            name = line[1:].strip()
        elif name in ("fr_biden.jpg", "fr_obama.jpg"):
            boxes.setdefault(name, []).append([float(word) for word in line.split()[:4]])
    for name in boxes:
        image = cv2.imread(str(photos / name))
        cv2.imwrite(str(root / "images/0--Parade" / name), cv2.resize(image, None, fx=0.25, fy=0.25))
    # One more image, that the folder does not hold.
    names = [*sorted(boxes), "absent.jpg"]

    def column(values):
        array = np.empty((len(values), 1), object)
        array[:, 0] = values
        return array

    rows = [np.array(boxes.get(name, [[0.0, 0.0, 9.0, 9.0]])) / 4 for name in names]
    face = {
        "event_list": column(["0--Parade"]),
        "file_list": column([column([name[:-4] for name in names])]),
        "face_bbx_list": column([column(rows)]),
    }
    scipy.io.savemat(root / "wider_face_val.mat", face)
    for subset in ("easy", "medium", "hard"):
        kept = [np.arange(1, 1 + len(row))[:, None] for row in rows]
        scipy.io.savemat(root / f"wider_{subset}_val.mat", {"gt_list": column([column(kept)])})
    return root


def _blind(model):
    """Makes a model see faces nowhere."""
    for name, variable in arrays.names(model).items():
        if name.startswith("class_"):
            variable.assign(np.zeros(variable.shape))


@pytest.mark.long
def test_the_best_model_by_ap_stays(model, copy, truth, tmp_path):
    saved = validation.SaveModel(tmp_path, copy)
    measure = validation.MeasureAp(tmp_path, saved, truth / "images", truth, every=2, epochs=5)
    for callback in (saved, measure):
        callback.set_model(model)

    def end(epoch):
        logs = {}
        saved.on_epoch_end(epoch, logs)
        measure.on_epoch_end(epoch, logs)
        return logs

    assert end(0) == {} and not (tmp_path / "best.keras").exists(), "every second epoch only"
    logs = end(1)
    assert logs.keys() == {"ap_easy", "ap_medium", "ap_hard", "ap_mean"} and logs["ap_mean"] == 1.0
    best = (tmp_path / "best.keras").read_bytes()
    sharp = arrays.read(model)
    _blind(model)
    assert end(3)["ap_mean"] < 0.5
    assert (tmp_path / "best.keras").read_bytes() == best
    # The last epoch is measured in any case.
    assert "ap_mean" in end(4)
    for file, expected in (("best.keras", sharp), ("model.keras", arrays.read(model))):
        for name, value in arrays.read(keras.models.load_model(tmp_path / file, compile=False)).items():
            np.testing.assert_array_equal(value, expected[name], err_msg=f"{file}: {name}")
    # A resumed run knows from the history what the best was.
    resumed = validation.MeasureAp(
        tmp_path, saved, truth / "images", truth, every=1, epochs=9, rows=[{"ap_mean": "1.0"}, {"ap_mean": ""}]
    )
    resumed.on_epoch_end(5, {})
    assert (tmp_path / "best.keras").read_bytes() == best


def test_an_image_that_cannot_be_read_costs_itself_alone(model, copy, truth, tmp_path, caplog):
    shutil.copytree(truth / "images", tmp_path / "images")
    (tmp_path / "images/0--Parade/fr_biden.jpg").write_bytes(b"not a picture")
    saved = validation.SaveModel(tmp_path, copy)
    measure = validation.MeasureAp(tmp_path, saved, tmp_path / "images", truth, every=1, epochs=2)
    for callback in (saved, measure):
        callback.set_model(model)
    logs = {}
    with caplog.at_level("ERROR", logger="absl"):
        for epoch in range(2):
            saved.on_epoch_end(epoch, logs)
            measure.on_epoch_end(epoch, logs)
    # One of two faces is found, at a recall of half.
    assert logs["ap_hard"] == pytest.approx(0.5, abs=0.01)
    assert caplog.text.count("fr_biden.jpg: not a readable image") == 1


def test_what_is_saved_is_the_average(model, copy, tmp_path):
    average = weight_average.attach(model, 0.5)
    before = arrays.read(model)
    _blind(model)
    average.update()
    saved = validation.SaveModel(tmp_path, copy)
    saved.set_model(model)
    saved.on_epoch_end(0)
    loaded = arrays.read(keras.models.load_model(tmp_path / "model.keras", compile=False))
    # The first update takes nine tenths of the new weights, which are zero.
    np.testing.assert_allclose(loaded["class_P3/kernel"], 0.1 * before["class_P3/kernel"], rtol=1e-5, atol=1e-7)
    assert not np.any(arrays.read(model)["class_P3/kernel"])


def test_tensorboard_has_losses_rate_and_drawn_faces(model, copy, truth, tmp_path):
    saved = validation.SaveModel(tmp_path, copy)
    position = callbacks.Position(100)
    picture = validation.read_pictures(image_file.find(str(truth / "images")))[0]
    board = validation.WriteTensorBoard(tmp_path / "logs", position, saved, [picture])
    for callback in (saved, board):
        callback.set_model(model)
    for step in range(20):
        position.on_train_batch_end(step)
        board.on_train_batch_end(step, {"box_loss": step})
    for _ in range(7):  # of which the fifth is the last at the full rate
        gradients = [np.zeros(variable.shape, np.float32) for variable in model.trainable_variables]
        model.optimizer.apply_gradients(zip(gradients, model.trainable_variables))
    saved.on_epoch_end(0)
    board.on_epoch_end(0, {"box_loss": 0.25, "ap_hard": 0.5})
    events = event_accumulator.EventAccumulator(str(tmp_path / "logs"), size_guidance={"tensors": 0}).Reload()

    def values(tag):
        return [(event.step, float(tf.make_ndarray(event.tensor_proto))) for event in events.Tensors(tag)]

    assert values("step/box_loss") == [(10, 9.0), (20, 19.0)]
    assert values("epoch/ap_hard") == [(20, 0.5)]
    np.testing.assert_allclose(values("step/learning_rate"), [(10, 0.01), (20, 0.01)], rtol=1e-6)
    np.testing.assert_allclose(values("epoch/learning_rate"), [(20, 0.001)], rtol=1e-6)
    png = events.Tensors("detections/0")[0].tensor_proto.string_val[2]
    drawn = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert (np.abs(drawn.astype(int) - _FACE).max(axis=-1) < 20).sum() > 50
    assert (np.abs(picture.astype(int) - _FACE).max(axis=-1) < 20).sum() < 5


def test_a_model_that_cannot_be_saved_keeps_the_old_file(model, tmp_path):
    path = tmp_path / "nowhere" / "model.keras"
    with pytest.raises(OSError, match="model.keras cannot be written: .*; the file before is whole"):
        validation.save(model, path)


def test_pictures_that_cannot_be_read_are_told_and_passed_over(tmp_path, caplog):
    (tmp_path / "._a.png").write_bytes(b"left by another system")
    (tmp_path / "b.png").write_bytes(pictures.encode(pictures.noise()))
    with caplog.at_level("WARNING", logger="absl"):
        (picture,) = validation.read_pictures([tmp_path / "._a.png", tmp_path / "b.png"])
    np.testing.assert_array_equal(picture, pictures.noise())
    assert "._a.png: not a readable image" in caplog.text
