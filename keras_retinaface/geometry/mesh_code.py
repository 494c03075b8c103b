"""How long the parts of a mesh code are: the numbers that the dense head gives for an anchor. Imports nothing."""

from __future__ import annotations

# Shape and colours of the face, the camera, the light; in this order.
CODE_SIZE, CAMERA_SIZE, LIGHT_SIZE = 128, 7, 9
SIZE = CODE_SIZE + CAMERA_SIZE + LIGHT_SIZE
