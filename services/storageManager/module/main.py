import json
import logging
import os
import pathlib
import shutil
import tempfile
import warnings

# Without threads from its imports a process can be forked for each job, which saves importing anew.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from dcm_processor import cancelled, checkpoint, log, progress, resume
from dcm_processor.paths import inside_data, run_id

from . import copies, documents, entries, pictures, segmentations, volumes
from .delivery import Delivery
from .errors import StorageError
from .objects import Maker
from .orthanc import Orthanc
from .parents import Run

# They quote values of the images.
warnings.filterwarnings("ignore")
logging.getLogger("pydicom").setLevel(logging.CRITICAL)
logging.getLogger("nibabel").setLevel(logging.CRITICAL)
logging.getLogger("highdicom").setLevel(logging.CRITICAL)

STORED = ".stored.json"
"""In the run's own folder, when all is done."""


def worker(jobName, headers, params, added_params, workdir=None, **kwargs):
    """Makes DICOM objects of all that the jobs of the run hand on, stores them in Orthanc and sends them on.

    Everything is made before anything is stored, and everything is stored before anything is sent. Raises StorageError for whatever is not
    as it should be: what this job has not carried out, the cleaner must not delete.
    """
    params = params or {}
    found = entries.read(added_params, headers, params, jobName, log)
    if not found:
        return {"entries": 0, "instances": 0}
    orthanc = Orthanc.of_this_run()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="objects-", dir=workdir))
    try:
        delivery = Delivery(orthanc, resume(), checkpoint, cancelled, progress, log)
        # Before anything is made: a name that is misspelt stays so.
        for entry in found:
            if entry.destination:
                delivery.check(entry)
        run = Run(headers, orthanc)
        made = []
        for position, entry in enumerate(found):
            if cancelled():
                return None
            progress(0.4 * position / len(found), f"entry {position + 1} of {len(found)}")
            made.append((entry, make(run, run_id(headers), position, entry, folder)))
            count = len(made[-1][1])
            log.info("%s: %d object%s", entry.title, count, "" if count == 1 else "s")
        for entry, objects in made:
            if not delivery.store(objects, entry):
                return None
        for entry, objects in made:
            if entry.destination and not delivery.send(objects, entry):
                return None
        record(headers, made)
        progress(1.0)
        return {
            "entries": len(made),
            "instances": sum(len(objects) for _, objects in made),
            "new": delivery.new,
            "series": sorted({one.series for _, objects in made for one in objects}),
            "sent": delivery.totals,
        }
    finally:
        orthanc.close()
        shutil.rmtree(folder, ignore_errors=True)


def record(headers, made):
    """Says in the run's own folder what has been stored. The cleaner deletes images from Orthanc only where it finds this, and it goes with
    the folder."""
    folder = inside_data(headers["dcmpath"])
    if not folder.is_dir():
        return
    stored = {
        "run": run_id(headers),
        "instances": sorted(one.instance for _, objects in made for one in objects),
        "results": sum(len(objects) for entry, objects in made if entry.is_result),
    }
    partial = folder / ".stored.partial"
    partial.write_text(json.dumps(stored))
    os.replace(partial, folder / STORED)


def make(run, id, position, entry, folder):
    """The objects of one entry, as files in `folder`."""
    maker = Maker(id, position, entry, folder)
    try:
        return _make(run, maker, entry)
    except StorageError:
        raise
    except MemoryError:
        raise
    except Exception as error:
        # Libraries quote what they could not read, and that may be a name.
        place = error.__traceback__
        while place.tb_next is not None:
            place = place.tb_next
        where = f"{os.path.basename(place.tb_frame.f_code.co_filename)}:{place.tb_lineno}"
        raise entry.error(f"cannot be made a DICOM object ({type(error).__name__} in {where})") from None


def _make(run, maker, entry):
    first = entry.files[0].name
    if entry.type == "dicom":
        return copies.copies(maker, run.parent_of(entry, first), run, run.series_of(entry, first))
    made = []
    for number, source in enumerate(entry.files, start=1):
        parent, origin = run.parent_of(entry, source.name), run.series_of(entry, source.name)
        if entry.type == "nifti" and entry.segmentation is not None:
            made.append(segmentations.segmentation(maker, source, number, parent, origin, run.all_tags))
        elif entry.type == "nifti":
            made += volumes.series(maker, source, number, parent, origin)
        else:
            write = {"pdf": documents.pdf, "json": documents.report, "png": pictures.picture, "jpeg": pictures.picture}[entry.type]
            made.append(write(maker, source, number, parent, origin))
    return made
