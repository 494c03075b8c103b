"""Reads from the bytes of a JPEG or PNG how it is to be turned, and turns pixels upright; all in a graph.

Follows what Pillow's `ImageOps.exif_transpose` does: EXIF first, then XMP; what is damaged turns nothing.
"""

from __future__ import annotations

import tensorflow as tf

# Orientations (EXIF 2.3, tag 274) of which rows and columns are exchanged in the file start here; after that is undone
# these are mirrored along x and along y.
FIRST_EXCHANGED = 5
MIRRORED_X, MIRRORED_Y = (2, 3, 6, 7), (3, 4, 7, 8)
_TAG, _TYPES, _LONGS = 0x0112, (3, 4, 8, 9), (4, 9)
# What a file holds that is not upright: looking for it costs far less than walking through every file.
_SIGNS = r"Exif\x00\x00|eXIf|tiff:Orientation|Raw profile type exif|XML:com\.adobe\.xmp"
_XMP = r"(?s)\A\C*?tiff:Orientation(?:=\"|>)([0-9])\C*\z"
# Of a JPEG's markers, two bytes each. APP1 holds EXIF or XMP.
_APP1, _START_OF_SCAN, _END = 0xFFE1, 0xFFDA, 0xFFD9
# Segments or chunks looked at; more are no photo, and nobody shall wait for them.
_MOST_PARTS = 20_000


def read(image_bytes: tf.Tensor) -> tf.Tensor:
    """Reads the orientation of an encoded image.

    Args:
        image_bytes: string scalar, a JPEG or PNG file.

    Returns:
        int32 scalar, 1 to 8; 1 where nothing is said, or what is said cannot be.

    Raises:
        tf.errors.InvalidArgumentError: where it is compressed inside a PNG, which a graph cannot read.
    """
    stripped = tf.strings.regex_replace(image_bytes, _SIGNS, "", replace_global=False)
    has_sign = tf.strings.length(stripped) < tf.strings.length(image_bytes)
    return tf.cond(
        has_sign,
        lambda: tf.cond(tf.io.is_jpeg(image_bytes), lambda: _of_jpeg(image_bytes), lambda: _of_png(image_bytes)),
        lambda: tf.constant(1),
    )


