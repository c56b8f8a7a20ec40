"""A worker's host: imports one service's module once and forks a process for each job.

The host itself runs nothing of a job. It starts, watches, ends and reaps; what a job does to its own process, be it a crash,
stays there. It also reads what the job prints (see `logs`).

One process is forked ahead of the next order, when there is nothing else to do, so that the fork costs the next job no time.
"""

import collections
import gc
import json
import os
import select
import signal
import socket
import sys
import time

from . import child, frames, logs, processes, services, values

DUMP_PAUSE = 0.3
"""Seconds between the dump of the stacks and SIGTERM: a dump takes milliseconds unless the machine is very busy."""

PROGRESS_INTERVAL = 0.2
"""Seconds between two messages of progress; what comes faster is dropped, the last one is kept."""

ARTIFACT_LIMIT = 1000

MESSAGE_LIMIT = 10_000
"""Messages heard after a job's end. Its socket holds fewer; more come only from a program that could not be killed."""

ENDINGS = ("result", "exception", "memory", "broken")

LOOK_INTERVAL = 0.5
"""Seconds between two looks at a job's processes, at least."""

LOOK_COST = 0.001
"""The share of time that looks may take: a job with hundreds of processes is looked at less often."""

LOOK_PATIENCE = 5.0
"""Seconds between two looks, at most."""

SPARE_PATIENCE = 30.0
"""Seconds that a process waits for an order before it goes: an idle host is one process."""

SPARE_ORDER_LIMIT = 64 * 1024
"""Bytes of an order that a waiting process can be sent in one message; a longer one is inherited by a new process."""

FORK_LIMIT = 10_000
"""Forks of one host. What leaks in an interpreter that only forks is little, but nobody has tested it for a year."""

GROWTH_LIMIT = 256 * 1024 * 1024
GROWTH_FACTOR = 1.5
GROWTH_FLOOR = 32 * 1024 * 1024
"""Bytes that a host may have above what it had after its import: each fork copies the tables of all of it."""

WEAR_INTERVAL = 16
"""Forks between two looks at the host's own size."""

PROTOCOL_ERROR = 76
"""The exit status of a host that was told what it does not understand."""


def serve(channel, settings):
    logs.open_streams()
    try:
        JobHost(channel, settings).serve()
    except (frames.ProtocolError, KeyError, TypeError, ValueError, AttributeError) as error:
        import traceback

        traceback.print_exc()
        print(f"The host of jobs ends: it was told what it does not understand ({type(error).__name__}: {error}).", file=sys.stderr)
        sys.exit(PROTOCOL_ERROR)


