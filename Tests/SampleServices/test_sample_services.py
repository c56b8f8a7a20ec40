"""The sample services, run as the hosts run them, on images written for the test.

    python3 -m unittest discover -s Tests/SampleServices
"""

import contextlib
import importlib
import io
import json
import os
import pathlib
import shutil
import sys
import tempfile
import unittest

import nibabel
import numpy
import pydicom
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

ROOT = pathlib.Path(__file__).resolve().parents[2]
AXIAL = ([1, 0, 0], [0, 1, 0], [0, 0, 1])
SAGITTAL = ([0, 1, 0], [0, 0, -1], [1, 0, 0])


def load(part, service):
    """The service's `registry` or `module` as the package that it is once it is installed.

    Callbacks and workers have the same package names in two trees, so each import starts afresh.
    """
    for name in [name for name in sys.modules if name.split(".")[0] == service]:
        del sys.modules[name]
    with tempfile.TemporaryDirectory() as tree:
        os.symlink(ROOT / "services" / service / part, os.path.join(tree, service))
        sys.path.insert(0, tree)
        try:
            return importlib.import_module(service)
        finally:
            sys.path.pop(0)


def write_series(folder, slices, modality="CT", plane=AXIAL, spacing=(1.0, 1.0), gap=2.0):
    """slices: int16 arrays of rows and columns, in the order of their positions along the plane's normal. Millimetres."""
    os.makedirs(folder)
    study, series = generate_uid(), generate_uid()
    for number, pixels in enumerate(slices):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        image.is_little_endian, image.is_implicit_VR = True, False
        image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        image.StudyInstanceUID, image.SeriesInstanceUID = study, series
        image.PatientID, image.PatientName, image.Modality = "id", "Secret^Name", modality
        image.SeriesNumber, image.InstanceNumber, image.SeriesDescription = 1, number + 1, "$(touch x); ../.."
        image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        image.ImageOrientationPatient = plane[0] + plane[1]
        image.ImagePositionPatient = [axis * gap * number for axis in plane[2]]
        image.PixelSpacing, image.SliceThickness = list(spacing), gap
        image.Rows, image.Columns = pixels.shape
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated = image.BitsStored = 16
        image.HighBit, image.PixelRepresentation = 15, 1
        image.RescaleIntercept, image.RescaleSlope = 0, 1
        image.PixelData = pixels.astype("<i2").tobytes()
        image.save_as(os.path.join(folder, f"{number}.dcm"), write_like_original=False)


def study_headers(series, dcmpath="dicom/run"):
    """series: {id: modality}"""
    return {
        "id": "study", "tags": {}, "dcmpath": dcmpath, "studyIds": ["study"], "seriesIds": list(series),
        "studies": [
            {"id": "study", "tags": {}, "series": [{"id": id, "tags": {"Modality": modality}} for id, modality in series.items()]},
        ],
    }


class Services(unittest.TestCase):
    def setUp(self):
        self.data = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.data)
        os.environ["DATA"] = self.data

    def settings(self, service):
        return json.loads((ROOT / "services" / service / "registry" / "settings.json").read_text())

    def callback(self, service, headers, added):
        answer = load("registry", service).callback(
            jobName=service, headers=headers, params=self.settings(service)["params"], added_params=added,
        )
        accepted, extra = answer if isinstance(answer, tuple) else (answer, {})
        if accepted:
            added[service] = extra
        return accepted

    def worker(self, service, headers, added):
        """Returns what the worker returned and what it printed."""
        output = io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            result = load("module", service).worker(
                jobName=service, headers=headers, params=self.settings(service)["params"], added_params=added, attempt=1, runId="r",
            )
        return result, output.getvalue()

    def path(self, relative):
        return os.path.join(self.data, relative)

    def convert(self, headers):
        added = {}
        self.assertTrue(self.callback("dcm2nii", headers, added))
        return added, *self.worker("dcm2nii", headers, added)


class TempTests(Services):
    def test_hands_over_a_dict_and_logs_no_values_of_tags(self):
        headers = dict(study_headers({"s": "CT"}), PatientName="Secret^Name")
        added = {"other": {"x": "Secret^Name"}}
        self.assertTrue(self.callback("temp", headers, added))
        self.assertEqual(added["temp"], {"greeting": "hello", "after": ["other"]})
        result, output = self.worker("temp", headers, added)
        self.assertEqual(result, {"greeting": "hello"})
        self.assertIn("dicom/run", output)
        self.assertIn("other handed over x", output)
        self.assertNotIn("Secret", output)


