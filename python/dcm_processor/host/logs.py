"""What a job prints: two pipes that the host reads, one file in the order of arrival.

Beside the log stands its index, LOG.index: one line `offset milliseconds stream` for each piece, offset in bytes, milliseconds since
1970, stream 1 (output), 2 (error) or 0 (a note of ours). A piece ends where the next one begins.

The job never meets the file: a full disk, a limit or a slow file server is the host's affair, and a job that prints much waits in its
own write until the host has read.
"""

import collections
import io
import os
import sys
import time

TAIL_LINES = 200
TAIL_BYTES = 16 * 1024

OUTPUT_LIMIT = 128 * 1024
"""Bytes kept of a command's standard output as its result."""

KEPT_BYTES = 1024 * 1024
"""Of a log that is too long, the end that is kept beside its beginning."""

PIECE_MILLISECONDS = 50
"""What one stream prints within this time is one piece of the index."""

INDEX_LIMIT = 8 * 1024 * 1024

_READ = 1 << 16
_SMALL = 4096
_DRAIN_LIMIT = 4 << 20
"""Bytes read after a job's end. A pipe holds 1 MiB at most; more comes only from a program that could not be killed."""

_PAUSE = 0.05
"""Seconds at least that a pipe rests when the job prints too fast: fewer and larger reads."""


