import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from keras_retinaface.mesh import camera, face_model, rasterizer

BACKENDS = (rasterizer.KERNEL, rasterizer.PLAIN)
EITHER = (pytest.param(rasterizer.KERNEL, marks=pytest.mark.compiler), rasterizer.PLAIN)


@pytest.fixture(autouse=True)
def fresh():
    yield
    rasterizer.load_kernel.cache_clear()


def draw(vertices, triangles, size, backend):
    ids, covered = rasterizer.rasterize(
        tf.constant(vertices, tf.float32), tf.constant(triangles, tf.int32), size, backend=backend
    )
    return ids.numpy(), covered.numpy()


def clip_points(*points):
    return [[(x, y, z, 1.0) for x, y, z in points]]


@pytest.mark.parametrize("backend", EITHER)
def test_half_of_a_square(backend):
    # The triangle under the falling diagonal of a 4 x 4 image; pixel centres are at -0.75, -0.25, 0.25, 0.75.
    vertices = clip_points((-1, -1, 0), (0.9, -1, 0), (-1, 0.9, 0))
    _, covered = draw(vertices, [[0, 1, 2]], (4, 4), backend)
    expected = [[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(covered[0], np.array(expected, bool))
    # The other winding is turned away.
    assert not draw(vertices, [[0, 2, 1]], (4, 4), backend)[1].any()


@pytest.mark.parametrize("backend", EITHER)
def test_nearest_triangle_wins_and_the_first_of_equals(backend):
    far, near = [(-1, -1, 0.5), (3, -1, 0.5), (-1, 3, 0.5)], [(-1, -1, -0.5), (3, -1, -0.5), (-1, 3, -0.5)]
    vertices = clip_points(*far, *near)
    ids, covered = draw(vertices, [[0, 1, 2], [3, 4, 5], [3, 4, 5]], (2, 3), backend)
    assert covered.all()
    np.testing.assert_array_equal(ids, np.ones((1, 2, 3)))


@pytest.mark.parametrize("backend", EITHER)
def test_coordinates_that_would_overflow_the_kernel(backend):
    # A triangle thirty times as large as the image, at w = 60: its products pass 2^63 in 16-bit fixed point.
    vertices = [[(-1800.0, -1800.0, 0.0, 60.0), (3600.0, -1800.0, 0.0, 60.0), (-1800.0, 3600.0, 0.0, 60.0)]]
    assert draw(vertices, [[0, 1, 2]], (5, 5), backend)[1].all()


@pytest.mark.parametrize("backend", EITHER)
def test_nothing_in_sight(backend):
    vertices = clip_points((2, 2, 0), (3, 2, 0), (2, 3, 0))
    ids, covered = draw(vertices, [[0, 1, 2]], (4, 5), backend)
    assert covered.shape == (1, 4, 5) and not covered.any() and not ids.any()


@pytest.mark.compiler
@pytest.mark.parametrize("distance", [60.0, 15.0, 8.0])
def test_plain_rule_equals_the_kernel(distance):
    face = face_model.load()
    vertices = tf.constant(face.sample_shapes(np.random.default_rng(0), 3))
    cameras = np.array([[0, 0, distance, 0, 0, 0, 6], [1, 2, distance, 0.3, 0.7, 0, 6], [0, 0, distance, 0, 1.4, 3, 2]])
    matrix = camera.view_projection(tf.constant(cameras, tf.float32))
    homogeneous = tf.concat([vertices, tf.ones_like(vertices[..., :1])], -1)
    clip = tf.matmul(homogeneous, matrix, transpose_b=True)
    kernel, plain = (draw(clip, face.triangles, (70, 90), backend) for backend in BACKENDS)
    assert kernel[1].mean() > 0.05
    np.testing.assert_array_equal(kernel[1], plain[1])
    np.testing.assert_array_equal(kernel[0], plain[0])


def test_broken_compiler_is_a_warning_and_the_plain_rule(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("KERAS_RETINAFACE_CACHE", str(tmp_path))
    monkeypatch.setenv("CXX", "false")
    rasterizer.load_kernel.cache_clear()
    vertices = clip_points((-1, -1, 0), (3, -1, 0), (-1, 3, 0))
    assert draw(vertices, [[0, 1, 2]], (2, 2), None)[1].all()
    assert "no compiled rasterizer" in caplog.text and "false failed with status 1" in caplog.text
    with pytest.raises(ValueError, match="`backend` is 'kernel', but"):
        draw(vertices, [[0, 1, 2]], (2, 2), rasterizer.KERNEL)


def test_cache_that_is_a_file_is_a_warning(tmp_path, monkeypatch, caplog):
    (tmp_path / "cache").write_text("")
    monkeypatch.setenv("KERAS_RETINAFACE_CACHE", str(tmp_path / "cache"))
    rasterizer.load_kernel.cache_clear()
    assert rasterizer.load_kernel() is None
    assert "no compiled rasterizer" in caplog.text


def test_unknown_backend():
    with pytest.raises(ValueError, match="`backend` must be 'kernel', 'plain' or None. Received: backend='gpu'"):
        draw(clip_points((0, 0, 0)), [[0, 0, 0]], (2, 2), "gpu")


@pytest.mark.compiler
@pytest.mark.long
def test_two_processes_build_once_over_a_broken_library(tmp_path):
    program = (
        "from absl import logging\nlogging.set_verbosity(0)\nfrom keras_retinaface.mesh import rasterizer\n"
        "print('loaded', rasterizer.load_kernel() is not None)"
    )
    environment = {**os.environ, "KERAS_RETINAFACE_CACHE": str(tmp_path)}

    def start():
        return subprocess.Popen(
            [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    outputs = [process.communicate() for process in [start(), start()]]
    assert ["loaded True" in out for out, _ in outputs] == [True, True], outputs
    assert sum("building the rasterizer" in errors for _, errors in outputs) == 1
    (library,) = tmp_path.glob("*.so")
    library.write_bytes(b"not a library")
    out, errors = start().communicate()
    assert "loaded True" in out and "does not load and is built again" in errors


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="users are POSIX's")
def test_a_cache_that_others_can_write_is_refused(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("KERAS_RETINAFACE_CACHE", str(tmp_path / "cache"))

    def attempt():
        rasterizer.load_kernel.cache_clear()
        caplog.clear()
        rasterizer.load_kernel()
        return caplog.text

    (tmp_path / "cache").mkdir()
    for mode in (0o777, 0o1777, 0o757):
        (tmp_path / "cache").chmod(mode)
        assert f"Received: {tmp_path / 'cache'} (d" in attempt()
        assert not list((tmp_path / "cache").iterdir())
    (tmp_path / "cache").chmod(0o700)
    tmp_path.chmod(0o777)  # the folder could be replaced
    assert f"Received: {tmp_path} (d" in attempt()
    tmp_path.chmod(0o700)
    (tmp_path / "cache").rmdir()
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "cache").symlink_to(tmp_path / "open")
    assert f"Received: {tmp_path / 'open'} (d" in attempt()
    rasterizer.load_kernel.cache_clear()


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="users are POSIX's")
def test_a_library_that_others_can_write_is_not_loaded(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("KERAS_RETINAFACE_CACHE", str(tmp_path))
    monkeypatch.setenv("CXX", "no_such_compiler")
    rasterizer.load_kernel.cache_clear()
    rasterizer.load_kernel()
    (lock,) = tmp_path.glob("*.lock")
    library = lock.with_suffix(".so")
    library.write_bytes(b"not a library")
    library.chmod(0o666)
    rasterizer.load_kernel.cache_clear()
    caplog.clear()
    assert rasterizer.load_kernel() is None and f"Received: {library} (-rw-rw-rw-" in caplog.text
    library.unlink()
    library.symlink_to("elsewhere.so")
    rasterizer.load_kernel.cache_clear()
    caplog.clear()
    assert rasterizer.load_kernel() is None and f"{library} must be a file, not a link" in caplog.text
    rasterizer.load_kernel.cache_clear()
