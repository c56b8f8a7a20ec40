import os
import shutil

from base.Cleaner import rules

DATA = os.getenv("DATA", "/data")


def worker(jobName, headers, params, added_params):
    rules.clean(os.path.join(DATA, headers["dcmpath"]))


def clean(jobName, headers, params, added_params, **kwargs):
    for added in list(added_params.values()):
        for path in added.get("deleted", []):
            shutil.rmtree(os.path.join(DATA, path))
