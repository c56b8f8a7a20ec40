#!/usr/bin/env python3
"""Writes the two sample patients of `./dcm demo` as DICOM files, ready for C-STORE.

    sample_studies.py OUT [--cache DIR] [--cranium FILE]

Patient 1: the CT and MR studies of patient 98890234 among pydicom's test files (tiny images, ragged geometry).
           Taken from the installed pydicom, else from its wheel on PyPI, which is kept in the cache folder.
Patient 2: a head CT of 108 slices, from the project file `Cranium.inv3` of Debian's package invesalius-examples.
           Without that file there is patient 1 alone.

Every call makes fresh study, series and instance UIDs. Orthanc answers a second C-STORE of a known instance with
success and does nothing more: no change, no event, no run. New UIDs are what a follow-up examination of the same
patient looks like, and nothing that an earlier demo has left behind has to be deleted for it.

OUT gets a folder for each patient and `studies.json`:

    {"patients": [{"label", "folder", "instances", "patient": orthancId,
                   "studies": [{"id": orthancId, "title", "instances", "series": [orthancId]}]}]}

The ids are the ones that Orthanc computes from the DICOM identifiers, so that a reader can ask for the resources
without a search. Labels and titles say nothing about a person.
"""

import argparse
import hashlib
import json
import pathlib
import plistlib
import subprocess
import sys
import tarfile
import zipfile

import numpy
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

CRANIUM = "/usr/share/doc/invesalius-examples/examples/Cranium.inv3"
TEST_FILES = "data/test_files/dicomdirtests"
PATIENT = "98890234"
PYDICOM_WITH_FILES = "pydicom==2.4.4"


class SampleError(Exception):
    """A source of images that cannot be had; the text says what to do."""


def pydicom_files(cache):
    """The folder of pydicom's DICOMDIR test files, from the installed package or from PyPI's wheel in `cache`."""
    installed = pathlib.Path(pydicom.__file__).parent / TEST_FILES
    if installed.is_dir():
        return installed
    kept = cache / "pydicom" / TEST_FILES
    if kept.is_dir():
        return kept
    wheels = sorted(cache.glob("pydicom-*.whl")) or [downloaded(cache)]
    with zipfile.ZipFile(wheels[0]) as wheel:
        wheel.extractall(cache, [name for name in wheel.namelist() if TEST_FILES in name])
    return kept


def downloaded(cache):
    """The wheel of pydicom that still has the files, from PyPI."""
    cache.mkdir(parents=True, exist_ok=True)
    # One more attempt and no more: nobody waits minutes to hear that there is no way out of this network.
    limits = ["--retries", "1", "--timeout", "15", "--disable-pip-version-check"]
    options = ["-q", "--no-deps", "--only-binary", ":all:", "-d", str(cache)]
    command = [sys.executable, "-m", "pip", "download", *limits, *options, PYDICOM_WITH_FILES]
    result = subprocess.run(command, capture_output=True, text=True)
    wheels = sorted(cache.glob("pydicom-*.whl"))
    if result.returncode != 0 or not wheels:
        reason = (result.stderr.strip().splitlines() or ["no wheel was downloaded"])[-1]
        raise SampleError(
            f"the sample images of {PYDICOM_WITH_FILES} could not be fetched from PyPI: {reason}. Set PIP_INDEX_URL to an index that this "
            f"machine can reach, or put the wheel into {cache}"
        )
    return wheels[0]


def ragged_patient(source, out):
    """Copies the images of patient 98890234 with fresh UIDs to `out`; answers with the data sets."""
    fresh = {}

    def renew(uid):
        return fresh.setdefault(uid, generate_uid(prefix=None))

    images = []
    for path in sorted(source.glob("9889200*/*/*")):
        image = pydicom.dcmread(path)
        if image.PatientID == PATIENT:
            images.append(image)
    if not images:
        raise SampleError(f"no images of patient {PATIENT} under {source}")
    for image in images:
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
            if image.get(keyword):
                renew(image.data_element(keyword).value)

    def replace(_, element):
        if element.VR == "UI" and element.value in fresh:
            element.value = fresh[element.value]

    out.mkdir(parents=True)
    for number, image in enumerate(images, start=1):
        image.walk(replace)
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.save_as(out / f"{number:04d}.dcm", write_like_original=False)
    return images


def head_volume(project):
    """Hounsfield units of an InVesalius project as (slices, rows, columns), and the spacing in mm as (x, y, z).

    InVesalius keeps slices from the feet to the head and, like VTK, the rows from the bottom of the picture to its top:
    the back of the head comes first. DICOM wants the top row first, the nose.
    """
    with tarfile.open(project) as archive:
        members = {pathlib.PurePosixPath(member.name).name: member for member in archive.getmembers()}
        plist = plistlib.load(archive.extractfile(members["main.plist"]))
        matrix = archive.extractfile(members[plist["matrix"]["filename"]]).read()
    volume = numpy.frombuffer(matrix, dtype="<i2").reshape(plist["matrix"]["shape"])
    return volume[:, ::-1, :], plist["spacing"]


