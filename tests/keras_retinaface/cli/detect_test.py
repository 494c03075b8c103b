import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from keras_retinaface.media import image_file, video
from tests import command_runs, conftest

_CASES = conftest.ROOT / "tests" / "testdata" / "cases"


def _run(*arguments, environment=None):
    command = [sys.executable, "detect_main.py", *arguments]
    environment = {**os.environ, **(environment or {})}
    return subprocess.run(command, capture_output=True, text=True, cwd=conftest.ROOT, env=environment)


def _in_turn(*runs):
    return command_runs.run_in_turn("keras_retinaface.cli.detect", *runs)


def _start(*arguments):
    command = [sys.executable, "detect_main.py", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=conftest.ROOT)


def _wait_for(condition, process):
    end = time.monotonic() + 60
    while not condition():
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.01)


def _write_avi(path, num_frames):
    rng = np.random.default_rng(0)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (96, 64))
    for _ in range(num_frames):
        writer.write(rng.integers(0, 256, (64, 96, 3), dtype=np.uint8))
    writer.release()


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


def _lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_is_ignored_or_cannot_be_written_is_named_before_anything_runs(tmp_path):
    photo = _CASES / "output_overwrites_input" / "mine.jpg"
    runs = {
        ("--mesh_style=lines",): "--mesh_style needs --mesh and --output",
        ("--mesh",): "--mesh needs --json, --output or --obj",
        (f"--obj={tmp_path}",): "--obj needs --mesh",
        ("--scales=500", "--image_size=640", f"--output={tmp_path}"): "--image_size must stand without --scales",
        (f"--output={photo}/drawn",): "mine.jpg/drawn cannot be written: Not a directory",
        (f"--json={tmp_path}/nowhere/faces.jsonl",): "faces.jsonl cannot be written: No such file or directory",
    }
    arguments = [(f"--images={photo}", "--model=mobilenet025", *flags) for flags in runs]
    for (status, _, errors), message in zip(_in_turn(*arguments), runs.values()):
        assert status == 1 and errors.count("\n") == 1 and message in errors


def test_originals_stay_whatever_names_them(tmp_path, light_model):
    photo, film = (tmp_path / name for name in ("mine.jpg", "clip.mp4"))
    for path in (photo, film):
        shutil.copy(_CASES / "output_overwrites_input" / path.name, path)
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "up").symlink_to(tmp_path)
    os.link(photo, tmp_path / "links" / "mine.jpg")
    (tmp_path / "links" / "mine_0.jpg").symlink_to(photo)
    before = {path: path.read_bytes() for path in (photo, film, light_model)}
    runs = (
        (f"--images={photo}", f"--output={tmp_path}", f"--json={tmp_path / 'new.jsonl'}"),
        (f"--images={tmp_path}/links/../mine.jpg", f"--output={tmp_path}/links/up"),
        (f"--images={photo}", f"--output={tmp_path / 'links'}"),
        (f"--images={photo}", f"--crops={tmp_path / 'links'}"),
        (f"--images={photo}", f"--json={tmp_path}/links/mine.jpg"),
        (f"--images={tmp_path}", f"--json={photo}"),
        (f"--images={photo}", f"--json={light_model}"),
        (f"--video={film}", f"--output={tmp_path}"),
        (f"--video={film}", f"--json={tmp_path}/links/up/clip.mp4"),
    )
    results = command_runs.run_in_turn(
        "keras_retinaface.cli.detect", *((f"--model={light_model}", *flags) for flags in runs)
    )
    for status, _, errors in results:
        assert status == 1 and errors.count("\n") == 1 and " would overwrite what is read: " in errors
    assert {path: path.read_bytes() for path in before} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "links", "mine.jpg"]


