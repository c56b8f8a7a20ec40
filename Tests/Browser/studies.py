"""Small studies, written with pydicom."""

import io

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

# Text of somebody who means harm, or who writes from right to left.
SCRIPT = "<script>window.hostile=1</script><img src=x onerror=window.hostile=2>"
RIGHT_TO_LEFT = "\u202e\u05de\u05d8\u05d5\u05e4\u05dc 'a\" & {{csrf}}</textarea>"


def study(modality, series=1, images=2, **tags):
    """The images of a new study, as files. Tags are by keyword: `PatientName="A^B"`."""
    study_uid = generate_uid()
    for number in range(1, series + 1):
        series_uid = generate_uid()
        for position in range(1, images + 1):
            image = Dataset()
            image.file_meta = FileMetaDataset()
            image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = MRImageStorage
            image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = generate_uid()
            image.SpecificCharacterSet = "ISO_IR 192"
            image.StudyInstanceUID, image.SeriesInstanceUID = study_uid, series_uid
            image.PatientID, image.PatientName, image.PatientBirthDate = f"P{study_uid[-8:]}", "Sample^Sara", "19700101"
            image.StudyDate, image.StudyDescription, image.SeriesDescription = "20240131", "Sample study", f"series {number}"
            image.Modality, image.SeriesNumber, image.InstanceNumber = modality, number, position
            image.Rows = image.Columns = 8
            image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
            image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
            image.PixelData = bytes(128)
            for keyword, value in tags.items():
                setattr(image, keyword, value)
            buffer = io.BytesIO()
            pydicom.dcmwrite(buffer, image, enforce_file_format=True)
            yield buffer.getvalue()


def hostile():
    """The job of these images puts what it finds in them wherever a job can put text."""
    return study("OT", PatientName=SCRIPT, SeriesDescription=RIGHT_TO_LEFT, StudyDescription=SCRIPT)
