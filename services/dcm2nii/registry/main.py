import posixpath

# What holds no image that could become a volume.
NO_IMAGES = {
    "AU", "ANN", "ASMT", "DOC", "ECG", "EPS", "FID", "HD", "KO", "M3D", "PLAN", "PR", "REG", "RTPLAN", "RTRECORD", "RTSTRUCT", "RWV",
    "SEG", "SR", "SMR", "STAIN", "TEXTUREMAP",
}


def callback(jobName, headers, params, added_params, **kwargs):
    """Accepts an event with at least one series of images and says where its NIfTI files are going to be.

    added_params["dcm2nii"]:
        base      the folder of this run's NIfTI files, relative to DATA like every path here
        ext       their ending
        filename  the file's name without ending; of the only series, else the run's folder
        output    the file of the only series; the folder when there are several
        series    {Orthanc's id of a series: its file}
    """
    # Paths are built from Orthanc's ids and the run's own folder alone: text from DICOM files could lead anywhere.
    run = posixpath.basename(headers["dcmpath"].rstrip("/"))
    if run in ("", ".", ".."):
        raise ValueError(f"dcmpath {headers['dcmpath']!r} ends in no folder name")
    ids = image_series(headers)
    if not ids:
        return False
    base = f"nifti/{run}"
    series = {id: f"{base}/{id}.nii.gz" for id in ids}
    only = ids[0] if len(ids) == 1 else None
    return True, {
        "base": base,
        "ext": ".nii.gz",
        "filename": only or run,
        "output": series[only] if only else base,
        "series": series,
    }


def image_series(headers):
    """The ids of the event's series that hold images, in the order of the headers."""
    if "seriesId" in headers:
        return [headers["seriesId"]] if headers.get("Modality") not in NO_IMAGES else []
    modalities = {
        series["id"]: series.get("tags", {}).get("Modality")
        for study in headers.get("studies", [])
        for series in study.get("series", [])
    }
    return [id for id in headers.get("seriesIds", list(modalities)) if modalities.get(id) not in NO_IMAGES]
