"""The plan is written in the event: 'full', 'short', or anything else for no jobs at all."""


def full(headers, jobName, **kwargs):
    return headers.get("plan") == "full", {"from": jobName}


def short(headers, jobName, **kwargs):
    return headers.get("plan") == "short", {"from": jobName}
