"""The router's host: asks services' callbacks whether their jobs apply to an event.

The host imports callbacks' modules and runs nothing of them itself: each request is answered in a process that is forked for it
and ends with it. Whatever a callback keeps (a default that it changes, a cache, the environment, the current folder, a thread)
ends there too, and one patient's values never meet another's.
"""

import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import time

from . import frames, processes, services, values

OUTPUT_LIMIT = 16 * 1024
"""Bytes kept of what one callback prints: the last ones."""

BROKEN = 70


def serve(channel, settings):
    try:
        CallbackHost(channel, settings).serve()
    except ConnectionError:
        pass  # nobody listens any more


class CallbackHost:
    def __init__(self, channel, settings):
        self._channel = channel
        self._code = services.CodeStamp([settings["root"]])
        # Modules that start threads when they are imported: a fork would leave the threads behind.
        self._late = set(settings.get("late") or [])
        self._owner = os.getpid()
        processes.adopt_orphans()
        gc.disable()

    def serve(self):
        while True:
            request = self._channel.receive()
            if request is None:
                return
            if self._code.is_stale():
                self._channel.send({"type": "stale", "request": request["request"]})
                return
            if not self._evaluate(request):
                return

    def _evaluate(self, request):
        """Sends `asking` and `verdict` for each call, in order: a host that ends in between tells whose fault it was.

        Upstream kept one dictionary for the life of the process, and a patient's results reached another patient's study.
        Here everything a callback is given is its own copy, and `added` belongs to this request alone.

        Returns False when this host is of no more use.
        """
        number = request["request"]
        calls = request["calls"]
        added = dict(request["addedParams"])
        index = 0
        while index < len(calls):
            _forget_output()
            self._channel.send({"type": "asking", "request": number, "call": index})
            start = time.monotonic()
            was_ready = self._is_ready(calls[index])
            try:
                threads, failure = self._preload(calls[index]), None
            except BaseException as error:  # SystemExit too: a service must not end the host
                self._end_if_doubled()
                threads, failure = None, error
            if not was_ready and self._code.is_stale():
                # It changed under the import: what is loaded, or could not be, may be half the old code and half the new.
                self._channel.send({"type": "stale", "request": number})
                return False
            if failure is not None:
                self._channel.send(_verdict(number, index, start, values.failure(failure, skip=2)))
                index += 1
                continue
            if threads is not None:
                self._channel.send({"type": "threads", "request": number, "module": threads})
                return False
            # One process for the calls whose modules are here: for all of them once each has been asked.
            end = index + 1
            while end < len(calls) and self._is_ready(calls[end]):
                end += 1
            index = _Asked(self._channel, request, added, index, end, start).run()
            if index is None:
                return False
        self._channel.send({"type": "done", "request": number})
        return True

    def _is_ready(self, call):
        module = call["entry"].rpartition(".")[0]
        return module in sys.modules or module in self._late

    def _preload(self, call):
        """Imports a callback's module; what is wrong with its function is found where it is called.

        Returns the module's name when its import started threads.
        """
        module = call["entry"].rpartition(".")[0]
        if not module or self._is_ready(call):
            return None
        importlib.invalidate_caches()
        importlib.import_module(module)
        self._end_if_doubled()
        if processes.has_threads():
            return module
        processes.share_pages()
        return None

    def _end_if_doubled(self):
        if os.getpid() != self._owner:
            os._exit(BROKEN)  # a module forked and let its child come back: there must be one host