class JobHost:
    def __init__(self, channel, settings):
        self._channel = channel
        self._root = settings["root"]
        self._preload = settings.get("preload", True)
        self._import_limit = settings.get("importLimit") or 0
        service = settings.get("service")
        self._code = services.CodeStamp([os.path.join(self._root, service)] if service else [])
        self._jobs = {}
        self._functions = {}
        self._is_open = True
        self._log_limit = _setting("JOB_LOG_LIMIT", 64 * 1024 * 1024, "the bytes that one job's log may have")
        self._log_rate = _setting("JOB_LOG_RATE", 32 * 1024 * 1024, "the bytes of a job's output that are read in a second")
        self._process_limit = _setting("JOB_PROCESSES", 1000, "the processes that one job may have")
        self._fork_limit = settings.get("forkLimit") or FORK_LIMIT
        self._growth_limit = settings.get("growthLimit") or GROWTH_LIMIT
        self._spare_patience = settings.get("sparePatience") or SPARE_PATIENCE
        self._forks = 0
        self._size = 0
        self._spare = None
        self._wants_spare = False
        # What the module's import has started: it belongs to no job.
        self._own = set()
        self._kills = processes.KernelKills()
        processes.adopt_orphans()
        # An interpreter that only forks has nothing to collect, and a collection would copy the pages that it shares.
        gc.disable()
        processes.share_pages()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake_writer.fileno(), warn_on_full_buffer=False)
        self._has_news = False
        self._poll = select.epoll()
        self._handlers = {}
        self._listen(channel.connection.fileno(), self._take_orders)
        self._listen(self._wake_reader.fileno(), self._drain_wake)

    def serve(self):
        if self._channel.has_ready:
            self._take_orders()  # they came together with the greeting
        try:
            while self._is_open:
                events = self._poll.poll(0 if self._wants_spare else self._pause())
                for file, _ in events:
                    handler = self._handlers.get(file)
                    if handler is not None:  # the event before may have closed it
                        handler()
                if self._jobs:
                    self._reap()
                    self._run_timers()
                if not events:
                    self._tend_spare()
        finally:
            # Nobody is left who could hear of these jobs.
            self._drop_spare()
            for job in self._jobs.values():
                job.kill(signal.SIGKILL)
            processes.end_children(lambda pid: pid not in self._own)

    def _send(self, message):
        try:
            self._channel.send(message)
        except ConnectionError:
            self._is_open = False

    def _listen(self, file, handler):
        self._poll.register(file, select.EPOLLIN)
        self._handlers[file] = handler

    def _ignore(self, file):
        if self._handlers.pop(file, None) is not None:
            self._poll.unregister(file)

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
        if self._is_worn():
            return self._refuse(order, "worn")
        try:
            file = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        except OSError as error:
            return self._refuse(order, "resources", error)
        log = logs.JobLog(order["log"], file, self._log_limit, self._log_rate)
        if self._preload and not order.get("command") and order["entry"] not in self._functions and not self._load(order, file):
            return log.close()
        if order.get("processes") is None:
            order["processes"] = self._process_limit
        process = self._take_spare(order)
        if process is None:
            try:
                process = self._fork(order, log)
            except OSError as error:
                log.close()
                return self._refuse(order, "resources", error)
        self._wants_spare = True
        log.attach(process.outputs, order.get("command") is not None)
        job = _Job(order, process, log, self._kills.count())
        self._jobs[job.name] = job
        self._listen(job.channel.fileno(), lambda: self._hear(job))
        for pipe in process.outputs:
            self._listen(pipe, lambda pipe=pipe: self._read(job, pipe))
        self._send({"type": "started", "job": job.name, "pid": job.pid})

    def _load(self, order, log):
        """Finds a function that was not asked for before, which imports its module when it is the first.

        Returns False when the order was refused.
        """
        # From here on it is the import that takes its time, no longer a machine that has no time for us.
        self._send({"type": "importing", "job": order["job"]})
        try:
            function = self._imported(order["entry"], log)
            taken = child.accepted(function)
        except BaseException as error:
            if self._code.is_stale():
                self._refuse(order, "stale")
            else:
                self._refuse(order, "import", error)
            return False
        if self._code.is_stale():
            # It changed under the import: what is loaded may be half the old code and half the new.
            self._refuse(order, "stale")
            return False
        if not self._functions:
            if processes.has_threads():
                self._refuse(order, "threads")
                return False
            self._code.include_loaded(self._root)
            processes.share_pages()
            self._own = processes.children()
        # A process that waits does not know the function, nor what looking it up has imported.
        self._drop_spare()
        self._functions[order["entry"]] = (function, taken)
        self._size = self._size or processes.resident(os.getpid())
        return True

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
                except (OSError, ValueError, AttributeError):
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
            "tail": logs.tail_of_file(order["log"]) if reason == "import" else None,
        })

    def _is_worn(self):
        """Whether this host shall be followed by a new one, which costs one import.

        Each fork copies the tables of the host's whole memory, so a host that has grown makes every job slower; and what leaks in
        it (an interpreter, a library's fork handlers) would stay for as long as the worker runs.
        """
        if self._forks >= self._fork_limit:
            return True
        if not self._size or self._forks % WEAR_INTERVAL != 0:
            return False
        growth = processes.resident(os.getpid()) - self._size
        return growth > self._growth_limit or growth > max(GROWTH_FLOOR, self._size * (GROWTH_FACTOR - 1))

    # Processes

    def _fork(self, order, log=None):
        """A process for an order, or for the next one when that is None. Raises OSError."""
        host = os.getpid()
        opened = []
        try:
            pipes = []
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            opened += [ours, theirs]
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            for _ in range(2):
                pipes += os.pipe2(os.O_CLOEXEC)
            self._forks += 1
            sdk = child.sdk()
            if sdk is not None:
                sdk._open_log()
            # The collector of the new process has nothing to look through then, and copies no page for it.
            gc.freeze()
            pid = os.fork()
        except OSError:
            for end in opened:
                end.close()
            for end in pipes:
                os.close(end)
            raise
        readers, writers = pipes[::2], pipes[1::2]
        if pid == 0:
            try:
                self._forget_everything()
                if log is not None:
                    log.abandon()
                ours.close()
                for reader in readers:
                    os.close(reader)
                child.run(theirs, writers, host, self._functions, order)
            finally:
                os._exit(child.BROKEN)
        theirs.close()
        for writer in writers:
            os.close(writer)
        try:
            os.setpgid(pid, pid)  # here and in the child, because either may be first
        except OSError:
            pass
        ours.setblocking(False)
        for reader in readers:
            os.set_blocking(reader, False)
        return _Process(pid, ours, readers)

    def _forget_everything(self):
        """In the child: lets go of what belongs to the host."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._poll.close()
        self._channel.connection.close()
        self._wake_reader.close()
        self._wake_writer.close()
        self._kills.close()
        for job in self._jobs.values():
            job.channel.close()
            job.log.abandon()

    def _take_spare(self, order):
        """The process that waits, with its order; None when there is none that can take it."""
        spare, self._spare = self._spare, None
        if spare is None:
            return None
        data = child.encode(order)
        if len(data) <= SPARE_ORDER_LIMIT:
            try:
                spare.channel.send(data)
                return spare
            except OSError:
                pass  # somebody has killed it
        self._end_spare(spare)
        return None

    def _tend_spare(self):
        """When there is nothing else to do: forks the next job's process, or lets it go when no job comes."""
        if self._wants_spare:
            self._wants_spare = False
            if self._spare is None and (self._functions or not self._preload):
                try:
                    self._spare = self._fork(None)
                    self._spare.expires = time.monotonic() + self._spare_patience
                except OSError:
                    pass  # then the next job is told why
        elif self._spare is not None and time.monotonic() >= self._spare.expires:
            self._drop_spare()

    def _drop_spare(self):
        spare, self._spare = self._spare, None
        if spare is not None:
            self._end_spare(spare)

    @staticmethod
    def _end_spare(spare):
        processes.send(spare.pid, signal.SIGKILL)
        try:
            os.waitpid(spare.pid, 0)
        except ChildProcessError:
            pass
        spare.channel.close()
        for pipe in spare.outputs:
            os.close(pipe)

    # Jobs

    def _hear(self, job):
        """Takes one message of the job. Returns whether there was one."""
        try:
            message = job.channel.recv(1 << 20)
        except BlockingIOError:
            return False
        except OSError:
            message = b""
        if not message:
            self._close_channel(job)
            return False
        try:
            job.take(json.loads(message))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            pass  # the channel is the job's own: what it writes there by itself is its own affair
        return True

    def _close_channel(self, job):
        if job.is_listening:
            self._ignore(job.channel.fileno())
            job.channel.close()
            job.is_listening = False

    def _read(self, job, pipe):
        if job.log.read(pipe):
            return
        if job.log.resumes is None:
            self._ignore(pipe)
            job.log.forget(pipe)
            return
        # Too fast: all its output rests, and the job waits in its next write.
        for pipe in job.log.pipes:
            self._ignore(pipe)

    def _resume(self, job):
        job.log.resumes = None
        for pipe in job.log.pipes:
            self._listen(pipe, lambda pipe=pipe: self._read(job, pipe))

    def _reap(self):
        now = time.monotonic()
        # A module may have taken SIGCHLD away: each look asks too.
        if not self._has_news and not any(now >= job.look_due for job in self._jobs.values()):
            return
        self._has_news = False
        for job in list(self._jobs.values()):
            try:
                if os.waitid(os.P_PID, job.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                    continue
            except ChildProcessError:
                pass  # a module that this host imported has reaped it
            # The leader is gone but not yet reaped, so its group's number cannot be anybody else's.
            job.kill(signal.SIGKILL)
            self._report(job)

    def _is_ours(self, pid):
        """Whether a child is no leftover of any job."""
        return pid in self._own or (self._spare is not None and pid == self._spare.pid) or any(
            pid == job.pid for job in self._jobs.values()
        )

    def _belongs(self, pid, job):
        """Whether a child that has lost its parent comes from a job, in its group or outside."""
        try:
            if os.getpgid(pid) == job.pid:
                return True
        except OSError:
            return True
        return f"{child.MARK}={job.name}".encode() in processes.environment(pid) or processes.holds(pid, job.log.files())

    def _is_leftover(self, pid, job):
        """Whether a child is what a job that has ended left behind."""
        if self._is_ours(pid):
            return False
        return not self._jobs or processes.is_zombie(pid) or self._belongs(pid, job)

    def _report(self, job):
        try:
            _, status, usage = os.wait4(job.pid, 0)
            job.count(usage)
        except ChildProcessError:
            status = 0
        del self._jobs[job.name]
        for usage in processes.end_children(lambda pid: self._is_leftover(pid, job)):
            job.count(usage)
        for _ in range(MESSAGE_LIMIT):
            if not job.is_listening or not self._hear(job):
                break
        self._close_channel(job)
        for pipe in job.log.pipes:
            self._ignore(pipe)
        job.log.drain()
        job.log.close()
        job.progress_due = 0.0
        self._tell_progress(job)
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        exited = {
            "type": "exited",
            "job": job.name,
            "code": os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
            "signal": number,
            "stopped": job.stopped,
            "ending": job.ending,
            "artifacts": job.artifacts,
            "tail": job.log.tail(),
            "usage": {
                "wall": time.monotonic() - job.started,
                "user": job.user,
                "system": job.system,
                "peakMemory": job.peak,
            },
        }
        if job.log.output is not None:
            exited["output"] = job.log.output.decode("utf-8", "replace")
        if job.excess is not None:
            exited["excess"] = job.excess
        if number == signal.SIGKILL and job.stopped is None and self._kills.count() > job.kills:
            exited["kernelKilled"] = True
        self._send(exited)
        self._wants_spare = True

    # Time

    def _pause(self):
        """Seconds until something is due, None for never. While jobs run it is bounded: a module may have taken SIGCHLD away."""
        due = [moment for job in self._jobs.values() for moment in job.due()]
        if self._spare is not None:
            due.append(self._spare.expires)
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _run_timers(self):
        now = time.monotonic()
        for job in self._jobs.values():
            if job.stopped is None and job.deadline is not None and now >= job.deadline:
                job.stop("timeout")
            while job.steps and now >= job.steps[0][0]:
                job.kill(job.steps.popleft()[1])
            if job.log.resumes is not None and now >= job.log.resumes:
                self._resume(job)
            if now >= job.look_due:
                self._look(job)
            if job.progress is not None:
                self._tell_progress(job)

    def _tell_progress(self, job):
        now = time.monotonic()
        if job.progress is not None and now >= job.progress_due:
            self._send({"type": "progress", "job": job.name, **job.progress})
            job.progress = None
            job.progress_due = now + PROGRESS_INTERVAL

    def _drain_wake(self):
        self._has_news = True
        try:
            self._wake_reader.recv(4096)
        except BlockingIOError:
            pass

    # What a job uses

    def _members(self, job):
        """All processes of a job that can be told to be its own."""
        found = {job.pid} | processes.descendants(job.pid)
        for pid in processes.children():
            if not self._is_ours(pid) and not processes.is_zombie(pid) and self._belongs(pid, job):
                found |= {pid} | processes.descendants(pid)
        return found

    def _look(self, job):
        """Measures a job's processes, and ends them when they are too many or too large."""
        start = time.thread_time()
        members = self._members(job)
        size = sum(processes.resident(pid) for pid in members)
        if len(members) > 1 and (size > job.peak or (job.memory is not None and size > job.memory)):
            # Forked processes share pages, which the sum counts once for each of them.
            size = sum(processes.proportional(pid) for pid in members)
        job.peak = max(job.peak, size)
        if job.stopped is None and job.memory is not None and size > job.memory:
            job.exceed("memory", {"memory": size, "limit": job.memory})
            self._destroy(job)
        elif len(members) > job.processes and job.stopped != "memory":
            # Also one that is being ended for something else: until its grace is over nobody else could work.
            job.exceed("processes", {"processes": len(members), "limit": job.processes})
            self._destroy(job)
        cost = time.thread_time() - start
        job.look_due = time.monotonic() + min(LOOK_PATIENCE, max(LOOK_INTERVAL, cost / LOOK_COST))

    def _destroy(self, job):
        """Ends a job at once. First nothing of it moves any more: one process that is killed lets another one be born."""
        for pid in processes.freeze(job.pid, lambda: self._members(job)):
            processes.send(pid, signal.SIGKILL)
        job.kill(signal.SIGKILL)


class _Process:
    """A forked process and our ends of what connects us."""

    def __init__(self, pid, channel, outputs):
        self.pid = pid
        self.channel = channel
        self.outputs = outputs
        self.expires = 0.0


class _Job:
    """A process with an order, the leader of its group."""

    def __init__(self, order, process, log, kills):
        self.name = order["job"]
        self.log = log
        self.pid = process.pid
        self.channel = process.channel
        self.is_listening = True
        self.started = time.monotonic()
        self.deadline = None if order.get("timeout") is None else self.started + order["timeout"]
        self.memory = order.get("memory")
        self.processes = order["processes"]
        self.stopped = None
        self.excess = None
        self.steps = collections.deque()
        self.ending = None
        self.artifacts = []
        self.progress = None
        self.progress_due = 0.0
        self.look_due = self.started + LOOK_INTERVAL
        self.kills = kills
        self.peak = 0
        self.user = 0.0
        self.system = 0.0
        self._grace = order["grace"]
        self._is_program = order.get("command") is not None

    def take(self, message):
        """Raises for what our starter could not read: it would end this host, and all its jobs, for the nonsense of one."""
        if message["type"] == "ending":
            ending = {key: message["ending"][key] for key in ("kind", "value", "error") if key in message["ending"]}
            values.portable(ending.get("value"))
            if ending.get("error") is not None:
                ending["error"] = {key: ending["error"][key] for key in ("type", "message", "traceback")}
            texts = [ending["kind"], *(ending.get("error") or {}).values()]
            if ending["kind"] not in ENDINGS or not all(text is None or isinstance(text, str) for text in texts):
                raise ValueError("no ending of ours")
            self.ending = ending
        elif message["type"] == "progress":
            progress = {"fraction": float(message["fraction"]), "text": message["text"]}
            if not 0 <= progress["fraction"] <= 1 or not isinstance(progress["text"], (str, type(None))):
                raise ValueError("no progress of ours")
            self.progress = progress
        elif message["type"] == "artifact" and len(self.artifacts) < ARTIFACT_LIMIT:
            self.artifacts.append({key: str(message[key]) for key in ("name", "path", "kind")})

    def count(self, usage):
        """Adds what a process has used, with those that it has waited for."""
        self.user += usage.ru_utime
        self.system += usage.ru_stime
        self.peak = max(self.peak, usage.ru_maxrss * 1024)

    def stop(self, reason):
        """SIGTERM to the group, SIGKILL when the grace is over; before a timeout's SIGTERM the stacks are dumped into the log."""
        if self.stopped is not None:
            return
        self.stopped = reason
        now = time.monotonic()
        if reason == "timeout" and not self._is_program:
            # To the leader alone: for other programs of the group, and for a command, the signal would be deadly.
            processes.send(self.pid, signal.SIGUSR1)
            now += DUMP_PAUSE
        self.steps.append((now, signal.SIGTERM))
        self.steps.append((now + self._grace, signal.SIGKILL))

    def exceed(self, reason, excess):
        if self.stopped is None:
            self.stopped = reason
            self.excess = excess

    def kill(self, number):
        try:
            os.killpg(self.pid, number)
        except OSError:
            pass

    def due(self):
        yield self.look_due
        if self.stopped is None and self.deadline is not None:
            yield self.deadline
        if self.steps:
            yield self.steps[0][0]
        if self.progress is not None:
            yield self.progress_due
        if self.log.resumes is not None:
            yield self.log.resumes


def _setting(name, default, meaning):
    text = os.environ.get(name) or str(default)
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        sys.exit(f"{name} is {text!r}: give {meaning}, for example {default}")
    return int(text)
