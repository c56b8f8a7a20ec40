import os
import shutil

import pytest
from orthanc_for_tests import Server, free_port
from storing import RUN, Sink, Study, volume_images

NEEDED = ("Orthanc", "dcmdump", "dciodvfy", "storescp", "dcm2niix")


@pytest.fixture(scope="session")
def sinks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sinks")
    made = {"archive": Sink(folder / "archive"), "refuser": Sink(folder / "refuser", "--refuse")}
    yield made
    for sink in made.values():
        sink.stop()


@pytest.fixture(scope="session")
def server(tmp_path_factory, sinks):
    missing = [program for program in NEEDED if not shutil.which(program) and not os.path.exists(f"/usr/sbin/{program}")]
    assert not missing, f"install what provides {missing}: apt-get install orthanc dcmtk dicom3tools dcm2niix"
    modalities = {name: [name.upper(), "127.0.0.1", sink.port] for name, sink in sinks.items()}
    modalities["nobody"] = ["NOBODY", "127.0.0.1", free_port()]
    made = Server(tmp_path_factory.mktemp("orthanc") / "server", {"DicomModalities": modalities})
    yield made
    made.stop()


@pytest.fixture
def new_study(orthanc, data):
    """Makes a study; without images a CT of five slices."""
    def make(images=None, **options):
        return Study(orthanc, data, images or volume_images(), **options)

    return make


@pytest.fixture
def study(new_study):
    return new_study()


@pytest.fixture
def out(data):
    folder = data / "results" / RUN
    folder.mkdir(parents=True)
    return folder
