"""Which instances may show or say who the patient is in a way that cleaning attributes does not reach."""

from __future__ import annotations

from . import elements

STORAGE = "1.2.840.10008.5.1.4.1.1."

CLASSES = {
    "3": "ultrasound",
    "6": "ultrasound",
    "7": "secondary capture",
    "9.4": "audio",
    "77.1.1": "photograph or endoscopy",
    "77.1.2": "photograph or endoscopy",
    "77.1.4": "photograph or endoscopy",
    "77.1.5": "photograph or endoscopy",
    "88": "structured report",
    "104": "encapsulated document",
}
"""SOP classes by what stands behind STORAGE, each with all that are below it."""

RAW_DATA = "66"
"""Alone: 66.1 and so on are registrations, segmentations, surfaces."""

DICOMDIR = "1.2.840.10008.1.3.10"

VIDEO = "1.2.840.10008.1.2.4.10"
"""How the transfer syntaxes of MPEG and HEVC begin: 100 to 108."""

SCREENS = ("SCREEN", "CAPTURE", "SNAPSHOT", "SCANNED")


def reason(dataset) -> str | None:
    """Why the instance is at risk, in words that are the same for all such. None when it is not."""
    sop_class = _text(dataset, 0x00080016)
    if sop_class == DICOMDIR:
        return "media directory"
    if _text(dataset, 0x00280301).upper() == "YES":
        return "burned-in annotation"
    if not sop_class.startswith(STORAGE):
        return "private or unknown SOP class"
    below = sop_class[len(STORAGE) :]
    if below == RAW_DATA:
        return "raw data"
    for prefix, why in CLASSES.items():
        if below == prefix or below.startswith(prefix + "."):
            return why
    if _text(dataset, 0x00080064):
        return "secondary capture"  # ConversionType says how it was captured
    image_type = _text(dataset, 0x00080008).upper().split("\\")
    if any(word in value for value in image_type for word in SCREENS):
        return "screenshot"
    if below.startswith("77.1.6") and {"LABEL", "OVERVIEW", "THUMBNAIL"} & set(image_type):
        return "label of a slide"
    syntax = str(getattr(dataset.file_meta, "TransferSyntaxUID", ""))
    if syntax.startswith(VIDEO):
        return "video"
    return None


def burned_in(dataset) -> str:
    value = _text(dataset, 0x00280301).upper()
    return value if value in ("YES", "NO") else "not said"


def has_face(dataset) -> bool:
    """Whether a face could be rendered from it: heads in slices. A hint for people, taken from codes alone."""
    body = _text(dataset, 0x00180015).upper()
    return _text(dataset, 0x00280302).upper() == "YES" or any(word in body for word in ("HEAD", "BRAIN", "SKULL", "FACE", "NECK", "ORBIT"))


def _text(dataset, tag) -> str:
    element = dataset.get_item(tag) if tag in dataset else None
    return elements.text_of(element, elements.ASCII, "CS").strip() if element is not None else ""
