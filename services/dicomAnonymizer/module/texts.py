"""What identifies the patient of a run, looked for in every text that stays; and the words that texts may keep."""

from __future__ import annotations

import functools
import pathlib
import re
import unicodedata

from pydicom.datadict import tag_for_keyword

from . import elements
from .options import IDENTIFIERS
from .profile import Action, Profile

ALSO_IDENTIFYING = """
    DeviceSerialNumber InstitutionAddress InstitutionName PerformedProcedureStepID RequestedProcedureID ScheduledProcedureStepID
    StationName StudyID
""".split()
IDENTIFYING = frozenset(int(tag) for tag in map(tag_for_keyword, [*IDENTIFIERS, *ALSO_IDENTIFYING]) if tag is not None)
"""Attributes besides all names of persons whose values are looked for."""

BIRTH_DATE = int(tag_for_keyword("PatientBirthDate"))

CODES = frozenset("""
    420 422 char code complete composite container contains continuous date datetime false full grayscale ict image intensity
    interpolated modified monochrome1 monochrome2 mosaic multiplanar none num original palette partial pname projection rct reformatted
    rgb sampled separate short table text time true uidref unmodified unspecified verified volumetric waveform ybr
""".split())
"""Words of codes that are no words of descriptions."""

NOBODY = frozenset("""
    admin administrator anonym anonymous anonymized automatic canon console default department doctor electric external general healthcare
    hitachi hospital medical nobody operator patient philips physician radiology scanner service siemens system systems technician
    technologist toshiba unknown unnamed
""".split())
"""Words that stand where names of persons should, and in the names of manufacturers."""

MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()

UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe", "æ": "ae", "œ": "oe"})

UID = re.compile(r"(?<![\d.])[0-2](?:\.(?:0|[1-9]\d*)){5,}(?![\d.])")
STANDARD_UID = "1.2.840.10008."
BETWEEN_WORDS = re.compile(r"[\s_/,;:()\[\]{}^=*+&|\"'<>-]+")
BETWEEN_NAMES = re.compile(r"[\s^=\\,;.()]+")
MEASURE = re.compile(r"\d{1,2}(?:\.\d{1,2})?\Z|\d{1,3}(?:\.\d{1,2})?(?:mm|cm|s|ms|sec|min|kv|kvp|ma|mas|ml|mg|t|hz|mhz|deg|%)\Z")


