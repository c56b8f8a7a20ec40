"""What a host needs to fork safely and to know its descendants."""

import ctypes
import gc
import os
import signal
import sys
import time

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)
_PAGE = os.sysconf("SC_PAGE_SIZE")
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30, "riscv64": 30}.get(os.uname().machine)
_IOPRIO_CLASSES = {"best-effort": 2, "idle": 3}


def has_threads():
    """Whether threads run that a fork would leave behind, and with them maybe a lock held for ever."""
    # Neither module is imported here for its own sake: what a host has imported makes each of its forks dearer.
    threading = sys.modules.get("threading")
    if threading is not None and threading.active_count() > 1:
        return True
    import warnings

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


def all_threads():
    """How many threads the machine runs."""
    with open("/proc/loadavg", "rb") as file:
        return int(file.read().split()[3].partition(b"/")[2])


def children():
    """The numbers of this process's children, those that have ended and wait to be reaped included."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return set()  # the usual case
    own = os.getpid()
    # A host has one thread: it refuses modules that start others.
    found = _listed_children(own, [own])
    return _searched_children({own}) if found is None else found


def descendants(root):
    """The numbers of a process's children, their children and so on, without those whose parent has ended."""
    found, wave = set(), {root}
    while wave:
        next_wave = set()
        for pid in wave:
            listed = _listed_children(pid)
            if listed is None:
                next_wave = _searched_children(wave)
                break
            next_wave |= listed
        wave = next_wave - found
        found |= wave
    return found


def _listed_children(pid, threads=None):
    """From the kernel's own lists, one for each thread; None when this kernel keeps none. A process that has ended has none."""
    found = set()
    try:
        threads = threads or os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found
    for thread in threads:
        try:
            file = os.open(f"/proc/{pid}/task/{thread}/children", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            if not os.path.exists("/proc/thread-self/children"):
                return None
            continue  # the thread has just ended
        try:
            text = b""
            while True:
                part = os.read(file, 1 << 16)
                text += part
                if not part:
                    break
        except OSError:
            pass
        finally:
            os.close(file)
        found.update(int(number) for number in text.split())
    return found


def _searched_children(parents):
    """By a look at every process of the machine."""
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
        if parent in parents:
            found.add(int(name))
    return found


def resident(pid):
    """Bytes in memory, those shared with other processes included; 0 for a process that has ended."""
    try:
        file = os.open(f"/proc/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        return int(os.read(file, 256).split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0
    finally:
        os.close(file)


def proportional(pid):
    """Bytes in memory, those that several processes share divided among them. Costs the kernel a walk over the whole memory."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return resident(pid)


class KernelKills:
    """Counts the processes that the kernel has killed in this process's control group because memory ran out.

    Where the group cannot be read (no control groups, no access) the count stays 0, and nobody claims to know.
    """

    def __init__(self, path=None):
        self._file = None
        for candidate in [path] if path else _memory_events():
            try:
                self._file = os.open(candidate, os.O_RDONLY | os.O_CLOEXEC)
                break
            except OSError:
                continue

    def count(self):
        if self._file is None:
            return 0
        try:
            for line in os.pread(self._file, 4096, 0).splitlines():
                name, _, number = line.partition(b" ")
                if name == b"oom_kill":
                    return int(number)
        except (OSError, ValueError):
            pass
        return 0

    def close(self):
        if self._file is not None:
            os.close(self._file)


def _memory_events():
    try:
        with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        # In a container the path may be the host's while the tree begins at the container's own group.
        for place in (path, ""):
            if controllers == "":
                yield f"/sys/fs/cgroup{place}/memory.events"
            elif "memory" in controllers.split(","):
                yield f"/sys/fs/cgroup/memory{place}/memory.oom_control"


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


def holds(pid, files):
    """Whether standard output or error of a process is one of some files, given as (device, inode)."""
    for descriptor in (1, 2):
        try:
            found = os.stat(f"/proc/{pid}/fd/{descriptor}")
        except OSError:
            continue
        if (found.st_dev, found.st_ino) in files:
            return True
    return False


def set_io_priority(text):
    """`idle`, or `best-effort:N` with N from 0 (first) to 7. Raises ValueError or OSError."""
    name, _, level = text.partition(":")
    if name not in _IOPRIO_CLASSES or not (level or "0").isdigit() or int(level or "0") > 7:
        raise ValueError(f"{text!r} is no I/O priority: give idle, or best-effort:0 to best-effort:7")
    if _IOPRIO_SET is None:
        raise OSError(f"I/O priorities are not known on {os.uname().machine}")
    if _libc.syscall(_IOPRIO_SET, 1, 0, _IOPRIO_CLASSES[name] << 13 | int(level or "0")) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def freeze(group, members):
    """Stops a group, and what `members()` finds outside it, until nothing new is found: what is stopped starts no more.

    Returns all that were found.
    """
    frozen = set()
    deadline = time.monotonic() + END_LIMIT
    while time.monotonic() < deadline:
        try:
            os.killpg(group, signal.SIGSTOP)
        except OSError:
            pass
        found = members() - frozen
        if not found:
            break
        for pid in found:
            send(pid, signal.SIGSTOP)
        frozen |= found
    return frozen


def send(pid, number):
    try:
        os.kill(pid, number)
    except OSError:
        pass  # it has ended, or is another user's program by now


END_LIMIT = 2.0
"""Seconds; a process that waits for a disk or a file server may take longer than that to die, and nobody shall wait for it."""


def end_children(is_doomed):
    """Kills and reaps the children for which `is_doomed(pid)`, and what they leave behind, generation by generation.

    Returns their usages (resource.struct_rusage).
    """
    usages = []
    deadline = time.monotonic() + END_LIMIT
    while time.monotonic() < deadline:
        doomed = {pid for pid in children() if is_doomed(pid)}
        if not doomed:
            break
        for pid in doomed:
            send(pid, signal.SIGKILL)
        for pid in doomed:
            usage = _reap(pid, deadline)
            if usage is not None:
                usages.append(usage)
    return usages


def _reap(pid, deadline):
    while True:
        try:
            found, _, usage = os.wait4(pid, os.WNOHANG)
        except ChildProcessError:
            return None
        if found == pid:
            return usage
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.001)
