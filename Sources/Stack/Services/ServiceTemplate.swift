package import Foundation

/// A first service that runs as it is: it counts the images of each series.
package struct ServiceTemplate: Sendable {
    package let name: String

    /// - Throws: ``StackError`` for a name that no service can have.
    package init(name: String) throws {
        try ServiceName.check(name)
        self.name = name
    }

    /// Paths relative to the service's folder, with their contents.
    package var files: [String: String] {
        [
            "README.md": readme,
            "registry/settings.json": settings,
            "registry/__init__.py": "from .main import callback\n",
            "registry/main.py": callback,
            "module/__init__.py": "from .main import worker\n",
            "module/main.py": worker,
            "module/requirements.txt": requirements,
            "tests/conftest.py": conftest,
            "tests/test_service.py": tests,
        ]
    }

    /// Makes the folder, which must not exist.
    package func write(to folder: URL) throws {
        guard !FileSystem.exists(folder) else {
            throw StackError(.refused, "\(folder.path) exists already: -p names another folder for the new service.")
        }
        for (path, text) in files.sorted(by: { $0.key < $1.key }) {
            let file = folder.appendingPathComponent(path)
            try FileSystem.makeFolder(file.deletingLastPathComponent(), mode: 0o755)
            try FileSystem.write(text, to: file, mode: 0o644)
        }
    }

    private var settings: String {
        """
        {
            "jobName": "\(name)",
            "worker": "\(name).worker",
            "callback": "\(name).callback",
            "dependsOn": [],
            "timeout": "10m",
            "params": {"minimum": 1},
            "description": "Counts the images of each series."
        }

        """
    }

    private var callback: String {
        """
        def callback(jobName, headers, params, added_params, **kwargs):
            \"\"\"Decides whether the job applies to this event. The images are not here yet: only their headers are.

            Returns False, or True and what the worker and later services are to know: added_params[jobName].
            \"\"\"
            series = headers["seriesIds"] if "seriesIds" in headers else [headers["seriesId"]]
            run = headers["dcmpath"].split("/")[-1]
            # Relative to DATA, and in a folder that is named by the run: no other run writes there. What is named as deleted goes when
            # the run is over, where systemcleaner is installed; without it, or without this key, results stay until somebody removes them.
            return len(series) >= params["minimum"], {"output": f"\(name)/{run}/count.json", "deleted": f"\(name)/{run}"}

        """
    }

    private var worker: String {
        """
        import json
        import os
        import pathlib


        def worker(jobName, headers, params, added_params, **kwargs):
            \"\"\"Does the job. What it prints is the job's log; an exception is a failure; what it returns stands on the job's page.\"\"\"
            data = pathlib.Path(os.environ["DATA"])
            counts = {}
            for image in sorted((data / headers["dcmpath"]).rglob("*.dcm")):
                # Folders and files are named by Orthanc's ids: nothing of the patient gets into paths or logs.
                counts[image.parent.name] = counts.get(image.parent.name, 0) + 1
            output = data / added_params[jobName]["output"]
            output.parent.mkdir(parents=True, exist_ok=True)
            # Under another name first: a second attempt, or a reader, never sees half a file.
            unfinished = output.with_suffix(".new")
            unfinished.write_text(json.dumps(counts))
            os.replace(unfinished, output)
            print(f"{sum(counts.values())} images in {len(counts)} series")
            return counts

        """
    }

    private var requirements: String {
        """
        # Packages of this service, one a line, with bounds: the worker builds an environment for it before the first job.
        # While there are only comments here, the service runs with what the worker's own Python has.
        #pydicom>=3.0.1,<4

        """
    }

    private var readme: String {
        """
        # \(name)

        Counts the images of each series. `registry/` decides whether the job applies to an event, `module/` does the work.

            python3 -m pytest tests                       # needs pytest: pip install pytest
            python3 CHECKOUT/services/run_tests.py FOLDER # the same in the environment of requirements.txt, with the SDK
            ./dcm service check \(name) -p FOLDER
            ./dcm service test \(name) STUDY -p FOLDER    # on a folder of DICOM files
            ./dcm service install \(name) -p FOLDER       # again with --replace after a change

        """
    }

    private var conftest: String {
        """
        \"\"\"Makes the two halves importable as router and workers see them: `import_half("registry")`, `import_half("module")`.\"\"\"

        import importlib.util
        import pathlib
        import sys

        import pytest

        FOLDER = pathlib.Path(__file__).resolve().parents[1]


        @pytest.fixture
        def import_half():
            def load(half):
                name = f"tested_{half}"
                spec = importlib.util.spec_from_file_location(
                    name, FOLDER / half / "__init__.py", submodule_search_locations=[str(FOLDER / half)])
                sys.modules[name] = module = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(module)
                return module

            yield load
            for name in [name for name in sys.modules if name.startswith("tested_")]:
                del sys.modules[name]


        @pytest.fixture
        def data(tmp_path, monkeypatch):
            \"\"\"An empty DATA.\"\"\"
            monkeypatch.setenv("DATA", str(tmp_path))
            return tmp_path

        """
    }

    private var tests: String {
        """
        import json
        import pathlib

        FOLDER = pathlib.Path(__file__).resolve().parents[1]
        SETTINGS = json.loads((FOLDER / "registry" / "settings.json").read_text())
        HEADERS = {"dcmpath": "dicom/run1", "seriesIds": ["series1", "series2"]}


        def ask(import_half, headers=HEADERS):
            return import_half("registry").callback(
                jobName=SETTINGS["jobName"], headers=headers, params=SETTINGS["params"], added_params={})


        def test_it_applies_to_studies_with_images(import_half):
            accepted, added = ask(import_half)
            assert accepted
            assert "run1" in added["output"]


        def test_it_declines_what_has_no_series(import_half):
            accepted, _ = ask(import_half, {"dcmpath": "dicom/run1", "seriesIds": []})
            assert not accepted


        def test_it_counts_the_images_of_each_series(import_half, data):
            for path in ("series1/a.dcm", "series1/b.dcm", "series2/c.dcm"):
                file = data / HEADERS["dcmpath"] / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(b"")
            name = SETTINGS["jobName"]
            _, added = ask(import_half)
            result = import_half("module").worker(
                jobName=name, headers=HEADERS, params=SETTINGS["params"], added_params={name: added})
            assert result == {"series1": 2, "series2": 1}
            assert json.loads((data / added["output"]).read_text()) == result

        """
    }
}
