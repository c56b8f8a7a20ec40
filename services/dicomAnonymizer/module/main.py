from __future__ import annotations

import collections
import importlib.metadata
import logging
import pathlib
import re
import traceback
import warnings
from typing import BinaryIO

import pydicom
import pydicom.config
from dcm_processor import artifact, log, progress
from dcm_processor.paths import UnsafePath, inside_data, run_folder, run_id
from pydicom.uid import UID_dictionary

from . import report, risk
from .cleaner import Cleaner, EmbeddedOverlay
from .elements import is_raw
from .errors import DeidentificationError, Refused, Unreadable
from .folder import Folder, reached, write_durably
from .options import Options
from .profile import EDITION, Profile
from .pseudonyms import Pseudonyms
from .tally import Tally
from .texts import Identity

VERSION = "1.0"
UNDEFINED_LENGTH = 0xFFFFFFFF
ORTHANC_NAME = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{8}){4}(?:\.dcm)?\Z")


def worker(jobName, headers, params, added_params, **kwargs):
    """De-identifies the files of DATA/<dcmpath> where they are. Raises before any of them is replaced when one of them cannot be.

    Returns counts; the report is DATA/deidentification/<run>/report.json and report.html.
    """
    try:
        return work(headers, params)
    except (DeidentificationError, UnsafePath, MemoryError):
        raise
    except Exception as error:
        # Errors of libraries may quote values, those of files their names. What has gone wrong where is enough to mend it.
        frame = traceback.extract_tb(error.__traceback__)[-1]
        reason = error.strerror if isinstance(error, OSError) else None
        problem = f"{reason or type(error).__name__} ({frame.filename.rsplit('/', 1)[-1]}, line {frame.lineno})"
    raise DeidentificationError(
        f"the images could not be de-identified: {problem}. The run's folder may hold originals; nothing may use it."
    )


def work(headers, params):
    options = Options.read(params)
    profile = Profile(options)
    pseudonyms = Pseudonyms.of_site(options.patientPrefix)
    images = inside_data(headers["dcmpath"])
    state = inside_data(run_folder("deidentification", headers))
    if not images.is_dir():
        raise Refused(f"the run's folder {images.name} is not there: its images were not exported. Run the job export again.")
    with quiet(), Folder(images, state, pseudonyms, options.digest) as folder:
        journal = folder.journal()
        if journal is not None and folder.carry_on(journal):
            summary = journal["summary"]
            log.info("an attempt before had de-identified the files; what was left of putting them in place is done")
        else:
            folder.discard()
            summary = deidentify(folder, profile, pseudonyms, run_id(headers))
    for name, title in (("report.html", "De-identification report"), ("report.json", "De-identification report, for programs")):
        if (state / name).is_file():
            artifact(state / name, name=title)
    progress(1, "done")
    log.info(
        "%d of %d files de-identified, %d dropped, %d of the kept ones at risk",
        summary["deidentified"], summary["found"], summary["dropped"], summary["atRiskKept"],
    )  # fmt: skip
    return {**summary, "report": run_folder("deidentification", headers) + "/report.json"}


def deidentify(folder: Folder, profile: Profile, pseudonyms: Pseudonyms, run: str) -> dict:
    names = folder.files()
    if not names:
        raise Refused(f"the run's folder {folder.path.name} holds no *.dcm file: there is nothing to de-identify")
    found = survey(folder, profile, names)
    cleaner = Cleaner(profile, pseudonyms, found.identity)
    tally, entries = Tally(), {}
    for position, name in enumerate(names):
        progress(0.2 + 0.7 * position / len(names), f"de-identifying {position + 1} of {len(names)}")
        if name not in found.dropped:
            with folder.successor(name) as successor:
                write_cleaned(folder.path / name, successor, cleaner, place(name, position))
        entries[name] = folder.entry(name, is_dropped=name in found.dropped)
        reached("after a successor")
    tally.add(cleaner.tally)
    content = account(profile, pseudonyms, run, names, found, tally)
    for name, write in (("report.json", report.as_json), ("report.html", report.as_html)):
        write_durably(folder.state / name, write(content))
    progress(0.95, "putting the files in place")
    summary = {**content["files"], "atRiskKept": sum(content["atRisk"]["kept"].values())}
    folder.commit(entries, summary)
    return summary


class Found:
    """What was seen before anything is written."""

    def __init__(self):
        self.identity = Identity()
        self.dropped: dict[str, str] = {}
        self.kept_at_risk: dict[str, str] = {}
        self.burned_in = collections.Counter()
        self.classes = collections.Counter()
        self.faces = 0


def survey(folder: Folder, profile: Profile, names: list[str]) -> Found:
    """Reads all headers. Raises for what makes the whole run fail, so that nothing has been changed by then."""
    found, policy = Found(), profile.options.atRisk
    for position, name in enumerate(names):
        progress(0.2 * position / len(names), f"reading {position + 1} of {len(names)}")
        problem = None
        try:
            dataset = pydicom.dcmread(folder.path / name, stop_before_pixels=True)
            found.identity.collect(dataset, profile)
            why = risk.reason(dataset)
            found.burned_in[risk.burned_in(dataset)] += 1
            found.faces += risk.has_face(dataset)
            found.classes[class_name(dataset)] += 1
        except Exception as error:
            problem = type(error).__name__
        if problem is not None:
            # Outside of `except`, so that the library's own text, which may quote the file, is not shown with ours.
            raise Unreadable(f"{place(name, position)} cannot be read as DICOM ({problem}); nothing was changed. Look at it in Orthanc.")
        if why is None:
            continue
        if policy == "refuse":
            raise Refused(
                f'{place(name, position)} is at risk ({why}): who the patient is may be in its content. params.atRisk is "refuse"; '
                '"drop" leaves such files out of the run, "keep" lets them pass.'
            )
        if policy == "drop" or why == "media directory":
            found.dropped[name] = why
        else:
            found.kept_at_risk[name] = why
    if len(found.dropped) == len(names):
        reasons = ", ".join(sorted(set(found.dropped.values())))
        raise Refused(
            f"all {len(names)} files are at risk ({reasons}), so that nothing would be left. "
            'params.atRisk "keep" lets such files pass, with their attributes cleaned.'
        )
    return found


