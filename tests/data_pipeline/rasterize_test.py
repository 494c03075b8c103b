import numpy as np

from data_pipeline import rasterize


def test_rasterize_a_square_of_two_triangles():
    points = np.array([[1, 1], [5, 1], [5, 5], [1, 5]], float)
    # Counter-clockwise with y up, so clockwise on the screen.
    triangles = np.array([[0, 3, 2], [0, 2, 1]])
    ids = rasterize.triangle_ids(points, np.zeros(4), triangles, (6, 6))
    # Painting counts edges in, so half a pixel is too much on the far sides.
    assert (ids[1:5, 1:5] >= 0).all() and (ids[0] == -1).all() and (ids[:, 0] == -1).all()
    covered, values = rasterize.interpolate(ids, points, triangles, points)
    # A pixel painted for its neighbour's triangle takes the nearest point of that one.
    inside = {(row, column) for row in range(1, 5) for column in range(1, 5)}
    for pixel, value in zip(covered, values):
        if divmod(int(pixel), 6) in inside:
            np.testing.assert_allclose(value, [pixel % 6 + 0.5, pixel // 6 + 0.5], atol=0.75)
    assert (rasterize.triangle_ids(points, np.zeros(4), triangles[:, ::-1], (6, 6)) == -1).all()


def test_nearer_triangles_are_painted_last():
    points = np.array([[0, 0], [0, 8], [8, 0], [0, 0], [0, 8], [8, 0]], float)
    triangles = np.array([[0, 1, 2], [3, 4, 5]])
    ids = rasterize.triangle_ids(points, np.array([1.0, 1, 1, 2, 2, 2]), triangles, (8, 8))
    assert set(np.unique(ids)) == {-1, 0}
