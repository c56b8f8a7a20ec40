"""Jobs that are any program: the job's process becomes the program.

What the program is told: the job as JSON on its standard input and in the file `job.json` of its working folder, and the simple
fields in environment variables. Nothing that may be a patient's goes into the environment, which other users' programs can see.
"""

import errno
import json
import os
import signal

JOB_FILE = "job.json"

OUTPUTS = "outputs"
"""What a program leaves in this folder of its working folder is kept when it succeeds."""


class CannotStart(Exception):
    """The program is not there, or the system refuses to run it: trying again cannot help until somebody mends it."""


def execute(order):
    """Turns this process into the order's program. Does not return; raises CannotStart.

    The order's `command` is the program and its arguments; a program without a slash is looked for in PATH. The working folder is the
    current one. Needs nothing else of the host: descriptors 1 and 2, limits and the group are as they shall be.
    """
    program, *arguments = order["command"]
    variables = environment(order)
    path = find(program, variables.get("PATH", os.defpath))
    os.makedirs(os.path.join(order["workdir"], OUTPUTS), exist_ok=True)
    job_file = os.path.join(order["workdir"], JOB_FILE)
    # Headers are a patient's.
    with open(os.open(job_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
        json.dump(document(order), file)
    source = os.open(job_file, os.O_RDONLY)
    os.dup2(source, 0)
    os.close(source)
    _restore_signals()
    try:
        os.execve(path, [program, *arguments], variables)
    except OSError as error:
        raise CannotStart(_reason(path, error)) from None


def document(order):
    """What the program gets to read: upstream's arguments and what is ours."""
    return {
        "jobName": order["jobName"],
        "headers": order["headers"],
        "params": order["params"],
        "added_params": order["addedParams"],
        "attempt": order["attempt"],
        "runId": order["runId"],
        "workdir": order["workdir"],
        "data": order["data"],
        "dcmpath": _dcmpath(order),
        "outputs": os.path.join(order["workdir"], OUTPUTS),
        "runOutputs": order["environment"].get("DCM_RUN_OUTPUTS"),
    }


def environment(order):
    """The job's own environment and the simple fields. Names and paths of ours alone: a process's environment is no secret."""
    variables = dict(os.environ)
    variables.update(order["environment"])
    variables.update({
        "DCM_JOB_NAME": order["jobName"],
        "DCM_RUN_ID": order["runId"],
        "DCM_ATTEMPT": str(order["attempt"]),
        "DCM_WORKDIR": order["workdir"],
        "DCM_JOB_FILE": os.path.join(order["workdir"], JOB_FILE),
        "DCM_OUTPUTS": os.path.join(order["workdir"], OUTPUTS),
        "DCM_DATA": order["data"],
    })
    dcmpath = _dcmpath(order)
    if dcmpath:
        variables["DCM_DCMPATH"] = dcmpath
        variables["DCM_IMAGES"] = os.path.join(order["data"], dcmpath)
    return variables


def _dcmpath(order):
    headers = order["headers"]
    path = headers.get("dcmpath") if isinstance(headers, dict) else None
    return path if isinstance(path, str) and "\0" not in path else None


def find(program, path):
    """The file that `program` names; raises CannotStart with the cure."""
    if "/" in program:
        return _checked(program)
    for folder in path.split(os.pathsep):
        candidate = os.path.join(folder or ".", program)
        if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return os.path.abspath(candidate)
    raise CannotStart(f"the program {program!r} is in no folder of PATH ({path}): install it on this worker, or give its path in "
                      "\"command\" (a path with a slash that is not absolute is below the service's folder in MODULES)")


def _checked(path):
    if os.path.isdir(path):
        raise CannotStart(f"{path} is a folder, not a program: correct \"command\" in the service's settings")
    if not os.path.exists(path):
        raise CannotStart(f"the program {path} does not exist on this worker: install it there, or correct \"command\" in the "
                          "service's settings")
    if not os.access(path, os.X_OK):
        raise CannotStart(f"the program {path} may not be executed by the worker: chmod +x {path}")
    return path


def _reason(path, error):
    if error.errno == errno.ENOEXEC:
        return f"the system cannot run {path}: a script needs a first line such as #!/bin/sh, a program has to be built for this machine"
    if error.errno == errno.ENOENT:
        return f"{path} is there, but the interpreter that its first line names is not: install it, or correct that line"
    if error.errno == errno.E2BIG:
        return f"the arguments of {path} and its environment are too long for the system: hand large values over in params"
    return f"{path} could not be started: {error.strerror}"


def _restore_signals():
    """Python ignores these, and a program would inherit that; what is caught goes back to its default by itself."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
