import os
import struct
import zlib

from dcm_processor import artifact, log, progress
from dcm_processor.paths import run_folder


def step(jobName, headers, params, added_params, **kwargs):
    """Prints what a terminal would colour, tells how far it is, and leaves a picture."""
    print(f"\x1b[1m{jobName}\x1b[0m begins")
    for number in range(1, 41):
        print(f"slice {number:02d} \x1b[32mdone\x1b[0m")
    print("\x1b[33mwarning:\x1b[0m the bias field is steep")
    print("\x1b[31merror:\x1b[0m none, only its colour")
    print("\x1b[38;5;208mone of 256 colours\x1b[0m and \x1b[48;2;10;20;30mone of 16 million\x1b[0m", flush=True)
    log.info("one line of the standard logger")
    log.warning("and a warning")
    progress(0.5, "half of the slices")
    if jobName == "prepare":
        folder = os.path.join(os.environ["DATA"], run_folder("pictures", headers))
        os.makedirs(folder, exist_ok=True)
        picture(os.path.join(folder, "slice.png"))
        artifact(os.path.join(folder, "slice.png"), name="Middle slice")
    progress(1, "all slices")
    return {"slices": 40}


def picture(path, size=96):
    """A grey disc, so that the page has something to show."""
    rows = b""
    for y in range(size):
        row = bytes(max(0, 255 - ((x - size // 2) ** 2 + (y - size // 2) ** 2) // 8) for x in range(size))
        rows += b"\0" + row

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", size, size, 8, 0, 0, 0, 0)))
        file.write(chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
