"""What stands in for patients, UIDs and dates: the same for the same site key, and not to be turned back without it."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import os
import stat
import unicodedata
import uuid

from .errors import KeyUnusable

SHORTEST_KEY = 32
CURE = "On the worker: (umask 077; head -c 32 /dev/urandom > FILE), owned by the worker's user, ANONYMIZER_KEY_FILE=FILE. Keep a copy."
SHIFT_DAYS = 3650


@dataclasses.dataclass(frozen=True)
class Patient:
    id: str
    days: int
    """How many days back this patient's dates are moved."""


class Pseudonyms:
    def __init__(self, key: bytes, prefix: str = ""):
        self._key = key
        self._prefix = prefix
        self._uids: dict[str, str] = {}

    @classmethod
    def of_site(cls, prefix: str = "") -> Pseudonyms:
        return cls(site_key(os.environ), prefix)

    def mac(self, purpose: str, *values: bytes) -> bytes:
        """HMAC-SHA256 over the values, each with its length, so that no two lists of values are the same text."""
        code = hmac.new(self._key, purpose.encode(), hashlib.sha256)
        for value in values:
            code.update(len(value).to_bytes(8, "big"))
            code.update(value)
        return code.digest()

    @property
    def fingerprint(self) -> str:
        """Tells two keys apart and says nothing about them."""
        return self.mac("fingerprint")[:4].hex()

    def uid(self, value: str) -> str:
        found = self._uids.get(value)
        if found is None:
            octets = bytearray(self.mac("uid", value.encode())[:16])
            # Version 8 and variant of RFC 9562: 2.25. stands for a UUID.
            octets[6] = octets[6] & 0x0F | 0x80
            octets[8] = octets[8] & 0x3F | 0x80
            found = self._uids[value] = f"2.25.{uuid.UUID(bytes=bytes(octets)).int}"
        return found

    def patient(self, issuer: str, id: str, otherwise: str) -> Patient:
        """
        id: PatientID, which counts together with its issuer.
        otherwise: what tells the patient apart when there is no PatientID: the UID of the study.
        """
        whose = (b"id", _normal(issuer), _normal(id)) if _normal(id) else (b"study", otherwise.encode())
        name = base64.b32encode(self.mac("patient", *whose)[:10]).decode()
        days = 1 + int.from_bytes(self.mac("days", *whose)[:8], "big") % SHIFT_DAYS
        return Patient(f"{self._prefix}{name}", days)


def _normal(text: str) -> bytes:
    return unicodedata.normalize("NFC", text.strip(" \0")).encode()


def site_key(environment) -> bytes:
    """The key from the file that ANONYMIZER_KEY_FILE names, or STATE/secrets/anonymizer.key. Raises KeyUnusable."""
    path = environment.get("ANONYMIZER_KEY_FILE", "")
    if not path:
        state = environment.get("STATE", "")
        if not state:
            raise KeyUnusable(f"ANONYMIZER_KEY_FILE is not set, so there is no key for pseudonyms. {CURE}")
        path = os.path.join(state, "secrets", "anonymizer.key")
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            key = file.read(64 * 1024)
    except OSError as error:
        raise KeyUnusable(f"ANONYMIZER_KEY_FILE {path!r} cannot be read: {error.strerror}. {CURE}") from None
    if not stat.S_ISREG(status.st_mode):
        raise KeyUnusable(f"ANONYMIZER_KEY_FILE {path!r} is not a file. {CURE}")
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o027:
        raise KeyUnusable(
            f"ANONYMIZER_KEY_FILE {path!r} has mode {mode:04o}: others may read it, or its group may change it. chmod 600 {path}"
        )
    if status.st_uid not in (0, os.geteuid()):
        raise KeyUnusable(
            f"ANONYMIZER_KEY_FILE {path!r} belongs to user {status.st_uid}; it has to belong to the worker's ({os.geteuid()}) or to root"
        )
    if all(byte in range(0x20, 0x7F) or byte in (0x09, 0x0A, 0x0D) for byte in key):
        key = key.strip()  # Text: whether an editor has added an end of line must not change the pseudonyms.
    if len(key) < SHORTEST_KEY:
        raise KeyUnusable(f"ANONYMIZER_KEY_FILE {path!r} holds {len(key)} bytes; at least {SHORTEST_KEY} random ones are needed. {CURE}")
    if len(set(key)) < 8:
        raise KeyUnusable(f"ANONYMIZER_KEY_FILE {path!r} holds hardly any different bytes, so it is not random. {CURE}")
    return key
