import posixpath


def callback(jobName, headers, params, added_params, **kwargs):
    """Accepts what dcm2nii has accepted. The previews of a run get a folder of their own."""
    if "dcm2nii" not in added_params:
        return False
    return True, {"output": f"preview/{posixpath.basename(added_params['dcm2nii']['base'])}"}
