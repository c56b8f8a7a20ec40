"""What happens in the process of one job."""

import errno
import faulthandler
import gc
import json
import marshal
import os
import resource
import signal
import sys

from . import processes, services, values

RESULT_LIMIT = 128 * 1024
"""Bytes of a result as JSON."""

MARK = "DCM_JOB_TOKEN"
"""By this variable the host knows whose a program is that has left its job's group."""

RAISED = 1
BROKEN = 70

RESERVE = 256 * 1024 * 1024
"""Bytes of address space that a job may have above its memory: stacks of threads and the like are mostly never touched."""

_VARIABLE_KEYWORDS = 0x08
"""inspect.CO_VARKEYWORDS; inspect itself costs an idle host a megabyte."""


class _Terminated(SystemExit):
    """SIGTERM as an exception, so that `finally` and `with` of the job's code clean up."""


def run(channel, outputs, host, functions, order):
    """Runs a job and ends the process.

    outputs: the writing ends of the pipes for standard output and error.
    functions: what the host has found already, by entry: the function and what it takes (`accepted`).
    order: None for a process that was forked ahead of its job; it then waits for the order on the channel.
    """
    _settle(outputs, host)
    if order is None:
        order = _receive(channel)
    _prepare(order)
    _attach(channel, order["data"], order["workdir"], order.get("checkpoint"))
    ending, status = _outcome(order, functions)
    _tell(channel, ending)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass
    # Not exit(): handlers that the warm interpreter registered are not the job's.
    os._exit(status)


def sdk():
    """The module of the SDK; None unless the service has imported it."""
    return sys.modules.get("dcm_processor.job")


def _attach(*arguments):
    module = sdk()
    if module is None:
        sys.modules["dcm_processor"]._waiting = arguments
    else:
        module._attach(*arguments)


def encode(order):
    """An order for a process that waits. Not JSON: this is quicker, and both sides are the same interpreter."""
    return marshal.dumps(order)


def _receive(channel):
    try:
        data = channel.recv(1 << 20)
    except OSError:
        data = b""
    if not data:
        os._exit(0)  # the host has no use for this process
    return marshal.loads(data)


def _settle(outputs, host):
    """What can be done before the order is known."""
    os.setpgid(0, 0)
    if not processes.follow(host):
        os._exit(BROKEN)  # the host ended before the line above
    for number, output in enumerate(outputs, start=1):
        os.dup2(output, number)
        os.close(output)
    faulthandler.enable(file=2)
    faulthandler.register(signal.SIGUSR1, file=2, all_threads=True)
    signal.signal(signal.SIGTERM, _terminated)
    processes.reseed()


def _prepare(order):
    os.environ.update(order["environment"])
    os.environ[MARK] = order["job"]
    os.chdir(order["workdir"])
    memory = order.get("memory")
    if memory is not None:
        _limit(resource.RLIMIT_DATA, memory + RESERVE)
    if os.geteuid() != 0 and order.get("processes") is not None:
        # The kernel counts all threads of the user, those of other jobs too: only a bomb meets this limit.
        _limit(resource.RLIMIT_NPROC, processes.all_threads() + order["processes"])
    try:
        if order.get("nice"):
            os.nice(order["nice"])
        if order.get("ionice"):
            processes.set_io_priority(order["ionice"])
    except (OSError, ValueError) as error:
        print(f"DCM Processor could not set the job's priority: {error}", file=sys.stderr)
    gc.enable()


def _limit(kind, value):
    soft, hard = resource.getrlimit(kind)
    for known in (soft, hard):
        if known != resource.RLIM_INFINITY:
            value = min(value, known)
    resource.setrlimit(kind, (value, value))


def _terminated(*_):
    module = sdk()
    if module is None or not module._defer_stop():
        raise _Terminated(128 + signal.SIGTERM)


def _outcome(order, functions):
    """(ending, exit status); no ending when the function ended the process instead of returning."""
    try:
        function, taken = _function(order, functions)
        if order.get("check"):
            services.check(function, order["entry"], arguments(taken, order))
            return {"kind": "result", "value": None}, 0
    except BaseException as error:
        _print(error)
        return {"kind": "broken", "error": values.failure(error, skip=2)}, RAISED
    try:
        value = function(**arguments(taken, order))
        module = sdk()
        if module is not None and module._has_stopped():
            raise _Terminated
        return {"kind": "result", "value": values.result(value, RESULT_LIMIT)}, 0
    except _Terminated:
        return _terminate()
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return None, (error.code or 0) & 0xFF
        print(error.code, file=sys.stderr)
        return None, 1
    except BaseException as error:
        _print(error)
        return {"kind": "memory" if isinstance(error, MemoryError) else "exception", "error": values.failure(error)}, RAISED


def _terminate():
    """Ends as if the signal had not been caught, so that whoever waits sees what it was."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)
    return None, 128 + signal.SIGTERM


def _function(order, functions):
    if order.get("command"):
        from . import commands  # not in every host

        commands.execute(order)
    known = functions.get(order["entry"])
    if known is not None:
        return known
    function = services.resolve(order["entry"])
    return function, accepted(function)


def accepted(function):
    """The names of the arguments that a function takes by keyword; None when it takes any."""
    code = getattr(function, "__code__", None)
    if type(function).__name__ == "function" and not hasattr(function, "__wrapped__") and not hasattr(function, "__signature__"):
        if code.co_flags & _VARIABLE_KEYWORDS:
            return None
        return frozenset(code.co_varnames[:code.co_argcount + code.co_kwonlyargcount])
    import inspect

    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return frozenset()  # written in C
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return None
    return frozenset(parameters)


def arguments(taken, order):
    """Upstream's four by keyword; attempt, runId and workdir for functions that take them."""
    given = {
        "jobName": order["jobName"],
        "headers": order["headers"],
        "params": order["params"],
        "added_params": order["addedParams"],
    }
    for name in ("attempt", "runId", "workdir"):
        if taken is None or name in taken:
            given[name] = order[name]
    return given


def _print(error):
    try:
        import traceback

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
