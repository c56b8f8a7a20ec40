"""Finding a run, and reading it."""

import re

from playwright.sync_api import expect
from stack import until


def rows(page):
    return page.locator("#runs tbody tr")


def test_the_count_of_each_tab_is_the_number_of_its_rows(visit, studies):
    page = visit("/runs")
    tabs = page.locator("#tabs a")
    expect(tabs.first).to_be_visible()
    seen = 0
    for number in range(tabs.count()):
        tab = tabs.nth(number)
        count = int(tab.locator(".n").inner_text())
        tab.click()
        expect(page.locator("#tabs a").nth(number)).to_have_attribute("aria-current", "page")
        expect(rows(page)).to_have_count(count)
        seen += count
    assert seen >= 2 * len(studies), "every run is in the first tab and in that of its state"


def test_a_filter_narrows_the_list_and_its_counts(visit, stack, studies):
    page = visit("/runs")
    everything = rows(page).count()
    if not page.get_by_label("Modality").is_visible():
        page.locator("#filter summary").click()
    # A choice applies by itself.
    page.get_by_label("Modality").select_option("MR")
    expect(page).to_have_url(re.compile("modality=MR"))
    assert "level=" not in page.url, "empty fields are left out of the address"
    expected = [run["id"] for run in stack.api("/runs?modality=MR")["runs"]]
    expect(rows(page)).to_have_count(len(expected))
    assert 0 < len(expected) < everything
    listed = rows(page).locator("a[href^='/runs/']").evaluate_all("all => [...new Set(all.map((a) => a.pathname.split('/').pop()))]")
    assert listed == expected
    expect(page.locator("#tabs a").first.locator(".n")).to_have_text(str(len(expected)))
    # A condition is taken out by its chip.
    page.locator(".chips a.chip").click()
    expect(page).not_to_have_url(re.compile("modality"))


def test_text_and_error_find_their_run(visit, stack, studies):
    failed = stack.run_of(studies["failed"])
    page = visit("/runs")
    page.keyboard.press("/")
    search = page.get_by_role("searchbox", name="Search runs")
    expect(search).to_be_focused()
    search.fill(studies["failed"])
    search.press("Enter")
    expect(page.locator(f"#runs a[href='/runs/{failed['id']}']")).to_be_visible()
    expect(rows(page)).to_have_count(len(stack.api(f"/runs?event={studies['failed']}")["runs"]))
    page.goto("/runs?error=MemoryError")
    expect(page.locator(f"#runs a[href='/runs/{failed['id']}']")).to_be_visible()
    page.goto("/runs?error=NothingFailsLikeThis")
    expect(page.locator("#runs")).to_contain_text("No run matches")
    page.get_by_role("link", name="Show all runs").click()
    expect(rows(page)).not_to_have_count(0)


def test_a_run_shows_its_graph_its_times_and_its_decisions(visit, stack, studies):
    run = stack.run_of(studies["well"])
    page = visit(f"/runs/{run['id']}")
    expect(page.locator("#head")).to_contain_text("succeeded")
    nodes = page.locator("#graph svg.graph a[href^='/jobs/']")
    expect(nodes).to_have_count(len(run["jobs"]))
    # What a node depends on is to the left of it.
    places = {job["id"]: page.locator(f"#graph a[href='/jobs/{job['id']}']").first.bounding_box() for job in run["jobs"]}
    ids = {job["name"]: job["id"] for job in run["jobs"]}
    for job in run["jobs"]:
        for parent in job["dependsOn"]:
            assert places[ids.get(parent, parent)]["x"] < places[job["id"]]["x"], f"{job['name']} stands left of {parent}"
    expect(page.locator("#jobs tbody tr")).to_have_count(len(run["jobs"]))
    expect(page.locator("#jobs svg.timeline rect[class^='s-']")).to_have_count(len(run["jobs"]))
    expect(page.locator("#graph")).to_contain_text("Critical path")
    expect(page.locator("#decisions")).to_contain_text("Modality is MR, not CT")
    page.locator("#graph svg.graph a[href^='/jobs/']").last.click()
    expect(page.locator("h1")).to_have_text("report")


def test_the_whole_graph_can_be_seen(visit, stack, studies):
    """It fits, or its box can be scrolled with the keyboard to its end."""
    run = stack.run_of(studies["well"])
    page = visit(f"/runs/{run['id']}")
    box = page.locator("#graph .graphbox")
    last = page.locator("#graph svg.graph a[href^='/jobs/']").last
    last.focus()
    expect(last).to_be_focused()
    last.scroll_into_view_if_needed()
    inner, outer = last.bounding_box(), box.bounding_box()
    assert outer["x"] <= inner["x"] and inner["x"] + inner["width"] <= outer["x"] + outer["width"] + 1


def test_a_run_that_nothing_wanted_says_why(visit, stack, studies):
    page = visit(f"/runs/{stack.run_of(studies['nothing'])['id']}")
    expect(page.locator("#decisions")).to_contain_text("unusable")
    expect(page.locator("#graph")).to_contain_text("no jobs")


def test_a_study_that_ran_twice_links_its_runs(visit, stack, studies):
    first = stack.run_of(studies["nothing"])
    page = visit(f"/runs/{first['id']}")
    page.get_by_text("Reprocess…").click()
    page.locator(f"form[action='/runs/{first['id']}/reprocess'] button").click()
    # The two know of each other.
    until("a second run", lambda: len(stack.api(f"/runs?event={studies['nothing']}")["runs"]) == 2)
    page.goto(f"/runs/{first['id']}")
    page.locator("#related a[href^='/runs/0']").first.click()
    expect(page).not_to_have_url(re.compile(first["id"]))
    expect(page.locator(f"a[href='/runs/{first['id']}']").first).to_be_visible()
