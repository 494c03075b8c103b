"""Keeps other machines away from ports of this process that TensorFlow opens to all; no TensorFlow here.

The servers of `tf.data` listen on every address, which no option changes. On Linux a socket may carry a filter that
drops packets in the kernel; connections take it over from the socket that listens. Here it lets through what comes from
this machine over its loopback addresses, so that for others, and by the machine's other addresses, no connection opens.
"""

from __future__ import annotations

import ctypes
import os
import pathlib
import re
import socket
import struct
import sys
from collections.abc import Iterator

_ATTACH_FILTER = 26  # SO_ATTACH_FILTER of Linux, which Python does not name
_LISTEN, _TIME_WAIT = "0A", "06"
# Bytes of a packet from its network header on.
_NETWORK = 0xFFF00000
_LOAD_BYTE, _LOAD_WORD, _AND, _JUMP_EQUAL, _RETURN = 0x30, 0x20, 0x54, 0x15, 0x06
_ALL, _NOTHING = 0xFFFFFFFF, 0
# Each instruction: code, how many to skip when equal, when not, and its constant. IPv4: both ends in 127/8; IPv6: both
# ::1.
_PROGRAM = (
    (_LOAD_BYTE, 0, 0, _NETWORK),
    (_AND, 0, 0, 0xF0),
    (_JUMP_EQUAL, 0, 5, 0x40),
    (_LOAD_BYTE, 0, 0, _NETWORK + 12),
    (_JUMP_EQUAL, 0, 20, 127),
    (_LOAD_BYTE, 0, 0, _NETWORK + 16),
    (_JUMP_EQUAL, 0, 18, 127),
    (_RETURN, 0, 0, _ALL),
    *(
        instruction
        for index, (word, wanted) in enumerate(zip(range(8, 40, 4), (0, 0, 0, 1, 0, 0, 0, 1)))
        for instruction in ((_LOAD_WORD, 0, 0, _NETWORK + word), (_JUMP_EQUAL, 0, 15 - 2 * index, wanted))
    ),
    (_RETURN, 0, 0, _ALL),
    (_RETURN, 0, 0, _NOTHING),
)


def close_to_others(port: int) -> None:
    """Makes the listening sockets of this process on a port deaf to everything but this machine's loopback.

    Args:
        port: port on which a server of this process listens.

    Raises:
        OSError: if that cannot be done here, or another machine was faster; the port is then open to all.
    """
    if sys.platform != "linux":
        raise OSError(f"a port can be kept to this machine on Linux only. Received: {sys.platform}")
    descriptors = [descriptor for descriptor, of in _listening() if of == port]
    if not descriptors:
        raise OSError(f"no socket of this process listens on port {port}")
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in _PROGRAM)
    held = ctypes.create_string_buffer(code)
    program = struct.pack("HP", len(_PROGRAM), ctypes.addressof(held))
    for descriptor in descriptors:
        duplicate = socket.socket(fileno=os.dup(descriptor))
        try:
            duplicate.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, program)
        finally:
            duplicate.close()
    # Whoever connected in the moment before holds a connection without the filter.
    strangers = [address for address in _peers(port) if not _is_loopback(address)]
    if strangers:
        raise OSError(f"{strangers[0]} connected to port {port} before it was closed to others")


def ports() -> list[int]:
    """Returns the ports on which this process listens; none where that cannot be told, which is not Linux."""
    return sorted({port for _, port in _listening()})


def _listening() -> Iterator[tuple[int, int]]:
    """Yields descriptor and port of this process's sockets that listen."""
    by_inode = {row["inode"]: row["port"] for row in _connections() if row["state"] == _LISTEN}
    folder = pathlib.Path("/proc/self/fd")
    for entry in folder.iterdir() if folder.is_dir() else ():
        try:
            found = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(entry))
        except OSError:  # closed meanwhile
            continue
        if found and found.group(1) in by_inode:
            yield int(entry.name), by_inode[found.group(1)]


def _peers(port: int) -> list[str]:
    return [row["peer"] for row in _connections() if row["port"] == port and row["state"] not in (_LISTEN, _TIME_WAIT)]


def _connections() -> Iterator[dict]:
    for table in ("tcp", "tcp6"):
        path = pathlib.Path("/proc/self/net", table)
        if not path.exists():
            continue
        for line in path.read_text().splitlines()[1:]:
            words = line.split()
            address, port = words[1].rsplit(":", 1)
            peer = words[2].rsplit(":", 1)[0]
            yield {"port": int(port, 16), "state": words[3], "inode": words[9], "peer": _address(peer)}


def _address(digits: str) -> str:
    """Turns the kernel's hexadecimal, words in the machine's order, into an address."""
    words = [int(digits[start : start + 8], 16) for start in range(0, len(digits), 8)]
    packed = b"".join(struct.pack("=I", word) for word in words)
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def _is_loopback(address: str) -> bool:
    return address == "::1" or address.startswith("127.") or address.startswith("::ffff:127.")
