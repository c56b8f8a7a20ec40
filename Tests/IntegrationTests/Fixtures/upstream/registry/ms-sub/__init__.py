def callback(jobName, headers, params, added_params, **kwargs):
    return "dcm2nii" in added_params, {}
