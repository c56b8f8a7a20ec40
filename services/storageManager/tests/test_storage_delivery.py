"""Where results go, and where they must not: the right study, once, and never a success that is none."""

import copy
import http.client
import json
import logging
import threading

import numpy
import pydicom
import pytest
from orthanc_for_tests import Server
from PIL import Image
from pydicom.uid import ImplicitVRLittleEndian, generate_uid
from storing import RUN, Study, check, entry, store, stored, volume_images

import registry_storageManager
import storageManager
from storageManager import delivery, main
from storageManager.errors import StorageError
from storageManager.orthanc import Modalities, Orthanc


@pytest.fixture
def study(new_study):
    """Small: most of what is tested here has nothing to do with its images."""
    return new_study(volume_images(shape=(4, 4, 1)))


@pytest.fixture
def stack(new_study):
    return new_study()


def picture(folder, name="a.png", grey=9):
    Image.new("L", (4, 4), grey).save(folder / name)


def instances(server):
    return set(server.get("/instances"))


# MARK: Idempotence


def test_a_retry_makes_the_same_objects_and_no_second_copy(study, orthanc, out):
    picture(out)
    (out / "r.json").write_text('{"a": 1}')
    entries = [entry("png", "a.png"), entry("json", "r.json")]
    first = store(study, *entries)
    there = instances(orthanc)
    changes = orthanc.get("/changes?last")["Last"]
    second = store(study, *entries)
    assert (first["new"], second["new"]) == (2, 0) and first["series"] == second["series"]
    assert instances(orthanc) == there and orthanc.get("/changes?last")["Last"] == changes


def test_every_object_is_the_same_to_the_last_byte(stack, orthanc, out, tmp_path):
    import nibabel

    picture(out)
    labels = numpy.zeros((16, 12, 5), dtype=numpy.uint8)
    labels[2:5, 2:5, 1:3] = 1
    nibabel.save(nibabel.Nifti1Image(labels, numpy.diag([-0.5, -0.75, 2.0, 1.0])), out / "l.nii.gz")
    (out / "r.json").write_text('{"a": 1}')
    (out / "r.pdf").write_bytes(b"%PDF-1.4\n%%EOF\n")
    entries = [
        entry("png", "a.png"), entry("nifti", "l.nii.gz"), entry("nifti", "l.nii.gz", segmentation={}), entry("json", "r.json"),
        entry("pdf", "r.pdf"),
    ]
    found = main.entries.read({"maker": {"storage": entries}}, stack.headers, {}, "storageManager", logging.getLogger())
    made = []
    for time in ("first", "second"):
        folder = tmp_path / time
        folder.mkdir()
        run = main.Run(stack.headers, Orthanc.of_this_run())
        made.append([
            one.path.read_bytes() for position, given in enumerate(found) for one in main.make(run, RUN, position, given, folder)
        ])
    assert made[0] == made[1] and len(made[0]) == 9
    # Another run makes other objects.
    other = main.make(run, "another-run", 0, found[0], tmp_path)
    assert other[0].uid != str(pydicom.dcmread(pydicom.filebase.DicomBytesIO(made[0][0])).SOPInstanceUID)


def test_an_interrupted_attempt_is_finished_by_the_next(study, orthanc, out, monkeypatch):
    for number in range(3):
        picture(out, f"{number}.png", number)
    given = {"type": "png", "path": f"results/{RUN}"}
    upload, count = Orthanc.store, iter(range(10))

    def failing(self, file):
        if next(count) == 1:
            raise StorageError("Orthanc is gone")
        return upload(self, file)

    monkeypatch.setattr(Orthanc, "store", failing)
    with pytest.raises(StorageError, match="gone"):
        store(study, given)
    result = store(study, given)
    assert result["instances"] == 3 and result["new"] == 2
    assert len(stored(orthanc, result)) == 3


@pytest.fixture(scope="module")
def overwriting(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("overwriting") / "server", {"OverwriteInstances": True, "StoreMD5ForAttachments": False})
    yield server
    server.stop()


def test_an_orthanc_that_overwrites_has_no_news_on_a_retry(overwriting, orthanc, data, out, monkeypatch):
    monkeypatch.setenv("ORTHANC_REST_URL", overwriting.url)
    study = Study(overwriting, data, volume_images(shape=(4, 4, 1)))
    picture(out)
    result = store(study, entry("png", "a.png"))
    assert result["new"] == 1
    changes = overwriting.get("/changes?last")["Last"]
    assert store(study, entry("png", "a.png"))["new"] == 0
    assert overwriting.get("/changes?last")["Last"] == changes


