"""What is made: valid, in the right study, marked, and with the geometry of what it was made from."""

import json
import subprocess

import nibabel
import numpy
import pytest
from PIL import Image
from storing import RUN, check, entry, real_images, store, stored, volume_images

from storageManager.errors import StorageError

PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"


def test_a_pdf_becomes_an_encapsulated_pdf(study, orthanc, out, tmp_path):
    (out / "report.pdf").write_bytes(PDF)
    result = store(study, entry("pdf", "report.pdf", description="Lung report", tags={"SeriesNumber": 77, "OperatorsName": "Robot"}))
    (made,) = stored(orthanc, result)
    check(made, study, tmp_path)
    assert made.EncapsulatedDocument[: made.EncapsulatedDocumentLength] == PDF
    assert (made.SOPClassUID.name, made.SeriesDescription, made.SeriesNumber) == ("Encapsulated PDF Storage", "Lung report", 77)
    assert made.OperatorsName == "Robot"
    # What ingest looks at, so that it is not news: the private block with its creator, in Orthanc's own words.
    (instance,) = orthanc.get(f"/series/{result['series'][0]}")["Instances"]
    tags = orthanc.get(f"/instances/{instance}/tags")
    assert tags["0405,1005"]["PrivateCreator"] == "DCM-PROCESSOR" and tags["0405,1005"]["Value"].strip() == "dcm-processor"
    assert tags["0405,1009"]["Value"].strip() == study.series[0]


@pytest.mark.parametrize(("mode", "ending", "photometric", "bits"), [
    ("L", "png", "MONOCHROME2", 8), ("1", "png", "MONOCHROME2", 8), ("I;16", "png", "MONOCHROME2", 16), ("RGB", "png", "RGB", 8),
    ("RGBA", "png", "RGB", 8), ("P", "png", "RGB", 8), ("LA", "png", "MONOCHROME2", 8), ("L", "jpg", "MONOCHROME2", 8),
    ("RGB", "jpg", "RGB", 8),
    ("CMYK", "jpg", "RGB", 8),
])
def test_a_picture_becomes_a_secondary_capture(study, orthanc, out, tmp_path, mode, ending, photometric, bits):
    # An odd number of bytes, which DICOM pads.
    values = numpy.arange(7 * 5 * 3, dtype=numpy.uint8).reshape(7, 5, 3) * 2
    picture = Image.fromarray(values)
    if mode == "I;16":
        picture = Image.fromarray(numpy.arange(35, dtype=numpy.uint16).reshape(7, 5) * 1800)
    elif mode == "P":
        picture = picture.quantize(16)
    elif mode != "RGB":
        picture = picture.convert(mode)
    picture.save(out / f"slice.{ending}")
    result = store(study, entry("jpeg" if ending == "jpg" else "png", f"slice.{ending}", burnedIn=False))
    (made,) = stored(orthanc, result)
    check(made, study, tmp_path)
    assert (made.PhotometricInterpretation, made.BitsStored, made.Rows, made.Columns) == (photometric, bits, 7, 5)
    assert made.BurnedInAnnotation == "NO" and made.LossyImageCompression == ("01" if ending == "jpg" else "00")
    shown = picture if mode == "I;16" else picture.convert("RGB" if photometric == "RGB" else "L")
    if ending == "png" and mode not in ("LA",):
        assert numpy.array_equal(made.pixel_array, numpy.asarray(shown))


def test_the_pictures_of_a_folder_are_one_series(study, orthanc, out, tmp_path):
    for number, grey in enumerate((10, 20, 30)):
        Image.new("L", (4, 4), grey).save(out / f"{number}.png")
    (out / "notes.txt").write_text("not a picture")
    made = stored(orthanc, store(study, {"type": "png", "path": f"results/{RUN}"}))
    assert [(one.InstanceNumber, int(one.pixel_array[0, 0])) for one in made] == [(1, 10), (2, 20), (3, 30)]
    assert len({str(one.SeriesInstanceUID) for one in made}) == 1 and made[0].BurnedInAnnotation == "YES"
    check(made[0], study, tmp_path)


def test_a_report_becomes_a_structured_report(study, orthanc, out, tmp_path):
    report = {"volume": {"liver": 1510.5, "unit": "ml"}, "findings": ["Läsion", "", None], "normal": False, "k" * 80: {}}
    (out / "report.json").write_text(json.dumps(report))
    (made,) = stored(orthanc, store(study, entry("json", "report.json", description="Volumes")))
    check(made, study, tmp_path)

    def told(items):
        return {
            item.ConceptNameCodeSequence[0].CodeMeaning: told(item.ContentSequence) if item.ValueType == "CONTAINER" else item.TextValue
            for item in items
        }

    assert made.SOPClassUID.name == "Basic Text SR Storage" and made.Modality == "SR"
    assert told(made.ContentSequence) == {
        "volume": {"liver": "1510.5", "unit": "ml"}, "findings": {"1": "Läsion", "2": "(empty)", "3": "(none)"}, "normal": "false",
        "k" * 61 + "...": "(empty)",
    }
    assert dcm_lines(made, tmp_path)


