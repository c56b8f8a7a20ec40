"""Reading elements as they stand in the file, without turning them into Python values that would be written differently."""

from __future__ import annotations

from pydicom import charset
from pydicom.dataelem import RawDataElement
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence

from .profile import vr_of

TEXT = frozenset(("LO", "SH", "ST", "LT", "UT", "UC", "CS", "PN", "AE", "UR"))
FREE_TEXT = frozenset(("ST", "LT", "UT", "UC", "UR"))
TEMPORAL = frozenset(("DA", "DT", "TM"))
WRITTEN_NUMBERS = frozenset(("DS", "IS", "AS"))
NUMBERS = frozenset(("US", "SS", "UL", "SL", "UV", "SV", "FL", "FD", "AT"))
SIZES = {"US": 2, "SS": 2, "FD": 8, "UV": 8, "SV": 8}
"""Bytes of one number; of all others 4."""
BYTES = frozenset(("OB", "OW", "OD", "OF", "OL", "OV", "UN"))
STRICT = FREE_TEXT | TEMPORAL | {"PN", "AE"}
"""Of these the dictionary's VR counts, whatever text the file calls it: what is done to names is not left to who wrote the file."""
KNOWN = TEXT | TEMPORAL | WRITTEN_NUMBERS | NUMBERS | BYTES | {"SQ", "UI"}

SPECIFIC_CHARACTER_SET = 0x00080005
ASCII = ["iso8859"]


def vr_in_file(tag, element) -> str | None:
    """The VR that counts: the file's, or the dictionary's where the file has none. None when nobody knows, or they contradict
    each other so that the content may be anything."""
    said = element.VR if element.VR not in (None, "UN") else None
    known = vr_of(tag) if not tag >> 16 & 1 else None
    if said is None:
        return known or ("UN" if element.VR == "UN" else None)
    if said not in KNOWN:
        return None
    if known is not None and said != known:
        if (said == "SQ") != (known == "SQ") or (known in NUMBERS | WRITTEN_NUMBERS and said not in NUMBERS | WRITTEN_NUMBERS | {"OW"}):
            return None
        if known == "UI" or (said in BYTES and known not in BYTES | NUMBERS) or (known in BYTES and said not in BYTES | NUMBERS):
            return None
        if known in TEXT | TEMPORAL and said in NUMBERS:
            return None
        if known in STRICT and said in TEXT | TEMPORAL | WRITTEN_NUMBERS:
            return known
    return said


def encodings_of(dataset, parents) -> tuple[list[str], bool]:
    """Python's names of the dataset's character sets, and whether SpecificCharacterSet may stay."""
    if SPECIFIC_CHARACTER_SET not in dataset:
        return parents, True
    value = dataset[SPECIFIC_CHARACTER_SET].value
    values = list(value) if isinstance(value, (list, tuple, MultiValue)) else [value or ""]
    if not all((name or "").strip() in charset.python_encoding for name in values):
        return ASCII, False
    return charset.convert_encodings([name or "" for name in values]), True


def text_of(element, encodings, vr) -> str:
    """The value as text, several values with backslashes between them."""
    value = element.value
    if value is None:
        return ""
    if isinstance(value, (bytes, bytearray)):
        if value.isascii() and b"\x1b" not in value:
            text = value.decode("ascii")
        else:
            text = charset.decode_bytes(bytes(value), encodings, set("^=\\\n\r\t\f" if vr == "PN" else "\\\n\r\t\f"))
        return text.rstrip(" \0")
    if isinstance(value, (list, tuple, MultiValue)):
        return "\\".join(map(str, value))
    return str(value)


def is_whole(element, vr) -> bool:
    """Whether as many bytes are there as binary numbers need."""
    return not is_raw(element) or vr not in NUMBERS or len(element.value or b"") % SIZES.get(vr, 4) == 0


def is_raw(element) -> bool:
    return isinstance(element, RawDataElement)


def items_of(dataset, tag):
    """The items of a sequence. Raises when its content is none."""
    element = dataset.get_item(tag)
    if is_raw(element) and element.VR == "UN":
        # As who did not know the attribute has passed it on: implicit VR, whatever the file has (PS3.5 6.2.2).
        dataset[tag] = element._replace(VR="SQ", is_implicit_VR=True, is_little_endian=True)
    value = dataset[tag].value
    if value and not isinstance(value, Sequence):
        raise ValueError("not a sequence of items")
    return list(value or ())
