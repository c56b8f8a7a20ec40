"""What compressed images say besides pixels: comments and application data of JPEG, JPEG-LS and JPEG 2000, and what is behind their ends.

Blanked where they stand, so that no length and no offset changes, and without decoding anything.
"""

from __future__ import annotations

import re
import struct

SOS, COM = 0xDA, 0xFE
# APP0 is JFIF's header, APP8 has JPEG-LS's colour transform, APP14 Adobe's: decoders need those.
BLANKED = {COM, *range(0xE1, 0xE8), *range(0xE9, 0xEE), 0xEF}
J2K_COM, J2K_SOT, J2K_SOD = 0x64, 0x90, 0x93
EOI = 0xD9
"""The end, in JPEG and JPEG 2000."""

NEXT_MARKER = re.compile(rb"\xff[\x80-\xcf\xd8-\xfe]")
"""In coded data FF is followed by 00 or a restart, in those of JPEG-LS by something below 80."""


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
            count += _blank_jpeg(result, position + 2, end)
        elif result[position : position + 2] == b"\xff\x4f":
            count += _blank_j2k(result, position + 2, end)
        elif result[position + 4 : position + 8] == b"jP  ":
            # A file format around the stream: boxes of metadata may be anywhere, the stream itself begins with FF4F FF51.
            start = result.find(b"\xff\x4f\xff\x51", position, end)
            if start >= 0:
                count += _blank_j2k(result, start + 2, end)
            count += _blank_boxes(result, position, end)
        position = end
    return bytes(result) if count else frames, count


def _blank_jpeg(data, position, end):
    count = 0
    while True:
        position, blanked = _blank_segments(data, position, end, BLANKED, 4, (SOS, EOI))
        count += blanked
        if data[position : position + 2] == b"\xff\xd9":
            position += 2
            if data[position : position + 2] != b"\xff\xd8":
                return count + _blank_bytes(data, position, end)
            position += 2
            continue
        # Behind a scan may be another one, and segments before it.
        found = NEXT_MARKER.search(data, position + 2, end) if data[position : position + 2] == b"\xff\xda" else None
        if found is None:
            return count
        position = found.start()


def _blank_j2k(data, position, end):
    # Two bytes of a comment say what kind it is.
    position, count = _blank_segments(data, position, end, {J2K_COM}, 6, (J2K_SOT, EOI))
    while data[position : position + 2] == b"\xff\x90" and position + 12 <= end:
        _, blanked = _blank_segments(data, position + 12, end, {J2K_COM}, 6, (J2K_SOD,))
        count += blanked
        length = int.from_bytes(data[position + 6 : position + 10], "big")
        if length < 12:
            return count  # the last one, up to the end
        position += length
    if data[position : position + 2] == b"\xff\xd9":
        count += _blank_bytes(data, position + 2, end)
    return count


def _blank_segments(data, position, end, markers, head, last):
    """Blanks the segments of `markers`, behind their first `head` bytes.

    Returns where a marker of `last`, or no segment, is, and how many were blanked.
    """
    count = 0
    while position + 4 <= end and data[position] == 0xFF and data[position + 1] not in last:
        if data[position + 1] == 0xFF:
            position += 1
            continue
        stop = min(position + 2 + max(int.from_bytes(data[position + 2 : position + 4], "big"), 2), end)
        if data[position + 1] in markers:
            count += _blank_bytes(data, position + head, stop)
        position = stop
    return position, count


def _blank_bytes(data, position, end):
    if position >= end or not any(data[position:end]):
        return 0
    data[position:end] = bytes(end - position)
    return 1


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
