"""NIfTI files as a series of slices, or as a Segmentation, each voxel where it was in the patient."""

from __future__ import annotations

import dataclasses

import nibabel
import numpy
from pydicom.uid import CTImageStorage, MRImageStorage, SecondaryCaptureImageStorage
from pydicom.valuerep import format_number_as_ds

from .pictures import write_pixels

SLICE_LIMIT = 20_000

_TO_LPS = numpy.diag([-1.0, -1.0, 1.0, 1.0])
"""NIfTI's axes run to the patient's right, front and head, DICOM's to the left, back and head."""

_CLASSES = {"CT": CTImageStorage, "MR": MRImageStorage}

_COPIED = (
    "BodyPartExamined", "PatientPosition", "ProtocolName", "ScanningSequence", "SequenceVariant", "ScanOptions", "MRAcquisitionType",
    "RepetitionTime", "EchoTime", "EchoTrainLength", "InversionTime", "MagneticFieldStrength", "KVP", "PositionReferenceIndicator",
)
"""What the slices of a CT or MR series take over from those that they were made from."""


@dataclasses.dataclass
class Grid:
    """Voxels in DICOM's order, and where they are: in mm, to the patient's left, back and head."""

    values: numpy.ndarray
    """columns x rows x slices, or columns x rows x slices x times; of numbers, or of colours (a structured type)."""
    column: numpy.ndarray
    """The step from one column to the next; `row` and `slice` likewise."""
    row: numpy.ndarray
    slice: numpy.ndarray
    origin: numpy.ndarray
    """The middle of the first voxel."""
    slope: float = 1.0
    intercept: float = 0.0
    padding: int | None = None
    """The stored value that stands for "no number"."""

    @property
    def orientation(self):
        return [*(self.column / numpy.linalg.norm(self.column)), *(self.row / numpy.linalg.norm(self.row))]

    @property
    def spacing(self):
        """PixelSpacing: between rows, between columns."""
        return [float(numpy.linalg.norm(self.row)), float(numpy.linalg.norm(self.column))]

    @property
    def normal(self):
        return numpy.cross(self.orientation[:3], self.orientation[3:])

    @property
    def distance(self):
        """Between two slices."""
        return float(abs(numpy.dot(self.slice, self.normal)))

    def position(self, number):
        return self.origin + number * self.slice


def load(entry, source, orientation=None):
    """Reads a NIfTI file. orientation: six numbers, an ImageOrientationPatient that the slices shall have if they can."""
    try:
        image = nibabel.load(source.path)
        header = image.header
        affine = _TO_LPS @ numpy.asarray(image.affine, dtype=float)
        shape = image.shape
        has_place = bool(header["sform_code"] > 0 or header["qform_code"] > 0)
    except Exception:
        raise entry.error(f"{source.name!r} is not a NIfTI file") from None
    if not has_place:
        raise entry.error(f"{source.name!r} does not say where its voxels are (sform_code and qform_code are 0)")
    if any(size != 1 for size in shape[4:]) or not 2 <= len(shape) or 0 in shape:
        raise entry.error(f"{source.name!r} has the shape {'x'.join(map(str, shape))}; three dimensions, or four with time, can be stored")
    if int(numpy.prod(shape[2:], dtype=numpy.int64)) > SLICE_LIMIT or max(shape[:3]) > 65_535:
        raise entry.error(f"{source.name!r} has the shape {'x'.join(map(str, shape))}; {SLICE_LIMIT} slices are the most")
    try:
        values, slope, intercept, padding = _stored(image)
    except Exception:
        raise entry.error(f"{source.name!r} is damaged, or has complex numbers: its voxels cannot be read") from None
    values = values.reshape((*shape[:3], 1, 1)[:3] + tuple(shape[3:4]))
    steps, origin = [affine[:3, axis] for axis in range(3)], affine[:3, 3]
    lengths = [float(numpy.linalg.norm(step)) for step in steps]
    if not numpy.isfinite(affine).all() or min(lengths) <= 0 or abs(numpy.linalg.det(affine[:3, :3])) < 1e-9 * numpy.prod(lengths):
        raise entry.error(f"{source.name!r} has an affine that is no place in space")
    order, signs = _arrangement([step / length for step, length in zip(steps, lengths)], orientation)
    values = values.transpose(*order, *range(3, values.ndim))
    steps = [steps[axis] for axis in order]
    for axis, sign in enumerate(signs):
        if sign < 0:
            values = numpy.flip(values, axis)
            origin = origin + steps[axis] * (values.shape[axis] - 1)
            steps[axis] = -steps[axis]
    column, row, step = steps
    if abs(numpy.dot(column, row)) > 1e-4 * numpy.linalg.norm(column) * numpy.linalg.norm(row):
        raise entry.error(f"{source.name!r} has slices that are not rectangles, which DICOM cannot hold; resample it first")
    return Grid(values, column, row, step, origin, slope, intercept, padding)


