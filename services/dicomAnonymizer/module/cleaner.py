"""De-identifies one dataset in memory."""

from __future__ import annotations

from pydicom.charset import default_encoding
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.datadict import keyword_for_tag, tag_for_keyword
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian, UID_dictionary

from . import codestream, dates, elements, standard
from .elements import BYTES, FREE_TEXT, NUMBERS, TEMPORAL, TEXT, WRITTEN_NUMBERS
from .profile import Action, Profile
from .pseudonyms import Patient, Pseudonyms
from .tally import Tally
from .texts import Identity, cleaned, has_uid, vocabulary

METHOD = "DCM Processor dicomAnonymizer"
IMPLEMENTATION_UID = "2.25.236047925036189047311264098253447029831"
IMPLEMENTATION_NAME = "DCM_PROCESSOR"

PIXELS = frozenset((0x7FE00008, 0x7FE00009, 0x7FE00010))
PIXEL_DATA = 0x7FE00010


def _tags(keywords):
    return frozenset(int(tag_for_keyword(keyword)) for keyword in keywords.split())


BYTES_THAT_STAY = _tags("""
    BluePaletteColorLookupTableData ChannelMaximumValue ChannelMinimumValue FillPattern GreenPaletteColorLookupTableData ICCProfile
    LUTData RedPaletteColorLookupTableData SegmentedAlphaPaletteColorLookupTableData SegmentedBluePaletteColorLookupTableData
    SegmentedGreenPaletteColorLookupTableData SegmentedRedPaletteColorLookupTableData WaveformData WaveformPaddingValue
""")
"""Of what VR OB and UN can hold. OW and its like hold numbers and stay."""

TEXTS_THAT_STAY = _tags("""
    AlgorithmParameters CodingSchemeExternalID CodingSchemeName CodingSchemeResponsibleOrganization DetectorDescription DetectorMode
    ExposureControlModeDescription ExtendedCodeMeaning FractionPattern GridAbsorbingMaterial GridSpacingMaterial LongCodeValue
    MetaboliteMapDescription SpectralSensitivity URNCodeValue
""")
"""Of the long texts that the table does not mention: names of techniques and codes."""

FREE_BY_NAME = ("Description", "Comment", "Comments")
"""How the keywords of short texts end in which people write what they like."""

FREE_ALL_THE_SAME = _tags("""
    AssignedLocation ContactDisplayName HangingProtocolUserGroupName InstructionText MeasurementPrecisionDescriptionTrial
    PositionReferenceIndicator RequestedProcedureDescriptionTrial SubstanceAdministrationNotes
""")
"""Other short texts of that kind. Scanners copy StudyDescription into PositionReferenceIndicator."""

CODE = _tags("CodeValue LongCodeValue URNCodeValue CodeMeaning CodingSchemeDesignator CodingSchemeVersion")
CODING_SCHEME = int(tag_for_keyword("CodingSchemeDesignator"))
STANDARD_SCHEMES = frozenset("SCT SRT SNM3 99SDM DCM LN UCUM RADLEX RADELEMENT FMA NCIt UMLS UMLS CD2 MA MDC ACR BARI".split())

PATIENT_AGE = int(tag_for_keyword("PatientAge"))
PATIENT_ID = int(tag_for_keyword("PatientID"))
ISSUER = int(tag_for_keyword("IssuerOfPatientID"))
STUDY_UID = int(tag_for_keyword("StudyInstanceUID"))
INSTANCE_UID = int(tag_for_keyword("SOPInstanceUID"))
OVERLAY_BITS = 0x0102
OVERLAY_DATA = 0x3000

SAFE_PRIVATE_VRS = NUMBERS | WRITTEN_NUMBERS | {"CS", "SH", "LO"}

DUMMY_NUMBERS = {"DS": "0", "IS": "0", "AS": "000Y"}
DUMMY_DATES = {"DA": "19000101", "DT": "19000101000000", "TM": "000000"}
DUMMY_TEXT = "REMOVED"