def head_patient(project, out):
    """Writes the head as an axial CT series to `out`; answers with the data sets."""
    volume, (x, y, z) = head_volume(project)
    count, rows, columns = volume.shape
    study, series, frame = (generate_uid(prefix=None) for _ in range(3))
    out.mkdir(parents=True)
    images = []
    for index in range(count):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid(prefix=None)
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = out / f"{index + 1:04d}.dcm"
        image = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
        image.is_little_endian, image.is_implicit_VR = True, False
        image.SpecificCharacterSet = "ISO_IR 192"
        image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study, series, frame
        image.PatientID, image.PatientName, image.PatientSex, image.PatientBirthDate = "DCM-SAMPLE-HEAD", "Sample^Head", "O", ""
        image.StudyID, image.AccessionNumber, image.ReferringPhysicianName = "1", "", ""
        image.StudyDate = image.SeriesDate = image.AcquisitionDate = image.ContentDate = "20120914"
        image.StudyTime = image.SeriesTime = image.AcquisitionTime = image.ContentTime = "151208"
        image.Modality, image.Manufacturer = "CT", "InVesalius"
        image.StudyDescription, image.SeriesDescription, image.BodyPartExamined = "Head", "Cranium 1.5 mm", "HEAD"
        image.SeriesNumber, image.AcquisitionNumber, image.InstanceNumber = 2, 1, index + 1
        image.PatientPosition, image.PositionReferenceIndicator = "HFS", ""
        image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        image.ImagePositionPatient = [decimal(-x * (columns - 1) / 2), decimal(-y * (rows - 1) / 2), decimal(z * index)]
        image.SliceLocation, image.SliceThickness, image.SpacingBetweenSlices = decimal(z * index), decimal(z), decimal(z)
        image.PixelSpacing = [decimal(y), decimal(x)]
        image.KVP, image.RescaleIntercept, image.RescaleSlope, image.RescaleType = "120", "-1024", "1", "HU"
        image.WindowCenter, image.WindowWidth = "40", "400"
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.Rows, image.Columns = rows, columns
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
        image.PixelData = (volume[index].astype("<i4") + 1024).clip(0, 4095).astype("<u2").tobytes()
        image.save_as(path, write_like_original=False)
        images.append(image)
    return images


def decimal(value):
    """A DICOM decimal string of at most 16 characters."""
    return f"{value:.6f}".rstrip("0").rstrip(".")


def orthanc_id(*identifiers):
    """The id that Orthanc gives to a patient, study or series: SHA-1 of its DICOM identifiers, in five groups."""
    digest = hashlib.sha1("|".join(identifiers).encode("ascii")).hexdigest()
    return "-".join(digest[start : start + 8] for start in range(0, 40, 8))


def describe(label, folder, images):
    """What `studies.json` says about one patient."""
    studies = {}
    for image in images:
        study = studies.setdefault(str(image.StudyInstanceUID), {"modalities": set(), "series": set(), "instances": 0})
        study["modalities"].add(str(image.Modality))
        study["series"].add(str(image.SeriesInstanceUID))
        study["instances"] += 1
    patient = str(images[0].PatientID)
    return {
        "label": label,
        "folder": folder,
        "instances": len(images),
        "patient": orthanc_id(patient),
        "studies": [
            {
                "id": orthanc_id(patient, uid),
                "title": f"{'+'.join(sorted(study['modalities']))}, {len(study['series'])} series, {study['instances']} images",
                "instances": study["instances"],
                "series": sorted(orthanc_id(patient, uid, series) for series in study["series"]),
            }
            for uid, study in studies.items()
        ],
    }


def main():
    parser = argparse.ArgumentParser(description="Writes the sample patients of ./dcm demo as DICOM files.")
    parser.add_argument("out", type=pathlib.Path, help="a folder that does not exist yet")
    parser.add_argument("--cache", type=pathlib.Path, default=pathlib.Path("cache"), help="where downloads are kept")
    parser.add_argument("--cranium", type=pathlib.Path, default=pathlib.Path(CRANIUM), help="InVesalius' sample project")
    options = parser.parse_args()
    patients = []
    options.out.mkdir(parents=True)
    ragged = ragged_patient(pydicom_files(options.cache), options.out / "patient-1")
    patients.append(describe("patient 1 (CT and MR)", "patient-1", ragged))
    if options.cranium.is_file():
        head = head_patient(options.cranium, options.out / "patient-2")
        patients.append(describe("patient 2 (head CT)", "patient-2", head))
    (options.out / "studies.json").write_text(json.dumps({"patients": patients}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    try:
        main()
    except (SampleError, OSError) as error:
        sys.exit(f"sample_studies: {error}")