def _arrangement(units, orientation):
    """Which axes become columns, rows and slices, and which of them turn round: (order, signs).

    Like the images that it was made from. Without those the slices stay as they are, the picture upright: from the patient's right to
    the left, from the front to the back, from the head to the feet.
    """
    axes = [0, 1, 2]
    if orientation is not None:
        wanted = [numpy.asarray(orientation[:3], float), numpy.asarray(orientation[3:], float)]
        first = max(axes, key=lambda axis: abs(numpy.dot(units[axis], wanted[0])))
        second = max((axis for axis in axes if axis != first), key=lambda axis: abs(numpy.dot(units[axis], wanted[1])))
        order = [first, second, 3 - first - second]
        signs = [1 if numpy.dot(units[axis], direction) >= 0 else -1 for axis, direction in zip(order, wanted)]
    else:
        order = list(axes)
        main = [int(numpy.argmax(numpy.abs(unit))) for unit in units]
        if main[0] == 2 or (main[0] == 1 and main[1] == 0):
            order = [1, 0, 2]
        signs = []
        for axis in order[:2]:
            upright = (1, 1, -1)[main[axis]]
            signs.append(1 if units[axis][main[axis]] * upright > 0 else -1)
    normal = numpy.cross(units[order[0]] * signs[0], units[order[1]] * signs[1])
    signs.append(1 if numpy.dot(units[order[2]], normal) >= 0 else -1)
    return order, signs


def _stored(image):
    """(values as they are stored, slope, intercept, padding): 16 bits, or 8 for colours and small numbers."""
    raw = numpy.asanyarray(image.dataobj.get_unscaled() if hasattr(image.dataobj, "get_unscaled") else image.dataobj)
    if raw.dtype.names:
        return raw, 1.0, 0.0, None
    if raw.dtype.kind not in "iubf":
        raise TypeError("not numbers of one part")
    slope, intercept = (float(number) for number in (getattr(image.dataobj, "slope", 1.0), getattr(image.dataobj, "inter", 0.0)))
    if raw.dtype.kind in "iub":
        fitting = _fitting(raw)
        if fitting is not None and _is_exact(slope) and _is_exact(intercept):
            return fitting, slope, intercept, None
    values = raw.astype(numpy.float64) * slope + intercept
    holes = ~numpy.isfinite(values)
    low, high = (values[~holes].min(), values[~holes].max()) if not holes.all() else (0.0, 0.0)
    if (not holes.any() and numpy.array_equal(values, numpy.rint(values)) and low >= -32_768 and high <= 65_535
            and (low >= 0 or high <= 32_767)):
        return _fitting(values.astype(numpy.int64)), 1.0, 0.0, None
    # The smallest stored value stands for what is no number.
    first = 1 if holes.any() else 0
    slope = _decimal((high - low) / (65_535 - first)) if high > low else 1.0
    if slope <= 0:
        slope = 1.0
    # What DICOM can write of the slope in 16 characters may be a little less than it takes.
    while slope * (65_535 - first) < high - low:
        slope = _decimal(slope * (1 + 1e-9))
    intercept = _decimal(low - first * slope)
    with numpy.errstate(invalid="ignore"):
        stored = numpy.clip(numpy.rint((values - intercept) / slope), first, 65_535)
    stored[holes] = 0
    return stored.astype(numpy.uint16), slope, intercept, 0 if holes.any() else None


def _fitting(values):
    """Whole numbers in the smallest type of DICOM that holds them all; None when there is none."""
    low, high = int(values.min()), int(values.max())
    if low >= 0 and high <= 255 and values.dtype.itemsize == 1:
        return values.astype(numpy.uint8)
    if low >= -32_768 and high <= 32_767:
        return values.astype(numpy.int16)
    return values.astype(numpy.uint16) if low >= 0 and high <= 65_535 else None


def _decimal(number):
    return float(format_number_as_ds(float(number)))


def _is_exact(number):
    return abs(_decimal(number) - number) <= 1e-7 * abs(number) if number else True


