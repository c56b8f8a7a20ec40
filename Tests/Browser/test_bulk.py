"""One order for everything that matches a filter: what is announced is what is done."""

import re

import pytest
from playwright.sync_api import expect
from stack import until


def bulk_of(page):
    expect(page).to_have_url(re.compile(r"/bulk/[^/?]+$"))
    return page.url.split("/")[-1]


def listed(page, part):
    """The runs that a part of the page links to."""
    return set(page.locator(f"{part} a[href^='/runs/']").evaluate_all("all => all.map((a) => a.pathname.split('/')[2])"))


@pytest.mark.parametrize("scripts", [True, False], ids=["live", "without scripts"])
def test_retrying_all_that_match_does_exactly_what_was_announced(visit, stack, send, scripts):
    sent = [send("CT") for _ in range(2)]
    runs = {stack.run_in(study, "failed")["id"] for study in sent}
    first = min(stack.api(f"/runs/{run}")["createdAt"] for run in runs)[:19]
    for study in sent:
        stack.mend(study)
    page = visit(f"/runs?state=failed&modality=CT&from={first}", scripts=scripts)
    expect(page.locator("#runs tbody tr")).to_have_count(2)
    page.get_by_role("link", name=re.compile(r"^Retry all")).click()
    # The announcement: the number in words, in the button, and as rows.
    expect(page).to_have_url(re.compile("/bulk/new"))
    button = page.locator("form#order button")
    expect(button).to_contain_text("2")
    expect(page.locator("#sentence")).to_be_visible()
    assert listed(page, "#first") == runs
    button.click()
    identifier = bulk_of(page)
    until("the order carried out", lambda: stack.api(f"/bulk/{identifier}")["state"] == "done")
    for study in sent:
        stack.run_in(study, "succeeded")
    if not scripts:
        page.reload()
    expect(page.locator("#items tbody tr")).to_have_count(2)
    assert listed(page, "#items") == runs
    # It stays on record.
    page.goto("/bulk")
    expect(page.locator(f"#bulk a[href='/bulk/{identifier}']")).to_be_visible()


def test_the_same_order_sent_again_is_the_same_order(visit, stack, send):
    run = stack.run_in(send("CT"), "failed")
    page = visit(f"/bulk/new?kind=runs&action=retry&q={run['id']}")
    fields = page.locator("form#order input").evaluate_all("all => Object.fromEntries(all.map((field) => [field.name, field.value]))")
    page.locator("form#order button").click()
    identifier = bulk_of(page)
    until("the order carried out", lambda: stack.api(f"/bulk/{identifier}")["state"] == "done")
    stack.run_in(run["resourceId"], "failed")
    # Once more, as a double click or a reload sends it.
    page.request.post("/bulk", form=fields)
    page.goto("/bulk")
    expect(page.locator(f"#bulk a[href='/bulk/{identifier}']")).to_have_count(1)
    segment = next(job["id"] for job in run["jobs"] if job["name"] == "segment")
    attempts = stack.api(f"/jobs/{segment}")["attempts"]
    assert len(attempts) == 2, "the run was retried once"


def test_chosen_rows_become_one_order(visit, stack, send):
    runs = {stack.run_in(send("CT"), "failed")["id"] for _ in range(2)}
    other = stack.run_in(send("CT"), "failed")["id"]
    page = visit("/runs?state=failed&modality=CT")
    for run in runs:
        page.locator(f"input[name=id][value='{run}']").check()
    page.locator("button[form=choice]", has_text=re.compile("^Retry")).click()
    expect(page).to_have_url(re.compile("/bulk/new"))
    assert listed(page, "#first") == runs and other not in runs


def test_a_viewer_sees_orders_and_gives_none(visit, studies):
    page = visit("/runs?state=failed", role="viewer")
    expect(page.get_by_role("link", name=re.compile("^Retry "))).to_have_count(0)
    expect(page.locator("input[type=checkbox][name=id]")).to_have_count(0)
    page.goto("/bulk")
    expect(page.locator("h1")).to_have_text("Bulk")
    page.goto("/bulk/new?kind=runs&action=retry&state=failed")
    expect(page.locator("form#order")).to_have_count(0)
