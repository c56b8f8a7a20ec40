"""One stack, one browser, many tests. Each test gets pages of its own (`visit`), and fails when one of them complains."""

import os
import pathlib
import re
import shutil
import signal
import tempfile

import pytest
from playwright.sync_api import expect, sync_playwright
from stack import Stack, until
from studies import hostile, study

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
PASSWORD = "correct horse battery"
USERS = {"viewer": "vera", "operator": "otto", "admin": "ada"}
# What a fresh stack shows comes first, and what every page looks like with everything in it last.
ORDER = ["test_first_start.py", "", "test_every_page.py"]

expect.set_options(timeout=20_000)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: ORDER.index(item.path.name) if item.path.name in ORDER else ORDER.index(""))


def pytest_sessionstart(session):
    # Ended from outside, the tests still stop what they have started.
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("ended by a signal", returncode=143))


@pytest.fixture(scope="session")
def stack(request):
    home = pathlib.Path(tempfile.mkdtemp(prefix="dcm-browser-"))
    stack = Stack(home, pathlib.Path(os.environ["BROWSER_TESTS_BIN"]))
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()
    if request.session.testsfailed:
        print(f"\nThe stack's files are kept in {home}.")
    else:
        shutil.rmtree(home)


@pytest.fixture(scope="session")
def accounts(stack):
    """Users of all three roles. From then on everybody has to sign in."""
    for role, name in USERS.items():
        stack.tool("user", "add", name, "--role", role, text=f"{PASSWORD}\n")
    return USERS


@pytest.fixture(scope="session")
def studies(stack, accounts):
    """One study of each kind, sent once, by what becomes of it: Orthanc's ids. Tests that change something send one of their own."""
    sent = {
        "well": stack.send(study("MR", series=2)),
        "failed": stack.send(study("CT")),
        "running": stack.send(study("US")),
        "hostile": stack.send(hostile()),
        "nothing": stack.send(study("XA")),
    }
    stack.publish("dcm.ingest.v1", '{"broken": ', "dcm.event.v1")
    stack.run_in(sent["well"], "failed", "succeeded")
    stack.run_in(sent["failed"], "failed")
    stack.run_in(sent["hostile"], "failed")
    stack.run_in(sent["nothing"])
    stack.job_in(sent["running"], "follow", "running")
    until("an unreadable message on record", lambda: stack.api("/dead")["messages"])
    return sent


@pytest.fixture
def send(stack, studies):
    """Sends a study for one test: `send("US")`. What still runs of it at the end of the test is ended."""
    sent = []

    def images(modality, **options):
        sent.append(stack.send(study(modality, **options)))
        return sent[-1]

    yield images
    for one in sent:
        stack.say(one, "end")


@pytest.fixture(scope="session")
def chromium():
    with sync_playwright() as playwright:
        program = os.environ["BROWSER_TESTS_CHROMIUM"] or None
        browser = playwright.chromium.launch(executable_path=program)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def signed_in(chromium, stack, accounts):
    """The cookies of a browser in which a user of this role has signed in, once for all tests."""
    kept = {}

    def cookies(role):
        if role not in kept:
            context = chromium.new_context(base_url=stack.endpoints["monitor"])
            page = context.new_page()
            page.goto("/sign-in")
            sign_in(page, accounts[role])
            expect(page).to_have_url(re.compile(r"/$"))
            kept[role] = context.storage_state()
            context.close()
        return kept[role]

    return cookies


def sign_in(page, name, password=PASSWORD):
    form = page.locator("form#sign-in-name")
    form.get_by_label("Name").fill(name)
    form.get_by_label("Password").fill(password)
    form.get_by_role("button", name="Sign in").click()


class Complaints:
    """What the browser complained about on the pages of a test: errors of scripts, resources, and the content security policy."""

    def __init__(self):
        self.texts = []
        self.expected = []
        self.allowed = []

    def expect(self, pattern):
        """Says that one of them belongs to the test."""
        self.expected.append(pattern)

    def allow(self, pattern):
        """Says that one of them may come."""
        self.allowed.append(pattern)

    def watch(self, context):
        context.on("console", lambda message: message.type in ("error", "warning") and self.texts.append(f"{message.type}: {message.text}"))
        context.on("weberror", lambda error: self.texts.append(f"uncaught: {error.error}"))

    def check(self):
        known = self.expected + self.allowed
        left = [text for text in self.texts if not any(re.search(pattern, text) for pattern in known)]
        assert not left, "The browser complained:\n" + "\n".join(left)
        missing = [pattern for pattern in self.expected if not any(re.search(pattern, text) for text in self.texts)]
        assert not missing, f"The browser should have complained: {missing}"


@pytest.fixture
def complaints():
    complaints = Complaints()
    yield complaints
    complaints.check()


@pytest.fixture
def visit(chromium, stack, signed_in, complaints):
    """Opens a page in a browser of its own: `visit("/runs", role="viewer")`; `role=None` is somebody unknown."""
    contexts = []

    def open(path, role="operator", scripts=True, width=1280, height=900, scheme="light"):
        context = chromium.new_context(
            base_url=stack.endpoints["monitor"], storage_state=signed_in(role) if role else None, java_script_enabled=scripts,
            viewport={"width": width, "height": height}, color_scheme=scheme, locale="en-GB", timezone_id="UTC",
        )
        contexts.append(context)
        complaints.watch(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.goto(path)
        return page

    yield open
    for context in contexts:
        context.close()
