"""The sample services, run as the hosts run them, on images written for the test.

    python3 -m unittest discover -s Tests/SampleServices
"""

import contextlib
import gzip
import importlib
import io
import json
import os
import pathlib
import shutil
import sys
import tempfile
import tracemalloc
import unittest
from unittest import mock

import nibabel
import numpy
import pydicom
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage, EncapsulatedPDFStorage, ExplicitVRLittleEndian, MRImageStorage, SecondaryCaptureImageStorage, generate_uid,
)

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "python"))

from dcm_processor.paths import belongs_to_run  # noqa: E402

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
        image.ImageComments, image.InstitutionName, image.AccessionNumber = "Secret comment", "Secret Hospital", "ACC4711"
        image.PixelData = pixels.astype("<i2").tobytes()
        image.save_as(os.path.join(folder, f"{number}.dcm"), write_like_original=False)


def change(path, **values):
    """Sets attributes of a DICOM file; None removes one."""
    image = pydicom.dcmread(path)
    for keyword, value in values.items():
        if value is None:
            delattr(image, keyword)
        else:
            setattr(image, keyword, value)
    if "SOPClassUID" in values:
        image.file_meta.MediaStorageSOPClassUID = values["SOPClassUID"]
    image.save_as(path)


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
            handed = added["dcm2nii"]
            self.assertEqual(handed["output"], "nifti/run/s1/s1.nii.gz")
            # The three from which its dependants may put the path together.
            self.assertEqual(f"{handed['base']}/{handed['filename']}{handed['ext']}", handed["output"])
            self.assertEqual(handed["outputs"]["s1"]["nifti"]["path"], handed["output"])
            self.assertEqual(handed["outputs"]["s1"]["json"]["path"], "nifti/run/s1/s1.json")

    def test_names_the_folder_of_several_and_the_file_of_each(self):
        added = {}
        self.assertTrue(self.callback("dcm2nii", study_headers({"s1": "CT", "s2": "SR", "s3": None}), added))
        handed = added["dcm2nii"]
        self.assertEqual(handed["output"], "nifti/run")
        self.assertEqual([places["nifti"]["path"] for places in handed["outputs"].values()], [
            "nifti/run/s1/s1.nii.gz", "nifti/run/s3/s3.nii.gz",
        ])
        self.assertEqual(handed["skipped"], {"s2": "modality SR holds no volume"})

    def test_says_what_to_store_and_to_delete_as_asked(self):
        def handed(**params):
            _, added = load("registry", "dcm2nii").callback(
                jobName="dcm2nii", headers=study_headers({"s1": "CT"}), params=params, added_params={})
            return added

        self.assertEqual(handed()["deleted"], "nifti/run")
        self.assertNotIn("storage", handed())
        self.assertNotIn("deleted", handed(clean=False))
        [entry] = handed(store=True)["storage"]
        self.assertEqual((entry["type"], entry["path"], entry["seriesId"]), ("nifti", "nifti/run/s1/s1.nii.gz", "s1"))

    def test_declines_what_holds_no_images(self):
        with contextlib.redirect_stdout(io.StringIO()):
            self.assertFalse(self.callback("dcm2nii", study_headers({"s1": "SR", "s2": "PR"}), {}))
            self.assertFalse(self.callback("dcm2nii", {"seriesId": "s", "Modality": "KO", "dcmpath": "dicom/run"}, {}))

    def test_refuses_a_path_without_a_folder(self):
        for path in ("", "/", "..", "dicom/.."):
            with self.assertRaises(ValueError):
                self.callback("dcm2nii", study_headers({"s": "CT"}, path), {})


class HandedOnTests(Services):
    def test_storage_and_cleaning_take_every_path(self):
        """They refuse paths that do not name the run; entries of storageManager have known keys only."""
        for headers in (
            study_headers({"s1": "CT", "s2": "MR"}, "dicom/01M8RUNOFTHISTEST"),
            {"seriesId": "s1", "studyId": "t", "patientId": "p", "dcmpath": "dicom/01M8RUNOFTHISTEST", "Modality": "CT"},
        ):
            added = {}
            for service in ("dicomAnonymizer", "dcm2nii", "preview"):
                params = {**(self.settings(service)["params"] or {}), "store": True}
                accepted, added[service] = load("registry", service).callback(
                    jobName=service, headers=headers, params=params, added_params=added)
                self.assertTrue(accepted)
            paths = []
            for handed in added.values():
                deleted, storage = handed["deleted"], handed["storage"]
                paths += deleted if isinstance(deleted, list) else [deleted]
                for entry in storage if isinstance(storage, list) else [storage]:
                    self.assertLessEqual(set(entry), {"type", "path", "seriesId", "studyId", "description", "destination", "optional", "result"})
                    paths.append(entry["path"])
            self.assertGreaterEqual(len(paths), 6)
            self.assertEqual([path for path in paths if not belongs_to_run(path, headers)], [])


