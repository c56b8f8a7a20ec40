"""A registry for what ingest publishes: a study says in its description whether it is wanted."""


def wanted(headers, jobName, **kwargs):
    return headers["tags"].get("StudyDescription") == "wanted", {"from": jobName}
