"""What a host needs to fork safely and to know its descendants."""

import ctypes
import gc
import os
import signal
import sys
import threading
import time
import warnings

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


def has_threads():
    """Whether threads run that a fork would leave behind, and with them maybe a lock held for ever."""
    if threading.active_count() > 1:
        return True
    # Libraries that know of forks (OpenBLAS) end their threads in a fork handler: only what outlives a fork counts.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return len(os.listdir("/proc/self/task")) > 1


def share_pages():
    """Keeps the collector away from what has been imported: it would copy the pages that forked processes share."""
    gc.collect()
    gc.freeze()


def adopt_orphans():
    """Makes this process the parent of descendants whose own parent has ended, so that they can be found."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def follow(parent):
    """In a forked process: ends with its parent.

    Returns whether the parent is still there.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    return os.getppid() == parent


def reseed():
    """Python reseeds its own generator after a fork, numpy does not: every process would draw the same numbers."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def children():
    """The numbers of this process's children, those that have ended and wait to be reaped included."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return set()  # the usual case, without a look at every process of the machine
    own = os.getpid()
    found = set()
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                # The program's name stands in parentheses and may hold anything, parentheses too.
                parent = int(file.read().rpartition(b")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            continue  # it has just ended
        if parent == own:
            found.add(int(name))
    return found


def is_zombie(pid):
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] == b"Z"
    except (OSError, IndexError):
        return True


def environment(pid):
    """The variables that a program was started with, as `NAME=value` in bytes; empty when that cannot be read."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


def holds(pid, path):
    """Whether standard output or error of a process is the file at `path`."""
    try:
        wanted = os.stat(path)
    except OSError:
        return False
    for descriptor in (1, 2):
        try:
            found = os.stat(f"/proc/{pid}/fd/{descriptor}")
        except OSError:
            continue
        if os.path.samestat(wanted, found):
            return True
    return False


END_LIMIT = 2.0
"""Seconds; a process that waits for a disk or a file server may take longer than that to die, and nobody shall wait for it."""


def end_children(is_doomed):
    """Kills and reaps the children for which `is_doomed(pid)`, and what they leave behind, generation by generation."""
    deadline = time.monotonic() + END_LIMIT
    while time.monotonic() < deadline:
        doomed = {pid for pid in children() if is_doomed(pid)}
        if not doomed:
            return
        for pid in doomed:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass  # another user's program by now
        for pid in doomed:
            _reap(pid, deadline)


def _reap(pid, deadline):
    while True:
        try:
            if os.waitpid(pid, os.WNOHANG)[0] == pid:
                return
        except ChildProcessError:
            return
        if time.monotonic() >= deadline:
            return
        time.sleep(0.001)
