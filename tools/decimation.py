"""Decimates a triangle mesh to a subset of its own vertices, so that its linear bases are cut by row selection.

Libraries for quadric decimation move the vertices they keep and cannot lock any, so bases and landmarks would no
longer fit; hence half-edge collapses here.
"""

from __future__ import annotations

import heapq

import numpy as np

# Share of the squared edge length in a collapse's cost: on flat skin all quadrics vanish, and slivers would follow.
_LENGTH_COST = 2e-3
# A collapse may turn no remaining triangle by more than about 75 degrees.
_MIN_NORMAL_COSINE = 0.25
# Planes through border edges, upright on the border's triangles, hold the outline.
_BORDER_COST = 1.0


def decimate(
    shapes: np.ndarray, triangles: np.ndarray, target: int, *, locked: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Collapses edges onto one of their ends, cheapest first, until `target` vertices are left.

    Args:
        shapes: float `[S, V, 3]`; the cost of a collapse is summed over shapes, validity is checked on the first.
        triangles: int `[T, 3]`, manifold, possibly with borders.
        target: vertices to keep. Fewer cannot be reached when every other collapse would damage the mesh.
        locked: int `[L]`, vertices that stay.
        weights: float `[T]`, importance of a triangle's surface; all 1 if missing.

    Returns:
        int `[V']` kept vertices in rising order, and int `[T', 3]` triangles indexing into them.

    Raises:
        ValueError: if the target is under the number of locked vertices or cannot be reached.

    Source: Garland and Heckbert (1997), with collapses to an existing vertex as in Ranjan et al. (2018).
    """
    locked = set(np.asarray(locked).tolist())
    if target < len(locked):
        raise ValueError(f"`target` must keep the locked vertices. Received: target={target}, locked={len(locked)}")
    mesh = _Mesh(np.asarray(shapes, np.float64), np.asarray(triangles), locked, weights)
    mesh.run(target)
    faces = np.array(sorted(mesh.faces[f] for f in mesh.faces))
    kept = np.unique(faces)
    return kept, np.searchsorted(kept, faces)


class _Mesh:
    """Adjacency, quadrics and the queue of collapses."""

    def __init__(self, shapes, triangles, locked, weights):
        self.shapes = shapes
        self.locked = locked
        self.faces = {i: tuple(t) for i, t in enumerate(triangles.tolist())}
        self.around = [set() for _ in range(shapes.shape[1])]
        for face, corners in self.faces.items():
            for corner in corners:
                self.around[corner].add(face)
        self.quadrics = _quadrics(shapes, triangles, weights)
        self.stamp = np.zeros(shapes.shape[1], np.int64)
        self.queue = []

    def neighbours(self, vertex):
        return {corner for face in self.around[vertex] for corner in self.faces[face]} - {vertex}

    def is_border(self, a, b):
        return len(self.around[a] & self.around[b]) == 1

    def on_border(self, vertex):
        return any(self.is_border(vertex, other) for other in self.neighbours(vertex))

    def push(self, gone, kept):
        points = np.concatenate([self.shapes[:, kept], np.ones((len(self.shapes), 1))], 1)
        quadric = self.quadrics[:, gone] + self.quadrics[:, kept]
        cost = np.einsum("si,sij,sj->", points, quadric, points)
        length = np.square(self.shapes[:, gone] - self.shapes[:, kept]).sum()
        scale = _LENGTH_COST * np.trace(self.quadrics[:, gone, :3, :3].sum(0))
        heapq.heappush(
            self.queue, (float(cost + scale * length), gone, kept, int(self.stamp[gone]), int(self.stamp[kept]))
        )

    def push_around(self, vertex):
        for other in self.neighbours(vertex):
            for gone, kept in ((vertex, other), (other, vertex)):
                if gone not in self.locked:
                    self.push(gone, kept)

    def is_valid(self, gone, kept):
        """Whether the collapse keeps the surface a manifold with its borders and flips no triangle."""
        shared = self.around[gone] & self.around[kept]
        if not shared or len(self.neighbours(gone) & self.neighbours(kept)) != len(shared):
            return False
        if self.on_border(gone) and not self.is_border(gone, kept):
            return False
        if len(self.faces) <= 4:
            return False
        points = self.shapes[0]
        for face in self.around[gone] - shared:
            before = [points[c] for c in self.faces[face]]
            after = [points[kept if c == gone else c] for c in self.faces[face]]
            old = np.cross(before[1] - before[0], before[2] - before[0])
            new = np.cross(after[1] - after[0], after[2] - after[0])
            if old @ new <= _MIN_NORMAL_COSINE * np.linalg.norm(old) * np.linalg.norm(new):
                return False
        return True

    def collapse(self, gone, kept):
        for face in self.around[gone] & self.around[kept]:
            for corner in self.faces.pop(face):
                self.around[corner].discard(face)
        for face in self.around[gone]:
            self.faces[face] = tuple(kept if corner == gone else corner for corner in self.faces[face])
            self.around[kept].add(face)
        self.around[gone] = set()
        self.quadrics[:, kept] += self.quadrics[:, gone]
        self.stamp[gone] += 1
        for vertex in {kept} | self.neighbours(kept):
            self.stamp[vertex] += 1

    def run(self, target):
        count = sum(1 for faces in self.around if faces)
        for vertex in range(len(self.around)):
            for other in self.neighbours(vertex):
                if vertex not in self.locked:
                    self.push(vertex, other)
        while count > target:
            if not self.queue:
                raise ValueError(f"`target` cannot be reached. Received: target={target}, left={count}")
            _, gone, kept, gone_stamp, kept_stamp = heapq.heappop(self.queue)
            if gone_stamp != self.stamp[gone] or kept_stamp != self.stamp[kept] or not self.around[gone]:
                continue
            if not self.is_valid(gone, kept):
                continue
            self.collapse(gone, kept)
            count -= 1
            for vertex in sorted({kept} | self.neighbours(kept)):
                self.push_around(vertex)


def _quadrics(shapes, triangles, weights):
    """Returns float64 `[S, V, 4, 4]`: squared distances to the planes around each vertex, by area."""
    weights = np.ones(len(triangles)) if weights is None else np.asarray(weights, np.float64)
    quadrics = np.zeros((*shapes.shape[:2], 4, 4))
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    owner = np.tile(np.arange(len(triangles)), 3)
    _, inverse, counts = np.unique(np.sort(edges, 1), axis=0, return_inverse=True, return_counts=True)
    is_border = counts[inverse.reshape(-1)] == 1
    for shape, quadric in zip(shapes, quadrics):
        corners = shape[triangles]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        area = np.linalg.norm(normals, axis=1)
        normals /= np.maximum(area, 1e-12)[:, None]
        _add_planes(quadric, triangles, normals, corners[:, 0], area * weights)
        along = shape[edges[is_border, 1]] - shape[edges[is_border, 0]]
        upright = np.cross(along, normals[owner[is_border]])
        length = np.linalg.norm(along, axis=1)
        upright /= np.maximum(length, 1e-12)[:, None]
        importance = _BORDER_COST * length**2 * weights[owner[is_border]]
        _add_planes(quadric, edges[is_border], upright, shape[edges[is_border, 0]], importance)
    return quadrics


def _add_planes(quadric, corners, normals, points, importance):
    planes = np.concatenate([normals, -np.sum(normals * points, 1, keepdims=True)], 1)
    outer = importance[:, None, None] * planes[:, :, None] * planes[:, None, :]
    for column in corners.T:
        np.add.at(quadric, column, outer)
