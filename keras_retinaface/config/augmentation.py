"""What becomes of a photo before the network sees it in training."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What the input pipeline does to an image before targets are encoded.

    Attributes:
        image_size: (height, width) of a training image in pixels.
        crop_scale: smallest and largest side of the random square crop over the short edge.
        crop_pixels: smallest and largest short edge of the random crop in pixels of the image as it is, beyond its
            border if need be, so that faces stay near their own scale however large the image; instead of `crop_scale`
            and zooming out unless it is (0, 0).
        native_scale: smallest and largest size of a training image over the image as it is, equally likely by factor;
            the crop is what then fills `image_size`, beyond the border by an eighth of its side at most, or what an
            image leaves of it. Instead of `crop_scale`, `crop_pixels` and zooming out unless it is (0, 0).
        zoom_out_probability: chance of a crop that reaches beyond the border, so that faces of an image's size appear
            whole.
        zoom_out_scale: smallest and largest side of such a crop over the short edge.
        background_probability: chance of a crop placed anywhere; all others hold at least one face, with `native_scale`
            its centre.
        antialias_probability: chance of shrinking with a filter as wide as the scale asks, not with what is drawn of
            the three methods that see a few pixels.
        flip_probability: chance of mirroring an image.
        photometric_probability: chance of changing brightness, contrast, hue and saturation.
        brightness: largest shift either way, of 255.
        contrast: smallest and largest factor.
        hue: largest turn either way, radians.
        saturation: smallest and largest factor.
        grey_probability: chance of taking all colour away.
        blur_probability: chance of a Gaussian blur.
        jpeg_probability: chance of JPEG artefacts.
        mosaic_probability: chance of a sample made of four images.
        min_face: faces whose shorter side is under this many pixels after the crop are ignored, not background.
        max_cut: faces of which the crop cuts off more than this share are ignored; those whose centre it cuts off are
            in any case.
    """

    image_size: tuple[int, int] = (640, 640)
    crop_scale: tuple[float, float] = (0.3, 1.0)
    crop_pixels: tuple[float, float] = (0.0, 0.0)
    native_scale: tuple[float, float] = (0.0, 0.0)
    zoom_out_probability: float = 0.2
    zoom_out_scale: tuple[float, float] = (1.0, 2.0)
    background_probability: float = 0.05
    antialias_probability: float = 0.0
    flip_probability: float = 0.5
    photometric_probability: float = 0.8
    brightness: float = 0.125
    contrast: tuple[float, float] = (0.5, 1.5)
    hue: float = 0.3
    saturation: tuple[float, float] = (0.5, 1.5)
    grey_probability: float = 0.0
    blur_probability: float = 0.0
    jpeg_probability: float = 0.0
    mosaic_probability: float = 0.0
    min_face: float = 6.0
    max_cut: float = 1.0

    def __post_init__(self):
        if len(self.image_size) != 2 or any(side < 32 for side in self.image_size):
            raise ValueError(f"`image_size` must be (height, width), each 32 or more. Received: {self.image_size}")
        for name in ("crop_scale", "zoom_out_scale", "contrast", "saturation"):
            values = getattr(self, name)
            if len(values) != 2 or not 0 < values[0] <= values[1]:
                raise ValueError(f"`{name}` must be (smallest, largest), positive. Received: {values}")
        for name, least in (("crop_pixels", 1), ("native_scale", 0.01)):
            values = getattr(self, name)
            is_off = tuple(values) == (0, 0)
            if not is_off and not (len(values) == 2 and least <= values[0] <= values[1]):
                raise ValueError(
                    f"`{name}` must be (smallest, largest), each {least} or more, or (0, 0). Received: {name}={values}"
                )
        if self.crop_pixels[1] and self.native_scale[1]:
            raise ValueError(
                "`crop_pixels` and `native_scale` exclude each other. "
                f"Received: crop_pixels={self.crop_pixels}, native_scale={self.native_scale}"
            )
        if self.crop_scale[1] > 1:
            raise ValueError(f"`crop_scale` must not pass 1; see `zoom_out_scale`. Received: {self.crop_scale}")
        for name in (field.name for field in dataclasses.fields(self) if field.name.endswith("_probability")):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must be in [0, 1]. Received: {name}={getattr(self, name)}")
        for name, largest in (("brightness", 1.0), ("hue", 3.15), ("max_cut", 1.0)):
            if not 0 <= getattr(self, name) <= largest:
                raise ValueError(f"`{name}` must be in [0, {largest}]. Received: {name}={getattr(self, name)}")
        if self.min_face < 0:
            raise ValueError(f"`min_face` must not be negative. Received: min_face={self.min_face}")
