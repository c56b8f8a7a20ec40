"""The files of a run: all of them become de-identified ones, or none does, whenever the process is killed.

1. Each file's successor is written beside it (`.<name>.deid`) and flushed to the disk. The files are untouched.
2. The journal is written: for each file a keyed hash of what it was and the hash of what it becomes. It is complete or not there:
   this is the moment at which the folder counts as de-identified.
3. Each successor takes its file's place. What is to be dropped is deleted.

A process that is killed before 2 leaves successors that the next attempt deletes, to begin anew. One that is killed after 2 leaves the
next attempt nothing but to go on with 3. Whether a file is the old or the new one is known by its content alone, so nothing is
de-identified twice, and a file that has been exported once more is not mistaken for a de-identified one.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import pathlib
import stat
from collections.abc import Iterator
from typing import BinaryIO

from .errors import Refused
from .pseudonyms import Pseudonyms

SUCCESSOR = ".deid"
EXPORTED = ".part"
JOURNAL = "journal.json"
STORED = (".stored.json", ".stored.partial")
"""storageManager's note of what a run has stored, by Orthanc's ids: of interest to the cleaner, and no image."""


def reached(step: str) -> None:
    """Called at each point where being killed matters; tests put something else in its place."""


class Folder:
    """
    path: the run's images. state: where the journal is kept, outside of it.
    """

    def __init__(self, path: pathlib.Path, state: pathlib.Path, pseudonyms: Pseudonyms, options: str):
        self.path = path
        self.state = state
        self._pseudonyms = pseudonyms
        self._options = options
        self._lock = None

    def __enter__(self) -> Folder:
        self.state.mkdir(parents=True, exist_ok=True)
        # An attempt that has lost its job may still be running: it is being ended, and is waited for.
        self._lock = os.open(self.state, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        return self

    def __exit__(self, *_):
        os.close(self._lock)

    def files(self) -> list[str]:
        """The images, relative to the folder. Leftovers of broken exports and attempts are removed when `discard` is called.

        Raises Refused for whatever is no DICOM file: nobody could say whom it names.
        """
        found, strange = [], 0
        for name in self._names():
            status = os.lstat(self.path / name)
            base = os.path.basename(name)
            if not stat.S_ISREG(status.st_mode):
                raise Refused(f"{self._shown} holds a link or a special file; only files may be there. Reprocess the event.")
            if base.startswith(".") and base.endswith((SUCCESSOR, EXPORTED)) or name in STORED:
                continue
            if base.lower().endswith(".dcm"):
                found.append(name)
            else:
                strange += 1
        if strange:
            raise Refused(
                f"{self._shown} holds {strange} files that are not *.dcm. They cannot be de-identified: write them to another folder, "
                "or in a job that depends on this one."
            )
        return sorted(found)

    def journal(self) -> dict | None:
        """The journal of an attempt before, or None. Raises Refused for one of another key or other options."""
        try:
            text = (self.state / JOURNAL).read_bytes()
        except FileNotFoundError:
            return None
        try:
            journal = json.loads(text)
            mac = bytes.fromhex(journal.pop("mac"))
            # Of another key and damaged look alike.
            is_ours = hmac.compare_digest(mac, self._mac(journal))
        except (ValueError, KeyError, AttributeError, TypeError):
            is_ours = False
        if not is_ours:
            raise Refused(
                f"the journal of this run ({JOURNAL} of {self.state.name}) is damaged or was written with another key, so that nobody "
                "knows which files are de-identified. Reprocess the event: that is a new run."
            )
        return journal

    def carry_on(self, journal: dict) -> bool:
        """Finishes what the journal says. False when none of the files is what it says, so that all begins anew."""
        done, successors, others = 0, [], []
        names = self.files()
        for name in names:
            entry = journal["files"].get(name)
            digest = _digest(self.path / name)
            if entry is not None and entry["output"] == digest.hex():
                done += 1
                continue
            if entry is not None and hmac.compare_digest(entry["source"], self._source(digest)) and self._is_ready(name, entry):
                successors.append(name)
            else:
                others.append(name)
        if others and not done:
            # No file is a de-identified one. What had been dropped may be among them, and is known; that says nothing of the rest.
            return False
        if others:
            raise Refused(
                f"{len(others)} of {len(names)} files are not the ones that were de-identified in an attempt before. "
                "Reprocess the event: that is a new run."
            )
        if journal["options"] != self._options:
            raise Refused("the files were de-identified with other options in an attempt before. Reprocess the event: that is a new run.")
        missing = [name for name, entry in journal["files"].items() if entry["output"] is not None and name not in names]
        if missing:
            raise Refused(
                f"{len(missing)} files that were de-identified in an attempt before are gone. Reprocess the event: that is a new run."
            )
        self._replace(successors, journal)
        return True

    def discard(self) -> None:
        """Removes the journal and the leftovers of attempts that did not come to one."""
        (self.state / JOURNAL).unlink(missing_ok=True)
        self._remove_leftovers()

    @contextlib.contextmanager
    def successor(self, name: str) -> Iterator[BinaryIO]:
        """A file to be written, the successor of `name`. It does not take its place before `commit`."""
        with open(self._successor(name), "wb") as file:
            os.fchmod(file.fileno(), stat.S_IMODE(os.stat(self.path / name).st_mode))
            yield file
            file.flush()
            # Before the journal says that it is there: a machine that loses power forgets what it has not flushed.
            os.fsync(file.fileno())

    def entry(self, name: str, is_dropped: bool) -> dict:
        """What the journal says of a file, whose successor has been written unless it is dropped."""
        return {
            "source": self._source(_digest(self.path / name)),
            "output": None if is_dropped else _digest(self._successor(name)).hex(),
        }

    def commit(self, files: dict[str, dict], summary: dict) -> None:
        """
        files: an entry for each file of the folder. summary: kept in the journal, for the attempt that finds it.
        """
        journal = {"version": 1, "options": self._options, "key": self._pseudonyms.fingerprint, "files": files, "summary": summary}
        self._flush_folders(files)
        reached("before the journal")
        write_durably(self.state / JOURNAL, json.dumps({**journal, "mac": self._mac(journal).hex()}).encode())
        reached("after the journal")
        self._replace(list(files), journal)

    def _replace(self, names, journal):
        for name in names:
            if journal["files"][name]["output"] is None:
                os.unlink(self.path / name)
            else:
                os.replace(self._successor(name), self.path / name)
            reached("after a file")
        self._flush_folders(names)
        self._remove_leftovers()
        left = set(self.files()) - {name for name, entry in journal["files"].items() if entry["output"] is not None}
        if left:
            raise Refused(f"{len(left)} files have come into {self._shown} meanwhile. Reprocess the event: that is a new run.")

    def _is_ready(self, name, entry):
        """Whether the file's successor is there, or none is needed."""
        if entry["output"] is None:
            return True
        try:
            return _digest(self._successor(name)).hex() == entry["output"]
        except FileNotFoundError:
            return False

    def _remove_leftovers(self):
        for name in list(self._names()):
            base = os.path.basename(name)
            if base.startswith(".") and base.endswith((SUCCESSOR, EXPORTED)):
                os.unlink(self.path / name)

    def _names(self):
        def fail(error):
            raise Refused(f"{self._shown} cannot be read: {error.strerror}") from None

        for folder, folders, names in os.walk(self.path, onerror=fail, followlinks=False):
            if any(os.path.islink(os.path.join(folder, name)) for name in folders):
                raise Refused(f"{self._shown} holds a link to a folder; only files and folders may be there. Reprocess the event.")
            relative = os.path.relpath(folder, self.path)
            yield from (name if relative == "." else os.path.join(relative, name) for name in names)

    def _successor(self, name) -> pathlib.Path:
        path = self.path / name
        return path.with_name(f".{path.name}{SUCCESSOR}")

    def _flush_folders(self, names):
        for folder in {(self.path / name).parent for name in names}:
            flush_folder(folder)

    def _source(self, digest: bytes) -> str:
        # Keyed: a bare hash would tell whoever has the original which file it is.
        return self._pseudonyms.mac("source", digest).hex()

    def _mac(self, journal) -> bytes:
        return self._pseudonyms.mac("journal", json.dumps(journal, sort_keys=True).encode())

    @property
    def _shown(self):
        return f"the run's folder {self.path.name}"


def write_durably(path: pathlib.Path, content: bytes) -> None:
    """Whole or not at all, and there after a loss of power."""
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    flush_folder(path.parent)


def flush_folder(folder: pathlib.Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(path: pathlib.Path) -> bytes:
    """SHA-256 of a file, of which there is never more than a block in memory."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.digest()
