import os
import shutil
import sys
import unittest

import host
from dcm_processor.host import services


class ResolveTest(unittest.TestCase):
    def setUp(self):
        self.tree = host.Tree({
            "with-dash/__init__.py": "from .main import worker\n", "with-dash/main.py": "def worker(): return 1\nvalue = 1\n",
            "names/pace/mod.py": "def worker(): return 2\n",
        })
        sys.path.insert(0, str(self.tree.root))

    def tearDown(self):
        sys.path.remove(str(self.tree.root))
        for name in [name for name in sys.modules if name.split(".")[0] in ("with-dash", "names")]:
            del sys.modules[name]
        self.tree.remove()

    def test_packages_with_a_dash_and_without_init(self):
        self.assertEqual(services.resolve("with-dash.worker")(), 1)
        self.assertEqual(services.resolve("names.pace.mod.worker")(), 2)

    def test_what_is_not_there(self):
        for entry in ("", "worker", ".worker", "with-dash.", "with-dash.missing", "with-dash.main.value", "nowhere.worker"):
            with self.assertRaises(ImportError, msg=entry):
                services.resolve(entry)


class CodeStampTest(unittest.TestCase):
    def setUp(self):
        self.tree = host.Tree({"svc/__init__.py": "a = 1\n", "svc/data.txt": "", "svc/venv/pyvenv.cfg": "", "svc/venv/lib.py": ""})
        self.addCleanup(self.tree.remove)
        self.stamp = services.CodeStamp([self.tree.root / "svc"])

    def test_nothing_changed(self):
        self.assertFalse(self.stamp.is_stale())

    def test_same_size_and_time(self):
        file = self.tree.root / "svc/__init__.py"
        before = os.stat(file)
        file.write_text("a = 2\n")
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        self.assertTrue(self.stamp.is_stale())

    def test_touched_or_copied_over_with_the_same_content(self):
        os.utime(self.tree.root / "svc/__init__.py")
        self.assertFalse(self.stamp.is_stale())
        self.tree.write("svc/__init__.py", "a = 1\n")
        self.assertFalse(self.stamp.is_stale())

    def test_added_and_removed(self):
        self.tree.write("svc/deep/new.py", "")
        self.assertTrue(self.stamp.is_stale())
        stamp = services.CodeStamp([self.tree.root / "svc"])
        shutil.rmtree(self.tree.root / "svc/deep")
        self.assertTrue(stamp.is_stale())

    def test_other_files_and_environments_do_not_count(self):
        self.tree.write("svc/data.txt", "more")
        self.tree.write("svc/venv/lib.py", "changed = 1")
        self.tree.write("svc/__pycache__/x.py", "")
        self.assertFalse(self.stamp.is_stale())


class SettledCodeStampTest(CodeStampTest):
    """The same by the folders' stats alone, once they can be trusted."""

    def setUp(self):
        settled, services.SETTLED = services.SETTLED, 0
        self.addCleanup(setattr, services, "SETTLED", settled)
        super().setUp()
        probe = self.tree.folder / "probe"

        def has_ticked():
            probe.write_text("")
            return os.stat(probe).st_mtime_ns > os.stat(self.tree.root / "svc").st_ctime_ns

        self.assertTrue(host.eventually(has_ticked))
        # Files are not folders: what follows is about those that are known.
        self.stamp = services.CodeStamp([self.tree.root / "svc"])
        self.assertTrue(self.stamp._listed)
        known = max(found[1] for found in self.stamp._listed.values())

        def has_moved_on():
            probe.write_text("x")
            return os.stat(probe).st_mtime_ns > known

        self.assertTrue(host.eventually(has_moved_on))

    def test_a_folder_that_goes(self):
        shutil.rmtree(self.tree.root / "svc")
        self.assertTrue(self.stamp.is_stale())


if __name__ == "__main__":
    unittest.main()
