import os

from .rules import clean

DATA = os.getenv("DATA", "/data")


def worker(jobName, headers, params, added_params, **kwargs):
    clean(os.path.join(DATA, headers.get("dcmpath")))