def dcm_lines(dataset, tmp_path):
    """dcmtk's own reader of structured reports takes it."""
    file = tmp_path / "report.dcm"
    dataset.save_as(file, enforce_file_format=True)
    return subprocess.run(["dsrdump", str(file)], check=True, capture_output=True, text=True).stdout


# MARK: Volumes

OBLIQUE = tuple(numpy.array([[0.8, 0.6, 0.0], [-0.36, 0.48, -0.8]]).reshape(-1))
CORONAL = (1, 0, 0, 0, 0, -1)
SAGITTAL = (0, 1, 0, 0, 0, -1)


def converted(folder, target):
    """What dcm2niix makes of the DICOM files of a folder: the one NIfTI file."""
    target.mkdir()
    subprocess.run(["dcm2niix", "-b", "n", "-z", "y", "-f", "%s_out", "-o", str(target), str(folder)], check=True, stdout=subprocess.PIPE)
    (file,) = target.glob("*.nii.gz")
    return file


def there_and_back(study, orthanc, out, tmp_path, **more):
    """dcm2niix of the study's series, our DICOM of that, dcm2niix again: (first, second, our objects)."""
    first = converted(next(iter(study.files.values())).parent, tmp_path / "first")
    name = f"{study.series[0]}.nii.gz"
    (out / name).write_bytes(first.read_bytes())
    made = stored(orthanc, store(study, entry("nifti", name, **more)))
    folder = tmp_path / "made"
    folder.mkdir()
    for number, one in enumerate(made):
        one.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    return nibabel.load(first), nibabel.load(converted(folder, tmp_path / "second")), made


@pytest.mark.parametrize("case", ["real CT", "real MR", "oblique MR", "coronal CT", "sagittal MR"])
def test_a_volume_comes_back_as_it_was(case, new_study, orthanc, out, tmp_path):
    kind, modality = case.split()
    if kind == "real":
        study = new_study(real_images(modality))
    else:
        study = new_study(volume_images(modality, orientation={"oblique": OBLIQUE, "coronal": CORONAL, "sagittal": SAGITTAL}[kind]))
    first, second, made = there_and_back(study, orthanc, out, tmp_path)
    assert first.shape == second.shape
    assert numpy.allclose(first.affine, second.affine, atol=1e-4)
    assert numpy.array_equal(numpy.asanyarray(first.dataobj), numpy.asanyarray(second.dataobj))
    # It lies on the images that it was made from, in their frame and turned as they are.
    source = study.first
    turned = [[float(value) for value in image.ImageOrientationPatient] for image in (made[0], source)]
    assert numpy.allclose(*turned, atol=1e-5)
    assert {str(one.FrameOfReferenceUID) for one in made} == {str(source.FrameOfReferenceUID)}
    assert {str(one.SOPClassUID) for one in made} == {str(source.SOPClassUID)}
    for one in (made[0], made[-1]):
        check(one, study, tmp_path)


def nifti(path, values, affine, **header):
    image = nibabel.Nifti1Image(values, affine)
    for key, value in header.items():
        image.header[key] = value
    nibabel.save(image, path)


