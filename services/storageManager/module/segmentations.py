"""NIfTI label maps as DICOM Segmentation, through highdicom."""

import numpy

from . import volumes

LABEL_LIMIT = 1000
TISSUE = ("85756007", "SCT", "Tissue")


def segmentation(maker, source, position, parent, origin, all_tags):
    """all_tags: gives the tags of every image of `origin`."""
    entry = maker.entry
    if origin is None:
        raise entry.error(f"{source.name!r}: a segmentation needs the series that it was made from; name it with 'seriesId'")
    if entry.own_frame:
        raise entry.error("a segmentation lies on its images, so its frame cannot be 'own'")
    images = _images(entry, origin, all_tags)
    grid = volumes.load(entry, source, volumes._numbers(images[0], "ImageOrientationPatient", 6))
    labels, names = _labels(entry, source, grid)
    frames = [labels[:, :, number].T for number in range(labels.shape[2])]
    # Slices without a label say nothing; but an empty result is one, too.
    used = [number for number, frame in enumerate(frames) if frame.any()] or [0]

    # Not before it is needed: it takes a second.
    import highdicom
    from highdicom.sr.coding import CodedConcept

    def concept(given, key):
        value = given.get(key, TISSUE)
        if not isinstance(value, (list, tuple)) or len(value) != 3 or not all(isinstance(part, str) and part for part in value):
            raise entry.error(f"'segmentation' has a {key!r} that is not [code, scheme, meaning], such as {list(TISSUE)}")
        return CodedConcept(*value)

    algorithm = entry.segmentation.get("algorithm") or {}
    if not isinstance(algorithm, dict):
        raise entry.error("'segmentation' has an 'algorithm' that is not an object with 'name' and 'version'")
    identification = highdicom.AlgorithmIdentificationSequence(
        name=str(algorithm.get("name") or entry.job)[:64], version=str(algorithm.get("version") or "unknown")[:64],
        family=CodedConcept("113076", "DCM", "Segmentation"))
    descriptions = [
        highdicom.seg.SegmentDescription(
            segment_number=number, segment_label=name["label"][:64], segmented_property_category=concept(name, "category"),
            segmented_property_type=concept(name, "type"), algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=identification)
        for number, name in enumerate(names, start=1)
    ]
    try:
        made = highdicom.seg.Segmentation(
            source_images=images,
            pixel_array=numpy.ascontiguousarray(numpy.stack([frames[number] for number in used])),
            segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=descriptions,
            series_instance_uid=maker.uid("series", f"segmentation {position}"),
            series_number=1,
            sop_instance_uid=maker.uid("instance", f"segmentation {position}"),
            instance_number=1,
            manufacturer="DCM Processor",
            manufacturer_model_name="storageManager",
            software_versions="1",
            device_serial_number="none",
            series_description=maker.description,
            content_label="SEGMENTATION",
            plane_positions=[
                highdicom.PlanePositionSequence(highdicom.CoordinateSystemNames.PATIENT, [float(value) for value in grid.position(number)])
                for number in used
            ],
            plane_orientation=highdicom.PlaneOrientationSequence(highdicom.CoordinateSystemNames.PATIENT, grid.orientation),
            pixel_measures=highdicom.PixelMeasuresSequence(
                pixel_spacing=grid.spacing, slice_thickness=grid.distance, spacing_between_slices=grid.distance),
            omit_empty_frames=True,
        )
    except Exception as error:
        # Its text may have values of the images in it.
        raise entry.error(f"{source.name!r} could not be made a segmentation of series {origin.id} ({type(error).__name__})") from None
    parent.adopt(made)
    base = maker.new(parent, made.SOPClassUID, "SEG", source, number=1)
    for element in base:
        if element.keyword.endswith(("Date", "Time")) or element.keyword == "SeriesNumber":
            made[element.tag] = element
    # highdicom takes new ones each time.
    organisation = maker.uid("organisation", position)
    for item in (*made.DimensionOrganizationSequence, *made.DimensionIndexSequence):
        item.DimensionOrganizationUID = organisation
    for item in made.get("ContributingEquipmentSequence") or ():
        item.ContributionDateTime = maker.moment(source).strftime("%Y%m%d%H%M%S")
    return maker.finish(made, parent, origin.id)


def _images(entry, origin, all_tags):
    images = all_tags(origin)
    if any("NumberOfFrames" in image for image in images) and len(images) > 1:
        raise entry.error(f"series {origin.id} has several images of many frames each; a segmentation of those cannot be made")
    needed = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "FrameOfReferenceUID")
    if "NumberOfFrames" not in images[0] and not all(keyword in image for image in images for keyword in needed):
        raise entry.error(f"series {origin.id} does not say where its images are, so nothing can lie on them")
    rows = {(image.get("Rows"), image.get("Columns")) for image in images}
    if len(rows) != 1:
        raise entry.error(f"series {origin.id} has images of different sizes; a segmentation of those cannot be made")
    return images


def _labels(entry, source, grid):
    """(array of segment numbers, descriptions by number)."""
    if grid.values.ndim != 3 or grid.values.dtype.names or (grid.slope, grid.intercept) != (1.0, 0.0) or grid.values.min() < 0:
        raise entry.error(f"{source.name!r} is not a label map: three dimensions of whole numbers from 0 on")
    present = [int(value) for value in numpy.unique(grid.values) if value]
    given = entry.segmentation.get("labels")
    if given is None:
        given = {str(value): f"Label {value}" for value in present or [1]}
    if not isinstance(given, dict) or not given or len(given) > LABEL_LIMIT:
        raise entry.error("'segmentation' has no 'labels': give an object of value in the file and name, {\"1\": \"Liver\"}")
    names = {}
    for value, name in given.items():
        name = {"label": name} if isinstance(name, str) else name
        label = name.get("label") if isinstance(name, dict) else None
        if not str(value).isdigit() or int(value) == 0 or not isinstance(label, str) or not label:
            raise entry.error("'segmentation' has a label that is not {\"1\": \"Liver\"} or {\"1\": {\"label\": \"Liver\", ...}}")
        names[int(value)] = name
    unknown = [str(value) for value in present if value not in names]
    if unknown:
        raise entry.error(f"{source.name!r} has the values {', '.join(unknown[:20])}, which 'segmentation.labels' does not name")
    order = sorted(names)
    labels = numpy.zeros(grid.values.shape, dtype=numpy.uint16 if len(order) > 255 else numpy.uint8)
    for number, value in enumerate(order, start=1):
        labels[grid.values == value] = number
    return labels, [names[value] for value in order]
