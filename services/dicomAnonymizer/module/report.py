"""The record of a run's de-identification: counts, options, what is at risk. No value of any file is in it."""

from __future__ import annotations

import html
import json

FILE_LIMIT = 500
"""Files that the page lists one by one, of those at risk. The other report has them all."""

TITLES = {
    "removed": "Removed",
    "emptied": "Emptied",
    "replaced": "Replaced by a dummy value",
    "pseudonym": "Replaced by the patient's pseudonym",
    "uid replaced": "UIDs replaced",
    "shifted": "Dates moved",
    "cleaned": "Descriptions reduced to words of the vocabulary",
    "kept by option": "Kept, because an option says so",
    "kept": "Times kept",
    "named the patient": "Replaced or removed, because the text named the patient or held a UID",
    "unknown or of the wrong kind": "Removed: not in the DICOM dictionary, or not of the kind it says",
    "unreadable": "Removed: could not be read",
    "private removed": "Private elements removed",
    "private kept": "Private elements kept",
    "without PatientID": "Without PatientID: the pseudonym is of the study",
    "overlay in pixel data blanked": "Overlays in unused bits of the pixel data blanked",
    "comments in compressed pixel data blanked": "Comments in compressed pixel data blanked",
    "bytes behind the pixels blanked": "Bytes behind the pixels blanked",
}


def as_json(report: dict) -> bytes:
    return json.dumps(report, indent=2, ensure_ascii=False).encode()


def as_html(report: dict) -> bytes:
    files, risk = report["files"], report["atRisk"]
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>De-identification report</title>",
        "<style>body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#1b1f24}"
        "table{border-collapse:collapse;margin:.4rem 0 1.4rem}th,td{border-bottom:1px solid #d5d9de;padding:.25rem .9rem .25rem 0;"
        "text-align:left;vertical-align:top}td.n{text-align:right;font-variant-numeric:tabular-nums}h2{margin-top:2rem}"
        ".warn{border-left:4px solid #b35900;padding:.4rem .8rem;background:#fff6ea}</style>",
        f"<h1>De-identification report</h1><p>Run {_text(report['run'])}. {files['deidentified']} of {files['found']} files de-identified, "
        f"{files['dropped']} dropped.</p>",
    ]
    if risk["kept"]:
        parts.append(
            f"<p class='warn'>{sum(risk['kept'].values())} files are in the run although they may show or say who the patient is "
            "(<code>atRisk</code> is <code>keep</code>): look at their pixels before they are passed on.</p>"
        )
    if report["recognizableFaces"]:
        parts.append(
            f"<p class='warn'>{report['recognizableFaces']} files show a head: a face can be rendered from such slices. "
            "Nothing was done about that.</p>"
        )
    parts += [
        "<h2>At risk</h2>",
        _table(("What", "Done", "Files"), [(why, "dropped", n) for why, n in risk["dropped"].items()]
               + [(why, "kept", n) for why, n in risk["kept"].items()]) if risk["dropped"] or risk["kept"] else "<p>None.</p>",
        _table(("Instance in Orthanc, or file", "What"), list(risk["instances"].items())[:FILE_LIMIT]) if risk["instances"] else "",
        f"<p>{len(risk['instances']) - FILE_LIMIT} more are in report.json.</p>" if len(risk["instances"]) > FILE_LIMIT else "",
        "<h2>Burned-in annotation, as the files say it</h2>", _table(("BurnedInAnnotation", "Files"), report["burnedInAnnotation"].items()),
        "<h2>SOP classes</h2>", _table(("Class", "Files"), report["sopClasses"].items()),
        "<h2>What was done to attributes</h2>",
    ]  # fmt: skip
    for what, row in report["attributes"].items():
        parts.append(f"<h3>{_text(TITLES.get(what, what))}</h3>" + _table(("Attribute", "Times"), row.items()))
    method = report["method"]
    parts += [
        "<h2>How</h2>",
        _table(("", ""), [("Profile", method["profile"]), ("Library", method["library"]), ("Service", method["service"]),
                          ("Key", f"fingerprint {method['keyFingerprint']}"), ("Dates", method["longitudinalTemporalInformation"])]),
        _table(("Code (DCM)", "Meaning"), method["codes"].items()),
        "<h2>Options</h2>", _table(("Option", "Value"), [(name, json.dumps(value)) for name, value in report["options"].items()]),
    ]  # fmt: skip
    return "\n".join(parts).encode()


def _table(heads, rows):
    def cell(value):
        return f"<td class='n'>{value}</td>" if isinstance(value, int) else f"<td>{_text(value)}</td>"

    head = "".join(f"<th>{_text(name)}</th>" for name in heads) if any(heads) else ""
    body = "".join("<tr>" + "".join(map(cell, row)) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>" if head else f"<table>{body}</table>"


def _text(value):
    return html.escape(str(value) or "(all)")
