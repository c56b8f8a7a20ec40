"""Orthanc's REST API, as far as storing needs it."""

import base64
import http.client
import json
import os
import time
import urllib.parse

from .errors import StorageError

TIMEOUT = 60.0
"""Seconds for one answer."""


class Orthanc:
    """One server; one connection that is kept open."""

    def __init__(self, url, user="", password=""):
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            server = os.environ.get("ORTHANC_SERVER")
            raise StorageError(
                f"this worker knows no address of the Orthanc server {server!r}; give it the same ORTHANC_URLS as ingest" if server
                else "ORTHANC_REST_URL is not an address such as http://orthanc:8042"
            )
        self._parts = parts
        self._prefix = parts.path.rstrip("/")
        self._headers = {}
        user = user or urllib.parse.unquote(parts.username or "")
        if user:
            password = password or urllib.parse.unquote(parts.password or "")
            self._headers["Authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        self._connection = None

    @classmethod
    def of_this_run(cls):
        """The server that the run's images came from: a job has it in its environment."""
        return cls(
            os.environ.get("ORTHANC_REST_URL", ""), os.environ.get("ORTHANC_REST_USERNAME", ""), os.environ.get("ORTHANC_REST_PASSWORD", "")
        )

    def get(self, path):
        """The JSON at `path`; None when there is nothing (404)."""
        body = self._ask("GET", path)
        return None if body is None else _json(body, path)

    def text(self, path):
        body = self._ask("GET", path)
        return None if body is None else body.decode("utf-8", "replace").strip()

    def post(self, path, value):
        body = self._ask("POST", path, json.dumps(value).encode(), "application/json")
        if body is None:
            raise StorageError(f"Orthanc: POST {path}: there is nothing of that name")
        return _json(body, path) if body.strip() else None

    def store(self, file):
        """Uploads a DICOM file; answers with what Orthanc says of it: ID, ParentStudy, Status."""
        with open(file, "rb") as stream:
            body = self._ask("POST", "/instances", stream.read(), "application/dicom")
        answer = _json(body or b"null", "/instances")
        if not isinstance(answer, dict):
            raise StorageError("Orthanc: POST /instances: the answer is not about one instance")
        return answer

    def delete(self, path):
        """Whether there was something to delete."""
        return self._ask("DELETE", path) is not None

    def _ask(self, method, path, body=None, kind=None):
        headers = dict(self._headers)
        if kind:
            headers["Content-Type"] = kind
        # What is stored twice is stored once, so a request on a connection that turns out to be closed is simply repeated.
        for attempt in (1, 2, 3):
            is_fresh = self._connection is None
            try:
                if is_fresh:
                    self._connection = self._connect()
                self._connection.request(method, self._prefix + path, body, headers)
                response = self._connection.getresponse()
                answer = response.read()
                if response.will_close:
                    self.close()
                break
            except (OSError, http.client.HTTPException) as error:
                self.close()
                # Orthanc closes a connection that was idle for a second.
                if not is_fresh and attempt < 3:
                    continue
                raise StorageError(
                    f"Orthanc: {method} {path}: {type(error).__name__}; is the server running, and is its address right for this worker?"
                ) from None
        if response.status == 404:
            return None
        if response.status in (401, 403):
            raise StorageError(f"Orthanc: {method} {path}: access denied ({response.status}); the user of the worker's settings may not do that")
        if response.status >= 400:
            raise StorageError(f"Orthanc: {method} {path}: status {response.status}{_reason(answer)}")
        return answer

    def _connect(self):
        host, port = self._parts.hostname, self._parts.port
        kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        return kind(host, port, timeout=TIMEOUT)

    def close(self):
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _json(body, path):
    try:
        return json.loads(body)
    except ValueError:
        raise StorageError(f"Orthanc: {path}: the answer is not JSON; does the address point at Orthanc itself?") from None


def _reason(body):
    """Orthanc's name of the error, which says nothing of any content."""
    try:
        status = json.loads(body).get("OrthancStatus")
        return f" ({int(status)})" if status is not None else ""
    except (ValueError, AttributeError, TypeError):
        return ""


class Modalities:
    """Sending to the DICOM modalities that Orthanc knows."""

    PAUSE = (0.05, 1.0)
    """Seconds between two looks at a job of Orthanc: first, longest."""

    def __init__(self, orthanc):
        self._orthanc = orthanc
        self._names = None

    def check(self, name):
        if self._names is None:
            self._names = self._orthanc.get("/modalities") or []
        if name not in self._names:
            known = ", ".join(sorted(self._names)) or "none"
            raise StorageError(
                f"destination {name!r} is no modality of this Orthanc (it knows: {known}); add it to DicomModalities, or correct the entry's "
                "'destination' or ORTHANC_DEFUALT_STORE"
            )

    def start(self, name, instances):
        """Answers with the id of Orthanc's job."""
        path = f"/modalities/{urllib.parse.quote(name, safe='')}/store"
        # On a new connection nothing is repeated: it would be sent twice.
        self._orthanc.close()
        answer = self._orthanc.post(path, {"Resources": instances, "Synchronous": False, "Permissive": False})
        job = answer.get("ID") if isinstance(answer, dict) else None
        if not job:
            raise StorageError(f"Orthanc: POST {path}: no job was started")
        return job

    def state(self, job):
        """Orthanc's description of a job; None when it is no longer known."""
        return self._orthanc.get(f"/jobs/{job}")

    def wait(self, name, job, count, is_stopped, report):
        """Returns True when all `count` instances have been taken, False when `is_stopped` became true (the job is then cancelled).

        report: called with the job's progress, 0 to 1.
        """
        pause = self.PAUSE[0]
        while True:
            state = self.state(job)
            if state is None:
                raise StorageError(f"destination {name!r}: Orthanc has forgotten its job {job} (a restart?), so whether it was sent is not known")
            kind = state.get("State")
            if kind == "Success":
                content = state.get("Content") or {}
                failed, sent = content.get("FailedInstancesCount", 0), content.get("InstancesCount", count)
                if failed or sent != count:
                    raise StorageError(f"destination {name!r} took {sent - failed} of {count} objects (Orthanc's job {job})")
                return True
            if kind == "Failure":
                raise StorageError(
                    f"destination {name!r} did not take the {count} objects: {state.get('ErrorDescription') or 'unknown error'} "
                    f"(Orthanc's job {job}); is it running, and does it accept Orthanc's AET and these SOP classes?"
                )
            report((state.get("Progress") or 0) / 100)
            if is_stopped():
                self._orthanc.post(f"/jobs/{job}/cancel", {})
                return False
            time.sleep(pause)
            pause = min(pause * 1.5, self.PAUSE[1])