def test_results_go_to_the_server_that_the_images_came_from(overwriting, study, orthanc, data, out, monkeypatch):
    """The worker says in the job's environment which one that is; the other one has the same study."""
    picture(out)
    Study(overwriting, data, study.images)
    before = instances(overwriting)
    result = store(study, entry("png", "a.png"))
    assert orthanc.exists(f"/series/{result['series'][0]}") and instances(overwriting) == before
    monkeypatch.setenv("ORTHANC_REST_URL", "")
    with pytest.raises(StorageError, match="knows no address of the Orthanc server 'test'; give it the same ORTHANC_URLS"):
        store(study, entry("png", "a.png"))


# MARK: Entries


@pytest.mark.parametrize(("given", "text"), [
    ({"type": "pdf"}, "job maker, entry 1: 'path' is NoneType"),
    ({"type": "video", "path": f"results/{RUN}/a.png"}, "type 'video' cannot be stored"),
    ("results/a.pdf", "'storage' holds str"),
    ({"type": "png", "path": f"results/{RUN}/b.png"}, r"job maker, entry 1 \(png 'results/.*/b.png'\): there is no file that ends in .png"),
    ({"type": "png", "path": f"results/{RUN}/empty"}, "there is no file"),
    ({"type": "png", "path": f"results/{RUN}/../x.png"}, "has '..' in it"),
    ({"type": "png", "path": "/etc/hostname"}, "absolute and not below DATA"),
    ({"type": "png", "path": f"results/{RUN}/out.png"}, "leads out of DATA through a symbolic link"),
    ({"type": "png", "path": f"results/{RUN}/linked"}, "leads out of DATA through a symbolic link"),
    ({"type": "png", "path": "shared/a.png"}, "nothing in the path 'shared/a.png' says that it is of this run"),
    ({"type": "png", "path": f"results/{RUN}/others.png"}, "nothing in the path 'shared/a.png' says that it is of this run"),
    ({"type": "png", "path": f"results/{RUN}/others"}, "nothing in the path 'shared/a.png' says that it is of this run"),
    ({"type": "png", "path": f"results/{RUN}/text.png"}, "is not a whole PNG or JPEG"),
    ({"type": "pdf", "path": f"results/{RUN}/text.pdf"}, "is not a PDF"),
    ({"type": "json", "path": f"results/{RUN}/text.json"}, "is not JSON"),
    ({"type": "dicom", "path": f"results/{RUN}/text.pdf"}, "is not a DICOM file"),
    ({"type": "png", "path": f"results/{RUN}/a.png", "tags": {"PatientID": "X"}}, "'tags' has 'PatientID', which says what the object is"),
    ({"type": "png", "path": f"results/{RUN}/a.png", "tags": {"Rowz": 1}}, "no keyword of DICOM"),
    ({"type": "png", "path": f"results/{RUN}/a.png", "tags": {"SeriesDate": "yesterday"}}, r"not of its type \(DA\)"),
    ({"type": "png", "path": f"results/{RUN}/a.png", "destination": "pac"},
     "'pac' is no modality of this Orthanc .it knows: archive, nobody, refuser"),
    ({"type": "png", "path": f"results/{RUN}/a.png", "seriesId": "../patients"}, "not an id of Orthanc"),
    ({"type": "png", "path": f"results/{RUN}/a.png", "optional": "yes"}, "'optional' is str"),
])
def test_what_is_wrong_is_said_and_nothing_is_stored(given, text, study, orthanc, data, out):
    picture(out)
    (out / "empty").mkdir()
    for name in ("text.png", "text.pdf", "text.json"):
        (out / name).write_text("Müller^Zoë is no picture")
    (data / "shared").mkdir()
    picture(data / "shared")
    secret = data.parent / "secret"
    secret.mkdir()
    picture(secret)
    (out / "out.png").symlink_to(secret / "a.png")
    (out / "others.png").symlink_to(data / "shared/a.png")
    (out / "others").mkdir()
    (out / "others/a.png").symlink_to(data / "shared/a.png")
    (out / "linked").mkdir()
    (out / "linked/a.png").symlink_to(secret / "a.png")
    there = instances(orthanc)
    with pytest.raises(StorageError, match=text) as error:
        storageManager.worker(
            jobName="storageManager", headers=study.headers, params={},
            added_params={"another": {"storage": entry("png", "a.png")}, "maker": {"storage": [given]}})
    assert instances(orthanc) == there
    for name in ("Müller", "TEST-1", "19700101"):
        assert name not in str(error.value)