def series(maker, source, position, parent, origin):
    """Writes the slices of a volume as one series.

    position: of the file in its entry.
    origin: the series that it was made from, or None.
    """
    entry = maker.entry
    like = origin.first if origin else None
    orientation = _numbers(like, "ImageOrientationPatient", 6)
    grid = load(entry, source, orientation)
    is_colour = grid.values.dtype.names is not None
    modality = str(like.get("Modality", "")) if like else ""
    sop_class = SecondaryCaptureImageStorage if is_colour else _CLASSES.get(modality, SecondaryCaptureImageStorage)
    if sop_class == SecondaryCaptureImageStorage and modality not in _CLASSES:
        modality = modality or "OT"
    frame = frame_of_reference(maker, position, origin)
    times = grid.values.shape[3] if grid.values.ndim == 4 else 1
    count = grid.values.shape[2]
    window = _window(grid, modality)
    # A map that was made from a CT is no CT: probabilities and labels do not go below zero.
    scale = "HU" if sop_class == CTImageStorage and not is_colour and grid.values.min() * grid.slope + grid.intercept < 0 else "US"
    files = []
    for time in range(times):
        for number in range(count):
            plane = grid.values[:, :, number] if grid.values.ndim == 3 else grid.values[:, :, number, time]
            made = maker.new(parent, sop_class, modality or "OT", source, number=time * count + number + 1, series=f"volume {position}")
            made.ImageType = ["DERIVED", "SECONDARY", "AXIAL" if sop_class == CTImageStorage else "OTHER"]
            made.DerivationDescription = "Made from a NIfTI file"
            made.FrameOfReferenceUID = frame
            made.AcquisitionNumber = time + 1
            _describe(made, sop_class, like)
            if "BodyPartExamined" not in made:
                made.Laterality = ""
            place = grid.position(number)
            made.ImageOrientationPatient = [_ds(value) for value in grid.orientation]
            made.ImagePositionPatient = [_ds(value) for value in place]
            made.PixelSpacing = [_ds(value) for value in grid.spacing]
            made.SliceThickness = made.SpacingBetweenSlices = _ds(grid.distance)
            made.SliceLocation = _ds(float(numpy.dot(place, grid.normal)))
            if times > 1:
                made.TemporalPositionIdentifier, made.NumberOfTemporalPositions = time + 1, times
            # Rows x columns, as a picture is written.
            pixels = plane.T
            if is_colour:
                pixels = numpy.stack([pixels[name] for name in pixels.dtype.names[:3]], axis=-1).astype(numpy.uint8)
            else:
                # CT and MR know 16 bits alone.
                if sop_class != SecondaryCaptureImageStorage and pixels.dtype.itemsize == 1:
                    pixels = pixels.astype(numpy.int16)
                if sop_class != MRImageStorage or (grid.slope, grid.intercept) != (1.0, 0.0):
                    made.RescaleSlope, made.RescaleIntercept = _ds(grid.slope), _ds(grid.intercept)
                    made.RescaleType = scale
                if window:
                    made.WindowCenter, made.WindowWidth = (_ds(value) for value in window)
                    if window[1] < 1:
                        made.VOILUTFunction = "LINEAR_EXACT"
                if grid.padding is not None:
                    made.add_new("PixelPaddingValue", "US", grid.padding)
            write_pixels(made, pixels)
            files.append(maker.finish(made, parent, origin.id if origin else None))
    return files


def _describe(made, sop_class, like):
    if sop_class == SecondaryCaptureImageStorage:
        made.ConversionType = "WSD"
        made.PositionReferenceIndicator = made.PatientOrientation = ""
        return
    for keyword in _COPIED:
        value = like.get(keyword)
        if value not in (None, ""):
            setattr(made, keyword, value)
    needed = {"PositionReferenceIndicator": "", "PatientPosition": ""}
    if sop_class == CTImageStorage:
        needed |= {"KVP": None}
    else:
        # Research mode: what nothing is known of.
        needed |= {
            "ScanningSequence": "RM", "SequenceVariant": "NONE", "ScanOptions": "", "MRAcquisitionType": "", "RepetitionTime": None,
            "EchoTime": None,
            "EchoTrainLength": None,
        }
    for keyword, value in needed.items():
        if keyword not in made:
            setattr(made, keyword, value)


def _window(grid, modality):
    """(centre, width) in which the volume can be looked at, in values after the rescale."""
    if grid.values.dtype.names:
        return None
    values = grid.values.reshape(-1)[:: max(1, grid.values.size // 200_000)].astype(numpy.float64)
    if grid.padding is not None:
        values = values[values != grid.padding]
    if not values.size:
        return None
    low, high = (float(value) * grid.slope + grid.intercept for value in numpy.percentile(values, (1, 99)))
    if modality == "CT" and low < -100 and high > 100:
        return 40.0, 400.0
    if high <= low:
        low, high = (float(values.min()) * grid.slope + grid.intercept, float(values.max()) * grid.slope + grid.intercept)
    return (low + high) / 2, max(high - low, 1e-6)


def frame_of_reference(maker, position, origin):
    """The coordinates are those of the images that the volume was made from, unless the entry says that it has its own."""
    if origin and not maker.entry.own_frame and origin.first.get("FrameOfReferenceUID"):
        return str(origin.first.FrameOfReferenceUID)
    return maker.uid("frame", position)


def _numbers(tags, keyword, count):
    try:
        numbers = [float(value) for value in tags[keyword].value]
    except (KeyError, TypeError, ValueError):
        return None
    return numbers if len(numbers) == count else None


def _ds(number):
    return format_number_as_ds(float(number))
