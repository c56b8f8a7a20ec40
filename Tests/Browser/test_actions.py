"""What an operator does, by clicking."""

import re

import pytest
from playwright.sync_api import expect
from stack import until
from studies import study


@pytest.mark.parametrize("scripts", [True, False], ids=["live", "without scripts"])
def test_retry_of_a_failed_job(visit, stack, send, scripts):
    sent = send("CT")
    job = stack.job_in(sent, "segment", "failed")
    stack.run_in(sent, "failed")
    stack.mend(sent)
    page = visit(f"/jobs/{job['id']}", scripts=scripts)
    page.locator(f"form[action='/jobs/{job['id']}/retry'] button", has_text=re.compile("^Retry ")).first.click()
    expect(page).to_have_url(re.compile(f"/jobs/{re.escape(job['id'])}"))
    stack.run_in(sent, "succeeded")
    if not scripts:
        page.goto(f"/jobs/{job['id']}")
    expect(page.locator("#head")).to_contain_text("succeeded")
    expect(page.locator("#attempts tbody tr:not(.under)")).to_have_count(2)
    # What was skipped because of it followed.
    assert stack.job_in(sent, "summary")["state"] == "succeeded"


@pytest.mark.parametrize("scripts", [True, False], ids=["live", "without scripts"])
def test_cancelling_a_running_job_asks_first(visit, stack, send, scripts):
    sent = send("US")
    job = stack.job_in(sent, "follow", "running")
    page = visit(f"/jobs/{job['id']}", scripts=scripts)
    button = page.get_by_role("button", name="Cancel the job")
    expect(button).to_be_hidden()
    page.locator("details.confirm summary", has_text="Cancel").click()
    button.click()
    stack.job_in(sent, "follow", "cancelled")
    if not scripts:
        page.goto(f"/jobs/{job['id']}")
    expect(page.locator("#head")).to_contain_text("cancelled")
    # It heard of it and could clean up.
    expect(page.locator("#log")).to_contain_text("stopped in good order")


def test_cancelling_a_run(visit, stack, send):
    sent = send("US")
    stack.job_in(sent, "follow", "running")
    page = visit(f"/runs/{stack.run_of(sent)['id']}")
    page.locator("details.confirm summary", has_text="Cancel").click()
    page.get_by_role("button", name="Cancel the run").click()
    stack.run_in(sent, "cancelled")
    expect(page.locator("#head")).to_contain_text("cancelled")
    expect(page.get_by_role("button", name="Cancel the run")).to_have_count(0)


def test_pausing_a_channel_holds_its_jobs_back(visit, stack, send):
    page = visit("/queues")
    page.locator("form[action='/channels/default/pause'] button").click()
    resume = page.locator("form[action='/channels/default/resume'] button")
    try:
        expect(resume).to_be_visible()
        sent = send("MR")
        stack.job_in(sent, "export", "ready", "dispatched")
        expect(page.locator("#channel-default .sum td").nth(1)).not_to_have_text("0")
        overview = visit("/")
        expect(overview.locator("main")).to_contain_text("paused")
    finally:
        resume.click()
    stack.run_in(sent, "succeeded")
    expect(page.locator("form[action='/channels/default/pause'] button")).to_be_visible()


def test_draining_a_worker_and_bringing_it_back(visit, stack, studies):
    page = visit("/workers")
    drain = page.locator("form[action$='/drain']").last
    worker = drain.get_attribute("action").split("/")[2]
    drain.get_by_role("button").click()
    resume = page.locator(f"form[action='/workers/{worker}/resume'] button")
    expect(resume).to_be_visible()
    resume.click()
    expect(page.locator(f"form[action='/workers/{worker}/drain'] button")).to_be_visible()


def test_a_dead_letter_is_retried_when_its_cause_is_mended(visit, stack, studies):
    images = list(study("MR"))
    sent = stack.send_and_lose(images)
    page = visit("/dead")
    run = stack.run_of(sent)["id"]
    row = page.locator("#jobs tbody tr", has=page.locator(f"a[href='/runs/{run}']"))
    expect(row).to_contain_text("export")
    expect(page.locator("nav a[href='/dead'] .count")).to_be_visible()
    # Sent once more, the study is there again.
    stack.send(images)
    row.get_by_role("button", name="Retry").first.click()
    expect(page.locator("#jobs tbody tr", has=page.locator(f"a[href='/runs/{run}']"))).to_have_count(0)
    until("the run that was dead has succeeded", lambda: stack.api(f"/runs/{run}")["state"] == "succeeded")


def test_what_was_done_is_in_the_audit(visit, stack, studies):
    page = visit("/audit", role="admin")
    page.get_by_label("Who").fill("otto")
    page.get_by_role("button", name="Filter").click()
    expect(page).to_have_url(re.compile("actor=otto"))
    actors = page.locator("#audit tbody tr td:nth-child(3) b")
    expect(actors.first).to_have_text("otto")
    assert set(actors.all_inner_texts()) == {"otto"}
