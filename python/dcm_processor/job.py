"""The SDK: thin messages over the job's own channel to its host.

The channel is a SOCK_SEQPACKET socket, so a message is whole or not there at all, whichever thread or forked process of
the job sends it.
"""

import json
import logging
import os
import sys
from typing import Optional

_KINDS = {
    ".png": "image", ".jpg": "image", ".jpeg": "image", ".gif": "image", ".webp": "image", ".svg": "image",
    ".pdf": "pdf", ".nii": "nifti", ".nii.gz": "nifti", ".dcm": "dicom", ".html": "html",
    ".txt": "text", ".log": "text", ".csv": "text", ".json": "text",
}

_TEXT_LIMIT = 1000
"""Characters of a progress text, a name or a kind."""


class _Job:
    """The job that this process runs; `channel` is None outside a job."""

    channel = None
    data = None
    workdir = None


_job = _Job()


class _JobLog(logging.Logger):
    """A standard logger that may also be called: `log("text")` is `log.info("text")`."""

    def __call__(self, message, *arguments, **options):
        self.info(message, *arguments, **options)


log = _JobLog("dcm_processor.job", logging.INFO)
"""Writes lines with time and level into the job's log."""
log.propagate = False
log.addHandler(logging.NullHandler())


def progress(fraction: float, text: Optional[str] = None) -> None:
    """Shows how far the job is.

    fraction: 0 to 1; values outside are brought to the nearest end.
    text: what is being done, for people. No patient data, please: it is shown in lists.
    """
    if _job.channel is None:
        return
    fraction = float(fraction)
    if fraction != fraction:
        raise ValueError("progress: fraction is not a number (NaN); give a value from 0 to 1")
    _send({
        "type": "progress",
        "fraction": min(1.0, max(0.0, fraction)),
        "text": None if text is None else str(text)[:_TEXT_LIMIT],
    })


def artifact(path, name: Optional[str] = None, kind: Optional[str] = None) -> None:
    """Names a file for people to see beside the job.

    path: below DATA, absolute or relative to DATA; the file has to exist and to stay.
    name: what the page calls it; the file's name without one.
    kind: image, pdf, nifti, dicom, html, text or file; from the file's ending without one.

    Raises ValueError when the path leads out of DATA or into the job's scratch folder, FileNotFoundError when there is
    no such file.
    """
    if _job.channel is None:
        return
    root = os.path.realpath(_job.data)
    full = os.path.realpath(os.path.join(root, os.fspath(path)))
    relative = _below(full, root)
    if relative is None:
        raise ValueError(f"artifact: {os.fspath(path)!r} is not below DATA ({root}); write the file there and name that path")
    if _job.workdir is not None and _below(full, os.path.realpath(_job.workdir)) is not None:
        raise ValueError(
            f"artifact: {os.fspath(path)!r} is in the job's scratch folder, which goes when the job ends; write the file below DATA"
        )
    if not os.path.isfile(full):
        raise FileNotFoundError(f"artifact: there is no file {relative!r} below DATA ({root})")
    _send({
        "type": "artifact",
        "path": relative,
        "name": str(name or os.path.basename(full))[:_TEXT_LIMIT],
        "kind": str(kind or _kind(full))[:_TEXT_LIMIT],
    })


def _below(path, root):
    """`path` relative to `root`, None when it is not inside. Both are real paths."""
    if path == root or not path.startswith(os.path.join(root, "")):
        return None
    return os.path.relpath(path, root)


def _kind(path):
    lowered = path.lower()
    for ending in sorted(_KINDS, key=len, reverse=True):
        if lowered.endswith(ending):
            return _KINDS[ending]
    return "file"


def _send(message):
    try:
        _job.channel.send(json.dumps(message, ensure_ascii=False).encode("utf-8", "replace"))
    except OSError:
        # The host is gone, or the job closed our descriptor. What it shows must not decide whether it works.
        pass


def _attach(channel, data, workdir):
    """Called by the host in the process of a job."""
    _job.channel = channel
    _job.data = data
    _job.workdir = workdir
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
