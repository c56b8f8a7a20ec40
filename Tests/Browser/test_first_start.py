"""A stack that nobody has used yet: it says what to do next, and lets the one in who started it."""

import re

from looks import look, say
from playwright.sync_api import expect

EMPTY = ["/", "/runs", "/workers", "/queues", "/services", "/dead", "/events", "/audit"]


def test_the_link_of_the_launcher_signs_in(visit, stack):
    page = visit(f"/sign-in#token={stack.endpoints['monitorToken']}", role=None)
    expect(page.get_by_role("heading", name="No event yet")).to_be_visible()
    assert stack.endpoints["monitorToken"] not in page.url, "the token stays in the address bar"
    assert page.evaluate("history.length") <= 3
    expect(page.locator("#welcome")).to_contain_text("Send a study to the Orthanc server")


def test_empty_pages_are_whole_and_accessible(visit, stack):
    page = visit(f"/sign-in?next=/audit#token={stack.endpoints['monitorToken']}", role=None)
    expect(page).to_have_url(re.compile("/audit$"))
    found = []
    for path in EMPTY:
        page.goto(path)
        expect(page.locator("main h1")).to_be_attached()
        name = "empty-" + (path.strip("/") or "overview")
        wrong = look(page, name)
        if wrong:
            found.append(f"{name}\n{say(wrong)}")
    assert not found, "\n".join(found)
