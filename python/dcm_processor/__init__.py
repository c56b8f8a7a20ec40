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

from .job import artifact, cancelled, checkpoint, log, progress, resume

__all__ = ["artifact", "cancelled", "checkpoint", "log", "progress", "resume"]
