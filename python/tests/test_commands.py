import json
import os
import pathlib
import signal
import stat
import sys
import tempfile
import unittest

import host  # noqa: F401 (finds the package)
from dcm_processor.host import commands


class CommandsTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        self.workdir = self.root / "work"
        self.workdir.mkdir()

    def order(self, *command, **changes):
        order = {
            "command": list(command), "jobName": "segment", "attempt": 2, "runId": "R1", "workdir": str(self.workdir),
            "data": str(self.root), "headers": {"dcmpath": "dicom/R1", "tags": {"PatientName": "D\u00f6e^J\ud800\n$(x)"}},
            "params": {"a": [1]}, "addedParams": {"dcm2nii": {}}, "environment": {"DCM_RUN_OUTPUTS": str(self.root / "outputs/R1")},
        }
        return {**order, **changes}

    def script(self, name, text, mode=0o755):
        path = self.root / name
        path.write_text(text)
        path.chmod(mode)
        return str(path)

    def run_order(self, order):
        """(wait status, what the program printed, why it could not start)"""
        printed, prints = os.pipe()
        troubles, trouble = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.dup2(prints, 1)
                signal.signal(signal.SIGPIPE, signal.SIG_IGN)
                os.chdir(order["workdir"])
                commands.execute(order)
            except commands.CannotStart as error:
                os.write(trouble, str(error).encode())
            finally:
                os._exit(70)
        os.close(prints)
        os.close(trouble)
        with open(printed, encoding="utf-8") as output, open(troubles, encoding="utf-8") as reason:
            texts = output.read(), reason.read()
        return os.waitpid(pid, 0)[1], *texts

    def test_what_a_program_is_told(self):
        script = self.script("tell", f"""#!{sys.executable}
import json, os, sys
told = json.load(sys.stdin)
assert told == json.load(open("job.json")) == json.load(open(os.environ["DCM_JOB_FILE"]))
print(json.dumps([told, dict(os.environ), sys.argv, os.getcwd(), os.path.isdir(os.environ["DCM_OUTPUTS"])]))
""")
        order = self.order(script, "-z", "")
        status, output, trouble = self.run_order(order)
        self.assertEqual((status, trouble), (0, ""))
        told, environment, arguments, folder, has_outputs = json.loads(output)
        self.assertEqual(told, {
            "jobName": "segment", "headers": order["headers"], "params": {"a": [1]}, "added_params": {"dcm2nii": {}}, "attempt": 2,
            "runId": "R1", "workdir": order["workdir"], "data": str(self.root), "dcmpath": "dicom/R1",
            "outputs": str(self.workdir / "outputs"), "runOutputs": str(self.root / "outputs/R1"),
        })
        self.assertEqual(arguments[1:], ["-z", ""])
        self.assertEqual(folder, os.path.realpath(self.workdir))
        self.assertTrue(has_outputs)
        self.assertEqual(
            {name: environment[name] for name in ("DCM_JOB_NAME", "DCM_RUN_ID", "DCM_ATTEMPT", "DCM_WORKDIR", "DCM_DATA")},
            {"DCM_JOB_NAME": "segment", "DCM_RUN_ID": "R1", "DCM_ATTEMPT": "2", "DCM_WORKDIR": order["workdir"],
             "DCM_DATA": str(self.root)})
        self.assertEqual(environment["DCM_DCMPATH"], "dicom/R1")
        self.assertEqual(environment["DCM_IMAGES"], str(self.root / "dicom/R1"))
        self.assertEqual(environment["DCM_RUN_OUTPUTS"], str(self.root / "outputs/R1"))
        self.assertFalse([value for value in environment.values() if "^J" in value], "a patient's name is in the environment")
        self.assertEqual(stat.S_IMODE(os.stat(self.workdir / "job.json").st_mode), 0o600)

    def test_a_program_is_found_in_PATH_and_its_status_is_its_own(self):
        status, _, _ = self.run_order(self.order("sh", "-c", "exit 7"))
        self.assertEqual(os.WEXITSTATUS(status), 7)
        folder = self.root / "bin"
        folder.mkdir()
        self.script("bin/mine", "#!/bin/sh\necho mine\n")
        order = self.order("mine")
        order["environment"]["PATH"] = f"{folder}:/usr/bin:/bin"
        self.assertEqual(self.run_order(order), (0, "mine\n", ""))

    def test_a_program_dies_of_a_broken_pipe_as_it_would_in_a_shell(self):
        status, output, _ = self.run_order(self.order("sh", "-c", "yes | head -n 1; kill -PIPE $$"))
        self.assertEqual(output, "y\n")
        self.assertEqual(os.WTERMSIG(status), signal.SIGPIPE)

    def test_what_cannot_be_started_says_why_and_what_to_do(self):
        (self.root / "folder").mkdir()
        cases = [
            (str(self.root / "missing"), "does not exist on this worker"),
            (str(self.root / "folder"), "is a folder"),
            ("no-such-program-anywhere", "is in no folder of PATH"),
            (self.script("text", "hello\n"), "#!/bin/sh"),
            (self.script("lost", "#!/nowhere/interpreter\n"), "the interpreter that its first line names"),
        ]
        for program, words in cases:
            status, output, trouble = self.run_order(self.order(program))
            self.assertEqual(os.WEXITSTATUS(status), 70, program)
            self.assertEqual(output, "")
            self.assertIn(words, trouble)
            self.assertIn(os.path.basename(program), trouble)

    def test_a_file_without_the_right_to_execute_says_chmod(self):
        # Also for root, who may execute whatever anybody may.
        path = self.script("plain", "#!/bin/sh\n", 0o644)
        _, _, trouble = self.run_order(self.order(path))
        self.assertIn(f"chmod +x {path}", trouble)

    def test_headers_of_any_shape(self):
        for headers in (None, [], "x", {"dcmpath": 3}, {"dcmpath": "a\0b"}):
            self.assertEqual(self.run_order(self.order("true", headers=headers)), (0, "", ""), headers)


if __name__ == "__main__":
    unittest.main()
