import os
import shutil
import sys

# Without threads from its imports a process can be forked for each job, which saves importing anew.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import nibabel
import numpy
from PIL import Image

from dcm_processor import artifact, progress
from dcm_processor.paths import inside_data

SOFT_TISSUE = (-160.0, 240.0)
"""Hounsfield units that become black and white."""

LONGER_SIDE = (512, 1024)
"""Pixels: smaller pictures are enlarged, larger ones reduced."""


def worker(jobName, headers, params, added_params, **kwargs):
    """Makes a picture of every NIfTI file that dcm2nii has made of the run's series."""
    relative = added_params[jobName]["output"]
    modalities = modality_by_series(headers)
    found = volumes(added_params["dcm2nii"])
    for series in found:
        # Of an attempt before, whose volumes were other ones: nobody shall take it for this one's.
        shutil.rmtree(inside_data(f"{relative}/{series}"), ignore_errors=True)
    files = [(series, path) for series, paths in found.items() for path in paths]
    written = []
    for position, (series, source) in enumerate(files):
        progress(position / len(files), f"file {position + 1} of {len(files)}")
        stem = source.name.split(".nii")[0]
        modality = modalities.get(series)
        try:
            picture, plane = render(nibabel.load(source), modality)
        except Exception as error:
            print(f"{source.name}: no preview: {type(error).__name__}: {error}", file=sys.stderr)
            continue
        path = f"{relative}/{series}/{stem}.png"
        target = inside_data(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        # In the run's folder: what is in a series' folder is a picture, whole.
        partial = target.parent.parent / f".{stem}.png"
        picture.save(partial, format="PNG")
        os.replace(partial, target)
        print(f"wrote {path}: {plane} slice, {picture.width} x {picture.height} pixels")
        artifact(path, name=f"{modality or 'Image'}, {plane} slice", kind="image")
        written.append(path)
    if files and not written:
        raise RuntimeError(f"none of {len(files)} NIfTI files became a preview")
    if not files:
        print("dcm2nii has made no NIfTI file: nothing to show")
    progress(1)
    return {"files": written}


def volumes(converted):
    """{series: NIfTI files}: of each series the file that was promised, and those that dcm2niix has made beside it."""
    promised = {series: places["nifti"] for series, places in converted.get("outputs", {}).items()}
    if not promised and "filename" in converted:
        promised = {converted["filename"]: converted}
    found = {}
    for series, place in promised.items():
        folder = inside_data(place["base"])
        names = sorted(os.listdir(folder)) if folder.is_dir() else []
        found[series] = [folder / name for name in names if name.startswith(place["filename"]) and name.endswith((".nii.gz", ".nii"))]
    return found


def render(volume, modality):
    """The middle slice of a NIfTI image, as a radiologist looks at it: the patient's left is on the right, the nose is up.

    Returns the picture and the name of its plane: axial, or the plane of acquisition when an axial one would be but a few lines
    of a stack of other slices.
    """
    # Of a series over time, or of several echoes, one volume is read, and not all of them.
    while len(volume.shape) > 3:
        volume = volume.slicer[..., volume.shape[-1] // 2]
    # Now the axes run to the patient's right, front and head.
    volume = nibabel.as_closest_canonical(volume)
    values = numpy.asanyarray(volume.dataobj)
    spacing = [float(size) or 1.0 for size in volume.header.get_zooms()[:3]] + [1.0] * 3
    while values.ndim < 3:
        values = values[..., numpy.newaxis]
    plane, flat, height, width = middle_slice(values, spacing)
    # Rows from the far end of the vertical axis down.
    picture = Image.fromarray(grey_levels(flat, modality).swapaxes(0, 1)[::-1])
    return resized(picture, picture.width * width, picture.height * height), plane


def middle_slice(values, spacing):
    """Returns the plane's name, its values (horizontal axis first, as shown from left to right), and the height and width of a
    pixel in mm."""
    x, y, z = values.shape[:3]
    sizes = {"axial": x * y, "coronal": x * z, "sagittal": y * z}
    plane = "axial" if sizes["axial"] * 4 >= max(sizes.values()) else max(sizes, key=sizes.get)
    if plane == "axial":
        return plane, values[::-1, :, z // 2], spacing[1], spacing[0]
    if plane == "coronal":
        return plane, values[::-1, y // 2, :], spacing[2], spacing[0]
    return plane, values[x // 2, ::-1, :], spacing[2], spacing[1]


def grey_levels(values, modality):
    """Values as bytes, colours as they are."""
    if values.dtype.names:
        return numpy.stack([values[name] for name in values.dtype.names[:3]], axis=-1)
    values = numpy.nan_to_num(values.astype(numpy.float64))
    low, high = SOFT_TISSUE if modality == "CT" else numpy.percentile(values, (1, 99))
    if high <= low:
        low, high = values.min(), max(values.max(), values.min() + 1)
    return (numpy.clip((values - low) / (high - low), 0, 1) * 255).round().astype(numpy.uint8)


def resized(picture, width, height):
    """width, height: of the picture in mm; the result has square pixels."""
    smallest, largest = LONGER_SIDE
    longer = min(max(picture.width, picture.height, smallest), largest)
    scale = longer / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return picture if size == picture.size else picture.resize(size, Image.Resampling.BICUBIC)


def modality_by_series(headers):
    if "seriesId" in headers:
        return {headers["seriesId"]: headers.get("Modality")}
    return {
        series["id"]: series.get("tags", {}).get("Modality")
        for study in headers.get("studies", [])
        for series in study.get("series", [])
    }
