"""Frames: four bytes of length (big endian), then one JSON object in UTF-8.

Both sides begin with a `hello` that carries the protocol's number. The messages:

    callbacks  <- evaluate {request, headers, addedParams, calls[{jobName, entry, params}]}
               -> asking {request, call} and verdict {request, call, accepted, added, duration, output, error?} for each call,
                  as it comes; done {request}
               -> stale {request}: code on disk has changed, start another host
               -> threads {request, module}: the module's import has started threads, start another host and name the module in
                  its hello's `late`; it is then imported in each request's process
    jobs       <- run {job, entry, jobName, headers, params, addedParams, attempt, runId, workdir, log, data, environment,
                       timeout (seconds or null), grace (seconds), and maybe: memory (bytes), processes, nice, ionice, command
                       (a list of words instead of the entry), checkpoint (a path)}
               <- stop {job, reason}
               -> importing {job}: the module is being imported; what takes its time from here on is the service's code
               -> started {job, pid}, progress {job, fraction, text},
                  exited {job, stopped: timeout | cancel | memory | processes | null, ...}
               -> refused {job, reason: stale | worn | threads | import | resources, error?, tail?}: not started, and but for
                  `resources` this host is of no more use
"""

import json
import struct

PROTOCOL = 2

LIMIT = 256 * 1024 * 1024
"""Bytes of the longest frame that is read: far above what headers reach, far below what would hurt."""

_LENGTH = struct.Struct(">I")
_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class ProtocolError(Exception):
    """What arrived is not a frame of ours."""


class FrameBuffer:
    """Cuts a byte stream into messages."""

    def __init__(self):
        self._bytes = bytearray()

    def feed(self, chunk):
        """Takes bytes; returns the messages that they complete."""
        self._bytes += chunk
        messages = []
        while True:
            message = self._cut()
            if message is None:
                return messages
            messages.append(message)

    def _cut(self):
        if len(self._bytes) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._bytes)
        if length > LIMIT:
            raise ProtocolError(f"a frame of {length} bytes; at most {LIMIT} are allowed")
        end = _LENGTH.size + length
        if len(self._bytes) < end:
            return None
        body = bytes(self._bytes[_LENGTH.size:end])
        del self._bytes[:end]
        try:
            message = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise ProtocolError(f"a frame that is not JSON: {error}") from None
        if not isinstance(message, dict):
            raise ProtocolError(f"a frame holds an object, not {type(message).__name__}")
        return message


def encode(message):
    # Lone surrogates (file names that are not UTF-8) become "?": no JSON reader on the other side takes them.
    body = _encoder.encode(message).encode("utf-8", "replace")
    return _LENGTH.pack(len(body)) + body


class FrameChannel:
    """Frames over a stream socket that blocks."""

    def __init__(self, connection):
        self.connection = connection
        self._buffer = FrameBuffer()
        self._ready = []

    @property
    def has_ready(self):
        """Whether a message waits here that the socket will not announce again."""
        return bool(self._ready)

    def send(self, message):
        self.connection.sendall(encode(message))

    def receive(self):
        """The next message; None when the other side has closed."""
        while not self._ready:
            messages = self.receive_available()
            if messages is None:
                return None
            self._ready = messages
        return self._ready.pop(0)

    def receive_available(self):
        """The messages that one read completes, maybe none; None when the other side has closed."""
        if self._ready:
            ready, self._ready = self._ready, []
            return ready
        try:
            chunk = self.connection.recv(1 << 18)
        except ConnectionError:
            return None
        return self._buffer.feed(chunk) if chunk else None
