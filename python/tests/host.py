"""A host as its starter sees it: a process and the other end of its socket."""

import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time

PACKAGE = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PACKAGE))

LIMIT = 120
"""Seconds that anything may take on a machine that is busy with other things; no test waits that long for what goes well."""

from dcm_processor.host import frames  # noqa: E402


class Tree:
    """A folder with services, data and logs for one test."""

    def __init__(self, files):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="dcm-python-"))
        self.root = self.folder / "services"
        for place in (self.root, self.folder / "data", self.folder / "work", self.folder / "logs"):
            place.mkdir()
        for path, text in files.items():
            self.write(path, text)

    def write(self, path, text):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)


class Host:
    def __init__(self, role, tree, environment=None, start=None, package=PACKAGE, **settings):
        """start: more arguments of Popen, such as `user`. package: the folder that `dcm_processor` is imported from."""
        self.tree = tree
        ours, theirs = socket.socketpair()
        ours.settimeout(LIMIT)
        self.output = tempfile.TemporaryFile(mode="a+b")
        self.process = subprocess.Popen(
            [sys.executable, "-B", "-m", "dcm_processor.host", role, "--fd", str(theirs.fileno())],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(package), "PYTHONUTF8": "1", **(environment or {})},
            stdin=subprocess.DEVNULL, stdout=self.output, stderr=self.output, pass_fds=[theirs.fileno()], **(start or {}),
        )
        theirs.close()
        self.channel = frames.FrameChannel(ours)
        self.channel.send({"type": "hello", "protocol": frames.PROTOCOL, "root": str(tree.root), **settings})
        self.hello = self.channel.receive()

    def close(self):
        self.channel.connection.close()
        try:
            self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            self.output.close()

    def until(self, type_):
        """The messages up to the first of a type, which is the last of them."""
        messages = []
        while not messages or messages[-1]["type"] != type_:
            message = self.channel.receive()
            if message is None:
                raise AssertionError(f"the host has closed before {type_}: {messages}")
            messages.append(message)
        return messages

    def order(self, entry, job="j", **changes):
        return {
            "type": "run", "job": job, "entry": entry, "jobName": "name", "headers": {"h": 1}, "params": None, "addedParams": {},
            "attempt": 1, "runId": "r", "workdir": str(self.tree.folder / "work"), "log": str(self.tree.folder / "logs" / f"{job}.log"),
            "data": str(self.tree.folder / "data"), "environment": {}, "timeout": 600, "grace": 1, **changes,
        }

    def run(self, entry, **changes):
        self.channel.send(self.order(entry, **changes))
        return self.until("exited")[-1]


def eventually(condition, limit=LIMIT):
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def is_alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
