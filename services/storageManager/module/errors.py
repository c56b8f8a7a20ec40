class StorageError(RuntimeError):
    """Why something was not stored. The text is for people and holds no patient data: it goes to logs and pages."""
