"""Damages text files and small binary ones in the ways that hands, tools and disks do; by a seed, always the same."""

from __future__ import annotations

import codecs
import random

# What `int` or `float` may take and no file should hold, and what neither takes.
ODD_WORDS = (
    [
        "²",
        "٣",
        "1_000",
        "nan",
        "inf",
        "-inf",
        "1e400",
        "1e39",
        "9" * 5000,
        "-1",
        "0x10",
        "1,5",
        "½",
        "Infinity",
        "",
        "\0",
    ]
    + ["../../x.jpg", "/etc/x.jpg", "C:\\x.jpg", "a/b/c/d/e.jpg", "null", '"', "[" * 3000, "#", "<!DOCTYPE a>", "&a;"]
    + ["1e-9", "99999999999", "true", "{}", "\ufeff", "\u2028", "\x85", "--1", "+1", "1.", ".5", ".", "e5"]
)


def damage(content: bytes, seed: int) -> bytes:
    """Returns the content with one to three faults."""
    rng = random.Random(seed)
    for _ in range(rng.randint(1, 3)):
        content = rng.choice(_WAYS)(content, rng)
    return content


def _word(content: bytes, rng: random.Random) -> bytes:
    words = content.decode("utf-8", "surrogateescape").split(" ")
    place = rng.randrange(len(words))
    odd = rng.choice(ODD_WORDS)
    # A JSON or XML file has few spaces: there a number within the word goes.
    digits = [i for i, letter in enumerate(words[place]) if letter.isdigit()]
    if digits and rng.random() < 0.7:
        start = rng.choice(digits)
        words[place] = words[place][:start] + odd + words[place][start + 1 :]
    else:
        words[place] = odd
    return " ".join(words).encode("utf-8", "surrogateescape")


def _column(content: bytes, rng: random.Random) -> bytes:
    lines = content.split(b"\n")
    place = rng.randrange(len(lines))
    words = lines[place].split()
    if words and rng.random() < 0.5:
        words.pop(rng.randrange(len(words)))
    else:
        words.insert(rng.randint(0, len(words)), b"7")
    lines[place] = b" ".join(words)
    return b"\n".join(lines)


def _line(content: bytes, rng: random.Random) -> bytes:
    lines = content.split(b"\n")
    place, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    if rng.random() < 0.5:
        lines.pop(place)
    else:
        lines.insert(place, lines[other])
    return b"\n".join(lines)


def _encoding(content: bytes, rng: random.Random) -> bytes:
    text = content.decode("utf-8", "replace")
    mark = rng.choice([codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF32_BE, b""])
    return mark + text.encode(rng.choice(["utf-8", "utf-16-le", "utf-16", "utf-32-be", "cp500"]), "replace")


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randint(0, len(content))]


def _flip(content: bytes, rng: random.Random) -> bytes:
    held = bytearray(content)
    for _ in range(rng.randint(1, 8) if held else 0):
        held[rng.randrange(len(held))] ^= 1 << rng.randrange(8)
    return bytes(held)


def _splice(content: bytes, rng: random.Random) -> bytes:
    start = rng.randint(0, len(content))
    fill = rng.choice([b"\xff" * 8, b"\0" * 8, b"\r", b"\n\n", content[:64], rng.randbytes(16)])
    return content[:start] + fill + content[start + rng.choice([0, len(fill)]) :]


_WAYS = (_word, _word, _word, _column, _line, _encoding, _cut, _flip, _flip, _splice)
