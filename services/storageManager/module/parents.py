"""Where a result belongs: the study in Orthanc, and what its images say of patient and study."""

import pydicom
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from dcm_processor.paths import inside_data

from .errors import StorageError
from .uids import orthanc_id

PATIENT = {
    "PatientName": True, "PatientID": True, "IssuerOfPatientID": False, "PatientBirthDate": True, "PatientBirthTime": False,
    "PatientSex": True,
    "OtherPatientIDs": False, "OtherPatientIDsSequence": False, "OtherPatientNames": False, "EthnicGroup": False, "PatientComments": False,
    "PatientIdentityRemoved": False, "DeidentificationMethod": False, "DeidentificationMethodCodeSequence": False,
}
"""Attributes of the patient module, and whether they have to be there, if only empty."""

STUDY = {
    "StudyInstanceUID": True, "StudyDate": True, "StudyTime": True, "ReferringPhysicianName": True, "StudyID": True,
    "AccessionNumber": True,
    "StudyDescription": False, "PatientAge": False, "PatientSize": False, "PatientWeight": False, "AdmittingDiagnosesDescription": False,
    "AdditionalPatientHistory": False, "IssuerOfAccessionNumberSequence": False, "LongitudinalTemporalInformationModified": False,
}
"""The same of the study module."""


class Parent:
    """A study of the run, as it stands in Orthanc now."""

    def __init__(self, study, patient, attributes):
        self.study = study
        self.patient = patient
        self.attributes = attributes

    @property
    def identity(self):
        return str(self.attributes.PatientID or "").strip(), str(self.attributes.StudyInstanceUID)

    def adopt(self, dataset):
        """Makes `dataset` one of this study: all that it says of patient and study is replaced."""
        for keyword in (*PATIENT, *STUDY):
            if keyword in dataset:
                del dataset[keyword]
        for element in self.attributes:
            dataset.add(element)
        # What comes from Orthanc has been decoded, whatever the images use.
        dataset.SpecificCharacterSet = "ISO_IR 192"


class Series:
    """A series of a run's study: where a result gets its frame of reference from."""

    def __init__(self, id, parent, uid, instances, first):
        self.id = id
        self.parent = parent
        self.uid = uid
        self.instances = instances
        self.first = first
        """The tags of its first instance, a Dataset."""