class ConversionCallbackTests(Services):
    def test_names_the_file_of_a_single_series(self):
        headers = {"seriesId": "s1", "studyId": "t", "patientId": "p", "dcmpath": "dicom/run", "Modality": "CT"}
        for event in (headers, study_headers({"s1": "CT"})):
            added = {}
            self.assertTrue(self.callback("dcm2nii", event, added))
            self.assertEqual(added["dcm2nii"], {
                "base": "nifti/run", "ext": ".nii.gz", "filename": "s1", "output": "nifti/run/s1.nii.gz",
                "series": {"s1": "nifti/run/s1.nii.gz"},
            })

    def test_names_the_folder_of_several(self):
        added = {}
        self.assertTrue(self.callback("dcm2nii", study_headers({"s1": "CT", "s2": "SR", "s3": None}), added))
        self.assertEqual(added["dcm2nii"]["output"], "nifti/run")
        self.assertEqual(list(added["dcm2nii"]["series"]), ["s1", "s3"])

    def test_declines_what_holds_no_images(self):
        self.assertFalse(self.callback("dcm2nii", study_headers({"s1": "SR", "s2": "PR"}), {}))
        self.assertFalse(self.callback("dcm2nii", {"seriesId": "s", "Modality": "KO", "dcmpath": "dicom/run"}, {}))

    def test_refuses_a_path_without_a_folder(self):
        for path in ("", "/", "..", "dicom/.."):
            with self.assertRaises(ValueError):
                self.callback("dcm2nii", study_headers({"s": "CT"}, path), {})


class ConversionTests(Services):
    def test_converts_every_series_and_passes_over_what_is_no_volume(self):
        headers = study_headers({"s1": "CT", "s2": "CT", "s3": "CT", "s4": "CT"})
        for series in ("s1", "s2"):
            write_series(self.path(f"dicom/run/{series}"), [numpy.full((8, 8), number) for number in range(4)])
        os.makedirs(self.path("dicom/run/s3"))
        pathlib.Path(self.path("dicom/run/s3/0.dcm")).write_bytes(b"nothing")
        added, result, output = self.convert(headers)
        self.assertEqual(result["files"], ["nifti/run/s1.nii.gz", "nifti/run/s2.nii.gz"])
        self.assertIn("s3: no NIfTI", output)
        self.assertIn("s4: no NIfTI: the series was not exported", output)
        self.assertEqual(nibabel.load(self.path("nifti/run/s1.nii.gz")).shape, (8, 8, 4))
        # Header text neither names files nor reaches a shell, and the side car says nothing about the patient.
        self.assertEqual(sorted(os.listdir(self.path("nifti/run"))), ["s1.json", "s1.nii.gz", "s2.json", "s2.nii.gz"])
        self.assertNotIn("Secret", pathlib.Path(self.path("nifti/run/s1.json")).read_text())
        again, _ = self.worker("dcm2nii", headers, added)
        self.assertEqual(again, result)
        self.assertEqual(len(os.listdir(self.path("nifti/run"))), 4)

    def test_a_series_event_has_its_files_in_the_run_folder(self):
        write_series(self.path("dicom/run"), [numpy.zeros((8, 8))] * 3)
        added, result, _ = self.convert({"seriesId": "s1", "dcmpath": "dicom/run", "Modality": "CT"})
        self.assertEqual(result["files"], [added["dcm2nii"]["output"]])
        self.assertTrue(os.path.isfile(self.path(added["dcm2nii"]["output"])))

    def test_one_of_several_outputs_gets_the_promised_name(self):
        write_series(self.path("dicom/run/s1"), [numpy.zeros((8, 8))] * 2)
        write_series(self.path("dicom/more"), [numpy.zeros((8, 8))], plane=SAGITTAL)
        series = pydicom.dcmread(self.path("dicom/run/s1/0.dcm"))
        other = pydicom.dcmread(self.path("dicom/more/0.dcm"))
        other.SeriesInstanceUID, other.StudyInstanceUID, other.InstanceNumber = series.SeriesInstanceUID, series.StudyInstanceUID, 3
        other.save_as(self.path("dicom/run/s1/2.dcm"))
        added, result, _ = self.convert(study_headers({"s1": "CT"}))
        self.assertGreater(len(result["files"]), 1)
        self.assertIn("nifti/run/s1.nii.gz", result["files"])
        self.assertTrue(all(os.path.isfile(self.path(file)) for file in result["files"]))

    def test_fails_with_the_last_line_of_the_tool_when_nothing_came_out(self):
        os.makedirs(self.path("dicom/run/s1"))
        pathlib.Path(self.path("dicom/run/s1/0.dcm")).write_bytes(b"nothing")
        with self.assertRaisesRegex(RuntimeError, "dcm2niix made no NIfTI: .*Unable to find any DICOM"):
            self.convert(study_headers({"s1": "CT"}))
        self.assertEqual(os.listdir(self.path("nifti/run")), [])

    def test_stays_below_data(self):
        headers = study_headers({"s1": "CT"}, "../../etc")
        added = {"dcm2nii": {"base": "nifti/run", "series": {"s1": "nifti/run/s1.nii.gz"}}}
        with self.assertRaises(ValueError):
            self.worker("dcm2nii", headers, added)
        added["dcm2nii"]["base"] = "../out"
        with self.assertRaises(ValueError):
            self.worker("dcm2nii", study_headers({"s1": "CT"}), added)

    def test_says_what_to_install(self):
        write_series(self.path("dicom/run/s1"), [numpy.zeros((8, 8))] * 2)
        path = os.environ["PATH"]
        os.environ["PATH"] = self.data
        try:
            with self.assertRaisesRegex(RuntimeError, "apt install dcm2niix"):
                self.convert(study_headers({"s1": "CT"}))
        finally:
            os.environ["PATH"] = path


