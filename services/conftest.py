"""Lets the tests of a service import it as workers and router do.

`import <service>` is services/<service>/module, `import registry_<service>` is services/<service>/registry, `import dcm_processor` the SDK.
"""

import importlib.machinery
import importlib.util
import pathlib
import sys

import pytest

SERVICES = pathlib.Path(__file__).resolve().parent

# Where each half of a service stands, by what the package's name begins with.
HALVES = (("registry_", "registry"), ("", "module"))


class _Services:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if path is not None:
            return None
        for prefix, half in HALVES:
            folder = SERVICES / name.removeprefix(prefix) / half
            if not name.startswith(prefix) or not folder.is_dir():
                continue
            if (folder / "__init__.py").is_file():
                return importlib.util.spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])
            spec = importlib.machinery.ModuleSpec(name, None)
            spec.submodule_search_locations = [str(folder)]
            return spec
        return None


# In front: with services/ as the current folder, the folder above would be taken for the package.
sys.meta_path.insert(0, _Services)
sys.path.append(str(SERVICES.parent / "python"))


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """An Orthanc of the tests' own."""
    import orthanc_for_tests

    made = orthanc_for_tests.Server(tmp_path_factory.mktemp("orthanc") / "server", {})
    yield made
    made.stop()


@pytest.fixture
def orthanc(server, monkeypatch):
    """The server, and a job's environment that names it."""
    import orthanc_for_tests

    for name, value in (("URL", server.url), ("USERNAME", orthanc_for_tests.USER), ("PASSWORD", orthanc_for_tests.PASSWORD)):
        monkeypatch.setenv(f"ORTHANC_REST_{name}", value)
    monkeypatch.setenv("ORTHANC_SERVER", "test")
    monkeypatch.delenv("ORTHANC_DEFUALT_STORE", raising=False)
    return server


@pytest.fixture
def data(tmp_path, monkeypatch):
    """An empty DATA, which is in the environment too."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("DATA", str(folder))
    return folder
