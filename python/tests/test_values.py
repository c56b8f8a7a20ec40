import datetime
import json
import pathlib
import unittest

import host  # noqa: F401 (finds the package)
from dcm_processor.host import callbacks, values


class Unfriendly:
    def __repr__(self):
        raise RuntimeError("no")


class ValuesTest(unittest.TestCase):
    def test_what_python_has_and_json_has_not(self):
        value = {"path": pathlib.Path("a/b"), "set": {1}, "day": datetime.date(2026, 1, 2), "tuple": (1, 2), 3: "key"}
        self.assertEqual(
            json.loads(values.portable(value)), {"path": "a/b", "set": [1], "day": "2026-01-02", "tuple": [1, 2], "3": "key"}
        )

    def test_what_cannot_be_carried_says_why(self):
        loop = []
        loop.append(loop)
        deep = []
        for _ in range(200):
            deep = [deep]
        for value in (open, float("nan"), float("inf"), loop, deep, 2**63, {(1, 2): 3}, b"bytes"):
            with self.assertRaises(values.NotPortable):
                values.portable({"a": value})

    def test_results(self):
        self.assertEqual(values.result({"a": [1]}, 100), {"a": [1]})
        self.assertIsNone(values.result(None, 100))
        self.assertEqual(values.result(len, 100), "<built-in function len>")
        self.assertEqual(values.result("x" * 1000, 10), '"xxxxxxxxx... (992 more characters)')
        self.assertIn("RuntimeError", values.result(Unfriendly(), 100))

    def test_failures(self):
        class Odd(Exception):
            def __str__(self):
                raise KeyError("x")

        try:
            raise Odd()
        except Odd as error:
            failure = values.failure(error, skip=0)
        self.assertIn("KeyError", failure["message"])
        self.assertTrue(failure["type"].endswith("Odd"))

    def test_upstreams_answers(self):
        accepted = [True, 1, "no", {"a": 1}, [True], (1, None), [True, "text"], [True, {}]]
        for answer in accepted:
            self.assertEqual(callbacks.understood(answer), (True, {}), answer)
        for answer in (False, 0, None, "", [], (), {}, [False], [0, {"a": 1}]):
            self.assertEqual(callbacks.understood(answer), (False, {}), answer)
        self.assertEqual(callbacks.understood((True, {"a": (1,)})), (True, {"a": [1]}))
        with self.assertRaises(TypeError):
            callbacks.understood((True, {"a": open}))


if __name__ == "__main__":
    unittest.main()
