import importlib
import io
import json
import os
import pathlib
import random
import shutil
import signal
import string
import struct
import sys
import traceback
import tracemalloc

import pydicom
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit,
    generate_uid,
)  # fmt: skip

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import studies  # noqa: E402

sys.path.pop(0)

import dicomAnonymizer  # noqa: E402
import registry_dicomAnonymizer  # noqa: E402

errors = importlib.import_module("dicomAnonymizer.errors")
files = importlib.import_module("dicomAnonymizer.folder")
main = importlib.import_module("dicomAnonymizer.main")
texts = importlib.import_module("dicomAnonymizer.texts")

# The files are meant to be wrong.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

RUN = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
HEADERS = {"dcmpath": f"dicom/{RUN}"}
KEY = bytes(range(7, 39))


def id_of(number):
    return f"{number:08x}-11111111-22222222-33333333-44444444"


class Place:
    """DATA with a key, and runs in it."""

    def __init__(self, data, folder, monkeypatch):
        self.data, self._folder, self._monkeypatch = data, folder, monkeypatch
        self.use_key(KEY)

    def use_key(self, key, mode=0o600):
        path = self._folder / "anonymizer.key"
        path.unlink(missing_ok=True)
        path.write_bytes(key)
        path.chmod(mode)
        self._monkeypatch.setenv("ANONYMIZER_KEY_FILE", str(path))
        return path

    def add(self, *datasets, run=RUN):
        """The files of a run, in a folder of one series. Datasets, or paths of files to be copied."""
        paths = []
        for number, dataset in enumerate(datasets):
            path = self.data / "dicom" / run / id_of(99) / f"{id_of(number)}.dcm"
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(dataset, (str, pathlib.Path)):
                shutil.copyfile(dataset, path)
            else:
                studies.save(dataset, path)
            paths.append(path)
        return paths

    def work(self, run=RUN, **params):
        headers = {"dcmpath": f"dicom/{run}"}
        return dicomAnonymizer.worker("dicomAnonymizer", headers, params or None, {"dicomAnonymizer": {}}, runId=run, attempt=1)

    def report(self, run=RUN):
        return json.loads((self.data / "deidentification" / run / "report.json").read_text())

    def report_text(self, run=RUN):
        folder = self.data / "deidentification" / run
        return "".join((folder / name).read_text() for name in ("report.json", "report.html", "journal.json"))

    def cleaned(self, *datasets, **params):
        paths = self.add(*datasets)
        self.work(**params)
        return [pydicom.dcmread(path) for path in paths]


@pytest.fixture
def place(data, tmp_path, monkeypatch):
    return Place(data, tmp_path, monkeypatch)


