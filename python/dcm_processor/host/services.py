"""Finding a service's function, and noticing that its code on disk is no longer the code in memory."""

import importlib
import os
import sys
import time

SETTLED = 2_000_000_000
"""Nanoseconds after which a folder's time stamp tells its content; some file systems count in whole seconds."""


def resolve(entry):
    """The object named `package.module.function`.

    By import_module and getattr, never by a generated import statement: folders may be namespace packages or have a dash
    in their names.
    """
    module, dot, name = entry.rpartition(".")
    if not dot or not module or not name:
        raise ImportError(f"{entry!r} names no function: write it as package.function or package.module.function")
    importlib.invalidate_caches()
    loaded = importlib.import_module(module)
    try:
        function = getattr(loaded, name)
    except AttributeError:
        raise ImportError(f"module {module!r} ({getattr(loaded, '__file__', None) or 'a folder'}) has no function {name!r}") from None
    if not callable(function):
        raise ImportError(f"{entry!r} is {type(function).__name__}, which cannot be called")
    return function


def check(function, entry, arguments):
    """Raises TypeError when the function cannot be called with these keyword arguments. For whoever looks at a service before it runs."""
    import inspect

    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # written in C
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise TypeError(f"{entry} cannot be called with {', '.join(arguments)}: {error}") from None


class CodeStamp:
    """What the Python files of some folders looked like.

    A check costs a stat per file and folder; files are read only when a stat differs, so that touching a file restarts nothing.
    """

    def __init__(self, folders):
        self._folders = [os.path.abspath(folder) for folder in folders]
        self._extra = set()
        self._listed = {}
        self._stats = self._scan()
        self._digest = self._hash(self._stats)

    def include_loaded(self, root):
        """Also watches what was imported from elsewhere below `root`: other services' code that this one uses."""
        root = os.path.join(os.path.abspath(root), "")
        known = set(self._stats)
        for module in list(sys.modules.values()):
            path = getattr(module, "__file__", None)
            if isinstance(path, str) and path.endswith(".py") and path.startswith(root) and path not in known:
                self._extra.add(path)
        if self._extra:
            self._stats = self._scan()
            self._digest = self._hash(self._stats)

    def is_stale(self):
        # A folder's stat tells what came and went in it. One that had just changed when it was listed tells nothing: the clock of files is
        # coarse, and another change may bear the same time.
        if self._listed and all(_stat(path) == known for path, known in self._listed.items()):
            stats = {}
            for path in self._stats:
                self._add(path, stats)
        else:
            stats = self._scan()
        if stats == self._stats:
            return False
        if self._hash(stats) != self._digest:
            return True
        self._stats = stats
        return False

    def _scan(self):
        stats, listed, recent = {}, {}, time.time_ns() - SETTLED
        for folder in self._folders:
            for path, folders, files in os.walk(folder, onerror=lambda _: listed.clear()):
                listed[path] = _stat(path)
                folders[:] = [name for name in folders if not name.startswith(".") and name not in ("__pycache__", "node_modules")
                              and not os.path.exists(os.path.join(path, name, "pyvenv.cfg"))]
                for name in files:
                    if name.endswith(".py"):
                        self._add(os.path.join(path, name), stats)
        for path in self._extra:
            self._add(path, stats)
        is_settled = all(found is not None and max(found[:2]) < recent for found in listed.values())
        self._listed = listed if is_settled else {}
        return stats

    @staticmethod
    def _add(path, stats):
        found = _stat(path)
        if found is not None:
            stats[path] = found

    @staticmethod
    def _hash(stats):
        # Python's own hash of bytes: hashlib would load a cryptographic library into every idle host, for what stays in this process.
        contents = []
        for path in sorted(stats):
            try:
                with open(path, "rb") as file:
                    content = file.read()
            except OSError:
                content = b""
            contents.append((path, len(content), hash(content)))
        return tuple(contents)


def _stat(path):
    try:
        found = os.stat(path)
    except OSError:
        return None
    # The change time catches an edit that keeps size and modification time.
    return (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)
