from dcm_processor.paths import run_folder


def callback(jobName, headers, params, added_params, **kwargs):
    """Accepts every event: whatever the other services are given has been de-identified before.

    added_params["dicomAnonymizer"], paths relative to DATA:
        output   the run's own folder of images, in which the files are replaced by de-identified ones
        report   where the report is going to be
        deleted  the report, for the cleaner, when `params.keepReport` is false
    """
    report = run_folder("deidentification", headers)
    injected = {"output": headers["dcmpath"], "report": f"{report}/report.json"}
    if (params or {}).get("keepReport") is False:
        injected["deleted"] = [report]
    return True, injected