class Cleaner:
    """Cleans the datasets of one run.

    identity: what the texts that stay must not say.
    """

    def __init__(self, profile: Profile, pseudonyms: Pseudonyms, identity: Identity):
        self._profile = profile
        self._options = profile.options
        self._pseudonyms = pseudonyms
        self._identity = identity
        self._words = vocabulary() | frozenset(self._options.vocabulary)
        self._safe_private = {
            (creator, group, element)
            for creator, group, last in (standard.SAFE_PRIVATE if self._options.privateTags == "safe" else ())
            for element in last
        } | set(self._options.safePrivateTags)
        self._syntax = ExplicitVRLittleEndian
        self.tally = Tally()

    def clean(self, dataset) -> None:
        """De-identifies a dataset as `pydicom.dcmread` gives it, its file meta information included."""
        self._embedded_overlays(dataset)
        patient = self._patient(dataset, default_encoding)
        self._syntax = dataset.file_meta.TransferSyntaxUID
        self._items(dataset, patient, [default_encoding], is_top=True, is_strict=False)
        self._comments_of_pixels(dataset)
        self._behind_pixels(dataset)
        self._say_so(dataset)
        self._meta(dataset)

    # The tree

    def _items(self, dataset, patient, parents, is_top, is_strict):
        encodings, is_known = elements.encodings_of(dataset, parents)
        if not is_known:
            del dataset[elements.SPECIFIC_CHARACTER_SET]
            self.tally.count("removed", elements.SPECIFIC_CHARACTER_SET)
        if not is_top and PATIENT_ID in dataset:
            patient = self._patient(dataset, encodings)
        is_code = self._is_standard_code(dataset, encodings)
        creators = self._creators(dataset, encodings) if self._safe_private else {}
        for tag in list(dataset.keys()):
            number = int(tag)
            if number >> 16 & 1:
                self._private(dataset, number, encodings, creators)
            elif number & 0xFFFF == 0 or number >> 16 < 0x0008 or number >> 24 in (0x50, 0x60):
                # Lengths of groups, commands and directories, curves and overlays: what describes an overlay goes with its pixels.
                self._remove(dataset, number)
            elif number in PIXELS:
                # Small pictures of the image have no place to say what is written in them.
                if not is_top:
                    self._remove(dataset, number)
            else:
                self._element(dataset, number, patient, encodings, is_strict, is_code)
        if not self._syntax.is_implicit_VR:
            self._name_kinds(dataset)

    def _name_kinds(self, dataset):
        """Items of sequences that came as UN have no VRs, which the writer needs where the file has some."""
        for tag in list(dataset.keys()):
            element = dataset.get_item(tag)
            if not elements.is_raw(element) or element.VR is not None:
                continue
            vr = elements.vr_of(tag)
            if vr is None or element.is_little_endian != self._syntax.is_little_endian:
                self._remove(dataset, int(tag), "unknown or of the wrong kind")
            else:
                dataset[tag] = element._replace(VR=vr)

    def _element(self, dataset, tag, patient, encodings, is_strict, is_code):
        action = self._profile.action(tag)
        if action is Action.REMOVE:
            return self._remove(dataset, tag)
        element = dataset.get_item(tag)
        vr = elements.vr_in_file(tag, element)
        if vr is None or elements.vr_of(tag) is None:
            return self._remove(dataset, tag, "unknown or of the wrong kind")
        if vr == "SQ":
            return self._sequence(dataset, tag, action, patient, encodings, is_strict)
        if action is None:
            return self._unlisted(dataset, tag, element, vr, patient, encodings, is_strict, is_code)
        match action:
            case Action.EMPTY:
                self._empty(dataset, tag, element, vr)
            case Action.DUMMY:
                self._dummy(dataset, tag, element, vr)
            case Action.UID:
                self._uid(dataset, tag, element, vr, encodings)
            case Action.PATIENT:
                self._put(dataset, tag, "LO" if tag == PATIENT_ID else "PN", patient.id, "pseudonym")
            case Action.SHIFT:
                self._shift(dataset, tag, element, vr, patient, encodings)
            case Action.CLEAN:
                self._clean(dataset, tag, element, vr, encodings)
            case Action.KEEP:
                self._keep(dataset, tag, element, vr, encodings)
            case _:
                self._remove(dataset, tag, "unknown or of the wrong kind")

    def _sequence(self, dataset, tag, action, patient, encodings, is_strict):
        try:
            items = elements.items_of(dataset, tag)
        except Exception:
            return self._remove(dataset, tag, "unreadable")
        if action is Action.EMPTY:
            return self._put(dataset, tag, "SQ", Sequence(), "emptied")
        if action is Action.DUMMY:
            is_strict = True
            self.tally.count("replaced", tag)
        elif action not in (None, Action.ITEMS, Action.CLEAN, Action.KEEP):
            return self._remove(dataset, tag, "unknown or of the wrong kind")
        for item in items:
            self._items(item, patient, encodings, is_top=False, is_strict=is_strict)
        return None

    def _private(self, dataset, tag, encodings, creators):
        group, element = tag >> 16, tag & 0xFFFF
        if element < 0x100 and (group << 16 | element << 8) in creators:
            return
        creator = creators.get(tag & 0xFFFFFF00) if element >= 0x1000 else None
        if creator is not None and (creator, group, element & 0xFF) in self._safe_private:
            item = dataset.get_item(tag)
            known = _private_vr(creator, group, element)
            vr = item.VR if item.VR not in (None, "UN") else known
            # What is no number where the vendor has one could be anything.
            if vr in SAFE_PRIVATE_VRS and known in (None, vr) and elements.is_whole(item, vr):
                self._value(dataset, tag, item, vr, encodings)
                if tag in dataset:
                    self.tally.count("private kept", f'({group:04x},"{creator}",{element & 0xFF:02x})')
                return
        self.tally.count("private removed", f"group {group:04x}")
        del dataset[tag]

    def _creators(self, dataset, encodings):
        """{first tag of a block: its creator}, of the blocks that have something to keep."""
        found = {}
        wanted = {(creator, group) for creator, group, _ in self._safe_private}
        for tag in dataset.keys():
            group, element = tag.group, tag.element
            if group & 1 and 0x10 <= element <= 0xFF:
                creator = elements.text_of(dataset.get_item(tag), encodings, "LO").strip()
                block = (group << 16) | (element << 8)
                kept = {last for name, its, last in self._safe_private if (name, its) == (creator, group)}
                if (creator, group) in wanted and any((block | last) in dataset for last in kept):
                    found[block] = creator
        return found

    # What the table says

    def _remove(self, dataset, tag, what="removed"):
        self.tally.count(what, tag)
        del dataset[tag]

    def _put(self, dataset, tag, vr, value, what):
        self.tally.count(what, tag)
        dataset[tag] = DataElement(tag, vr, value)

    def _empty(self, dataset, tag, element, vr):
        if element.value in (None, b"", ""):
            return
        self._put(dataset, tag, vr, b"" if vr in BYTES else None, "emptied")

    def _dummy(self, dataset, tag, element, vr):
        if element.value in (None, b"", ""):
            return
        if vr in TEXT:
            value = "http://removed.invalid/" if vr == "UR" else DUMMY_TEXT
        elif vr in TEMPORAL:
            value = DUMMY_DATES[vr]
        elif vr in WRITTEN_NUMBERS:
            value = DUMMY_NUMBERS[vr]
        elif vr in NUMBERS:
            count = len(element.value) // elements.SIZES.get(vr, 4) if elements.is_raw(element) else 1
            value = 0 if count == 1 else [0] * count
        elif vr == "UI":
            return self._uid(dataset, tag, element, vr, [default_encoding])
        else:
            value = b"\0\0"
        self._put(dataset, tag, vr, value, "replaced")

    def _uid(self, dataset, tag, element, vr, encodings):
        if vr != "UI":
            return self._remove(dataset, tag, "unknown or of the wrong kind")
        values = [value.strip(" \0") for value in elements.text_of(element, encodings, vr).split("\\")]
        if not any(values):
            return None
        mapped = [value if not value or value in UID_dictionary else self._pseudonyms.uid(value) for value in values]
        return self._put(dataset, tag, vr, mapped[0] if len(mapped) == 1 else mapped, "uid replaced")

    def _shift(self, dataset, tag, element, vr, patient, encodings):
        text = elements.text_of(element, encodings, vr)
        if not text:
            return
        value = dates.shifted(text, vr, patient.days) if vr in TEMPORAL else None
        if value is None:
            return self._otherwise(dataset, tag, element, vr)
        self._put(dataset, tag, vr, value, "shifted" if vr != "TM" else "kept")

    def _clean(self, dataset, tag, element, vr, encodings):
        if vr not in TEXT:
            return self._otherwise(dataset, tag, element, vr)
        text = elements.text_of(element, encodings, vr)
        if not text:
            return
        value = cleaned(text, self._words, self._identity)
        if not value:
            return self._otherwise(dataset, tag, element, vr)
        self._put(dataset, tag, vr, value, "cleaned")

    def _keep(self, dataset, tag, element, vr, encodings):
        if vr in TEMPORAL and not dates.is_temporal(elements.text_of(element, encodings, vr)):
            return self._otherwise(dataset, tag, element, vr)
        if tag == PATIENT_AGE and _is_old(elements.text_of(element, encodings, vr)):
            return self._put(dataset, tag, "AS", "090Y", "replaced")
        if vr == "UI":
            if not _is_numeric(elements.text_of(element, encodings, vr)):
                return self._uid(dataset, tag, element, vr, encodings)
        else:
            self._value(dataset, tag, element, vr, encodings)
        if tag in dataset:
            self.tally.count("kept by option", tag)

    def _otherwise(self, dataset, tag, element, vr):
        """What the Basic Profile does where an option cannot do its own."""
        match self._profile.basic(tag):
            case Action.EMPTY:
                self._empty(dataset, tag, element, vr)
            case Action.DUMMY:
                self._dummy(dataset, tag, element, vr)
            case _:
                self._remove(dataset, tag)

    # What the table does not mention

    def _unlisted(self, dataset, tag, element, vr, patient, encodings, is_strict, is_code):
        if vr == "PN" or vr == "AE":
            return self._empty(dataset, tag, element, vr) if element.value else None
        if vr in TEMPORAL:
            if self._options.dates == "shift":
                return self._shift(dataset, tag, element, vr, patient, encodings)
            if self._options.dates == "keep":
                return self._keep(dataset, tag, element, vr, encodings)
            return self._remove(dataset, tag)
        if vr == "UI":
            keyword = keyword_for_tag(tag)
            if "ClassUID" in keyword or "ClassesIn" in keyword or "SyntaxUID" in keyword or keyword in (
                "CodingSchemeUID", "ContextUID", "MappingResourceUID",
            ):  # fmt: skip
                text = elements.text_of(element, encodings, vr)
                return None if all(UID(value.strip(" \0")).is_valid for value in text.split("\\")) else self._remove(dataset, tag)
            if self._options.retainUIDs:
                return self._keep(dataset, tag, element, vr, encodings)
            return self._uid(dataset, tag, element, vr, encodings)
        if is_strict and vr != "CS" and not (is_code and tag in CODE):
            return self._dummy(dataset, tag, element, vr)
        if tag not in TEXTS_THAT_STAY and (
            vr in FREE_TEXT or tag in FREE_ALL_THE_SAME or (vr in TEXT and keyword_for_tag(tag).endswith(FREE_BY_NAME))
        ):
            if self._options.descriptors == "clean":
                text = cleaned(elements.text_of(element, encodings, vr), self._words, self._identity)
                if text:
                    return self._put(dataset, tag, vr, text, "cleaned")
            return self._dummy(dataset, tag, element, vr)
        if vr in ("OB", "UN") and tag not in BYTES_THAT_STAY:
            return self._remove(dataset, tag)
        return self._value(dataset, tag, element, vr, encodings)

    def _value(self, dataset, tag, element, vr, encodings):
        """Looks through a value that stays."""
        if vr in TEXT:
            try:
                text = elements.text_of(element, encodings, vr)
            except Exception:
                return self._remove(dataset, tag, "unreadable")
            if "\ufffd" in text:
                return self._remove(dataset, tag, "unreadable")
            if self._identity.is_in(text, vr) or (not self._options.retainUIDs and has_uid(text)):
                self._put(dataset, tag, vr, "http://removed.invalid/" if vr == "UR" else DUMMY_TEXT, "named the patient")
        elif vr in WRITTEN_NUMBERS:
            text = elements.text_of(element, encodings, vr)
            if not all(character in "0123456789+-.eE\\ \0DWMY" for character in text):
                self._remove(dataset, tag, "unknown or of the wrong kind")
            elif self._identity.is_number(text):
                self._remove(dataset, tag, "named the patient")
        elif isinstance(element.value, (bytes, bytearray)) and self._identity.is_in_bytes(bytes(element.value)):
            self._remove(dataset, tag, "named the patient")
        return None

    # The patient

    def _patient(self, dataset, encodings) -> Patient:
        if isinstance(encodings, str):
            encodings, _ = elements.encodings_of(dataset, [encodings])

        def text(tag):
            return elements.text_of(dataset.get_item(tag), encodings, "LO").strip(" \0") if tag in dataset else ""

        if not text(PATIENT_ID):
            self.tally.count("without PatientID")
        return self._pseudonyms.patient(text(ISSUER), text(PATIENT_ID), text(STUDY_UID) or text(INSTANCE_UID))

    # Pixels and the file

    def _embedded_overlays(self, dataset):
        """Overlays may stand in the bits of PixelData that the image does not use: those are set to zero."""
        groups = {tag.group for tag in dataset.keys() if tag.group >> 8 == 0x60}
        if not any(_bit(dataset, group) for group in groups) or PIXEL_DATA not in dataset:
            return
        allocated, stored, high = (_number(dataset, tag) for tag in (0x00280100, 0x00280101, 0x00280102))
        syntax = dataset.file_meta.TransferSyntaxUID
        element = dataset.get_item(PIXEL_DATA)
        if syntax.is_encapsulated or (allocated, syntax.is_little_endian) != (16, True) or not (8 <= stored <= 16 and high == stored - 1):
            raise EmbeddedOverlay
        if stored == 16:
            return
        value = bytearray(element.value)
        mask = (1 << (stored - 8)) - 1
        value[1::2] = value[1::2].translate(bytes(byte & mask for byte in range(256)))
        dataset[PIXEL_DATA] = DataElement(PIXEL_DATA, "OW", bytes(value))
        self.tally.count("overlay in pixel data blanked")

    def _behind_pixels(self, dataset):
        """PixelData may be longer than the image; nobody looks at what is behind it."""
        if dataset.file_meta.TransferSyntaxUID.is_encapsulated or PIXEL_DATA not in dataset:
            return
        rows, columns, samples, bits = (_number(dataset, tag) for tag in (0x00280010, 0x00280011, 0x00280002, 0x00280100))
        frames = str(dataset.get("NumberOfFrames") or 1).strip()
        end = (rows * columns * (samples or 1) * bits * int(frames) + 7) // 8 if frames.isdigit() else 0
        # In words the last byte of an odd number may stand behind the padding.
        end += end % 2
        value = dataset.get_item(PIXEL_DATA).value
        if not end or len(value) <= end or not any(value[end:]):
            return
        dataset[PIXEL_DATA] = DataElement(PIXEL_DATA, "OW" if bits > 8 else dataset[PIXEL_DATA].VR, value[:end] + bytes(len(value) - end))
        self.tally.count("bytes behind the pixels blanked")

    def _comments_of_pixels(self, dataset):
        if not dataset.file_meta.TransferSyntaxUID.is_encapsulated or PIXEL_DATA not in dataset:
            return
        element = dataset[PIXEL_DATA]
        value, count = codestream.blanked(element.value)
        if count:
            element.value = value
            self.tally.count("comments in compressed pixel data blanked", number=count)

    def _say_so(self, dataset):
        profile = self._profile
        dataset.PatientIdentityRemoved = "YES"
        dataset.LongitudinalTemporalInformationModified = profile.temporal_information
        dataset.DeidentificationMethod = [
            METHOD,
            *(f"PS3.15 {meaning}"[:64] for _, meaning in profile.codes),
            *(f"Kept besides: {keyword}"[:64] for keyword in profile.options.keep),
        ]
        dataset.DeidentificationMethodCodeSequence = Sequence([_code(*code) for code in profile.codes])

    def _meta(self, dataset):
        """A new header of the file: of the old one only how the rest is to be read."""
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
        meta.ImplementationClassUID = IMPLEMENTATION_UID
        meta.ImplementationVersionName = IMPLEMENTATION_NAME
        dataset.file_meta = meta
        dataset.preamble = bytes(128)

    def _is_standard_code(self, dataset, encodings):
        if CODING_SCHEME not in dataset:
            return False
        return elements.text_of(dataset.get_item(CODING_SCHEME), encodings, "SH").strip() in STANDARD_SCHEMES


