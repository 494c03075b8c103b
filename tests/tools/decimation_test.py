import numpy as np
import pytest

from tools import decimation


def grid(side):
    """A flat square of side x side vertices."""
    x, y = np.meshgrid(np.arange(side, dtype=float), np.arange(side, dtype=float))
    vertices = np.stack([x.ravel(), y.ravel(), 0 * x.ravel()], 1)
    corner = (np.arange(side - 1)[:, None] * side + np.arange(side - 1)).ravel()
    lower = np.stack([corner, corner + 1, corner + side], 1)
    upper = np.stack([corner + 1, corner + side + 1, corner + side], 1)
    return vertices, np.concatenate([lower, upper])


def area(vertices, triangles):
    corners = vertices[triangles]
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2] / 2


def test_flat_square_keeps_its_area_and_outline():
    vertices, triangles = grid(9)
    locked = np.array([0, 8, 72, 80, 30])
    kept, coarse = decimation.decimate(vertices[None], triangles, 20, locked=locked)
    assert len(kept) == 20 and set(locked) <= set(kept.tolist())
    areas = area(vertices[kept], coarse)
    assert areas.min() > 0
    assert areas.sum() == pytest.approx(64)


def test_vertices_go_where_the_surface_bends():
    vertices, triangles = grid(15)
    vertices[:, 2] = np.maximum(vertices[:, 0] - 10, 0) ** 2
    kept, _ = decimation.decimate(vertices[None], triangles, 80, locked=np.array([], int))
    assert (vertices[kept, 0] >= 10).sum() > (vertices[kept, 0] < 10).sum()


def test_surface_stays_a_manifold():
    vertices, triangles = grid(9)
    _, coarse = decimation.decimate(vertices[None], triangles, 12, locked=np.array([], int))
    edges = np.sort(np.concatenate([coarse[:, [0, 1]], coarse[:, [1, 2]], coarse[:, [2, 0]]]), 1)
    unique, counts = np.unique(edges, axis=0, return_counts=True)
    assert counts.max() == 2 and 12 - len(unique) + len(coarse) == 1


def test_targets_out_of_reach():
    vertices, triangles = grid(3)
    with pytest.raises(ValueError, match="`target` must keep the locked vertices. Received: target=2, locked=3"):
        decimation.decimate(vertices[None], triangles, 2, locked=np.arange(3))
    with pytest.raises(ValueError, match="`target` cannot be reached. Received: target=2"):
        decimation.decimate(vertices[None], triangles, 2, locked=np.array([], int))
