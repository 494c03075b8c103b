"""Damages bytes in seeded ways, as a bad disk, a cut-off download or a hostile hand does.

Knows of bytes, and where pictures keep their metadata; nothing of what reads them.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

# Lengths, counts and offsets that readers trip over, in both byte orders.
_WILD = (0, 1, 2, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1)
# Where metadata begins: JPEG's, PNG's, WebP's, TIFF's and AVIF's names for EXIF, ICC profiles, XMP and headers.
_METADATA = (
    *(
        b"Exif\0\0",
        b"ICC_PROFILE\0",
        b"http://ns.adobe.com/xap/1.0/\0",
        b"Photoshop 3.0\0",
        b"MPF\0",
        b"Adobe",
        b"JFIF",
    ),
    *(b"eXIf", b"iCCP", b"iTXt", b"tEXt", b"zTXt", b"pHYs", b"gAMA", b"PLTE", b"tRNS", b"acTL", b"fcTL", b"IHDR"),
    *(b"EXIF", b"ICCP", b"XMP ", b"VP8X", b"ANIM", b"ANMF", b"II*\0", b"MM\0*", b"acsp", b"<x:xmpmeta", b"tiff:Orient"),
    *(
        b"meta",
        b"iloc",
        b"iinf",
        b"ipma",
        b"irot",
        b"imir",
        b"ispe",
        b"av1C",
        b"colr",
        b"jp2h",
        b"ihdr",
        b"NETSCAPE2.0",
    ),
)
_LONGEST_CHANGE = 4096


def _position(content: bytearray, rng: random.Random) -> int:
    """Returns a place in the content; every second one lies in its first kilobyte, where headers are."""
    return rng.randrange(min(len(content), 1024) if rng.random() < 0.5 else len(content))


def _span(content: bytearray, rng: random.Random) -> tuple[int, int]:
    start = _position(content, rng)
    return start, min(start + int(2 ** rng.uniform(0, 12)), len(content))


def _write(content: bytearray, place: int, new: bytes) -> None:
    end = min(place + len(new), len(content))
    content[place:end] = new[: end - place]


def truncate(content: bytearray, rng: random.Random) -> None:
    """Cuts the end off, or the beginning."""
    place = _position(content, rng)
    del content[slice(0, place) if rng.random() < 0.1 else slice(place, None)]


def flip_bits(content: bytearray, rng: random.Random) -> None:
    """Turns 1 to 64 bits."""
    for _ in range(int(2 ** rng.uniform(0, 6))):
        content[_position(content, rng)] ^= 1 << rng.randrange(8)


def set_bytes(content: bytearray, rng: random.Random) -> None:
    """Replaces 1 to 16 bytes by ones that often mean something."""
    for _ in range(int(2 ** rng.uniform(0, 4))):
        content[_position(content, rng)] = rng.choice((0, 1, 9, 10, 13, 32, 34, 45, 47, 48, 57, 92, 127, 128, 254, 255))


def zero_block(content: bytearray, rng: random.Random) -> None:
    """Zeroes a block, as a file system does after a power cut."""
    start, end = _span(content, rng)
    content[start:end] = bytes(end - start)


def noise_block(content: bytearray, rng: random.Random) -> None:
    """Fills a block with noise."""
    start, end = _span(content, rng)
    content[start:end] = rng.randbytes(end - start)


def delete_block(content: bytearray, rng: random.Random) -> None:
    """Loses a block."""
    start, end = _span(content, rng)
    del content[start:end]


def repeat_block(content: bytearray, rng: random.Random) -> None:
    """Doubles a block, up to eight times."""
    start, end = _span(content, rng)
    content[start:start] = content[start:end] * rng.randint(1, 8)


def swap_blocks(content: bytearray, rng: random.Random) -> None:
    """Exchanges two blocks of one length, as a copy in the wrong order."""
    length = rng.randint(1, min(_LONGEST_CHANGE, max(len(content) // 2, 1)))
    first, second = sorted(rng.randrange(max(len(content) - length, 1)) for _ in range(2))
    second = max(second, first + length)
    if second + length <= len(content):
        one, other = content[first : first + length], content[second : second + length]
        content[first : first + length], content[second : second + length] = other, one


def wild_number(content: bytearray, rng: random.Random) -> None:
    """Writes 1 to 4 numbers that no count or offset expects over bytes of the header."""
    for _ in range(rng.randint(1, 4)):
        form = rng.choice("<>") + rng.choice("HI")
        value = rng.choice(_WILD) & (0xFFFF if form[1] == "H" else 0xFFFFFFFF)
        _write(content, rng.randrange(min(len(content), 256)), struct.pack(form, value))


def wild_metadata(content: bytearray, rng: random.Random) -> None:
    """Lets numbers of an EXIF, ICC, XMP or container segment go wild; without one, of the header."""
    places = [place for mark in _METADATA for place in (content.find(mark),) if place >= 0]
    if not places:
        wild_number(content, rng)
        return
    for _ in range(rng.randint(1, 6)):
        place = max(rng.choice(places) + rng.randint(-8, 200), 0)
        form = rng.choice("<>") + rng.choice("BHHI")
        value = rng.choice((*_WILD, rng.getrandbits(32), *range(1, 13))) & {"B": 0xFF, "H": 0xFFFF}.get(
            form[1], 2**32 - 1
        )
        _write(content, place, struct.pack(form, value))


def glue(content: bytearray, rng: random.Random) -> None:
    """Follows the first part of a file by the last part of its own, or by the whole once more."""
    whole = bytes(content)
    del content[_position(content, rng) :]
    content += whole if rng.random() < 0.3 else whole[rng.randrange(len(whole)) :]


WAYS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    *(truncate, flip_bits, set_bytes, zero_block, noise_block, delete_block),
    *(repeat_block, swap_blocks, wild_number, wild_metadata, glue),
)


def damage(content: bytes, rng: random.Random, other: bytes = b"") -> bytes:
    """Damages content in one to three of the `WAYS`.

    Args:
        content: of a whole file.
        rng: the only source of chance, so a seed names a case for ever.
        other: content of another file; now and then its end or whole is glued on.

    Returns:
        The damaged content, at times empty.
    """
    damaged = bytearray(content)
    if other and rng.random() < 0.08:
        del damaged[_position(damaged, rng) :]
        damaged += other if rng.random() < 0.5 else other[rng.randrange(len(other)) :]
        return bytes(damaged)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if damaged:
            rng.choice(WAYS)(damaged, rng)
    return bytes(damaged)