class PreviewTests(Services):
    def preview(self, headers):
        added, _, _ = self.convert(headers)
        self.assertTrue(self.callback("preview", headers, added))
        result, _ = self.worker("preview", headers, added)
        pictures = []
        for file in result["files"]:
            with Image.open(self.path(file)) as picture:
                picture.load()
                pictures.append(picture)
        return pictures

    def test_declines_what_dcm2nii_declined(self):
        self.assertFalse(self.callback("preview", study_headers({"s1": "SR"}), {}))

    def test_an_axial_ct_looks_as_it_does_on_a_radiologists_screen(self):
        """Rows run from the patient's front to the back and columns to the patient's left, as a CT is stored."""
        pixels = numpy.full((512, 512), -1000)
        pixels[40:80, 40:80] = 1000  # In front, to the patient's right.
        pixels[400:440, 300:310] = 40  # Behind, a little to the left.
        write_series(self.path("dicom/run/s1"), [numpy.zeros((512, 512)), pixels, numpy.zeros((512, 512))])
        [picture] = self.preview(study_headers({"s1": "CT"}))
        expected = numpy.clip((pixels + 160) / 400 * 255, 0, 255).round()
        numpy.testing.assert_array_equal(numpy.asarray(picture), expected)

    def test_pictures_have_the_shape_of_the_body(self):
        write_series(self.path("dicom/run/s1"), [numpy.zeros((64, 64))] * 3, spacing=(2.0, 1.0))
        [picture] = self.preview(study_headers({"s1": "CT"}))
        self.assertEqual(picture.size, (256, 512))

    def test_a_stack_of_sagittal_slices_is_shown_as_such(self):
        pixels = numpy.zeros((512, 512))
        pixels[0:50, 0:50] = 500  # Above, in front.
        write_series(self.path("dicom/run/s1"), [pixels] * 5, modality="MR", plane=SAGITTAL)
        [picture] = self.preview(study_headers({"s1": "MR"}))
        shown = numpy.asarray(picture)
        self.assertEqual((shown[10, 10], shown[10, 500], shown[500, 10]), (255, 0, 0))

    def test_an_isotropic_volume_is_shown_axially_whatever_its_acquisition(self):
        pixels = numpy.zeros((64, 64))
        pixels[:, 0:16] = 500  # In front.
        write_series(self.path("dicom/run/s1"), [pixels] * 64, modality="MR", plane=SAGITTAL, gap=1.0)
        [picture] = self.preview(study_headers({"s1": "MR"}))
        shown = numpy.asarray(picture)
        self.assertEqual((shown[10, 10], shown[10, 500], shown[500, 250]), (255, 255, 0))

    def test_one_damaged_file_does_not_spoil_the_others(self):
        added = {"dcm2nii": {"base": "nifti/run"}, "preview": {"output": "preview/run"}}
        os.makedirs(self.path("nifti/run"))
        pathlib.Path(self.path("nifti/run/a.nii.gz")).write_bytes(b"nothing")
        with self.assertRaisesRegex(RuntimeError, "none of 1"):
            self.worker("preview", study_headers({}), added)
        nibabel.save(nibabel.Nifti1Image(numpy.zeros((8, 8, 8), "i2"), numpy.eye(4)), self.path("nifti/run/b.nii.gz"))
        result, output = self.worker("preview", study_headers({}), added)
        self.assertEqual(result["files"], ["preview/run/b.png"])
        self.assertIn("a.nii.gz: no preview", output)

    def test_renders_what_else_there_is(self):
        preview = load("module", "preview").main
        random = numpy.random.default_rng(1)
        colours = numpy.zeros((9, 9, 2), [("R", "u1"), ("G", "u1"), ("B", "u1")])
        colours["R"] = 255
        for values in (
            random.normal(size=(9, 9, 4, 5)), random.normal(size=(9, 9)), numpy.full((9, 9, 9), 7.0), numpy.full((9, 9, 9), numpy.nan),
            colours,
        ):
            picture, _ = preview.render(nibabel.Nifti1Image(values, numpy.eye(4), dtype=values.dtype), None)
            self.assertEqual(max(picture.size), 512)
        self.assertEqual(picture.getpixel((5, 5)), (255, 0, 0))

    def test_stays_below_data(self):
        with self.assertRaises(ValueError):
            self.worker("preview", study_headers({}), {"dcm2nii": {"base": "../x"}, "preview": {"output": "preview/run"}})


if __name__ == "__main__":
    unittest.main()
