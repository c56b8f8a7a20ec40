"""What ends a job, apart from the job itself."""

import json
import os
import pathlib
import resource
import shutil
import signal
import sys
import unittest

import host
from dcm_processor.host import jobs, processes

SERVICE = r"""
import ctypes, os, resource, signal, subprocess, sys, time

def grow(params, **_):
    kept = []
    while True: kept.append(bytearray(params))
def hoard(params, **_):
    # In two processes, each within the limit; together they are not.
    pid = os.fork()
    kept = bytearray(params)
    time.sleep(3600)
def bomb(params, **_):
    # A bomb with a fuse: it stops at some thousands, should nobody stop it.
    with open(params, "ab", buffering=0) as marks:
        for _ in range(7):
            try: os.fork()
            except OSError: pass
            marks.write(b"%d\n" % os.getpid())
    time.sleep(3600)
def crowd(**_):
    # As many as a job may have, and then some; they end with their group.
    for _ in range(5000):
        if os.fork() == 0: time.sleep(3600)
def fill(params, **_):
    kept = bytearray(params)
def orphan(**_):
    # A grandchild that nobody waits for.
    ours, theirs = os.pipe()
    if os.fork() == 0:
        if os.fork() == 0:
            end = time.process_time() + 0.3
            while time.process_time() < end: pass
            os.write(theirs, b"spun")
            time.sleep(3600)
        os._exit(0)
    os.read(ours, 4)
def priority(**_):
    libc = ctypes.CDLL(None)
    return [os.nice(0), subprocess.run(["ionice", "-p", str(os.getpid())], stdout=subprocess.PIPE, text=True).stdout.strip()]
def limits(**_): return [resource.getrlimit(resource.RLIMIT_DATA)[0], resource.getrlimit(resource.RLIMIT_NPROC)[0]]
def closes(**_):
    os.closerange(3, 1000)
    return 1
def leaves(**_): os._exit(0)
def killed(**_): os.kill(os.getpid(), signal.SIGKILL)
def says(params, **_):
    from dcm_processor import job, progress
    progress(0)
    for text in params: job._job.channel.send(text.encode())
    os._exit(0)
def pid(**_): return [os.getpid(), os.getppid()]
def fine(**_): return 1
def leak(**_): return 1
"""


