"""Studies to put results into, destinations to send to, and what tests do with both."""

import copy
import json
import pathlib
import socket
import subprocess

import numpy
import pydicom
import pydicom.data
from orthanc_for_tests import free_port, until
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

import storageManager

RUN = "01M8TESTRUN0000000000000001"
PEOPLE = "Müller^Zoë"


class Sink:
    """A storescp that keeps what it gets, or refuses."""

    def __init__(self, folder, *options):
        self.port, self.folder = free_port(), folder
        folder.mkdir()
        command = ["storescp", "-od", str(folder), *options, str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self._listens, "storescp's start")

    def _listens(self):
        assert self.process.poll() is None, "storescp has ended"
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0

    def received(self):
        return sorted(str(pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID) for file in self.folder.iterdir())

    def clear(self):
        for file in self.folder.iterdir():
            file.unlink()

    def stop(self):
        self.process.kill()  # its folder goes with the test
        self.process.wait(20)


class Study:
    """A study in Orthanc with its export below DATA, and the `headers` of a run of it."""

    def __init__(self, server, data, images, level="study", run=RUN):
        self.images = images
        self.files = {}
        answers = []
        for image in images:
            file = pathlib.Path(data).parent / "upload.dcm"
            image.save_as(file, enforce_file_format=True)
            answers.append(json.loads(server.ask("POST", "/instances", file.read_bytes())))
            assert answers[-1]["Status"] == "Success"
        self.id, self.patient = answers[0]["ParentStudy"], answers[0]["ParentPatient"]
        self.series = list(dict.fromkeys(answer["ParentSeries"] for answer in answers))
        dcmpath = f"dicom/{run}"
        for image, answer in zip(images, answers):
            folder = pathlib.Path(data) / dcmpath
            if level != "series":
                folder /= answer["ParentSeries"]
            folder.mkdir(parents=True, exist_ok=True)
            image.save_as(folder / f"{answer['ID']}.dcm", enforce_file_format=True)
            self.files[answer["ID"]] = folder / f"{answer['ID']}.dcm"
        if level == "series":
            self.headers = {"patientId": self.patient, "studyId": self.id, "seriesId": self.series[0], "dcmpath": dcmpath}
        else:
            tree = {"id": self.id, "tags": {}, "series": [{"id": series, "tags": {}} for series in self.series]}
            self.headers = {
                "id": self.id if level == "study" else self.patient, "tags": {}, "dcmpath": dcmpath, "studies": [tree],
                "studyIds": [self.id], "seriesIds": self.series,
            }

    @property
    def first(self):
        return self.images[0]


def volume_images(
    modality="CT", shape=(12, 16, 5), *, orientation=(1, 0, 0, 0, 1, 0), spacing=(0.75, 0.5), step=2.0, patient="TEST-1", study=None
):
    """A series of slices; shape: rows, columns, slices."""
    generator = numpy.random.default_rng(7)
    values = generator.integers(-500 if modality == "CT" else 0, 1500, shape)
    across = numpy.cross(orientation[:3], orientation[3:])
    study, series, frame = study or generate_uid(), generate_uid(), generate_uid()
    images = []
    for number in range(shape[2]):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = CTImageStorage if modality == "CT" else MRImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        image = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        image.SpecificCharacterSet = "ISO_IR 100"
        image.PatientID, image.PatientName, image.PatientBirthDate, image.PatientSex = patient, PEOPLE, "19700101", "F"
        image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study, series, frame
        image.SOPClassUID, image.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        image.StudyDate, image.StudyTime, image.StudyID, image.AccessionNumber = "20240131", "101112", "S1", "A-1"
        image.ReferringPhysicianName, image.StudyDescription, image.SeriesDescription = "", "Test", "Slices"
        image.PatientAge, image.PatientPosition, image.PositionReferenceIndicator = "054Y", "HFS", ""
        image.Modality, image.Manufacturer, image.SeriesNumber, image.InstanceNumber = modality, "Nobody", 3, number + 1
        image.ImageType, image.AcquisitionNumber, image.BodyPartExamined = ["ORIGINAL", "PRIMARY", "AXIAL"], 1, "HEAD"
        image.ImageOrientationPatient = [round(float(value), 12) for value in orientation]
        image.ImagePositionPatient = [round(float(value), 8) for value in numpy.array([-30.0, -20.0, 10.0]) + across * step * number]
        image.PixelSpacing, image.SliceThickness = list(spacing), step
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.Rows, image.Columns = shape[:2]
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
        if modality == "CT":
            image.KVP, image.RescaleSlope, image.RescaleIntercept = "120", "1", "0"
        else:
            image.ScanningSequence, image.SequenceVariant, image.ScanOptions, image.MRAcquisitionType = "SE", "NONE", "", "2D"
            image.RepetitionTime, image.EchoTime, image.EchoTrainLength, image.MagneticFieldStrength = "500", "10", "1", "1.5"
        image.PixelData = values[:, :, number].astype("<i2").tobytes()
        images.append(image)
    return images


