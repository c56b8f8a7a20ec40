from dcm_processor.paths import run_folder

NO_IMAGES = {
    "AU", "ANN", "ASMT", "DOC", "ECG", "EPS", "FID", "HD", "KO", "M3D", "PLAN", "PR", "REG", "RTPLAN", "RTRECORD", "RTSTRUCT", "RWV",
    "SEG", "SR", "SMR", "STAIN", "TEXTUREMAP",
}
"""Modalities that hold nothing that could become a volume."""


def callback(jobName, headers, params, added_params, **kwargs):
    """Accepts an event with at least one series of images and says where its NIfTI files are going to be.

    added_params["dcm2nii"], all paths relative to DATA:
        output    the file of the only series; the run's folder when there are several
        base      the folder of it
        filename  the file's name without its ending; the run's id when there are several
        ext       the ending
        outputs   {Orthanc's id of a series: {"nifti": {"path", ...}, "json": {"path", ...}}}
        skipped   {id of a series: why it is not looked at}
        deleted   the run's folder, unless `clean` is false in params
        storage   what storageManager shall put into Orthanc, when `store` is true in params

    A file may be missing when its series could not be converted: the job's result says which and why.
    """
    params = params or {}
    wanted, skipped = series_of(headers)
    if not wanted:
        print(f"no series of images: {', '.join(sorted(set(skipped.values()))) or 'the event lists no series'}")
        return False
    folder = run_folder("nifti", headers)
    outputs = {series: places(folder, series) for series in wanted}
    added = {"ext": ".nii.gz", "outputs": outputs, "skipped": skipped}
    if len(wanted) == 1:
        only = outputs[wanted[0]]["nifti"]
        added.update(output=only["path"], base=only["base"], filename=only["filename"])
    else:
        added.update(output=folder, base=folder, filename=folder.rsplit("/", 1)[-1])
    if params.get("clean", True):
        added["deleted"] = folder
    if params.get("store", False):
        added["storage"] = [
            {"type": "nifti", "path": outputs[series]["nifti"]["path"], "seriesId": series, "description": "dcm2niix", "optional": True}
            for series in wanted
        ]
    return True, added


def places(folder, series):
    """Built from ids alone: text from DICOM files could lead anywhere."""
    base = f"{folder}/{series}"
    return {
        kind: {"type": kind, "path": f"{base}/{series}{ext}", "base": base, "filename": series, "ext": ext}
        for kind, ext in (("nifti", ".nii.gz"), ("json", ".json"))
    }


def series_of(headers):
    """The ids of the event's series that may hold a volume, in the order of the headers, and why the others do not."""
    if "seriesId" in headers:
        modalities = {headers["seriesId"]: headers.get("Modality")}
    else:
        modalities = {
            series["id"]: series.get("tags", {}).get("Modality")
            for study in headers.get("studies", [])
            for series in study.get("series", [])
        }
    ids = [headers["seriesId"]] if "seriesId" in headers else headers.get("seriesIds", list(modalities))
    skipped = {id: f"modality {modalities[id]} holds no volume" for id in ids if modalities.get(id) in NO_IMAGES}
    return [id for id in ids if id not in skipped], skipped