class EndsTest(unittest.TestCase):
    def start(self, files=None, tree=None, **settings):
        tree = tree or self.tree(files)
        running = host.Host("jobs", tree, service="svc", **settings)
        self.addCleanup(running.close)
        return running

    def tree(self, files=None):
        tree = host.Tree(files or {"svc.py": SERVICE})
        self.addCleanup(tree.remove)
        return tree

    def test_memory_that_one_process_asks_for(self):
        running = self.start()
        limit = 64 << 20
        exited = running.run("svc.grow", params=1 << 30, memory=limit)
        self.assertEqual((exited["stopped"], exited["ending"]["kind"], exited["ending"]["error"]["type"]), (None, "memory", "MemoryError"))

    def test_memory_that_a_process_uses(self):
        running = self.start()
        limit = 64 << 20
        # In small pieces, each of them used: the reserve of address space allows more than the job may use.
        exited = running.run("svc.hoard", params=limit + (32 << 20), memory=limit, grace=600)
        self.assertEqual((exited["stopped"], exited["signal"], exited["ending"]), ("memory", signal.SIGKILL, None))
        self.assertEqual(exited["excess"]["limit"], limit)
        self.assertGreater(exited["excess"]["memory"], limit)

    def test_memory_of_the_processes_together(self):
        running = self.start()
        limit = 100 << 20
        exited = running.run("svc.hoard", params=70 << 20, memory=limit, grace=600)
        self.assertEqual((exited["stopped"], exited["signal"]), ("memory", signal.SIGKILL))
        # Neither of them had so much.
        self.assertGreater(exited["usage"]["peakMemory"], limit)
        self.assertEqual(running.run("svc.fine", memory=limit)["ending"]["value"], 1)

    def test_a_fork_bomb(self):
        running = self.start(environment={"JOB_PROCESSES": "20"})
        mark = running.tree.folder / "pids"
        exited = running.run("svc.bomb", params=str(mark), grace=600)
        self.assertEqual((exited["stopped"], exited["signal"], exited["excess"]["limit"]), ("processes", signal.SIGKILL, 20))
        self.assertGreater(exited["excess"]["processes"], 20)
        pids = {int(pid) for pid in mark.read_text().split()}
        self.assertTrue(host.eventually(lambda: not any(map(host.is_alive, pids))))
        self.assertEqual(running.run("svc.fine")["code"], 0)

    def test_usage_of_what_nobody_waited_for(self):
        running = self.start()
        usage = running.run("svc.orphan", job="o")["usage"]
        self.assertGreater(usage["user"] + usage["system"], 0.25)

    def test_a_closed_channel_and_an_early_exit(self):
        running = self.start()
        for entry in ("svc.closes", "svc.leaves"):
            exited = running.run(entry)
            self.assertEqual((exited["code"], exited["signal"], exited["ending"], exited["stopped"]), (0, None, None, None))

    def test_nonsense_on_a_jobs_own_channel_is_never_handed_on(self):
        deep = "[" * 100 + "]" * 100
        running = self.start()
        exited = running.run("svc.says", params=[
            "7", '{"type": "ending", "ending": 7}', '{"type": "ending", "ending": {"kind": "joke"}}',
            *('{"type": "ending", "ending": {"kind": "result", "value": %s}}' % value for value in ("NaN", "1e999", "1" * 400, f"[{deep}]")),
            '{"type": "ending", "ending": {"kind": "exception", "error": {"type": 1, "message": "", "traceback": null}}}',
            *('{"type": "progress", "fraction": %s, "text": null}' % value for value in ("NaN", "1e999", "1" * 400, "2", "null")),
            '{"type": "progress", "fraction": 0.5, "text": 7}',
        ])
        self.assertEqual((exited["code"], exited["ending"]), (0, None))
        exited = running.run("svc.says", params=['{"type": "ending", "ending": {"kind": "result", "value": %s, "more": NaN}}' % deep])
        self.assertEqual(exited["ending"], {"kind": "result", "value": json.loads(deep)})

    def test_a_command_whose_time_is_over_can_clear_up(self):
        running = self.start(preload=False)
        path, ready = running.tree.folder / "program", running.tree.folder / "ready"
        path.write_text("#!/bin/bash\ntrap 'echo cleared up; exit 3' TERM\ntouch \"$1\"\nwhile :; do sleep 0.1; done\n")
        path.chmod(0o755)
        running.channel.send(running.order("", command=[str(path), str(ready)], grace=60))
        self.assertTrue(host.eventually(ready.exists))
        running.channel.send({"type": "stop", "job": "j", "reason": "timeout"})
        exited = running.until("exited")[-1]
        self.assertEqual((exited["stopped"], exited["signal"], exited["code"]), ("timeout", None, 3))
        self.assertIn("cleared up\n", exited["tail"])

    def test_priorities(self):
        running = self.start()
        before = running.run("svc.priority")["ending"]["value"]
        self.assertEqual(running.run("svc.priority", nice=7, ionice="idle")["ending"]["value"], [before[0] + 7, "idle"])
        self.assertEqual(running.run("svc.priority", ionice="best-effort:6")["ending"]["value"][1], "best-effort: prio 6")
        wrong = running.run("svc.priority", ionice="realtime:0", job="wrong")
        self.assertEqual(wrong["ending"]["kind"], "result")
        self.assertIn("'realtime:0' is no I/O priority", wrong["tail"])

    def test_limits(self):
        running = self.start()
        data, count = running.run("svc.limits", memory=1 << 30)["ending"]["value"]
        self.assertGreaterEqual(data, 1 << 30)
        if os.geteuid() != 0:
            self.assertNotEqual(count, resource.RLIM_INFINITY)

    @unittest.skipIf(os.geteuid() != 0, "only root may start a host as somebody else")
    def test_a_bomb_of_a_user_who_is_not_root_meets_the_kernels_limit(self):
        tree = self.tree()
        # Where the checkout is that user may not be let in.
        package = tree.folder / "package"
        shutil.copytree(host.PACKAGE / "dcm_processor", package / "dcm_processor", ignore=shutil.ignore_patterns("__pycache__"))
        nobody = 65534
        for place in (tree.folder, tree.folder / "work", tree.folder / "logs"):
            os.chown(place, nobody, nobody)
        running = self.start(tree=tree, package=package, start={"user": nobody, "group": nobody, "extra_groups": []})
        threads = processes.all_threads()
        limit = running.run("svc.limits", processes=50)["ending"]["value"][1]
        # Threads come and go on a machine that does other things.
        self.assertTrue(50 < limit < threads + 2000, (threads, limit))
        refused = running.run("svc.crowd", processes=50, job="crowd")
        # The kernel refuses a fork, or the host sees more processes than allowed: whichever is first.
        self.assertTrue(refused["stopped"] == "processes" or refused["ending"]["error"]["type"] == "BlockingIOError", refused)
        self.assertEqual(running.run("svc.fine", processes=50, job="after")["ending"]["value"], 1)

    def test_what_the_kernel_kills_because_memory_ran_out_is_said(self):
        group = self.memory_group(200 << 20)

        def join():
            (group / "cgroup.procs").write_text(str(os.getpid()))

        running = self.start(start={"preexec_fn": join})
        exited = running.run("svc.fill", params=1 << 30)
        self.assertEqual((exited["stopped"], exited["signal"], exited["ending"], exited["kernelKilled"]), (None, signal.SIGKILL, None, True))
        self.assertEqual(running.run("svc.fine", job="after")["ending"]["value"], 1)

    def memory_group(self, limit):
        """A control group of this test's own with a limit of memory."""
        first = pathlib.Path("/sys/fs/cgroup/memory")
        is_first = (first / "memory.limit_in_bytes").exists()
        place = (first if is_first else pathlib.Path("/sys/fs/cgroup")) / f"dcm-test-{os.getpid()}"
        try:
            place.mkdir()
            self.addCleanup(place.rmdir)
            (place / ("memory.limit_in_bytes" if is_first else "memory.max")).write_text(str(limit))
            swap = place / ("memory.swappiness" if is_first else "memory.swap.max")
            if swap.exists():
                swap.write_text("0")
        except OSError as error:
            self.skipTest(f"a control group with a limit of memory cannot be made here: {error}")
        return place

    def test_a_kill_by_the_kernel_is_told_from_others(self):
        running = self.start({"svc.py": SERVICE + "\nimport pathlib\ndef reaped(params, **_):\n"
                                                  "    pathlib.Path(params).write_text('oom_kill_disable 0\\nunder_oom 0\\noom_kill 8\\n')\n"
                                                  "    os.kill(os.getpid(), signal.SIGKILL)\n"})
        self.assertNotIn("kernelKilled", running.run("svc.killed"))
        file = running.tree.folder / "events"
        file.write_text("oom_kill 7\n")
        kills = processes.KernelKills(str(file))
        self.addCleanup(kills.close)
        self.assertEqual(kills.count(), 7)
        self.assertEqual(running.run("svc.reaped", params=str(file))["signal"], signal.SIGKILL)
        self.assertEqual(kills.count(), 8)
        self.assertEqual(processes.KernelKills("/nowhere").count(), 0)

    # Recycling

    def test_a_host_that_has_forked_often_refuses_and_fails_nobody(self):
        running = self.start(forkLimit=3)
        for number in range(10):
            running.channel.send(running.order("svc.fine", job=f"n{number}"))
            message = self.answer(running)
            if message["type"] == "refused":
                break
        self.assertEqual((message["type"], message["reason"], message["error"]), ("refused", "worn", None))
        self.assertGreaterEqual(number, 1)

    def test_a_host_that_has_grown_refuses(self):
        # What a job's process does cannot make its host grow; looking up a function can.
        files = {"svc.py": SERVICE + "\nkept = []\ndef __getattr__(name):\n    if name != 'large': raise AttributeError(name)\n"
                                     "    kept.append(bytearray(40 << 20))\n    return fine\n"}
        running = self.start(files)
        self.assertEqual(running.run("svc.fine")["code"], 0)
        self.assertEqual(running.run("svc.large")["code"], 0)
        answers = []
        while len(answers) < 10 * jobs.WEAR_INTERVAL and (not answers or answers[-1]["type"] == "exited"):
            running.channel.send(running.order("svc.fine", job=f"n{len(answers)}"))
            answers.append(self.answer(running))
        self.assertEqual(answers[-1].get("reason"), "worn")
        self.assertEqual({answer["code"] for answer in answers[:-1]} | {0}, {0})

    def answer(self, running):
        while True:
            message = running.channel.receive()
            if message["type"] in ("exited", "refused"):
                return message

    # The process that waits

    def spare(self, running):
        found = []

        def look():
            found[:] = processes._listed_children(running.process.pid) or []
            return found

        self.assertTrue(host.eventually(look))
        return found[0]

    def test_the_next_job_runs_in_the_process_that_waits(self):
        running = self.start()
        running.run("svc.pid")
        spare = self.spare(running)
        self.assertEqual(running.run("svc.pid")["ending"]["value"], [spare, running.process.pid])

    def test_a_waiting_process_that_was_killed_costs_nobody(self):
        running = self.start()
        running.run("svc.fine")
        spare = self.spare(running)
        os.kill(spare, signal.SIGKILL)
        self.assertTrue(host.eventually(lambda: not host.is_alive(spare)))
        self.assertEqual(running.run("svc.fine")["ending"]["value"], 1)

    def test_a_long_order_and_a_new_function_need_no_waiting_process(self):
        running = self.start()
        running.run("svc.fine")
        spare = self.spare(running)
        self.assertNotEqual(running.run("svc.pid")["ending"]["value"][0], spare)
        spare = self.spare(running)
        self.assertNotEqual(running.run("svc.pid", headers={"text": "x" * 300_000})["ending"]["value"][0], spare)
        self.assertTrue(host.eventually(lambda: not host.is_alive(spare)))

    def test_the_waiting_process_goes_with_its_host_and_with_old_code(self):
        running = self.start()
        running.run("svc.fine")
        spare = self.spare(running)
        running.process.kill()
        running.process.wait(host.LIMIT)
        self.assertTrue(host.eventually(lambda: not host.is_alive(spare)))
        running = self.start()
        running.run("svc.fine")
        spare = self.spare(running)
        running.channel.connection.close()
        self.assertEqual(running.process.wait(host.LIMIT), 0)
        self.assertTrue(host.eventually(lambda: not host.is_alive(spare)))

    def test_the_waiting_process_goes_when_no_job_comes(self):
        running = self.start(sparePatience=0.1)
        running.run("svc.fine")
        self.assertTrue(host.eventually(lambda: not processes._listed_children(running.process.pid)))
        self.assertEqual(running.run("svc.fine")["code"], 0)


class TreeTest(unittest.TestCase):
    def test_descendants_by_the_kernels_lists_and_by_a_search(self):
        import subprocess
        child = subprocess.Popen([sys.executable, "-c", "import os, sys, time\nif os.fork():\n    os.fork()\nprint(flush=True)\ntime.sleep(3600)"],
                                 stdout=subprocess.PIPE)
        self.addCleanup(child.stdout.close)
        self.addCleanup(child.wait)
        self.addCleanup(lambda: [os.kill(pid, signal.SIGKILL) for pid in processes.descendants(child.pid) | {child.pid}])
        for _ in range(3):
            child.stdout.readline()
        listed = processes.descendants(child.pid)
        self.assertEqual(len(listed), 2)
        original = processes._listed_children
        processes._listed_children = lambda pid, threads=None: None
        try:
            self.assertEqual(processes.descendants(child.pid), listed)
            self.assertIn(child.pid, processes.children())
        finally:
            processes._listed_children = original
        self.assertGreater(processes.resident(child.pid), 1 << 20)
        self.assertLessEqual(processes.proportional(child.pid), processes.resident(child.pid))


if __name__ == "__main__":
    unittest.main()