def real_images(modality, patient="98890234"):
    """The largest stack of slices of a modality of pydicom's own test patient, with fresh UIDs."""
    folder = pathlib.Path(pydicom.data.get_testdata_file("DICOMDIR")).parent
    series = {}
    for path in sorted(file for file in folder.glob("*/*/*") if file.is_file()):
        image = pydicom.dcmread(path)
        if image.get("Modality") == modality and image.PatientID == patient:
            series.setdefault((str(image.SeriesInstanceUID), str(image.ImageOrientationPatient), image.Rows), []).append(image)
    images = [copy.deepcopy(image) for image in max(series.values(), key=len)]
    fresh = {}
    for image in images:
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
            if image.get(keyword):
                old = str(image[keyword].value)
                image[keyword].value = fresh.setdefault((keyword, old), generate_uid())
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    return images


def store(study, *entries, params=None, job="maker"):
    return storageManager.worker(
        jobName="storageManager", headers=study.headers, params=params,
        added_params={job: {"storage": list(entries)}, "storageManager": {}})


def entry(kind, name, **more):
    return {"type": kind, "path": f"results/{RUN}/{name}", **more}


def stored(server, result):
    """The files of a result, as Orthanc gives them, by series and InstanceNumber."""
    files = [
        server.file(instance) for series in result["series"] for instance in server.get(f"/series/{series}")["Instances"]
    ]
    made = [pydicom.dcmread(pydicom.filebase.DicomBytesIO(file)) for file in files]
    return sorted(made, key=lambda one: (str(one.SeriesInstanceUID), one.InstanceNumber))


def errors(dataset, tmp_path):
    """What dciodvfy finds wrong, and whether dcmdump reads it."""
    file = tmp_path / "verify.dcm"
    dataset.save_as(file, enforce_file_format=True)
    subprocess.run(["dcmdump", "-q", "+E", str(file)], check=True, stdout=subprocess.DEVNULL)
    verdict = subprocess.run(["dciodvfy", "-new", str(file)], capture_output=True, text=True)
    return [line for line in (verdict.stdout + verdict.stderr).splitlines() if line.startswith("Error")]


def check(dataset, study, tmp_path):
    """Valid, of the right study and patient, and marked."""
    assert errors(dataset, tmp_path) == []
    first = study.first
    for keyword in ("PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate", "StudyID", "AccessionNumber",
                    "StudyDescription"):
        assert dataset.get(keyword) == first.get(keyword, ""), keyword
    assert str(dataset.PatientName) == str(first.PatientName)
    block = dataset.private_block(0x0405, "DCM-PROCESSOR")
    assert block[0x05].value == "dcm-processor" and block[0x01].value == "orthanc-only"
    assert (0x0405, 0x1005) in dataset and dataset.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
    assert len({str(image.SeriesInstanceUID) for image in study.images} & {str(dataset.SeriesInstanceUID)}) == 0
