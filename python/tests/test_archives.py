import io
import os
import pathlib
import stat
import sys
import tarfile
import tempfile
import unittest
import zipfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from dcm_processor import archives


class ArchivesTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(os.path.realpath(folder.name))
        self.target = self.folder / "out"

    def zip(self, *members):
        """Members are (name, content) or (ZipInfo, content)."""
        path = self.folder / "service.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, content in members:
                file.writestr(name, content)
        return path

    def tar(self, *members, mode="w:gz"):
        path = self.folder / "service.tar.gz"
        with tarfile.open(path, mode) as file:
            for member, content in members:
                if isinstance(member, str):
                    member = tarfile.TarInfo(member)
                    member.size = len(content)
                file.addfile(member, io.BytesIO(content))
        return path

    def unpack(self, archive, limit=1 << 20):
        return archives.unpack(archive, self.target, limit)

    def refused(self, archive, text, limit=1 << 20):
        with self.assertRaisesRegex(archives.Refused, text):
            self.unpack(archive, limit)
        outside = {path.name for path in self.folder.iterdir() if not path.name.startswith("out")}
        self.assertLessEqual(outside, {"service.zip", "service.tar.gz"})

    def files(self):
        return sorted(str(path.relative_to(self.target)) for path in self.target.rglob("*") if not path.is_dir())

    def test_what_belongs_to_services_comes_out_of_both_kinds(self):
        members = [("repo/README.md", b"x"), ("repo/a/registry/settings.json", b"{}"), ("repo/a/module/sub/x.py", b"1")]
        for archive in (self.zip(*members), self.tar(*members)):
            with self.subTest(archive=archive.name):
                self.assertEqual(self.unpack(archive), 2)
                self.assertEqual(self.files(), ["repo/a/module/sub/x.py", "repo/a/registry/settings.json"])
                self.assertEqual((self.target / "repo/a/module/sub/x.py").read_bytes(), b"1")
            self.target.rename(self.folder / f"done-{archive.name}")

    def test_names_that_lead_out_are_refused_wherever_they_stand(self):
        for name in ("../registry/x", "registry/../../x", "/registry/x", "registry\\..\\x", "C:/registry/x", "../../etc/passwd"):
            for archive in (self.zip((name, b"x")), self.tar((name, b"x"))):
                with self.subTest(name=name, archive=archive.name):
                    self.target = self.folder / f"out-{abs(hash((name, archive.name)))}"
                    with self.assertRaises(archives.Refused):
                        self.unpack(archive)
                    self.assertEqual(self.files(), [])

    def test_nothing_is_written_through_a_link(self):
        outside = self.folder / "outside"
        outside.mkdir()
        link = tarfile.TarInfo("registry/sub")
        link.type, link.linkname = tarfile.SYMTYPE, str(outside)
        with self.assertRaises(archives.Refused):
            self.unpack(self.tar((link, b""), ("registry/sub/x.py", b"bad")))
        self.assertEqual(list(outside.iterdir()), [])

    def test_a_link_in_a_link_is_refused(self):
        first, second = tarfile.TarInfo("registry/a"), tarfile.TarInfo("registry/a/b")
        first.type = second.type = tarfile.SYMTYPE
        first.linkname, second.linkname = str(self.folder), "x"
        with self.assertRaises(archives.Refused):
            self.unpack(self.tar((first, b""), (second, b"")))
        self.assertFalse(os.path.lexists(self.folder / "b"))

    def test_no_folder_is_made_through_a_link(self):
        outside = self.folder / "out-there"
        outside.mkdir()
        first, second = tarfile.TarInfo("registry/sub"), tarfile.TarInfo("registry/sub/a/b")
        first.type = second.type = tarfile.SYMTYPE
        first.linkname, second.linkname = str(outside), "x"
        self.refused(self.tar((first, b""), (second, b"")), "in a link, or twice")
        self.assertEqual(list(outside.iterdir()), [])

    def test_a_link_in_a_zip_is_a_link(self):
        link = zipfile.ZipInfo("registry/again.py")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        self.unpack(self.zip(("registry/main.py", b"1"), (link, b"main.py")))
        self.assertEqual(os.readlink(self.target / "registry/again.py"), "main.py")

    def test_a_bomb_ends_at_the_limit(self):
        self.refused(self.zip(("registry/zeros", bytes(4 << 20))), "larger than 1048576")
        written = sum(path.stat().st_size for path in self.target.rglob("*") if path.is_file())
        self.assertLessEqual(written, 1 << 20)
        self.target = self.folder / "out2"
        # Also one that hides in what does not belong to a service: a tar has to be read through.
        self.refused(self.tar(("zeros", bytes(4 << 20))), "larger than 1048576")

    def test_devices_are_refused(self):
        device = tarfile.TarInfo("module/null")
        device.type = tarfile.CHRTYPE
        self.refused(self.tar((device, b"")), "neither a file nor a folder")

    def test_a_file_that_comes_twice_is_refused(self):
        self.refused(self.tar(("module/x.py", b"1"), ("module/x.py", b"2")), "twice")
        self.target = self.folder / "out2"
        self.refused(self.tar(("module/x.py", b"1"), ("module/x.py/y.py", b"2")), "no folder")

    def test_programs_stay_programs_and_nothing_more(self):
        script, plain = tarfile.TarInfo("module/run.sh"), tarfile.TarInfo("module/a.py")
        script.mode, plain.mode = 0o6777, 0o666
        umask = os.umask(0o022)
        self.addCleanup(os.umask, umask)
        self.unpack(self.tar((script, b""), (plain, b"")))
        self.assertEqual(stat.S_IMODE((self.target / "module/run.sh").stat().st_mode), 0o755)
        self.assertEqual(stat.S_IMODE((self.target / "module/a.py").stat().st_mode), 0o644)

    def test_damage_is_told_as_such(self):
        path = self.tar(("module/x.py", os.urandom(100_000)))
        path.write_bytes(path.read_bytes()[:50_000])
        self.refused(path, "cannot be read")
        self.target = self.folder / "out2"
        path.write_bytes(b"no archive at all")
        self.refused(path, "cannot be read")


if __name__ == "__main__":
    unittest.main()
