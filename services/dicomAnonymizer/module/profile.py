"""What is done to each attribute: table E.1-1 of PS3.15 and the options of the site.

The column of the Basic Profile is the library's (dicom-anonymizer); the columns of the options are in `standard`.
"""

from __future__ import annotations

import enum
import functools

from dicomanonymizer.dicomfields_selector import dicom_anonymization_database_selector
from pydicom._dicom_dict import DicomDictionary
from pydicom.datadict import tag_for_keyword

from . import standard
from .errors import DeidentificationError
from .options import Options

EDITION = "2026c"


class Action(enum.Enum):
    REMOVE = "removed"
    EMPTY = "emptied"
    DUMMY = "replaced"
    UID = "uid"
    KEEP = "kept"
    SHIFT = "shifted"
    CLEAN = "cleaned"
    PATIENT = "pseudonym"
    ITEMS = "items"
    """A sequence that stays; what is in it is treated like everything else."""

    # An attribute may be met tens of thousands of times.
    __hash__ = object.__hash__


BASIC = {
    # the letters of the table: the action for values, the action for sequences
    "X_TAGS": (Action.REMOVE, Action.REMOVE),
    "Z_TAGS": (Action.EMPTY, Action.EMPTY),
    "X_Z_TAGS": (Action.EMPTY, Action.EMPTY),
    "D_TAGS": (Action.DUMMY, Action.DUMMY),
    "Z_D_TAGS": (Action.DUMMY, Action.DUMMY),
    "X_D_TAGS": (Action.DUMMY, Action.REMOVE),
    "X_Z_D_TAGS": (Action.DUMMY, Action.EMPTY),
    "U_TAGS": (Action.UID, Action.REMOVE),
    "X_Z_U_STAR_TAGS": (Action.UID, Action.ITEMS),
}

ALWAYS_REMOVED = frozenset(map(tag_for_keyword, """
    BoardingPassID BreedRegistrationNumber CarrierID FillerOrderNumberImagingServiceRequestRetired FillerOrderNumberProcedure
    HL7InstanceIdentifier ItineraryID OOIOwnerCreationTime OwnerID PatientBirthDateInAlternativeCalendar
    PatientDeathDateInAlternativeCalendar PlacerOrderNumberImagingServiceRequestRetired PlacerOrderNumberProcedure PrinterName
    RadiationMachineName RouteID StorageMediaFileSetID
""".split()))
"""Not in the table, or no longer, and of the kind that is."""

NOT_TEMPORAL = frozenset(map(tag_for_keyword, "PatientBirthDate PatientBirthTime GPSTimeStamp GPSDateStamp".split()))
"""Dates and times that no option keeps or moves."""

TIMEZONE = tag_for_keyword("TimezoneOffsetFromUTC")


def vr_of(tag: int) -> str | None:
    """The VR of a public attribute, the first one of several. None for what the dictionary does not have."""
    entry = DicomDictionary.get(tag)
    return entry[0].split(" ")[0] if entry is not None else None