def write_cleaned(source: pathlib.Path, output: BinaryIO, cleaner: Cleaner, where: str) -> None:
    """Writes a DICOM file to `output`, de-identified. Its pixels, maybe gigabytes, are in memory twice: as read, and as pydicom writes."""
    problem = None
    try:
        dataset = pydicom.dcmread(source)
        if not dataset.get("SOPInstanceUID") or not dataset.get("SOPClassUID"):
            problem = "it has no SOPInstanceUID or no SOPClassUID"
        elif is_truncated(dataset, source):
            problem = "it is truncated, or something that is no DICOM stands behind its end"
        else:
            cleaner.clean(dataset)
            dataset.save_as(output, enforce_file_format=True)
            return
    except OSError:
        raise  # of the disk, which is not the file's fault
    except EmbeddedOverlay:
        problem = "it has an overlay inside of pixel data that cannot be blanked without decoding them"
    except Exception as error:
        problem = type(error).__name__
    raise Unreadable(f"{where} cannot be de-identified ({problem}); nothing was changed. Look at it in Orthanc.")


def is_truncated(dataset, source: pathlib.Path) -> bool:
    """Whether the file ends too early, or goes on after its end: pydicom reads as far as it gets and says nothing."""
    elements = [dataset.get_item(tag) for tag in dataset.keys()]
    if not elements or dataset.file_meta.TransferSyntaxUID.is_deflated:
        return False
    last = elements[-1]
    if not is_raw(last):
        # Nobody knows where a sequence has ended: pixel data that are broken off are left out by pydicom.
        return "Rows" in dataset and not {"PixelData", "FloatPixelData", "DoubleFloatPixelData"} & set(dataset.dir())
    if last.length == UNDEFINED_LENGTH:
        return False
    if len(last.value or b"") < last.length:
        return True
    # Some writers leave zeros behind the end.
    with open(source, "rb") as file:
        file.seek(last.value_tell + last.length)
        return any(any(block) for block in iter(lambda: file.read(1 << 20), b""))


def account(profile: Profile, pseudonyms: Pseudonyms, run: str, names: list[str], found: Found, tally: Tally) -> dict:
    """The report."""
    dropped, kept = (collections.Counter(reasons.values()) for reasons in (found.dropped, found.kept_at_risk))
    listed = sorted([*found.dropped.items(), *found.kept_at_risk.items()])
    return {
        "run": run,
        "files": {"found": len(names), "deidentified": len(names) - len(found.dropped), "dropped": len(found.dropped)},
        "atRisk": {
            "policy": profile.options.atRisk,
            "dropped": dict(sorted(dropped.items())),
            "kept": dict(sorted(kept.items())),
            # Orthanc's ids of instances, by which people find them.
            "instances": {name: why for name, why in listed if ORTHANC_NAME.match(name.rsplit("/", 1)[-1])},
        },
        "burnedInAnnotation": dict(sorted(found.burned_in.items())),
        "recognizableFaces": found.faces,
        "sopClasses": dict(sorted(found.classes.items())),
        "attributes": tally.plain,
        "options": profile.options.chosen,
        "method": {
            "service": f"dicomAnonymizer {VERSION}",
            "library": ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("dicom-anonymizer", "pydicom")),
            "profile": f"DICOM PS3.15 {EDITION}, Basic Application Confidentiality Profile",
            "codes": dict(profile.codes),
            "longitudinalTemporalInformation": profile.temporal_information,
            "keyFingerprint": pseudonyms.fingerprint,
        },
    }


def place(name: str, position: int) -> str:
    """A file as an error may name it: by Orthanc's ids if it is named by them. Any other name could be the patient's."""
    if all(ORTHANC_NAME.match(part) for part in name.split("/")):
        return f"file {name}"
    return f"file {position + 1}, in the order of names,"


def class_name(dataset) -> str:
    uid = str(dataset.get("SOPClassUID", "")).strip()
    return UID_dictionary[uid][0] if uid in UID_dictionary else "private or unknown"


class quiet:
    """Nothing that pydicom says is shown, because it may quote values; and it takes files as they are."""

    def __enter__(self):
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.simplefilter("ignore")
        self._logger = logging.getLogger("pydicom")
        self._was = self._logger.disabled
        self._logger.disabled = True
        settings = pydicom.config.settings
        self._modes = settings.reading_validation_mode, settings.writing_validation_mode
        settings.reading_validation_mode = settings.writing_validation_mode = pydicom.config.IGNORE

    def __exit__(self, *_):
        settings = pydicom.config.settings
        settings.reading_validation_mode, settings.writing_validation_mode = self._modes
        self._logger.disabled = self._was
        self._warnings.__exit__(None, None, None)


__all__ = ["DeidentificationError", "worker"]
