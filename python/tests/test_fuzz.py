"""Nonsense on a host's socket: it ends, it does not hang, and what it had started ends with it."""

import json
import random
import unittest

import host
from dcm_processor.host import frames

SEEDS = range(40)


class FuzzTest(unittest.TestCase):
    def test_a_host_that_is_told_nonsense_ends(self):
        tree = host.Tree({"svc.py": "import time\ndef worker(**_): return 1\ndef wait(params, **_):\n    open(params, 'w').close()\n"
                                    "    time.sleep(3600)\n"})
        self.addCleanup(tree.remove)
        for seed in SEEDS:
            generator = random.Random(seed)
            running = host.Host(generator.choice(["jobs", "jobs", "callbacks"]), tree, service="svc")
            try:
                if generator.random() < 0.5:
                    running.channel.send(running.order("svc.worker"))
                for _ in range(generator.randrange(1, 6)):
                    running.channel.connection.sendall(self.noise(running, generator))
            except ConnectionError:
                pass  # it has had enough
            try:
                running.channel.connection.shutdown(1)
            except OSError:
                pass
            self.drain(running)
            running.close()

    def noise(self, running, generator):
        order = running.order("svc.worker", job=f"j{generator.randrange(5)}")
        kind = generator.randrange(6)
        if kind == 0:
            return bytes(generator.randrange(256) for _ in range(generator.randrange(60)))
        if kind == 1:
            return generator.choice([b"\xff\xff\xff\xff", b"\x10\x00\x00\x00", b"\x00\x00\x00\x00"]) + b"{}"
        if kind == 2:
            frame = frames.encode(order)
            return frame[:generator.randrange(len(frame))]
        if kind == 3:
            body = generator.choice([b"[]", b"null", b"7", b"{}", b'{"type": null}', b'{"type": "run"}', b'{"type": "stop"}', b"{" * 1000,
                                     b'{"type": "evaluate"}', b'{"type": "evaluate", "request": 1, "calls": [7]}', b"[" * 100_000])
            return len(body).to_bytes(4, "big") + body
        # An order with a value of another kind.
        key = generator.choice([key for key in order if key != "type"])
        order[key] = generator.choice([None, 7, -1, "x" * 1000, [], [[]], {}, {"a": [1]}, True, 1e300, "\0", "/nowhere/at/all"])
        if kind == 4:
            del order[key]
        return frames.encode(json.loads(json.dumps(order)))

    def drain(self, running):
        try:
            while running.channel.receive() is not None:
                pass
        except (ConnectionError, frames.ProtocolError):
            pass


if __name__ == "__main__":
    unittest.main()
