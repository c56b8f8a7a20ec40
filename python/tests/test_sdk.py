import contextlib
import datetime
import io
import logging
import os
import pathlib
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import host
import dcm_processor
from dcm_processor import checkpoints, job


class State:
    """Something that JSON could not hold."""

    def __init__(self, names):
        self.names = names

    def __eq__(self, other):
        return self.names == other.names


class Spiteful:
    def __reduce__(self):
        return (int, ("no number",))


class OutsideTest(unittest.TestCase):
    """Without a job around it."""

    def test_every_call_does_nothing(self):
        dcm_processor.progress(0.5, "half")
        dcm_processor.artifact("no/such/file")
        dcm_processor.checkpoint({"a": 1})
        self.assertIsNone(dcm_processor.resume())
        self.assertFalse(dcm_processor.cancelled())
        self.assertFalse(job._job.asks)
        dcm_processor.log("a line")

    def test_what_is_exported_has_a_docstring_and_types(self):
        for name in ("artifact", "cancelled", "checkpoint", "progress", "resume"):
            function = getattr(dcm_processor, name)
            self.assertIn(name, dcm_processor.__all__)
            self.assertTrue(function.__doc__)
            self.assertIn("return", function.__annotations__)
        self.assertTrue((pathlib.Path(dcm_processor.__file__).parent / "py.typed").exists())

    def test_a_job_that_keeps_no_checkpoints_does_not_load_their_code(self):
        code = "import sys, dcm_processor; print(*({'pickle', 'hashlib', 'typing'} & set(sys.modules)))"
        output = subprocess.run(
            [sys.executable, "-S", "-c", code], env={"PYTHONPATH": str(host.PACKAGE)}, check=True, capture_output=True, timeout=host.LIMIT
        )
        self.assertEqual(output.stdout.split(), [])


class InsideTest(unittest.TestCase):
    """With a job's channel and folders around it."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="dcm-sdk-")
        self.addCleanup(folder.cleanup)
        self.data = pathlib.Path(folder.name).resolve()
        self.folder = self.data / ".checkpoints" / "RUN.3"
        self.log = io.StringIO()
        self.handler = logging.StreamHandler(self.log)
        self.addCleanup(self.end)

    def end(self):
        for name in [name for name in vars(job._job)]:
            delattr(job._job, name)
        for handler in list(job.log.handlers):
            if not isinstance(handler, logging.NullHandler):
                job.log.removeHandler(handler)

    def attempt(self, token):
        """This process becomes that attempt."""
        self.end()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        with contextlib.redirect_stderr(self.log):
            job._attach(ours, str(self.data), str(self.data / "work"), str(self.folder / str(token)))
        return theirs

    def kept(self):
        return sorted(os.listdir(self.folder), key=int)


class CheckpointTest(InsideTest):
    def test_the_next_attempt_gets_what_the_last_one_kept(self):
        self.attempt(1)
        self.assertIsNone(dcm_processor.resume())
        kept = {"slices": {1, 2, 3}, "at": datetime.date(2020, 1, 2), ("a", 1): State(["x"]), "bytes": b"\0\xff"}
        dcm_processor.checkpoint("an earlier one")
        dcm_processor.checkpoint(kept)
        self.attempt(4)
        self.assertEqual(dcm_processor.resume(), kept)
        dcm_processor.checkpoint(["ours"])
        self.assertEqual(dcm_processor.resume(), ["ours"])

    def test_none_and_false_are_values_too(self):
        self.attempt(1)
        dcm_processor.checkpoint("first")
        dcm_processor.checkpoint(False)
        self.attempt(2)
        self.assertIs(dcm_processor.resume(), False)

    def test_an_attempt_that_lost_its_job_feeds_no_later_one_and_reads_no_later_one(self):
        self.attempt(7)
        dcm_processor.checkpoint("seven")
        self.attempt(5)
        self.assertIsNone(dcm_processor.resume())
        dcm_processor.checkpoint("five, written later")
        self.assertEqual(dcm_processor.resume(), "five, written later")
        self.attempt(7)
        self.assertEqual(dcm_processor.resume(), "seven")
        self.attempt(12)
        self.assertEqual(dcm_processor.resume(), "seven")

    def test_tokens_count_as_numbers(self):
        for token in (9, 10):
            self.attempt(token)
            dcm_processor.checkpoint(token)
        self.attempt(11)
        self.assertEqual(dcm_processor.resume(), 10)

    def test_two_are_kept_at_most(self):
        for token in (1, 2, 3, 8):
            self.attempt(token)
            dcm_processor.checkpoint(token)
        self.attempt(5)
        dcm_processor.checkpoint(5)
        self.assertEqual(self.kept(), ["3", "5", "8"])

    def test_a_spoiled_one_is_left_out_with_a_warning(self):
        spoilers = {
            "empty": lambda path: path.write_bytes(b""),
            "cut": lambda path: path.write_bytes(path.read_bytes()[:-9]),
            "a bit": lambda path: path.write_bytes(path.read_bytes()[:20] + b"!" + path.read_bytes()[21:]),
            "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
            "another": lambda path: path.write_bytes(pickle.dumps({"a": 1}) * 20),
            "a folder": lambda path: (path.unlink(), path.mkdir()),
        }
        for name, spoil in spoilers.items():
            with self.subTest(name):
                self.folder = self.data / name
                self.attempt(1)
                dcm_processor.checkpoint({"good": True})
                self.attempt(2)
                dcm_processor.checkpoint({"text": "x" * 100})
                spoil(self.folder / "2")
                self.attempt(3)
                self.log.truncate(0)
                self.assertEqual(dcm_processor.resume(), {"good": True})
                self.assertIn(f"{self.folder / '2'} cannot be read", self.log.getvalue())
                self.assertIn("WARNING", self.log.getvalue())

    def test_one_whose_class_refuses_to_come_back_is_left_out(self):
        self.attempt(1)
        dcm_processor.checkpoint("good")
        self.attempt(2)
        dcm_processor.checkpoint(Spiteful())
        self.assertEqual(dcm_processor.resume(), "good")
        self.assertIn("ValueError", self.log.getvalue())

    def test_what_cannot_be_kept_leaves_the_former_one(self):
        self.attempt(1)
        dcm_processor.checkpoint("good")
        with self.assertRaises((pickle.PicklingError, AttributeError, TypeError)):
            dcm_processor.checkpoint(["x" * 100000, threading.Lock()])
        with self.assertRaises(checkpoints.TooLarge) as raised:
            checkpoints.write(str(self.folder / "1"), b"x" * 5000, limit=4096)
        self.assertIn("more than 4096 bytes", str(raised.exception))
        self.assertIsInstance(raised.exception, ValueError)
        self.assertEqual(dcm_processor.resume(), "good")
        self.assertEqual(self.kept(), ["1"])

    def test_a_folder_that_cannot_be_made_is_an_error_that_says_so(self):
        self.folder = self.data / "file" / "RUN.1"
        (self.data / "file").write_text("in the way")
        self.attempt(1)
        with self.assertRaises(OSError):
            dcm_processor.checkpoint(1)

    def test_threads_write_whole_ones(self):
        self.attempt(1)
        threads = [
            threading.Thread(target=lambda number=number: [dcm_processor.checkpoint([number] * 10000) for _ in range(10)])
            for number in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(set(dcm_processor.resume())), 1)
        self.assertEqual(self.kept(), ["1"])


class CancelledTest(InsideTest):
    def test_a_job_that_never_asks_is_not_asked(self):
        self.attempt(1)
        self.assertFalse(job._defer_stop())

    def test_a_job_that_asks_is_told_once_and_then_made_to(self):
        self.attempt(1)
        self.assertFalse(dcm_processor.cancelled())
        self.assertTrue(job._defer_stop())
        self.assertFalse(job._has_stopped())
        self.assertTrue(dcm_processor.cancelled())
        self.assertTrue(job._has_stopped())
        self.assertFalse(job._defer_stop())

    def test_what_a_job_forks_is_ended_by_sigterm_as_ever(self):
        self.attempt(1)
        dcm_processor.cancelled()
        child = os.fork()
        if child == 0:
            os._exit(1 if job._defer_stop() else 0)
        self.assertEqual(os.waitpid(child, 0)[1], 0)


SERVICE = """
import os, time
from dcm_processor import cancelled, checkpoint, resume

