"""What is deleted, and what must stay."""

import itertools
import json
import os
import struct
import subprocess

import pytest

import registry_systemcleaner
import systemcleaner
from systemcleaner import main, removal
from systemcleaner.main import CleaningError

RUN, OTHER = "01M8TESTRUN0000000000000001", "01M8TESTRUN0000000000000002"
SERIES = "11111111-22222222-33333333-44444444-55555555"
STUDY = "aaaaaaaa-bbbbbbbb-cccccccc-dddddddd-eeeeeeee"
HEADERS = {
    "id": STUDY, "dcmpath": f"dicom/{RUN}", "studyIds": [STUDY], "seriesIds": [SERIES],
    "studies": [{"id": STUDY, "tags": {}, "series": [{"id": SERIES, "tags": {}}]}],
}


@pytest.fixture
def folder(data, monkeypatch):
    """DATA with the images of this run and another one."""
    monkeypatch.delenv("CLEAN_ORTHANC", raising=False)
    for run in (RUN, OTHER):
        write(data, f"dicom/{run}/{SERIES}/image.dcm")
    return data


def write(data, *paths):
    for path in paths:
        (data / path).parent.mkdir(parents=True, exist_ok=True)
        (data / path).write_text("x")


def left(data):
    return sorted(str(path.relative_to(data)) for path in data.rglob("*") if not path.is_dir() or path.is_symlink())


def folders(data):
    return sorted(str(path.relative_to(data)) for path in data.rglob("*") if path.is_dir() and not path.is_symlink())


OTHERS_IMAGES = f"dicom/{OTHER}/{SERIES}/image.dcm"


def clean(deleted=(), params=None, headers=HEADERS, **more):
    return systemcleaner.worker(
        jobName="systemcleaner", headers=headers, params=params, added_params={"maker": {"deleted": deleted}, "systemcleaner": {}, **more})


def test_what_the_run_has_named_goes_with_its_images_and_its_folders(folder):
    write(
        folder, f"nifti/{RUN}/{SERIES}/a.nii.gz", f"nifti/{RUN}/{SERIES}/a.json", f"preview/{RUN}/a.png", f"nifti/{SERIES}.nii.gz",
        f"nifti/{OTHER}/b.nii.gz", f".checkpoints/{RUN}.2/inputs-3/7", f".checkpoints/{OTHER}.2/7", f"report/{RUN}/deep/r.pdf",
    )
    result = clean([f"nifti/{RUN}/{SERIES}", f"nifti/{SERIES}.nii.gz"], second={"deleted": f"preview/{RUN}"},
                   third={"deleted": [f"report/{RUN}/deep/r.pdf", f"report/{RUN}/deep"]})
    assert left(folder) == [f".checkpoints/{OTHER}.2/7", OTHERS_IMAGES, f"nifti/{OTHER}/b.nii.gz"]
    # No folder of the run is left. Those that runs share are: another run may be about to write into them.
    assert not [path for path in folders(folder) if RUN in path]
    assert {"dicom", "nifti", "preview", "report"} <= set(folders(folder))
    assert result == {"removed": 6, "kept": []}


def test_a_second_time_there_is_nothing_to_do(folder):
    write(folder, f"nifti/{RUN}/a.nii.gz")
    assert clean([f"nifti/{RUN}"])["removed"] == 2
    assert clean([f"nifti/{RUN}"])["removed"] == 0
    assert left(folder) == [OTHERS_IMAGES]


def test_an_attempt_that_was_interrupted_is_finished(folder, monkeypatch):
    write(folder, f"nifti/{RUN}/a.nii.gz", f"preview/{RUN}/a.png")
    remove, count = removal.Root.remove, itertools.count()

    def failing(self, *given):
        if next(count) == 1:
            raise OSError(5, "Input/output error")
        return remove(self, *given)

    monkeypatch.setattr(removal.Root, "remove", failing)
    with pytest.raises(CleaningError, match=f"job maker: 'preview/{RUN}': Input/output error"):
        clean([f"nifti/{RUN}", f"preview/{RUN}"])
    assert left(folder) == [OTHERS_IMAGES, f"preview/{RUN}/a.png"]
    clean([f"nifti/{RUN}", f"preview/{RUN}"])
    assert left(folder) == [OTHERS_IMAGES]


