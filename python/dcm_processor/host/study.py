"""Reads a folder of DICOM files as ingest would have read the same images from Orthanc. For `./dcm service test`.

Called as `python -m dcm_processor.host.study REQUEST ANSWER`, with a request in the first file:

    {"folder": "...", "level": "study", "series": null, "order": ["<instance id>", ...]}

Writes to the second file:

    {"headers": {...}, "instances": {"<series id>": 12}, "files": [{"path", "series", "id"}, ...], "skipped": 3}

without `dcmpath`, or {"error": "..."}. Needs pydicom.
"""

import hashlib
import json
import os
import sys

LONGEST = 256
"""Bytes of the longest value that Orthanc gives; of a longer one it says only that it is there."""

STUDY_TAGS = (
    "StudyDate", "StudyTime", "StudyID", "StudyDescription", "AccessionNumber", "StudyInstanceUID", "RequestedProcedureDescription",
    "InstitutionName", "RequestingPhysician", "ReferringPhysicianName",
)
PATIENT_TAGS = ("PatientName", "PatientBirthDate", "PatientSex", "PatientID", "OtherPatientIDs")

ASCII = ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI")
TEXT = ASCII + ("LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT")

PADDING = (0xFFFC, 0xFFFC)


class Refused(Exception):
    pass


def orthanc_id(*uids):
    digest = hashlib.sha1("|".join(uids).encode()).hexdigest()
    return "-".join(digest[place:place + 8] for place in range(0, 40, 8))


def read(folder, level, wanted=None, order=()):
    images, skipped = _images(folder)
    if not images:
        raise Refused(f"{folder} holds no DICOM file ({skipped} files are none)")
    place = {instance: number for number, instance in enumerate(order)}
    first = {}
    for image in images:
        first.setdefault(image["series"], len(first))
    images.sort(key=lambda image: (place.get(image["id"], len(place)), first[image["series"]], image["number"], image["id"]))
    patients = _grouped(images, "patient")
    studies = _grouped(images, "study")
    series = _grouped(images, "series")
    if level == "patient":
        _single(patients, "patients", folder)
        chosen, top = images, next(iter(patients))
    elif level == "study":
        _single(studies, "studies", folder)
        chosen, top = images, next(iter(studies))
    else:
        if wanted is None:
            if len(series) > 1:
                raise Refused(f"{folder} holds {len(series)} series: name one with --series, {' or '.join(sorted(series))}")
            wanted = next(iter(series))
        if wanted not in series:
            raise Refused(f"{folder} holds no series {wanted}: it holds {', '.join(sorted(series))}")
        chosen, top = series[wanted], wanted
    groups = _grouped(chosen, "series")
    return {
        "headers": _flat(chosen) if level == "series" else _tree(level, top, chosen),
        "instances": {name: len(members) for name, members in groups.items()},
        "files": [{"path": image["path"], "series": image["series"], "id": image["id"]} for image in chosen],
        "skipped": skipped,
    }


