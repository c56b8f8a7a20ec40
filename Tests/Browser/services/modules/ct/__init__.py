import os


def segment(jobName, headers, params, added_params, **kwargs):
    """Fails until the test has mended its cause, in the folder that both know or in the job's own parameters."""
    print(f"threshold {params['threshold']}")
    mark = os.path.join(os.environ["BROWSER_TESTS"], headers["id"] + ".mended")
    if params["mended"] or os.path.exists(mark):
        print("segmented")
        return {"threshold": params["threshold"]}
    raise MemoryError("the model wants more than there is")


def summary(jobName, headers, params, added_params, **kwargs):
    print("summed up")
