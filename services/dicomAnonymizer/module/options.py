"""What a site may choose: `params` of the job's entry in settings.json."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import re

from pydicom.datadict import dictionary_VR, tag_for_keyword

from .errors import InvalidOption

PRIVATE_ELEMENT = re.compile(r'\(([0-9A-Fa-f]{4}),"([^"]{1,64})",([0-9A-Fa-f]{2})\)\Z')
PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,15}\Z|\Z")
WORD = re.compile(r"[^\s\\]{1,40}\Z")

IDENTIFIERS = frozenset("""
    AccessionNumber AdmissionID ClinicalTrialSubjectID ClinicalTrialSubjectReadingID FillerOrderNumberImagingServiceRequest
    FillerOrderNumberImagingServiceRequestRetired FillerOrderNumberProcedure InsurancePlanIdentification IssuerOfPatientID
    MedicalRecordLocator OtherPatientIDs OtherPatientNames PatientAddress PatientBirthDateInAlternativeCalendar PatientBirthName
    PatientDeathDateInAlternativeCalendar PatientID PatientMotherBirthName PatientName PatientTelecomInformation
    PatientTelephoneNumbers PersonAddress PersonTelecomInformation PersonTelephoneNumbers
    PlacerOrderNumberImagingServiceRequest PlacerOrderNumberImagingServiceRequestRetired PlacerOrderNumberProcedure
    RegionOfResidence ResponsiblePerson ServiceEpisodeID
""".split())
"""What identifies a person or a visit by itself: no option keeps it."""

KEEPABLE_VRS = frozenset(("AS", "CS", "DS", "FD", "FL", "IS", "LO", "LT", "SH", "SL", "SS", "ST", "TM", "UC", "UL", "US", "UT"))


@dataclasses.dataclass(frozen=True)
class Options:
    """docs/de-identification.md says what each one does."""

    retainUIDs: bool = False
    dates: str = "remove"
    patientCharacteristics: bool = False
    deviceIdentity: bool = False
    institution: bool = False
    descriptors: str = "remove"
    vocabulary: tuple[str, ...] = ()
    privateTags: str = "remove"
    safePrivateTags: tuple[tuple[str, int, int], ...] = ()
    keep: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    atRisk: str = "drop"
    patientPrefix: str = ""
    report: str = "orthanc"

    CHOICES = {
        "dates": ("remove", "shift", "keep"),
        "descriptors": ("remove", "clean"),
        "privateTags": ("remove", "safe"),
        "atRisk": ("drop", "refuse", "keep"),
        "report": ("orthanc", "keep"),
    }

    @classmethod
    def read(cls, params) -> Options:
        """Raises InvalidOption that names the option, its value and what is allowed."""
        if params is None:
            return cls()
        if not isinstance(params, dict):
            raise InvalidOption(f"params is {_shown(params)}; it has to be an object of options")
        names = [field.name for field in dataclasses.fields(cls)]
        values = {}
        for name, value in params.items():
            if name[:1] in ("_", "$", "#") or name.startswith("//"):
                continue  # a note to people, as in settings.json
            if name not in names:
                near = difflib.get_close_matches(name, names, 1, 0.6)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise InvalidOption(f"params.{name}: there is no such option.{hint} Options: {', '.join(names)}.")
            if value is not None:
                values[name] = cls._value(name, value)
        options = cls(**values)
        if options.safePrivateTags and options.privateTags != "safe":
            raise InvalidOption('params.safePrivateTags is given, but privateTags is "remove"; set "privateTags": "safe" to keep some')
        if options.vocabulary and options.descriptors != "clean":
            raise InvalidOption('params.vocabulary is given, but descriptors is "remove"; set "descriptors": "clean" to use it')
        return options

    @classmethod
    def _value(cls, name, value):
        if name in cls.CHOICES:
            if not isinstance(value, str) or value not in cls.CHOICES[name]:
                raise InvalidOption(f"params.{name} is {_shown(value)}; allowed: {', '.join(cls.CHOICES[name])}")
            return value
        if name == "patientPrefix":
            if not isinstance(value, str) or not PREFIX.match(value):
                raise InvalidOption(f"params.{name} is {_shown(value)}; allowed: up to 16 letters, digits and '-'")
            return value
        if isinstance(getattr(cls, name), bool):
            if not isinstance(value, bool):
                raise InvalidOption(f"params.{name} is {_shown(value)}; allowed: true, false")
            return value
        if not isinstance(value, list):
            raise InvalidOption(f"params.{name} is {_shown(value)}; it has to be a list of texts")
        return tuple(sorted({cls._member(name, member) for member in value}))

    @staticmethod
    def _member(name, member):
        def refuse(what):
            return InvalidOption(f"params.{name}: {_shown(member)} {what}")

        if not isinstance(member, str):
            raise refuse("is not a text")
        if name == "vocabulary":
            if not WORD.match(member):
                raise refuse("is not a word of up to 40 characters")
            return member.casefold()
        if name == "safePrivateTags":
            match = PRIVATE_ELEMENT.match(member)
            if match is None or not int(match[1], 16) % 2:
                raise refuse('is no private element; write (gggg,"creator",ee), for example (2001,"Philips Imaging DD 001",03)')
            return match[2], int(match[1], 16), int(match[3], 16)
        tag = tag_for_keyword(member)
        if tag is None:
            raise refuse("is not the keyword of a DICOM attribute; write it as PS3.6 does, for example SeriesDescription")
        if name == "keep":
            vr = dictionary_VR(tag)
            if vr == "UI":
                raise refuse("is a UID; retainUIDs keeps those, all together, because they refer to one another")
            if vr in ("DA", "DT"):
                raise refuse('is a date; "dates": "shift" or "keep" is for those, all together')
            if member in IDENTIFIERS or vr == "PN" or vr not in KEEPABLE_VRS:
                raise refuse("names persons, or has content that cannot be looked through: it is never kept")
        return member

    @property
    def digest(self) -> str:
        """The same for the same options, whatever way they were written."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    @property
    def chosen(self) -> dict:
        """All of them, as the report says them."""
        values = dataclasses.asdict(self)
        values["safePrivateTags"] = [f'({group:04x},"{creator}",{element:02x})' for creator, group, element in self.safePrivateTags]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _shown(value):
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:80] + "..."
