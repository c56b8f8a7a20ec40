"""Unpacks an archive that somebody has sent: `python3 -m dcm_processor.archives ARCHIVE FOLDER LIMIT`.

Takes .zip, .tar and what tar compresses, and of them only what can belong to services: what stands in folders called `registry`,
`module` or `modules`. Nothing of an archive is trusted: no name leads out of FOLDER (which must not exist), no more than LIMIT bytes
are written, nothing is written through a link, and modes are reduced to "is a program". Ends with status 1 and a sentence when it is refused.
"""

import os
import stat
import sys
import tarfile
import zipfile
import zlib

PARTS = ("registry", "module", "modules")
MEMBER_LIMIT = 200_000
CHUNK = 1 << 20


class Refused(Exception):
    """The archive is damaged, or does what no service needs."""


def unpack(archive, folder, limit):
    """Returns the number of files. Raises Refused, or OSError for what the file system says."""
    target = _Target(folder, limit)
    try:
        if zipfile.is_zipfile(archive):
            _unpack_zip(archive, target)
        else:
            _unpack_tar(archive, target)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, NotImplementedError, zlib.error) as error:
        raise Refused(f"the archive cannot be read ({error})") from None
    except RuntimeError as error:
        raise Refused(f"the archive cannot be read: is it encrypted? ({error})") from None
    target.make_links()
    return target.files


def _unpack_zip(archive, target):
    with zipfile.ZipFile(archive) as content:
        for member in content.infolist():
            target.count_member()
            path = _safe(member.filename)
            if member.is_dir() or not _belongs(path):
                continue
            mode = member.external_attr >> 16
            if stat.S_ISLNK(mode):
                if member.file_size > 4096:
                    raise Refused(f"{member.filename} is a link of {member.file_size} bytes")
                target.link(path, content.read(member).decode("utf-8", "surrogateescape"))
            elif stat.S_IFMT(mode) in (0, stat.S_IFREG):
                with content.open(member) as source:
                    target.write(path, source, mode)
            else:
                raise Refused(f"{member.filename} is neither a file nor a folder")


def _unpack_tar(archive, target):
    total = 0
    # As a stream: the whole of it is never in memory, and a bomb is noticed by what it says of its members.
    with tarfile.open(archive, "r:*") as content:
        for member in content:
            target.count_member()
            total += max(0, member.size)
            if total > target.limit:
                raise Refused(target.too_large)
            path = _safe(member.name)
            if member.isdir() or not _belongs(path):
                continue
            if member.issym():
                target.link(path, member.linkname)
            elif member.isreg() or member.islnk():
                source = content.extractfile(member)
                if source is None:
                    raise Refused(f"{member.name} is a link to something that is not in the archive")
                with source:
                    target.write(path, source, member.mode)
            else:
                raise Refused(f"{member.name} is neither a file nor a folder")


def _safe(name):
    """The parts of a member's path."""
    if "\0" in name or "\\" in name or name.startswith("/") or (len(name) > 1 and name[1] == ":"):
        raise Refused(f"{name!r} is no relative path")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Refused(f"{name!r} leads out of the archive's folder")
    return parts


def _belongs(parts):
    return any(part in PARTS for part in parts[:-1])


class _Target:
    def __init__(self, folder, limit):
        self.limit = limit
        self.files = 0
        self.too_large = f"what it unpacks to is larger than {limit} bytes, the limit for a service; --limit sets another one"
        self._root = os.path.abspath(folder)
        self._bytes = 0
        self._members = 0
        self._links = []
        os.mkdir(self._root, 0o700)

    def count_member(self):
        self._members += 1
        if self._members > MEMBER_LIMIT:
            raise Refused(f"it has more than {MEMBER_LIMIT} members")

    def write(self, parts, source, mode):
        path = self._prepare(parts)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        try:
            file = os.open(path, flags, 0o755 if mode & 0o111 else 0o644)
        except FileExistsError:
            raise Refused(f"{'/'.join(parts)} stands in it twice") from None
        with os.fdopen(file, "wb") as target:
            while True:
                chunk = source.read(CHUNK)
                if not chunk:
                    break
                self._bytes += len(chunk)
                if self._bytes > self.limit:
                    raise Refused(self.too_large)
                target.write(chunk)
        self.files += 1

    def link(self, parts, target):
        self._links.append((parts, target))

    def make_links(self):
        """At the end: until then there is no link that a file could be written through."""
        # All folders first: none of them is made through a link.
        paths = [(self._prepare(parts), parts, target) for parts, target in self._links]
        for path, parts, target in paths:
            if os.path.realpath(os.path.dirname(path)) != os.path.dirname(path) or os.path.lexists(path):
                raise Refused(f"the link {'/'.join(parts)} stands in a link, or twice")
            os.symlink(target, path)

    def _prepare(self, parts):
        folder = os.path.join(self._root, *parts[:-1])
        try:
            os.makedirs(folder, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise Refused(f"{'/'.join(parts)} stands in something that is no folder") from None
        return os.path.join(folder, parts[-1])


def main(arguments):
    archive, folder, limit = arguments
    try:
        unpack(archive, folder, int(limit))
    except Refused as error:
        print(f"{archive} is refused: {error}.")
        return 1
    except OSError as error:
        print(f"{archive} could not be unpacked: {error}.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
