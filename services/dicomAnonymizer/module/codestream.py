"""What compressed images say besides pixels: comments and application data of JPEG, JPEG-LS and JPEG 2000.

Blanked where they stand, so that no length and no offset changes, and without decoding anything.
"""

from __future__ import annotations

import struct

SOI, SOS, COM = 0xD8, 0xDA, 0xFE
# APP0 is JFIF's header, APP8 has JPEG-LS's colour transform, APP14 Adobe's: decoders need those.
BLANKED = {COM, *range(0xE1, 0xE8), *range(0xE9, 0xEE), 0xEF}
J2K_SOC, J2K_COM, J2K_SOT = 0x4F, 0x64, 0x90


def blanked(frames: bytes) -> tuple[bytes, int]:
    """Encapsulated pixel data, and how many comments and blocks of application data were blanked."""
    result, count = bytearray(frames), 0
    position = 0
    while position + 8 <= len(result):
        group, element, length = struct.unpack_from("<HHL", result, position)
        position += 8
        if (group, element) != (0xFFFE, 0xE000):
            break
        end = min(position + length, len(result))
        # A fragment that begins no image goes on with the one before, which is past its header.
        if result[position : position + 2] == b"\xff\xd8":
            count += _blank(result, position + 2, end, BLANKED, SOS)
        elif result[position : position + 2] == b"\xff\x4f":
            count += _blank(result, position + 2, end, {J2K_COM}, J2K_SOT)
        elif result[position + 4 : position + 8] == b"jP  ":
            # A file format around the stream: boxes of metadata may be anywhere, the stream itself begins with FF4F FF51.
            start = result.find(b"\xff\x4f\xff\x51", position, end)
            if start >= 0:
                count += _blank(result, start + 2, end, {J2K_COM}, J2K_SOT)
            count += _blank_boxes(result, position, end)
        position = end
    return bytes(result) if count else frames, count


def _blank(data, position, end, markers, last):
    count = 0
    while position + 4 <= end and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == last:
            break
        if marker == 0xFF:
            position += 1
            continue
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        stop = min(position + 2 + max(length, 2), end)
        # In JPEG 2000 two bytes say what kind of comment it is.
        start = position + (6 if marker == J2K_COM and last == J2K_SOT else 4)
        if marker in markers and any(data[start:stop]):
            data[start:stop] = bytes(max(0, stop - start))
            count += 1
        position = stop
    return count


def _blank_boxes(data, position, end):
    count = 0
    while position + 8 <= end:
        length, kind = struct.unpack_from(">L4s", data, position)
        stop = end if length == 0 else min(position + length, end)
        if length == 1 or stop <= position + 8:
            break
        if kind in (b"xml ", b"uuid", b"uinf", b"jp2i"):
            data[position + 8 : stop] = bytes(stop - position - 8)
            count += 1
        position = stop
    return count
