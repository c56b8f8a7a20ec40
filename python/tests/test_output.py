import json
import os
import random
import tempfile
import unittest

import host
from dcm_processor.host import logs

SERVICE = r"""
import os, signal, subprocess, sys, threading, time

def both(**_):
    for number in range(5):
        print("out", number)
        print("err", number, file=sys.stderr)
def partial(params, **_):
    print("a whole line")
    print("half a line", end="")
    sys.stderr.write("half of another")
    getattr(sys.modules[__name__], params)()
def exits(): os._exit(0)
def crashes(): os.kill(os.getpid(), signal.SIGSEGV)
def dies(): os.kill(os.getpid(), signal.SIGKILL)
def loud(params, **_):
    line = "x" * 999
    for number in range(params): print(line)
    print("the very end")
def bytes_(params, **_):
    os.write(1, bytes.fromhex(params))
def closes(**_):
    print("before", flush=True)
    os.close(1)
    os.write(2, b"after\n")
    return 1
def leaves(params, **_):
    # Out of the group, without our mark, and with our pipes.
    print("started", flush=True)
    if os.fork() == 0:
        os.setsid()
        os.execve("/bin/sleep", ["sleep", "3600"], {})
    return 1
def lines(**_):
    for number in range(1000): print("line", number)
def silent(**_): return 1
def shell(**_): subprocess.run(["sh", "-c", "echo from a shell; echo wrong >&2"])
"""