class Identity:
    """Names, numbers and places of one run, as they were in its files. Never leaves the process."""

    def __init__(self):
        self._anywhere: set[str] = set()
        self._as_words: set[str] = set()
        self._patterns = None

    def collect(self, dataset, profile: Profile, encodings=elements.ASCII):
        """Looks through a dataset as it came, sequences and private elements included."""
        encodings, _ = elements.encodings_of(dataset, encodings)
        for tag in list(dataset.keys()):
            element = dataset.get_item(tag)
            known = elements.vr_of(tag)
            vr = known if known == "PN" or element.VR in (None, "UN") else element.VR
            if vr == "SQ":
                try:
                    items = elements.items_of(dataset, tag)
                except Exception:  # What cannot be read does not stay either.
                    continue
                for item in items:
                    self.collect(item, profile, encodings)
            elif (vr == "PN" or int(tag) in IDENTIFYING or int(tag) == BIRTH_DATE) and profile.action(tag) is not Action.KEEP:
                for value in elements.text_of(element, encodings, vr).split("\\"):
                    self.add(value, "name" if vr == "PN" else "date" if int(tag) == BIRTH_DATE else "id")

    def add(self, value: str, kind: str):
        value = _plain(value)
        self._patterns = None
        if kind == "name":
            parts = [part for part in BETWEEN_NAMES.split(value) if part and part not in NOBODY]
            if len(parts) > 1:
                both = parts[:2], parts[1::-1]
                # With marks between them initials are a name, too; without, they would be found in any word.
                parts += [mark.join(pair) for pair in both for mark in ("", " ", "^", "_", ", ")] + ["".join(parts)]
            for part in {form for part in parts for form in _spellings(part)}:
                # A Chinese or Korean name is complete in two characters.
                if len(part) >= 5 or (len(part) >= 2 and not part.isascii()):
                    self._anywhere.add(part)
                elif len(part) >= 3:
                    self._as_words.add(part)
        elif kind == "date":
            digits = value[:8]
            if len(digits) == 8 and digits.isdigit():
                year, month, day = digits[:4], digits[4:6], digits[6:]
                name = MONTHS[int(month) - 1] if 1 <= int(month) <= 12 else month
                self._anywhere.add(digits)
                self._as_words.update((digits[2:], day + month + year[2:], month + day + year[2:]))
                for mark in ("", ".", "-", "/", " "):
                    self._anywhere.update((mark.join((day, name, year)), mark.join((year, name, day))))
                    self._anywhere.update((mark.join((year, month, day)), mark.join((day, month, year)), mark.join((month, day, year))))
        else:
            # 12-34-567 is written 1234567 elsewhere.
            for form in {value, "".join(character for character in value if character.isalnum())}:
                if len(form) >= 6:
                    self._anywhere.add(form)
                elif len(form) >= 4:
                    self._as_words.add(form)

    def is_in(self, text: str, vr: str = "LO") -> bool:
        text = _plain(text)
        if not text:
            return False
        anywhere, words, _ = self._compiled()
        # Plain searches: for texts as short as these faster than one expression with all of them.
        if vr == "CS":
            # Codes are the standard's own words, of which some are names of persons, too (HEAD, WHITE), or begin like one (ORIGINAL).
            text = "\\".join(value for value in text.split("\\") if not is_code(value))
        return any(part in text for part in anywhere) or any(part in text and pattern.search(text) for part, pattern in words)

    def is_number(self, text: str) -> bool:
        """Whether one of the numbers in `text` is a number of the patient or visit, all of it."""
        return not self._anywhere.isdisjoint(part.strip(" +\0") for part in text.split("\\"))

    def is_in_bytes(self, value: bytes) -> bool:
        if len(value) < 5:
            return False
        value = value.lower()
        return any(part in value for part in self._compiled()[2])

    def _compiled(self):
        if self._patterns is None:
            words = [(text, re.compile(rf"(?<![^\W_]){re.escape(text)}(?![^\W_])")) for text in sorted(self._as_words)]
            octets = {text.encode(code, "ignore") for text in self._anywhere for code in ("utf-8", "latin-1", "utf-16-le")}
            self._patterns = (sorted(self._anywhere), words, sorted(part for part in octets if len(part) >= 5))
        return self._patterns


def has_uid(text: str) -> bool:
    return any(not match[0].startswith(STANDARD_UID) for match in UID.finditer(text))


def cleaned(text: str, words: frozenset[str], identity: Identity) -> str:
    """Of the text's words those that are in the vocabulary, and short measures such as `1.5mm`. What remains says nothing about a
    person unless the vocabulary does."""

    def stays(word):
        plain = _plain(word)
        return (plain in words or MEASURE.match(plain) is not None) and not identity.is_in(word)

    values = (" ".join(word for word in BETWEEN_WORDS.split(value) if stays(word)) for value in text.split("\\"))
    return "\\".join(values).strip("\\")


def is_code(value: str) -> bool:
    return all(word in CODES or word in vocabulary() for word in re.split(r"[ _]+", value.strip(" \0")) if word)


@functools.cache
def vocabulary() -> frozenset[str]:
    """The words that descriptions may keep: anatomy, directions, techniques, contrast."""
    lines = (pathlib.Path(__file__).parent / "vocabulary.txt").read_text("utf-8").splitlines()
    return frozenset(word.casefold() for line in lines if not line.startswith("#") for word in line.split())


def _spellings(name: str) -> set[str]:
    """A name as it is, and as those write it who have no accents: müller, muller, mueller."""
    if name.isascii():
        return {name}
    bare = "".join(character for character in unicodedata.normalize("NFKD", name) if not unicodedata.combining(character))
    return {name, unicodedata.normalize("NFC", bare), name.translate(UMLAUTS)}


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold().strip(" \0")