class Run:
    """The studies and series that a run is about. Everything else in Orthanc is somebody else's."""

    def __init__(self, headers, orthanc):
        self._orthanc = orthanc
        self.headers = headers
        self._series = {}
        self._parents = {}
        self._identities = {}
        if isinstance(headers.get("seriesId"), str):
            self.level = "series"
            self.patient = headers.get("patientId")
            self.studies = {headers.get("studyId"): [headers["seriesId"]]}
        else:
            trees = headers.get("studies") or []
            # `seriesIds` is what the run is about; a tree says of each where it belongs.
            self.studies = {tree.get("id"): [series.get("id") for series in tree.get("series") or []] for tree in trees}
            is_study = len(trees) == 1 and trees[0].get("id") == headers.get("id")
            self.level = "study" if is_study else "patient"
            self.patient = None if is_study else headers.get("id")
        if not self.studies or not all(isinstance(study, str) and study for study in self.studies):
            raise StorageError("the headers of the run name no study, so nothing can be stored in it")

    def series_of(self, entry, name):
        """The series that a file of an entry was made from; None when nothing says so.

        The entry names it, or the file's name begins with its id, or there is only one.
        """
        if entry.series:
            return self._found(entry, entry.series)
        known = [series for ids in self.studies.values() for series in ids]
        named = [series for series in known if series and name.rsplit("/", 1)[-1].startswith(series)]
        if len(named) == 1:
            return self._found(entry, named[0])
        return self._found(entry, known[0]) if len(known) == 1 else None

    def parent_of(self, entry, name):
        """The study that a file of an entry belongs to."""
        if entry.study:
            if entry.study not in self.studies:
                raise entry.error(f"study {entry.study!r} is not one of this run's")
            if entry.series and self._found(entry, entry.series).parent.study != entry.study:
                raise entry.error(f"series {entry.series!r} is not in study {entry.study!r}")
            return self._parent(entry.study)
        if len(self.studies) == 1:
            parent = self._parent(next(iter(self.studies)))
            if entry.series:
                self._found(entry, entry.series)
            return parent
        series = self.series_of(entry, name)
        if series is None:
            raise entry.error(f"the run has {len(self.studies)} studies; say with 'seriesId' or 'studyId' where {name!r} belongs")
        return series.parent

    def _found(self, entry, id):
        if id not in self._series:
            # What comes from an entry must not become another path of the API.
            if not isinstance(id, str) or not id.replace("-", "").isalnum():
                raise entry.error("'seriesId' is not an id of Orthanc")
            described = self._orthanc.get(f"/series/{id}")
            if described is None:
                raise entry.error(f"series {id} is not in Orthanc")
            study = described.get("ParentStudy")
            if study not in self.studies:
                raise entry.error(f"series {id} is not in a study of this run")
            self._series[id] = Series(
                id, self._parent(study), described["MainDicomTags"].get("SeriesInstanceUID"), described["Instances"], self._tags(described)
            )
        return self._series[id]

    def _parent(self, study):
        if study not in self._parents:
            described = self._orthanc.get(f"/studies/{study}")
            if described is None:
                raise StorageError(
                    f"study {study} is no longer in Orthanc, so its results have no place; send it again, then reprocess the run")
            patient = described.get("ParentPatient")
            if self.patient and patient != self.patient:
                raise StorageError(f"study {study} is not of the patient {self.patient} whom this run is about")
            # An image of the run itself, if it is still there: results of others may stand beside it.
            for series in [*self.studies[study], *described.get("Series", ())]:
                of_series = self._orthanc.get(f"/series/{series}")
                if of_series is not None and of_series.get("ParentStudy") == study and of_series.get("Instances"):
                    break
            else:
                raise StorageError(f"study {study} has no image in Orthanc, so nothing says what to write into its results")
            tags = self._tags(of_series)
            attributes = Dataset()
            for keyword, is_needed in (PATIENT | STUDY).items():
                if keyword in tags:
                    attributes.add(tags[keyword])
                elif is_needed:
                    setattr(attributes, keyword, "")
            own = attributes.PatientID or ""
            if orthanc_id(own) != patient or orthanc_id(own, attributes.StudyInstanceUID) != study:
                raise StorageError(f"what the images of study {study} say of patient and study is not what Orthanc filed them under")
            self._parents[study] = Parent(study, patient, attributes)
        return self._parents[study]

    def _tags(self, series):
        tags = self._orthanc.get(f"/instances/{series['Instances'][0]}/tags")
        if tags is None:
            raise StorageError(f"series {series.get('ID')} lost an image while its tags were read; try again")
        return dataset(tags)

    def all_tags(self, series):
        """The tags of every instance of a series, as a list of Dataset."""
        tags = self._orthanc.get(f"/series/{series.id}/instances-tags")
        if not tags:
            raise StorageError(f"series {series.id} is no longer in Orthanc")
        return [dataset(tags[instance]) for instance in sorted(tags)]

    def identities(self, parent):
        """How images of `parent` are called in the run's own folder, where a pre-service may have given them other names: pairs of
        PatientID and StudyInstanceUID; and what stands there for which UID of Orthanc's.

        Returns (identities, {UID there: UID in Orthanc}).
        """
        if parent.study not in self._identities:
            self._identities[parent.study] = self._read_identities(parent)
        return self._identities[parent.study]

    def _read_identities(self, parent):
        folder = inside_data(self.headers["dcmpath"])
        found, real = {parent.identity}, {}
        for series in self.studies[parent.study]:
            below = folder if self.level == "series" else folder / series
            if not below.is_dir():
                continue
            described = self._orthanc.get(f"/series/{series}") or {}
            uids = None
            frames = None
            for file in sorted(below.glob("*.dcm")):
                if file.is_symlink():
                    continue
                try:
                    image = pydicom.dcmread(
                        file, stop_before_pixels=True,
                        specific_tags=["PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"])
                    identity = str(image.PatientID or "").strip(), str(image.StudyInstanceUID)
                    own = str(image.SOPInstanceUID)
                except Exception:
                    continue  # not an image any more: nothing can be told from it
                if identity == parent.identity:
                    continue
                if uids is None:
                    listed = self._orthanc.get(f"/series/{series}/instances") or []
                    uids = {one["ID"]: one["MainDicomTags"].get("SOPInstanceUID") for one in listed}
                    frames = self._tags(described).get("FrameOfReferenceUID") if described.get("Instances") else None
                if not uids.get(file.stem):
                    continue  # no image of this series: whatever it is, it does not say who the patient is
                found.add(identity)
                real[own] = uids[file.stem]
                if described.get("MainDicomTags", {}).get("SeriesInstanceUID"):
                    real[str(image.SeriesInstanceUID)] = described["MainDicomTags"]["SeriesInstanceUID"]
                if frames and image.get("FrameOfReferenceUID"):
                    real[str(image.FrameOfReferenceUID)] = frames
                real[identity[1]] = parent.identity[1]
        return found, real


_NUMBERS = {"US": int, "SS": int, "UL": int, "SL": int, "UV": int, "SV": int, "FL": float, "FD": float}
_TEXTS = {"ST", "LT", "UT", "UR"}
_BYTES = {"OB", "OW", "OF", "OD", "OL", "OV", "UN", "AT"}


def dataset(tags):
    """A Dataset of what Orthanc gives as `/instances/{id}/tags`. Private, binary and very long elements are left out."""
    made = Dataset()
    for key, element in tags.items():
        tag = Tag(int(key[:4], 16), int(key[5:9], 16))
        if tag.is_private or not keyword_for_tag(tag) or tag.group == 2:
            continue
        vr = dictionary_VR(tag)
        value = element.get("Value")
        if element.get("Type") == "Sequence" and vr == "SQ":
            made.add_new(tag, vr, Sequence([dataset(item) for item in value or []]))
        elif element.get("Type") == "String" and vr not in _BYTES and vr != "SQ" and " or " not in vr:
            text = value.rstrip(" \0")
            values = [text] if vr in _TEXTS else [part.strip(" \0") for part in text.split("\\")]
            try:
                if vr in _NUMBERS:
                    values = [_NUMBERS[vr](part) for part in values if part]
                made.add_new(tag, vr, values[0] if len(values) == 1 else values)
            except ValueError:
                continue  # not what its VR says; nothing of what is copied is a number
    return made
