"""Builds the shipped face model from the face area of ICT-FaceKit (MIT).

python -m tools.build_face_model --source=../shared/data/face_model --output=keras_retinaface/assets/face_model.npz
"""

from __future__ import annotations

import json
import pathlib

import cv2
import numpy as np
import scipy.sparse
import trimesh
from absl import app, flags, logging

from data_pipeline import rasterize
from keras_retinaface import program
from keras_retinaface.mesh import face_model
from tools import decimation

FLAGS = flags.FLAGS
flags.DEFINE_string("source", "../shared/data/face_model", "Folder with ict_face9409.npz and vertex_indices.json.")
flags.DEFINE_string("output", "keras_retinaface/assets/face_model.npz", "The .npz file to write.")
flags.DEFINE_integer(
    "num_vertices", 1100, "Vertices of the surface, before eyes and mouth are closed.", lower_bound=100
)

NUM_SMOOTH_MODES = 16
_IRIS_RADIUS = 0.6


def main(argv):
    """Reads the source, cuts, decimates, closes eyes and mouth, and writes the asset."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    source = pathlib.Path(FLAGS.source)
    with np.load(source / "ict_face9409.npz", allow_pickle=False) as arrays:
        arrays = dict(arrays)
    landmarks = json.loads((source / "vertex_indices.json").read_text())["idx_to_landmark_verts"]
    model = build(arrays, np.array(landmarks), FLAGS.num_vertices)
    checksum = face_model.save(model, FLAGS.output)
    logging.info(
        "%d vertices, %d triangles, levels %s, %d bytes, sha256 %s",
        model.num_vertices,
        len(model.triangles),
        [level.laplacian.shape[0] for level in model.levels],
        pathlib.Path(FLAGS.output).stat().st_size,
        checksum,
    )


def build(arrays: dict[str, np.ndarray], landmarks: np.ndarray, num_vertices: int) -> face_model.FaceModel:
    """Makes the model from the arrays of the source file."""
    mean = arrays["mean"].astype(np.float64)
    names = arrays["expression_names"].tolist()
    bases = np.concatenate([arrays["identity"], arrays["expression"]]).astype(np.float64)
    triangles = cut(mean, arrays["triangles"])
    # With the mouth open the lips are apart, so that no level ties the upper to the lower one.
    open_mouth = mean + 0.5 * bases[len(arrays["identity"]) + names.index("jawOpen")]
    rng = np.random.default_rng(0)
    others = mean + np.tensordot(rng.standard_normal((4, len(arrays["identity"]))), arrays["identity"], 1)
    shown = visibility([mean, open_mouth], triangles)
    # Where colours change fast, the surface alone would ask for few vertices.
    lines = [mean[landmarks[part]] for part in (slice(17, 22), slice(22, 27), slice(36, 42), slice(42, 48))]
    centres = mean[triangles].mean(1)
    is_painted = np.min([_distance_to_line(centres, line) for line in lines], 0) < 0.6
    weights = (0.05 + shown) * np.where(is_painted, 5.0, 1.0)
    shapes = np.stack([open_mouth, mean, *others])
    kept, triangles = decimation.decimate(shapes, triangles, num_vertices, locked=landmarks, weights=weights)
    landmarks = np.searchsorted(kept, landmarks)
    occluded = _per_vertex(triangles, visibility([mean[kept]], triangles)) < 0.3
    matrix, offsets, patches, triangles = close_holes(mean[kept], triangles)
    mean, open_mouth = matrix @ mean[kept] + offsets, matrix @ open_mouth[kept] + offsets
    bases = np.stack([matrix @ basis for basis in bases[:, kept]])
    levels = hierarchy(open_mouth, triangles)
    occluded = np.pad(occluded, (0, len(mean) - len(kept)))
    return face_model.FaceModel(
        mean=mean.astype(np.float32),
        identity=bases[: len(arrays["identity"])].astype(np.float32),
        expression=bases[len(arrays["identity"]) :].astype(np.float32),
        expression_names=tuple(names),
        triangles=triangles.astype(np.int32),
        landmarks=landmarks.astype(np.int32),
        regions=regions(mean, landmarks, patches, occluded),
        smooth_modes=smooth_modes(triangles, len(mean), NUM_SMOOTH_MODES),
        levels=levels,
    )


def cut(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Leaves out ears, neck and the hair above the forehead: what a face box does not show or hair covers."""
    x, y, z = vertices.T
    # From behind the chin up to the jaw's corner below the ear.
    is_neck = y < -8.3 + (9.3 - z) * (4.0 / 6.5)
    keep = ~is_neck & (y < 9.6) & (z > 2.9) & ~((np.abs(x) > 7.45) & (z < 4.2))
    triangles = triangles[keep[triangles].all(1)]
    edges = scipy.sparse.coo_matrix(
        (np.ones(len(triangles) * 2), (triangles[:, :2].T.reshape(-1), triangles[:, 1:].T.reshape(-1))),
        shape=(len(vertices),) * 2,
    )
    _, label = scipy.sparse.csgraph.connected_components(edges, directed=False)
    return triangles[label[triangles[:, 0]] == np.bincount(label).argmax()]


