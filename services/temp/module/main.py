def worker(jobName, headers, params, added_params, **kwargs):
    """Does the job. Whatever it prints stands in the job's log; an exception makes the job fail."""
    print(f"{jobName}: {params.get('greeting')}")
    print(f"{jobName}: the images are below DATA in {headers['dcmpath']}")
    # The names of the tags, not their values: a log should say nothing about a patient.
    print(f"{jobName}: headers has {', '.join(sorted(headers))}")
    for name in sorted(added_params):
        print(f"{jobName}: {name} handed over {', '.join(sorted(added_params[name])) or 'nothing'}")
    return {"greeting": params.get("greeting")}
