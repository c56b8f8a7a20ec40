import os


def callback(jobName, headers, params, added_params, **kwargs):
    if "seriesId" in headers:
        name = headers["seriesId"]
        return True, {"output": os.path.join("nifti", name + ".nii.gz"), "base": "nifti", "filename": name, "ext": ".nii.gz"}
    folder = os.path.join("nifti", headers["id"])
    return True, {
        "outputs": {name: {"nifti": {"path": os.path.join(folder, name + ".nii.gz"), "base": folder}} for name in headers["seriesIds"]},
    }
