"""What a job can tell DCM Processor while it runs, and what it can ask.

All of it is optional: a job that only prints is fine. Outside a job (in a test, at a prompt) every call does nothing:
`resume()` is None there and `cancelled()` False.

    from dcm_processor import artifact, cancelled, checkpoint, log, progress, resume

    def worker(jobName, headers, params, added_params, **kwargs):
        done = resume() or 0
        log.info("from slice %d on", done)
        for slice in range(done, 100):
            if cancelled():
                checkpoint(slice)
                return
            ...
            progress(slice / 100, "slices")
        artifact("previews/1234.png", name="Preview")
"""

# Not imported before they are used: logging and threading, which they need, make every fork of an idle host dearer by a third.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from .job import artifact, cancelled, checkpoint, log, progress, resume

__all__ = ["artifact", "cancelled", "checkpoint", "log", "progress", "resume"]

_waiting = None
"""What a job's process has for `job`, should that be imported after its start: the arguments of `job._attach`."""


def __getattr__(name):
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import job

    value = globals()[name] = getattr(job, name)
    return value
