import unittest

import host


class CallbacksTest(unittest.TestCase):
    def start(self, files, **settings):
        tree = host.Tree(files)
        self.addCleanup(tree.remove)
        running = host.Host("callbacks", tree, **settings)
        self.addCleanup(running.close)
        return running

    def ask(self, running, *entries, headers=None, added=None):
        running.channel.send({
            "type": "evaluate", "request": 1, "headers": headers or {}, "addedParams": added or {},
            "calls": [{"jobName": entry, "entry": entry, "params": None} for entry in entries],
        })
        return [message for message in running.until("done") if message["type"] == "verdict"]

    def test_greeting(self):
        running = self.start({})
        self.assertEqual(running.hello["protocol"], 2)
        self.assertEqual(running.hello["role"], "callbacks")
        self.assertEqual(running.hello["pid"], running.process.pid)

    def test_nothing_of_one_patient_reaches_the_next(self):
        running = self.start({"svc.py": "\n".join([
            "def first(headers, added_params, **_):",
            "    headers['x'] = added_params['x'] = 1",
            "    return headers['ok'], {'storage': headers['who']}",
            "def second(headers, added_params, **_):",
            "    return True, {'seen': sorted(added_params), 'headers': sorted(headers)}",
        ])})
        one = self.ask(running, "svc.first", "svc.second", headers={"ok": True, "who": "A"})
        two = self.ask(running, "svc.first", "svc.second", headers={"ok": False, "who": "B"})
        self.assertEqual(one[1]["added"], {"seen": ["svc.first"], "headers": ["ok", "who"]})
        self.assertEqual(two[1]["added"], {"seen": [], "headers": ["ok", "who"]})
        self.assertFalse(two[0]["accepted"])
        self.assertEqual(two[0]["added"], {})

    def test_nothing_that_a_callback_keeps_outlives_its_request(self):
        running = self.start({"svc.py": "\n".join([
            "import os, sys, threading, time",
            "known = []",
            "def callback(headers, kept=[], **_):",
            "    seen = [list(known), list(kept), os.environ.get('PATIENT'), os.path.basename(os.getcwd()), threading.active_count()]",
            "    known.append(headers['who'])",
            "    kept.append(headers['who'])",
            "    os.environ['PATIENT'] = headers['who']",
            "    os.chdir('/usr')",
            "    sys.modules['os'].leak = headers['who']",
            "    threading.Thread(target=time.sleep, args=(3600,)).start()",
            "    return True, {'seen': seen, 'pid': os.getpid()}",
            "def other(**_): return True, {'pid': os.getpid(), 'known': list(known), 'leak': getattr(os, 'leak', None)}",
        ])})
        answers = [self.ask(running, "svc.callback", "svc.other", headers={"who": who}) for who in "ABC"]
        for who, (first, second) in zip("ABC", answers):
            self.assertIsNone(first["error"])
            self.assertEqual(first["added"]["seen"][:3], [[], [], None])
            self.assertNotEqual(first["added"]["seen"][3], "usr")
            self.assertEqual(first["added"]["seen"][4], 1)
            # Within one request the callbacks share a process, as upstream's do.
            self.assertEqual(second["added"]["known"], [who])
            self.assertEqual(second["added"]["pid"], first["added"]["pid"])
        self.assertEqual(len({first["added"]["pid"] for first, _ in answers}), 3)

    def test_a_module_is_imported_once(self):
        running = self.start({"svc.py": "import os\nimported_by = os.getpid()\ndef callback(**_): return True, {'by': imported_by}\n"})
        for _ in range(3):
            self.assertEqual(self.ask(running, "svc.callback")[0]["added"], {"by": running.process.pid})

    def test_what_a_callback_leaves_running_ends_with_its_request(self):
        running = self.start({"svc.py": "\n".join([
            "import subprocess",
            "def callback(**_):",
            "    return True, {'pid': subprocess.Popen(['sh', '-c', 'while :; do echo patient; sleep 0.01; done'],",
            "                                          start_new_session=True).pid}",
            "def silent(**_): return True",
        ])})
        pid = self.ask(running, "svc.callback")[0]["added"]["pid"]
        self.assertEqual(self.ask(running, "svc.silent")[0]["output"], "")
        self.assertTrue(host.eventually(lambda: not host.is_alive(pid)))

    def test_a_callback_that_ends_its_process_costs_its_own_verdict(self):
        running = self.start({"svc.py": "\n".join([
            "import os",
            "def leave(**_):",
            "    print('going', flush=True)",
            "    os._exit(3)",
            "def crash(**_): os.abort()",
            "def holds(**_):",
            "    if os.fork() == 0:",
            "        os.setsid()",
            "        os.execvp('sleep', ['sleep', '3600'])",
            "    os._exit(0)",
            "def closes(**_):",
            "    os.closerange(3, 100)",
            "    return True",
            "def fine(added_params, **_): return True, {'after': sorted(added_params)}",
        ])})
        names = ["svc.fine", "svc.leave", "svc.crash", "svc.holds", "svc.closes"]
        verdicts = self.ask(running, *names, "svc.fine")
        self.assertEqual([verdict["accepted"] for verdict in verdicts], [True, False, False, False, False, True])
        self.assertEqual({verdict["error"]["type"] for verdict in verdicts[1:5]}, {"CallbackHostEnded"})
        self.assertIn("it exited with status 3", verdicts[1]["error"]["message"])
        self.assertIn("it was ended by signal 6", verdicts[2]["error"]["message"])
        self.assertEqual(verdicts[1]["output"], "going\n")
        self.assertEqual(verdicts[5]["added"], {"after": ["svc.fine"]})

    def test_a_module_that_starts_threads_is_imported_for_each_request(self):
        files = {"svc.py": "\n".join([
            "import queue, threading",
            "asked, answers = queue.Queue(), queue.Queue()",
            "def work():",
            "    while True: answers.put(asked.get() + 1)",
            "threading.Thread(target=work, daemon=True).start()",
            "def callback(**_):",
            "    asked.put(1)",
            "    return answers.get(timeout=100) == 2",
        ])}
        running = self.start(files)
        running.channel.send({
            "type": "evaluate", "request": 1, "headers": {}, "addedParams": {},
            "calls": [{"jobName": "j", "entry": "svc.callback", "params": None}],
        })
        self.assertEqual(running.until("threads")[-1]["module"], "svc")
        self.assertEqual(running.process.wait(host.LIMIT), 0)
        running = self.start(files, late=["svc"])
        for _ in range(2):
            self.assertTrue(self.ask(running, "svc.callback")[0]["accepted"])

    def test_nobody_listens_while_a_callback_hangs(self):
        running = self.start({"svc.py": "import os, pathlib, time\ndef callback(params, **_):\n"
                                        "    pathlib.Path(params).write_text(str(os.getpid()))\n    time.sleep(3600)\n"})
        mark = running.tree.folder / "mark"
        running.channel.send({
            "type": "evaluate", "request": 1, "headers": {}, "addedParams": {},
            "calls": [{"jobName": "j", "entry": "svc.callback", "params": str(mark)}],
        })
        self.assertTrue(host.eventually(lambda: mark.exists() and mark.read_text()))
        running.channel.connection.close()
        self.assertEqual(running.process.wait(host.LIMIT), 0)
        self.assertTrue(host.eventually(lambda: not host.is_alive(int(mark.read_text()))))

    def test_output_belongs_to_its_callback_and_is_capped(self):
        running = self.start({"svc.py": "\n".join([
            "import os, subprocess, sys",
            "def loud(**_):",
            "    print('x' * 100000)",
            "    print('end')",
            "def shell(**_):",
            "    print('to stderr', file=sys.stderr)",
            "    subprocess.run(['echo', 'from a child'])",
            "    os.write(1, b'\\xff')",
            "def silent(**_): pass",
        ])})
        loud, shell, silent = self.ask(running, "svc.loud", "svc.shell", "svc.silent")
        self.assertTrue(loud["output"].endswith("x\nend\n"))
        self.assertLess(len(loud["output"]), 17_000)
        self.assertEqual(shell["output"], "to stderr\nfrom a child\n\\xff")
        self.assertEqual(silent["output"], "")

    def test_output_is_not_lost_to_the_next_callback(self):
        running = self.start({"svc.py": "def loud(params, **_): print('loud')\ndef silent(**_): pass\n"})
        verdicts = self.ask(running, *["svc.loud", "svc.silent"] * 100)
        self.assertEqual([verdict["output"] for verdict in verdicts], ["loud\n", ""] * 100)

    def test_a_callback_that_forks_does_not_double_the_host(self):
        running = self.start({"svc.py": "import os\ndef callback(**_):\n    os.fork()\n    return True\n"})
        self.assertEqual(len(self.ask(running, "svc.callback", "svc.callback")), 2)
        self.assertEqual(len(self.ask(running, "svc.callback")), 1)

    def test_a_host_with_old_code_says_so_and_ends(self):
        running = self.start({"svc.py": "def callback(**_): return True\n"})
        self.assertTrue(self.ask(running, "svc.callback")[0]["accepted"])
        running.tree.write("svc.py", "def callback(**_): return None\n")
        running.channel.send({"type": "evaluate", "request": 2, "headers": {}, "addedParams": {}, "calls": []})
        self.assertEqual(running.until("stale")[-1]["request"], 2)
        self.assertEqual(running.process.wait(host.LIMIT), 0)

    def test_code_that_changes_under_its_import_is_not_asked(self):
        swapping = ("import pathlib\nfrom . import part\npathlib.Path(part.__file__).write_text('VALUE = 2\\n')\n"
                    "def callback(**_):\n    return True, {'value': part.VALUE}\n")
        running = self.start({"svc/__init__.py": swapping, "svc/part.py": "VALUE = 1\n"})
        call = {"jobName": "job", "entry": "svc.callback", "params": None}
        running.channel.send({"type": "evaluate", "request": 1, "headers": {}, "addedParams": {}, "calls": [call]})
        self.assertEqual(running.until("stale")[-1]["request"], 1)
        self.assertEqual(running.process.wait(host.LIMIT), 0)

    def test_nobody_listens(self):
        running = self.start({})
        running.channel.connection.close()
        self.assertEqual(running.process.wait(host.LIMIT), 0)


if __name__ == "__main__":
    unittest.main()