def visibility(shapes: list[np.ndarray], triangles: np.ndarray) -> np.ndarray:
    """Returns float `[T]` in 0..1: how much of a triangle shows from in front and from the sides, at best."""
    best = np.zeros(len(triangles))
    for vertices in shapes:
        for yaw in (-60, -30, 0, 30, 60):
            for pitch in (-25, 0, 25):
                turned = vertices @ _rotation(pitch, yaw).T
                points = np.stack([400 + 35 * turned[:, 0], 400 - 35 * turned[:, 1]], 1)
                ids = rasterize.triangle_ids(points, -turned[:, 2], triangles, (800, 800))
                pixels = np.bincount(ids[ids >= 0], minlength=len(triangles))
                corners = 35 * vertices[triangles]
                area = (
                    np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
                )
                best = np.maximum(best, np.minimum(pixels / np.maximum(area, 1), 1))
    return best


def close_holes(
    vertices: np.ndarray, triangles: np.ndarray
) -> tuple[scipy.sparse.csr_matrix, np.ndarray, dict[str, np.ndarray], np.ndarray]:
    """Closes eyes and mouth with a ring and a centre that follow the hole's rim.

    Returns:
        `[V', V]` matrix whose rows sum to 1, the added offsets `[V', 3]` in centimetres, the new and rim vertices of
        each patch by name, and the triangles `[T', 3]`.
    """
    rows = [np.eye(len(vertices))]
    offsets = [np.zeros((len(vertices), 3))]
    patches, faces = {}, [triangles]
    count = len(vertices)
    for loop in sorted(_loops(triangles), key=len):
        centre = vertices[loop].mean(0)
        if np.ptp(vertices[loop, 1]) > 5:
            continue
        is_eye = centre[1] > 0
        radius = np.linalg.norm(vertices[loop] - centre, axis=1)
        share = np.minimum(0.85, _IRIS_RADIUS / radius) if is_eye else np.full(len(loop), 0.6)
        weights = np.zeros((len(loop) + 1, len(vertices)))
        weights[:, loop] = 1 / len(loop)
        weights[:-1] *= (1 - share)[:, None]
        weights[np.arange(len(loop)), loop] += share
        depth = np.append(np.full(len(loop), 0.02 if is_eye else -0.6), 0.06 if is_eye else -1.0)
        ring, middle = count + np.arange(len(loop)), count + len(loop)
        after, ring_after = np.roll(loop, -1), np.roll(ring, -1)
        faces += [
            np.stack([after, loop, ring], 1),
            np.stack([after, ring, ring_after], 1),
            np.stack([ring_after, ring, np.full_like(ring, middle)], 1),
        ]
        name = "mouth" if not is_eye else "left_eye" if centre[0] < 0 else "right_eye"
        patches[name] = {"rim": loop, "ring": ring, "middle": middle}
        rows.append(weights)
        offsets.append(depth[:, None] * np.array([[0.0, 0.0, 1.0]]))
        count += len(loop) + 1
    return scipy.sparse.csr_matrix(np.concatenate(rows)), np.concatenate(offsets), patches, np.concatenate(faces)


