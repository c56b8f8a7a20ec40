"""A worker's host: imports one service's module once and forks a process for each job.

The host itself runs nothing of a job. It starts, watches, ends and reaps; what a job does to its own process, be it a crash,
stays there.
"""

import collections
import gc
import json
import os
import selectors
import signal
import socket
import sys
import time

from . import child, processes, services, values

DUMP_PAUSE = 0.3
"""Seconds between the dump of the stacks and SIGTERM: a dump takes milliseconds unless the machine is very busy."""

PROGRESS_INTERVAL = 0.2
"""Seconds between two messages of progress; what comes faster is dropped, the last one is kept."""

ARTIFACT_LIMIT = 1000

LOG_LIMIT = 256 * 1024 * 1024
"""Bytes of one job's log; the variable JOB_LOG_LIMIT says otherwise."""

LOG_GRACE = 1.0
"""Seconds at most between SIGTERM and SIGKILL of a job whose log is too long: it goes on filling the disk."""


def serve(channel, settings):
    JobHost(channel, settings).serve()


class JobHost:
    def __init__(self, channel, settings):
        self._channel = channel
        self._root = settings["root"]
        self._preload = settings.get("preload", True)
        self._import_limit = settings.get("importLimit") or 0
        service = settings.get("service")
        self._code = services.CodeStamp([os.path.join(self._root, service)] if service else [])
        self._jobs = {}
        self._is_prepared = False
        self._is_open = True
        self._log_limit = _log_limit()
        # What the module's import has started: it belongs to no job.
        self._own = set()
        processes.adopt_orphans()
        # An interpreter that only forks has nothing to collect, and a collection would copy the pages that it shares.
        gc.disable()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake_writer.fileno(), warn_on_full_buffer=False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(channel.connection, selectors.EVENT_READ, self._take_orders)
        self._selector.register(self._wake_reader, selectors.EVENT_READ, self._drain_wake)

    def serve(self):
        if self._channel.has_ready:
            self._take_orders()  # they came together with the greeting
        try:
            while self._is_open:
                for key, _ in self._selector.select(self._pause()):
                    key.data()
                self._reap()
                self._run_timers()
        finally:
            # Nobody is left who could hear of these jobs.
            for job in self._jobs.values():
                job.kill(signal.SIGKILL)
            processes.end_children(lambda pid: pid not in self._own)

    def _send(self, message):
        try:
            self._channel.send(message)
        except ConnectionError:
            self._is_open = False

    # Orders

    def _take_orders(self):
        messages = self._channel.receive_available()
        if messages is None:
            self._is_open = False
            return
        for message in messages:
            if message["type"] == "run":
                self._start(message)
            elif message["type"] == "stop" and message["job"] in self._jobs:
                self._jobs[message["job"]].stop(message["reason"])

    def _start(self, order):
        if self._code.is_stale():
            return self._refuse(order, "stale")
        try:
            log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        except OSError as error:
            return self._refuse(order, "resources", error)
        try:
            load = self._loader(order, log)
            if load is not None:
                self._fork(order, log, load)
        finally:
            os.close(log)

    def _loader(self, order, log):
        """What gives the job's function in the job's process; None when the order was refused here."""
        if not self._preload:
            return lambda: services.resolve(order["entry"])
        try:
            function = self._imported(order["entry"], log)
        except BaseException as error:
            self._refuse(order, "import", error)
            return None
        if not self._is_prepared:
            if processes.has_threads():
                self._refuse(order, "threads")
                return None
            self._code.include_loaded(self._root)
            processes.share_pages()
            self._own = processes.children()
            self._is_prepared = True
        return lambda: function

    def _imported(self, entry, log):
        """Resolves a function; what its import prints goes to the log of the job that caused it."""
        kept = [os.dup(1), os.dup(2)]
        # Without anybody left to end a hanging import, SIGALRM does.
        signal.setitimer(signal.ITIMER_REAL, self._import_limit)
        try:
            os.dup2(log, 1)
            os.dup2(log, 2)
            return services.resolve(entry)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for stream in (sys.stdout, sys.stderr):
                try:
                    stream.flush()
                except (OSError, ValueError):
                    pass
            for number, saved in enumerate(kept, start=1):
                os.dup2(saved, number)
                os.close(saved)

    def _refuse(self, order, reason, error=None):
        self._send({
            "type": "refused",
            "job": order["job"],
            "reason": reason,
            "error": None if error is None else values.failure(error, skip=2),
        })

    def _fork(self, order, log, load):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            ours.close()
            theirs.close()
            return self._refuse(order, "resources", error)
        if pid == 0:
            try:
                self._forget_everything()
                ours.close()
                child.run(order, theirs, log, load, parent)
            finally:
                os._exit(child.BROKEN)
        theirs.close()
        try:
            os.setpgid(pid, pid)  # here and in the child, because either may be first
        except OSError:
            pass
        ours.setblocking(False)
        job = _Job(order, pid, ours)
        self._jobs[job.name] = job
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._hear(job))
        self._send({"type": "started", "job": job.name, "pid": pid})

    def _forget_everything(self):
        """In the child: lets go of what belongs to the host."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        self._channel.connection.close()
        self._wake_reader.close()
        self._wake_writer.close()
        for job in self._jobs.values():
            job.channel.close()

    # Jobs

    def _hear(self, job):
        """Takes what the job has sent so far."""
        while job.is_listening:
            try:
                message = job.channel.recv(1 << 20)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if not message:
                self._selector.unregister(job.channel)
                job.channel.close()
                job.is_listening = False
                return
            try:
                job.take(json.loads(message))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                pass  # the channel is the job's own: what it writes there by itself is its own affair

    def _reap(self):
        for job in list(self._jobs.values()):
            try:
                if os.waitid(os.P_PID, job.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                    continue
            except ChildProcessError:
                pass  # a module that this host imported has reaped it
            # The leader is gone but not yet reaped, so its group's number cannot be anybody else's.
            job.kill(signal.SIGKILL)
            self._hear(job)
            self._report(job)
            if job.is_listening:
                self._selector.unregister(job.channel)
                job.channel.close()

    def _belongs(self, pid, job):
        """Whether a child is what a job that has ended left behind, in its group or outside."""
        if pid in self._own or any(pid == other.pid for other in self._jobs.values()):
            return False
        if not self._jobs or processes.is_zombie(pid):
            return True
        try:
            if os.getpgid(pid) == job.pid:
                return True
        except OSError:
            return True
        return f"{child.MARK}={job.name}".encode() in processes.environment(pid) or processes.holds(pid, job.log)

    def _report(self, job):
        try:
            _, status, usage = os.wait4(job.pid, 0)
        except ChildProcessError:
            status, usage = 0, None
        del self._jobs[job.name]
        processes.end_children(lambda pid: self._belongs(pid, job))
        job.progress_due = 0.0
        self._tell_progress(job)
        self._send({
            "type": "exited",
            "job": job.name,
            "code": os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
            "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else None,
            "stopped": job.stopped,
            "logLimit": self._log_limit,
            "ending": job.ending,
            "artifacts": job.artifacts,
            "usage": {
                "wall": time.monotonic() - job.started,
                "user": usage.ru_utime if usage else 0,
                "system": usage.ru_stime if usage else 0,
                "peakMemory": usage.ru_maxrss * 1024 if usage else 0,
            },
        })

    # Time

    def _pause(self):
        """Seconds until something is due, None for never. While jobs run it is bounded: a module may have taken SIGCHLD away."""
        due = [moment for job in self._jobs.values() for moment in job.due()]
        if not self._jobs:
            return None
        return max(0.0, min([0.5] + [moment - time.monotonic() for moment in due]))

    def _run_timers(self):
        now = time.monotonic()
        for job in self._jobs.values():
            if job.stopped is None and job.deadline is not None and now >= job.deadline:
                job.stop("timeout")
            elif job.stopped is None and job.log_size() > self._log_limit:
                job.stop("log")
            while job.steps and now >= job.steps[0][0]:
                job.kill(job.steps.popleft()[1])
            self._tell_progress(job)

    def _tell_progress(self, job):
        now = time.monotonic()
        if job.progress is not None and now >= job.progress_due:
            self._send({"type": "progress", "job": job.name, **job.progress})
            job.progress = None
            job.progress_due = now + PROGRESS_INTERVAL

    def _drain_wake(self):
        try:
            while self._wake_reader.recv(4096):
                pass
        except BlockingIOError:
            pass


class _Job:
    """A forked process, the leader of its group."""

    def __init__(self, order, pid, channel):
        self.name = order["job"]
        self.log = order["log"]
        self.pid = pid
        self.channel = channel
        self.is_listening = True
        self.started = time.monotonic()
        self.deadline = None if order.get("timeout") is None else self.started + order["timeout"]
        self.stopped = None
        self.steps = collections.deque()
        self.ending = None
        self.artifacts = []
        self.progress = None
        self.progress_due = 0.0
        self._grace = order["grace"]

    def take(self, message):
        if message["type"] == "ending":
            self.ending = message["ending"]
        elif message["type"] == "progress":
            self.progress = {"fraction": float(message["fraction"]), "text": message["text"]}
        elif message["type"] == "artifact" and len(self.artifacts) < ARTIFACT_LIMIT:
            self.artifacts.append({key: str(message[key]) for key in ("name", "path", "kind")})

    def stop(self, reason):
        """SIGTERM to the group, SIGKILL when the grace is over; before a timeout's SIGTERM the stacks are dumped into the log."""
        if self.stopped is not None:
            return
        self.stopped = reason
        now = time.monotonic()
        if reason == "timeout":
            # To the leader alone: for other programs of the group the signal would be deadly.
            try:
                os.kill(self.pid, signal.SIGUSR1)
            except OSError:
                pass
            now += DUMP_PAUSE
        self.steps.append((now, signal.SIGTERM))
        self.steps.append((now + (min(self._grace, LOG_GRACE) if reason == "log" else self._grace), signal.SIGKILL))

    def log_size(self):
        try:
            return os.stat(self.log).st_size
        except OSError:
            return 0

    def kill(self, number):
        try:
            os.killpg(self.pid, number)
        except OSError:
            pass

    def due(self):
        if self.stopped is None and self.deadline is not None:
            yield self.deadline
        if self.steps:
            yield self.steps[0][0]
        if self.progress is not None:
            yield self.progress_due


def _log_limit():
    text = os.environ.get("JOB_LOG_LIMIT") or str(LOG_LIMIT)
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        sys.exit(f"JOB_LOG_LIMIT is {text!r}: give the bytes that one job's log may have, for example {LOG_LIMIT}")
    return int(text)
