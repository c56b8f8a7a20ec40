"""The part of Orthanc's REST API that looks and deletes."""

import base64
import http.client
import json
import os
import urllib.parse

TIMEOUT = 60.0


class OrthancError(RuntimeError):
    pass


class Orthanc:
    """The server that the run's images came from: a job has it in its environment."""

    def __init__(self):
        parts = urllib.parse.urlsplit(os.environ.get("ORTHANC_REST_URL", ""))
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise OrthancError(f"this worker knows no address of the Orthanc server {os.environ.get('ORTHANC_SERVER', 'orthanc')!r}")
        user = os.environ.get("ORTHANC_REST_USERNAME") or urllib.parse.unquote(parts.username or "")
        password = os.environ.get("ORTHANC_REST_PASSWORD") or urllib.parse.unquote(parts.password or "")
        self._headers = {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()} if user else {}
        self._parts = parts

    def get(self, path):
        """The JSON at `path`; None when there is nothing (404)."""
        body = self._ask("GET", path)
        return None if body is None else json.loads(body)

    def delete(self, path):
        """Whether there was something to delete."""
        return self._ask("DELETE", path) is not None

    def _ask(self, method, path):
        kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(self._parts.hostname, self._parts.port, timeout=TIMEOUT)
        try:
            connection.request(method, self._parts.path.rstrip("/") + path, headers=self._headers)
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise OrthancError(f"Orthanc: {method} {path}: {type(error).__name__}; is the server running?") from None
        finally:
            connection.close()
        if response.status == 404:
            return None
        if response.status >= 400:
            raise OrthancError(f"Orthanc: {method} {path}: status {response.status}")
        return body