@pytest.mark.parametrize(("path", "text"), [
    ("../secret", "has '..' in it"),
    (f"nifti/{RUN}/../../../secret", "has '..' in it"),
    ("/etc/hostname", "absolute and not below DATA"),
    ("", "is not a path"),
    (".", "is DATA itself"),
    ("dicom", "nothing in this path says that it is of this run"),
    (f"dicom/{OTHER}", "nothing in this path says"),
    (f"dicom/{OTHER}/{SERIES}", "the images of another run"),
    ("nifti", "nothing in this path says"),
    (f"nifti/{OTHER}/b.nii.gz", "nothing in this path says"),
    (f"nifti/{RUN}x", "nothing in this path says"),
    (f".work/{RUN}.1-1-1", "the pipeline's own"),
    (f".checkpoints/{OTHER}.{RUN}", "the pipeline's own"),
    (f"nifti/{RUN}/out", "is a symbolic link"),
    (f"nifti/{RUN}/out/file", "is a symbolic link, or no folder"),
    (f"nifti/{RUN}/a.nii.gz/b", "is a symbolic link, or no folder"),
    (f"link/{RUN}", "is a symbolic link, or no folder"),
    (7, "entry 1 of 'deleted' is int"),
])
def test_what_is_not_this_runs_to_delete_is_refused_and_the_rest_goes(path, text, folder):
    secret = folder.parent / "secret"
    write(secret, "file", f"{RUN}/file")
    write(folder, f"nifti/{RUN}/a.nii.gz", f"nifti/{OTHER}/b.nii.gz", f"preview/{RUN}/a.png", f".checkpoints/{OTHER}.{RUN}/1")
    (folder / f"nifti/{RUN}/out").symlink_to(secret)
    (folder / "link").symlink_to(secret)
    with pytest.raises(CleaningError, match="1 of the paths to delete is still there") as error:
        clean([path], second={"deleted": f"preview/{RUN}"})
    assert text in str(error.value)
    assert (secret / "file").exists() and (secret / RUN / "file").exists()
    here = left(folder)
    assert {f"nifti/{RUN}/a.nii.gz", f"nifti/{OTHER}/b.nii.gz", OTHERS_IMAGES, f"nifti/{RUN}/out", "link"} <= set(here)
    # Nothing of it keeps the run's other files.
    assert f"preview/{RUN}/a.png" not in here and not [one for one in here if one.startswith(f"dicom/{RUN}")]


def test_folders_without_end_do_not_keep_the_rest(folder):
    (folder / "nifti" / RUN).mkdir(parents=True)
    below = os.open(folder / "nifti" / RUN, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=below)
        above, below = below, os.open("d", os.O_RDONLY, dir_fd=below)
        os.close(above)
    os.close(below)
    with pytest.raises(CleaningError, match="folders below 200 others"):
        clean(f"nifti/{RUN}")
    assert not (folder / "dicom" / RUN).exists()
    # What pytest tidies up with does not reach that deep.
    subprocess.run(["rm", "-rf", folder / "nifti"], check=True)


def test_links_inside_of_a_folder_go_and_what_they_lead_to_stays(folder):
    secret = folder.parent / "secret"
    write(secret, "file")
    write(folder, f"nifti/{RUN}/a/b.nii.gz")
    (folder / f"nifti/{RUN}/a/out").symlink_to(secret)
    (folder / f"nifti/{RUN}/a/file").symlink_to(secret / "file")
    (folder / f"dicom/{RUN}/out").symlink_to(folder / f"dicom/{OTHER}")
    clean([f"nifti/{RUN}"])
    assert (secret / "file").read_text() == "x" and left(folder) == [OTHERS_IMAGES]


