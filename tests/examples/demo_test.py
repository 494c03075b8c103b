import json

from examples import demo


def test_faces_are_found_missed_or_false_by_their_labels(tmp_path):
    labels = demo.read_labels()
    assert sum(map(len, labels.values())) == 37 and len(labels) == 7
    (box,), others = labels["astronaut.png"], labels["tfjs_three_people.jpg"]
    faces = {
        "astronaut.png": [box, [value + 2 for value in box], [0, 0, 10, 10]],  # one face twice, and nothing
        "tfjs_three_people.jpg": others[1:],
    }
    lines = [{"image": f"photos/{name}", "faces": [{"box": one} for one in found]} for name, found in faces.items()]
    path = tmp_path / "faces.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert demo.count(path, labels) == (3, 1, 2)


def test_a_training_is_kept_until_something_it_hangs_on_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "OUTPUT", tmp_path)
    (tmp_path / "train").mkdir()
    (tmp_path / "shipped.jsonl").write_text("old")
    (tmp_path / "train" / "demo.stamp").write_text(demo._stamp())
    assert demo._prepare() and [path.name for path in tmp_path.iterdir()] == ["train"]
    (tmp_path / "train" / "demo.stamp").write_text("another")
    assert not demo._prepare() and not list(tmp_path.iterdir())
