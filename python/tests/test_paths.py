import os
import pathlib
import sys
import tempfile
import unittest
from unittest import mock

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from dcm_processor.paths import UnsafePath, belongs_to_run, inside_data, relative_parts, run_folder, run_id, run_names

STUDY = {
    "id": "study-00000001",
    "dcmpath": "dicom/01M8RUN0001",
    "studies": [{"id": "study-00000001", "series": [{"id": "series-0000001"}]}],
    "studyIds": ["study-00000001"],
    "seriesIds": ["series-0000002"],
}
SERIES = {"seriesId": "series-0000001", "studyId": "study-00000001", "patientId": "patient-000001", "dcmpath": "dicom/01M8RUN0002"}


class InsideDataTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.outside = pathlib.Path(os.path.realpath(folder.name))
        self.data = self.outside / "data"
        self.data.mkdir()
        patch = mock.patch.dict(os.environ, {"DATA": str(self.data)})
        patch.start()
        self.addCleanup(patch.stop)

    def test_a_path_below_data_need_not_exist(self):
        self.assertEqual(inside_data("nifti/run/1.nii.gz"), self.data / "nifti/run/1.nii.gz")
        self.assertEqual(inside_data(pathlib.PurePath("a", "b")), self.data / "a/b")

    def test_an_absolute_path_below_data_is_taken_by_either_of_datas_names(self):
        self.assertEqual(inside_data(str(self.data / "a/b")), self.data / "a/b")
        link = self.outside / "link"
        link.symlink_to(self.data)
        with mock.patch.dict(os.environ, {"DATA": str(link)}):
            self.assertEqual(inside_data(f"{link}/a"), self.data / "a")
            self.assertEqual(inside_data(f"{self.data}/a"), self.data / "a")

    def test_what_leads_out_is_refused(self):
        (self.data / "out").symlink_to(self.outside)
        (self.data / "run").mkdir()
        (self.data / "run/file").symlink_to("/etc/hostname")
        (self.outside / "data-of-others").mkdir()
        for path in (
            "..", "../x", "a/../../x", "a/..", "/etc/hostname", f"{self.outside}/data-of-others/x", f"{self.data}/../x",
            "out/x", "out", "run/file", "", ".", "/", str(self.data), "a\0b",
        ):
            with self.subTest(path=path), self.assertRaises(UnsafePath):
                inside_data(path)

    def test_a_link_that_stays_inside_is_followed(self):
        (self.data / "run").mkdir()
        (self.data / "link").symlink_to("run")
        self.assertEqual(inside_data("link/x"), self.data / "run/x")
        self.assertEqual(relative_parts("link/x"), ("link", "x"))

    def test_without_data_nothing_is_below_it(self):
        with mock.patch.dict(os.environ), self.assertRaises(UnsafePath):
            del os.environ["DATA"]
            inside_data("x")

    def test_another_folder_can_be_meant(self):
        self.assertEqual(inside_data("x", data=self.outside), self.outside / "x")
        with self.assertRaises(UnsafePath):
            inside_data("/data/x", data=self.outside)


class RunTest(unittest.TestCase):
    def test_a_runs_folder_is_named_by_the_run(self):
        self.assertEqual(run_id(STUDY), "01M8RUN0001")
        self.assertEqual(run_folder("nifti", STUDY), "nifti/01M8RUN0001")
        self.assertEqual(run_folder("report/pages", STUDY), "report/pages/01M8RUN0001")

    def test_names_that_lead_elsewhere_are_refused(self):
        for name in ("", "..", "a/../b", "/a", "a//b", ".work", "a b"):
            with self.subTest(name=name), self.assertRaises(UnsafePath):
                run_folder(name, STUDY)
        for path in (None, "", "dicom/..", "dicom/.", 5, "dicom/a b"):
            with self.subTest(dcmpath=path), self.assertRaises(UnsafePath):
                run_id({"dcmpath": path})

    def test_a_run_has_the_names_of_what_it_is_about_and_of_what_is_in_that(self):
        self.assertEqual(run_names(STUDY), {"01M8RUN0001", "study-00000001", "series-0000001", "series-0000002"})
        # The study and the patient may have other runs at the same time.
        self.assertEqual(run_names(SERIES), {"01M8RUN0002", "series-0000001"})

    def test_what_is_named_by_a_run_belongs_to_it(self):
        for path in ("nifti/01M8RUN0001", "nifti/01M8RUN0001/1.nii.gz", "nifti/series-0000001.nii.gz", "x/01M8RUN0001-2/y", "study-00000001"):
            with self.subTest(path=path):
                self.assertTrue(belongs_to_run(path, STUDY))
        for path in ("nifti", "dicom", "nifti/01M8RUN00012", "nifti/01M8RUN0002", "nifti/series-00000019.nii.gz", "x01M8RUN0001"):
            with self.subTest(path=path):
                self.assertFalse(belongs_to_run(path, STUDY))


if __name__ == "__main__":
    unittest.main()
