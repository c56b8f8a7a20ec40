"""Worker functions that go wrong, each in its own way, and some that do not."""

import os
import pathlib
import signal
import subprocess
import sys
import time


def fine(jobName, headers, params, added_params, **kwargs):
    files = sorted(pathlib.Path(os.environ["DATA"], headers["dcmpath"]).rglob("*.dcm"))
    print(f"{jobName} sees {len(files)} files")
    return {"files": len(files), "added": sorted(added_params)}


def raises(jobName, headers, params, added_params):
    print("about to raise", file=sys.stderr)
    raise RuntimeError("this worker always raises")


def hangs(runId, **kwargs):
    # A child that ignores the polite request to end must not survive either.
    child = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"])
    pathlib.Path(os.environ["DATA"], f"hanging-child-{runId}.pid").write_text(str(child.pid))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(60)


def exits(**kwargs):
    os._exit(0)


def kills_itself(**kwargs):
    os.kill(os.getpid(), signal.SIGKILL)


def second_time(attempt, **kwargs):
    if attempt == 1:
        raise RuntimeError("not at the first attempt")
    return attempt
