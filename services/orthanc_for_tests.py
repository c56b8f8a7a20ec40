"""Private Orthanc servers for the tests of services: free ports, a folder of their own, ended by their process."""

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

USER, PASSWORD = "tester", "p@ss:w/rd"


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def until(condition, what, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.02)


class Server:
    """A running Orthanc.

    folder: is made, and holds all that it writes.
    settings: of its configuration, besides those that every test needs.
    """

    def __init__(self, folder, settings):
        self.port, self.dicom_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        configuration = {
            "Name": "test", "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"), "HttpPort": self.port,
            "DicomPort": self.dicom_port, "DicomCheckCalledAet": False, "DicomAlwaysAllowStore": True, "AuthenticationEnabled": True,
            "RemoteAccessAllowed": False, "SyncStorageArea": False, "RegisteredUsers": {USER: PASSWORD}, "StableAge": 1,
            "DicomScuTimeout": 5, **settings,
        }
        folder.mkdir()
        (folder / "orthanc.json").write_text(json.dumps(configuration))
        program = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
        self.log = open(folder / "log", "wb")
        self.process = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=self.log, stderr=subprocess.STDOUT)
        until(self._answers, "Orthanc's start")

    def _answers(self):
        assert self.process.poll() is None, "Orthanc has ended"
        try:
            return self.get("/system") is not None
        except OSError:
            return False

    def ask(self, method, path, body=None):
        request = urllib.request.Request(self.url + path, data=body, method=method)
        request.add_header("Authorization", "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode())
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.read()

    def get(self, path):
        return json.loads(self.ask("GET", path))

    def file(self, instance):
        return self.ask("GET", f"/instances/{instance}/file")

    def exists(self, path):
        try:
            self.ask("GET", path)
            return True
        except urllib.error.HTTPError as error:
            assert error.code == 404
            return False

    def stop(self):
        self.process.kill()  # its folder goes with the test
        self.process.wait(20)
        self.log.close()
