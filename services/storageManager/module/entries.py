"""What the jobs of a run hand on to be stored: `added_params[<job>]["storage"]`."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib

from dcm_processor.paths import UnsafePath, belongs_to_run, inside_data

from .errors import StorageError

ENDINGS = {
    "pdf": (".pdf",),
    "png": (".png",),
    "jpeg": (".jpg", ".jpeg"),
    "nifti": (".nii", ".nii.gz"),
    "json": (".json",),
    "dicom": ("",),
}
"""The types of results, and how the names of their files end. In a folder of DICOM files every name will do."""

OTHER_NAMES = {"jpg": "jpeg", "nii": "nifti", "dcm": "dicom", "report": "json"}

KEYS = {
    "type", "path", "destination", "tags", "seriesId", "studyId", "description", "optional", "segmentation", "burnedIn", "frame",
    "permanent", "result",
}


@dataclasses.dataclass(frozen=True)
class Source:
    """One file of an entry."""

    path: pathlib.Path
    name: str
    """The file's name, without the folders above the entry."""
    digest: str
    """SHA-256 of what is in it."""


@dataclasses.dataclass(frozen=True)
class Entry:
    job: str
    index: int
    """Its place in the job's list, from 1 on; for people and for UIDs."""
    type: str
    path: str
    """Relative to DATA, as the job gave it."""
    files: tuple
    """At least one `Source`, sorted by name."""
    destination: str
    """A modality of Orthanc; empty: the result stays in Orthanc."""
    tags: dict
    series: str | None
    study: str | None
    description: str | None
    segmentation: dict | None
    burned_in: bool
    own_frame: bool
    is_result: bool
    """False for the record of something that was done to the images, which alone is worth nothing without them."""

    @property
    def title(self):
        return f"job {self.job}, entry {self.index} ({self.type} {self.path!r})"

    def error(self, text):
        return StorageError(f"{self.title}: {text}")


def read(added_params, headers, params, own_name, log):
    """All entries of a run, jobs by name. Raises StorageError for the first one that cannot be what was meant.

    params: `destination` (default of the entries), `allowShared` (take paths that are not named by the run).
    """
    found = []
    for job in sorted(added_params):
        added = added_params[job]
        if job == own_name or not isinstance(added, dict) or not added.get("storage"):
            continue
        listed = added["storage"]
        for index, given in enumerate(listed if isinstance(listed, list) else [listed], start=1):
            entry = _entry(job, index, given, headers, params, log)
            if entry is not None:
                found.append(entry)
    return found


def _entry(job, index, given, headers, params, log):
    where = f"job {job}, entry {index}"
    if not isinstance(given, dict):
        raise StorageError(f"{where}: 'storage' holds {type(given).__name__}; give an object with 'type' and 'path', or a list of those")
    for key in sorted(set(given) - KEYS):
        log.warning("%s: unknown key %r is ignored; known are %s", where, key, ", ".join(sorted(KEYS)))
    kind = str(given.get("type", "")).lower()
    kind = OTHER_NAMES.get(kind, kind)
    if kind not in ENDINGS:
        raise StorageError(f"{where}: type {given.get('type')!r} cannot be stored; take one of {', '.join(ENDINGS)}")
    path = given.get("path")
    if not isinstance(path, str):
        raise StorageError(f"{where}: 'path' is {type(path).__name__}; give the path of a file or folder, relative to DATA")
    where = f"{where} ({kind} {path!r})"

    def text(key, default=None):
        value = given.get(key)
        if value is not None and not isinstance(value, str):
            raise StorageError(f"{where}: {key!r} is {type(value).__name__}; give a text")
        return default if value is None else value.strip()

    def flag(key, default):
        value = given.get(key)
        if value is not None and not isinstance(value, bool):
            raise StorageError(f"{where}: {key!r} is {type(value).__name__}; give true or false")
        return default if value is None else value

    def table(key):
        value = given.get(key)
        if value is not None and not isinstance(value, dict):
            raise StorageError(f"{where}: {key!r} is {type(value).__name__}; give an object")
        return value

    frame = text("frame", "source")
    if frame not in ("source", "own"):
        raise StorageError(f"{where}: frame {frame!r} is neither 'source' (the coordinates are those of the images) nor 'own'")
    segmentation = table("segmentation")
    if segmentation is not None and kind != "nifti":
        raise StorageError(f"{where}: only a nifti entry can be a segmentation")
    default = params.get("destination")
    if default is None:
        default = os.environ.get("ORTHANC_DEFUALT_STORE") or os.environ.get("ORTHANC_DEFAULT_STORE") or ""
    destination = text("destination", default) if flag("permanent", True) else ""
    optional = flag("optional", False)
    files = _files(where, kind, path, headers, params)
    if not files:
        if not optional:
            what = f"there is no file that ends in {' or '.join(ENDINGS[kind])}" if kind != "dicom" else "there is no file"
            raise StorageError(f"{where}: {what}; the job did not write it, or wrote it elsewhere ('optional': true lets it be missing)")
        log.info("%s: not there, and optional", where)
        return None
    return Entry(
        job, index, kind, path, files, destination, table("tags") or {}, text("seriesId"), text("studyId"), text("description"),
        segmentation, flag("burnedIn", True), frame == "own", flag("result", True),
    )


def _files(where, kind, path, headers, params):
    root = pathlib.Path(os.path.realpath(os.environ["DATA"]))

    def own(path):
        """What really stands there, links followed: neither the path nor what it leads to may be somebody else's."""
        try:
            real = inside_data(path)
        except UnsafePath as error:
            raise StorageError(f"{where}: {error}") from None
        if params.get("allowShared") is not True and not belongs_to_run(real.relative_to(root), headers):
            raise StorageError(
                f"{where}: nothing in the path {str(real.relative_to(root))!r} says that it is of this run, so it could be another "
                "patient's; write into a folder named by the run (dcm_processor.paths.run_folder)"
            )
        return real

    full = own(path)
    if full.is_dir():
        names = sorted(
            pathlib.Path(folder, name).relative_to(full)
            for folder, _, names in os.walk(full) for name in names
            if not name.startswith(".") and name.upper() != "DICOMDIR" and name.lower().endswith(ENDINGS[kind])
        )
        chosen = [(full / name, name.as_posix()) for name in names]
    elif full.is_file():
        chosen = [(full, full.name)]
    else:
        chosen = []
    sources = []
    for file, name in chosen:
        real = own(file)
        if not real.is_file():
            raise StorageError(f"{where}: {name!r} is not a file")
        sources.append(Source(real, name, digest(real)))
    return tuple(sources)


def digest(path, name="sha256"):
    """The hexadecimal digest of a file."""
    total = hashlib.new(name)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()