def test_optional_results_may_be_missing_and_others_not(study, orthanc, out):
    assert store(study, entry("png", "b.png", optional=True)) == {"entries": 0, "instances": 0}
    picture(out)
    assert store(study, entry("png", "b.png", optional=True), entry("png", "a.png"))["instances"] == 1


def test_shared_paths_can_be_allowed(study, orthanc, data):
    (data / "shared").mkdir()
    picture(data / "shared")
    assert store(study, {"type": "png", "path": "shared/a.png"}, params={"allowShared": True})["instances"] == 1


def test_the_callback_accepts_what_hands_something_on():
    def asked(added):
        return registry_storageManager.callback(jobName="storageManager", headers={}, params={}, added_params=added)

    assert not asked({}) and not asked({"a": {}}) and not asked({"a": {"storage": []}})
    assert asked({"a": {}, "b": {"storage": {"type": "pdf"}}})
    # A mistake is not for the callback to overlook.
    assert asked({"a": {"storage": "x.pdf"}})


# MARK: Whose it is


def test_upstreams_paths_and_series_events_work(new_study, orthanc, data):
    study = new_study(level="series")
    (data / "nifti").mkdir()
    picture(data / "nifti", f"{study.series[0]}.png")
    (made,) = stored(orthanc, store(study, {"type": "png", "path": f"nifti/{study.series[0]}.png", "seriesId": study.series[0]}))
    assert made.StudyInstanceUID == study.first.StudyInstanceUID


def test_patient_and_study_are_read_from_orthanc_not_from_the_runs_folder(study, orthanc, out, tmp_path):
    for file in study.files.values():
        image = pydicom.dcmread(file)
        image.PatientID, image.PatientName, image.StudyInstanceUID = "PSEUDO", "Pseudo", generate_uid()
        image.save_as(file)
    picture(out)
    (made,) = stored(orthanc, store(study, entry("png", "a.png")))
    check(made, study, tmp_path)


def test_a_run_of_a_patient_asks_which_study(orthanc, data, out):
    first, second = volume_images(shape=(4, 4, 1)), volume_images(shape=(4, 4, 1))
    one, two = Study(orthanc, data, first, level="patient"), Study(orthanc, data, second, level="patient")
    one.headers["studies"] += two.headers["studies"]
    picture(out)
    with pytest.raises(StorageError, match="the run has 2 studies; say with 'seriesId' or 'studyId'"):
        store(one, entry("png", "a.png"))
    (made,) = stored(orthanc, store(one, entry("png", "a.png", seriesId=two.series[0])))
    assert made.StudyInstanceUID == second[0].StudyInstanceUID
    (made,) = stored(orthanc, store(one, entry("png", "a.png", studyId=one.id)))
    assert made.StudyInstanceUID == first[0].StudyInstanceUID
    with pytest.raises(StorageError, match="is not in study"):
        store(one, entry("png", "a.png", studyId=one.id, seriesId=two.series[0]))


def test_another_patients_series_is_not_a_place(study, orthanc, data, out):
    other = Study(orthanc, data, volume_images(shape=(4, 4, 1), patient="TEST-2"))
    picture(out)
    with pytest.raises(StorageError, match="is not in a study of this run"):
        store(study, entry("png", "a.png", seriesId=other.series[0]))
    with pytest.raises(StorageError, match="is not one of this run's"):
        store(study, entry("png", "a.png", studyId=other.id))
    # Headers that contradict what Orthanc says.
    study.headers.update(id=other.patient)
    with pytest.raises(StorageError, match="is not of the patient"):
        store(study, entry("png", "a.png"))


def test_a_study_that_is_gone_is_a_failure(study, orthanc, out):
    orthanc.ask("DELETE", f"/studies/{study.id}")
    picture(out)
    with pytest.raises(StorageError, match="no longer in Orthanc"):
        store(study, entry("png", "a.png"))


# MARK: DICOM files of a job


def derived(images, folder, change=lambda image: None):
    """What a job makes of the images that it was given."""
    folder.mkdir()
    series = generate_uid()
    made = []
    for number, source in enumerate(images):
        image = copy.deepcopy(source)
        reference = pydicom.Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
        image.SourceImageSequence = [reference]
        image.SeriesInstanceUID, image.SOPInstanceUID = series, generate_uid()
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.ImageType, image.SeriesDescription = ["DERIVED", "SECONDARY", "AXIAL"], "Smoothed"
        change(image)
        image.save_as(folder / f"{number}.dcm", enforce_file_format=True)
        made.append(image)
    return made