class _Asked:
    """Calls `first` to `end` of a request in a process of their own. The first one has been announced at `start`."""

    def __init__(self, channel, request, added, first, end, start):
        self._channel = channel
        self._request = request
        self._added = added
        self._call = first
        self._end = end
        self._start = start
        self._is_asking = True

    def run(self):
        """Returns the number of the first call that has no verdict yet; None when nobody listens any more."""
        known = processes.children()
        ours, theirs = socket.socketpair()
        host = os.getpid()
        for stream in (sys.stdout, sys.stderr):
            _flush(stream)
        try:
            pid = os.fork()
        except OSError as error:
            ours.close()
            theirs.close()
            self._give(values.failure(error))
            return self._call
        if pid == 0:
            try:
                ours.close()
                # The router's end must see this host's end, whatever a callback starts and leaves running.
                self._channel.connection.close()
                if processes.follow(host):
                    _answer(frames.FrameChannel(theirs), self._request, self._added, self._call, self._end)
                    os._exit(0)
            finally:
                os._exit(BROKEN)
        theirs.close()
        try:
            status = self._hear(pid, ours)
        finally:
            ours.close()
            # Also what has left its group: it may write to the output of the next patient's callbacks.
            processes.end_children(lambda child: child not in known)
        if status is None:
            return None
        if self._is_asking:
            self._give({
                "type": "CallbackHostEnded",
                "message": f"The callback {self._request['calls'][self._call]['entry']} ended its process: {_text(status)}.",
                "traceback": None,
            })
        return self._call

    def _hear(self, pid, ours):
        """Hands on what the process says until it ends. Returns its wait status; None when nobody listens any more."""
        router = self._channel.connection.fileno()
        poll = select.poll()
        poll.register(ours, select.POLLIN)
        poll.register(router, select.POLLRDHUP)
        answers = frames.FrameChannel(ours)
        is_heard = True
        while True:
            # The pause is for a process that has ended while something that it started holds its end of the socket open.
            ready = {file for file, _ in poll.poll(100)}
            if router in ready:
                is_heard = False
                break
            if ours.fileno() in ready:
                if not self._take(answers):
                    break
            elif os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                break
        # Usually it has ended. One that has closed its end or talks nonsense is of no more use.
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        return status if is_heard else None

    def _take(self, answers):
        """Returns False when there is nothing more to come."""
        try:
            messages = answers.receive_available()
            if messages is None:
                return False
            for message in messages:
                if message["type"] == "asking":
                    self._ask()
                elif self._is_asking:
                    self._give(message["error"], bool(message["accepted"]), dict(message["added"]), str(message["output"]))
        except (frames.ProtocolError, KeyError, TypeError, ValueError):
            return False  # a callback may write there what it likes
        return True

    def _ask(self):
        if self._is_asking or self._call >= self._end:
            raise ValueError("a call out of turn")
        self._is_asking = True
        self._start = time.monotonic()
        self._channel.send({"type": "asking", "request": self._request["request"], "call": self._call})

    def _give(self, error, accepted=False, added=None, output=None):
        if error is not None:
            error = {key: error[key] if error[key] is None else str(error[key]) for key in ("type", "message", "traceback")}
        verdict = _verdict(self._request["request"], self._call, self._start, error, accepted, added, output)
        if accepted:
            self._added[self._request["calls"][self._call]["jobName"]] = verdict["added"]
        self._channel.send(verdict)
        self._is_asking = False
        self._call += 1


def _verdict(request, call, start, error, accepted=False, added=None, output=None):
    return {
        "type": "verdict", "request": request, "call": call, "accepted": accepted, "added": added or {}, "error": error,
        "duration": time.monotonic() - start, "output": _output() if output is None else output,
    }


def _text(status):
    if os.WIFSIGNALED(status):
        return f"it was ended by signal {os.WTERMSIG(status)}"
    return f"it exited with status {os.WEXITSTATUS(status)}"


# In the process of a request


def _answer(channel, request, added, first, end):
    owner = os.getpid()
    gc.enable()
    processes.reseed()
    headers = json.dumps(request["headers"])
    for index in range(first, end):
        call = request["calls"][index]
        if index > first:
            _forget_output()
            channel.send({"type": "asking"})
        verdict = _call(call, json.loads(headers), json.loads(json.dumps(added)))
        if os.getpid() != owner:
            os._exit(BROKEN)  # the callback forked and let its child come back: there must be one answer
        if verdict["accepted"]:
            added[call["jobName"]] = verdict["added"]
        # Here, not in the host: by the time it reads this the next callback may be printing.
        channel.send({**verdict, "output": _output()})


def _call(call, headers, added):
    verdict = {"type": "verdict", "accepted": False, "added": {}, "error": None}
    try:
        function = services.resolve(call["entry"])
        arguments = {"jobName": call["jobName"], "headers": headers, "added_params": added, "params": call["params"]}
        if call.get("check"):
            services.check(function, call["entry"], arguments)
            return verdict
        answer = function(**arguments)
        verdict["accepted"], verdict["added"] = understood(answer)
    except BaseException as error:  # SystemExit too: the calls after it are to be asked
        verdict["error"] = values.failure(error)
    return verdict


def understood(answer):
    """Upstream's rules: a flag, or [flag], or [flag, dictionary]; an empty list is no; a second item that is no dictionary
    counts as an empty one."""
    added = {}
    if isinstance(answer, (list, tuple)):
        if len(answer) > 1 and isinstance(answer[1], dict):
            added = answer[1]
        answer = answer[0] if answer else False
    if not answer:
        return False, {}
    try:
        return True, json.loads(values.portable(added))
    except values.NotPortable as error:
        raise TypeError(f"the callback's dictionary cannot be handed to jobs: {error}") from None


# Output


def _forget_output():
    # Standard output is an unlinked file that the router also holds: what a callback printed before it
    # killed the host can still be read there.
    try:
        os.ftruncate(1, 0)
        os.lseek(1, 0, os.SEEK_SET)
    except OSError:
        pass


def _flush(stream):
    try:
        stream.flush()
    except (OSError, ValueError, AttributeError):
        pass


def _output():
    for stream in (sys.stdout, sys.stderr):
        _flush(stream)
    try:
        size = os.fstat(1).st_size
        kept = os.pread(1, OUTPUT_LIMIT, max(0, size - OUTPUT_LIMIT))
    except OSError:
        return ""
    text = kept.decode("utf-8", "backslashreplace")
    return text if size <= OUTPUT_LIMIT else f"({size - OUTPUT_LIMIT} bytes before) ...{text}"
