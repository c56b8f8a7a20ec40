"""What can go over the wire: values, errors, captured text, each with a limit."""

import json
import os
import sys

DEPTH_LIMIT = 100
"""Levels of nesting; readers of JSON stop somewhere between 128 and 512."""

MESSAGE_LIMIT = 8 * 1024
TRACEBACK_LIMIT = 32 * 1024


class NotPortable(ValueError):
    """A value that JSON cannot carry."""


def portable(value):
    """`value` as JSON text. Sets, paths, dates and numpy's values become what JSON has for them.

    Raises NotPortable with the reason.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=_converted)
        _check(json.loads(text), DEPTH_LIMIT)
    except NotPortable:
        raise
    except (TypeError, ValueError, RecursionError) as error:
        raise NotPortable(str(error)) from None
    return text


def _converted(value):
    if isinstance(value, (set, frozenset)):
        return list(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    # Who has such a value has imported its module; an idle host need not carry it.
    datetime = sys.modules.get("datetime")
    if datetime is not None and isinstance(value, (datetime.date, datetime.datetime, datetime.time)):
        return value.isoformat()
    if hasattr(value, "tolist") and hasattr(value, "dtype"):
        return value.tolist()
    raise NotPortable(f"a value of type {kind(type(value))} cannot be written as JSON")


def _check(value, levels):
    if levels == 0:
        raise NotPortable(f"nested deeper than {DEPTH_LIMIT} levels")
    if isinstance(value, dict):
        for member in value.values():
            _check(member, levels - 1)
    elif isinstance(value, list):
        for element in value:
            _check(element, levels - 1)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise NotPortable("an integer does not fit 64 bits")


def result(value, limit):
    """A job's return value: itself when JSON can say it within `limit` bytes, otherwise text that begins like it."""
    try:
        text = portable(value)
    except NotPortable:
        try:
            text = repr(value)
        except BaseException as error:  # a repr of somebody else's class may do anything
            text = f"<{kind(type(value))} whose repr raised {kind(type(error))}>"
        return clipped(text, limit)
    return json.loads(text) if len(text.encode("utf-8", "replace")) <= limit else clipped(text, limit)


def failure(error, skip=1):
    """An exception as {type, message, traceback}, without the `skip` frames of ours that stand before the service's code."""
    import traceback  # late, as above

    trace = error.__traceback__
    for _ in range(skip):
        if trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
    try:
        message = str(error)
    except BaseException as other:
        message = f"<its text raised {kind(type(other))}>"
    try:
        lines = "".join(traceback.format_exception(type(error), error, trace))
    except BaseException as other:
        lines = f"<its traceback raised {kind(type(other))}>"
    return {
        "type": kind(type(error)),
        "message": clipped(message, MESSAGE_LIMIT),
        "traceback": clipped_front(lines, TRACEBACK_LIMIT),
    }


def kind(type_):
    return type_.__qualname__ if type_.__module__ in ("builtins", "__main__") else f"{type_.__module__}.{type_.__qualname__}"


def clipped(text, limit):
    """The first `limit` characters, and how many were left out."""
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text) - limit} more characters)"


def clipped_front(text, limit):
    """The last `limit` characters, and how many were left out."""
    return text if len(text) <= limit else f"({len(text) - limit} characters before) ...{text[-limit:]}"
