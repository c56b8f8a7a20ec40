"""Steps that do nothing but write down when they start and end, where no crash takes it back."""

import os
import time


def step(jobName, runId, attempt, workdir, **kwargs):
    note("start", jobName, runId, attempt, workdir)
    # A test that wants to do something meanwhile holds the job with a file of its name.
    while os.path.exists(os.path.join(os.environ["DATA"], "hold-" + jobName)):
        time.sleep(0.02)
    note("end", jobName, runId, attempt, workdir)


def fails(**order):
    step(**order)
    raise RuntimeError("this step always fails")


def not_at_first(attempt, **order):
    step(attempt=attempt, **order)
    if attempt == 1:
        raise RuntimeError("not at the first attempt")


def note(what, jobName, runId, attempt, workdir):
    token = os.path.basename(os.path.normpath(workdir)).split("-")[2]
    line = f"{what} {time.monotonic_ns()} {runId} {jobName} {attempt} {token}\n"
    # One write to a file that is only appended to: lines of many processes do not mix.
    file = os.open(os.path.join(os.environ["DATA"], "history"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)
