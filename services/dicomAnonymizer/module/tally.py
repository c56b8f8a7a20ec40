"""Counts of what was done, by attribute. Names of attributes and numbers, never values."""

from __future__ import annotations

import collections

from pydicom.datadict import keyword_for_tag


class Tally:
    def __init__(self):
        self._counts: collections.Counter[tuple[str, int | str]] = collections.Counter()

    def count(self, what: str, of: int | str = "", number: int = 1):
        self._counts[what, of] += number

    def add(self, other: Tally):
        self._counts.update(other._counts)

    @property
    def plain(self) -> dict[str, dict[str, int]]:
        """{what was done: {attribute: how often}}, both sorted."""
        table: dict[str, dict[str, int]] = {}
        for (what, of), number in self._counts.items():
            row = table.setdefault(what, {})
            name = _name(of)
            row[name] = row.get(name, 0) + number
        return {what: dict(sorted(table[what].items())) for what in sorted(table)}


def _name(of) -> str:
    if isinstance(of, str):
        return of
    return keyword_for_tag(of) or f"({of >> 16:04x},{of & 0xFFFF:04x})"