def _images(folder):
    import pydicom
    from pydicom.errors import InvalidDicomError

    images, skipped, known = [], 0, set()
    paths = sorted(os.path.join(place, name) for place, _, names in os.walk(folder) for name in names)
    for path in paths:
        try:
            data = pydicom.dcmread(path, stop_before_pixels=True)
            uids = [str(data.get(key, "") or "").strip(" \0") for key in
                    ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")]
        except (InvalidDicomError, OSError, EOFError, ValueError, NotImplementedError):
            skipped += 1
            continue
        if not all(uids[1:]):
            skipped += 1  # a DICOMDIR, for example
            continue
        ids = [orthanc_id(*uids[:count]) for count in (1, 2, 3, 4)]
        if ids[3] in known:
            continue  # the same image twice: Orthanc keeps one
        known.add(ids[3])
        try:
            number = int(data.get("InstanceNumber") or 0)
        except (TypeError, ValueError):
            number = 0
        images.append(dict(zip(("patient", "study", "series", "id"), ids), path=path, number=number))
    return images, skipped


def _grouped(images, key):
    groups = {}
    for image in images:
        groups.setdefault(image[key], []).append(image)
    return groups


def _single(groups, name, folder):
    if len(groups) > 1:
        raise Refused(f"{folder} holds the images of {len(groups)} {name}: name a folder of one of them")


def _flat(images):
    first = images[0]
    return {**_tags(first["path"], with_meta=False), "patientId": first["patient"], "studyId": first["study"], "seriesId": first["series"]}


def _tree(level, top, images):
    patient = _main(images[0], PATIENT_TAGS)
    studies = []
    for study, members in _grouped(images, "study").items():
        studies.append({
            "id": study,
            "tags": _main(members[0], STUDY_TAGS),
            "series": [{"id": series, "tags": _tags(own[0]["path"])} for series, own in _grouped(members, "series").items()],
        })
    return {
        "id": top,
        "tags": patient if level == "patient" else {**patient, **studies[0]["tags"]},
        "studies": studies,
        "studyIds": [study["id"] for study in studies],
        "seriesIds": [series["id"] for study in studies for series in study["series"]],
    }


def _main(image, wanted):
    """What Orthanc calls main tags: the ones of a study or patient, as far as the image has them."""
    tags = _tags(image["path"], with_meta=False)
    return {name: tags[name] for name in wanted if isinstance(tags.get(name), str)}


def _tags(path, with_meta=True):
    import pydicom

    data = pydicom.dcmread(path)
    tags = _simplified(data)
    if with_meta:
        tags.update({name: value for name, value in _simplified(data.file_meta).items() if value is not None})
    return tags


def _simplified(data):
    tags = {}
    for tag in sorted(data.keys()):
        if tag.is_private or tag == PADDING:
            continue  # Orthanc has names for some of the private ones only
        try:
            raw = data.get_item(tag)
            element = data[tag]
            name = _name(element)
            if name is not None:
                tags[name] = [_simplified(item) for item in element.value] if element.VR == "SQ" else _value(element, raw)
        except Exception:  # a value that cannot be understood is one that Orthanc may understand: it is there, and no more is said
            continue
    return tags


def _name(element):
    from pydicom.datadict import dictionary_is_retired, keyword_for_tag

    if element.tag.element == 0:
        return "FileMetaInformationGroupLength" if element.tag.group == 2 else "GenericGroupLength"
    name = keyword_for_tag(element.tag)
    if not name:
        return None
    return f"RETIRED_{name}" if dictionary_is_retired(element.tag) and name != "OtherPatientIDs" else name


def _value(element, raw):
    value = element.value
    if value is None:
        return ""
    if element.VR in ASCII and isinstance(getattr(raw, "value", None), bytes):
        value = raw.value.decode("latin-1")  # as it stands, spaces between values included
    parts = list(value) if not isinstance(value, (str, bytes)) and element.VM > 1 else [value]
    if element.VR in TEXT:
        text = "\\".join("" if part is None else str(part) for part in parts)
    elif element.VR in ("US", "SS", "UL", "SL", "UV", "SV"):
        text = "\\".join(str(part) for part in parts)
    elif element.VR == "FD":
        text = "\\".join(f"{part:.17g}" for part in parts)
    elif element.VR == "FL":
        text = "\\".join(f"{part:.9g}" for part in parts)
    elif element.VR == "AT":
        text = f"{parts[0].group:04x},{parts[0].element:04x}"
    else:
        return None  # bytes
    return text.strip(" \0\t\r\n") if len(text.encode()) <= LONGEST else None


def main():
    with open(sys.argv[1]) as file:
        request = json.load(file)
    try:
        import pydicom

        import warnings

        warnings.simplefilter("ignore")
        config = getattr(pydicom.config, "settings", None)
        if config is not None:
            config.reading_validation_mode = pydicom.config.IGNORE
        answer = read(request["folder"], request["level"], request.get("series"), request.get("order") or ())
    except ImportError:
        answer = {"error": f"{sys.executable} has no pydicom, which reads the images: install python3-pydicom, or set PYTHON to a Python "
                           "that has it."}
    except Refused as refusal:
        answer = {"error": f"{refusal}."}
    with open(sys.argv[2], "w") as file:
        json.dump(answer, file)


if __name__ == "__main__":
    main()
