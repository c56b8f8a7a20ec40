"""`python -m dcm_processor.host callbacks|jobs [--fd N]`."""

import importlib
import os
import socket
import sys

from . import frames


def main():
    role, descriptor = _arguments(sys.argv[1:])
    _close_strangers(descriptor)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    connection = socket.socket(fileno=descriptor)
    os.set_inheritable(connection.fileno(), False)
    channel = frames.FrameChannel(connection)
    settings = channel.receive()
    if settings is None:
        return
    if settings.get("type") != "hello" or settings.get("protocol") != frames.PROTOCOL:
        sys.exit(f"dcm_processor.host speaks protocol {frames.PROTOCOL}, and was greeted with {settings.get('protocol')!r}: "
                 "the Python package and the program that starts it are from different versions")
    # `-m` puts the working folder first; the services' tree belongs there, as upstream has it.
    sys.path[0] = settings["root"]
    channel.send({
        "type": "hello",
        "protocol": frames.PROTOCOL,
        "role": role,
        "pid": os.getpid(),
        "python": ".".join(str(part) for part in sys.version_info[:3]),
    })
    importlib.import_module(f".{role}", __package__).serve(channel, settings)


def _arguments(words):
    """(role, number of the inherited socket). By hand: argparse costs every idle host half a megabyte."""
    if words[:1] not in (["callbacks"], ["jobs"]) or words[1:] != [] and (len(words) != 3 or words[1] != "--fd" or not words[2].isdigit()):
        sys.exit("usage: python -m dcm_processor.host callbacks|jobs [--fd N]    (N: the inherited socket, 3 without it)")
    return words[0], int(words[2]) if len(words) == 3 else 3


def _close_strangers(own):
    """Closes what the starting program left open by accident: a job must not hold its sockets."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != own:
            try:
                os.close(int(name))
            except OSError:
                pass  # the listing's own descriptor


if __name__ == "__main__":
    main()
