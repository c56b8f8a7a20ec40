"""UIDs that are the same whenever the same thing is made again."""

import hashlib
import uuid

_NAMESPACE = uuid.UUID("6f1d3c52-8b1e-4f0a-9a55-0d5f5b1c7e21")


def make(*parts):
    """A UID below 2.25 (a UUID as a number) that depends on all parts, and on nothing else."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, '|'.join(f'{len(str(part))}:{part}' for part in parts)).int}"


def orthanc_id(*identifiers):
    """Orthanc's id of a patient, study, series or instance: PatientID, StudyInstanceUID, SeriesInstanceUID, SOPInstanceUID, as many of
    them as the level has."""
    digest = hashlib.sha1("|".join(str(identifier).strip(" \0") for identifier in identifiers).encode()).hexdigest()
    return "-".join(digest[start:start + 8] for start in range(0, 40, 8))
