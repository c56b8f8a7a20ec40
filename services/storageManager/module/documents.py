"""PDF files as Encapsulated PDF, JSON reports as Basic Text SR."""

import hashlib
import json

from pydicom.dataset import Dataset
from pydicom.uid import BasicTextSRStorage, EncapsulatedPDFStorage

PDF_LIMIT = 1 << 30
JSON_LIMIT = 4 << 20
ITEM_LIMIT = 20_000
DEPTH_LIMIT = 24
SCHEME = "99DCMPROC"


def pdf(maker, source, number, parent, series):
    if source.path.stat().st_size > PDF_LIMIT:
        raise maker.entry.error(f"{source.name!r} is larger than {PDF_LIMIT >> 20} MiB")
    content = source.path.read_bytes()
    if not content[:1024].lstrip().startswith(b"%PDF-"):
        raise maker.entry.error(f"{source.name!r} is not a PDF file")
    made = maker.new(parent, EncapsulatedPDFStorage, "DOC", source, number=number)
    made.ConversionType = "WSD"
    made.AcquisitionDateTime = ""
    made.BurnedInAnnotation = "YES" if maker.entry.burned_in else "NO"
    made.DocumentTitle = maker.description
    made.ConceptNameCodeSequence = []
    made.MIMETypeOfEncapsulatedDocument = "application/pdf"
    made.EncapsulatedDocumentLength = len(content)
    made.EncapsulatedDocument = content + b"\0" * (len(content) % 2)
    return maker.finish(made, parent, series.id if series else None)


def report(maker, source, number, parent, series):
    """A JSON document as a tree of texts: objects are containers, their keys the concepts, what is in them is written out.

    DICOM knows no encapsulated JSON (PDF, CDA, STL, OBJ and MTL are all), and viewers show an SR as it is.
    """
    if source.path.stat().st_size > JSON_LIMIT:
        raise maker.entry.error(f"{source.name!r} is larger than {JSON_LIMIT >> 20} MiB; a report is for people")
    try:
        document = json.loads(source.path.read_bytes())
    except (ValueError, RecursionError):
        raise maker.entry.error(f"{source.name!r} is not JSON") from None
    made = maker.new(parent, BasicTextSRStorage, "SR", source, number=number)
    made.ReferencedPerformedProcedureStepSequence = []
    made.PerformedProcedureCodeSequence = []
    made.CompletionFlag = "COMPLETE"
    made.VerificationFlag = "UNVERIFIED"
    made.ValueType = "CONTAINER"
    made.ConceptNameCodeSequence = [_concept(maker.description)]
    made.ContinuityOfContent = "SEPARATE"
    tree = _Tree(maker.entry, source.name)
    items = tree.items(document if isinstance(document, (dict, list)) else {"value": document}, 1)
    made.ContentSequence = items or [tree.text("report", "(empty)")]
    scheme = Dataset()
    scheme.CodingSchemeDesignator = SCHEME
    scheme.CodingSchemeName = "Keys of JSON reports"
    made.CodingSchemeIdentificationSequence = [scheme]
    return maker.finish(made, parent, series.id if series else None)


class _Tree:
    def __init__(self, entry, name):
        self._entry = entry
        self._name = name
        self._count = 0

    def items(self, value, depth):
        pairs = value.items() if isinstance(value, dict) else ((str(position), one) for position, one in enumerate(value, start=1))
        return [self._item(key, one, depth) for key, one in pairs]

    def _item(self, key, value, depth):
        if depth > DEPTH_LIMIT:
            raise self._entry.error(f"{self._name!r} is nested deeper than {DEPTH_LIMIT} levels")
        if isinstance(value, (dict, list)) and value:
            container = Dataset()
            container.RelationshipType = "CONTAINS"
            container.ValueType = "CONTAINER"
            container.ConceptNameCodeSequence = [_concept(key)]
            container.ContinuityOfContent = "SEPARATE"
            container.ContentSequence = self.items(value, depth + 1)
            return container
        if value is None:
            text = "(none)"
        elif value in ({}, [], ""):
            text = "(empty)"
        else:
            text = value if isinstance(value, str) else json.dumps(value)
        return self.text(key, text)

    def text(self, key, text):
        self._count += 1
        if self._count > ITEM_LIMIT:
            raise self._entry.error(f"{self._name!r} has more than {ITEM_LIMIT} values; a report is for people")
        item = Dataset()
        item.RelationshipType = "CONTAINS"
        item.ValueType = "TEXT"
        item.ConceptNameCodeSequence = [_concept(key)]
        item.TextValue = text
        return item


def _concept(meaning):
    """A code of our own for a key: the same key has the same code everywhere."""
    meaning = " ".join(str(meaning).replace("\\", "/").split()) or "(no name)"
    code = Dataset()
    code.CodeValue = "k" + hashlib.sha256(meaning.encode()).hexdigest()[:12]
    code.CodingSchemeDesignator = SCHEME
    code.CodeMeaning = meaning if len(meaning) <= 64 else meaning[:61] + "..."
    return code
