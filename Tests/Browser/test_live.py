"""A page that stays open all day: it follows by itself, also through an outage of the monitor."""

from playwright.sync_api import expect
from stack import until

# Lives as long as the document: a reload would lose it.
MARK = "window.sameDocument = true"
# Our own reader of the stream, beside the page's.
READ = """(after) => {
    window.facts = [];
    const source = new EventSource(`/api/v1/stream?after=${after}`);
    for (const kind of ["fact", "reset"]) source.addEventListener(kind, (event) => facts.push([kind, event.lastEventId]));
    return new Promise((resolve) => source.addEventListener("open", () => resolve(true), { once: true }));
}"""


def test_a_study_that_arrives_appears_and_ends_without_a_reload(visit, stack, send):
    page = visit("/runs")
    expect(page.locator("#live")).to_have_text("live")
    page.evaluate(MARK)
    new = send("US")
    run = stack.run_in(new)["id"]
    row = page.locator("#runs tbody tr", has=page.locator(f"a[href='/runs/{run}']"))
    expect(row).to_be_visible()
    expect(row).to_contain_text("active")
    stack.say(new, "end")
    expect(row).to_contain_text("succeeded")
    assert page.evaluate("window.sameDocument"), "the page was loaded again"


def test_the_overview_follows_too(visit, stack, send):
    page = visit("/")
    expect(page.locator("#live")).to_have_text("live")
    page.evaluate(MARK)
    run = stack.run_in(send("MR"))["id"]
    expect(page.locator(f"#latest a[href='/runs/{run}']").first).to_be_visible()
    assert page.evaluate("window.sameDocument")


def test_after_an_outage_of_the_monitor_nothing_is_missing(visit, stack, send, complaints):
    complaints.expect("ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE")
    page = visit("/runs")
    expect(page.locator("#live")).to_have_text("live")
    page.evaluate(MARK)
    start = page.locator("body").get_attribute("data-fact")
    page.evaluate(READ, start)
    before = stack.run_in(send("MR"), "succeeded")["id"]
    expect(page.locator(f"#runs a[href='/runs/{before}']").first).to_be_visible()

    killed = stack.kill_monitor()
    expect(page.locator("#live")).to_contain_text("reconnecting")
    # What happens while nobody can look.
    away = send("MR")
    until("another monitor", lambda: stack.endpoints["pids"]["monitor"] not in (None, killed))
    expect(page.locator("#live")).to_have_text("live")
    run = stack.run_in(away, "succeeded")["id"]
    row = page.locator("#runs tbody tr", has=page.locator(f"a[href='/runs/{run}']"))
    expect(row).to_contain_text("succeeded")
    assert page.evaluate("window.sameDocument")

    # What our reader got in two pieces is what somebody reads who was not cut off: nothing missing, nothing twice.
    whole = visit("/account")
    whole.evaluate(READ, start)

    def same():
        return page.evaluate("facts") == whole.evaluate("facts") != []

    until("the same facts with and without the outage", same, limit=20)
    facts = page.evaluate("facts.map(([, id]) => Number(id))")
    assert facts == sorted(set(facts)) and facts[0] > int(start)


def test_a_page_out_of_sight_rests_and_catches_up(visit, stack, send):
    page = visit("/runs")
    expect(page.locator("#live")).to_have_text("live")
    page.evaluate(MARK)
    hide = """(hidden) => {
        Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(hide, True)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    run = stack.run_in(send("MR"), "succeeded")["id"]
    assert asked == [], "a hidden page asks for nothing"
    expect(page.locator(f"#runs a[href='/runs/{run}']")).to_have_count(0)
    page.evaluate(hide, False)
    expect(page.locator(f"#runs a[href='/runs/{run}']").first).to_be_visible()
    assert page.evaluate("window.sameDocument")


def test_what_somebody_has_opened_or_typed_stays(visit, stack, studies):
    run = stack.run_of(studies["running"])
    page = visit(f"/runs/{run['id']}")
    expect(page.locator("#live")).to_have_text("live")
    page.locator("details.confirm summary", has_text="Cancel").click()
    button = page.get_by_role("button", name="Cancel the run")
    expect(button).to_be_visible()
    job = next(job for job in run["jobs"] if job["name"] == "follow")
    stack.say(studies["running"], "progress 0.25 a quarter")
    # The graph moves on beside the open box.
    expect(page.locator(f"#graph a[href='/jobs/{job['id']}'] rect.progress")).to_be_attached()
    expect(button).to_be_visible()