def snapshot(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# What must not survive


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_no_identifying_value_survives_anywhere_in_the_file(place, syntax):
    dataset = studies.hard()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.SourceApplicationEntityTitle = "SCANNERAE77"
    dataset.file_meta.PrivateInformationCreatorUID = "1.2.3.4.5.6.7"
    dataset.file_meta.PrivateInformation = b"private info of the header"
    dataset.preamble = b"preamble of Wernstroem".ljust(128, b" ")
    values = studies.distinctive(dataset) | {"SCANNERAE77", "1.2.3.4.5.6.7", "private info", "preamble"}
    (path,) = place.add(dataset)
    missing = {value for value in values if not studies.survivors([value], path)}
    # What is looked for has to have been there; names in the UIDs' places and so on are.
    assert not missing
    place.work()
    assert studies.survivors(values, path) == set()
    cleaned = pydicom.dcmread(path)
    assert cleaned.PatientIdentityRemoved == "YES"
    assert cleaned.Rows == 8 and cleaned.PixelData == dataset.PixelData
    assert all(not element.tag.is_private for element in cleaned.iterall())
    assert not [tag for tag in cleaned.keys() if tag.group >> 8 in (0x50, 0x60)]
    assert cleaned.file_meta.MediaStorageSOPInstanceUID == cleaned.SOPInstanceUID != dataset.SOPInstanceUID
    assert cleaned.preamble == b"\0" * 128
    reported = place.report_text()
    assert not [value for value in values if value in reported]


def test_big_endian_files_stay_so(place):
    dataset = pydicom.dcmread(studies.real("MR_small_bigendian.dcm"))
    before = {str(dataset[tag].value) for tag in (0x00100010, 0x00100020, 0x00080018, 0x0020000D)}
    (path,) = place.add(studies.real("MR_small_bigendian.dcm"))
    place.work()
    cleaned = pydicom.dcmread(path)
    assert cleaned.file_meta.TransferSyntaxUID == ExplicitVRBigEndian and cleaned.Rows == dataset.Rows
    assert cleaned.PixelData == dataset.PixelData
    assert studies.survivors(before, path) == set()


@pytest.mark.parametrize("name", [
    "CT_small.dcm", "MR_small.dcm", "MR_small_implicit.dcm", "JPEG2000.dcm", "693_J2KI.dcm", "rtdose.dcm", "rtplan.dcm",
    "liver_1frame.dcm", "examples_overlay.dcm", "reportsi.dcm", "test-SR.dcm", "waveform_ecg.dcm", "image_dfl.dcm", "SC_rgb_jpeg.dcm",
])  # fmt: skip
def test_real_files(place, name):
    source = pydicom.dcmread(studies.real(name))
    values = set()
    for element in source.iterall():
        named = element.keyword in studies.IDENTIFYING or element.keyword in studies.UIDS
        if element.VR in ("PN", "DA", "DT") or named or element.tag.is_private:
            if element.VR not in ("SQ", "OB", "OW", "UN", "US", "SS", "UL", "SL", "FL", "FD", "IS", "DS", "CS", "TM"):
                values.update(part for single in str(element.value).split("\\") for part in single.split("^") if len(part) >= 6)
    # Texts that stay by the profile are no names of anybody, though a private element may repeat them.
    kept = "Manufacturer ManufacturerModelName SOPClassUID Modality SoftwareVersions BodyPartExamined ImageID"
    stays = {str(source.get(keyword)) for keyword in kept.split()}
    (path,) = place.add(studies.real(name))
    place.work(atRisk="keep")
    values = {value for value in values if not any(value.lower() in text.lower() for text in stays)}
    assert values
    assert studies.survivors(values, path) - set(pydicom.uid.UID_dictionary) - {"['19000101"} == set()
    if "PixelData" in source:
        assert len(pydicom.dcmread(path).PixelData) == len(source.PixelData)


@pytest.mark.parametrize("name", [
    "chrArab", "chrFren", "chrFrenMulti", "chrGerm", "chrGreek", "chrH31", "chrH32", "chrHbrw", "chrI2", "chrJapMulti", "chrKoreanMulti",
    "chrRuss", "chrX1", "chrX2",
])  # fmt: skip
def test_names_in_every_character_set(place, name):
    source = pydicom.dcmread(studies.charset(f"{name}.dcm"))
    original = source.get_item(0x00100010).value
    parts = {part for part in original.replace(b"=", b"^").split(b"^") if len(part) >= 4}
    # The name once more, in attributes that stay, in the file's own character set.
    spoken = str(source.PatientName)
    source.ConvolutionKernel = spoken.split("=")[-1][:16].strip("^")
    source.SegmentLabel = f"of {spoken.split('=')[-1]}"
    (path,) = place.add(source)
    assert studies.survivors(parts, path) == parts
    place.work(atRisk="keep")
    assert studies.survivors(parts, path) == set()
    cleaned = pydicom.dcmread(path)
    assert cleaned.SegmentLabel == "REMOVED"
    assert str(cleaned.PatientName) == cleaned.PatientID


def test_random_datasets(place):
    """Whatever stands where: a mark in an attribute that identifies, or in a text that the standard does not know, is gone."""
    chance = random.Random(20240817)
    table = [tag for tag in (of[0] << 16 | of[1] for of in listed()) if pydicom.datadict.dictionary_has_tag(tag)]
    every = [tag for tag, entry in pydicom._dicom_dict.DicomDictionary.items() if 0x0008FFFF < tag < 0x50000000 and entry[0] in FILLED]
    marked, datasets = [], []
    for number in range(24):
        marks = set()
        dataset = studies.image(SpecificCharacterSet="ISO_IR 192")
        fill(dataset, chance, table, every, marks, depth=0)
        dataset.PatientName, dataset.PatientID = f"Random{number}^Rosamunde", f"RANDOMPID{number}"
        marks.update((f"Random{number}^", "Rosamunde", f"RANDOMPID{number}"))
        dataset.file_meta.TransferSyntaxUID = chance.choice((ExplicitVRLittleEndian, ImplicitVRLittleEndian))
        marked.append(marks)
        datasets.append(dataset)
    paths = place.add(*datasets)
    place.work()
    assert sum(map(len, marked)) > 4000 and max(map(len, marked)) > 400
    assert {path.name: found for path, marks in zip(paths, marked) if (found := studies.survivors(marks, path))} == {}


FILLED = {"LO", "SH", "ST", "LT", "UT", "UC", "PN", "CS", "AE", "UR", "OB", "DA", "DT", "AS"}


def listed():
    from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as table

    # Attributes that hold things under a condition only: their sequences are looked into instead.
    return [tag for tag in table.ALL_TAGS if len(tag) == 2 and tag[0] > 8 and tag[0] < 0x5000]


def fill(dataset, chance, table, every, marks, depth):
    for tag in chance.sample(table, 40):
        vr = dictionary_VR(tag)
        if vr == "SQ":
            if depth < 2:
                item = Dataset()
                fill(item, chance, table, every, marks, depth + 1)
                dataset.add_new(tag, vr, Sequence([item]))
        else:
            put(dataset, tag, vr, chance, marks)
    for tag in chance.sample(every, 25):
        vr = dictionary_VR(tag)
        if vr in ("ST", "LT", "UT", "UC", "PN", "AE", "UR", "DA", "DT") and tag not in TECHNICAL:
            put(dataset, tag, vr, chance, marks)
        elif vr in ("LO", "SH") and tag not in table:
            # By the standard these stay, unless they name the patient.
            dataset.add_new(tag, vr, "by Rosamunde")
            marks.add("by Rosamunde")
    for group in (0x0009, 0x0029, 0x7FE1):
        block = dataset.private_block(group, "MARKED VENDOR", create=True)
        put(dataset, block.get_tag(chance.randrange(0, 255)), chance.choice(sorted(FILLED - {"DA", "DT", "AS"})), chance, marks)


TECHNICAL = {
    tag_for_keyword(keyword) for keyword in (
        "AlgorithmParameters CodingSchemeExternalID CodingSchemeName CodingSchemeResponsibleOrganization DetectorDescription DetectorMode "
        "ExposureControlModeDescription ExtendedCodeMeaning FractionPattern GridAbsorbingMaterial GridSpacingMaterial LongCodeValue "
        "MetaboliteMapDescription SpectralSensitivity URNCodeValue"
    ).split()
}  # fmt: skip


def put(dataset, tag, vr, chance, marks):
    mark = "".join(chance.choices(string.ascii_uppercase, k=12))
    if vr in ("DA", "DT"):
        mark = f"{chance.randrange(1920, 1980)}{chance.randrange(10, 13)}{chance.randrange(10, 29)}"
    elif vr == "UI":
        mark = f"1.2.3.{chance.randrange(10**20)}"
    elif vr not in FILLED:
        return
    elif vr == "PN":
        mark = f"{mark}^{mark[::-1]}"
    elif vr == "AS":
        return
    dataset.add_new(tag, vr, mark.encode() if vr == "OB" else mark)
    marks.add(mark)


# Pseudonyms, UIDs, references


def test_the_same_patient_has_the_same_pseudonym_and_another_key_gives_another(place):
    place.add(studies.image(), run="run-one-1")
    place.add(studies.image(), run="run-two-2")
    place.add(studies.image(PatientID="somebody else"), run="run-three-3")
    place.add(studies.image(IssuerOfPatientID="another hospital"), run="run-four-4")
    ids = {}
    for run in ("run-one-1", "run-two-2", "run-three-3", "run-four-4"):
        place.work(run)
        (path,) = (place.data / "dicom" / run).rglob("*.dcm")
        ids[run] = pydicom.dcmread(path).PatientID
    assert ids["run-one-1"] == ids["run-two-2"]
    assert len(set(ids.values())) == 3
    place.use_key(KEY[::-1])
    place.add(studies.image(), run="run-five-5")
    place.work("run-five-5", patientPrefix="SITE-")
    (path,) = (place.data / "dicom" / "run-five-5").rglob("*.dcm")
    other = pydicom.dcmread(path).PatientID
    assert other.startswith("SITE-") and other[5:] not in ids.values()


def test_a_text_key_may_end_with_a_line_and_stays_the_same(place):
    (first,) = place.cleaned(studies.image())
    place.use_key(b"0123456789abcdef" * 4)
    (path,) = place.add(studies.image(), run="run-b")
    place.work("run-b")
    one = pydicom.dcmread(path)
    place.use_key(b"0123456789abcdef" * 4 + b"\n")
    (path,) = place.add(studies.image(), run="run-c")
    place.work("run-c")
    two = pydicom.dcmread(path)
    assert one.PatientID == two.PatientID != first.PatientID


def test_without_a_patient_id_the_study_stands_for_the_patient(place):
    one, two = studies.image(PatientID=""), studies.image(PatientID="")
    three = studies.image(PatientID=None, StudyInstanceUID=one.StudyInstanceUID)
    ids = [dataset.PatientID for dataset in place.cleaned(one, two, three)]
    assert ids[0] == ids[2] != ids[1]
    assert place.report()["attributes"]["without PatientID"]


def test_references_stay_consistent_in_the_run(place):
    one, two = studies.image(), studies.image()
    for dataset in (one, two):
        dataset.StudyInstanceUID, dataset.FrameOfReferenceUID = "1.2.3.4.777", "1.2.3.4.888"
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = studies.CT, one.SOPInstanceUID
    two.ReferencedImageSequence = Sequence([reference])
    two.SourceImageSequence = Sequence([reference])
    contour = Dataset()
    contour.ContourImageSequence = Sequence([reference])
    contour.ReferencedFrameOfReferenceUID = "1.2.3.4.888"
    two.ReferencedFrameOfReferenceSequence = Sequence([contour])
    two.IrradiationEventUID = ["1.2.3.4.1", "1.2.3.4.2"]
    a, b = place.cleaned(one, two)
    assert b.ReferencedImageSequence[0].ReferencedSOPInstanceUID == a.SOPInstanceUID
    assert b.SourceImageSequence[0].ReferencedSOPInstanceUID == a.SOPInstanceUID
    assert b.ReferencedFrameOfReferenceSequence[0].ContourImageSequence[0].ReferencedSOPInstanceUID == a.SOPInstanceUID
    assert b.ReferencedFrameOfReferenceSequence[0].ReferencedFrameOfReferenceUID == a.FrameOfReferenceUID == b.FrameOfReferenceUID
    assert b.ReferencedImageSequence[0].ReferencedSOPClassUID == studies.CT
    assert a.StudyInstanceUID == b.StudyInstanceUID and a.SOPInstanceUID != b.SOPInstanceUID
    assert len(set(b.IrradiationEventUID)) == 2
    for uid in (a.StudyInstanceUID, a.SOPInstanceUID, a.FrameOfReferenceUID, *b.IrradiationEventUID):
        assert uid.startswith("2.25.") and uid.is_valid


# Options


def test_dates_are_moved_by_the_same_days_for_a_patient(place):
    one = studies.image(StudyDate="20200301", AcquisitionDateTime="20200301101112.5+0100", StudyTime="101112", PatientBirthDate="19500101")
    two = studies.image(StudyDate="20200308", ContentDate="nonsense", AcquisitionDate="")
    a, b = place.cleaned(one, two, dates="shift")
    import datetime

    def day(text):
        return datetime.date(int(text[:4]), int(text[4:6]), int(text[6:8]))

    assert day(b.StudyDate) - day(a.StudyDate) == datetime.timedelta(days=7)
    assert day(a.AcquisitionDateTime) == day(a.StudyDate) < day("20200301")
    assert a.AcquisitionDateTime[8:] == "101112.5+0100" and a.StudyTime == "101112"
    assert not a.PatientBirthDate
    assert b.ContentDate == "19000101" and b.AcquisitionDate == ""
    assert a.LongitudinalTemporalInformationModified == "MODIFIED"
    assert "113107" in [code.CodeValue for code in a.DeidentificationMethodCodeSequence]


def test_options_keep_what_they_say_and_write_their_codes(place):
    (a,) = place.cleaned(
        studies.hard(PatientSex="F", PatientSize="1.75", ContrastBolusAgent="agent"),
        retainUIDs=True, dates="keep", patientCharacteristics=True, deviceIdentity=True, institution=True,
        keep=["ContrastBolusAgent"], remove=["Modality"],
    )  # fmt: skip
    assert a.StudyDate == "20190817" and a.PatientSex == "F" and a.PatientAge == "087Y" and a.DeviceSerialNumber == "SN-5566778899"
    assert a.InstitutionName == "Sankt Elsewhere Hospital" and a.ContrastBolusAgent == "agent" and "Modality" not in a
    assert not a.PatientBirthDate and not a.PatientID.startswith("PID") and "SeriesDescription" not in a
    assert not str(a.StudyInstanceUID).startswith("2.25.")
    codes = [code.CodeValue for code in a.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113106", "113108", "113109", "113110", "113112"]
    assert a.LongitudinalTemporalInformationModified == "UNMODIFIED"
    assert len(a.DeidentificationMethod) == 1 + len(codes) + 1 and all(len(text) <= 64 for text in a.DeidentificationMethod)


def test_kept_uids_are_numbers(place):
    uid = generate_uid()
    dataset = studies.image(FrameOfReferenceUID=uid, SynchronizationFrameOfReferenceUID="Zorrofeld.Max", UID="Zorrofeld.Moritz")
    (path,) = place.add(dataset)
    place.work(retainUIDs=True)
    assert not studies.survivors({"Zorrofeld"}, path) and pydicom.dcmread(path).FrameOfReferenceUID == uid


def test_very_old_people_are_ninety(place):
    (a,) = place.cleaned(studies.image(PatientAge="097Y"), patientCharacteristics=True)
    assert a.PatientAge == "090Y"


def test_descriptors_keep_only_words_of_the_vocabulary(place):
    one = studies.image(
        SeriesDescription="T1 MPRAGE sag Wernstroem 1.0mm (Dr. Blumenkohl)", StudyDescription="Schmidtke",
        ProtocolName="Kopf_nativ Head^AX", PatientName="Head^Herbert",
    )  # fmt: skip
    (a,) = place.cleaned(one, descriptors="clean", vocabulary=["Kopf", "Wernstroem"])
    assert a.SeriesDescription == "T1 MPRAGE sag Wernstroem 1.0mm"
    assert "StudyDescription" not in a
    # A word that is the patient's name goes, whatever the vocabulary says.
    assert a.ProtocolName == "Kopf AX"
    assert "113105" in [code.CodeValue for code in a.DeidentificationMethodCodeSequence]


def test_safe_private_elements(place):
    dataset = studies.image()
    block = dataset.private_block(0x2001, "Philips Imaging DD 001", create=True)
    block.add_new(0x03, "FL", 1000.0)
    block.add_new(0x04, "CS", "O")
    block.add_new(0x63, "LO", "not safe")
    dataset.private_block(0x0029, "OTHER", create=True).add_new(0x08, "SH", "mine")
    dataset.private_block(0x0029, "THIRD", create=True).add_new(0x08, "LO", studies.NUMBER)
    (a,) = place.cleaned(dataset, privateTags="safe", safePrivateTags=['(0029,"OTHER",08)', '(0029,"THIRD",08)'])
    kept = a.private_block(0x2001, "Philips Imaging DD 001")
    assert kept[0x03].value == 1000.0 and kept[0x04].value == "O" and 0x63 not in kept
    assert a.private_block(0x0029, "OTHER")[0x08].value == "mine"
    assert a.private_block(0x0029, "THIRD")[0x08].value == "REMOVED"


def test_safe_private_elements_are_what_their_vendor_says(place):
    dataset = studies.image()
    block = dataset.private_block(0x2001, "Philips Imaging DD 001", create=True)
    block.add_new(0x03, "UN", b"Zorrofeld^")
    block.add_new(0x04, "LO", "Zorrofeld^Max")
    (path,) = place.add(dataset)
    place.work(privateTags="safe")
    assert not studies.survivors({"Zorrofeld"}, path)


def test_other_spellings_of_who_it_is(place):
    who = {"PatientName": "Müllermann^Zoë", "PatientID": "123-45-6789", "PatientBirthDate": studies.BIRTH}
    dataset = studies.image(SpecificCharacterSet="ISO_IR 192", **who)
    dataset.PlateType, dataset.FilterType, dataset.ConvolutionKernel = "MUELLERMANN", "MULLERMANN", "for 123456789"
    dataset.ReconstructionMethod, dataset.SegmentLabel, dataset.BeamName = "23-APR-1937", "Kind 23.04.1937", "Aprile"
    dataset.StackID, dataset.SequenceName = "230437", "*tse2d"
    (cleaned,) = place.cleaned(dataset)
    for keyword in ("PlateType", "FilterType", "ConvolutionKernel", "ReconstructionMethod", "SegmentLabel", "StackID"):
        assert cleaned[keyword].value == "REMOVED", keyword
    assert (cleaned.BeamName, cleaned.SequenceName) == ("Aprile", "*tse2d")


@pytest.mark.parametrize("params, says", [
    ({"retainUids": True}, "retainUIDs"), ({"dates": "shifted"}, "params.dates"), ({"retainUIDs": "yes"}, "params.retainUIDs"),
    ({"keep": ["PatientName"]}, "PatientName"), ({"keep": ["StudyInstanceUID"]}, "StudyInstanceUID"),
    ({"keep": ["StudyDate"]}, "StudyDate"), ({"keep": ["NoSuchThing"]}, "NoSuchThing"), ({"keep": "KVP"}, "params.keep"),
    ({"keep": ["OtherPatientIDsSequence"]}, "OtherPatientIDsSequence"),
    ({"privateTags": "safe", "safePrivateTags": ["0029,08"]}, "0029,08"), ({"atRisk": None, "atrisk": "keep"}, "atRisk"),
    ({"patientPrefix": "a b"}, "params.patientPrefix"), ({"vocabulary": ["kopf"]}, "descriptors"), (["dates"], "object"),
])  # fmt: skip
def test_a_bad_option_fails_closed_and_is_named(place, params, says):
    place.add(studies.image())
    before = snapshot(place.data)
    with pytest.raises(errors.InvalidOption, match=says):
        dicomAnonymizer.worker("dicomAnonymizer", HEADERS, params, {})
    assert snapshot(place.data) == before


# At risk


def capture():
    return studies.image("1.2.840.10008.5.1.4.1.1.7")


AT_RISK = {
    "burned-in annotation": lambda: studies.image(BurnedInAnnotation="YES"),
    "secondary capture": capture,
    "ultrasound": lambda: studies.image("1.2.840.10008.5.1.4.1.1.6.1"),
    "screenshot": lambda: studies.image(ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"]),
    "structured report": lambda: studies.image("1.2.840.10008.5.1.4.1.1.88.11"),
    "encapsulated document": lambda: studies.image("1.2.840.10008.5.1.4.1.1.104.1", EncapsulatedDocument=b"%PDF of Zxcvbnowski"),
    "private or unknown SOP class": lambda: studies.image("1.3.12.2.1107.5.9.1"),
    "raw data": lambda: studies.image("1.2.840.10008.5.1.4.1.1.66"),
    "photograph or endoscopy": lambda: studies.image("1.2.840.10008.5.1.4.1.1.77.1.4"),
}


@pytest.mark.parametrize("why", AT_RISK)
def test_files_at_risk_are_dropped_and_reported(place, why):
    first, second = place.add(studies.image(), AT_RISK[why]())
    result = place.work()
    assert first.exists() and not second.exists()
    assert (result["deidentified"], result["dropped"]) == (1, 1)
    report = place.report()
    assert report["atRisk"]["dropped"] == {why: 1}
    assert list(report["atRisk"]["instances"].values()) == [why]


@pytest.mark.parametrize("why", AT_RISK)
def test_files_at_risk_can_be_refused_and_kept(place, why):
    place.add(studies.image(), AT_RISK[why]())
    before = snapshot(place.data / "dicom")
    with pytest.raises(errors.Refused, match=why):
        place.work(atRisk="refuse")
    assert snapshot(place.data / "dicom") == before
    result = place.work(atRisk="keep")
    assert (result["deidentified"], result["atRiskKept"]) == (2, 1)
    assert not [path for path in (place.data / "dicom").rglob("*.dcm") if studies.survivors({"Wernstroem", "Zxcvbnowski"}, path)]
    assert place.report()["atRisk"]["kept"] == {why: 1}


def test_nothing_left_is_a_failure(place):
    place.add(capture(), capture())
    with pytest.raises(errors.Refused, match="all 2 files are at risk"):
        place.work()


def test_related_classes_are_not_at_risk(place):
    place.add(*(studies.image(f"1.2.840.10008.5.1.4.1.1.{below}") for below in ("66.4", "77.1.6", "481.3", "128", "4.1", "11.1")))
    assert place.work()["deidentified"] == 6


def test_structured_content_is_emptied_of_words_when_kept(place):
    item = Dataset()
    item.ValueType, item.TextValue = "TEXT", "Herr Zxcvbnowski hat nichts"
    item.ConceptNameCodeSequence = Sequence([Dataset()])
    code = item.ConceptNameCodeSequence[0]
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "121071", "DCM", "Finding"
    private = Dataset()
    private.CodeValue, private.CodingSchemeDesignator, private.CodeMeaning = "X1", "99SITE", "Station of Blumenkohl"
    item.ConceptCodeSequence = Sequence([private])
    (a,) = place.cleaned(studies.image("1.2.840.10008.5.1.4.1.1.88.22", ContentSequence=Sequence([item])), atRisk="keep")
    content = a.ContentSequence[0]
    assert content.TextValue == "REMOVED" and content.ConceptNameCodeSequence[0].CodeMeaning == "Finding"
    assert content.ConceptCodeSequence[0].CodeMeaning == "REMOVED"


# What stays


def test_manufacturers_stay_whoever_operated_the_machine(place):
    names = {"OperatorsName": "System^Medical", "PatientName": "Head^H"}
    (a,) = place.cleaned(studies.image(Manufacturer="GE MEDICAL SYSTEMS", BodyPartExamined="HEAD", **names))
    assert a.Manufacturer == "GE MEDICAL SYSTEMS" and a.BodyPartExamined == "HEAD" and str(a.OperatorsName) == "REMOVED"


def add_unknown(dataset, tag, value):
    # pydicom would make a sequence of it at once.
    dataset[tag] = RawDataElement(Tag(tag), "UN", len(value), value, 0, False, True)


SAID = {
    # keyword: what the file says it is, though it is another kind of text by the dictionary
    "EvaluatorName": "LO", "SecondaryReviewerName": "CS", "IndicationDescription": "SH", "ScanProcedure": "US", "ContactURI": "CS",
    "InstructionPerformanceComment": "FD", "CalibrationNotes": "DS", "InteroperabilityVersion": "SH", "StorageURL": "AT",
}  # fmt: skip


def test_what_a_file_says_of_a_value_keeps_nothing_that_the_dictionary_knows_better(place):
    dataset = studies.image()
    for number, (keyword, vr) in enumerate(SAID.items()):
        tag = Tag(tag_for_keyword(keyword))
        value = b"MARKER%02d" % number if vr not in ("DS",) else b"4711%04d" % number
        dataset._dict[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)
    (path,) = place.add(dataset)
    assert b"MARKER00" in path.read_bytes()
    place.work()
    assert not studies.survivors({"MARKER", "47110006"}, path)


def test_texts_that_scanners_copy_a_description_into(place):
    (path,) = place.add(studies.image(StudyDescription="Carotids of Zxcvbn", PositionReferenceIndicator="Carotids of Zxcvbn"))
    place.work()
    assert not studies.survivors({"Carotids"}, path)


def test_numbers_of_the_patient_in_numbers(place):
    numbers = {"AcquisitionNumber": "94718230", "SeriesNumber": "5", "PixelSpacing": ["0.94718230", "1"]}
    (path,) = place.add(studies.image(PatientID="94718230", **numbers))
    place.work()
    cleaned = pydicom.dcmread(path)
    assert "AcquisitionNumber" not in cleaned
    assert (cleaned.SeriesNumber, cleaned.PixelSpacing[1]) == (5, 1)


@pytest.mark.parametrize("name", ["C^H", "R^I", "Li^Ma", "Prima^Origi", "Xi^A", "Pri^Ori^O"])
def test_short_names_do_not_make_images_unreadable(place, name):
    (cleaned,) = place.cleaned(studies.image(PatientName=name, OperatorsName=name, ConvolutionKernel=f"of {name}", ScanOptions="HELIX"))
    assert (cleaned.PhotometricInterpretation, cleaned.ImageType) == ("MONOCHROME2", ["ORIGINAL", "PRIMARY", "AXIAL"])
    assert cleaned.Manufacturer == "Machinemaker"
    assert cleaned.ConvolutionKernel == "REMOVED"


@pytest.mark.parametrize("items", [2, 2000])
def test_sequences_that_came_as_unknown_are_looked_into(place, items):
    inner = studies.image()
    del inner.file_meta, inner.PixelData
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = studies.CT, "1.2.3.4.555"
    item.PatientName, item.ReferencedFrameNumber, item.ImageComments = "Unknownova^Ulla", 7, "comment of Unknownova"
    outer = Dataset()
    outer.ReferencedInstanceSequence = Sequence([item] * items)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, outer, implicit_vr=True, little_endian=True)
    dataset = studies.image()
    add_unknown(dataset, 0x0008114A, buffer.getvalue()[8:])
    (path,) = place.add(dataset)
    assert studies.survivors({"Unknownova"}, path)
    place.work()
    assert not studies.survivors({"Unknownova", "1.2.3.4.555"}, path)
    cleaned = pydicom.dcmread(path).ReferencedInstanceSequence
    assert len(cleaned) == items and cleaned[-1].ReferencedFrameNumber == 7


def test_of_a_sequence_that_is_none_nothing_stays(place):
    dataset = studies.image()
    add_unknown(dataset, 0x0008114A, b"Wernstroem, not a sequence of items at all")
    (path,) = place.add(dataset)
    place.work()
    assert not studies.survivors({"Wernstroem"}, path)


def test_small_pictures_go_and_the_mode_of_files_stays(place):
    icon = Dataset()
    icon.add_new(0x7FE00010, "OW", b"PICTUREOFNAME!!!")
    dataset = studies.image(ReferencedInstanceSequence=Sequence([icon]))
    (path,) = place.add(dataset)
    path.chmod(0o600)
    place.work()
    assert b"PICTUREOFNAME" not in path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600


# Pixels


def test_overlays_in_unused_bits_of_pixels_are_blanked(place):
    dataset = studies.image()
    values = [0x0123, 0x8456, 0x4789, 0xFABC] * 16
    dataset.PixelData = struct.pack("<64H", *values)
    dataset.add_new(0x60000102, "US", 15)
    dataset.add_new(0x60000100, "US", 16)
    (a,) = place.cleaned(dataset)
    assert struct.unpack("<64H", a.PixelData) == tuple(value & 0x0FFF for value in values)


def test_an_overlay_that_cannot_be_blanked_fails_closed(place):
    dataset = studies.image(BitsAllocated=8, BitsStored=7, HighBit=6)
    dataset.add_new(0x60000102, "US", 7)
    place.add(dataset)
    with pytest.raises(errors.Unreadable, match="overlay"):
        place.work()


def test_comments_of_compressed_pixels_are_blanked(place):
    comment = b"Patient Wernstroem"
    jpeg = b"\xff\xd8" + b"\xff\xe0\x00\x07JFIF\0" + b"\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment
    jpeg += b"\xff\xe1" + struct.pack(">H", 12) + b"Exif\0\0Otto" + b"\xff\xda\x00\x02data\xff\xd9"
    j2k = b"\xff\x4f\xff\x51\x00\x04ab\xff\x64" + struct.pack(">H", len(comment) + 4) + b"\0\1" + comment + b"\xff\x90\x00\x02\xff\xd9"
    for number, stream in enumerate((jpeg, j2k)):
        dataset = studies.image(BitsAllocated=8, BitsStored=8, HighBit=7)
        dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        dataset.PixelData = encapsulate([stream, stream])
        dataset["PixelData"].is_undefined_length = True
        (path,) = place.add(dataset, run=f"run-{number}")
        place.work(f"run-{number}")
        content = path.read_bytes()
        assert b"Wernstroem" not in content and b"Exif" not in content
        cleaned = pydicom.dcmread(path)
        assert len(cleaned.PixelData) == len(dataset.PixelData)
        assert (b"JFIF" in content) == (stream is jpeg)


def test_what_is_said_behind_scans_tiles_and_ends_is_blanked(place):
    text = b"Zorrofeld"
    segment = struct.pack(">H", len(text) + 2) + text
    scan = b"\xff\xda\x00\x02coded\xff\x00\xff\xd0coded"
    tile = b"\xff\x64" + struct.pack(">H", len(text) + 4) + b"\0\1" + text + b"\xff\x93coded"
    streams = {
        JPEGBaseline8Bit: b"\xff\xd8" + scan + b"\xff\xfe" + segment + scan + b"\xff\xd9" + text,
        JPEG2000Lossless: b"\xff\x4f\xff\x51\x00\x04ab"
        + (b"\xff\x90\x00\x0a\0\0" + struct.pack(">I", len(tile) + 12) + b"\0\1" + tile) * 2 + b"\xff\xd9" + text,
        ExplicitVRLittleEndian: None,
    }  # fmt: skip
    for number, (syntax, stream) in enumerate(streams.items()):
        dataset = studies.image(syntax=syntax)
        dataset.PixelData = encapsulate([stream, stream]) if stream else dataset.PixelData + text + b" "
        dataset["PixelData"].is_undefined_length = stream is not None
        (path,) = place.add(dataset, run=f"run-{number}")
        assert text in path.read_bytes()
        place.work(f"run-{number}")
        cleaned = pydicom.dcmread(path)
        assert text not in path.read_bytes() and len(cleaned.PixelData) == len(dataset.PixelData)
        assert cleaned.PixelData.count(b"coded") == dataset.PixelData.count(b"coded")
        assert stream or cleaned.PixelData[:128] == dataset.PixelData[:128]


def test_odd_pixels_of_big_endian_files_stay(place):
    # In words its last pixel stands behind the padding.
    before = pydicom.dcmread(studies.real("SC_rgb_small_odd_big_endian.dcm")).PixelData
    (cleaned,) = place.cleaned(studies.real("SC_rgb_small_odd_big_endian.dcm"), atRisk="keep")
    assert cleaned.PixelData == before


# Being killed, being run again


class Killed(BaseException):
    pass


def killed_at(place, point, **params):
    """Runs the worker in a process of its own, which kills itself at the `point`th step. Whether it was killed."""
    child = os.fork()
    if child == 0:
        steps = iter(range(1, 1000))

        def reached(step):
            if next(steps) == point:
                os.kill(os.getpid(), signal.SIGKILL)

        files.reached = main.reached = reached
        try:
            place.work(**params)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def test_being_killed_anywhere_and_run_again_gives_the_same_files(place):
    datasets = [studies.hard(), studies.image(), studies.image(BurnedInAnnotation="YES"), studies.image()]
    paths = place.add(*datasets)
    folder = place.data / "dicom" / RUN
    originals = snapshot(folder)
    place.work()
    finished = snapshot(folder)
    assert set(finished) < set(originals)
    points = 0
    while True:
        shutil.rmtree(folder)
        shutil.rmtree(place.data / "deidentification")
        for name, content in originals.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        if not killed_at(place, points + 1):
            break
        points += 1
        # No file is anything but the one it was or the one it becomes.
        for name, content in snapshot(folder).items():
            assert content in (originals.get(name), finished.get(name)) or ".deid" in name
        place.work()
        assert snapshot(folder) == finished
        place.work()
        assert snapshot(folder) == finished
    assert points == 4 + 2 + 4
    assert paths[0].exists()


def test_being_killed_twice(place):
    place.add(*(studies.image() for _ in range(3)))
    folder = place.data / "dicom" / RUN
    assert killed_at(place, 6)
    assert killed_at(place, 1)
    place.work()
    assert not [path for path in folder.rglob("*.dcm") if studies.survivors({"Wernstroem"}, path)]
    assert not list(folder.rglob("*.deid"))


def test_images_that_were_exported_once_more_are_deidentified_once_more(place):
    dataset = studies.image()
    (path,) = place.add(dataset)
    place.work()
    first = path.read_bytes()
    place.add(dataset)
    assert path.read_bytes() != first
    place.work()
    assert path.read_bytes() == first


def test_dropped_files_that_are_exported_once_more_are_dropped_once_more(place):
    datasets = studies.image(), studies.image(BurnedInAnnotation="YES")
    kept, dropped = place.add(*datasets)
    place.work()
    first = kept.read_bytes()
    place.add(*datasets)
    result = place.work()
    assert (result["deidentified"], result["dropped"]) == (1, 1)
    assert kept.read_bytes() == first and not dropped.exists()


def test_what_storing_has_noted_in_the_folder_does_not_stop_a_repetition(place):
    (path,) = place.add(studies.image())
    place.work()
    (place.data / "dicom" / RUN / ".stored.json").write_text("{}")
    assert place.work()["deidentified"] == 1
    path.with_name(".stored.json").write_text("{}")
    with pytest.raises(errors.Refused, match="1 files that are not"):
        place.work()


def test_a_mixture_of_old_and_new_files_fails_closed(place):
    one, two = studies.image(), studies.image()
    place.add(one, two)
    place.work()
    place.add(one)
    with pytest.raises(errors.Refused, match="1 of 2 files"):
        place.work()


def test_another_key_other_options_or_a_damaged_journal_fail_closed(place):
    (path,) = place.add(studies.image())
    place.work()
    before = path.read_bytes()
    with pytest.raises(errors.Refused, match="other options"):
        place.work(dates="shift")
    place.use_key(KEY[::-1])
    with pytest.raises(errors.Refused, match="another key"):
        place.work()
    place.use_key(KEY)
    journal = place.data / "deidentification" / RUN / "journal.json"
    journal.write_text(journal.read_text().replace("deidentified", "deidentifies"))
    with pytest.raises(errors.Refused, match="damaged"):
        place.work()
    assert path.read_bytes() == before


# Failing closed


def test_one_unreadable_file_fails_the_run_and_nothing_is_changed(place):
    paths = place.add(studies.hard(), studies.image(), studies.image())
    paths[1].write_bytes(b"no DICOM, but Wernstroem^Ottokar")
    before = snapshot(place.data / "dicom")
    with pytest.raises(errors.Unreadable, match=id_of(1)):
        place.work()
    assert snapshot(place.data / "dicom") == before


def test_a_truncated_file_fails_the_run_without_quoting_it(place):
    paths = place.add(studies.hard(), studies.image())
    content = paths[0].read_bytes()
    position = content.index(b"Zxcvbnowski")
    paths[0].write_bytes(content[:position])
    failure = None
    try:
        place.work()
    except Exception as error:
        failure = "".join(traceback.format_exception(error))
        assert error.__context__ is None
    assert failure is not None and "Wernstroem" not in failure and "PID-7741" not in failure


def test_file_names_that_are_not_orthancs_are_not_quoted(place):
    (path,) = place.add(studies.image())
    named = path.with_name("Wernstroem_Ottokar.dcm")
    path.rename(named)
    named.write_bytes(b"nothing")
    with pytest.raises(errors.Unreadable) as caught:
        place.work()
    assert "Wernstroem" not in str(caught.value)


def test_errors_of_the_disk_quote_no_names(place, monkeypatch):
    (path,) = place.add(studies.image())
    path.rename(path.with_name("Wernstroem.dcm"))

    def full(*_):
        raise OSError(28, "No space left on device", "Wernstroem.dcm")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(errors.DeidentificationError, match="No space left on device") as caught:
        place.work()
    assert caught.value.__context__ is None and "Wernstroem" not in str(caught.value)


@pytest.mark.parametrize("name", ["MR_truncated.dcm", "rtplan_truncated.dcm"])
def test_files_that_end_too_early_fail_the_run(place, name):
    place.add(studies.real(name))
    with pytest.raises(errors.Unreadable, match="truncated|cannot be read"):
        place.work()


@pytest.mark.parametrize("name", ["readme.txt", "DICOMDIR", "image.nii.gz"])
def test_other_files_in_the_folder_fail_the_run(place, name):
    (path,) = place.add(studies.image())
    path.with_name(name).write_bytes(b"?")
    with pytest.raises(errors.Refused, match="1 files that are not"):
        place.work()


def test_links_fail_the_run(place, tmp_path):
    (path,) = place.add(studies.image())
    outside = studies.save(studies.image(), tmp_path / "outside.dcm")
    path.with_name(f"{id_of(5)}.dcm").symlink_to(outside)
    with pytest.raises(errors.Refused, match="link"):
        place.work()
    path.with_name(f"{id_of(5)}.dcm").unlink()
    path.with_name("folder").symlink_to(tmp_path)
    with pytest.raises(errors.Refused, match="link"):
        place.work()


def test_leftovers_of_a_broken_export_go(place):
    (path,) = place.add(studies.image())
    left = path.with_name(f".{id_of(0)}.dcm.1234.part")
    left.write_bytes(b"Wernstroem")
    place.work()
    assert not left.exists()


def test_an_empty_or_missing_folder_fails(place):
    with pytest.raises(errors.Refused, match="not there"):
        place.work()
    (place.data / "dicom" / RUN).mkdir(parents=True)
    with pytest.raises(errors.Refused, match="no \\*.dcm"):
        place.work()


@pytest.mark.parametrize("key, mode, says", [
    (b"short", 0o600, "5 bytes"), (b"a" * 64, 0o600, "not random"), (KEY, 0o644, "mode 0644"), (KEY, 0o660, "mode 0660"),
    (b"", 0o600, "0 bytes"),
])  # fmt: skip
def test_a_key_that_is_no_good_fails_closed(place, key, mode, says):
    (path,) = place.add(studies.image())
    before = path.read_bytes()
    place.use_key(key, mode)
    with pytest.raises(errors.KeyUnusable, match=says):
        place.work()
    assert path.read_bytes() == before


def test_a_key_that_is_absent_fails_closed(place, monkeypatch, tmp_path):
    place.add(studies.image())
    monkeypatch.setenv("ANONYMIZER_KEY_FILE", str(tmp_path / "none"))
    with pytest.raises(errors.KeyUnusable, match="No such file"):
        place.work()
    monkeypatch.delenv("ANONYMIZER_KEY_FILE")
    monkeypatch.delenv("STATE", raising=False)
    with pytest.raises(errors.KeyUnusable, match="ANONYMIZER_KEY_FILE is not set"):
        place.work()
    secrets = tmp_path / "state" / "secrets"
    secrets.mkdir(parents=True)
    shutil.copy(place.use_key(KEY), secrets / "anonymizer.key")
    monkeypatch.delenv("ANONYMIZER_KEY_FILE")
    monkeypatch.setenv("STATE", str(tmp_path / "state"))
    assert place.work()["deidentified"] == 1


def test_paths_outside_of_data_are_refused(place):
    for path in ("../elsewhere", "/etc", "dicom/../../x"):
        with pytest.raises(ValueError):
            dicomAnonymizer.worker("dicomAnonymizer", {"dcmpath": path}, None, {})


# The callback


def test_the_callback_accepts_everything_and_hands_the_report_on():
    report = f"deidentification/{RUN}"
    accepted, injected = registry_dicomAnonymizer.callback("dicomAnonymizer", HEADERS, None, {})
    assert accepted and injected["output"] == f"dicom/{RUN}" and injected["report"] == f"{report}/report.json"
    assert injected["storage"]["path"] == f"{report}/report.json" and "studyId" not in injected["storage"]
    # Whoever has images deleted after a result must not lose them for a record.
    assert injected["storage"]["result"] is False
    # Of the images nothing is to be deleted: other services work on them.
    assert injected["deleted"] == [report]
    _, injected = registry_dicomAnonymizer.callback("dicomAnonymizer", {**HEADERS, "studyIds": ["a", "b"]}, {}, {})
    assert injected["storage"]["studyId"] == "a"
    _, injected = registry_dicomAnonymizer.callback("dicomAnonymizer", HEADERS, {"report": "keep"}, {})
    assert "deleted" not in injected and "storage" not in injected


def test_nothing_is_written_to_the_logs_but_counts(place, capfd):
    place.add(studies.hard(), studies.image(StudyDate="not a date Zxcvbnowski", PatientID="x" * 70))
    place.work()
    out, err = capfd.readouterr()
    assert not [value for value in ("Wernstroem", "Zxcvbnowski", "xxxxx", "PID-7741") if value in out + err]


def test_uids_in_texts_are_found_but_versions_are_not():
    assert texts.has_uid(f"see {generate_uid()}")
    assert not texts.has_uid("version 1.2.3.4") and not texts.has_uid("1.2.840.10008.5.1.4.1.1.2")


def test_pixels_are_in_memory_no_more_than_twice(place):
    size = 1024 * 1024 * 2 * 16
    (path,) = place.add(studies.image(rows=1024, NumberOfFrames=16, PixelData=bytes(size)))
    tracemalloc.start()
    try:
        place.work()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert path.stat().st_size > size and peak < 2.5 * size


def test_cleaned_files_can_be_read_by_others(place):
    """What has been written is what a second reading and writing gives, byte for byte."""
    for number, name in enumerate(("CT_small.dcm", "MR_small_implicit.dcm", "rtplan.dcm")):
        (path,) = place.add(studies.real(name), run=f"run-{number}")
        place.work(f"run-{number}")
        buffer = io.BytesIO()
        pydicom.dcmread(path).save_as(buffer)
        assert buffer.getvalue() == path.read_bytes()