def test_a_series_of_a_job_becomes_a_series_of_the_study(stack, orthanc, out, tmp_path):
    sources = derived(stack.images, out / "series")
    made = stored(orthanc, store(stack, entry("dicom", "series")))
    assert len(made) == 5 and len({str(one.SeriesInstanceUID) for one in made}) == 1
    check(made[0], stack, tmp_path)
    for one, source, image in zip(made, sources, stack.images):
        assert one.PixelData == source.PixelData and one.SeriesDescription == "Smoothed"
        assert one.SOPInstanceUID != source.SOPInstanceUID and one.SeriesInstanceUID != source.SeriesInstanceUID
        assert one.SourceImageSequence[0].ReferencedSOPInstanceUID == image.SOPInstanceUID
        assert one.FrameOfReferenceUID == image.FrameOfReferenceUID


def test_what_was_made_of_pseudonymous_images_finds_its_way_back(stack, orthanc, out, tmp_path):
    """The pre-service has given the images of the run other names, UIDs and frames."""
    fresh, pseudonymous = {}, []
    for file in stack.files.values():
        image = pydicom.dcmread(file)
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
            image[keyword].value = fresh.setdefault(str(image[keyword].value), generate_uid())
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.PatientID, image.PatientName, image.PatientIdentityRemoved, image.DeidentificationMethod = "P-1", "P-1", "YES", "Basic"
        image.save_as(file)
        pseudonymous.append(image)
    derived(sorted(pseudonymous, key=lambda image: image.InstanceNumber), out / "series")
    made = stored(orthanc, store(stack, entry("dicom", "series", description="Ours")))
    check(made[0], stack, tmp_path)
    for one, image in zip(made, stack.images):
        assert one.SourceImageSequence[0].ReferencedSOPInstanceUID == image.SOPInstanceUID
        assert one.FrameOfReferenceUID == image.FrameOfReferenceUID and one.SeriesDescription == "Ours"
        assert "PatientIdentityRemoved" not in one and "DeidentificationMethod" not in one


@pytest.mark.parametrize("change", ["patient", "study"])
def test_files_of_somebody_else_are_refused_as_a_whole(change, stack, orthanc, out):
    def alter(image):
        if image.InstanceNumber == 4:
            setattr(image, *{"patient": ("PatientID", "TEST-9"), "study": ("StudyInstanceUID", generate_uid())}[change])

    derived(stack.images, out / "series", alter)
    there = instances(orthanc)
    with pytest.raises(StorageError, match="'3.dcm' is not of this run's patient and study"):
        store(stack, entry("dicom", "series"))
    assert instances(orthanc) == there


def test_a_file_that_came_into_the_runs_folder_does_not_say_who_the_patient_is(stack, orthanc, out):
    stray = copy.deepcopy(stack.first)
    stray.PatientID, stray.StudyInstanceUID = "TEST-9", generate_uid()
    stray.save_as(next(iter(stack.files.values())).with_name("stray.dcm"))

    def alter(image):
        image.PatientID, image.StudyInstanceUID = stray.PatientID, stray.StudyInstanceUID

    derived(stack.images, out / "series", alter)
    with pytest.raises(StorageError, match="is not of this run's patient and study"):
        store(stack, entry("dicom", "series"))


def test_what_was_stored_says_whether_it_was_a_result(study, orthanc, data, out):
    for name in ("a", "b"):
        (out / f"{name}.json").write_text("{}")
    noted = data / study.headers["dcmpath"] / ".stored.json"
    store(study, entry("json", "a.json", result=False))
    assert (len(json.loads(noted.read_text())["instances"]), json.loads(noted.read_text())["results"]) == (1, 0)
    store(study, entry("json", "a.json", result=False), entry("json", "b.json"))
    assert (len(json.loads(noted.read_text())["instances"]), json.loads(noted.read_text())["results"]) == (2, 1)


