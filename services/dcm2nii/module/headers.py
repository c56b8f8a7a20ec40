"""What can be known of a series before it is converted."""

import logging
import os
import re

import pydicom
import pydicom.config

# What pydicom finds wrong with a value it would quote in the job's log.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
logging.getLogger("pydicom").setLevel(logging.CRITICAL)

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66"

IDENTIFYING = (
    "PatientName", "PatientID", "OtherPatientIDs", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName", "PatientBirthDate",
    "PatientAddress", "PatientTelephoneNumbers", "AccessionNumber", "StudyID", "ReferringPhysicianName", "PerformingPhysicianName",
    "NameOfPhysiciansReadingStudy", "OperatorsName", "RequestingPhysician", "StudyInstanceUID", "SeriesInstanceUID", "StudyDate",
)

HARMLESS = ("Manufacturer", "ManufacturerModelName", "SoftwareVersions")

TEXT = {"AE", "AS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UT"}


class Unreadable(Exception):
    """There is nothing that could be converted, and there should be."""


def look(folder):
    """The header of the first image of a series that could be part of a volume.

    Returns (header, None), or (None, why the series holds no volume). Raises Unreadable.
    """
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    if not names:
        raise Unreadable("its images are not there; run the job export again")
    reasons = []
    for name in names:
        try:
            header = pydicom.dcmread(folder / name, stop_before_pixels=True)
        except Exception as error:
            # Whatever pydicom makes of a damaged file: the next one may do. Its text may quote the file.
            print(f"{name}: not readable as DICOM ({type(error).__name__})")
            continue
        reason = missing(header)
        if reason is None:
            return header, None
        reasons.append(reason)
    if not reasons:
        raise Unreadable(f"none of its {len(names)} files can be read as DICOM")
    return None, ", ".join(sorted(set(reasons)))


def missing(header):
    """Why an image is no part of a volume; None when it may be."""
    kind = str(header.get("SOPClassUID", ""))
    name = pydicom.uid.UID(kind).name if kind else "no SOP class"
    if "Rows" not in header or "Columns" not in header:
        return f"no image ({name})"
    if kind.startswith(SEGMENTATION):
        return f"no image of the patient ({name})"
    if kind.startswith(SECONDARY_CAPTURE) and "ImageOrientationPatient" not in header:
        return f"no place in the patient ({name})"
    return None


def elements(header):
    """Those of a header and of the sequences in it that can be read."""
    for tag in list(header.keys()):
        try:
            element = header[tag]
        except Exception:
            # Damaged: dcm2niix may say something else to it, and pydicom's text would quote it.
            continue
        yield element
        if element.VR == "SQ":
            for item in element.value:
                yield from elements(item)


def texts(header, keywords=None):
    """A pattern for the texts of a header, those of `keywords` alone if given; None when there are none."""
    found = set()
    for element in elements(header):
        if element.VR not in TEXT or element.keyword in HARMLESS or (keywords is not None and element.keyword not in keywords):
            continue
        values = element.value if isinstance(element.value, (list, pydicom.multival.MultiValue)) else [element.value]
        for value in values:
            text = str(value).strip()
            found.add(text)
            if element.VR == "PN":
                found.update(re.split(r"[\^=\s]+", text))
    # Longer ones first: a shorter one may be a part of them. Below three letters everything would match.
    found = sorted((text for text in found if len(text) >= 3), key=len, reverse=True)
    if not found:
        return None
    return re.compile(r"(?<![A-Za-z0-9])(?:" + "|".join(map(re.escape, found)) + r")(?![A-Za-z0-9])", re.IGNORECASE)