class Profile:
    def __init__(self, options: Options):
        self.options = options
        self._actions = dict(basic_profile())
        dates = {"shift": Action.SHIFT, "keep": Action.KEEP}.get(options.dates)
        if dates is not None:
            for tag in self._actions:
                if vr_of(tag) in ("DA", "DT", "TM") and tag not in NOT_TEMPORAL:
                    self._actions[tag] = dates
            self._actions[TIMEZONE] = Action.KEEP
        if options.descriptors == "clean":
            self._set(standard.CLEAN_DESCRIPTORS, Action.CLEAN)
        if options.patientCharacteristics:
            self._set(standard.CLEAN_PATIENT_CHARACTERISTICS, Action.CLEAN)
            self._set(standard.RETAIN_PATIENT_CHARACTERISTICS, Action.KEEP)
        if options.deviceIdentity:
            self._set(standard.CLEAN_DEVICE_IDENTITY, Action.CLEAN)
            self._set(standard.RETAIN_DEVICE_IDENTITY, Action.KEEP)
        if options.institution:
            self._set(standard.RETAIN_INSTITUTION_IDENTITY, Action.KEEP)
        if options.retainUIDs:
            self._set(standard.RETAIN_UIDS, Action.KEEP)
        self._set(options.keep, Action.KEEP)
        self._set(options.remove, Action.REMOVE)
        self._actions[tag_for_keyword("PatientID")] = Action.PATIENT
        self._actions[tag_for_keyword("PatientName")] = Action.PATIENT
        self._basic = basic_profile()

    def action(self, tag: int) -> Action | None:
        """None when neither the table nor an option says anything about it."""
        return self._actions.get(tag)

    def basic(self, tag: int) -> Action:
        """What to do where the option's way is impossible: a date that is none, a text of which nothing is left."""
        return self._basic.get(tag, Action.REMOVE)

    def _set(self, keywords, action):
        for keyword in keywords:
            tag = tag_for_keyword(keyword)
            # A word that this edition of the dictionary does not have is not kept: the safe side.
            if tag is not None:
                self._actions[int(tag)] = Action.ITEMS if vr_of(tag) == "SQ" and action is not Action.REMOVE else action

    @property
    def codes(self) -> list[tuple[str, str]]:
        """Codes of PS3.16 CID 7050 for what was done."""
        options = self.options
        return [("113100", "Basic Application Confidentiality Profile")] + [
            (code, meaning)
            for code, meaning, is_used in (
                ("113105", "Clean Descriptors Option", options.descriptors == "clean"),
                ("113106", "Retain Longitudinal Temporal Information Full Dates Option", options.dates == "keep"),
                ("113107", "Retain Longitudinal Temporal Information Modified Dates Option", options.dates == "shift"),
                ("113108", "Retain Patient Characteristics Option", options.patientCharacteristics),
                ("113109", "Retain Device Identity Option", options.deviceIdentity),
                ("113110", "Retain UIDs Option", options.retainUIDs),
                ("113111", "Retain Safe Private Option", options.privateTags == "safe"),
                ("113112", "Retain Institution Identity Option", options.institution),
            )
            if is_used
        ]

    @property
    def temporal_information(self) -> str:
        """For LongitudinalTemporalInformationModified (0028,0303)."""
        return {"remove": "REMOVED", "shift": "MODIFIED", "keep": "UNMODIFIED"}[self.options.dates]


@functools.cache
def basic_profile() -> dict[int, Action]:
    """The Basic Profile, from the library's table. Ranges (50xx, 60xx, private groups) are not in it."""
    table = dicom_anonymization_database_selector(f"dicomfields_{EDITION}")
    actions = {}
    for name, (of_values, of_sequences) in BASIC.items():
        for tag in table[name]:
            if len(tag) == 2 and tag[0] > 0x0002:
                number = tag[0] << 16 | tag[1]
                actions[number] = of_sequences if vr_of(number) == "SQ" else of_values
    _check(actions)
    for tag in ALWAYS_REMOVED:
        actions[int(tag)] = Action.REMOVE
    return actions


def _check(actions):
    """That the table is the one we know: a library whose table had become empty would otherwise remove nothing."""
    expected = {
        "PatientBirthDate": Action.EMPTY, "AccessionNumber": Action.EMPTY, "StudyInstanceUID": Action.UID,
        "OtherPatientIDsSequence": Action.REMOVE, "ReferringPhysicianName": Action.EMPTY, "InstitutionName": Action.DUMMY,
    }  # fmt: skip
    wrong = [keyword for keyword, action in expected.items() if actions.get(tag_for_keyword(keyword)) is not action]
    if len(actions) < 600 or wrong:
        raise DeidentificationError(
            f"dicom-anonymizer's table {EDITION} has {len(actions)} attributes and is wrong about {', '.join(wrong) or 'none'}; "
            "this service was made for versions 2.1 and later of it: see its requirements.txt"
        )
