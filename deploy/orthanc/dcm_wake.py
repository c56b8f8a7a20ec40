"""Rings DCM Processor's ingest when a series, study or patient has become stable: the doorbell of dcm-wake.lua as a Python plugin.

In orthanc.json:  "Plugins": ["/usr/share/orthanc/plugins"], "PythonScript": "/path/to/dcm_wake.py"

Where and as whom, from Orthanc's environment or from a section of orthanc.json:
  INGEST_URL      "DcmProcessor": {"IngestUrl": ...}      ingest's endpoint, http://ingest:5000; without it nothing is rung
  INGEST_TOKEN                    {"IngestToken": ...}    ingest's INGEST_TOKEN
  INGEST_SERVER                   {"IngestServer": ...}   this Orthanc's name in ingest's ORTHANC_URLS, when there are several

Orthanc takes one function for changes. A script that has one of its own calls on_change of this module from there:
  import dcm_wake
  def OnChange(change, level, resource):
      dcm_wake.on_change(change, level, resource)
"""

import json
import os
import threading
import time
import urllib.request

import orthanc

_LIMIT = 2.0
_SHORTEST, _LONGEST = 1.0, 60.0


class _Bell(threading.Thread):
    """Rings on a thread of its own: Orthanc never waits for it. Rings that come while it is busy become one."""

    def __init__(self, url, token, server):
        super().__init__(name="dcm-wake", daemon=True)
        self._rung = threading.Event()
        self._is_over = False
        body = json.dumps({"server": server} if server else {}).encode()
        headers = {"Content-Type": "application/json"}
        if token:
            headers["X-DCM-Token"] = token
        self._request = urllib.request.Request(url.rstrip("/") + "/wake", data=body, headers=headers, method="POST")
        # Whatever proxy the environment names is not for this.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ring(self):
        self._rung.set()

    def end(self):
        self._is_over = True
        self._rung.set()

    def run(self):
        pause = 0.0
        while True:
            self._rung.wait()
            if self._is_over:
                return
            self._rung.clear()
            try:
                with self._opener.open(self._request, timeout=_LIMIT) as answer:
                    answer.read(4096)
                if pause:
                    orthanc.LogWarning("DCM Processor: ingest answers again")
                pause = 0.0
            except Exception as error:  # A doorbell must not end, whatever is wrong with the line.
                if not pause:
                    orthanc.LogWarning(
                        "DCM Processor: ingest does not answer (%s); it will look for new images by itself" % type(error).__name__)
                pause = min(_LONGEST, max(_SHORTEST, 2 * pause))
                time.sleep(pause)


def _settings():
    section = json.loads(orthanc.GetConfiguration()).get("DcmProcessor")
    if not isinstance(section, dict):
        section = {}
    return [
        os.environ.get(variable) or section.get(member) or None
        for variable, member in (("INGEST_URL", "IngestUrl"), ("INGEST_TOKEN", "IngestToken"), ("INGEST_SERVER", "IngestServer"))
    ]


_url, _token, _server = _settings()
_bell = _Bell(_url, _token, _server) if _url else None
_stable = (orthanc.ChangeType.STABLE_SERIES, orthanc.ChangeType.STABLE_STUDY, orthanc.ChangeType.STABLE_PATIENT)


def on_change(change, level, resource):
    if _bell is None:
        return
    if change in _stable:
        _bell.ring()
    elif change == orthanc.ChangeType.ORTHANC_STARTED:
        if not _bell.is_alive():
            _bell.start()
    elif change == orthanc.ChangeType.ORTHANC_STOPPED:
        _bell.end()


if _bell is None:
    orthanc.LogWarning("DCM Processor: INGEST_URL is not set, so nothing is rung")
try:
    orthanc.RegisterOnChangeCallback(on_change)
except Exception:
    # Another script has registered its own, and calls on_change.
    pass
