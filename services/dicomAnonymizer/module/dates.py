"""Dates and times: moved by whole days, or checked to be such."""

from __future__ import annotations

import datetime
import re

DATE = re.compile(r"(\d{4})[.]?(\d{2})[.]?(\d{2})\Z")
DATE_TIME = re.compile(r"(\d{8})((?:\d{2}){0,3}(?:\.\d{1,6})?)([+-]\d{4})?\Z")
TIME = re.compile(r"\d{2}(?::?\d{2}){0,2}(?:\.\d{1,6})?\Z")
FREE = re.compile(r"[\d.:+\- ]*\Z")


def shifted(value: str, vr: str, days: int) -> str | None:
    """`value`, several with backslashes, that many days earlier; the time of day stays. None when it is no whole date."""
    values = [_one(single.strip(" \0"), vr, days) for single in value.split("\\")]
    return None if None in values else "\\".join(values)


def is_temporal(value: str) -> bool:
    """Whether there is nothing but digits and their marks in it."""
    return all(FREE.match(single) is not None for single in value.split("\\"))


def _one(value, vr, days):
    if not value:
        return ""
    if vr == "TM":
        return value if TIME.match(value) else None
    match = (DATE if vr == "DA" else DATE_TIME).match(value)
    if match is None:
        return None
    digits = "".join(match.groups()) if vr == "DA" else match[1]
    try:
        day = datetime.date(int(digits[:4]), int(digits[4:6]), int(digits[6:8])) - datetime.timedelta(days=days)
    except (ValueError, OverflowError):
        return None
    text = f"{day.year:04d}{day.month:02d}{day.day:02d}"
    return text if vr == "DA" else text + match[2] + (match[3] or "")