class JobLog:
    """The log of one attempt. `file` is open for appending and closed by `close`."""

    def __init__(self, path, file, limit, rate):
        self._path = path
        self._file = file
        self._index = None
        self._indexed = 0
        self._piece = (None, 0)
        self._written = 0
        self._head = max(0, limit - min(KEPT_BYTES, limit // 2))
        self._keep = limit - self._head
        self._kept = collections.deque()
        self._kept_size = 0
        self._left_out = 0
        self._trouble = None
        self._recent = b""
        self._is_cut = False
        self._rate = rate
        self._budget = rate
        self._counted = 0.0
        self._pipes = {}
        self.output = None
        """The beginning of standard output; None when nobody wants it."""
        self.resumes = None
        """When reading goes on; None when nothing rests."""

    def attach(self, pipes, wants_output):
        """`pipes`: the reading ends of standard output and error; closed by `close`."""
        self._pipes = dict(zip(pipes, (1, 2)))
        self._written = os.lseek(self._file, 0, os.SEEK_END)  # the module's import may have printed
        self.output = bytearray() if wants_output else None

    @property
    def pipes(self):
        """Those that are open."""
        return list(self._pipes)

    def files(self):
        """The pipes that are open, as (device, inode): both ends of a pipe are the same file."""
        return [(found.st_dev, found.st_ino) for found in map(os.fstat, self._pipes)]

    def read(self, pipe):
        """Reads once. Returns whether there may be more to come now: not at the end of the pipe, and not when the job prints too fast."""
        try:
            chunk = os.read(pipe, _READ)
        except BlockingIOError:
            return True
        except OSError:
            chunk = b""
        if not chunk:
            return False
        self._take(self._pipes[pipe], chunk)
        now = time.monotonic()
        self._budget = min(self._rate, self._budget + (now - self._counted) * self._rate) - len(chunk)
        self._counted = now
        if self._budget > 0:
            return True
        self.resumes = now + max(_PAUSE, -self._budget / self._rate)
        return False

    def drain(self):
        """After the job's end: what is still in the pipes, whoever holds their other ends."""
        for pipe, stream in self._pipes.items():
            size = 0
            while size < _DRAIN_LIMIT:
                try:
                    chunk = os.read(pipe, _READ)
                except OSError:
                    break
                if not chunk:
                    break
                size += len(chunk)
                self._take(stream, chunk)

    def forget(self, pipe):
        """A pipe that has ended."""
        del self._pipes[pipe]
        os.close(pipe)

    def close(self):
        for pipe in self.pipes:
            self.forget(pipe)
        if self._left_out and self._trouble is None:
            self._write(0, f"\n[DCM Processor left out {self._left_out} bytes here: the log is longer than JOB_LOG_LIMIT]\n".encode(), _now())
        for stream, chunk, moment in self._kept:
            self._write(stream, chunk, moment)
        self._kept.clear()
        if self._trouble is not None:
            print(f"The log {self._path} is not whole: {self._trouble}", file=sys.stderr, flush=True)
        os.close(self._file)
        if self._index is not None:
            os.close(self._index)

    def abandon(self):
        """In a forked process: lets go of the descriptors."""
        for file in [*self._pipes, self._file, self._index]:
            if file is not None:
                os.close(file)

    def tail(self):
        """The last lines, None when there are none. Valid text whatever the job printed."""
        if not self._recent:
            return None
        return tail(self._recent, self._is_cut)

    def _take(self, stream, chunk):
        recent = self._recent + chunk if len(chunk) < TAIL_BYTES else chunk
        if len(recent) > TAIL_BYTES:
            recent = recent[-TAIL_BYTES:]
            self._is_cut = True
        self._recent = recent
        if self.output is not None and stream == 1 and len(self.output) < OUTPUT_LIMIT:
            self.output += chunk[:OUTPUT_LIMIT - len(self.output)]
        moment = _now()
        room = self._head - self._written
        if room > 0:
            self._write(stream, chunk[:room], moment)
            chunk = chunk[room:]
        if chunk:
            self._kept_size += len(chunk)
            # Small ones together: a job that prints byte by byte would make a million of them.
            if self._kept and self._kept[-1][0] == stream and len(self._kept[-1][1]) + len(chunk) <= _SMALL:
                _, before, moment = self._kept.pop()
                chunk = before + chunk
            self._kept.append((stream, chunk, moment))
            while self._kept_size > self._keep:
                self._drop(self._kept_size - self._keep)

    def _drop(self, surplus):
        stream, chunk, moment = self._kept.popleft()
        if len(chunk) > surplus:
            self._kept.appendleft((stream, chunk[surplus:], moment))
        size = min(surplus, len(chunk))
        self._kept_size -= size
        self._left_out += size

    def _write(self, stream, chunk, moment):
        if self._trouble is not None:
            return
        try:
            self._note(stream, moment)
            view = memoryview(chunk)
            while view:
                count = os.write(self._file, view)
                self._written += count
                view = view[count:]
        except OSError as error:
            self._trouble = str(error)

    def _note(self, stream, moment):
        known, since = self._piece
        if (known == stream and moment - since < PIECE_MILLISECONDS) or self._indexed > INDEX_LIMIT:
            return
        if self._index is None:
            self._index = os.open(self._path + ".index", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
            if self._written:
                self._indexed += os.write(self._index, b"0 %d 1\n" % moment)  # what the module's import printed
        self._piece = (stream, moment)
        self._indexed += os.write(self._index, b"%d %d %d\n" % (self._written, moment, stream))


def tail(recent, is_cut):
    """The last lines of some bytes; `is_cut` when there are more before them."""
    text = recent.decode("utf-8", "replace")
    lines = text.splitlines(keepends=True)
    if is_cut and len(lines) > 1:
        del lines[0]  # half of one
    data = "".join(lines[-TAIL_LINES:]).encode("utf-8")
    # Each wrong byte has become three.
    return data[-TAIL_BYTES:].decode("utf-8", "ignore")


def tail_of_file(path):
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            return tail(file.read(), size > TAIL_BYTES) or None
    except OSError:
        return None


class _Through(io.BufferedWriter):
    """Hands on at once, and whole: a raw file may take half of it when a signal comes."""

    def write(self, data):
        count = super().write(data)
        self.flush()
        return count


def open_streams():
    """Makes `sys.stdout` and `sys.stderr` keep nothing back, as `python -u` does: what a job printed before it crashed is in its log."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        raw = io.FileIO(number, "wb", closefd=False)
        stream = io.TextIOWrapper(_Through(raw), encoding="utf-8", errors="backslashreplace", write_through=True)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _now():
    return time.time_ns() // 1_000_000