def turn(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns `[H, W, C]` upright; from `FIRST_EXCHANGED` on height and width are exchanged."""

    def turned():
        upright = tf.cond(orientation >= FIRST_EXCHANGED, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
        upright = tf.cond(_is_among(orientation, MIRRORED_X), lambda: upright[:, ::-1], lambda: upright)
        return tf.cond(_is_among(orientation, MIRRORED_Y), lambda: upright[::-1], lambda: upright)

    return tf.cond(orientation > 1, turned, lambda: image)


def turn_size(size: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns int32 `[2]`, (height, width), as `turn` does an image."""
    return tf.where(orientation >= FIRST_EXCHANGED, size[::-1], size)


def _is_among(orientation: tf.Tensor, values: tuple[int, ...]) -> tf.Tensor:
    return tf.reduce_any(orientation == tf.constant(values))


def _of_jpeg(content: tf.Tensor) -> tf.Tensor:
    """Walks from segment to segment up to the first scan."""
    end = tf.strings.length(content)

    def step(position, exif, xmp, is_going, count):
        marker, length, first, second = tf.unstack(_numbers(content, position, 4, tf.uint16))
        is_app1 = marker == _APP1
        exif = tf.where(is_app1 & (first == 0x4578) & (second == 0x6966) & (exif < 0), position, exif)  # "Exif"
        xmp = tf.where(is_app1 & (first == 0x6874) & (second == 0x7470), position, xmp)  # "http"
        # Fill bytes and junk are passed one by one; some markers have no length.
        is_alone = (marker <= 0xFF01) | ((marker >= 0xFFD0) & (marker <= 0xFFD8))
        advance = tf.where((marker < 0xFF00) | (marker == 0xFFFF), 1, tf.where(is_alone, 2, 2 + length))
        is_going = (marker != _START_OF_SCAN) & (marker != _END) & (position + advance < end)
        return tf.minimum(position + advance, end), exif, xmp, is_going, count + 1

    _, exif, xmp, _, _ = tf.while_loop(
        lambda *state: state[3] & (state[4] < _MOST_PARTS),
        step,
        [tf.constant(0), tf.constant(-1), tf.constant(-1), tf.constant(True), tf.constant(0)],
    )

    def segment(position, num_left_out):
        length = _numbers(content, position, 2, tf.uint16)[1]
        return _cut(content, position + 4 + num_left_out, length - 2 - num_left_out)

    return _choose(
        tf.cond(exif >= 0, lambda: segment(exif, len(b"Exif\0\0")), lambda: tf.constant("")),
        tf.cond(xmp >= 0, lambda: segment(xmp, 0), lambda: tf.constant("")),
    )


def _of_png(content: tf.Tensor) -> tf.Tensor:
    """Walks from chunk to chunk."""
    end = tf.strings.length(content)
    kinds = {kind: int.from_bytes(kind, "big") for kind in (b"eXIf", b"tEXt", b"zTXt", b"iTXt", b"IEND")}

    def step(position, exif, xmp, is_going, is_packed, count):
        length, kind = tf.unstack(_numbers(content, position, 2, tf.int32))
        exif = tf.where(kind == kinds[b"eXIf"], position, exif)
        start = _cut(content, position + 8, 21)
        is_xmp = (kind == kinds[b"iTXt"]) & (_cut(start, 0, 18) == b"XML:com.adobe.xmp\0")
        xmp = tf.where(is_xmp, position, xmp)
        is_text = (kind == kinds[b"tEXt"]) | (kind == kinds[b"zTXt"]) | (kind == kinds[b"iTXt"])
        is_packed |= is_text & (start == b"Raw profile type exif")
        is_packed |= is_xmp & (_cut(start, 18, 1) != b"\0")
        is_going = (length >= 0) & (length < end - position) & (kind != kinds[b"IEND"])
        return position + 12 + tf.where(is_going, length, 0), exif, xmp, is_going, is_packed, count + 1

    _, exif, xmp, _, is_packed, _ = tf.while_loop(
        lambda *state: state[3] & (state[5] < _MOST_PARTS) & (state[0] < end),
        step,
        [tf.constant(8), tf.constant(-1), tf.constant(-1), tf.constant(True), tf.constant(False), tf.constant(0)],
    )
    refused = tf.debugging.Assert(tf.logical_not(is_packed) | (exif >= 0), ["the orientation is compressed"])

    def chunk(position):
        found = _cut(content, position + 8, _numbers(content, position, 2, tf.int32)[0])
        return tf.strings.regex_replace(found, r"\AExif\x00\x00", "")  # some writers copy it from a JPEG

    with tf.control_dependencies([] if refused is None else [refused]):
        return _choose(
            tf.cond(exif >= 0, lambda: chunk(exif), lambda: tf.constant("")),
            tf.cond(xmp >= 0, lambda: chunk(xmp), lambda: tf.constant("")),
        )


def _choose(exif: tf.Tensor, xmp: tf.Tensor) -> tf.Tensor:
    """Returns the orientation that EXIF says or, where it says none, XMP."""
    said = tf.cond(tf.strings.length(exif) >= 14, lambda: _of_exif(exif), lambda: tf.constant(0))
    digit = tf.strings.regex_replace(xmp, _XMP, r"\1")
    has_digit = tf.strings.length(digit) == 1
    other = tf.strings.to_number(tf.where(has_digit & (said == 0), digit, "1"), tf.int32)
    said = tf.where(said == 0, other, said)
    return tf.where((said >= 1) & (said <= 8), said, 1)


def _of_exif(tiff: tf.Tensor) -> tf.Tensor:
    """Returns what the first directory of a TIFF says, 0 where it says nothing and -1 where that is no orientation."""
    values = tf.cast(tf.io.decode_raw(tiff, tf.uint8), tf.int64)
    is_little = tf.reduce_all(values[:2] == [0x49, 0x49])
    # 42 follows; some writers exchange its bytes.
    is_tiff = (is_little | tf.reduce_all(values[:2] == [0x4D, 0x4D])) & tf.reduce_all(tf.sort(values[2:4]) == [0, 42])
    size = tf.size(values, tf.int64)

    def number(digits):
        """Returns the numbers that the last axis' bytes are."""
        digits = tf.where(is_little, tf.reverse(digits, [-1]), digits)
        return tf.reduce_sum(digits * [256**power for power in range(digits.shape[-1])][::-1], -1)

    directory = tf.minimum(number(tf.ensure_shape(values[4:8], [4])), size - 2)
    num_entries = tf.minimum(
        number(tf.ensure_shape(values[directory : directory + 2], [2])), (size - directory - 2) // 12
    )
    entries = tf.reshape(values[directory + 2 : directory + 2 + 12 * num_entries], [-1, 12])
    # Said twice, the last one counts.
    rows = tf.boolean_mask(entries, number(entries[:, :2]) == _TAG)[-1:]
    kind, count = number(rows[:, 2:4]), number(rows[:, 4:8])
    is_long = tf.reduce_any(kind[:, None] == list(_LONGS), -1)
    value = tf.where(is_long, number(rows[:, 8:12]), number(rows[:, 8:10]))
    is_here = (count == 1) | ((count == 2) & ~is_long)  # of more than four bytes only the place is told
    is_good = tf.reduce_any(kind[:, None] == list(_TYPES), -1) & is_here & (value >= 1) & (value <= 8)
    said = tf.reduce_sum(tf.where(is_good, value, -1))
    return tf.where(is_tiff, tf.cast(said, tf.int32), 0)


def _numbers(content: tf.Tensor, position: tf.Tensor, count: int, dtype: tf.DType) -> tf.Tensor:
    """Returns int32 `[count]`, big-endian numbers of a file; zeros behind its end."""
    size = count * dtype.size
    raw = tf.io.decode_raw(_cut(content, position, size), dtype, little_endian=False, fixed_length=size)
    return tf.ensure_shape(tf.cast(raw, tf.int32), [count])


def _cut(content: tf.Tensor, position: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """Returns the bytes of a part, fewer at the end of the file."""
    return tf.strings.substr(content, tf.minimum(position, tf.strings.length(content)), tf.maximum(length, 0))
