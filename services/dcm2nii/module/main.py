import os
import shutil
import subprocess
import tempfile

try:
    from dcm_processor import artifact, progress
except ImportError:  # Run by hand, or by another DCM PROCESSOR.

    def artifact(path, name=None, kind=None):
        pass

    def progress(fraction, text=None):
        pass


def worker(jobName, headers, params, added_params, **kwargs):
    """Converts the series that the callback named. A series that holds no volume is no failure as long as another one does."""
    data = os.path.realpath(os.environ["DATA"])
    target = inside(data, added_params[jobName]["base"])
    files = added_params[jobName]["series"]
    os.makedirs(target, exist_ok=True)
    converted, complaints = [], []
    for position, (series, output) in enumerate(files.items()):
        progress(position / len(files), f"series {position + 1} of {len(files)}")
        # The export makes a folder for each series, unless the event is about one series.
        folder = headers["dcmpath"] if "seriesId" in headers else os.path.join(headers["dcmpath"], series)
        names, complaint = convert(inside(data, folder), target, os.path.basename(inside(data, output)))
        converted += names
        if not names:
            complaints.append(complaint)
            print(f"{series}: no NIfTI: {complaint}")
    if not converted:
        raise RuntimeError(f"dcm2niix made no NIfTI: {complaints[-1]}")
    for name in converted:
        path = os.path.join(added_params[jobName]["base"], name)
        print(f"wrote {path}, {os.path.getsize(os.path.join(data, path))} bytes")
        artifact(path, kind="nifti")
    progress(1)
    return {"files": [os.path.join(added_params[jobName]["base"], name) for name in converted]}


def convert(source, target, output):
    """Converts the DICOM files of folder `source`, which are one series, into folder `target`.

    One series may become several files: echoes, gantry tilt, other sizes. One of them gets the name `output`, for the jobs that
    expect it; the others keep the names that dcm2niix gives them.

    Returns the names of the NIfTI files, and the last line that dcm2niix wrote.
    """
    if not os.path.isdir(source):
        return [], "the series was not exported"
    stem = output[: -len(".nii.gz")]
    # Into a folder of its own and then into place: who looks at `target` never sees half a file, and a second attempt starts clean.
    with tempfile.TemporaryDirectory(prefix=f".{stem}.", dir=target) as scratch:
        code, last = run(["dcm2niix", "-z", "y", "-b", "y", "-ba", "y", "-f", stem, "-o", scratch, source])
        names = sorted(name for name in os.listdir(scratch) if name.endswith(".nii.gz"))
        if names and code != 0:
            # It complains about one image and converts the rest.
            print(f"dcm2niix ended with {code} but made {len(names)} NIfTI: {last}")
        if names and output not in names:
            largest = max(names, key=lambda name: os.path.getsize(os.path.join(scratch, name)))
            for ending in (".nii.gz", ".json", ".bval", ".bvec"):
                old = os.path.join(scratch, largest[: -len(".nii.gz")] + ending)
                if os.path.exists(old):
                    os.rename(old, os.path.join(scratch, stem + ending))
            names[names.index(largest)] = output
        for name in os.listdir(scratch):
            os.replace(os.path.join(scratch, name), os.path.join(target, name))
        return names, last or f"it ended with {code} and wrote nothing"


def run(command):
    """Runs a command, shows its output as it comes. Returns its exit code and its last line, or its last complaint if it has one."""
    if shutil.which(command[0]) is None:
        raise RuntimeError(f"{command[0]} is not installed on this worker; on Debian and Ubuntu: apt install {command[0]}")
    last, complaint = "", ""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line.strip() or last
            # Through a pipe its complaints arrive before the greeting that it has printed first.
            if line.lstrip().lower().startswith("error"):
                complaint = line.strip()
    return process.returncode, complaint or last


def inside(data, path):
    """The absolute path of `path`, which is relative to DATA. Raises when it leads out of it."""
    full = os.path.realpath(os.path.join(data, path))
    if not full.startswith(os.path.join(data, "")):
        raise ValueError(f"{path!r} is not below DATA")
    return full