class EmbeddedOverlay(Exception):
    """An overlay in bits of pixel data that cannot be blanked without decoding."""


def _bit(dataset, group) -> bool:
    """Whether the overlay stands in the pixel data."""
    data = group << 16 | OVERLAY_DATA
    return group << 16 | OVERLAY_BITS in dataset and (data not in dataset or _number(dataset, group << 16 | OVERLAY_BITS) > 0)


def _number(dataset, tag) -> int:
    value = dataset[tag].value if tag in dataset else 0
    return value if isinstance(value, int) else 0


def _private_vr(creator, group, element):
    from pydicom.datadict import private_dictionary_VR

    try:
        return private_dictionary_VR(group << 16 | element, creator)
    except KeyError:
        return None


def _is_numeric(uids: str) -> bool:
    """Whether they are UIDs as far as that nothing but numbers can be in them."""
    return all(character in "0123456789.\\ \0" for character in uids)


def _is_old(age: str) -> bool:
    """HIPAA counts ages above 89 as identifying."""
    age = age.strip()
    return len(age) == 4 and age[:3].isdigit() and age[3] == "Y" and int(age[:3]) > 89


def _code(value, meaning):
    item = Dataset()
    item.CodeValue = value
    item.CodingSchemeDesignator = "DCM"
    item.CodeMeaning = meaning
    return item
