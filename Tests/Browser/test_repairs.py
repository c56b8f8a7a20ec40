"""What an operator mends: other params, a service that has to rest, dead jobs that nobody needs, messages that nobody could read."""

import re

from playwright.sync_api import expect
from stack import until
from studies import study


def test_retry_with_other_params(visit, stack, send, complaints):
    complaints.expect("status of 400")
    sent = send("CT")
    job = stack.job_in(sent, "segment", "failed")
    stack.run_in(sent, "failed")
    page = visit(f"/jobs/{job['id']}")
    form = page.locator("#params-form")
    form.locator("summary").click()
    text = page.get_by_label("Params, a JSON object")
    expect(text).to_have_value(re.compile(r'"mended"\s*:\s*false'))
    # A slip keeps what was typed and says what is wrong.
    text.fill('{"threshold": 0.7, "mended": true')
    form.get_by_role("button", name="Retry with these params").click()
    expect(page.locator("#params-error")).to_be_visible()
    expect(page.get_by_label("Params, a JSON object")).to_have_value('{"threshold": 0.7, "mended": true')
    page.get_by_label("Params, a JSON object").fill('{"threshold": 0.7, "mended": true}')
    page.get_by_role("button", name="Retry with these params").click()
    stack.run_in(sent, "succeeded")
    page.goto(f"/jobs/{job['id']}")
    expect(page.locator("#values")).to_contain_text("0.7")
    expect(page.locator("#attempts")).to_contain_text("other params than planned")


def test_pausing_a_service_holds_its_jobs_back_and_no_others(visit, stack, send):
    page = visit("/services")
    page.locator("form[action='/services/us/pause'] button").click()
    resume = page.locator("form[action='/services/us/resume'] button")
    try:
        expect(resume).to_be_visible()
        held = send("US")
        job = stack.job_in(held, "follow", "ready", "dispatched")
        stack.run_in(send("MR"), "succeeded")
        waiting = visit(f"/jobs/{job['id']}")
        expect(waiting.locator("#head")).to_contain_text(re.compile("paused.*otto", re.DOTALL))
    finally:
        resume.click()
    stack.job_in(held, "follow", "running")


def test_a_dead_letter_is_discarded(visit, stack, send):
    sent = stack.send_and_lose(study("MR"))
    job = stack.job_in(sent, "export", "dead")
    page = visit(f"/jobs/{job['id']}")
    page.locator("details.confirm summary", has_text="Discard").click()
    page.get_by_role("button", name="Discard the job").click()
    expect(page.locator("#about")).to_contain_text("Discarded")
    page.goto("/dead")
    expect(page.locator(f"#jobs a[href='/jobs/{job['id']}']")).to_have_count(0)
    page.goto("/dead?discarded=true")
    expect(page.locator(f"#jobs a[href='/jobs/{job['id']}']")).to_be_visible()
    expect(page.locator("#jobs")).to_contain_text("otto")


def test_an_unreadable_message_is_looked_into_by_an_admin_and_discarded(visit, stack, studies):
    stack.publish("dcm.ingest.v1", '{"told twice": ', "dcm.event.v1")
    newest = until("the message on record", lambda: max((row["sequence"] for row in stack.api("/dead")["messages"]), default=0) > 1)
    assert newest
    page = visit("/dead")
    rows = page.locator("#messages tbody tr")
    expect(rows.first.get_by_role("button", name="Look inside")).to_have_count(0)
    admin = visit("/dead", role="admin")
    admin.locator("#messages tbody tr").first.get_by_role("button", name="Look inside").click()
    expect(admin.locator("#body")).to_contain_text("told twice")
    number = rows.count()
    rows.first.get_by_role("button", name="Discard").click()
    expect(page.locator("#messages tbody tr")).to_have_count(number - 1)
