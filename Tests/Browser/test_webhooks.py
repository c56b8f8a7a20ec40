"""Another program is told: added on the page, told of a test and of a real run, with a signature that it can check."""

import base64
import hashlib
import hmac
import http.server
import json
import re
import threading

import pytest
from playwright.sync_api import expect
from stack import until


@pytest.fixture
def receiver():
    """A program that takes messages: its address, and what came, as pairs of headers and body."""
    came = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            came.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/told", came
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_receiver_is_added_tested_and_told(visit, stack, send, receiver):
    address, came = receiver
    page = visit("/webhooks", role="admin")
    form = page.locator("#add form")
    form.get_by_label("Name").fill("The archive")
    form.get_by_label("Address").fill(address)
    for box in form.get_by_role("checkbox").all():
        box.check()
    form.get_by_role("button", name="Add").click()
    secret = page.locator("#fresh-secret pre").inner_text().strip()
    page.goto("/webhooks")
    page.locator("#webhooks").get_by_role("link", name="The archive").click()
    expect(page).to_have_url(re.compile("/webhooks/[^/]+$"))
    assert secret not in page.content(), "the secret is shown once"

    page.get_by_role("button", name="Send a test").click()
    until("the test received", lambda: came)
    headers, body = came[0]
    assert signature(secret, headers, body) in headers["webhook-signature"].split()

    run = stack.run_in(send("MR", PatientName="Unusual^Ursula"), "succeeded")["id"]

    def told():
        return [body for _, body in came if json.loads(body).get("data", {}).get("runId") == run]

    until("the run's end received", told)
    assert json.loads(told()[0])["type"] == "run.succeeded"
    assert b"Ursula" not in b"".join(body for _, body in came)
    page.reload()
    expect(page.locator("#deliveries")).to_contain_text("run.succeeded")
    expect(page.locator(f"#deliveries a[href='/runs/{run}']").first).to_be_visible()
    page.locator("details.confirm summary", has_text="Remove").click()
    page.get_by_role("button", name="Remove", exact=True).click()
    expect(page.get_by_role("link", name="The archive")).to_have_count(0)


def signature(secret, headers, body):
    """As standardwebhooks.com has it."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    said = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, said, hashlib.sha256).digest()).decode()
