"""A stack for the tests of the pages, started with the launcher's own command: real broker, Orthanc, ingest, router, workers, monitor."""

import base64
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time
import urllib.parse
import urllib.request

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
SERVICES = pathlib.Path(__file__).resolve().parent / "services"


def until(what, answer, limit=60):
    """Asks again and again until there is an answer. The limit only says when to give up."""
    deadline = time.monotonic() + limit
    while True:
        value = answer()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"After {limit} s: not {what}. The last answer was {value!r}.")
        time.sleep(0.05)


class Stack:
    """One stack in a folder, and what the tests ask of it outside of the browser."""

    def __init__(self, home, programs):
        self.home = home
        self.programs = programs
        self.control = home / "control"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
        self.environment = {
            **kept,
            "DCM_CHECKOUT": str(CHECKOUT),
            "EVENTS": "study",
            "ORTHANC_STABLE_AGE": "1",
            "POLL_INTERVAL": "0.2",
            # A job that waits for its test holds up no other.
            "WORKER_SLOTS": "4",
            # At the end one job still waits for its test.
            "WORKER_GRACE": "0",
            "BROWSER_TESTS": str(self.control),
        }
        self.lifeline = None

    def start(self):
        self.control.mkdir(parents=True)
        for folder in ("registry", "modules"):
            shutil.copytree(SERVICES / folder, self.home / folder)
        # When the tests are killed, a shell that holds the other end of a pipe stops the stack.
        self.lifeline = subprocess.Popen(
            ["sh", "-c", 'read -r line || exec "$0" down --home "$1"', str(self.programs / "dcm-tool"), str(self.home)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=self.environment, start_new_session=True,
        )
        self.tool("up", "--workers", "2", "--bin", self.programs)

    def stop(self):
        try:
            self.tool("down")
        finally:
            self.lifeline.communicate(b"stopped\n", timeout=60)

    def tool(self, *arguments, text=None):
        """Runs dcm-tool to its end, and returns what it says."""
        words = [str(self.programs / "dcm-tool"), *map(str, arguments), "--home", str(self.home)]
        done = subprocess.run(
            words, input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=self.environment, timeout=240
        )
        assert done.returncode == 0, f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    @property
    def endpoints(self):
        return json.loads((self.home / "endpoints.json").read_text())

    def kill_monitor(self):
        """Ends the monitor's process as a crash would. The supervisor starts another one."""
        process = self.endpoints["pids"]["monitor"]
        os.kill(process, signal.SIGKILL)
        return process

    # MARK: The monitor's API

    def admin_token(self):
        """A token of its own: the stack's is an operator's."""
        name = f"test-{time.monotonic_ns()}"
        return re.search(r"dcm_\w+", self.tool("token", "add", name, "--role", "admin"))[0]

    def api(self, path, body=None, token=None):
        endpoints = self.endpoints
        return ask(
            f"{endpoints['monitor']}/api/v1{path}", None if body is None else json.dumps(body).encode(),
            {"Authorization": f"Bearer {token or endpoints['monitorToken']}", "Content-Type": "application/json"},
        )

    def run_of(self, study):
        """The newest run of a study, with its jobs, or None."""
        runs = self.api(f"/runs?event={study}")["runs"]
        return self.api(f"/runs/{runs[0]['id']}") if runs else None

    def run_in(self, study, *states):
        def answer():
            run = self.run_of(study)
            return run if run and (run["state"] in states or not states) else None

        return until(f"a run of study {study} {' or '.join(states)}", answer)

    def job_in(self, study, name, *states):
        def answer():
            run = self.run_of(study)
            jobs = [job for job in run["jobs"] if job["name"] == name] if run else []
            return jobs[0] if jobs and (jobs[0]["state"] in states or not states) else None

        return until(f"job {name} of study {study} {' or '.join(states)}", answer)

    # MARK: Orthanc and the broker

    def send(self, images):
        """Stores images in Orthanc, and returns Orthanc's id of their study."""
        study = None
        for image in images:
            study = self.orthanc("/instances", image)["ParentStudy"]
        return study

    def orthanc(self, path, body=None, method=None):
        endpoints = self.endpoints
        return ask(endpoints["orthanc"] + path, body, basic(endpoints["orthancUser"], endpoints["orthancPassword"]), method)

    def publish(self, queue, body, kind):
        """Puts any bytes on a queue, through RabbitMQ's own API."""
        endpoints = self.endpoints
        broker = urllib.parse.urlsplit(endpoints["amqp"])
        host = urllib.parse.quote(urllib.parse.unquote(broker.path[1:]) or "/", safe="")
        properties = {"type": kind, "message_id": "unreadable"}
        message = {"routing_key": queue, "payload": body, "payload_encoding": "string", "properties": properties}
        answer = ask(
            f"{endpoints['rabbitmqManagement'].rstrip('/')}/api/exchanges/{host}/amq.default/publish", json.dumps(message).encode(),
            {**basic(urllib.parse.unquote(broker.username), urllib.parse.unquote(broker.password)), "Content-Type": "application/json"},
        )
        assert answer["routed"], f"{queue} has taken nothing"

    def send_and_lose(self, images):
        """A study that has gone from Orthanc when it is to be exported: its export is dead."""
        self.api("/channels/default/pause", {})
        try:
            sent = self.send(images)
            self.job_in(sent, "export", "ready", "dispatched")
            self.orthanc(f"/studies/{sent}", method="DELETE")
        finally:
            self.api("/channels/default/resume", {})
        self.job_in(sent, "export", "dead")
        return sent

    # MARK: What the jobs of the tests are told

    def mend(self, study):
        """From now on the job `segment` of this study succeeds."""
        (self.control / f"{study}.mended").touch()

    def say(self, study, *lines):
        """Lines for the job `follow` of this study to print. 'end' ends it."""
        with open(self.control / f"{study}.lines", "a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))


def basic(user, password):
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def ask(url, body, headers, method=None):
    with urllib.request.urlopen(urllib.request.Request(url, data=body, headers=headers, method=method), timeout=30) as answer:
        return json.load(answer)
