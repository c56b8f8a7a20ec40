"""The main paths with JavaScript off. Retry and cancel are in test_actions.py."""

import re

from conftest import USERS, sign_in
from playwright.sync_api import expect


def test_from_the_sign_in_to_a_job_and_out_again(visit, stack, studies):
    run = stack.run_of(studies["failed"])
    page = visit("/runs", role=None, scripts=False)
    sign_in(page, USERS["viewer"])
    expect(page).to_have_url(re.compile("/runs$"))
    page.locator("#filter summary").click()
    page.get_by_label("Modality").select_option("CT")
    page.locator("#filter").get_by_role("button", name="Apply").click()
    expect(page).to_have_url(re.compile("modality=CT"))
    expect(page.locator("#runs tbody tr")).to_have_count(len(stack.api("/runs?modality=CT")["runs"]))
    page.locator(f"#runs a[href='/runs/{run['id']}']").first.click()
    page.locator("#jobs").get_by_role("link", name="segment").first.click()
    expect(page.locator("#failure")).to_contain_text("MemoryError")
    expect(page.locator("#log")).to_contain_text("threshold 0.5")
    page.get_by_role("searchbox", name="Find in the log").fill("threshold")
    page.locator("#log").get_by_role("button", name="Find").click()
    expect(page.locator("pre.found")).to_contain_text("threshold 0.5")
    page.locator("header details.account summary").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(re.compile("/sign-in"))


def test_times_are_there_and_nothing_claims_to_be_live(visit, studies):
    page = visit("/runs", scripts=False)
    expect(page.locator("#runs time").first).to_have_text(re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d"))
    # It says of when it is, and does not promise to follow.
    expect(page.locator("#live")).to_contain_text("as of")
    expect(page.locator("#live")).not_to_contain_text("live")


def test_every_page_of_the_menu_opens(visit, studies):
    page = visit("/", scripts=False)
    links = page.locator("#nav a").evaluate_all("all => all.map((a) => a.pathname)")
    assert len(links) >= 7
    for link in links:
        page.locator(f"#nav a[href='{link}']").click()
        expect(page.locator(f"#nav a[href='{link}']")).to_have_attribute("aria-current", "page")
        expect(page.locator("main")).not_to_be_empty()
