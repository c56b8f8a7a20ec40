class DeidentificationError(Exception):
    """Why nothing was de-identified, or not all: what, where, value, cure. Never a value from a DICOM file."""


class InvalidOption(DeidentificationError):
    """An option in `params` that does not exist, or a value that it cannot have."""


class KeyUnusable(DeidentificationError):
    """The site's key is absent, too short, or open to others."""


class Unreadable(DeidentificationError):
    """A file that could not be read, cleaned or written."""


class Refused(DeidentificationError):
    """A folder whose content may not pass."""
