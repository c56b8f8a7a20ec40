"""Services in the shapes that services of the Python project have, on the hosts of router and worker."""

import unittest

import host

REGISTRY = {
    "base/__init__.py": """
def dicomAnonymizer(jobName, headers, params, added_params, **kwargs):
    return True, {"deleted": [headers["dcmpath"]]} if params["clean"] else {}
def storageManager(jobName, headers, params, added_params, **kwargs):
    return True, {}
""",
    "temp/__init__.py": "from .main import callback\n",
    "temp/main.py": "def callback(jobName, headers, params, added_params, **kwargs): return True, {'some-data': 'text'}\n",
    "dcm2nii/__init__.py": """
import os
def callback(jobName, headers, params, added_params, **kwargs):
    if "seriesId" in headers:
        name = headers["seriesId"]
        return True, {"output": os.path.join("nifti", name + ".nii.gz"), "base": "nifti", "filename": name, "ext": ".nii.gz"}
    folder = os.path.join("nifti", headers["id"])
    return True, {"outputs": {name: {"nifti": {"path": os.path.join(folder, name + ".nii.gz")}} for name in headers["seriesIds"]}}
""",
    "ms-sub/__init__.py": "def callback(jobName, headers, params, added_params, **kwargs): return True, {}\n",
    "flags/main.py": """
def yes(**kwargs): return [True]
def pair(**kwargs): return (1, {"x": 1})
def listed(**kwargs): return [True, {"x": 2}]
def other(**kwargs): return (True, "no dict")
def no(**kwargs): return False, {"x": 3}
def nothing(**kwargs): pass
def empty(**kwargs): return []
def none(**kwargs): return [0]
def plain(jobName, headers, params, added_params): return params is None and sorted(added_params)
""",
}

MODULES = {
    # `base` is a namespace package: several services share the folder, and nothing in it says that it is a package.
    "base/DicomAnonymizerService/__init__.py": """
import os
from .anonymize import anonymize
PLACE = os.getenv("DATA", "/data")
def worker(jobName, headers, params, added_params, **kwargs):
    return anonymize(os.path.join(PLACE, headers["dcmpath"]))
""",
    "base/DicomAnonymizerService/anonymize.py": "from .rules import clean\ndef anonymize(path): return clean(path)\n",
    "base/DicomAnonymizerService/rules.py": "def clean(path): return path\n",
    "base/storageManager/__init__.py": "from .main import worker",
    "base/storageManager/main.py": """
from .entries import entries
from base.DicomAnonymizerService import rules
def worker(jobName, headers, params, added_params, **kwargs):
    return [rules.clean(entry) for entry in entries(added_params)]
""",
    "base/storageManager/entries.py": "def entries(added): return [more['storage'] for more in added.values() if 'storage' in more]\n",
    "ms-sub/__init__.py": """
import os
from .difference import read
FOLDER = os.path.dirname(os.path.realpath(__file__))
def worker(jobName, headers, params, added_params, **kwargs):
    return read(added_params.get("dcm2nii").get("output")), os.path.basename(FOLDER)
""",
    "ms-sub/difference.py": """
import os
PLACE = os.getenv("DATA")
def read(path):
    with open(os.path.join(PLACE, path)) as file:
        return file.read()
""",
    "strict/__init__.py": "def worker(jobName, headers, params, added_params): return jobName\n",
    "shell/__init__.py": """
import os
PLACE = os.getenv("DATA")
def worker(jobName, headers, params, added_params, **kwargs):
    os.system(f"mkdir -p {PLACE}/shell")
    return os.listdir(PLACE), os.environ.get("LOGS")
""",
    "helped/__init__.py": """
from dcm_processor_lib import get_logger
log = get_logger(__name__)
def worker(jobName, headers, params, added_params, **kwargs):
    log.warning("seen")
""",
    # What pip would put into the service's environment.
    "dcm_processor_lib/__init__.py": "from .logging import get_logger\n",
    "dcm_processor_lib/logging.py": """
import logging, os
def get_logger(name):
    found = logging.getLogger(name)
    found.addHandler(logging.FileHandler(os.path.join(os.environ["LOGS"], "day.log")))
    return found
""",
}


