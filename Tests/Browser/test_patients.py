"""What identifies a patient, and text that means harm."""

from looks import too_wide
from playwright.sync_api import expect
from studies import SCRIPT


def test_headers_are_masked_until_somebody_reveals_them_which_is_on_record(visit, stack, send):
    sent = send("XA", PatientName="Unusual^Ursula")
    run = stack.run_in(sent)["id"]
    page = visit(f"/runs/{run}")
    assert "Ursula" not in page.content()
    expect(page.locator("body")).to_contain_text("what identifies the patient is hidden")
    expect(visit(f"/runs/{run}", role="viewer").get_by_text("Reveal…")).to_have_count(0)
    page.get_by_text("Reveal…").click()
    page.get_by_label("Reason").fill("ticket 42")
    page.get_by_role("button", name="Reveal", exact=True).click()
    page.locator("summary", has_text="Headers").click()
    expect(page.locator("details pre", has_text="Unusual^Ursula")).to_be_visible()
    assert "Ursula" not in page.url
    # For whom has asked alone.
    assert "Ursula" not in visit(f"/runs/{run}", role="admin").content()
    audit = visit(f"/audit?target={run}", role="admin")
    expect(audit.locator("#audit tbody tr").first).to_contain_text("reveal")
    expect(audit.locator("#audit")).to_contain_text("ticket 42")
    assert "Ursula" not in audit.content()
    page.get_by_role("button", name="Hide").click()
    expect(page.get_by_text("Reveal…")).to_be_visible()
    assert "Ursula" not in page.content()


def test_hostile_text_is_text_on_every_page_that_shows_it(visit, stack, studies):
    run = stack.run_of(studies["hostile"])
    job = next(job for job in run["jobs"] if job["name"] == "repeat")
    page = visit(f"/jobs/{job['id']}")
    harmless(page)
    expect(page.locator("#failure")).to_contain_text(SCRIPT)
    expect(page.locator("pre.log").first).to_contain_text(SCRIPT)
    expect(page.locator("#artifacts")).to_contain_text(SCRIPT)
    page.goto(f"/runs/{run['id']}")
    page.get_by_text("Reveal…").click()
    page.get_by_role("button", name="Reveal", exact=True).click()
    page.locator("summary", has_text="Headers").click()
    expect(page.locator("details[open] pre", has_text="onerror")).to_be_visible()
    harmless(page)
    page.locator("form[action$='/hide'] button").click()
    for path in ["/", "/runs", f"/runs?q={SCRIPT}", f"/runs?error={SCRIPT}", "/dead", "/events", "/services", "/workers"]:
        page.goto(path)
        expect(page.locator("main")).to_be_visible()
        harmless(page)


def harmless(page):
    """No script ran, no element came into being, no order of letters was turned around, and nothing is pushed out of the window."""
    for size in ({"width": 1280, "height": 900}, {"width": 390, "height": 844}):
        page.set_viewport_size(size)
        assert page.evaluate("typeof window.hostile") == "undefined", f"a script ran on {page.url}"
        assert page.locator("main img[src=x], main script").count() == 0
        assert "\u202e" not in page.locator("main").inner_text(), f"a control character turns text around on {page.url}"
        assert not too_wide(page), f"{page.url}: {too_wide(page)}"


def test_the_policy_stops_a_script_that_has_come_into_a_page(visit, complaints):
    """So that silence on all other pages means something."""
    complaints.expect("Content Security Policy")
    page = visit("/runs")
    page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.hostile = 3";
            document.body.append(script);
        }"""
    )
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hostile = 4\"><p style=\"color: red\">')")
    page.wait_for_function("document.querySelector('img[src=x]').complete")
    assert page.evaluate("typeof window.hostile") == "undefined"
    complaints.expected += ["404"] if any("404" in text for text in complaints.texts) else []
