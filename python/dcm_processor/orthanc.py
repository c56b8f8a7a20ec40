"""The Orthanc server that a run's images came from, for jobs that ask it something or store something in it.

    from dcm_processor.orthanc import Orthanc

    def worker(jobName, headers, params, added_params, **kwargs):
        series = Orthanc.of_this_run().get(f"/series/{headers['seriesIds'][0]}")

Needs nothing but Python. Errors say what was asked and how it ended, and nothing of any answer's content or of a password.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import urllib.parse
from typing import Any, Optional, Union

TIMEOUT = 60.0
"""Seconds for one answer."""


class OrthancError(RuntimeError):
    """Orthanc cannot be asked, or does not answer as it should."""


class Orthanc:
    """One server; one connection that is kept open, to be used by one thread at a time."""

    Error: type[Exception] = OrthancError
    """What is raised."""

    def __init__(self, url: str, user: str = "", password: str = "") -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            server = os.environ.get("ORTHANC_SERVER")
            raise self.Error(
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
    def of_this_run(cls) -> Orthanc:
        """The server that the run's images came from: a job has it in its environment."""
        return cls(*(os.environ.get(f"ORTHANC_REST_{name}", "") for name in ("URL", "USERNAME", "PASSWORD")))

    def get(self, path: str) -> Any:
        """The JSON at `path`; None when there is nothing (404)."""
        body = self._ask("GET", path)
        return None if body is None else self._json(body, path)

    def text(self, path: str) -> Optional[str]:
        """The text at `path`; None when there is nothing (404)."""
        body = self._ask("GET", path)
        return None if body is None else body.decode("utf-8", "replace").strip()

    def post(self, path: str, value: Any) -> Any:
        """Sends `value` as JSON, once: it is never repeated by itself. Returns the answer's JSON; None when it is empty."""
        # On a new connection there is no doubt whether it has arrived.
        self.close()
        body = self._ask("POST", path, json.dumps(value).encode(), "application/json")
        if body is None:
            raise self.Error(f"Orthanc: POST {path}: there is nothing of that name")
        return self._json(body, path) if body.strip() else None

    def store(self, file: Union[str, os.PathLike[str]]) -> dict:
        """Uploads a DICOM file; returns what Orthanc says of it: ID, ParentStudy, Status."""
        with open(file, "rb") as stream:
            body = self._ask("POST", "/instances", stream.read(), "application/dicom")
        answer = self._json(body or b"null", "/instances")
        if not isinstance(answer, dict):
            raise self.Error("Orthanc: POST /instances: the answer is not about one instance")
        return answer

    def delete(self, path: str) -> bool:
        """Whether there was something to delete."""
        return self._ask("DELETE", path) is not None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

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
                raise self.Error(
                    f"Orthanc: {method} {path}: {type(error).__name__}; is the server running, and is its address right for this worker?"
                ) from None
        if response.status == 404:
            return None
        if response.status in (401, 403):
            raise self.Error(
                f"Orthanc: {method} {path}: access denied ({response.status}); the user of the worker's settings may not do that")
        if response.status >= 400:
            raise self.Error(f"Orthanc: {method} {path}: status {response.status}{_reason(answer)}")
        return answer

    def _connect(self):
        kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        return kind(self._parts.hostname, self._parts.port, timeout=TIMEOUT)

    def _json(self, body, path):
        try:
            return json.loads(body)
        except ValueError:
            raise self.Error(f"Orthanc: {path}: the answer is not JSON; does the address point at Orthanc itself?") from None


def _reason(body):
    """Orthanc's name of the error, which says nothing of any content."""
    try:
        status = json.loads(body).get("OrthancStatus")
        return f" ({int(status)})" if status is not None else ""
    except (ValueError, AttributeError, TypeError):
        return ""
