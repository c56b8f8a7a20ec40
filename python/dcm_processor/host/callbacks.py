"""The router's host: asks services' callbacks whether their jobs apply to an event."""

import json
import os
import sys
import time

from . import services, values

OUTPUT_LIMIT = 16 * 1024
"""Bytes kept of what one callback prints: the last ones."""


def serve(channel, settings):
    owner = os.getpid()
    code = services.CodeStamp([settings["root"]])
    while True:
        request = channel.receive()
        if request is None:
            return
        if code.is_stale():
            channel.send({"type": "stale", "request": request["request"]})
            return
        for message in evaluate(request):
            if os.getpid() != owner:
                os._exit(70)  # a callback forked and let its child come back: there must be one host
            channel.send(message)
        channel.send({"type": "done", "request": request["request"]})


def evaluate(request):
    """Yields `asking` and `verdict` for each call, in order: a host that ends in between tells whose fault it was.

    Upstream kept one dictionary for the life of the process, and a patient's results reached another patient's study.
    Here everything a callback is given is its own copy, and `added` belongs to this request alone.
    """
    headers = json.dumps(request["headers"])
    added = dict(request["addedParams"])
    for index, call in enumerate(request["calls"]):
        position = {"request": request["request"], "call": index}
        yield {"type": "asking", **position}
        verdict = _ask(call, json.loads(headers), json.loads(json.dumps(added)))
        if verdict["accepted"]:
            added[call["jobName"]] = verdict["added"]
        yield {"type": "verdict", **position, **verdict}


def _ask(call, headers, added):
    _forget_output()
    verdict = {"accepted": False, "added": {}, "error": None}
    start = time.monotonic()
    try:
        answer = services.resolve(call["entry"])(
            jobName=call["jobName"], headers=headers, added_params=added, params=call["params"]
        )
        verdict["accepted"], verdict["added"] = understood(answer)
    except BaseException as error:  # SystemExit too: a service must not end the host
        verdict["error"] = values.failure(error)
    verdict["duration"] = time.monotonic() - start
    verdict["output"] = _output()
    return verdict


def understood(answer):
    """Upstream's rules: a flag, or [flag], or [flag, dictionary]; an empty list is no; a second item that is no dictionary
    counts as an empty one."""
    added = {}
    if isinstance(answer, (list, tuple)):
        if len(answer) > 1 and isinstance(answer[1], dict):
            added = answer[1]
        answer = answer[0] if answer else False
    if not answer:
        return False, {}
    try:
        return True, json.loads(values.portable(added))
    except values.NotPortable as error:
        raise TypeError(f"the callback's dictionary cannot be handed to jobs: {error}") from None


def _forget_output():
    # Standard output is an unlinked file that the router also holds: what a callback printed before it
    # killed the host can still be read there.
    try:
        os.ftruncate(1, 0)
        os.lseek(1, 0, os.SEEK_SET)
    except OSError:
        pass


def _output():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass
    try:
        size = os.fstat(1).st_size
        kept = os.pread(1, OUTPUT_LIMIT, max(0, size - OUTPUT_LIMIT))
    except OSError:
        return ""
    text = kept.decode("utf-8", "backslashreplace")
    return text if size <= OUTPUT_LIMIT else f"({size - OUTPUT_LIMIT} bytes before) ...{text}"
