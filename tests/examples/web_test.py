"""The browser demo in headless Chromium finds what Python finds with the same file."""

import functools
import http.server
import json
import os
import pathlib
import queue
import shutil
import subprocess
import threading

import cv2
import numpy as np
import pytest

from keras_retinaface import config as config_lib
from keras_retinaface.export import tflite
from keras_retinaface.inference import detector
from keras_retinaface.media import image_file
from keras_retinaface.network import model as model_lib
from tests import conftest

WEB = conftest.ROOT / "examples" / "web"
# Where the runtime is installed; CI may keep it outside the project.
NODE_MODULES = pathlib.Path(os.environ.get("WEB_DEMO_NODE_MODULES", WEB / "node_modules"))


@pytest.fixture
def chromium():
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next((found for name in names if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    if not (NODE_MODULES / "@litertjs" / "core").is_dir():
        pytest.skip(f"LiteRT.js is not in {NODE_MODULES}: npm install in examples/web")
    return path


class _Handler(http.server.SimpleHTTPRequestHandler):
    reports: queue.Queue = queue.Queue()

    def do_POST(self):
        self.reports.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.mark.slow
def test_the_page_finds_what_python_finds(chromium, photos, tmp_path):
    site = tmp_path / "site"
    shutil.copytree(WEB, site, ignore=shutil.ignore_patterns("node_modules", "*.tflite"))
    (site / "node_modules").symlink_to(NODE_MODULES)
    tflite.write(
        model_lib.RetinaFace.from_preset("mobilenet025"),
        site / "retinaface.tflite",
        config_lib.Detection(),
        image_size=(480, 640),
    )
    image = cv2.resize(image_file.read(photos / "solvay1927.jpg"), (640, 288), interpolation=cv2.INTER_AREA)
    image_file.write(site / "photo.png", image)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/index.html?image=photo.png&report=/report"
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", url]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            found = _Handler.reports.get(timeout=120)
        finally:
            process.kill()
            server.shutdown()
            server.server_close()
    assert "error" not in found, found
    expected = detector.Detector(str(site / "retinaface.tflite")).detect(image)
    assert (found["width"], found["height"]) == (640, 288)
    assert len(found["faces"]) == len(expected) > 20
    for face, other in zip(found["faces"], expected):
        np.testing.assert_allclose(face["box"], other.box, atol=0.05)
        np.testing.assert_allclose(face["landmarks"], other.landmarks, atol=0.05)
        np.testing.assert_allclose(face["score"], other.score, atol=1e-3)
