def callback(jobName, headers, params, added_params, **kwargs):
    """Accepts when a job of the run hands on something to store. What it is, the worker looks at: a mistake has to be seen."""
    return any(isinstance(added, dict) and added.get("storage") for added in added_params.values())
