"""Everything without a mouse."""

import re

import pytest
from playwright.sync_api import expect

STOP = """() => {
    const element = document.activeElement, box = element.getBoundingClientRect(), style = getComputedStyle(element);
    const parts = [style, ...[...element.querySelectorAll("rect.box, rect")].map((part) => getComputedStyle(part))];
    const marked = element.matches(":focus-visible, :focus-within") && parts.some((style) =>
        (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1) || parseFloat(style.strokeWidth) > 2);
    return {
        name: element.outerHTML.slice(0, 120), tag: element.tagName, marked,
        seen: box.width > 0 && box.height > 0 && box.bottom > 0 && box.right > 0 && box.top < innerHeight && box.left < innerWidth,
        order: [...document.querySelectorAll("*")].indexOf(element), header: element.closest("header") !== null, x: box.left,
    };
}"""


def stops(page, limit=200):
    """Goes through the page with Tab, once around."""
    found = []
    for _ in range(limit):
        page.keyboard.press("Tab")
        stop = page.evaluate(STOP)
        if stop["tag"] == "BODY" or (found and stop["order"] == found[0]["order"]):
            return found
        found.append(stop)
    raise AssertionError(f"Tab does not come around in {limit} steps")


def test_the_skip_link_is_first_shows_itself_and_leads_past_the_menu(visit, studies):
    page = visit("/runs")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport(ratio=1)
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("#content$"))
    page.keyboard.press("Tab")
    assert page.evaluate("document.getElementById('content').contains(document.activeElement)"), "the menu was not skipped"


@pytest.mark.parametrize("where", ["runs", "run", "job", "dead", "queues"])
def test_every_stop_of_tab_is_seen_marked_and_in_reading_order(visit, stack, studies, where):
    run = stack.run_of(studies["failed"])
    job = next(job for job in run["jobs"] if job["name"] == "segment")
    page = visit({"run": f"/runs/{run['id']}", "job": f"/jobs/{job['id']}"}.get(where, f"/{where}"))
    expect(page.locator("#live")).to_have_text("live")
    found = stops(page)
    assert len(found) > 8
    hidden = [stop["name"] for stop in found if not stop["seen"]]
    assert not hidden, f"focus goes where nobody sees it: {hidden}"
    unmarked = [stop["name"] for stop in found if not stop["marked"]]
    assert not unmarked, f"nothing shows that these have the focus: {unmarked}"
    assert [stop["order"] for stop in found] == sorted(stop["order"] for stop in found)
    menu = [stop["x"] for stop in found if stop["header"]]
    assert menu == sorted(menu), "the menu is walked from left to right"


def test_enter_opens_a_confirmation_escape_closes_it_and_nothing_happened(visit, stack, studies):
    run = stack.run_of(studies["running"])
    page = visit(f"/runs/{run['id']}")
    summary = page.locator("details.confirm summary", has_text="Cancel")
    summary.focus()
    page.keyboard.press("Enter")
    button = page.get_by_role("button", name="Cancel the run")
    expect(button).to_be_visible()
    page.keyboard.press("Tab")
    expect(button).to_be_focused()
    page.keyboard.press("Escape")
    expect(button).to_be_hidden()
    assert stack.run_of(studies["running"])["state"] == "active"
