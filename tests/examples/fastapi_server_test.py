"""The HTTP server answers a hundred requests at a time as it answers each alone, broken pictures among them."""

import http.client
import json
import socket
import threading
import time
from concurrent import futures

import pytest

from keras_retinaface.inference import detector
from keras_retinaface.weights import shipped

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install fastapi uvicorn")
uvicorn = pytest.importorskip("uvicorn", reason="uvicorn is not installed: pip install fastapi uvicorn")
fastapi_server = pytest.importorskip("examples.fastapi_server")

_REQUESTS, _DEADLINE = 100, 60


@pytest.fixture(scope="module")
def port():
    made = fastapi_server.make(str(shipped.light("mobilenet025")))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(_REQUESTS)
        server = uvicorn.Server(uvicorn.Config(made, log_level="error", timeout_keep_alive=5))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        deadline = time.monotonic() + _DEADLINE
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.05)
        assert server.started
        yield listening.getsockname()[1]
        server.should_exit = True
        thread.join(_DEADLINE)
        assert not thread.is_alive()


def _ask(port, body):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_DEADLINE)
    try:
        connection.request("POST", "/detect", body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


@pytest.fixture
def bodies(photos):
    whole = [(photos / name).read_bytes() for name in ("astronaut.png", "fr_obama.jpg", "tfjs_three_people.jpg")]
    broken = [b"", b"no picture", whole[0][:3000], whole[1][:200], b"%!PS-Adobe-3.0 EPSF-3.0\n"]
    return whole, broken


def test_a_hundred_at_a_time_are_each_as_alone(port, bodies, photos):
    whole, broken = bodies
    alone = {body: _ask(port, body) for body in (*whole, *broken)}
    assert [len(alone[body][1]["faces"]) for body in whole] == [1, 1, 4]
    found_by = detector.Detector(shipped.light("mobilenet025"), num_threads=1)
    assert alone[whole[0]][1]["faces"] == [face.to_dict() for face in found_by.detect(photos / "astronaut.png")]
    for body in broken:
        status, answer = alone[body]
        assert status == 400 and answer["detail"].startswith("picture: ") and "\n" not in answer["detail"]
    asked = [[*whole, *broken][index % 8] for index in range(_REQUESTS)]
    start = threading.Barrier(_REQUESTS)

    def ask(body):
        start.wait(_DEADLINE)
        return _ask(port, body)

    with futures.ThreadPoolExecutor(_REQUESTS) as threads:
        for body, answer in zip(asked, threads.map(ask, asked)):
            assert answer == alone[body]


def test_what_is_too_large_is_refused_before_it_is_read(port, monkeypatch):
    monkeypatch.setattr(fastapi_server, "LARGEST", 1000)
    assert _ask(port, b"x" * 1001) == (413, {"detail": "picture: more than 1000 bytes"})
    # It does not wait for the rest, which never comes.
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_DEADLINE)
    connection.request("POST", "/detect", b"x" * 2000, {"Content-Length": str(10**9)})
    assert connection.getresponse().status == 413
    connection.close()
    assert _ask(port, b"x" * 1000)[0] == 400
