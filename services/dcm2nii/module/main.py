"""Converts each series of a run to NIfTI."""

import os
import shutil
import tempfile

from dcm_processor import artifact, progress
from dcm_processor.paths import inside_data

from . import nifti
from .conversion import ConversionFailed, convert
from .headers import Unreadable, look


def worker(jobName, headers, params, added_params, **kwargs):
    """Converts the series that the callback named, each by itself.

    A series without a volume is passed over, and one that dcm2niix cannot convert does not take the others with it: the job
    fails when none could be converted, or when `strict` is true in params. What became of each is in the result:

        {"files": [path], "series": [{"id", "state": "converted" | "skipped" | "failed", "files": [...], "reason"}]}
    """
    mine = added_params[jobName]
    report = [{"id": series, "state": "skipped", "files": [], "reason": reason} for series, reason in mine["skipped"].items()]
    total = len(mine["outputs"])
    for number, (series, places) in enumerate(mine["outputs"].items(), start=1):
        progress((number - 1) / total, f"series {number} of {total}")
        # The export makes a folder for each series, unless the event is about one series.
        source = inside_data(headers["dcmpath"] if "seriesId" in headers else f"{headers['dcmpath']}/{series}")
        report.append({"id": series, **outcome(source, inside_data(places["nifti"]["base"]), places["nifti"])})
    for entry in report:
        say(entry)
    return conclude(report, bool((params or {}).get("strict", False)))


def outcome(source, target, place):
    """Converts one series and puts its files into the folder `target`, all at once."""
    try:
        header, reason = look(source)
        if header is None:
            return {"state": "skipped", "files": [], "reason": reason}
        target.parent.mkdir(parents=True, exist_ok=True)
        # What an attempt that was killed has left.
        for name in os.listdir(target.parent):
            if name.startswith(f".{target.name}."):
                shutil.rmtree(target.parent / name, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
            made = os.path.join(scratch, "made")
            os.mkdir(made)
            files, warning = convert(source, made, place["filename"], header)
            os.chmod(made, 0o755)
            if target.exists():
                os.rename(target, os.path.join(scratch, "former"))
            os.rename(made, target)
    except (Unreadable, ConversionFailed, nifti.Damaged) as error:
        # Of an attempt before, whose input was another one: nobody shall take it for this one's.
        shutil.rmtree(target, ignore_errors=True)
        return {"state": "failed", "files": [], "reason": str(error)}
    return {
        "state": "converted",
        "files": [{"path": f"{place['base']}/{file.name}", "kind": file.kind} for file in files],
        "reason": warning,
    }


def say(entry):
    count = len(entry["files"])
    print(f"{entry['id']}: {entry['state']}{f', {count} NIfTI' if count else ''}{': ' + entry['reason'] if entry['reason'] else ''}")
    for file in entry["files"]:
        print(f"  {file['path']}, {os.path.getsize(inside_data(file['path']))} bytes")
        artifact(file["path"], kind="nifti")
        sidecar = file["path"].replace(".nii.gz", ".json")
        if inside_data(sidecar).is_file():
            artifact(sidecar, kind="text")


def conclude(report, strict):
    failed = [entry for entry in report if entry["state"] == "failed"]
    converted = [entry for entry in report if entry["state"] == "converted"]
    skipped = len(report) - len(failed) - len(converted)
    text = f"{len(converted)} of {len(report)} series converted, {skipped} skipped, {len(failed)} failed"
    if failed and (strict or not converted):
        raise RuntimeError(f"{text}: " + "; ".join(f"{entry['id']}: {entry['reason']}" for entry in failed[:10]))
    progress(1, text)
    print(text)
    return {"files": [file["path"] for entry in converted for file in entry["files"]], "series": report}