class CallbackShapes(unittest.TestCase):
    def ask(self, *calls, headers=None):
        """Returns each call's verdict: whether it accepts, and what it has added."""
        tree = host.Tree(REGISTRY)
        self.addCleanup(tree.remove)
        running = host.Host("callbacks", tree)
        self.addCleanup(running.close)
        running.channel.send({
            "type": "evaluate", "request": 1, "headers": headers or {}, "addedParams": {},
            "calls": [{"jobName": name, "entry": entry, "params": params} for name, entry, params in calls],
        })
        verdicts = [message for message in running.until("done") if message["type"] == "verdict"]
        self.assertEqual([verdict["error"] for verdict in verdicts], [None] * len(calls))
        return [(verdict["accepted"], verdict["added"]) for verdict in verdicts]

    def test_a_series_of_2021(self):
        answers = self.ask(
            ("temp", "temp.callback", {}), ("dcm2nii", "dcm2nii.callback", {}), ("ms-sub", "ms-sub.callback", {}),
            headers={"seriesId": "s1", "dcmpath": "dicom/run"})
        self.assertEqual(answers, [
            (True, {"some-data": "text"}),
            (True, {"output": "nifti/s1.nii.gz", "base": "nifti", "filename": "s1", "ext": ".nii.gz"}),
            (True, {}),
        ])

    def test_a_patient_of_2023(self):
        headers = {
            "id": "p", "tags": {}, "dcmpath": "dicom/run", "studyIds": ["t"], "seriesIds": ["s1"],
            "studies": [{"id": "t", "tags": {}, "series": [{"id": "s1", "tags": {"Modality": "CT"}}]}],
        }
        answers = self.ask(
            ("dicomAnonymizer", "base.dicomAnonymizer", {"clean": True}), ("dcm2nii", "dcm2nii.callback", {"clean": True}),
            ("storageManager", "base.storageManager", {"store_data": False}), headers=headers)
        self.assertEqual(answers, [
            (True, {"deleted": ["dicom/run"]}),
            (True, {"outputs": {"s1": {"nifti": {"path": "nifti/p/s1.nii.gz"}}}}),
            (True, {}),
        ])

    def test_every_way_to_answer(self):
        names = ["yes", "pair", "listed", "other", "no", "nothing", "empty", "none", "plain"]
        answers = dict(zip(names, self.ask(*((name, f"flags.main.{name}", None) for name in names))))
        self.assertEqual(answers, {
            "yes": (True, {}), "pair": (True, {"x": 1}), "listed": (True, {"x": 2}), "other": (True, {}), "no": (False, {}),
            "nothing": (False, {}), "empty": (False, {}), "none": (False, {}), "plain": (True, {}),
        })


class WorkerShapes(unittest.TestCase):
    def run_job(self, entry, job="j", **order):
        tree = host.Tree(MODULES)
        self.addCleanup(tree.remove)
        self.data, self.logs = tree.folder / "data", tree.folder / "logs"
        (self.data / "nifti").mkdir()
        (self.data / "nifti/s1.nii.gz").write_text("volume")
        places = {"DATA": str(self.data), "LOGS": str(self.logs), "MODULES": str(tree.root)}
        running = host.Host("jobs", tree, environment=places, service=entry.split(".")[0])
        self.addCleanup(running.close)
        exited = running.run(entry, job=job, headers={"seriesId": "s1", "dcmpath": "dicom/run"}, environment=places, **order)
        self.assertEqual(exited["ending"]["kind"], "result", exited["ending"])
        return exited["ending"]["value"]

    def test_a_folder_without_init_whose_services_import_their_siblings(self):
        self.assertEqual(self.run_job("base.DicomAnonymizerService.worker"), str(self.data / "dicom/run"))
        added = {"a": {"storage": {"type": "pdf"}}, "b": {}}
        self.assertEqual(self.run_job("base.storageManager.worker", addedParams=added), [{"type": "pdf"}])

    def test_a_name_with_a_dash_reads_what_dcm2nii_handed_on(self):
        handed = {"dcm2nii": {"output": "nifti/s1.nii.gz"}}
        self.assertEqual(self.run_job("ms-sub.worker", addedParams=handed), ["volume", "ms-sub"])

    def test_a_worker_without_further_arguments(self):
        self.assertEqual(self.run_job("strict.worker"), "name")

    def test_a_worker_that_uses_a_shell_and_the_environment(self):
        found, logs = self.run_job("shell.worker")
        self.assertIn("shell", found)
        self.assertEqual(logs, str(self.logs))

    def test_the_helper_package(self):
        self.run_job("helped.worker")
        self.assertEqual((self.logs / "day.log").read_text(), "seen\n")


if __name__ == "__main__":
    unittest.main()