def test_files_that_kept_the_images_uids_do_not_replace_them(study, orthanc, out, tmp_path):
    folder = out / "same"
    folder.mkdir()
    image = copy.deepcopy(study.first)
    image.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    image.PixelData = bytes(len(image.PixelData))
    image.save_as(folder / "x", implicit_vr=True, little_endian=True, enforce_file_format=True)
    (made,) = stored(orthanc, store(study, entry("dicom", "same/x")))
    check(made, study, tmp_path)
    assert made.SOPInstanceUID != image.SOPInstanceUID and made.SeriesInstanceUID != image.SeriesInstanceUID
    original = pydicom.dcmread(pydicom.filebase.DicomBytesIO(orthanc.file(next(iter(study.files)))))
    assert original.PixelData == study.first.PixelData


# MARK: Refusals of Orthanc


@pytest.fixture(scope="module")
def refusing(tmp_path_factory):
    folder = tmp_path_factory.mktemp("refusing")
    script = folder / "filter.lua"
    script.write_text('function ReceivedInstanceFilter(dicom, origin)\n return dicom.Modality ~= "OT"\nend\n')
    server = Server(folder / "server", {"LuaScripts": [str(script)]})
    yield server
    server.stop()


def test_what_orthanc_filters_out_is_a_failure(refusing, orthanc, data, out, monkeypatch):
    monkeypatch.setenv("ORTHANC_REST_URL", refusing.url)
    study = Study(refusing, data, volume_images(shape=(4, 4, 1)))
    picture(out)
    with pytest.raises(StorageError, match="Orthanc did not keep an object of it"):
        store(study, entry("png", "a.png"))


def test_what_is_there_under_the_same_uids_is_not_taken_for_ours(study, orthanc, out, tmp_path):
    picture(out)
    result = store(study, entry("png", "a.png"))
    (made,) = stored(orthanc, result)
    (instance,) = orthanc.get(f"/series/{result['series'][0]}")["Instances"]
    orthanc.ask("DELETE", f"/instances/{instance}")
    del made[0x0405, 0x0010]
    for element in (0x1001, 0x1003, 0x1005, 0x1007, 0x1009):
        del made[0x0405, element]
    made.save_as(tmp_path / "other.dcm", enforce_file_format=True)
    orthanc.ask("POST", "/instances", (tmp_path / "other.dcm").read_bytes())
    with pytest.raises(StorageError, match="is in Orthanc already, and it is not what this job makes"):
        store(study, entry("png", "a.png"))


def test_a_server_that_is_not_there_and_a_wrong_password_are_failures(study, orthanc, out, monkeypatch):
    picture(out)
    monkeypatch.setenv("ORTHANC_REST_PASSWORD", "wrong")
    with pytest.raises(StorageError, match="access denied") as error:
        store(study, entry("png", "a.png"))
    assert "wrong" not in str(error.value)
    monkeypatch.setenv("ORTHANC_REST_URL", "http://127.0.0.1:9")
    with pytest.raises(StorageError, match="is the server running"):
        store(study, entry("png", "a.png"))


# MARK: Sending


@pytest.fixture
def kept(monkeypatch):
    """The checkpoint of a job, over its attempts."""
    state = {"value": None, "writes": []}
    monkeypatch.setattr(main, "resume", lambda: copy.deepcopy(state["value"]))

    def keep(value):
        state["value"] = copy.deepcopy(value)
        state["writes"].append(state["value"])

    monkeypatch.setattr(main, "checkpoint", keep)
    return state


def test_results_are_sent_and_the_answer_is_waited_for(study, orthanc, sinks, out, kept):
    sinks["archive"].clear()
    for number in range(3):
        picture(out, f"{number}.png", number)
    result = store(study, {"type": "png", "path": f"results/{RUN}", "destination": "archive"})
    made = stored(orthanc, result)
    assert sinks["archive"].received() == sorted(str(one.SOPInstanceUID) for one in made)
    assert result["sent"] == {"archive": 3}
    block = made[0].private_block(0x0405, "DCM-PROCESSOR")
    assert block[0x07].value == "archive"
    # Confirmed, so not sent again.
    sinks["archive"].clear()
    store(study, {"type": "png", "path": f"results/{RUN}", "destination": "archive"})
    assert sinks["archive"].received() == []


def test_the_default_destination_is_the_environments_and_an_empty_one_keeps_it_here(study, orthanc, sinks, out, kept, monkeypatch):
    monkeypatch.setenv("ORTHANC_DEFUALT_STORE", "archive")
    sinks["archive"].clear()
    picture(out)
    assert store(study, entry("png", "a.png", destination=""))["sent"] == {}
    assert store(study, entry("png", "a.png", permanent=False))["sent"] == {}
    assert store(study, entry("png", "a.png"), params={"destination": ""})["sent"] == {}
    assert sinks["archive"].received() == []
    assert store(study, entry("png", "a.png"))["sent"] == {"archive": 1} and len(sinks["archive"].received()) == 1


