"""A folder of small drawn images with annotations, the same for all tests of the pipeline."""

import numpy as np
import PIL.Image
import pytest

NUM_IMAGES = 7


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Images 0.jpg, 1.png, 2.jpg ... and label.txt, whose faces are bright; the image 3 has none."""
    path = tmp_path_factory.mktemp("faces")
    rng = np.random.default_rng(0)
    lines = []
    for index in range(NUM_IMAGES):
        height, width = rng.integers(64, 129, 2)
        image = rng.integers(0, 80, (height, width, 3), dtype=np.uint8)
        name = f"{index}.{'png' if index % 2 else 'jpg'}"
        lines.append(f"# {name}")
        for _ in range(0 if index == 3 else 1 + index % 3):
            side = rng.integers(12, 40)
            x, y = rng.integers(0, width - side), rng.integers(0, height - side)
            image[y : y + side, x : x + side] = 220
            points = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]]) * side + [x, y]
            row = [x, y, side, side, *np.concatenate([points, np.zeros((5, 1))], 1).ravel()]
            lines.append(" ".join(f"{value:g}" for value in row))
        PIL.Image.fromarray(image).save(path / name, quality=95)
    (path / "label.txt").write_text("\n".join(lines) + "\n")
    return path
