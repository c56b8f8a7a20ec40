from dcm_processor.paths import run_folder


def callback(jobName, headers, params, added_params, **kwargs):
    """Accepts every event: whatever the other services are given has been de-identified before.

    added_params["dicomAnonymizer"], paths relative to DATA:
        output   the run's own folder of images, in which the files are replaced by de-identified ones
        report   where the report is going to be
        storage  the report, for storageManager, unless `params.report` is "keep"
        deleted  its folder, for systemcleaner, unless `params.report` is "keep"
    """
    folder = run_folder("deidentification", headers)
    report = f"{folder}/report.json"
    injected = {"output": headers["dcmpath"], "report": report}
    if (params or {}).get("report") != "keep":
        # The original study is where people who may know the patient look; it is not sent on.
        injected["storage"] = {
            "type": "json", "path": report, "description": "De-identification report", "destination": "", "optional": True,
            "result": False,
        }  # fmt: skip
        if len(headers.get("studyIds") or ()) > 1:
            injected["storage"]["studyId"] = headers["studyIds"][0]
        injected["deleted"] = [folder]
    return True, injected
