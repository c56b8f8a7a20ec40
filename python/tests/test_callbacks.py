import unittest

import host


class CallbacksTest(unittest.TestCase):
    def start(self, files):
        tree = host.Tree(files)
        self.addCleanup(tree.remove)
        running = host.Host("callbacks", tree)
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
        self.assertEqual(running.hello["protocol"], 1)
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
        self.assertEqual(running.process.wait(10), 0)

    def test_nobody_listens(self):
        running = self.start({})
        running.channel.connection.close()
        self.assertEqual(running.process.wait(10), 0)


if __name__ == "__main__":
    unittest.main()