def mark(path, text=""):
    with open(path + ".part", "w") as file:
        file.write(text)
    os.rename(path + ".part", path)

def counts(params, **_):
    done = resume() or 0
    checkpoint(done + 1)
    if done < 2:
        os._exit(9)
    return done

def asks(params, **_):
    cancelled()
    mark(params)
    while not cancelled():
        time.sleep(0.01)
    mark(params + ".tidy")
    return "not a success"

def asks_once(params, **_):
    cancelled()
    mark(params)
    from dcm_processor import job
    while not job._job.stops:
        time.sleep(0.01)
    return "done all the same"

def clings(params, **_):
    cancelled()
    mark(params, str(os.getpid()))
    try:
        while True:
            time.sleep(0.01)
    finally:
        mark(params + ".raised")
"""


class HostTest(unittest.TestCase):
    """In a job of a real host."""

    def setUp(self):
        self.tree = host.Tree({"svc.py": SERVICE})
        self.addCleanup(self.tree.remove)
        self.host = host.Host("jobs", self.tree, service="svc", preload=True)
        self.addCleanup(self.host.close)
        self.file = self.tree.folder / "mark"

    def begin(self, entry, **changes):
        self.host.channel.send(self.host.order(entry, params=str(self.file), **changes))
        self.assertTrue(host.eventually(self.file.exists))

    def test_attempts_that_die_hand_on_their_checkpoint(self):
        folder = self.tree.folder / "data" / ".checkpoints" / "r.1"
        endings = []
        for token in (3, 5, 6):
            endings.append(self.host.run("svc.counts", job=f"j{token}", checkpoint=str(folder / str(token))))
        self.assertEqual([ending["code"] for ending in endings], [9, 9, 0])
        self.assertEqual(endings[2]["ending"]["value"], 2)

    def test_a_job_that_asks_ends_by_itself_and_is_no_success(self):
        self.begin("svc.asks", grace=60)
        self.host.channel.send({"type": "stop", "job": "j", "reason": "cancel"})
        exited = self.host.until("exited")[-1]
        self.assertEqual((exited["ending"], exited["signal"], exited["stopped"]), (None, signal.SIGTERM, "cancel"))
        self.assertTrue((self.tree.folder / "mark.tidy").exists())

    def test_a_job_that_was_not_told_has_succeeded(self):
        self.begin("svc.asks_once", grace=60)
        self.host.channel.send({"type": "stop", "job": "j", "reason": "cancel"})
        exited = self.host.until("exited")[-1]
        self.assertEqual(exited["ending"], {"kind": "result", "value": "done all the same"})

    def test_a_second_sigterm_raises(self):
        self.begin("svc.clings", grace=60)
        process = int(self.file.read_text())
        while not (self.tree.folder / "mark.raised").exists():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)
            time.sleep(0.05)
        self.assertEqual(self.host.until("exited")[-1]["signal"], signal.SIGTERM)


if __name__ == "__main__":
    unittest.main()
