import cv2
import numpy as np
import pytest

# RGB of the five points; far from the grey they are drawn on and from each other.
DOTS = np.array([[255, 0, 0], [0, 0, 255], [255, 255, 0], [255, 0, 255], [0, 255, 255]], np.float32)


def render(height, width, boxes):
    """Draws grey with five dots a box, and returns the image and where the dots are, `[N, 5, 2]`."""
    image = np.full((height, width, 3), 90, np.uint8)
    shares = np.array([[0.3, 0.35], [0.7, 0.35], [0.5, 0.55], [0.35, 0.75], [0.65, 0.75]])
    landmarks = np.array([[x1, y1] + shares * [x2 - x1, y2 - y1] for x1, y1, x2, y2 in boxes]).reshape(-1, 5, 2)
    landmarks = np.floor(landmarks) + 0.5
    for points in landmarks:
        for (x, y), shade in zip(points, DOTS):
            # Square and odd, so that the middle of the pixels is the point.
            image[int(y) - 3 : int(y) + 4, int(x) - 3 : int(x) + 4] = shade
    return image, landmarks


@pytest.fixture
def scene():
    """One image with a face of 100 x 120 pixels, and its sample."""

    def make(height=300, width=400, boxes=((140.0, 90.0, 240.0, 210.0),)):
        image, landmarks = render(height, width, boxes)
        return {
            "image": image,
            "boxes": np.array(boxes, np.float32).reshape(-1, 4),
            "landmarks": landmarks.astype(np.float32),
            "landmark_visible": np.ones([len(boxes), 5], bool),
            "is_ignored": np.zeros([len(boxes)], bool),
        }

    return make


@pytest.fixture
def find_dots():
    """Finds the centres of the dots of a colour in an image, as a list of (x, y)."""

    def find(image, point):
        is_dot = (np.abs(image.astype(np.float32) - DOTS[point]) < 100).all(axis=-1).astype(np.uint8)
        _, _, stats, centres = cv2.connectedComponentsWithStats(is_dot)
        return [centre + 0.5 for centre, row in list(zip(centres, stats))[1:] if row[cv2.CC_STAT_AREA] >= 9]

    return find


@pytest.fixture
def folder(tmp_path):
    """A folder with 13 JPEG files of different sizes in images/, one of them without faces, and label.txt."""
    rng = np.random.default_rng(0)
    (tmp_path / "images" / "event").mkdir(parents=True)
    lines = []
    for index in range(13):
        height, width = (int(side) for side in rng.integers(120, 260, 2))
        corners = rng.uniform(0, 40, (index % 4, 2)) + np.outer(np.arange(index % 4), [40, 0])
        boxes = [(x, y, x + 36, y + 44) for x, y in np.floor(corners)]
        image, landmarks = render(height, width, boxes)
        name = f"event/{index:02d}.jpg"
        cv2.imwrite(str(tmp_path / "images" / name), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
        lines.append(f"# {name}")
        for (x1, y1, x2, y2), points in zip(boxes, landmarks):
            numbers = " ".join(f"{x} {y} 0.0" for x, y in points)
            lines.append(f"{x1:.0f} {y1:.0f} {x2 - x1:.0f} {y2 - y1:.0f} {numbers} 0.9")
        if not boxes:
            lines.append("0 0 0 0")
    (tmp_path / "label.txt").write_text("\n".join(lines) + "\n")
    return tmp_path
