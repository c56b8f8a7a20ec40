"""Files that are hard to de-identify, and the means to look whether it has been done: independent of the service's own code."""

import io
import pathlib
import zlib

import pydicom
from pydicom.data import get_charset_files, get_testdata_file
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"

NAME = "Wernstroem^Ottokar^von^Dr"
NUMBER = "PID-7741-QX"
ACCESSION = "ACC99812734"
BIRTH = "19370423"

IDENTIFYING = {
    "PatientName": NAME,
    "PatientID": NUMBER,
    "IssuerOfPatientID": "Issuer of Sankt Elsewhere",
    "OtherPatientIDs": ["OPID-000111", "OPID-000222"],
    "OtherPatientNames": "Wernstroem^Previously",
    "PatientBirthName": "Birthnameski^Ottokar",
    "PatientMotherBirthName": "Mothernameski",
    "PatientBirthDate": BIRTH,
    "PatientBirthTime": "030405",
    "PatientAddress": "17 Hidden Lane, Obscureville",
    "PatientTelephoneNumbers": "+49 30 5551234567",
    "PatientComments": "Patient is the brother of Mister Zxcvbnowski",
    "PatientAge": "087Y",
    "PatientWeight": "81.375",
    "EthnicGroup": "Ethnicgroupish",
    "Occupation": "Submarine cook",
    "AdditionalPatientHistory": "History of Wernstroem",
    "PatientReligiousPreference": "Pastafarian",
    "MilitaryRank": "Rear Admiral",
    "CountryOfResidence": "Atlantisland",
    "RegionOfResidence": "Lower Atlantis",
    "ResponsiblePerson": "Guardianowa^Helga",
    "ResponsibleOrganization": "Guardians United",
    "MedicalRecordLocator": "MRL-556677",
    "InsurancePlanIdentification": "INS-889900",
    "AccessionNumber": ACCESSION,
    "StudyID": "STUDYID4711",
    "AdmissionID": "ADM-246810",
    "InstitutionName": "Sankt Elsewhere Hospital",
    "InstitutionAddress": "Elsewhere Street 1, Nowhereton",
    "InstitutionalDepartmentName": "Departmentish of Radiology",
    "ReferringPhysicianName": "Referrerman^Rudi",
    "ReferringPhysicianAddress": "Referrer Road 9",
    "ReferringPhysicianTelephoneNumbers": "0815-4711-9",
    "PerformingPhysicianName": "Performerova^Paula",
    "NameOfPhysiciansReadingStudy": "Readerson^Rolf",
    "OperatorsName": ["Operatorix^Ole", "Secondoperatorix^Sue"],
    "PhysiciansOfRecord": "Recordkeeper^Rita",
    "RequestingPhysician": "Requestberg^Ralf",
    "ScheduledPerformingPhysicianName": "Scheduleberg^Sven",
    "StationName": "STATION-ABC12",
    "DeviceSerialNumber": "SN-5566778899",
    "ProtocolName": "Prot of Wernstroem",
    "StudyDescription": "Abdomen of Wernstroem^Ottokar",
    "SeriesDescription": "Thorax PID-7741-QX",
    "ImageComments": "call Mrs Zxcvbnowska at 5551234567",
    "StudyDate": "20190817",
    "StudyTime": "112233.445566",
    "SeriesDate": "20190817",
    "SeriesTime": "112345",
    "AcquisitionDate": "20190817",
    "AcquisitionTime": "113344.55",
    "AcquisitionDateTime": "20190817113344.55+0200",
    "ContentDate": "20190817",
    "ContentTime": "113355",
    "InstanceCreationDate": "20190818",
    "InstanceCreationTime": "010203",
    "PerformedProcedureStepStartDate": "20190817",
    "PerformedProcedureStepID": "PPSID-778899",
    "PerformedProcedureStepDescription": "PPS Describedthing",
    "RequestedProcedureID": "RPID-102030",
    "RequestedProcedureDescription": "Requested Thingummy",
    "RequestingService": "Service of Secrets",
    "CurrentPatientLocation": "Ward 13 Bed 7",
    "IssueDateOfImagingServiceRequest": "20190816",
    "ClinicalTrialSubjectID": "SUBJ-404040",
    "ClinicalTrialSponsorName": "Sponsoria Pharmaceutica",
    "ClinicalTrialProtocolName": "Protocolium Maximum",
    "PersonName": "Nestednameson^Nils",
    "TextComments": "textcomments of somebody",
    "DerivationDescription": "derived by Handworker",
    "RequestAttributesComment": None,
    "PatientInstitutionResidence": "Residence of the Obscure",
    "ImagePresentationComments": "presented by Presenterson",
    "IdentifyingComments": "identifying comments of Identifierson",
    "TimezoneOffsetFromUTC": "+0137",
    "FrameComments": "frame comment by Framerson",
    "DetectorID": "DETID-909090",
    "ContentCreatorName": "Creatorson^Carla",
    "HumanPerformerName": "Performerix^Hugo",
    "ResultsComments": "results of Resultson",
    "InterpretationText": "interpreted by Interpreterson",
    "InterpretationAuthor": "Authorson^Anna",
    "DistributionName": "Distributorson^Dan",
    "ScheduledStationAETitle": "SECRETAE01",
    "SourceApplicationEntityTitle": None,
}
"""Keyword: a value that is found nowhere else. Chosen by hand from PS3.15 and from what hospitals write."""

UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")


def image(sop_class=CT, syntax=ExplicitVRLittleEndian, rows=8, **values):
    """A small image that has what every image has; keywords of `values` on top."""
    dataset = FileDataset(None, {}, preamble=b"\0" * 128, file_meta=FileMetaDataset())
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID, dataset.StudyInstanceUID, dataset.SeriesInstanceUID = (generate_uid() for _ in range(3))
    dataset.FrameOfReferenceUID = generate_uid()
    dataset.Modality = "CT"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.Manufacturer = "Machinemaker"
    dataset.PatientID, dataset.PatientName = NUMBER, NAME
    dataset.Rows = dataset.Columns = rows
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.PixelData = bytes(range(256)) * (rows * rows * 2 // 256 + 1)
    dataset.PixelData = dataset.PixelData[: rows * rows * 2]
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def hard(**values):
    """An image with every identifying attribute, and identity in places where nobody expects it."""
    dataset = image(SpecificCharacterSet="ISO_IR 192", **values)
    for keyword, value in IDENTIFYING.items():
        if value is not None and pydicom.datadict.tag_for_keyword(keyword) is not None:
            setattr(dataset, keyword, value)
    # Free text where the standard says that there is a code or a technique.
    dataset.ConvolutionKernel = "Wernstroem"
    dataset.ScanOptions = "OTTOKAR"
    dataset.Manufacturer = "for PID-7741-QX"
    dataset.SegmentDescription = "tumour of Madame Segmentova"
    dataset.ContentDescription = "contents of Contentova"
    # Nested three deep, under attributes that stay.
    inner = Dataset()
    inner.PatientName, inner.PatientID, inner.OperatorsName = NAME, NUMBER, "Deepoperator^Doris"
    inner.StudyDate, inner.ImageComments, inner.PersonName = "20190817", "deep comment of Deepson", "Deepname^Dora"
    inner.CodeMeaning = "Wernstroem, Ottokar"
    middle = Dataset()
    middle.PurposeOfReferenceCodeSequence = Sequence([inner])
    middle.ReferencedSOPInstanceUID, middle.ReferencedSOPClassUID = dataset.SOPInstanceUID, CT
    dataset.ReferencedInstanceSequence = Sequence([middle])
    other = Dataset()
    other.PatientID, other.IssuerOfPatientID = "NESTEDPID-31", "Nested Issuer"
    dataset.OtherPatientIDsSequence = Sequence([other])
    request = Dataset()
    request.RequestedProcedureDescription, request.ScheduledProcedureStepID = "request of Requestson", "SPSID-606060"
    dataset.RequestAttributesSequence = Sequence([request])
    # Private elements: flat, in sequences, with sequences inside.
    block = dataset.private_block(0x0029, "SECRETIVE VENDOR 1.0", create=True)
    block.add_new(0x10, "LO", "private Wernstroem")
    block.add_new(0x20, "UN", b"unknown bytes of Wernstroem")
    nested = Dataset()
    nested.PatientName = "Privatenested^Pia"
    block.add_new(0x30, "SQ", Sequence([nested]))
    middle.private_block(0x0009, "SECRETIVE VENDOR 2.0", create=True).add_new(0x01, "PN", "Privatedeep^Pit")
    # Overlays and curves.
    dataset.add_new(0x60000010, "US", 8)
    dataset.add_new(0x60000011, "US", 8)
    dataset.add_new(0x60000022, "LO", "overlay of Overlayson")
    dataset.add_new(0x60000040, "CS", "G")
    dataset.add_new(0x60000050, "SS", [1, 1])
    dataset.add_new(0x60000100, "US", 1)
    dataset.add_new(0x60000102, "US", 0)
    dataset.add_new(0x60003000, "OW", b"OVERLAYBYTES")
    dataset.add_new(0x60004000, "LT", "overlay comment of Commentson")
    dataset.add_new(0x50003000, "OW", b"CURVEBYTES12")
    # Names in odd representations, public tags that no dictionary has, values of the wrong kind.
    dataset.add_new(0x00189445, "OB", b"bytes of Wernstroem!")
    dataset.add_new(0x00080106, "LO", "Wernstroem as LO")
    dataset.add_new(0x00084321, "LO", "unknown tag of Wernstroem")
    dataset.add_new(0x00281101, "LO", "Wernstroem")
    dataset.add_new(0xFFFCFFFC, "OB", b"trailing padding Paddingson")
    return dataset


HARD_VALUES = (
    "Deepoperator", "deep comment", "Deepname", "NESTEDPID-31", "Nested Issuer", "request of", "SPSID-606060", "private Wern",
    "unknown bytes", "Privatenested", "Privatedeep", "SECRETIVE", "Overlayson", "OVERLAYBYTES", "Commentson", "CURVEBYTES",
    "Segmentova", "Contentova", "Paddingson",
    "Wernstroem", "Ottokar", "OTTOKAR", "unknown tag",
)  # fmt: skip


def distinctive(dataset):
    """Every text that must not be found any more in what has become of `hard()`."""
    values = set(HARD_VALUES)
    for keyword, value in IDENTIFYING.items():
        for single in value if isinstance(value, list) else [value]:
            # A short one would be found by chance in pixels.
            if single is not None and keyword in dataset and len(single) >= 5:
                values.add(single)
                values.update(part for part in single.split("^") if len(part) >= 5)
    values.update(str(getattr(dataset, keyword)) for keyword in UIDS)
    return values


def save(dataset, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def bytes_of(path):
    """All bytes of a file, those of a deflated one as they were before."""
    content = pathlib.Path(path).read_bytes()
    dataset = pydicom.dcmread(io.BytesIO(content), specific_tags=["SOPClassUID"])
    if dataset.file_meta.TransferSyntaxUID.is_deflated:
        length = 144 + dataset.file_meta.FileMetaInformationGroupLength
        return content[:length] + zlib.decompress(content[length:], -zlib.MAX_WBITS)
    return content


ENCODINGS = (
    "utf-8", "latin-1", "utf-16-le", "utf-16-be", "shift_jis", "iso2022_jp", "euc_kr", "gb18030", "iso8859_5", "iso8859_7",
)  # fmt: skip


def survivors(values, path):
    """Those of `values` that are found anywhere in the file, in any case and any encoding they could have."""
    content = bytes_of(path)
    lowered = content.lower()
    found = set()
    for value in values:
        if isinstance(value, bytes):
            if value in content:
                found.add(value)
            continue
        octets = set()
        for encoding in ENCODINGS:
            try:
                octets.add(value.encode(encoding).lower())
            except UnicodeEncodeError:
                continue
        if any(part in lowered for part in octets):
            found.add(value)
    return found


def real(name):
    return pathlib.Path(get_testdata_file(name, download=False))


def charset(name):
    return pathlib.Path(get_charset_files(name)[0])
