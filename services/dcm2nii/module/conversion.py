"""One series through dcm2niix."""

import collections
import json
import os
import shutil
import subprocess

from . import nifti
from .headers import IDENTIFYING, texts

ENDINGS = (".nii.gz", ".json", ".bval", ".bvec")

DROPPED = {
    "AccessionNumber", "AcquisitionDateTime", "DeviceSerialNumber", "ImageComments", "InstitutionAddress", "InstitutionName",
    "InstitutionalDepartmentName", "OperatorsName", "PatientBirthDate", "PatientID", "PatientName", "PatientSex", "PatientWeight",
    "PerformingPhysicianName", "ProcedureStepDescription", "ReferringPhysicianName", "SeriesInstanceUID", "StationName", "StudyID",
    "StudyInstanceUID",
}
"""Keys of a side car that dcm2niix leaves in although it has been asked to leave out who it is about."""

File = collections.namedtuple("File", "name kind")
"""kind: what dcm2niix appended to the name to tell the files of a series apart, such as `_e2`, `_ph`, `_Tilt_1`; mostly empty."""


class ConversionFailed(Exception):
    """dcm2niix made nothing of a series."""


def convert(source, target, stem, header):
    """Converts the DICOM files of folder `source`, which are one series, into folder `target`.

    One series may become several files: echoes, phases, gantry tilt, other sizes. One of them is `<stem>.nii.gz`, for the jobs
    that expect it: the one that dcm2niix calls so, else the one with most voxels, of equal ones the first. The others keep the
    names that dcm2niix gives them.

    header: of one of the images; what stands in it neither reaches the log nor the files.

    Returns the files, the promised one first, and what dcm2niix complained about, if it did.
    """
    options = ["-g", "i", "-z", "y", "-b", "y", "-ba", "y"]
    code, complaint = run(["dcm2niix", *options, "-f", stem, "-o", str(target), str(source)], header)
    if code < 0:
        raise ConversionFailed(f"dcm2niix was ended by signal {-code}")
    names = sorted(name for name in os.listdir(target) if name.endswith(".nii.gz"))
    if not names:
        raise ConversionFailed(f"dcm2niix made no NIfTI: {complaint or f'it ended with {code} and gave no reason'}")
    kinds = {name: name[len(stem) : -len(".nii.gz")] for name in names}
    promised = f"{stem}.nii.gz"
    for name in names:
        nifti.check(os.path.join(target, name))
        nifti.clear_texts(os.path.join(target, name))
    if promised not in names:
        largest = max(names, key=lambda name: nifti.content_length(os.path.join(target, name)))
        rename(target, largest[: -len(".nii.gz")], stem)
        kinds[promised] = kinds.pop(largest)
    identifying = texts(header, IDENTIFYING)
    for name in os.listdir(target):
        if name.endswith(".json"):
            clear_sidecar(os.path.join(target, name), identifying)
    files = [File(name, kinds[name]) for name in sorted(kinds, key=lambda name: (name != promised, name))]
    return files, complaint if code != 0 or complaint.startswith("Error") else ""


def rename(folder, stem, new):
    for ending in ENDINGS:
        old = os.path.join(folder, stem + ending)
        if os.path.exists(old):
            os.rename(old, os.path.join(folder, new + ending))


def run(command, header):
    """Runs dcm2niix. Its output goes to the log without what stands in the images' headers.

    Returns its exit status and its last complaint: an error, else a warning.
    """
    if shutil.which(command[0]) is None:
        raise RuntimeError(f"{command[0]} is not installed on this worker; on Debian and Ubuntu: apt install {command[0]}")
    pattern = texts(header)
    complaint = ""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        for line in process.stdout:
            line = line.strip()
            # Of what it says beside this nobody knows whether it quotes a header.
            if not line.startswith(("Error", "Warning", "Convert", "Found", "Note", "Slices", "Compress", "Unable", "Images")):
                continue
            line = line.replace(command[-1], "the series").replace(command[-2] + "/", "")
            line = pattern.sub("[...]", line) if pattern else line
            print(f"  dcm2niix: {line[:500]}", flush=True)
            # Through a pipe its complaints arrive before the greeting that it has printed first.
            if line.startswith(("Error", "Unable")) or (line.startswith("Warning") and not complaint.startswith(("Error", "Unable"))):
                complaint = line[:500]
    return process.returncode, complaint


def clear_sidecar(path, identifying):
    """Takes the keys out that say who the images are of, and texts that quote it."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            content = json.load(file)
    except ValueError:
        print(f"{os.path.basename(path)} is left out: dcm2niix wrote no valid JSON")
        os.remove(path)
        return
    kept = {key: value for key, value in content.items() if key not in DROPPED and not quotes(value, identifying)}
    with open(path, "w", encoding="utf-8") as file:
        json.dump(kept, file, indent=2, ensure_ascii=False)
        file.write("\n")


def quotes(value, identifying):
    if isinstance(value, list):
        return any(quotes(item, identifying) for item in value)
    return identifying is not None and isinstance(value, str) and identifying.search(value) is not None
