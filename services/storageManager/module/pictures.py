"""PNG and JPEG files as Secondary Capture."""

import numpy
from PIL import Image, ImageOps
from pydicom.uid import SecondaryCaptureImageStorage

SIDE_LIMIT = 65_535
PIXEL_LIMIT = 100_000_000


def picture(maker, source, number, parent, series):
    entry = maker.entry
    try:
        with Image.open(source.path, formats=["PNG", "JPEG"]) as opened:
            if opened.width > SIDE_LIMIT or opened.height > SIDE_LIMIT or opened.width * opened.height > PIXEL_LIMIT:
                raise entry.error(f"{source.name!r} has {opened.width} x {opened.height} pixels; {PIXEL_LIMIT} are the most")
            is_jpeg, stored = opened.format == "JPEG", source.path.stat().st_size
            pixels = _pixels(ImageOps.exif_transpose(opened))
    except (OSError, SyntaxError, ValueError):
        raise entry.error(f"{source.name!r} is not a whole PNG or JPEG file") from None
    made = maker.new(parent, SecondaryCaptureImageStorage, "OT", source, number=number)
    made.ConversionType = "WSD"
    made.ImageType = ["DERIVED", "SECONDARY"]
    made.BurnedInAnnotation = "YES" if entry.burned_in else "NO"
    made.PatientOrientation = ""
    made.Laterality = ""
    if is_jpeg:
        made.LossyImageCompression = "01"
        made.LossyImageCompressionRatio = f"{pixels.nbytes / stored:.2f}"
        made.LossyImageCompressionMethod = "ISO_10918_1"
    else:
        made.LossyImageCompression = "00"
    write_pixels(made, pixels)
    return maker.finish(made, parent, series.id if series else None)


def _pixels(opened):
    """An array of 8 or 16 bits: rows x columns, or rows x columns x 3."""
    mode = opened.mode
    if mode.startswith("I;16") or mode == "I":
        values = numpy.asarray(opened)
        return numpy.clip(values, 0, 65_535).astype("<u2")
    if mode in ("1", "L"):
        return numpy.asarray(opened.convert("L"))
    if mode == "LA":
        return numpy.asarray(_on_black(opened.convert("RGBA")).convert("L"))
    if mode == "P" and "transparency" not in opened.info:
        grey = opened.convert("RGB")
        values = numpy.asarray(grey)
        return values if (values[..., 0] != values[..., 1]).any() or (values[..., 0] != values[..., 2]).any() else values[..., 0]
    if mode in ("P", "RGBA", "PA", "RGBa"):
        return numpy.asarray(_on_black(opened.convert("RGBA")))
    return numpy.asarray(opened.convert("RGB"))


def _on_black(picture):
    """DICOM has no transparency; the ground of radiological pictures is black."""
    ground = Image.new("RGBA", picture.size, (0, 0, 0, 255))
    ground.alpha_composite(picture)
    return ground.convert("RGB")


def write_pixels(made, pixels):
    """Puts an array of rows x columns (grey) or rows x columns x 3 (RGB, 8 bits) into a Dataset."""
    is_colour = pixels.ndim == 3
    bits = pixels.dtype.itemsize * 8
    made.SamplesPerPixel = 3 if is_colour else 1
    made.PhotometricInterpretation = "RGB" if is_colour else "MONOCHROME2"
    if is_colour:
        made.PlanarConfiguration = 0
    made.Rows, made.Columns = pixels.shape[:2]
    made.BitsAllocated = made.BitsStored = bits
    made.HighBit = bits - 1
    made.PixelRepresentation = 1 if pixels.dtype.kind == "i" else 0
    content = numpy.ascontiguousarray(pixels).astype(pixels.dtype.newbyteorder("<"), copy=False).tobytes()
    made.add_new("PixelData", "OW" if bits > 8 else "OB", content + b"\0" * (len(content) % 2))
