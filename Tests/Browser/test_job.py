"""The page of one job while it runs, and when it has ended."""

import re

from playwright.sync_api import expect


def open_job(visit, stack, sent, name, *states, **options):
    job = stack.job_in(sent, name, *states)
    return visit(f"/jobs/{job['id']}", **options), job


def test_the_log_grows_and_its_colours_are_classes(visit, stack, send):
    sent = send("US")
    page, _ = open_job(visit, stack, sent, "follow", "running")
    page.evaluate("window.sameDocument = true")
    log = page.locator("pre[data-log]")
    expect(log).to_contain_text("waiting for lines")
    stack.say(sent, "first line", r"\x1b[31mred\x1b[0m and \x1b[1;32mgreen\x1b[0m and <b>text</b>")
    expect(log).to_contain_text("first line")
    expect(log).to_contain_text("red and green and <b>text</b>")
    red, green = log.get_by_text("red", exact=True), log.get_by_text("green", exact=True)
    colours = [part.evaluate("(part) => getComputedStyle(part).color") for part in (red, green, log)]
    assert len(set(colours)) == 3, f"colours are not told apart: {colours}"
    assert page.locator("[style]").count() == 0, "no style stands in the page itself"
    stack.say(sent, "progress 0.4 two of five")
    expect(page.locator("#head")).to_contain_text("two of five")
    expect(page.locator("#head")).to_contain_text(re.compile("40 ?%"))
    stack.say(sent, "last line", "end")
    expect(page.locator("#head")).to_contain_text("succeeded")
    expect(log).to_contain_text("last line")
    expect(page.locator("#tail")).to_have_count(0)
    assert page.evaluate("window.sameDocument"), "the page was loaded again"
    # The lines of the page are those of the file.
    raw = page.request.get(page.locator("#log a", has_text="raw").get_attribute("href")).json()["text"]
    assert [line for line in raw.splitlines() if "line" in line] == [line for line in log.inner_text().splitlines() if "line" in line]


def test_searching_the_log(visit, stack, studies):
    page, _ = open_job(visit, stack, studies["well"], "prepare", "succeeded")
    page.get_by_role("searchbox", name="Find in the log").fill("slice 2")
    page.get_by_role("searchbox", name="Find in the log").press("Enter")
    found = page.locator("pre.log.found")
    expect(found).to_contain_text("slice 20")
    expect(found).not_to_contain_text("slice 31")
    page.get_by_role("link", name="Show the log").click()
    expect(page.locator("pre[data-log]")).to_contain_text("slice 31")


def test_a_picture_that_the_job_made_is_shown(visit, stack, studies):
    page, job = open_job(visit, stack, studies["well"], "prepare", "succeeded")
    picture = page.get_by_role("img", name="Middle slice")
    expect(picture).to_be_visible()
    expect(picture).to_have_js_property("naturalWidth", 96)
    expect(page.locator("#values")).to_contain_text("slices")


def test_a_failure_is_told_first_with_its_traceback(visit, stack, studies):
    page, _ = open_job(visit, stack, studies["failed"], "segment", "failed")
    expect(page.locator("#failure")).to_contain_text("MemoryError")
    expect(page.locator("#failure")).to_contain_text("the model wants more than there is")
    expect(page.locator("#failure pre")).to_contain_text("Traceback")
    expect(page.locator("#attempts tbody tr").first).to_contain_text("out-of-memory")
    skipped, _ = open_job(visit, stack, studies["failed"], "summary", "skipped")
    expect(skipped.locator("#head")).to_contain_text("segment")
