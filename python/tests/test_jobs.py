import pathlib
import signal
import socket
import time
import unittest

import host
from dcm_processor.host import jobs

SERVICE = """
import os, subprocess, sys, threading, time

def plain(jobName, headers, params, added_params): return [jobName, headers, params, added_params]
def more(jobName, headers, params, added_params, **kwargs): return sorted(kwargs)
def some(jobName, headers, params, added_params, attempt): return attempt
def fail(**_): raise ValueError("no good")
def wait(params, **_):
    child = subprocess.Popen(["sleep", "3600"])
    with open(params + ".part", "w") as file:
        file.write(f"{os.getpid()} {child.pid}")
    os.rename(params + ".part", params)
    time.sleep(3600)
def noise(**_):
    from dcm_processor import job
    for message in (b"", b"{", b"[1]", b"{}", b'{"type": "progress"}', b'{"type": "artifact"}', b'{"type": "ending"}'):
        job._job.channel.send(message or b" ")
    return "still here"
def fast(**_):
    from dcm_processor import progress
    for step in range(10000):
        progress(step / 10000, "x" * 5000)
    progress(1.0, "done")
def environment(**_): return os.environ["OWN"]
"""


class JobsTest(unittest.TestCase):
    def start(self, files=None, **settings):
        tree = host.Tree(files or {"svc.py": SERVICE})
        self.addCleanup(tree.remove)
        running = host.Host("jobs", tree, service="svc", **settings)
        self.addCleanup(running.close)
        return running

    def test_arguments(self):
        for preload in (True, False):
            running = self.start(preload=preload)
            self.assertEqual(running.run("svc.plain")["ending"], {"kind": "result", "value": ["name", {"h": 1}, None, {}]})
            self.assertEqual(running.run("svc.more")["ending"]["value"], ["attempt", "runId", "workdir"])
            self.assertEqual(running.run("svc.some", attempt=3)["ending"]["value"], 3)
            self.assertEqual(running.run("svc.environment", environment={"OWN": "x"})["ending"]["value"], "x")

    def test_an_exception(self):
        running = self.start()
        exited = running.run("svc.fail")
        self.assertEqual(exited["code"], 1)
        self.assertEqual(exited["ending"]["kind"], "exception")
        self.assertEqual(exited["ending"]["error"]["type"], "ValueError")
        self.assertNotIn("child.py", exited["ending"]["error"]["traceback"])
        self.assertGreater(exited["usage"]["peakMemory"], 1 << 20)
        self.assertIn("ValueError: no good", (running.tree.folder / "logs" / "j.log").read_text())

    def test_import_that_fails_in_the_host_and_in_the_job(self):
        files = {"svc.py": "print('hello')\nraise RuntimeError('x')\n"}
        running = self.start(files)
        running.channel.send(running.order("svc.worker"))
        refused = running.until("refused")[-1]
        self.assertEqual((refused["reason"], refused["error"]["type"]), ("import", "RuntimeError"))
        self.assertEqual((running.tree.folder / "logs" / "j.log").read_text(), "hello\n")
        exited = self.start(files, preload=False).run("svc.worker")
        self.assertEqual((exited["ending"]["kind"], exited["ending"]["error"]["type"]), ("broken", "RuntimeError"))

    def test_import_that_starts_a_thread_is_refused(self):
        running = self.start({"svc.py": "import threading, time\nthreading.Thread(target=time.sleep, args=(99,), daemon=True).start()\n"
                                        "def worker(**_): return 1\n"})
        running.channel.send(running.order("svc.worker"))
        self.assertEqual(running.until("refused")[-1]["reason"], "threads")

    def test_log_that_cannot_be_written(self):
        running = self.start()
        running.channel.send(running.order("svc.plain", log="/proc/nowhere/x.log"))
        refused = running.until("refused")[-1]
        self.assertEqual(refused["reason"], "resources")
        self.assertIn("/proc/nowhere/x.log", refused["error"]["message"])
        self.assertEqual(running.run("svc.plain")["code"], 0)

    def test_a_stop_ends_the_group_and_the_host_stays(self):
        running = self.start()
        mark = running.tree.folder / "mark"
        # A grace that no load uses up: SIGKILL must not come before the job has ended by SIGTERM.
        running.channel.send(running.order("svc.wait", params=str(mark), grace=600))
        self.assertTrue(host.eventually(mark.exists))
        pids = [int(pid) for pid in mark.read_text().split()]
        running.channel.send({"type": "stop", "job": "unknown", "reason": "cancel"})
        running.channel.send({"type": "stop", "job": "j", "reason": "cancel"})
        exited = running.until("exited")[-1]
        self.assertEqual((exited["stopped"], exited["signal"], exited["ending"]), ("cancel", signal.SIGTERM, None))
        self.assertTrue(host.eventually(lambda: not any(map(host.is_alive, pids))))
        self.assertEqual(running.run("svc.plain")["code"], 0)

    def test_a_host_that_nobody_listens_to_ends_its_jobs(self):
        running = self.start()
        mark = running.tree.folder / "mark"
        running.channel.send(running.order("svc.wait", params=str(mark)))
        self.assertTrue(host.eventually(mark.exists))
        pids = [int(pid) for pid in mark.read_text().split()]
        running.channel.connection.close()
        self.assertEqual(running.process.wait(host.LIMIT), 0)
        self.assertTrue(host.eventually(lambda: not any(map(host.is_alive, pids))))

    def test_what_left_the_group_ends_with_its_job_and_with_no_other(self):
        running = self.start({"svc.py": "\n".join([
            "import os, subprocess, time",
            "def session(params, **_):",
            "    pids = [subprocess.Popen(['sleep', '3600'], start_new_session=True, stdout=subprocess.DEVNULL,",
            "                             stderr=subprocess.DEVNULL).pid]",
            "    ours, theirs = os.pipe()",
            "    if os.fork() == 0:",
            "        os.setsid()",
            "        pid = os.fork()",
            "        if pid == 0:",
            "            os.write(theirs, str(os.getpid()).encode())",
            "            time.sleep(3600)",
            "        os._exit(0)",
            "    pids.append(int(os.read(ours, 100)))",
            "    with open(params + '.part', 'w') as file: file.write(' '.join(map(str, pids)))",
            "    os.rename(params + '.part', params)",
            "    while params.endswith('long'): time.sleep(1)",
        ])})
        marks = [running.tree.folder / name for name in ("long", "short", "alone")]

        def pids(mark):
            return [int(pid) for pid in mark.read_text().split()]

        running.channel.send(running.order("svc.session", job="long", params=str(marks[0])))
        self.assertTrue(host.eventually(marks[0].exists))
        self.assertEqual(running.run("svc.session", job="short", params=str(marks[1]))["job"], "short")
        self.assertTrue(host.eventually(lambda: not any(map(host.is_alive, pids(marks[1])))))
        self.assertEqual([host.is_alive(pid) for pid in pids(marks[0])], [True, True])
        running.channel.send({"type": "stop", "job": "long", "reason": "cancel"})
        running.until("exited")
        self.assertTrue(host.eventually(lambda: not any(map(host.is_alive, pids(marks[0])))))
        self.assertEqual(running.run("svc.session", job="alone", params=str(marks[2]))["job"], "alone")
        self.assertTrue(host.eventually(lambda: not any(map(host.is_alive, pids(marks[2])))))

    def test_a_host_that_is_deserted_while_it_speaks_ends_its_jobs(self):
        running = self.start({"svc.py": SERVICE + "\ndef chat(params, **_):\n    from dcm_processor import progress\n"
                                                  "    child = subprocess.Popen(['sleep', '3600'])\n"
                                                  "    open(params, 'w').write(str(child.pid))\n"
                                                  "    while True:\n        progress(0.5)\n        time.sleep(0.001)\n"})
        mark = running.tree.folder / "mark"
        running.channel.send(running.order("svc.chat", params=str(mark)))
        running.until("progress")
        pid = int(mark.read_text())
        # Orders still come, answers go nowhere.
        running.channel.connection.shutdown(socket.SHUT_RD)
        self.assertEqual(running.process.wait(host.LIMIT), 0)
        self.assertTrue(host.eventually(lambda: not host.is_alive(pid)))

    def test_nonsense_on_a_jobs_channel_hurts_nobody(self):
        running = self.start()
        exited = running.run("svc.noise")
        self.assertEqual(exited["ending"], {"kind": "result", "value": "still here"})

    def test_progress_is_thinned_and_its_end_is_kept(self):
        running = self.start()
        start = time.monotonic()
        running.channel.send(running.order("svc.fast"))
        reports = [message for message in running.until("exited") if message["type"] == "progress"]
        self.assertEqual((reports[-1]["fraction"], reports[-1]["text"]), (1.0, "done"))
        # One at once, one each interval, one at the end.
        self.assertLessEqual(len(reports), (time.monotonic() - start) / jobs.PROGRESS_INTERVAL + 2)
        self.assertTrue(all(len(report["text"]) <= 1000 for report in reports))

    def test_old_code_is_refused(self):
        running = self.start()
        self.assertEqual(running.run("svc.plain")["code"], 0)
        running.tree.write("svc.py", SERVICE + "\n")
        # Module files beside the service's folder count because they are loaded.
        running.channel.send(running.order("svc.plain"))
        self.assertEqual(running.until("refused")[-1]["reason"], "stale")

    def test_code_that_changes_under_its_import_does_not_run(self):
        swapping = ("import pathlib\nfrom . import part\npathlib.Path(part.__file__).write_text('VALUE = 2\\n')\n"
                    "def worker(**_):\n    return part.VALUE\n")
        tree = host.Tree({"svc/__init__.py": swapping, "svc/part.py": "VALUE = 1\n"})
        self.addCleanup(tree.remove)
        torn = host.Host("jobs", tree, service="svc")
        self.addCleanup(torn.close)
        torn.channel.send(torn.order("svc.worker"))
        self.assertEqual(torn.until("refused")[-1]["reason"], "stale")
        whole = host.Host("jobs", tree, service="svc")
        self.addCleanup(whole.close)
        self.assertEqual(whole.run("svc.worker")["ending"]["value"], 2)

    def test_an_import_that_fails_because_its_code_changes_is_tried_with_the_new_code(self):
        swapping = "import pathlib\npathlib.Path(__file__).write_text('def worker(**_): return 2\\n')\nfrom . import gone\n"
        tree = host.Tree({"svc/__init__.py": swapping})
        self.addCleanup(tree.remove)
        torn = host.Host("jobs", tree, service="svc")
        self.addCleanup(torn.close)
        torn.channel.send(torn.order("svc.worker"))
        self.assertEqual(torn.until("refused")[-1]["reason"], "stale")

    def test_jobs_do_not_hold_the_hosts_sockets(self):
        running = self.start({"svc.py": "import os\ndef worker(**_):\n    return sorted(os.readlink(f'/proc/self/fd/{name}') for name in "
                                        "os.listdir('/proc/self/fd') if os.path.islink(f'/proc/self/fd/{name}'))\n"})
        files = running.run("svc.worker")["ending"]["value"]
        self.assertEqual(sum(name.startswith("socket:") for name in files), 1, files)
        self.assertFalse(any("eventpoll" in name for name in files), files)


