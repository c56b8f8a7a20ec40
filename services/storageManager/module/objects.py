"""What all results have in common: where they belong, what they are called, and the mark that says whose they are."""

import dataclasses
import datetime
import pathlib

from pydicom import config
from pydicom.dataelem import DataElement
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian

from . import uids
from .parents import PATIENT, STUDY

CREATOR = "DCM-PROCESSOR"
SOURCE = "dcm-processor"

# The entries of a run get the series numbers from here on, behind those of any scanner.
FIRST_SERIES_NUMBER = 9000

PROTECTED = {
    *PATIENT, *STUDY, "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SpecificCharacterSet", "PixelData",
    "Rows",
    "Columns", "BitsAllocated", "BitsStored", "HighBit", "SamplesPerPixel", "PhotometricInterpretation", "PixelRepresentation",
    "PlanarConfiguration", "NumberOfFrames", "ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "RescaleSlope",
    "RescaleIntercept", "EncapsulatedDocument", "ContentSequence", "Modality",
}
"""What `tags` of an entry must not set: identity, geometry and content are not for renaming."""


@dataclasses.dataclass(frozen=True)
class Made:
    """A DICOM file that is ready to be stored."""

    path: pathlib.Path
    instance: str
    """Orthanc's id, of which everything is known before Orthanc has seen it."""
    series: str
    study: str
    uid: str
    """SOPInstanceUID."""


class Maker:
    """Makes and writes the objects of one run. What is made again is the same to the last byte."""

    def __init__(self, run_id, position, entry, folder):
        self.entry = entry
        self._run = run_id
        self._position = position
        self._folder = folder
        self._count = 0

    def uid(self, *parts):
        """A UID of this entry of this run, which depends on what its files hold."""
        return uids.make(self._run, self.entry.job, self.entry.index, *(source.digest for source in self.entry.files), *parts)

    def new(self, parent, sop_class, modality, source, *, number=1, series="series"):
        """A Dataset with the modules of patient, study, series, equipment and SOP instance.

        source: the file that it is made from.
        number: of the instance in its series, from 1 on.
        series: names the series within the entry.
        """
        made = FileDataset("", {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
        parent.adopt(made)
        made.SOPClassUID = sop_class
        made.SOPInstanceUID = self.uid("instance", series, number)
        made.SeriesInstanceUID = self.uid("series", series)
        made.Modality = modality
        made.SeriesNumber = FIRST_SERIES_NUMBER + self._position
        made.InstanceNumber = number
        made.Manufacturer = "DCM Processor"
        made.ManufacturerModelName = "storageManager"
        moment = self.moment(source)
        for name in ("Content", "InstanceCreation", "Series"):
            setattr(made, f"{name}Date", moment.strftime("%Y%m%d"))
            setattr(made, f"{name}Time", moment.strftime("%H%M%S"))
        made.SeriesDescription = self.description
        return made

    @property
    def description(self):
        return (self.entry.description or f"DCM Processor: {self.entry.job}")[:64]

    def moment(self, source):
        """When the file was written: the same for every attempt."""
        return datetime.datetime.fromtimestamp(source.path.stat().st_mtime)

    def finish(self, made, parent, reference=None):
        """Marks and writes an object.

        reference: Orthanc's id of the series that it was made from.
        """
        for keyword, value in self.entry.tags.items():
            self._set(made, keyword, value)
        self._mark(made, reference)
        if made.get("SeriesDescription") == "dcm-processor-temp":
            raise self.entry.error("the description 'dcm-processor-temp' is what upstream calls passing files; take another one")
        made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
        made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
        if "TransferSyntaxUID" not in made.file_meta:
            made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        identity = str(made.PatientID or "").strip(), str(made.StudyInstanceUID)
        series = uids.orthanc_id(*identity, made.SeriesInstanceUID)
        # The last look: by these two Orthanc decides where it goes.
        if identity != parent.identity or uids.orthanc_id(*identity) != parent.study:
            raise self.entry.error("what was made of it does not belong to the run's study; nothing was stored")
        self._count += 1
        path = self._folder / f"{self._position:03d}-{self._count:05d}.dcm"
        made.save_as(path, enforce_file_format=True)
        return Made(
            path, uids.orthanc_id(*identity, made.SeriesInstanceUID, made.SOPInstanceUID), series, parent.study, str(made.SOPInstanceUID))

    def _set(self, made, keyword, value):
        tag = tag_for_keyword(keyword)
        if tag is None:
            raise self.entry.error(f"'tags' has {keyword!r}, which is no keyword of DICOM")
        vr = dictionary_VR(tag)
        if keyword in PROTECTED or Tag(tag).group in (0x0002, 0x0405, 0x7FE0) or vr in ("SQ", "UN") or vr.startswith("O"):
            raise self.entry.error(f"'tags' has {keyword!r}, which says what the object is and whose; it cannot be given")
        try:
            made.add(DataElement(tag, vr, "" if value is None else value, validation_mode=config.RAISE))
        except Exception:
            raise self.entry.error(f"'tags' has a value for {keyword!r} that is not of its type ({vr})") from None

    def _mark(self, made, reference):
        block = made.private_block(0x0405, CREATOR, create=True)
        # Not store-data: an Orthanc that still has upstream's script would send it on a second time.
        for element, value in (
            (0x01, "orthanc-only"), (0x03, self.entry.type), (0x05, SOURCE), (0x07, self.entry.destination), (0x09, reference or ""),
        ):
            if element in block:
                del block[element]
            block.add_new(element, "LO", value[:64])

