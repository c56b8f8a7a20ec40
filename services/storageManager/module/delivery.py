"""Into Orthanc, and from there to where an entry wants it. Nothing counts as done before the other side has said so."""

from .entries import digest
from .errors import StorageError
from .objects import CREATOR, SOURCE
from .orthanc import Modalities

BATCH = 100
"""Objects that are sent by one job of Orthanc: what has been confirmed is not sent again."""


class Delivery:
    """
    state: what an earlier attempt of this job kept, or None.
    keep: keeps the state for the next one.
    """

    def __init__(self, orthanc, state, keep, is_stopped, progress, log):
        self._modalities = Modalities(orthanc)
        self.new = 0
        """Objects that were not in Orthanc before."""
        self._orthanc = orthanc
        self._state = state if isinstance(state, dict) and state.get("version") == 1 else {"version": 1, "sent": {}, "pending": None}
        self._keep = keep
        self._is_stopped = is_stopped
        self._progress = progress
        self._log = log
        self._placed = set()
        self._count = 0

    @property
    def totals(self):
        return {name: len(instances) for name, instances in self._state["sent"].items()}

    # MARK: Orthanc

    def store(self, objects, entry):
        """Returns False when the job shall stop."""
        for made in objects:
            if self._is_stopped():
                return False
            self._store(made, entry)
            self._count += 1
            if self._count % 20 == 0:
                self._progress(0.5, f"{self._count} objects stored")
        return True

    def _store(self, made, entry):
        if self._orthanc.get(f"/instances/{made.instance}") is not None:
            # A former attempt stored it. Uploaded again, it would be news to Orthanc where that overwrites.
            if not self._is_ours(made):
                raise entry.error(
                    f"instance {made.instance} is in Orthanc already, and it is not what this job makes; nothing was overwritten")
            return
        answer = self._orthanc.store(made.path)
        status = answer.get("Status")
        if status not in ("Success", "AlreadyStored"):
            raise entry.error(f"Orthanc did not keep an object of it ({status or 'no status'}); a filter or its storage limit refused it")
        if answer.get("ID") != made.instance or answer.get("ParentStudy") != made.study:
            if isinstance(answer.get("ID"), str) and status == "Success":
                self._orthanc.delete(f"/instances/{answer['ID']}")
            raise entry.error("Orthanc filed an object of it elsewhere; it was taken out again")
        self._verify(made, entry)
        self.new += status == "Success"

    def _verify(self, made, entry):
        """Asks for what was stored: it is there, in the right place, and the same."""
        stored = self._orthanc.get(f"/instances/{made.instance}")
        if stored is None:
            raise entry.error(f"Orthanc took instance {made.instance} and does not have it; is its storage full?")
        series = stored.get("ParentSeries")
        if series != made.series:
            raise entry.error(f"instance {made.instance} is in series {series} in Orthanc, not in {made.series}")
        if series not in self._placed:
            parent = self._orthanc.get(f"/series/{series}") or {}
            if parent.get("ParentStudy") != made.study:
                raise entry.error(f"series {series} is not in study {made.study} in Orthanc")
            self._placed.add(series)
        known = self._orthanc.text(f"/instances/{made.instance}/attachments/dicom/md5")
        # Orthanc may be told to keep no digests, or to compress what comes in.
        if known != digest(made.path, "md5") and not self._is_ours(made):
            raise entry.error(f"instance {made.instance} is not in Orthanc what was sent to it")

    def _is_ours(self, made):
        tags = self._orthanc.get(f"/instances/{made.instance}/tags") or {}
        marks = {
            str(element.get("Value", "")).strip(" \0") for tag, element in tags.items()
            if tag.startswith("0405,") and str(element.get("PrivateCreator", "")).strip(" \0") == CREATOR
        }
        uid = str(tags.get("0008,0018", {}).get("Value", "")).strip(" \0")
        return SOURCE in marks and uid == made.uid

    # MARK: Modalities

    def check(self, entry):
        """Raises when Orthanc does not know the entry's destination."""
        try:
            self._modalities.check(entry.destination)
        except StorageError as error:
            raise entry.error(str(error)) from None

    def send(self, objects, entry):
        """Returns False when the job shall stop."""
        name = entry.destination
        sent = self._state["sent"].setdefault(name, [])
        pending = self._state["pending"]
        if pending and pending["destination"] == name and not self._finish(pending, entry):
            return False
        known = set(sent)
        waiting = [made.instance for made in objects if made.instance not in known]
        for start in range(0, len(waiting), BATCH):
            if self._is_stopped():
                return False
            batch = waiting[start:start + BATCH]
            job = self._modalities.start(name, batch)
            self._state["pending"] = {"destination": name, "job": job, "instances": batch}
            self._keep(self._state)
            if not self._wait(name, job, batch, entry):
                return False
        return True

    def _finish(self, pending, entry):
        """What an earlier attempt asked Orthanc to send may have arrived, or be on its way still."""
        state = self._modalities.state(pending["job"])
        if state is None or state.get("State") == "Failure":
            self._forget_pending()
            return True
        self._log.info("waiting for what an earlier attempt has begun to send to %s", pending["destination"])
        return self._wait(pending["destination"], pending["job"], pending["instances"], entry)

    def _wait(self, name, job, batch, entry):
        def report(part):
            self._progress(0.6 + 0.4 * part, f"sending {len(batch)} object{'s' if len(batch) != 1 else ''} to {name}")

        try:
            is_done = self._modalities.wait(name, job, len(batch), self._is_stopped, report)
        except StorageError as error:
            self._forget_pending()
            raise entry.error(f"{error}. What is stored stays in Orthanc") from None
        if is_done:
            self._state["sent"].setdefault(name, []).extend(batch)
            self._log.info("%s took %d objects", name, len(batch))
        self._forget_pending()
        return is_done

    def _forget_pending(self):
        self._state["pending"] = None
        self._keep(self._state)
