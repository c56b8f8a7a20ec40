"""Every page as people see it: accessible in light, dark and on a phone, without a complaint of the browser, and with a picture of each."""

import pathlib
import re

import pytest
from looks import look, say, violations
from playwright.sync_api import expect
from stack import until

ROLES = pathlib.Path(__file__).resolve().parents[2] / "Sources" / "Dashboard" / "Security" / "RouteRoles.swift"
# What is no page: files, numbers for programs, a piece of a log.
NO_PAGES = {"/healthz", "/readyz", "/metrics", "/assets/{name}", "/artifacts/{job}/**", "/jobs/{id}/log"}

# The route of each picture, its address from the studies' runs, and who looks.
PAGES = {
    "overview": ("/", lambda at: "/", "operator"),
    "overview-week": ("/", lambda at: "/?range=7d", "viewer"),
    "runs": ("/runs", lambda at: "/runs", "operator"),
    "runs-filtered": ("/runs", lambda at: "/runs?modality=MR&level=study", "operator"),
    "runs-none": ("/runs", lambda at: "/runs?error=NothingFailsLikeThis", "viewer"),
    "run-succeeded": ("/runs/{id}", lambda at: f"/runs/{at.run('well')}", "operator"),
    "run-failed": ("/runs/{id}", lambda at: f"/runs/{at.run('failed')}", "operator"),
    "run-active": ("/runs/{id}", lambda at: f"/runs/{at.run('running')}", "viewer"),
    "run-without-jobs": ("/runs/{id}", lambda at: f"/runs/{at.run('nothing')}", "operator"),
    "job-succeeded": ("/jobs/{id}", lambda at: f"/jobs/{at.job('well', 'prepare')}", "operator"),
    "job-failed": ("/jobs/{id}", lambda at: f"/jobs/{at.job('failed', 'segment')}", "operator"),
    "job-skipped": ("/jobs/{id}", lambda at: f"/jobs/{at.job('failed', 'summary')}", "viewer"),
    "job-running": ("/jobs/{id}", lambda at: f"/jobs/{at.job('running', 'follow')}", "operator"),
    "job-hostile": ("/jobs/{id}", lambda at: f"/jobs/{at.job('hostile', 'repeat')}", "operator"),
    "job-log-search": ("/jobs/{id}", lambda at: f"/jobs/{at.job('well', 'prepare')}?find=slice", "viewer"),
    "workers": ("/workers", lambda at: "/workers", "operator"),
    "queues": ("/queues", lambda at: "/queues", "operator"),
    "services": ("/services", lambda at: "/services", "operator"),
    "dead": ("/dead", lambda at: "/dead", "operator"),
    "dead-discarded": ("/dead", lambda at: "/dead?discarded=true", "viewer"),
    "bulk": ("/bulk", lambda at: "/bulk", "operator"),
    "bulk-order": ("/bulk/new", lambda at: "/bulk/new?kind=runs&action=retry&state=failed", "operator"),
    "bulk-nothing": ("/bulk/new", lambda at: "/bulk/new?kind=runs&action=retry&error=NothingFailsLikeThis", "operator"),
    "bulk-done": ("/bulk/{id}", lambda at: f"/bulk/{at.bulk}", "operator"),
    "events": ("/events", lambda at: "/events", "operator"),
    "audit": ("/audit", lambda at: "/audit", "admin"),
    "users": ("/users", lambda at: "/users", "admin"),
    "webhooks": ("/webhooks", lambda at: "/webhooks", "admin"),
    "webhook": ("/webhooks/{id}", lambda at: f"/webhooks/{at.webhook}", "admin"),
    "account": ("/account", lambda at: "/account", "operator"),
    "sign-in": ("/sign-in", lambda at: "/sign-in", None),
}


class Places:
    """Where the studies' runs and jobs are, a bulk order, and a webhook that nobody listens to, with a message on its way."""

    def __init__(self, stack, studies):
        self.runs = {name: stack.run_of(study) for name, study in studies.items()}
        order = {"kind": "runs", "action": "reprocess", "filter": {"event": studies["nothing"]}}
        self.bulk = stack.api("/bulk/preview", order)["token"]
        stack.api("/bulk", {"token": self.bulk})
        until("the order carried out", lambda: stack.api(f"/bulk/{self.bulk}")["state"] == "done")
        token = stack.admin_token()
        hook = {"name": "Radiology information system", "url": "http://127.0.0.1:9/hooks"}
        self.webhook = stack.api("/webhooks", hook, token)["id"]
        stack.api(f"/webhooks/{self.webhook}/test", {}, token)

    def run(self, study):
        return self.runs[study]["id"]

    def job(self, study, name):
        return next(job["id"] for job in self.runs[study]["jobs"] if job["name"] == name)


@pytest.fixture(scope="module")
def places(stack, studies):
    return Places(stack, studies)


def test_no_page_is_forgotten():
    known = re.findall(r'"GET (/[^"]*)"', ROLES.read_text())
    assert len(known) > 15
    assert set(known) - NO_PAGES == {route for route, _, _ in PAGES.values()}


@pytest.mark.parametrize("name", PAGES)
def test_page(visit, places, name):
    _, address, role = PAGES[name]
    page = visit(address(places), role=role)
    expect(page.locator("main h1")).to_be_attached()
    wrong = look(page, name)
    assert not wrong, say(wrong)


def test_what_is_not_there_is_told_in_a_page(visit, complaints):
    complaints.expect("status of 404")
    page = visit("/runs/01ARZ3NDEKTSV4RRFFQ69G5FAV")
    expect(page.locator("main h1")).to_be_visible()
    wrong = look(page, "not-found")
    assert not wrong, say(wrong)


def test_the_menu_can_be_reached_on_a_phone(visit, studies):
    page = visit("/", width=390, height=844)
    links = page.locator("#nav a").evaluate_all("all => all.map((a) => a.getAttribute('href'))")
    assert {"/", "/runs", "/workers", "/queues", "/services", "/dead", "/events"} <= set(links)
    for link in links:
        page.goto("/")
        target = page.locator(f"#nav a[href='{link}']")
        if not target.is_visible():
            page.locator("header summary", has_text="Menu").click()
        box = target.bounding_box()
        assert box and 0 <= box["x"] and box["x"] + box["width"] <= 390, f"{link} is outside of the window: {box}"
        target.click()
        expect(page).to_have_url(re.compile(re.escape(link) + "$"))


def test_open_boxes_are_accessible_too(visit, places):
    """What is behind a summary is looked at as well."""
    page = visit(f"/jobs/{places.job('failed', 'segment')}")
    page.locator("details:not([open]) > summary").first.wait_for(state="attached")
    page.evaluate("document.querySelectorAll('details').forEach((box) => { box.open = true; })")
    assert not violations(page)
    page.goto(f"/runs/{places.run('running')}")
    page.evaluate("document.querySelectorAll('details').forEach((box) => { box.open = true; })")
    assert not violations(page)


def test_axe_finds_what_is_wrong(visit, studies):
    """So that silence on all other pages means something."""
    page = visit("/runs")
    assert not violations(page)
    page.evaluate("document.documentElement.removeAttribute('lang')")
    page.evaluate("document.querySelector('h1').insertAdjacentHTML('afterend', '<p class=faint-for-the-test>low contrast</p>')")
    page.evaluate("document.querySelector('.faint-for-the-test').style.color = '#ddd'")
    found = {line.split(":")[0] for line in violations(page)}
    assert found == {"color-contrast", "html-has-lang"}
