"""The SDK: thin messages over the job's own channel to its host.

The channel is a SOCK_SEQPACKET socket, so a message is whole or not there at all, whichever thread or forked process of
the job sends it.
"""

from __future__ import annotations

import json
import logging
import os
import sys

# For type checkers alone: every idle host would carry the module.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional, Union

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
    data: Optional[str] = None
    workdir: Optional[str] = None
    checkpoint: Optional[str] = None
    """The file of this attempt's checkpoint, named by its token. None where none are kept."""

    process: Optional[int] = None
    """Its number: what the job forks is not the job."""
    asks = False
    """Whether the job has ever asked if it shall stop."""
    stops = False
    """Whether it shall: it was sent SIGTERM after it had asked."""
    knows = False
    """Whether it has been told so."""


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


def artifact(path: Union[str, os.PathLike[str]], name: Optional[str] = None, kind: Optional[str] = None) -> None:
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


def checkpoint(obj: Any) -> None:
    """Keeps `obj` for the next attempt of this job, in the place of the last one. It is safe on the disk afterwards.

    obj: anything that pickle can hold, 1 GiB at most; large data belong into a file below DATA, whose path is kept here.
        What is in it survives this process, so nothing that is only good in it: no open files, no process numbers.

    Checkpoints are removed when the job has succeeded, and with its run.

    Raises ValueError when it is too large, OSError when it cannot be written, and what pickle raises for an object that it
    cannot hold. The former checkpoint stays then.
    """
    if _job.checkpoint is None:
        return
    from . import checkpoints  # and what it imports: a job that keeps none shall not pay for it

    checkpoints.write(_job.checkpoint, obj)


def resume() -> Optional[Any]:
    """What checkpoint() kept last in this attempt or an earlier one of the same job. None when there is nothing.

    One that cannot be read (damaged, or written by code that has changed since) is left out with a warning in the log, and
    the one before it is taken.
    """
    if _job.checkpoint is None:
        return None
    from . import checkpoints

    return checkpoints.newest(_job.checkpoint, log)


def cancelled() -> bool:
    """Whether the job shall stop: it was cancelled, its time is over, or its worker stops and hands it back.

    With the first call the job takes its end into its own hands: SIGTERM no longer raises SystemExit in it, it only makes
    this True. The job then has the time between SIGTERM and SIGKILL (5 s) to put its things in order, and should return or
    raise. A job that has seen True does not count as succeeded any more, whatever it returns. A second SIGTERM raises.

    Ask often: a call that blocks (time.sleep, a long computation) is not interrupted.
    """
    if _job.channel is None:
        return False
    _job.asks = True
    if _job.stops:
        _job.knows = True
    return _job.stops


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


def _attach(channel, data, workdir, checkpoint=None):
    """Called by the host in the process of a job."""
    _job.channel = channel
    _job.data = data
    _job.workdir = workdir
    _job.checkpoint = checkpoint
    _job.process = os.getpid()
    _open_log()


def _open_log():
    """Called by the host before it forks, so that the process of a job finds the handler made."""
    if len(log.handlers) == 1:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(handler)


def _defer_stop():
    """Called by the host's handler of SIGTERM. True: the job will see to its end itself."""
    # In what the job has forked SIGTERM raises as ever: multiprocessing ends its workers by it.
    if not _job.asks or _job.stops or _job.process != os.getpid():
        return False
    _job.stops = True
    return True


def _has_stopped():
    """Whether the job was told to stop, so that its return is no success."""
    return _job.knows


if sys.modules[__package__]._waiting is not None:
    _attach(*sys.modules[__package__]._waiting)