def test_what_cannot_be_written_costs_itself_alone(tmp_path, light_model):
    shutil.copytree(_CASES / "results_lost", tmp_path / "photos")  # the second is wider than a JPEG can be
    odd = os.fsdecode(b"c\xff\n.png")
    shutil.copy(tmp_path / "photos" / "a.png", tmp_path / "photos" / odd)
    (tmp_path / "crops").mkdir()
    (tmp_path / "crops" / "a_0.jpg").mkdir()
    result = _run(
        f"--model={light_model}",
        f"--images={tmp_path / 'photos'}",
        f"--json={tmp_path / 'faces.jsonl'}",
        f"--output={tmp_path / 'drawn'}",
        f"--crops={tmp_path / 'crops'}",
        environment={"LC_ALL": "C"},
    )
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "b_wide.png: cannot be written to --output=" in result.stderr
    assert "a.png: cannot be written to --crops=" in result.stderr
    lines = _lines(tmp_path / "faces.jsonl")
    assert [pathlib.Path(line["image"]).name for line in lines] == ["a.png", "b_wide.png", odd]
    assert [len(line["faces"]) for line in lines] == [1, 0, 1]
    assert sorted(os.listdir(tmp_path / "drawn")) == ["a.jpg", odd[:-4] + ".jpg"]
    assert sorted(os.listdir(tmp_path / "crops")) == ["a_0.jpg", odd[:-4] + "_0.jpg"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_what_there_is(tmp_path, light_model, number):
    for index in range(600):
        (tmp_path / f"{index:03d}.png").symlink_to(_CASES / "results_lost" / "a.png")
    (tmp_path / "faces.jsonl").write_text('{"of": "an earlier run"}\n' * 900)
    flags = (f"--model={light_model}", f"--images={tmp_path}", f"--json={tmp_path / 'faces.jsonl'}")
    process = _start(*flags, f"--output={tmp_path / 'drawn'}")
    _wait_for(lambda: 3 < len((tmp_path / "faces.jsonl").read_text().splitlines()) < 600, process)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    lines = _lines(tmp_path / "faces.jsonl")
    assert process.returncode == 128 + number and "Traceback" not in errors
    assert 3 < len(lines) < 600 and f"stopped after {len(lines)} of 600 images" in errors
    assert errors.splitlines()[-1].split()[:3] == [str(len(lines)), "0", str(len(lines))]


def test_a_reader_that_leaves_ends_it_quietly(tmp_path, light_model):
    flags = [f"--images={_CASES / 'results_lost' / 'a.png'}"] * 5
    process = _start(f"--model={light_model}", *flags, "--json=-")
    assert json.loads(process.stdout.readline())["faces"]
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 141 and "Error" not in errors and "Traceback" not in errors


def test_films(tmp_path, light_model):
    phone = tmp_path / "phone.mp4"
    shutil.copy(_CASES / "video_not_turned" / "phone.mp4", phone)
    rng = np.random.default_rng(0)
    with video.Writer(tmp_path / "long.mp4", 25) as writer:
        for _ in range(60):
            writer.write(rng.integers(0, 256, (64, 96, 3), dtype=np.uint8))
    cut = tmp_path / "cut.avi"
    _write_avi(cut, 60)
    os.truncate(cut, cut.stat().st_size // 2)
    names = ("phone.mp4", "long.mp4", "cut.avi")
    runs = (
        (f"--video={tmp_path / name}", f"--output={tmp_path / 'drawn'}", f"--json={tmp_path / name}.jsonl")
        for name in names
    )
    results = command_runs.run_in_turn(
        "keras_retinaface.cli.detect", *((f"--model={light_model}", *flags) for flags in runs)
    )
    assert [status for status, _, _ in results] == [0, 0, 1]
    # The phone lay on its side; she is upright in what is found and in what is written.
    for line in _lines(tmp_path / "phone.mp4.jsonl"):
        (face,) = line["faces"]
        x1, y1, x2, y2 = face["box"]
        assert (line["width"], line["height"]) == (220, 230) and x1 < face["landmarks"][0][0] < face["landmarks"][1][0]
        assert face["landmarks"][0][1] < face["landmarks"][3][1] < y2
    assert {frame.shape for frame in video.Reader(str(tmp_path / "drawn" / "phone.mp4"))} == {(230, 220, 3)}
    num_read = len(_lines(tmp_path / "cut.avi.jsonl"))
    assert f"cut.avi: cut off or damaged: 60 frames announced, {num_read} read" in results[2][2] and 0 < num_read < 60
    assert len(list(video.Reader(str(tmp_path / "drawn" / "cut.mp4")))) == num_read


def test_a_film_that_is_stopped_is_a_film(tmp_path, light_model):
    with video.Writer(tmp_path / "long.mp4", 25) as writer:
        for _ in range(2000):
            writer.write(np.zeros((64, 96, 3), np.uint8))
    flags = (f"--video={tmp_path / 'long.mp4'}", f"--json={tmp_path / 'faces.jsonl'}", f"--output={tmp_path / 'drawn'}")
    process = _start(f"--model={light_model}", *flags)
    _wait_for(lambda: (tmp_path / "faces.jsonl").is_file() and (tmp_path / "faces.jsonl").stat().st_size > 500, process)
    process.terminate()
    output, errors = process.communicate(timeout=60)
    num_lines = len(_lines(tmp_path / "faces.jsonl"))
    assert process.returncode == 143 and f"stopped after {num_lines} frames" in errors
    num_frames = len(list(video.Reader(str(tmp_path / "drawn" / "long.mp4"))))
    assert num_lines - 6 <= num_frames <= num_lines and os.listdir(tmp_path / "drawn") == ["long.mp4"]


def test_names_of_outputs_do_not_meet():
    code = (
        "import json, sys; from keras_retinaface.cli import detect\n"
        "paths, steps = json.load(sys.stdin), []\n"
        "def step(frame, event, _):\n"
        "    if event == 'line': steps.append(frame.f_lineno)\n"
        "    return step\n"
        "sys.settrace(lambda frame, *_: step if frame.f_code.co_name == 'unique_stems' else None)\n"
        "stems = detect.unique_stems(paths)\n"
        "sys.settrace(None)\n"
        "print(json.dumps([stems, len(steps)]))"
    )
    paths = ["a/x.jpg", "b/x.jpg", "x_2.png", "c/x.png", "x_2.jpg", "y.jpg"]
    many = [f"{index}/same.jpg" for index in range(2000)]
    child = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(paths + many), capture_output=True, text=True, cwd=conftest.ROOT
    )
    stems, num_steps = json.loads(child.stdout)
    assert num_steps < 10 * len(stems)  # each file looks at its own number, not at those of all before
    assert stems[:6] == ["x", "x_2", "x_2_2", "x_3", "x_2_3", "y"] and stems[6:8] == ["same", "same_2"]
    assert len(set(stems)) == len(stems)


@pytest.mark.long
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
