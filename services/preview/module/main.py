import os
import sys

# Without threads from its imports a process can be forked for each job, which saves importing anew.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import nibabel
import numpy
from PIL import Image

try:
    from dcm_processor import artifact, progress
except ImportError:  # Run by hand, or by another DCM PROCESSOR.

    def artifact(path, name=None, kind=None):
        pass

    def progress(fraction, text=None):
        pass


SOFT_TISSUE = (-160.0, 240.0)
"""Hounsfield units that become black and white."""

LONGER_SIDE = (512, 1024)
"""Pixels: smaller pictures are enlarged, larger ones reduced."""


def worker(jobName, headers, params, added_params, **kwargs):
    data = os.path.realpath(os.environ["DATA"])
    source = inside(data, added_params["dcm2nii"]["base"])
    relative = added_params[jobName]["output"]
    target = inside(data, relative)
    os.makedirs(target, exist_ok=True)
    modalities = modality_by_series(headers)
    names = sorted(name for name in os.listdir(source) if name.endswith((".nii.gz", ".nii")))
    written = []
    for position, name in enumerate(names):
        progress(position / len(names), f"file {position + 1} of {len(names)}")
        stem = name.split(".nii")[0]
        modality = next((modality for series, modality in modalities.items() if stem.startswith(series)), None)
        try:
            picture, plane = render(nibabel.load(os.path.join(source, name)), modality)
        except Exception as error:
            print(f"{name}: no preview: {type(error).__name__}: {error}", file=sys.stderr)
            continue
        path = os.path.join(relative, stem + ".png")
        partial = os.path.join(target, f".{stem}.png")
        picture.save(partial, format="PNG")
        os.replace(partial, inside(data, path))
        print(f"wrote {path}: {plane} slice, {picture.width} x {picture.height} pixels")
        artifact(path, name=f"{modality or 'Image'}, {plane} slice", kind="image")
        written.append(path)
    if not written:
        raise RuntimeError(f"none of {len(names)} NIfTI files became a preview")
    progress(1)
    return {"files": written}


def render(volume, modality):
    """The middle slice of a NIfTI image, as a radiologist looks at it: the patient's left is on the right, the nose is up.

    Returns the picture and the name of its plane: axial, or the plane of acquisition when an axial one would be but a few lines
    of a stack of other slices.
    """
    # Now the axes run to the patient's right, front and head.
    volume = nibabel.as_closest_canonical(volume)
    values = numpy.asanyarray(volume.dataobj)
    spacing = [float(size) or 1.0 for size in volume.header.get_zooms()[:3]] + [1.0] * 3
    while values.ndim < 3:
        values = values[..., numpy.newaxis]
    while values.ndim > 3:
        # Of a series over time, or of several echoes.
        values = values[..., values.shape[-1] // 2]
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


def inside(data, path):
    """The absolute path of `path`, which is relative to DATA. Raises when it leads out of it."""
    full = os.path.realpath(os.path.join(data, path))
    if not full.startswith(os.path.join(data, "")):
        raise ValueError(f"{path!r} is not below DATA")
    return full
