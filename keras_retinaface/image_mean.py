"""What the first layer of a network takes away of an image: means of red, green and blue, 0..255. Imports nothing."""

from __future__ import annotations

# The public RetinaFaces and the MobileNets here; padding in this colour is zero to them.
PUBLIC = (123.0, 117.0, 104.0)
# Of the ImageNet weights of torchvision and of Keras; divisions, and the order of the channels, are in the kernel of
# the first convolution instead, where `weights.imagenet` puts them.
TORCHVISION = (123.675, 116.28, 103.53)
KERAS = (123.68, 116.779, 103.939)
KERAS_MOBILENET_V2 = (127.5, 127.5, 127.5)
