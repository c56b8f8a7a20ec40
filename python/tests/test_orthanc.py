"""Orthanc's REST API as jobs use it, against a small server. Against a real Orthanc: services/storageManager/tests."""

import http.server
import json
import os
import sys
import threading
import unittest
from unittest import mock

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from dcm_processor.orthanc import Orthanc, OrthancError


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.asked.append((self.command, self.path, self.headers.get("Authorization")))
        if self.server.drops > 0:
            self.server.drops -= 1
            self.close_connection = True
            self.connection.close()
            return
        length = int(self.headers.get("Content-Length") or 0)
        sent = self.rfile.read(length)
        status, body = {
            "/orthanc/system": (200, b'{"Version": "1.10.1"}'), "/orthanc/text": (200, b"secret-name"), "/orthanc/none": (404, b""),
            "/orthanc/denied": (403, b"secret-name"), "/orthanc/broken": (500, b'{"OrthancStatus": 15, "Message": "secret-name"}'),
            "/orthanc/echo": (200, sent),
        }[self.path]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_DELETE = do_GET

    def log_message(self, *_):
        pass


class OrthancTest(unittest.TestCase):
    def setUp(self):
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.asked, self.server.drops = [], 0
        thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        self.url = f"http://127.0.0.1:{self.server.server_port}/orthanc"
        self.orthanc = Orthanc(self.url, "user", "word")
        self.addCleanup(self.orthanc.close)

    def test_answers(self):
        self.assertEqual(self.orthanc.get("/system"), {"Version": "1.10.1"})
        self.assertEqual(self.orthanc.text("/text"), "secret-name")
        self.assertIsNone(self.orthanc.get("/none"))
        self.assertFalse(self.orthanc.delete("/none"))
        self.assertTrue(self.orthanc.delete("/system"))
        self.assertEqual(self.orthanc.post("/echo", {"a": [1]}), {"a": [1]})
        self.assertEqual({authorization for _, _, authorization in self.server.asked}, {"Basic dXNlcjp3b3Jk"})

    def test_errors_tell_nothing_of_answers_and_passwords(self):
        for ask, text in [
            (lambda: self.orthanc.get("/text"), "/text: the answer is not JSON"),
            (lambda: self.orthanc.get("/denied"), r"access denied \(403\)"),
            (lambda: self.orthanc.post("/broken", {}), r"POST /broken: status 500 \(15\)$"),
            (lambda: self.orthanc.post("/none", {}), "there is nothing of that name"),
        ]:
            with self.assertRaisesRegex(OrthancError, text) as caught:
                ask()
            self.assertNotIn("secret-name", str(caught.exception))
            self.assertNotIn("word", str(caught.exception))

    def test_a_closed_connection_is_opened_again_but_nothing_is_posted_twice(self):
        self.orthanc.get("/system")
        self.server.drops = 1
        self.assertEqual(self.orthanc.get("/system"), {"Version": "1.10.1"})
        self.assertEqual(len(self.server.asked), 3)
        self.server.drops = 1
        with self.assertRaisesRegex(OrthancError, "POST /echo: .*is the server running"):
            self.orthanc.post("/echo", {})
        self.assertEqual([method for method, _, _ in self.server.asked], ["GET"] * 3 + ["POST"])

    def test_the_runs_server_is_in_the_environment(self):
        given = {"ORTHANC_REST_URL": self.url, "ORTHANC_REST_USERNAME": "user", "ORTHANC_REST_PASSWORD": "word"}
        with mock.patch.dict(os.environ, given):
            orthanc = Orthanc.of_this_run()
            self.addCleanup(orthanc.close)
            self.assertEqual(json.dumps(orthanc.get("/system")), '{"Version": "1.10.1"}')
        with mock.patch.dict(os.environ, {"ORTHANC_REST_URL": "", "ORTHANC_SERVER": "second"}):
            with self.assertRaisesRegex(OrthancError, "knows no address of the Orthanc server 'second'"):
                Orthanc.of_this_run()


if __name__ == "__main__":
    unittest.main()