class OutputTest(unittest.TestCase):
    def start(self, files=None, **settings):
        tree = host.Tree(files or {"svc.py": SERVICE})
        self.addCleanup(tree.remove)
        running = host.Host("jobs", tree, service="svc", **settings)
        self.addCleanup(running.close)
        return running

    def log(self, running, job="j"):
        return (running.tree.folder / "logs" / f"{job}.log").read_bytes()

    def index(self, running, job="j"):
        file = running.tree.folder / "logs" / f"{job}.log.index"
        return [tuple(map(int, line.split())) for line in file.read_text().splitlines()]

    def streams(self, running, job="j"):
        """What each stream printed, by the index."""
        content, pieces, found = self.log(running, job), self.index(running, job), {}
        for number, (offset, _, stream) in enumerate(pieces):
            end = pieces[number + 1][0] if number + 1 < len(pieces) else len(content)
            found[stream] = found.get(stream, b"") + content[offset:end]
        return found

    def test_both_streams_and_their_index(self):
        running = self.start()
        exited = running.run("svc.both")
        self.assertEqual(self.streams(running), {
            1: b"".join(b"out %d\n" % number for number in range(5)), 2: b"".join(b"err %d\n" % number for number in range(5)),
        })
        moments = [moment for _, moment, _ in self.index(running)]
        self.assertEqual(moments, sorted(moments))
        self.assertEqual(sorted(exited["tail"].splitlines()), sorted(self.log(running).decode().splitlines()))

    def test_a_silent_job_has_an_empty_log(self):
        running = self.start()
        self.assertIsNone(running.run("svc.silent")["tail"])
        self.assertEqual(self.log(running), b"")
        self.assertFalse((running.tree.folder / "logs" / "j.log.index").exists())

    def test_nothing_is_lost_whatever_ends_the_job(self):
        running = self.start()
        for way in ("exits", "crashes", "dies"):
            exited = running.run("svc.partial", job=way, params=way)
            streams = self.streams(running, way)
            self.assertEqual(streams[1], b"a whole line\nhalf a line", way)
            self.assertTrue(streams[2].startswith(b"half of another"), way)
            self.assertIn("half of another", exited["tail"])
        self.assertIn(b"Fatal Python error: Segmentation fault", self.log(running, "crashes"))

    def test_what_an_import_prints_comes_first(self):
        running = self.start({"svc.py": "print('importing')\ndef worker(**_): print('working')\n"})
        self.assertEqual(running.run("svc.worker")["tail"], "working\n")
        self.assertEqual(self.log(running), b"importing\nworking\n")
        self.assertEqual([offset for offset, _, _ in self.index(running)], [0, 10])

    def test_programs_of_the_job(self):
        running = self.start()
        running.run("svc.shell")
        self.assertEqual(self.streams(running), {1: b"from a shell\n", 2: b"wrong\n"})

    def test_wrong_bytes_stay_in_the_file_and_become_text_elsewhere(self):
        running = self.start()
        generator = random.Random(5)
        for number in range(20):
            data = bytes(generator.randrange(256) for _ in range(generator.choice([1, 3, 50, 20_000])))
            exited = running.run("svc.bytes_", job=f"b{number}", params=data.hex())
            self.assertEqual(self.log(running, f"b{number}"), data)
            self.assertLessEqual(len(exited["tail"].encode("utf-8")), logs.TAIL_BYTES)
            json.dumps(exited).encode("utf-8")

    def test_the_tail_is_the_last_lines(self):
        running = self.start()
        exited = running.run("svc.lines")
        self.assertEqual(exited["tail"], "".join(f"line {number}\n" for number in range(800, 1000)))

    def test_a_long_log_keeps_its_beginning_and_its_end(self):
        running = self.start(environment={"JOB_LOG_LIMIT": "100000"})
        exited = running.run("svc.loud", params=1000)
        self.assertEqual((exited["stopped"], exited["code"], exited["ending"]["kind"]), (None, 0, "result"))
        content = self.log(running)
        self.assertLess(len(content), 101_000)
        self.assertTrue(content.startswith(b"x" * 999 + b"\n"))
        self.assertTrue(content.endswith(b"x\nthe very end\n"))
        total = 1000 * 1000 + len("the very end\n")
        self.assertIn(f"left out {total - 100_000} bytes here".encode(), content)
        note = [offset for offset, _, stream in self.index(running) if stream == 0]
        self.assertEqual(len(note), 1)
        self.assertTrue(content[note[0]:].startswith(b"\n[DCM Processor left out"))

    def test_a_gigabyte(self):
        running = self.start(environment={"JOB_LOG_LIMIT": "200000", "JOB_LOG_RATE": "10000000000"}, files={
            "svc.py": "import os\ndef flood(**_):\n    data = b'x' * 65535 + b'\\n'\n    for _ in range(16384): os.write(1, data)\n    return 'done'\n",
        })
        exited = running.run("svc.flood")
        self.assertEqual(exited["ending"], {"kind": "result", "value": "done"})
        self.assertLess(len(self.log(running)), 201_000)
        self.assertIn(f"left out {(1 << 30) - 200_000} bytes here".encode(), self.log(running))

    def test_a_job_that_prints_too_fast_waits_and_is_heard_to_its_end(self):
        running = self.start(environment={"JOB_LOG_RATE": "1000000"})
        exited = running.run("svc.loud", params=2000)
        self.assertEqual(self.log(running), (b"x" * 999 + b"\n") * 2000 + b"the very end\n")
        # What it may print at once is what it may print in a second; the rest took its time, whatever the machine did meanwhile.
        self.assertGreater(exited["usage"]["wall"], 0.5)

    def test_a_closed_output_is_no_end(self):
        running = self.start()
        self.assertEqual(running.run("svc.closes")["ending"], {"kind": "result", "value": 1})
        self.assertEqual(self.log(running), b"before\nafter\n")

    def test_what_keeps_the_pipe_open_holds_up_nobody(self):
        running = self.start()
        self.assertEqual(running.run("svc.leaves")["ending"]["value"], 1)
        self.assertEqual(self.log(running), b"started\n")

    def test_a_full_disk_ends_no_job(self):
        running = self.start()
        exited = running.run("svc.loud", params=300, log="/dev/full")
        self.assertEqual(exited["ending"]["kind"], "result")
        self.assertTrue(exited["tail"].endswith("the very end\n"))
        running.output.seek(0)
        self.assertIn(b"/dev/full is not whole", running.output.read())

    def test_descriptors_do_not_pile_up(self):
        running = self.start()
        running.run("svc.both", job="first")
        self.assertTrue(host.eventually(lambda: len(os.listdir(f"/proc/{running.process.pid}/fd")) > 6))
        for number in range(20):
            running.run("svc.both", job=f"n{number}")
        before = len(os.listdir(f"/proc/{running.process.pid}/fd"))
        for number in range(20, 60):
            running.run("svc.both", job=f"n{number}")
        # A process that waits has three.
        self.assertLessEqual(len(os.listdir(f"/proc/{running.process.pid}/fd")), before + 3)


class TailTest(unittest.TestCase):
    def test_limits_hold_whatever_the_bytes(self):
        generator = random.Random(3)
        for _ in range(200):
            data = bytes(generator.choice([10, 65, 195, 188, 255]) for _ in range(generator.randrange(1, logs.TAIL_BYTES)))
            text = logs.tail(data, generator.random() < 0.5)
            self.assertLessEqual(len(text.encode("utf-8")), logs.TAIL_BYTES)
            self.assertLessEqual(len(text.splitlines()), logs.TAIL_LINES)


class KeptTest(unittest.TestCase):
    def test_an_end_that_came_byte_by_byte_is_kept_in_few_pieces(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "job.log")
            log = logs.JobLog(path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 100_000, 1 << 30)
            reader, writer = os.pipe()
            log.attach([reader], False)
            os.write(writer, b"h" * 50_000)
            log.read(reader)
            for number in range(20_000):
                os.write(writer, b"%d" % (number % 10))
                log.read(reader)
            os.close(writer)
            self.assertLess(len(log._kept), 20)
            log.close()
            with open(path, "rb") as file:
                text = file.read()
            self.assertTrue(text.endswith(b"0123456789" * 2000), text[-50:])


if __name__ == "__main__":
    unittest.main()
