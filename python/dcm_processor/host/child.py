"""What happens in the process of one job."""

import errno
import faulthandler
import gc
import inspect
import json
import os
import signal
import sys
import traceback

from .. import job as sdk
from . import processes, values

RESULT_LIMIT = 128 * 1024
"""Bytes of a result as JSON."""

MARK = "DCM_JOB_TOKEN"
"""By this variable the host knows whose a program is that has left its job's group."""

RAISED = 1
BROKEN = 70


class _Terminated(SystemExit):
    """SIGTERM as an exception, so that `finally` and `with` of the job's code clean up."""


def run(order, channel, log, load, parent):
    """Runs the job and ends the process."""
    _settle(order, log, parent)
    sdk._attach(channel, order["data"], order["workdir"])
    ending, status = _outcome(order, load)
    _tell(channel, ending)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass
    # Not exit(): handlers that the warm interpreter registered are not the job's.
    os._exit(status)


def _settle(order, log, parent):
    os.setpgid(0, 0)
    if not processes.follow(parent):
        os._exit(BROKEN)  # the host ended before the line above
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
        except (AttributeError, ValueError, OSError):
            pass  # replaced by the service's module
    faulthandler.enable(file=2)
    faulthandler.register(signal.SIGUSR1, file=2, all_threads=True)
    signal.signal(signal.SIGTERM, _terminated)
    os.environ.update(order["environment"])
    os.environ[MARK] = order["job"]
    os.chdir(order["workdir"])
    gc.enable()
    processes.reseed()


def _terminated(*_):
    raise _Terminated(128 + signal.SIGTERM)


def _outcome(order, load):
    """(ending, exit status); no ending when the function ended the process instead of returning."""
    try:
        function = load()
    except BaseException as error:
        _print(error)
        return {"kind": "broken", "error": values.failure(error)}, RAISED
    try:
        return {"kind": "result", "value": values.result(function(**arguments(function, order)), RESULT_LIMIT)}, 0
    except _Terminated:
        # Ends as if the signal had not been caught, so that whoever waits sees what it was.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
        return None, 128 + signal.SIGTERM
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return None, (error.code or 0) & 0xFF
        print(error.code, file=sys.stderr)
        return None, 1
    except BaseException as error:
        _print(error)
        return {"kind": "memory" if isinstance(error, MemoryError) else "exception", "error": values.failure(error)}, RAISED


def arguments(function, order):
    """Upstream's four by keyword; attempt, runId and workdir for functions that take them."""
    given = {
        "jobName": order["jobName"],
        "headers": order["headers"],
        "params": order["params"],
        "added_params": order["addedParams"],
    }
    more = {"attempt": order["attempt"], "runId": order["runId"], "workdir": order["workdir"]}
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return given  # written in C
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return {**given, **more}
    return {**given, **{name: value for name, value in more.items() if name in parameters}}


def _print(error):
    try:
        trace = error.__traceback__
        traceback.print_exception(type(error), error, trace.tb_next if trace else None)
    except BaseException:
        pass  # a closed or replaced stderr; the ending carries the same text


def _tell(channel, ending):
    if ending is None:
        return
    try:
        channel.send(_message(ending))
    except OSError as error:
        if error.errno != errno.EMSGSIZE:
            return
        # Text that JSON has to escape may outgrow what one message holds.
        failure = ending.get("error")
        if failure is None:
            ending = {**ending, "value": None}
        else:
            short = {key: values.clipped_front(failure[key], 4096) for key in ("type", "message", "traceback")}
            ending = {**ending, "error": short}
        try:
            channel.send(_message(ending))
        except OSError:
            pass


def _message(ending):
    return json.dumps({"type": "ending", "ending": ending}, ensure_ascii=False).encode("utf-8", "replace")
