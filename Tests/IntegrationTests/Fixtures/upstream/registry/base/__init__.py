def anonymize(jobName, headers, params, added_params, **kwargs):
    return [True, {"deleted": [headers["dcmpath"]]}]


def store(jobName, headers, params, added_params, **kwargs):
    return [True]