def test_numbers_of_any_kind_keep_their_values(study, orthanc, out, tmp_path):
    affine = numpy.diag([2.0, 2.0, 3.0, 1.0])
    generator = numpy.random.default_rng(3)
    cases = {
        "fractions": generator.normal(0, 1e-3, (6, 5, 3)).astype(numpy.float32),
        "whole": generator.integers(0, 60_000, (6, 5, 3)).astype(numpy.float32),
        "large": generator.integers(-2_000_000, 2_000_000, (6, 5, 3)).astype(numpy.int32),
        "constant": numpy.full((6, 5, 3), 0.1, dtype=numpy.float64),
        "holes": numpy.where(generator.random((6, 5, 3)) < 0.2, numpy.nan, generator.random((6, 5, 3))).astype(numpy.float32),
        "series": generator.integers(0, 255, (6, 5, 3, 2)).astype(numpy.uint8),
    }
    for name, values in cases.items():
        nifti(out / f"{name}.nii.gz", values, affine)
        made = stored(orthanc, store(study, entry("nifti", f"{name}.nii.gz", seriesId=study.series[0])))
        count = values.shape[2]
        for number, one in enumerate(made):
            wanted = values[..., number % count] if values.ndim == 3 else values[..., number % count, number // count]
            # The picture is upright: the patient's right and front come first, and NIfTI's axes run the other way.
            shown = one.pixel_array.astype(float) * float(one.get("RescaleSlope", 1)) + float(one.get("RescaleIntercept", 0))
            if "PixelPaddingValue" in one:
                shown[one.pixel_array == one.PixelPaddingValue] = numpy.nan
            step = float(one.get("RescaleSlope", 1)) if name in ("fractions", "large", "holes") else 0
            assert numpy.allclose(shown, wanted.T[::-1, ::-1], atol=step * 0.5001, rtol=1e-9, equal_nan=True), name
        assert len(made) == values[0, 0].size
        check(made[0], study, tmp_path)


def test_colours_stay_colours(study, orthanc, out, tmp_path):
    values = numpy.zeros((4, 3, 2), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    values["R"][0, 0, 0], values["B"][3, 2, 1] = 200, 100
    nifti(out / "map.nii", values, numpy.diag([1.0, 1.0, 1.0, 1.0]))
    made = stored(orthanc, store(study, entry("nifti", "map.nii", seriesId=study.series[0], frame="own")))
    assert made[0].PhotometricInterpretation == "RGB" and made[0].pixel_array[2, 3].tolist() == [200, 0, 0]
    assert made[1].pixel_array[0, 0].tolist() == [0, 0, 100]
    assert str(made[0].FrameOfReferenceUID) != str(study.first.FrameOfReferenceUID)
    check(made[0], study, tmp_path)


@pytest.mark.parametrize("spoil", ["no place", "cut off", "sheared", "five dimensions", "text"])
def test_a_volume_without_a_place_is_refused(spoil, study, out):
    values, affine = numpy.arange(24, dtype=numpy.int16).reshape(4, 3, 2), numpy.diag([2.0, 2.0, 3.0, 1.0])
    file = out / "x.nii"
    if spoil == "sheared":
        affine[0, 1] = 1.0
    if spoil == "five dimensions":
        values = values.reshape(1, 2, 2, 3, 2)
    image = nibabel.Nifti1Image(values, affine)
    if spoil == "no place":
        image.set_sform(None, 0)
        image.set_qform(None, 0)
    nibabel.save(image, file)
    if spoil == "cut off":
        file.write_bytes(file.read_bytes()[:-20])
    if spoil == "text":
        file.write_text("not a volume")
    with pytest.raises(StorageError, match=r"job maker, entry 1 \(nifti 'results/.*x.nii'\): 'x.nii' "):
        store(study, entry("nifti", "x.nii", seriesId=study.series[0]))


@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), OBLIQUE])
def test_a_label_map_becomes_a_segmentation_on_its_images(orientation, new_study, orthanc, out, tmp_path):
    import highdicom

    study = new_study(volume_images("MR", orientation=orientation))
    first = nibabel.load(converted(next(iter(study.files.values())).parent, tmp_path / "first"))
    labels = numpy.zeros(first.shape, dtype=numpy.uint8)
    labels[2:6, 3:7, 1:3] = 7
    labels[8:10, 3:4, 2] = 40
    nifti(out / "labels.nii.gz", labels, first.affine)
    spleen = {"label": "Spleen", "type": ["78961009", "SCT", "Spleen"], "category": ["123037004", "SCT", "Anatomical Structure"]}
    names = {"7": "Liver", "40": spleen}
    given = entry("nifti", "labels.nii.gz", seriesId=study.series[0], segmentation={
        "labels": names, "algorithm": {"name": "Net", "version": "2"}})
    (made,) = stored(orthanc, store(study, given))
    check(made, study, tmp_path)
    segmentation = highdicom.seg.Segmentation.from_dataset(made)
    assert [segmentation.get_segment_description(number).segment_label for number in (1, 2)] == ["Liver", "Spleen"]
    volume = segmentation.get_volume(combine_segments=True, allow_missing_positions=True)
    # Each labelled voxel, in mm from the patient's origin, is where it was in the NIfTI file.
    for number, value in ((1, 7), (2, 40)):
        ours = volume.map_indices_to_reference(numpy.argwhere(volume.array == number))
        theirs = nibabel.affines.apply_affine(numpy.diag([-1, -1, 1, 1]) @ first.affine, numpy.argwhere(labels == value))
        assert numpy.allclose(sorted(map(tuple, ours.round(3))), sorted(map(tuple, theirs.round(3))), atol=2e-3)
    assert str(made.FrameOfReferenceUID) == str(study.first.FrameOfReferenceUID)
    assert str(made.ReferencedSeriesSequence[0].SeriesInstanceUID) == str(study.first.SeriesInstanceUID)
    referenced = {str(item.ReferencedSOPInstanceUID) for item in made.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    assert referenced <= {str(image.SOPInstanceUID) for image in study.images} and referenced


def test_a_label_that_nobody_named_is_refused(study, out):
    labels = numpy.zeros((16, 12, 5), dtype=numpy.uint8)
    labels[0, 0, 0], labels[1, 0, 0] = 1, 3
    nifti(out / "labels.nii.gz", labels, numpy.eye(4))
    with pytest.raises(StorageError, match="has the values 3, which 'segmentation.labels' does not name"):
        store(study, entry("nifti", "labels.nii.gz", seriesId=study.series[0], segmentation={"labels": {"1": "Liver"}}))
