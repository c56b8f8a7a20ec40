def callback(jobName, headers, params, added_params, **kwargs):
    """Decides whether the job applies to this event.

    Returns True or False, or the pair of that and a dict. The dict reaches later callbacks and every worker of this run as
    added_params[jobName].
    """
    return True, {"greeting": params.get("greeting"), "after": sorted(added_params)}
