import os

from .difference import read

DATA = os.getenv("DATA")


def worker(jobName, headers, params, added_params, **kwargs):
    handed = added_params.get("dcm2nii")
    paths = [handed["output"]] if "output" in handed else [entry["nifti"]["path"] for entry in handed["outputs"].values()]
    counts = [read(os.path.join(DATA, path)) for path in paths]
    # script.sh runs before the first job.
    assert os.path.isfile(os.path.join(os.environ["LOGS"], "script.txt"))
    return {"counts": counts, "seen": sorted(added_params)}