class LeanTest(unittest.TestCase):
    def test_a_host_imports_nothing_that_makes_forks_dear(self):
        tree = host.Tree({"svc.py": "import sys\nseen = sorted(sys.modules)\ndef worker(**_): return seen\n"
                                    "def late(**_):\n    from dcm_processor import log, progress\n    progress(1.0, 'late')\n"
                                    "    log.info('late')\n    return 1\n"})
        self.addCleanup(tree.remove)
        running = host.Host("jobs", tree, service="svc")
        self.addCleanup(running.close)
        seen = set(running.run("svc.worker")["ending"]["value"])
        self.assertEqual(seen & {"threading", "logging", "hashlib", "inspect", "traceback", "argparse", "typing", "subprocess"}, set())
        # The SDK is there all the same for whoever imports it in the job.
        running.channel.send(running.order("svc.late"))
        messages = running.until("exited")
        self.assertEqual([message["text"] for message in messages if message["type"] == "progress"], ["late"])
        self.assertIn("INFO late", messages[-1]["tail"])


class OutsideTest(unittest.TestCase):
    def test_the_sdk_does_nothing_outside_a_job(self):
        from dcm_processor import artifact, log, progress
        progress(0.5, "text")
        artifact("/etc/passwd")
        log.info("text")
        log("text")
        self.assertFalse(pathlib.Path("text").exists())


if __name__ == "__main__":
    unittest.main()
