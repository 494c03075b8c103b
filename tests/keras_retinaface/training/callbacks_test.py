import pytest

from keras_retinaface.training import callbacks


def _at(step, steps_per_epoch=4):
    return callbacks.Position(steps_per_epoch, step)


def test_a_loss_that_is_not_finite_stops_with_its_name_step_and_images():
    asked = []

    def names_of(step):
        asked.append(step)
        return ["a.jpg", "b.jpg"]

    callback = callbacks.StopOnNonFinite(_at(7), names_of)
    callback.on_train_batch_end(0, {"loss": 1.0})
    assert not asked
    message = "step 7: box_loss, loss is not finite; lower --learning_rate\\?; its images: a.jpg, b.jpg"
    with pytest.raises(FloatingPointError, match=message):
        callback.on_train_batch_end(1, {"box_loss": float("nan"), "class_loss": 1.0, "loss": float("inf")})
    # The seventh step took the batch of index 6.
    assert asked == [6]


def test_history_goes_on_behind_the_rows_of_the_run_before(tmp_path):
    path = tmp_path / "history.csv"
    first = callbacks.WriteHistory(path)
    for epoch in range(3):
        first.on_epoch_end(epoch, {"loss": 1 / (epoch + 3)})
    # The checkpoint was of the second epoch: the third row is of a time that did not happen.
    second = callbacks.WriteHistory(path, first_epoch=2)
    second.on_epoch_end(2, {"loss": 0.125, "ap_hard": 0.5})
    rows = callbacks.read_history(path)
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert [float(row["loss"]) for row in rows] == [1 / 3, 1 / 4, 0.125]
    assert [row["ap_hard"] for row in rows] == ["", "", "0.5"]
    assert callbacks.WriteHistory(path).rows == [], "a training from the start has no rows before it"


def test_position_counts_over_epochs():
    position = _at(3)
    assert not position.is_between_epochs
    position.on_train_batch_end(0)
    assert position.step == 4 and position.is_between_epochs


def test_checkpoints_stand_on_multiples_and_epochs(tmp_path, monkeypatch):
    saved = []
    position = _at(0)
    callback = callbacks.SaveCheckpoint(position, tmp_path, settings={}, save_every=2)
    monkeypatch.setattr(callback, "_save", lambda: saved.append(position.step))
    for _ in range(3):
        for batch in range(4):
            position.on_train_batch_end(batch)
            callback.on_train_batch_end(batch)
        saved.append("epoch")
        callback.on_epoch_end(0)
    # Never at the last step itself: the row of the history is not written yet.
    assert saved == [2, "epoch", 4, 6, "epoch", 8, 10, "epoch", 12]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"epoch,loss\n0,1.5\n0x10\n", r":3: expected 2 cells, a rising epoch and numbers. Received: '0x10'"),
        (b"epoch,loss\n0,1.5\n0,1.4\n", ":3: expected .* a rising epoch"),
        (b"epoch,loss\n0,1.5q\n", ":2: expected .* Received: '0,1.5q'"),
        (b"epoch,loss\n" + b"9" * 5000 + b",1\n", ":2: expected"),
        (b"epock,loss\n", ":1: expected names, the first `epoch`"),
        (b"epoch,loss\n0,\xff\n", ": not a readable .csv file"),
        (b"", ":1: expected names"),
    ],
)
def test_a_damaged_history_is_one_line_that_names_the_file(tmp_path, content, message):
    path = tmp_path / "history.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"history.csv{message}.*mend it to go on") as raised:
        callbacks.WriteHistory(path, first_epoch=2)
    assert "\n" not in str(raised.value)
    callbacks.WriteHistory(path)  # a training from the start takes its place


def test_a_history_of_every_kind_of_number_is_read(tmp_path):
    path = tmp_path / "history.csv"
    path.write_bytes(b"\xef\xbb\xbfepoch,loss,hard\n0,1e-07,\n1,nan,0.5\n2,-1.25e+20,inf\n")
    assert [row["loss"] for row in callbacks.read_history(path)] == ["1e-07", "nan", "-1.25e+20"]
