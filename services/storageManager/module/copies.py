"""DICOM files of a job as new objects of the run's study.

The rule: a file is taken when its PatientID and StudyInstanceUID are those of the study in Orthanc, or those that the images of the run
have in the run's own folder, where a pre-service may have given them pseudonyms. Anything else is somebody else's, and the whole entry is
refused. What is taken becomes an object of its own in that study: new SOP and series UIDs, patient and study as Orthanc has them.
References to images of the run lead to the images in Orthanc, references among the files of the entry to the new objects.
"""

import pydicom
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian


def copies(maker, parent, run, origin):
    entry = maker.entry
    heads = [_head(entry, source) for source in entry.files]
    allowed, real = run.identities(parent)
    for source, head in zip(entry.files, heads):
        if (str(head.get("PatientID") or "").strip(), str(head.get("StudyInstanceUID") or "")) not in allowed:
            raise entry.error(
                f"{source.name!r} is not of this run's patient and study; copy PatientID and StudyInstanceUID from the images that "
                "the job was given")
    own = {}
    for source, head in zip(entry.files, heads):
        uid, series = str(head.SOPInstanceUID), str(head.SeriesInstanceUID)
        if uid in own:
            raise entry.error(f"{source.name!r} has the SOPInstanceUID of another file of the entry")
        own[uid] = maker.uid("instance", uid)
        own.setdefault(series, maker.uid("series", series))
    references = own | real
    made = []
    for source in entry.files:
        try:
            made.append(_copy(maker, source, parent, own, references, origin))
        except (pydicom.errors.InvalidDicomError, OSError, ValueError, TypeError, KeyError, AttributeError, NotImplementedError) as error:
            raise entry.error(f"{source.name!r} cannot be written anew ({type(error).__name__}); is it whole, and valid DICOM?") from None
    return made


def _head(entry, source):
    tags = ["PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"]
    try:
        head = pydicom.dcmread(source.path, stop_before_pixels=True, specific_tags=tags)
        if head.file_meta.TransferSyntaxUID and head.SOPInstanceUID and head.SeriesInstanceUID and head.SOPClassUID:
            return head
    except Exception:
        pass
    raise entry.error(f"{source.name!r} is not a DICOM file with a header, SOP class, SOP and series UIDs")


def _copy(maker, source, parent, own, references, origin):
    made = pydicom.dcmread(source.path)
    uid, series = str(made.SOPInstanceUID), str(made.SeriesInstanceUID)

    def lead(dataset, element):
        if element.VR != "UI" or element.is_empty:
            return
        if isinstance(element.value, (list, pydicom.multival.MultiValue)):
            element.value = [references.get(str(one), one) for one in element.value]
        else:
            element.value = references.get(str(element.value), element.value)

    made.walk(lead)
    made.SOPInstanceUID, made.SeriesInstanceUID = own[uid], own[series]
    parent.adopt(made)
    if maker.entry.description:
        made.SeriesDescription = maker.description
    # Explicit, so that Orthanc knows the types of our private elements.
    if made.file_meta.TransferSyntaxUID in (ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian):
        made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return maker.finish(made, parent, origin.id if origin else None)