class ConversionTests(Services):
    def series(self, result):
        return {entry["id"]: entry for entry in result["series"]}

    def test_converts_every_series_and_says_what_became_of_each(self):
        headers = study_headers({"s1": "CT", "s2": "CT", "s3": "CT", "s4": "CT", "s5": "SR", "s6": "OT", "s7": "OT"})
        for series in ("s1", "s2", "s6", "s7"):
            write_series(self.path(f"dicom/run/{series}"), [numpy.full((8, 8), number) for number in range(4)])
        os.makedirs(self.path("dicom/run/s3"))
        pathlib.Path(self.path("dicom/run/s3/0.dcm")).write_bytes(b"nothing")
        for number in range(4):
            change(self.path(f"dicom/run/s6/{number}.dcm"), SOPClassUID=SecondaryCaptureImageStorage, ImageOrientationPatient=None)
            change(self.path(f"dicom/run/s7/{number}.dcm"), SOPClassUID=EncapsulatedPDFStorage, Rows=None, Columns=None, PixelData=None)
        added, result, output = self.convert(headers)
        self.assertEqual(result["files"], ["nifti/run/s1/s1.nii.gz", "nifti/run/s2/s2.nii.gz"])
        self.assertEqual({id: (entry["state"], entry["reason"]) for id, entry in self.series(result).items()}, {
            "s1": ("converted", ""), "s2": ("converted", ""),
            "s3": ("failed", "none of its 1 files can be read as DICOM"),
            "s4": ("failed", "its images are not there; run the job export again"),
            "s5": ("skipped", "modality SR holds no volume"),
            "s6": ("skipped", "no place in the patient (Secondary Capture Image Storage)"),
            "s7": ("skipped", "no image (Encapsulated PDF Storage)"),
        })
        self.assertIn("2 of 7 series converted, 3 skipped, 2 failed", output)
        self.assertEqual(nibabel.load(self.path("nifti/run/s1/s1.nii.gz")).shape, (8, 8, 4))
        # Header text neither names files nor reaches a shell.
        self.assertEqual(sorted(os.listdir(self.path("nifti/run"))), ["s1", "s2"])
        self.assertEqual(sorted(os.listdir(self.path("nifti/run/s1"))), ["s1.json", "s1.nii.gz"])
        again, _ = self.worker("dcm2nii", headers, added)
        self.assertEqual(again, result)
        self.assertEqual(sorted(os.listdir(self.path("nifti/run"))), ["s1", "s2"])

    def test_says_nothing_about_the_patient(self):
        write_series(self.path("dicom/run/s1"), [numpy.full((8, 8), number) for number in range(4)])
        for number in range(4):
            path = pathlib.Path(self.path(f"dicom/run/s1/{number}.dcm"))
            change(path, SeriesDescription="Head of Secret", ProtocolName="T1", StudyDate="20200101", PatientAge="030Y")
            # No date, no age and no UID, of which pydicom would say so and quote them.
            content = path.read_bytes()
            for good, bad in ((b"20200101", b"Secret 1"), (b"030Y", b"Secr"), (b"ISO_IR", b"Secret")):
                content = content.replace(good, bad)
            path.write_bytes(content)
        _, _, output = self.convert(study_headers({"s1": "CT"}))
        sidecar = pathlib.Path(self.path("nifti/run/s1/s1.json")).read_text()
        with open(self.path("nifti/run/s1/s1.nii.gz"), "rb") as file:
            header = gzip.decompress(file.read())[:352]
        for text in ("Secret", "Secr", "ACC4711", "$(touch"):
            self.assertNotIn(text, output)
            self.assertNotIn(text, sidecar)
            self.assertNotIn(text.encode(), header)
        self.assertEqual(json.loads(sidecar)["ProtocolName"], "T1")
        self.assertEqual(nibabel.load(self.path("nifti/run/s1/s1.nii.gz")).get_fdata()[0, 0].tolist(), [0, 1, 2, 3])

    def test_a_quoted_header_does_not_reach_the_log(self):
        """A dcm2niix that prints what it has read."""
        write_series(self.path("dicom/run/s1"), [numpy.zeros((8, 8))] * 2)
        program = pathlib.Path(self.data, "bin/dcm2niix")
        program.parent.mkdir()
        program.write_text("#!/bin/sh\necho 'Warning: SECRET^name of Secret Hospital'\necho 'Patient Mr. Secret'\n"
                           "echo 'Error: no idea what Name is' >&2\nexit 3\n")
        program.chmod(0o755)
        with mock.patch.dict(os.environ, PATH=f"{program.parent}:{os.environ['PATH']}"):
            with self.assertRaisesRegex(RuntimeError, r"1 failed: s1: dcm2niix made no NIfTI: Error: no idea what \[\.\.\.\] is$"):
                self.convert(study_headers({"s1": "CT"}))

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
        self.assertEqual(result["files"][0], added["dcm2nii"]["output"])
        self.assertTrue(all(os.path.isfile(self.path(file)) for file in result["files"]))

    def test_echoes_keep_their_names_beside_the_promised_one(self):
        write_series(self.path("dicom/run/s1"), [numpy.full((8, 8), number) for number in range(8)], modality="MR")
        for number in range(8):
            change(self.path(f"dicom/run/s1/{number}.dcm"), SOPClassUID=MRImageStorage, EchoTime=10 + number // 4 * 10,
                   EchoNumbers=1 + number // 4, ImagePositionPatient=[0, 0, 2.0 * (number % 4)], Manufacturer="SIEMENS")
        added, result, _ = self.convert(study_headers({"s1": "MR"}))
        [entry] = result["series"]
        self.assertEqual([file["path"] for file in entry["files"]], [added["dcm2nii"]["output"], "nifti/run/s1/s1_e2.nii.gz"])
        self.assertEqual([file["kind"] for file in entry["files"]], ["_e1", "_e2"])
        self.assertEqual(sorted(os.listdir(self.path("nifti/run/s1"))), ["s1.json", "s1.nii.gz", "s1_e2.json", "s1_e2.nii.gz"])

    def test_fails_with_what_the_tool_said_when_nothing_came_out(self):
        os.makedirs(self.path("dicom/run/s1"))
        pathlib.Path(self.path("dicom/run/s1/0.dcm")).write_bytes(b"nothing")
        with self.assertRaisesRegex(RuntimeError, "0 of 1 series converted, 0 skipped, 1 failed: s1: none of its 1 files"):
            self.convert(study_headers({"s1": "CT"}))
        self.assertFalse(os.path.exists(self.path("nifti")))

    def test_one_failed_series_fails_the_job_when_that_is_asked_for(self):
        write_series(self.path("dicom/run/s1"), [numpy.zeros((8, 8))] * 3)
        headers = study_headers({"s1": "CT", "s2": "CT"})
        added = {}
        self.callback("dcm2nii", headers, added)
        with contextlib.redirect_stdout(io.StringIO()), self.assertRaisesRegex(RuntimeError, "1 of 2 series .* s2: "):
            load("module", "dcm2nii").worker(jobName="dcm2nii", headers=headers, params={"strict": True}, added_params=added)

    def test_nothing_to_convert_is_no_failure(self):
        write_series(self.path("dicom/run/s1"), [numpy.zeros((8, 8))])
        change(self.path("dicom/run/s1/0.dcm"), SOPClassUID=SecondaryCaptureImageStorage, ImageOrientationPatient=None)
        headers = study_headers({"s1": "OT"})
        added, result, _ = self.convert(headers)
        self.assertEqual((result["files"], result["series"][0]["state"]), ([], "skipped"))
        self.assertTrue(self.callback("preview", headers, added))
        self.assertEqual(self.worker("preview", headers, added)[0], {"files": []})

    def test_what_a_killed_attempt_left_is_removed(self):
        write_series(self.path("dicom/run/s1"), [numpy.zeros((8, 8))] * 3)
        os.makedirs(self.path("nifti/run/.s1.left/made"))
        os.makedirs(self.path("nifti/run/s1"))
        pathlib.Path(self.path("nifti/run/s1/old.nii.gz")).write_bytes(b"")
        self.convert(study_headers({"s1": "CT"}))
        self.assertEqual(os.listdir(self.path("nifti/run")), ["s1"])
        self.assertEqual(sorted(os.listdir(self.path("nifti/run/s1"))), ["s1.json", "s1.nii.gz"])

    def test_what_an_attempt_before_has_made_is_not_taken_for_this_ones(self):
        write_series(self.path("dicom/run/s1"), [numpy.zeros((8, 8))] * 3)
        headers = study_headers({"s1": "CT"})
        added, _, _ = self.convert(headers)
        program = pathlib.Path(self.data, "bin/dcm2niix")
        program.parent.mkdir()
        program.write_text("#!/bin/sh\nwhile [ $# -gt 2 ]; do [ \"$1\" = -o ] && : > \"$2/s1.nii.gz\"; shift; done\nkill -9 $$\n")
        program.chmod(0o755)
        with mock.patch.dict(os.environ, PATH=f"{program.parent}:{os.environ['PATH']}"):
            with self.assertRaisesRegex(RuntimeError, "s1: dcm2niix was ended by signal 9"):
                self.worker("dcm2nii", headers, added)
        self.assertEqual(os.listdir(self.path("nifti/run")), [])

    def test_a_truncated_file_is_noticed(self):
        load("module", "dcm2nii")
        nifti = sys.modules["dcm2nii.nifti"]
        path = self.path("x.nii.gz")
        nibabel.save(nibabel.Nifti1Image(numpy.zeros((8, 8, 8), "i2"), numpy.eye(4)), path)
        nifti.check(path)
        with gzip.open(path) as file:
            content = file.read()
        with gzip.open(path, "wb") as file:
            file.write(content[:-1])
        with self.assertRaisesRegex(nifti.Damaged, "x.nii.gz is incomplete"):
            nifti.check(path)
        pathlib.Path(path).write_bytes(b"\x1f\x8b")
        with self.assertRaisesRegex(nifti.Damaged, "x.nii.gz is damaged"):
            nifti.check(path)

    def test_stays_below_data(self):
        added = {}
        self.callback("dcm2nii", study_headers({"s1": "CT"}), added)
        with self.assertRaises(ValueError):
            self.worker("dcm2nii", study_headers({"s1": "CT"}, "../../etc"), added)
        added["dcm2nii"]["outputs"]["s1"]["nifti"]["base"] = "../out"
        with self.assertRaises(ValueError):
            self.worker("dcm2nii", study_headers({"s1": "CT"}), added)

    def test_says_what_to_install(self):
        write_series(self.path("dicom/run/s1"), [numpy.zeros((8, 8))] * 2)
        with mock.patch.dict(os.environ, PATH=self.data):
            with self.assertRaisesRegex(RuntimeError, "apt install dcm2niix"):
                self.convert(study_headers({"s1": "CT"}))


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
        headers = study_headers({"s1": "CT", "s2": "CT"})
        added = {}
        self.callback("dcm2nii", headers, added)
        self.callback("preview", headers, added)
        for series in ("s1", "s2"):
            os.makedirs(self.path(f"nifti/run/{series}"))
        pathlib.Path(self.path("nifti/run/s1/s1.nii.gz")).write_bytes(b"nothing")
        with self.assertRaisesRegex(RuntimeError, "none of 1"):
            self.worker("preview", headers, added)
        for name in ("s2", "s2_e2"):
            nibabel.save(nibabel.Nifti1Image(numpy.zeros((8, 8, 8), "i2"), numpy.eye(4)), self.path(f"nifti/run/s2/{name}.nii.gz"))
        result, output = self.worker("preview", headers, added)
        self.assertEqual(result["files"], ["preview/run/s2/s2.png", "preview/run/s2/s2_e2.png"])
        self.assertIn("s1.nii.gz: no preview", output)
        # What storageManager looks for: a folder for each series, and in it pictures alone.
        self.assertEqual([entry["path"] for entry in added["preview"]["storage"]], ["preview/run/s1", "preview/run/s2"])
        self.assertEqual(sorted(os.listdir(self.path("preview/run/s2"))), ["s2.png", "s2_e2.png"])
        # Once more, and a volume is gone: so is its picture, which would be stored.
        os.remove(self.path("nifti/run/s2/s2_e2.nii.gz"))
        self.worker("preview", headers, added)
        self.assertEqual(sorted(os.listdir(self.path("preview/run/s2"))), ["s2.png"])

    def test_shows_what_another_dcm2nii_has_made(self):
        """One that hands over a single file in a folder that all runs share."""
        headers = {"seriesId": "s1", "dcmpath": "dicom/run", "Modality": "MR"}
        added = {"dcm2nii": {"output": "nifti/s1.nii.gz", "base": "nifti", "filename": "s1", "ext": ".nii.gz"}}
        self.assertTrue(self.callback("preview", headers, added))
        os.makedirs(self.path("nifti"))
        for name in ("s1", "other"):
            nibabel.save(nibabel.Nifti1Image(numpy.zeros((8, 8, 8), "i2"), numpy.eye(4)), self.path(f"nifti/{name}.nii.gz"))
        result, _ = self.worker("preview", headers, added)
        self.assertEqual(result["files"], ["preview/run/s1/s1.png"])

    def test_of_a_series_over_time_one_volume_is_in_memory(self):
        preview = load("module", "preview").main
        os.makedirs(self.path("nifti"))
        path = self.path("nifti/times.nii.gz")
        image = nibabel.Nifti1Image(numpy.zeros((64, 64, 16, 60), "i2"), numpy.eye(4))
        image.header.set_slope_inter(0.5, 1)
        nibabel.save(image, path)
        tracemalloc.start()
        try:
            preview.render(nibabel.load(path), "MR")
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        self.assertLess(peak, 64 * 64 * 16 * 60 * 2)

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
            self.worker("preview", study_headers({}), {
                "dcm2nii": {"base": "../x", "filename": "s1"}, "preview": {"output": "preview/run"},
            })


if __name__ == "__main__":
    unittest.main()
