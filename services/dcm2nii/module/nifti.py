"""The header of a compressed NIfTI-1 file, as far as it is needed here."""

import gzip
import math
import os
import shutil
import struct

HEADER = 348

FREE_TEXTS = ((14, 18), (228, 24))
"""Offset and length of db_name and aux_file: dcm2niix copies the image comments of the DICOM file into the latter."""


class Damaged(Exception):
    """A file that was not written to its end."""


def content_length(path):
    """Bytes before compression, modulo 2^32: the end of a gzip file."""
    with open(path, "rb") as file:
        file.seek(-4, os.SEEK_END)
        return struct.unpack("<I", file.read(4))[0]


def check(path):
    """Raises Damaged unless the file holds as much as its header says."""
    name = os.path.basename(path)
    try:
        with gzip.open(path) as file:
            header = file.read(HEADER)
        length = content_length(path)
    except (OSError, EOFError) as error:
        raise Damaged(f"{name} is damaged ({type(error).__name__}); is the disk full?") from None
    order = next((order for order in "<>" if header[:4] == struct.pack(order + "i", HEADER)), None)
    if order is None:
        return  # NIfTI-2, of volumes with more than 32767 voxels along an axis
    count, *sizes = struct.unpack(order + "8h", header[40:56])
    bits = struct.unpack(order + "h", header[72:74])[0]
    offset = int(struct.unpack(order + "f", header[108:112])[0])
    expected = offset + math.prod(max(1, size) for size in sizes[: max(0, min(count, 7))]) * bits // 8
    if length != expected % 2**32:
        raise Damaged(f"{name} is incomplete: {length} bytes instead of {expected}; is the disk full?")


def clear_texts(path):
    """Empties what may say who the image is of. Reads and writes the file only when there is something."""
    with gzip.open(path) as file:
        header = bytearray(file.read(HEADER))
    if not any(any(header[offset : offset + length]) for offset, length in FREE_TEXTS):
        return
    for offset, length in FREE_TEXTS:
        header[offset : offset + length] = bytes(length)
    partial = path + ".part"
    with gzip.open(path) as source, gzip.open(partial, "wb", compresslevel=6) as target:
        source.read(HEADER)
        target.write(header)
        shutil.copyfileobj(source, target, 1 << 20)
    os.replace(partial, path)