def test_a_folder_that_becomes_a_link_while_it_is_deleted_leads_nowhere(folder, monkeypatch):
    """Whoever may write below DATA exchanges the folder between the look and the deed."""
    secret = folder.parent / "secret"
    write(secret, "file")
    write(folder, f"nifti/{RUN}/a/b.nii.gz")
    victim = folder / f"nifti/{RUN}/a"
    look = os.scandir

    class Exchanging:
        def __init__(self, listed):
            self.listed = list(listed)
            if victim.is_dir() and not victim.is_symlink() and any(entry.name == "a" for entry in self.listed):
                for entry in self.listed:
                    entry.is_dir(follow_symlinks=False)
                victim.rename(folder / "moved")
                victim.symlink_to(secret)

        def __enter__(self):
            return iter(self.listed)

        def __exit__(self, *_):
            return False

    monkeypatch.setattr(os, "scandir", lambda path: Exchanging(look(path)))
    clean([f"nifti/{RUN}"])
    assert (secret / "file").exists() and (folder / "moved/b.nii.gz").exists()
    assert not victim.exists()


def test_shared_paths_can_be_allowed_but_never_everybodys(folder):
    write(folder, "model/weights", f"outputs/{OTHER}/x")
    clean(["model"], params={"allowShared": True})
    assert left(folder) == [OTHERS_IMAGES, f"outputs/{OTHER}/x"]
    for path in ("dicom", "outputs"):
        with pytest.raises(CleaningError, match="holds the files of all runs"):
            clean([path], params={"allowShared": True})
    assert left(folder) == [OTHERS_IMAGES, f"outputs/{OTHER}/x"]


def test_outputs_of_commands_stay_unless_it_is_said(folder):
    write(folder, f"outputs/{RUN}/job/mask.nii.gz")
    clean()
    assert f"outputs/{RUN}/job/mask.nii.gz" in left(folder)
    clean(params={"cleanOutputs": True})
    assert left(folder) == [OTHERS_IMAGES]


def test_a_run_whose_folder_has_no_name_deletes_nothing(folder):
    for path in ("dicom", "", None, "dicom/..", "dicom/"):
        with pytest.raises((ValueError, CleaningError)):
            clean(headers={**HEADERS, "dcmpath": path, "studies": []})
    with pytest.raises(CleaningError, match="is not the folder of this run"):
        systemcleaner.worker(jobName="systemcleaner", headers=HEADERS, params=None, added_params={}, runId=OTHER)
    assert len(left(folder)) == 2


def test_the_callback_accepts_every_run():
    assert registry_systemcleaner.callback(jobName="systemcleaner", headers={}, params=None, added_params={}) is True


# MARK: Orthanc


@pytest.fixture
def orthanc(orthanc, monkeypatch):
    monkeypatch.setenv("CLEAN_ORTHANC", "1")
    return orthanc


def instance(patient, study, series, number):
    """A DICOM file with as little in it as Orthanc takes."""
    def element(group, number, vr, value):
        value += b"\0" if len(value) % 2 and vr == b"UI" else b" " * (len(value) % 2)
        return struct.pack("<HH2sH", group, number, vr, len(value)) + value

    uid = f"2.25.{series}.{number}".encode()
    kind = b"1.2.840.10008.5.1.4.1.1.7"
    meta = element(2, 2, b"UI", kind) + element(2, 3, b"UI", uid) + element(2, 0x10, b"UI", b"1.2.840.10008.1.2.1")
    body = (
        element(8, 0x16, b"UI", kind) + element(8, 0x18, b"UI", uid) + element(8, 0x60, b"CS", b"OT")
        + element(0x10, 0x20, b"LO", patient.encode()) + element(0x20, 0xD, b"UI", f"2.25.{study}".encode())
        + element(0x20, 0xE, b"UI", f"2.25.{series}".encode()) + element(0x20, 0x13, b"IS", str(number).encode())
    )
    return b"\0" * 128 + b"DICM" + struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(meta)) + meta + body


def upload(server, *given):
    answer = json.loads(server.ask("POST", "/instances", instance(*given)))
    assert answer["Status"] == "Success"
    return answer


