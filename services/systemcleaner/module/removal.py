"""Deleting below a folder, and nowhere else.

Each step opens the next folder relative to the last one and follows no link, so nothing can be exchanged for a link between a look and
a deed.
"""

import errno
import os
import stat


DEPTH_LIMIT = 200
"""Folders in folders: each is open while what is in it is deleted."""


class Refused(Exception):
    """Something that is not deleted; the text says why."""


class Root:
    """An open folder below which is deleted."""

    def __init__(self, path):
        self._path = os.path.realpath(path)
        self._descriptor = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self):
        os.close(self._descriptor)

    def remove(self, parts, is_own=lambda part: False):
        """Deletes a file, or a folder with all that is in it. Links in the folder are deleted, never followed; one on the way there, or in
        its place, is refused.

        parts: names, from the root on.
        is_own: whether a folder of this name on the way goes too, once it is empty.

        Returns whether there was anything.
        """
        opened = [os.dup(self._descriptor)]
        try:
            for part in parts[:-1]:
                below = _open(part, opened[-1])
                if below is None:
                    # A former attempt may have got as far as this.
                    self._remove_empty(opened, parts, is_own)
                    return False
                opened.append(below)
            existed = self._remove(parts[-1], opened[-1])
            self._remove_empty(opened, parts, is_own)
            return existed
        finally:
            for descriptor in opened:
                os.close(descriptor)

    def remove_all(self, folder, prefix):
        """Deletes everything in `folder`, a name below the root, whose name begins with `prefix`. Returns how many."""
        descriptor = _open(folder, self._descriptor)
        if descriptor is None:
            return 0
        try:
            return sum(self._remove(name, descriptor) for name in sorted(os.listdir(descriptor)) if name.startswith(prefix))
        finally:
            os.close(descriptor)

    def _remove(self, name, folder):
        try:
            kind = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return False
        if stat.S_ISLNK(kind):
            raise Refused(f"{name!r} is a symbolic link")
        if not stat.S_ISDIR(kind):
            _unlink(name, folder)
            return True
        below = _open(name, folder)
        if below is not None:
            try:
                _empty(below)
            finally:
                os.close(below)
            _remove_folder(name, folder)
        return True

    @staticmethod
    def _remove_empty(opened, parts, is_own):
        for depth in range(len(opened) - 1, 0, -1):
            if not is_own(parts[depth - 1]):
                return
            try:
                os.rmdir(parts[depth - 1], dir_fd=opened[depth - 1])
            except OSError:
                return  # there is something else of the run in it


def _empty(folder, depth=1):
    """Deletes all that is in an open folder."""
    if depth > DEPTH_LIMIT:
        raise Refused(f"it has folders below {DEPTH_LIMIT} others")
    with os.scandir(folder) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in found:
        below = _open(name, folder, refuse=False) if is_folder else None
        if below is None:
            _unlink(name, folder)
            continue
        try:
            _empty(below, depth + 1)
        finally:
            os.close(below)
        _remove_folder(name, folder)


def _open(name, folder, refuse=True):
    """An open folder; None when there is nothing of that name, or, without `refuse`, something else than a folder."""
    try:
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENOTDIR):
            raise
        if not refuse:
            return None
        raise Refused(f"{name!r} on the way is a symbolic link, or no folder") from None


def _unlink(name, folder):
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        pass
    except IsADirectoryError:
        raise Refused(f"{name!r} was exchanged while it was deleted") from None


def _remove_folder(name, folder):
    try:
        os.rmdir(name, dir_fd=folder)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.ENOTDIR, errno.EEXIST):
            raise
        raise Refused(f"something was written into {name!r} while it was deleted") from None
