import json
import subprocess
import sys

import numpy as np
import pytest

from keras_retinaface.media import image_file
from tests import conftest


def _run(*arguments):
    return subprocess.run(
        [sys.executable, "detect_main.py", *arguments], capture_output=True, text=True, cwd=conftest.ROOT
    )


def test_a_broken_file_is_reported_skipped_and_told_by_the_status(tmp_path, photos):
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for target in (folder / "a.png", folder / "sub" / "a.png"):
        target.write_bytes((photos / "astronaut.png").read_bytes())
    (folder / "broken.jpg").write_bytes(b"not an image")
    result = _run(
        f"--images={folder}",
        f"--json={tmp_path / 'faces.jsonl'}",
        f"--output={tmp_path / 'drawn'}",
        f"--crops={tmp_path / 'crops'}",
    )
    assert result.returncode == 1
    assert "broken.jpg: not a readable image" in result.stderr
    records = [json.loads(line) for line in (tmp_path / "faces.jsonl").read_text().splitlines()]
    assert [sorted(record) for record in records] == [
        ["faces", "height", "image", "width"],
        ["error", "image"],
        ["faces", "height", "image", "width"],
    ]
    (face,) = records[0]["faces"]
    assert sorted(face) == ["box", "landmarks", "score"] and len(face["landmarks"]) == 5 and len(face["box"]) == 4
    # Two images of one name do not overwrite each other.
    assert sorted(p.name for p in (tmp_path / "drawn").iterdir()) == ["a.jpg", "a_2.jpg"]
    assert sorted(p.name for p in (tmp_path / "crops").iterdir()) == ["a_0.jpg", "a_2_0.jpg"]
    assert image_file.read(tmp_path / "crops" / "a_0.jpg").shape == (112, 112, 3)
    drawn = image_file.read(tmp_path / "drawn" / "a.jpg").astype(int)
    assert np.abs(drawn - image_file.read(photos / "astronaut.png")).max() > 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give either --images or --video"),
        (("--images=/nowhere/*.jpg",), "no images there"),
        (("--images=examples/photos", "stray"), "unknown arguments: ['stray']"),
    ],
)
def test_wrong_calls_say_what_is_wrong(arguments, message):
    result = _run(*arguments)
    assert result.returncode == 1 and message in result.stderr + result.stdout


def test_meshes_are_drawn_written_and_told(tmp_path, photos):
    result = _run(
        "--model=mobilenet025_dense",
        "--mesh",
        f"--images={photos / 'astronaut.png'}",
        f"--json={tmp_path / 'faces.jsonl'}",
        f"--output={tmp_path / 'drawn'}",
        f"--obj={tmp_path / 'obj'}",
    )
    assert result.returncode == 0, result.stderr
    (face,) = json.loads((tmp_path / "faces.jsonl").read_text())["faces"]
    assert sorted(face["pose"]) == ["focal", "pitch", "roll", "translation", "yaw"]
    # She looks into the camera, her head a little to the side.
    assert abs(face["pose"]["yaw"]) < 15 and abs(face["pose"]["roll"]) < 15
    assert (tmp_path / "obj" / "astronaut_0.obj").read_text().count("\nf ") > 2000
    drawn = image_file.read(tmp_path / "drawn" / "astronaut.jpg").astype(int)
    changed = np.abs(drawn - image_file.read(photos / "astronaut.png")).max(-1) > 60
    rows, columns = np.nonzero(changed)
    x1, y1, x2, y2 = face["box"]
    # The mesh lies on the face: about as wide as its box, and nothing changes elsewhere.
    assert 0.3 < changed[int(y1) : int(y2), int(x1) : int(x2)].mean()
    assert x1 - 20 < columns.min() and columns.max() < x2 + 20 and y1 - 20 < rows.min() and rows.max() < y2 + 20