@pytest.fixture
def stored(orthanc, data):
    """A run of two series, exported, with a result in Orthanc; `headers`, and Orthanc's ids."""
    study = int.from_bytes(os.urandom(6), "big")
    images = [upload(orthanc, "P", study, study * 10 + series, number) for series in (1, 2) for number in (1, 2)]
    result = upload(orthanc, "P", study, study * 10 + 3, 1)
    series = list(dict.fromkeys(image["ParentSeries"] for image in images))
    for image in images:
        write(data, f"dicom/{RUN}/{image['ParentSeries']}/{image['ID']}.dcm")
    (data / f"dicom/{RUN}/{main.STORED}").write_text(json.dumps({"run": RUN, "instances": [result["ID"]], "results": 1}))
    tree = {"id": images[0]["ParentStudy"], "series": [{"id": one} for one in series]}
    headers = {"id": tree["id"], "dcmpath": f"dicom/{RUN}", "studyIds": [tree["id"]], "seriesIds": series, "studies": [tree]}
    return {"headers": headers, "series": series, "study": study, "images": images, "result": result}


def test_the_images_of_the_run_go_from_orthanc_and_its_results_stay(stored, orthanc, data):
    other = upload(orthanc, "P", stored["study"], stored["study"] * 10 + 4, 1)
    assert clean(headers=stored["headers"])["orthanc"] == 4
    assert not any(orthanc.exists(f"/series/{one}") for one in stored["series"])
    assert orthanc.exists(f"/instances/{stored['result']['ID']}") and orthanc.exists(f"/series/{other['ParentSeries']}")
    assert left(data) == []
    # Once more, as after a worker's death.
    assert clean(headers=stored["headers"]) == {"removed": 0, "kept": [], "orthanc": 0}


def test_a_series_that_has_grown_stays(stored, orthanc):
    late = upload(orthanc, "P", stored["study"], stored["study"] * 10 + 1, 3)
    result = clean(headers=stored["headers"])
    assert result["orthanc"] == 2 and [one["series"] for one in result["kept"]] == [stored["series"][0]]
    assert "1 of its 3 images" in result["kept"][0]["reason"]
    assert orthanc.exists(f"/instances/{late['ID']}") and not orthanc.exists(f"/series/{stored['series'][1]}")


def test_without_results_in_orthanc_its_images_stay(stored, orthanc, data):
    orthanc.ask("DELETE", f"/instances/{stored['result']['ID']}")
    with pytest.raises(CleaningError, match="1 of 1 results of the run are not in Orthanc"):
        clean(headers=stored["headers"])
    assert all(orthanc.exists(f"/series/{one}") for one in stored["series"]) and len(left(data)) == 5
    (data / f"dicom/{RUN}/{main.STORED}").unlink()
    assert [one["reason"] for one in clean(headers=stored["headers"])["kept"]] == ["this run has stored no results"] * 2
    assert all(orthanc.exists(f"/series/{one}") for one in stored["series"]) and left(data) == []


def test_a_record_alone_is_no_result(stored, orthanc, data):
    (data / f"dicom/{RUN}/{main.STORED}").write_text(json.dumps({"run": RUN, "instances": [stored["result"]["ID"]], "results": 0}))
    assert [one["reason"] for one in clean(headers=stored["headers"])["kept"]] == ["this run has stored no results"] * 2
    assert all(orthanc.exists(f"/series/{one}") for one in stored["series"])


def test_orthanc_is_cleaned_only_where_that_is_wanted(stored, orthanc, monkeypatch):
    assert "orthanc" not in clean(headers=stored["headers"], params={"cleanOrthanc": False})
    monkeypatch.setenv("CLEAN_ORTHANC", "0")
    assert "orthanc" not in clean(headers=stored["headers"])
    assert all(orthanc.exists(f"/series/{one}") for one in stored["series"])


def test_an_orthanc_that_is_away_keeps_the_run_for_the_next_attempt(stored, orthanc, data, monkeypatch):
    monkeypatch.setenv("ORTHANC_REST_URL", "http://127.0.0.1:9")
    with pytest.raises(CleaningError, match="is the server running"):
        clean(headers=stored["headers"])
    assert len(left(data)) == 5
    monkeypatch.setenv("ORTHANC_REST_URL", orthanc.url)
    assert clean(headers=stored["headers"])["orthanc"] == 4 and left(data) == []
