"""Who gets in, and who may do what."""

import re

from conftest import PASSWORD, USERS, sign_in
from playwright.sync_api import expect


def test_a_wrong_password_is_refused_in_words(visit, complaints):
    complaints.expect("status of 40[13]|status of 422")
    page = visit("/sign-in", role=None)
    sign_in(page, USERS["operator"], "not the password")
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_label("Password")).to_have_value("")
    page.goto("/runs")
    expect(page).to_have_url(re.compile("/sign-in"))


def test_signing_in_leads_to_the_page_that_was_asked_for_and_signing_out_ends_it(visit):
    page = visit("/runs?level=study", role=None)
    expect(page).to_have_url(re.compile(r"/sign-in\?"))
    sign_in(page, USERS["operator"])
    expect(page).to_have_url(re.compile(r"/runs\?level=study$"))
    page.locator("header details.account summary").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(re.compile("/sign-in"))
    # Nothing is left in the browser's memory of pages either.
    page.go_back()
    expect(page.locator("form#sign-in-name")).to_be_visible()
    page.goto("/")
    expect(page).to_have_url(re.compile("/sign-in"))


def test_the_form_suits_password_managers_and_the_keyboard(visit):
    page = visit("/sign-in", role=None)
    expect(page.get_by_label("Password")).to_have_attribute("type", "password")
    expect(page.get_by_label("Password")).to_have_attribute("autocomplete", "current-password")
    expect(page.get_by_label("Name", exact=True)).to_have_attribute("autocomplete", "username")
    expect(page.get_by_label("Name", exact=True)).to_be_focused()


def test_a_viewer_is_shown_no_buttons_that_change_things(visit, stack, studies):
    run = stack.run_of(studies["failed"])
    job = next(job for job in run["jobs"] if job["name"] == "segment")
    page = visit("/", role="viewer")
    for path in [f"/runs/{run['id']}", f"/jobs/{job['id']}", "/runs", "/dead", "/queues", "/workers", "/services"]:
        page.goto(path)
        expect(page.locator("main h1")).to_be_attached()
        assert page.locator("main form[method=post]").count() == 0, f"{path} offers a viewer something to do"
    page = visit(f"/jobs/{job['id']}", role="operator")
    expect(page.locator(f"main form[action='/jobs/{job['id']}/retry'] button").first).to_be_attached()


def test_a_viewer_who_sends_the_form_all_the_same_is_refused(visit, stack, studies, complaints):
    complaints.expect("status of 403")
    run = stack.run_of(studies["failed"])
    page = visit(f"/runs/{run['id']}", role="viewer")
    token = page.locator("input[name=csrf]").first.get_attribute("value")
    send(page, f"/runs/{run['id']}/retry", token)
    expect(page.locator("main")).to_contain_text("operator")
    assert stack.run_of(studies["failed"])["state"] == "failed"


def test_a_form_without_its_token_is_refused(visit, stack, studies, complaints):
    complaints.expect("status of 403")
    run = stack.run_of(studies["failed"])
    for token in (None, "0" * 64):
        page = visit(f"/runs/{run['id']}")
        with page.expect_response(lambda response: response.url.endswith("/retry")) as answer:
            send(page, f"/runs/{run['id']}/retry", token)
        assert answer.value.status == 403
    assert stack.run_of(studies["failed"])["state"] == "failed"


def send(page, action, token):
    """A form of our own, as somebody would write it into the page."""
    page.evaluate(
        """([action, token]) => {
            const form = document.createElement("form");
            form.method = "post"; form.action = action;
            if (token) { const field = document.createElement("input"); field.name = "csrf"; field.value = token; form.append(field); }
            document.body.append(form); form.submit();
        }""",
        [action, token],
    )
    page.wait_for_url(f"**{action}")


def test_pages_of_admins_are_closed_to_others(visit, complaints):
    complaints.expect("status of 403")
    for role in ("viewer", "operator"):
        page = visit("/users", role=role)
        expect(page.locator("main")).to_contain_text("admin")
        expect(page.get_by_text("Add a user")).to_have_count(0)
    page = visit("/users", role="admin")
    expect(page.get_by_role("heading", name="Add a user")).to_be_visible()


def test_an_admin_adds_a_user_who_can_sign_in(visit, chromium):
    page = visit("/users", role="admin")
    form = page.locator("form[action='/users']")
    form.get_by_label("Name").fill("nora")
    form.get_by_label("Password").fill(PASSWORD)
    form.get_by_label("Role").select_option("viewer")
    form.get_by_role("button", name="Add").click()
    expect(page.locator("#users table")).to_contain_text("nora")
    other = visit("/sign-in", role=None)
    sign_in(other, "nora")
    expect(other).to_have_url(re.compile("/$"))
    # A page that stands open would ask, and be refused, before the next click.
    other.goto("about:blank")
    # Disabled, the next click shows the door.
    page.locator("form[action='/users/nora/disable'] button").click()
    expect(page.locator("#users table")).to_contain_text("disabled")
    other.goto("/runs")
    expect(other).to_have_url(re.compile("/sign-in"))


def test_a_page_whose_user_was_disabled_says_so(visit, complaints):
    # Whichever comes first: the stream is refused, or the page is sent to where one signs in.
    complaints.allow("status of 401")
    page = visit("/users", role="admin")
    form = page.locator("form[action='/users']")
    form.get_by_label("Name").fill("olga")
    form.get_by_label("Password").fill(PASSWORD)
    form.get_by_role("button", name="Add").click()
    expect(page.locator("#users table")).to_contain_text("olga")
    other = visit("/sign-in", role=None)
    sign_in(other, "olga")
    expect(other.locator("#live")).to_have_text("live")
    page.locator("form[action='/users/olga/disable'] button").click()
    expect(other.locator("#live")).to_contain_text("signed out")
