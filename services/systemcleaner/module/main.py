import json
import os
import re

from dcm_processor import cancelled, log, progress
from dcm_processor.orthanc import Orthanc, OrthancError
from dcm_processor.paths import UnsafePath, belongs_to_run, inside_data, relative_parts, run_id

from .removal import Refused, Root

STORED = ".stored.json"
"""What storageManager leaves in the run's own folder when all results are where they belong."""

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{8}){4}\Z")


class CleaningError(RuntimeError):
    """What was not deleted, and why. Everything else has been."""


def worker(jobName, headers, params, added_params, runId=None, **kwargs):
    """Deletes what the jobs of the run have named (`added_params[<job>]["deleted"]`), the run's own images below DATA and, where that is
    wanted, its series in Orthanc.

    params: `allowShared` (delete paths, too, that are not named by the run), `cleanOrthanc` (in place of CLEAN_ORTHANC), `cleanOutputs`
    (delete what the commands of the run have left in outputs/, too).

    Raises CleaningError for what must not be deleted; the rest is deleted all the same. What is gone already is fine.
    """
    params = params or {}
    run = run_id(headers)
    images = relative_parts(headers["dcmpath"])
    if len(images) < 2 or images[-1] != run or (runId is not None and runId != run):
        # Deleting by it could mean the images of every run.
        raise CleaningError(f"headers['dcmpath'] is {headers['dcmpath']!r}, which is not the folder of this run; nothing was deleted")
    troubles, removed, kept = [], 0, []
    wanted = []
    for owner, path in named(added_params, troubles):
        try:
            wanted.append((owner, path, permitted(path, headers, params)))
        except (UnsafePath, Refused) as error:
            troubles.append(f"{owner}: {path!r}: {error}")
    result = {}
    # First, while the run's folder still says what was stored and which images they were.
    if flag(params.get("cleanOrthanc"), os.environ.get("CLEAN_ORTHANC", "")):
        try:
            result["orthanc"] = clean_orthanc(headers, kept)
        except (OrthancError, ValueError) as error:
            troubles.append(str(error))
            # A later attempt needs the folder to know what may go.
            raise CleaningError(summary(troubles)) from None
    root = Root(os.environ["DATA"])
    try:
        def is_own(part):
            return belongs_to_run(part, headers)

        if params.get("cleanOutputs") is True:
            wanted.append(("the run's outputs", f"outputs/{run}", ("outputs", run)))
        # The images last: they are what a later attempt goes by.
        wanted.append(("the run's images", headers["dcmpath"], images))
        for position, (owner, path, parts) in enumerate(wanted):
            if cancelled():
                return None
            progress(position / len(wanted), f"{position} of {len(wanted)} paths")
            try:
                existed = root.remove(parts, is_own)
                removed += existed
                log.info("%s: %r %s", owner, path, "deleted" if existed else "was not there")
            except Refused as error:
                troubles.append(f"{owner}: {path!r}: {error}; it was left alone")
            except OSError as error:
                troubles.append(f"{owner}: {path!r}: {error.strerror or type(error).__name__}")
        try:
            # What failed attempts kept for the next one: a repetition would begin with new images.
            root.remove_all(".checkpoints", f"{run}.")
        except (Refused, OSError) as error:
            troubles.append(f"checkpoints of the run: {error}")
    finally:
        root.close()
    if troubles:
        raise CleaningError(summary(troubles))
    progress(1.0)
    return {"removed": removed, "kept": kept, **result}


def named(added_params, troubles):
    """(job, path) of all that the jobs of the run want deleted."""
    for job in sorted(added_params):
        added = added_params[job]
        if not isinstance(added, dict) or not added.get("deleted"):
            continue
        listed = added["deleted"] if isinstance(added["deleted"], list) else [added["deleted"]]
        for index, path in enumerate(listed, start=1):
            if isinstance(path, str):
                yield f"job {job}", path
            else:
                troubles.append(f"job {job}: entry {index} of 'deleted' is {type(path).__name__}; give a path relative to DATA")


def permitted(path, headers, params):
    """The names of `path` from DATA on. Raises UnsafePath or Refused when it is not this run's to delete."""
    parts = relative_parts(path)
    if parts[0].startswith("."):
        raise Refused("this folder is the pipeline's own")
    if params.get("allowShared") is not True and not belongs_to_run(os.path.join(*parts), headers):
        raise Refused("nothing in this path says that it is of this run, so others may need it; name the file or the run's own folder")
    images = os.path.dirname(headers["dcmpath"])
    if os.path.join(*parts) in {"outputs", images}:
        raise Refused("this folder holds the files of all runs")
    # Another run may be about the same series.
    if os.path.join(*parts).startswith(f"{images}/") and not os.path.join(*parts, "").startswith(f"{headers['dcmpath']}/"):
        raise Refused("these are the images of another run")
    return parts


def summary(troubles):
    shown = "\n".join(troubles[:20])
    return f"{len(troubles)} of the paths to delete {'is' if len(troubles) == 1 else 'are'} still there:\n{shown}"


def flag(param, variable):
    if param is not None:
        return param is True or param == 1
    return variable.strip().lower() in ("1", "true", "yes", "on")


# MARK: Orthanc


def clean_orthanc(headers, kept):
    """Deletes the images of the run from Orthanc, one by one, so that what arrives meanwhile stays. Returns how many.

    kept: gets a line for every series that stays, with the reason.
    """
    folder = inside_data(headers["dcmpath"])
    series = [headers["seriesId"]] if isinstance(headers.get("seriesId"), str) else list(dict.fromkeys(
        one.get("id") for study in headers.get("studies") or () for one in study.get("series") or ()))
    if not folder.is_dir():
        return 0  # an earlier attempt has been through all of this
    orthanc = Orthanc.of_this_run()
    try:
        noted = json.loads((folder / STORED).read_text())
        stored, results = noted["instances"], noted["results"]
    except (OSError, ValueError, KeyError, TypeError):
        stored, results = [], 0
    count = 0
    if not results:
        for one in series:
            note(kept, one, "this run has stored no results")
        return count
    missing = [instance for instance in stored if not _ID.match(str(instance)) or orthanc.get(f"/instances/{instance}") is None]
    if missing:
        raise OrthancError(f"{len(missing)} of {len(stored)} results of the run are not in Orthanc (any more), so its images stay there")
    for one in series:
        if not _ID.match(str(one)):
            note(kept, one, "its id is none of Orthanc's")
            continue
        below = folder if "seriesId" in headers else folder / one
        had = {file.stem for file in below.glob("*.dcm")} if below.is_dir() else set()
        described = orthanc.get(f"/series/{one}")
        if described is None:
            continue
        there = set(described.get("Instances", ()))
        if not there <= had:
            others = f"{len(there - had)} of its {len(there)} images are not those that this run has"
            note(kept, one, f"{others}: it has grown, or a job left some out")
            continue
        count += sum(orthanc.delete(f"/instances/{instance}") for instance in sorted(there))
    return count


def note(kept, series, reason):
    log.warning("series %s stays in Orthanc: %s", series, reason)
    kept.append({"series": series, "reason": reason})