def regions(
    mean: np.ndarray, landmarks: np.ndarray, patches: dict[str, dict], occluded: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns the covers, float32 `[V]` each, of the albedo palette on the mean face."""
    points = mean[landmarks]
    patch_vertices = np.concatenate([np.append(patch["ring"], patch["middle"]) for patch in patches.values()])
    is_skin = np.ones(len(mean))
    is_skin[patch_vertices] = 0

    def near(centre, width):
        return np.exp(-np.square((mean - centre) / width).sum(1))

    brows = [_distance_to_line(mean, points[17:22]), _distance_to_line(mean, points[22:27])]
    outer = points[48:60, :2].astype(np.float32)
    inside = np.array([cv2.pointPolygonTest(outer, (float(x), float(y)), True) for x, y in mean[:, :2]])
    below_nose = 1 / (1 + np.exp((mean[:, 1] - (points[33, 1] - 0.3)) / 0.25))
    lip = np.clip(0.5 + inside / 0.3, 0, 1) * (mean[:, 2] > 9.5) * is_skin
    lip[patches["mouth"]["rim"]] = 1
    covers = {
        "cheek": is_skin * (near((-4.3, -0.5, 8.6), (1.9, 1.6, 3)) + near((4.3, -0.5, 8.6), (1.9, 1.6, 3))),
        "socket": is_skin * (near(points[36:42].mean(0), (2.0, 1.3, 2)) + near(points[42:48].mean(0), (2.0, 1.3, 2))),
        "beard": is_skin * below_nose * (1 - lip) * (0.2 + 0.8 * (np.abs(mean[:, 0]) < 7)),
        "lip": lip,
        "brow": is_skin * np.exp(-np.square(np.minimum(*brows) / 0.5)),
        "nostril": 1.0 * occluded * (near(points[33] + [0, 0.3, -0.6], (1.6, 1.2, 2.0)) > 0.2),
    }
    for name in ("sclera", "iris", "mouth"):
        covers[name] = np.zeros(len(mean))
    for name in ("left_eye", "right_eye"):
        patch = patches[name]
        # The rim's lash line is darker than skin but belongs to the socket; the ring is where the iris ends, except
        # at the corners of the eye, where the white shows.
        is_corner = np.abs(mean[patch["ring"], 0] - mean[patch["middle"], 0]) > 0.5
        covers["sclera"][patch["ring"]] = 1
        covers["iris"][patch["ring"][~is_corner]] = 0.9
        covers["iris"][patch["middle"]] = 1
        covers["sclera"][patch["rim"]] = 0.3
    covers["mouth"][np.append(patches["mouth"]["ring"], patches["mouth"]["middle"])] = 1
    return {name: np.clip(cover, 0, 1).astype(np.float32) for name, cover in covers.items()}


def smooth_modes(triangles: np.ndarray, num_vertices: int, count: int) -> np.ndarray:
    """Returns float32 `[count, V]`: the slowest non-constant modes of the graph, root mean square 1, sign fixed."""
    adjacency = _adjacency(triangles, num_vertices).toarray()
    laplacian = np.diag(adjacency.sum(1)) - adjacency
    _, modes = np.linalg.eigh(laplacian)
    modes = modes[:, 1 : count + 1].T * np.sqrt(num_vertices)
    sign = np.sign(modes[np.arange(count), np.abs(modes).argmax(1)])
    return (modes * sign[:, None]).astype(np.float32)


def hierarchy(vertices: np.ndarray, triangles: np.ndarray) -> tuple[face_model.Level, ...]:
    """Halves the mesh `NUM_LEVELS` times and ties neighbouring levels by sparse matrices."""
    levels = []
    for level in range(face_model.NUM_LEVELS + 1):
        laplacian = normalised_laplacian(triangles, len(vertices))
        if level == face_model.NUM_LEVELS:
            levels.append(face_model.Level(laplacian, None, None))
            break
        target = (len(vertices) + 1) // 2
        kept, coarse = decimation.decimate(vertices[None], triangles, target, locked=np.array([], int))
        down = scipy.sparse.csr_matrix((np.ones(len(kept)), (np.arange(len(kept)), kept)), (len(kept), len(vertices)))
        up = interpolation(vertices, vertices[kept], coarse)
        levels.append(face_model.Level(laplacian, down, up))
        vertices, triangles = vertices[kept], coarse
    return tuple(levels)


def normalised_laplacian(triangles: np.ndarray, num_vertices: int) -> scipy.sparse.csr_matrix:
    """Returns `I - D^-1/2 A D^-1/2` of the mesh's edges."""
    return scipy.sparse.csgraph.laplacian(_adjacency(triangles, num_vertices), normed=True).tocsr()


def interpolation(points: np.ndarray, vertices: np.ndarray, triangles: np.ndarray) -> scipy.sparse.csr_matrix:
    """Returns `[P, V]`: barycentric weights of the closest point on the mesh, for every point."""
    rows = []
    for point in points:
        closest = trimesh.triangles.closest_point(vertices[triangles], np.repeat(point[None], len(triangles), 0))
        best = np.linalg.norm(closest - point, axis=1).argmin()
        weights = trimesh.triangles.points_to_barycentric(vertices[triangles[best]][None], closest[best][None])[0]
        weights = np.clip(weights, 0, 1)
        rows.append((triangles[best], weights / weights.sum()))
    columns, weights = (np.concatenate(part) for part in zip(*rows))
    matrix = scipy.sparse.csr_matrix(
        (weights, (np.repeat(np.arange(len(points)), 3), columns)), (len(points), len(vertices))
    )
    matrix.eliminate_zeros()
    return matrix


def _adjacency(triangles, num_vertices):
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    edges = np.concatenate([edges, edges[:, ::-1]])
    matrix = scipy.sparse.csr_matrix((np.ones(len(edges)), edges.T), (num_vertices,) * 2)
    matrix.data[:] = 1
    return matrix


def _loops(triangles):
    """Returns the borders as rings of vertices, each in the direction of its triangles."""
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]).tolist()
    inner = {(b, a) for a, b in edges}
    following = {a: b for a, b in edges if (a, b) not in inner}
    loops = []
    while following:
        start, vertex = next(iter(following.items()))
        loop = [start]
        del following[start]
        while vertex != start:
            loop.append(vertex)
            vertex = following.pop(vertex)
        loops.append(np.array(loop))
    return loops


def _per_vertex(triangles, values):
    total = np.bincount(triangles.reshape(-1), np.repeat(values, 3))
    return total / np.bincount(triangles.reshape(-1))


def _distance_to_line(points, line):
    distances = []
    for a, b in zip(line, line[1:]):
        share = np.clip(((points - a) @ (b - a)) / ((b - a) @ (b - a)), 0, 1)
        distances.append(np.linalg.norm(points - a - share[:, None] * (b - a), axis=1))
    return np.min(distances, 0)


def _rotation(pitch, yaw):
    cp, sp, cy, sy = (
        np.cos(np.radians(pitch)),
        np.sin(np.radians(pitch)),
        np.cos(np.radians(yaw)),
        np.sin(np.radians(yaw)),
    )
    return np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]]) @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])


if __name__ == "__main__":
    program.run(main)
