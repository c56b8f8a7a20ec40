"""What a job can tell DCM Processor while it runs.

All of it is optional: a job that only prints is fine. Outside a job (in a test, at a prompt) every call does nothing.

    from dcm_processor import artifact, log, progress

    def worker(jobName, headers, params, added_params, **kwargs):
        log.info("reading the series")
        progress(0.5, "half of the slices")
        artifact("previews/1234.png", name="Preview")
"""

from .job import artifact, log, progress

__all__ = ["artifact", "log", "progress"]
