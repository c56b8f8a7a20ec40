"""Orthanc, as far as storing and sending needs it."""

import time
import urllib.parse

import dcm_processor.orthanc

from .errors import StorageError


class Orthanc(dcm_processor.orthanc.Orthanc):
    Error = StorageError


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
                f"destination {name!r} is no modality of this Orthanc (it knows: {known}); add it to DicomModalities, or correct the "
                "entry's 'destination' or ORTHANC_DEFUALT_STORE"
            )

    def start(self, name, instances):
        """Answers with the id of Orthanc's job."""
        path = f"/modalities/{urllib.parse.quote(name, safe='')}/store"
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
                raise StorageError(
                    f"destination {name!r}: Orthanc has forgotten its job {job} (a restart?), so whether it was sent is not known")
            kind = state.get("State")
            if kind == "Success":
                content = state.get("Content") or {}
                failed, sent = content.get("FailedInstancesCount", 0), content.get("InstancesCount", count)
                if failed or sent != count:
                    raise StorageError(f"destination {name!r} took {sent - failed} of {count} objects (Orthanc's job {job})")
                return True
            if kind == "Failure":
                objects = f"{count} object{'s' if count != 1 else ''}"
                raise StorageError(
                    f"destination {name!r} did not take the {objects}: {state.get('ErrorDescription') or 'unknown error'} "
                    f"(Orthanc's job {job}); is it running, and does it accept Orthanc's AET and these SOP classes?"
                )
            report((state.get("Progress") or 0) / 100)
            if is_stopped():
                self._orthanc.post(f"/jobs/{job}/cancel", {})
                return False
            time.sleep(pause)
            pause = min(pause * 1.5, self.PAUSE[1])
