from dcm_processor.paths import run_folder


def callback(jobName, headers, params, added_params, **kwargs):
    """Accepts what dcm2nii has accepted. The previews of a run get a folder of their own, and each series one in it.

    added_params["preview"], all paths relative to DATA:
        output    the run's folder
        deleted   the same, unless `clean` is false in params
        storage   the pictures, which storageManager puts into Orthanc, unless `store` is false in params
    """
    if "dcm2nii" not in added_params:
        return False
    params = params or {}
    folder = run_folder("preview", headers)
    added = {"output": folder}
    if params.get("clean", True):
        added["deleted"] = folder
    if params.get("store", True):
        # A series that could not be converted has no picture.
        added["storage"] = [
            {"type": "png", "path": f"{folder}/{series}", "seriesId": series, "description": "Preview", "optional": True}
            for series in series_of(added_params["dcm2nii"])
        ]
    return True, added


def series_of(converted):
    return list(converted["outputs"]) if "outputs" in converted else [converted["filename"]] if "filename" in converted else []