@pytest.mark.parametrize("name", ["refuser", "nobody"])
def test_a_destination_that_does_not_take_it_is_a_failure(name, study, orthanc, sinks, out, kept):
    sinks["archive"].clear()
    picture(out)
    picture(out, "b.png", 1)
    entries = [entry("png", "a.png", destination="archive"), entry("png", "b.png", destination=name)]
    with pytest.raises(StorageError, match=f"entry 2 .* destination '{name}' did not take the 1 object:.*stays in Orthanc"):
        store(study, *entries)
    assert len(sinks["archive"].received()) == 1
    # The next attempt does not send again what was confirmed, and says no success either.
    sinks["archive"].clear()
    with pytest.raises(StorageError, match=f"destination '{name}'"):
        store(study, *entries)
    assert sinks["archive"].received() == []


def test_what_an_earlier_attempt_asked_for_is_waited_for(study, orthanc, sinks, out, kept, monkeypatch):
    """The worker died after it had told Orthanc to send."""
    sinks["archive"].clear()
    picture(out)
    wait = Modalities.wait

    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Modalities, "wait", die)
    with pytest.raises(KeyboardInterrupt):
        store(study, entry("png", "a.png", destination="archive"))
    assert kept["value"]["pending"]["destination"] == "archive"
    monkeypatch.setattr(Modalities, "wait", wait)
    starts = []
    start = Modalities.start
    monkeypatch.setattr(Modalities, "start", lambda *given: starts.append(given) or start(*given))
    assert store(study, entry("png", "a.png", destination="archive"))["sent"] == {"archive": 1}
    assert starts == [] and len(sinks["archive"].received()) == 1 and kept["value"]["pending"] is None


def test_sending_goes_in_batches_and_goes_on_behind_the_confirmed_ones(study, orthanc, sinks, out, kept, monkeypatch):
    sinks["archive"].clear()
    for number in range(5):
        picture(out, f"{number}.png", number)
    monkeypatch.setattr(delivery, "BATCH", 2)
    start, count = Modalities.start, iter(range(10))

    def once_nobody(self, name, batch):
        return start(self, "nobody" if next(count) == 1 else name, batch)

    monkeypatch.setattr(Modalities, "start", once_nobody)
    given = {"type": "png", "path": f"results/{RUN}", "destination": "archive"}
    with pytest.raises(StorageError, match="did not take the 2 objects"):
        store(study, given)
    first = sinks["archive"].received()
    assert len(first) == 2
    sinks["archive"].clear()
    assert store(study, given)["sent"] == {"archive": 5}
    assert len(sinks["archive"].received()) == 3 and not set(first) & set(sinks["archive"].received())


def test_a_job_that_shall_stop_cancels_what_it_waits_for(study, orthanc, out, kept, monkeypatch):
    picture(out)
    stops = threading.Event()
    monkeypatch.setattr(main, "cancelled", stops.is_set)
    wait = Modalities.wait

    def asked(self, name, job, count, is_stopped, report):
        stops.set()
        return wait(self, name, job, count, lambda: True, report)

    # Orthanc's jobs are quick; this one is looked at as if it were slow.
    monkeypatch.setattr(Modalities, "state", lambda self, job: {"State": "Running", "Progress": 0})
    monkeypatch.setattr(Modalities, "wait", asked)
    assert store(study, entry("png", "a.png", destination="nobody")) is None
    assert kept["value"]["sent"] == {"nobody": []}


def test_a_connection_that_orthanc_has_closed_is_opened_again_but_nothing_is_sent_twice(study, orthanc, sinks, out, kept, monkeypatch):
    client = Orthanc.of_this_run()
    assert client.get("/system")["Version"]
    # As Orthanc does when nothing was asked for a second.
    client._connection.sock.shutdown(2)
    assert client.get("/system")["Version"]
    posts = []
    request = http.client.HTTPConnection.request

    def lose(self, method, path, *more):
        request(self, method, path, *more)
        if path.startswith("/modalities/"):
            posts.append(path)
            raise ConnectionResetError("the answer is lost")

    monkeypatch.setattr(http.client.HTTPConnection, "request", lose)
    picture(out)
    with pytest.raises(StorageError, match="ConnectionResetError"):
        store(study, entry("png", "a.png", destination="archive"))
    assert posts == ["/modalities/archive/store"]
