"""Checkpoints: what one attempt of a job leaves for the next one.

Every attempt has one file of its own, named by its token: a number that the router counts up with every claim of a job. A
file is written aside and renamed when it is safe on the disk, so it is whole or not there. An attempt reads only what
attempts with its own token or a smaller one wrote. So one that has lost its job, and does not know it, feeds nothing to
its successor: its file keeps its own, smaller number, which counts only until the successor has written one.

The format is a mark, a pickle, and the SHA-256 of the pickle. Pickle and not JSON, because the state of a computation is
arrays, sets, tuples and objects, which JSON cannot hold or returns as something else. Reading a pickle can run code: the
file has been written by this very service, below DATA, where only the pipeline and its jobs write, and those are trusted
code. The checksum is against broken disks, not against people. Never put a file there that comes from elsewhere.
"""

import hashlib
import logging
import os
import pickle
import threading
from typing import Any, BinaryIO, List, Optional, Tuple

LIMIT = 1 << 30
"""Bytes of one checkpoint."""

_MARK = b"DCMCKPT1"
_DIGEST = hashlib.sha256().digest_size

# Every Python that can run a job reads it: a job may be tried again on a worker with an older one.
_PROTOCOL = 4


class TooLarge(ValueError):
    """The object needs more bytes than a checkpoint may have."""


def write(file: str, obj: Any, limit: int = LIMIT) -> None:
    """Puts `obj` in the place of what `file` held.

    Raises TooLarge, OSError (disk full, not writable), and what pickle raises for an object that it cannot hold; the former
    checkpoint stays then.
    """
    try:
        _write(file, obj, limit)
    except FileNotFoundError:
        # Somebody has removed the folder meanwhile: an attempt that had lost the job and did not know it yet.
        _write(file, obj, limit)


def _write(file: str, obj: Any, limit: int) -> None:
    folder, token = _parts(file)
    temporary = f"{file}.{os.getpid()}-{threading.get_ident()}.part"
    os.makedirs(folder, exist_ok=True)
    try:
        with open(temporary, "wb") as stream:
            stream.write(_MARK)
            counted = _Counted(stream, limit)
            pickle.dump(obj, counted, protocol=_PROTOCOL)
            stream.write(counted.digest.digest())
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    except BaseException:
        try:
            os.unlink(temporary)
        except OSError:
            pass
        raise
    _sync(folder)
    # The last one of an earlier attempt stays, in case the disk spoils ours.
    for _, old in _earlier(folder, token)[1:]:
        try:
            os.unlink(old)
        except OSError:
            pass


def newest(file: str, log: logging.Logger) -> Optional[Any]:
    """The object of the newest attempt up to ours that left a readable one, None without."""
    folder, token = _parts(file)
    for _, path in _earlier(folder, token + 1):
        try:
            return _read(path)
        except Exception as error:  # whatever an object's own code raises while it is restored
            log.warning(
                "resume: the checkpoint %s cannot be read and is left out (%s: %s)", path, type(error).__name__, error
            )
    return None


def _read(path: str) -> Any:
    with open(path, "rb") as stream:
        length = os.fstat(stream.fileno()).st_size - len(_MARK) - _DIGEST
        if length < 0 or stream.read(len(_MARK)) != _MARK:
            raise ValueError("it is no checkpoint, or only the beginning of one")
        digest = hashlib.sha256()
        left = length
        while left > 0:
            block = stream.read(min(left, 1 << 20))
            if not block:
                raise ValueError("it ends too early")
            digest.update(block)
            left -= len(block)
        if stream.read() != digest.digest():
            raise ValueError("its checksum is wrong")
        stream.seek(len(_MARK))
        return pickle.load(stream)


def _parts(file: str) -> Tuple[str, int]:
    folder, name = os.path.split(file)
    return folder, int(name)


def _earlier(folder: str, token: int) -> List[Tuple[int, str]]:
    """(token, path) of the checkpoints with a token below `token`, newest first."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    found = [(int(name), os.path.join(folder, name)) for name in names if name.isascii() and name.isdigit()]
    return sorted((entry for entry in found if entry[0] < token), reverse=True)


def _sync(folder: str) -> None:
    """Makes the new name in `folder` outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Counted:
    """What pickle writes to: counts, and digests on the way, so that no second copy of the object stands in memory."""

    def __init__(self, stream: BinaryIO, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self._count = 0
        self.digest = hashlib.sha256()

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self._count += view.nbytes
        if self._count > self._limit:
            raise TooLarge(
                f"checkpoint: the object needs more than {self._limit} bytes as a pickle; keep large data in a file below DATA and "
                "put its path into the checkpoint"
            )
        self._stream.write(view)
        self.digest.update(view)
        return view.nbytes
