"""What is asked of every page: accessible to WCAG 2.2 AA by axe, nothing wider than the window, and a picture for people to look at."""

import os
import pathlib

import axe_playwright_python

AXE = (pathlib.Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
# What a theme changes, and what a narrow window does besides.
COLOURS = ["color-contrast", "link-in-text-block"]
NARROW = COLOURS + [
    "target-size", "scrollable-region-focusable", "button-name", "link-name", "label", "select-name", "summary-name", "empty-heading",
]
CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


def folder():
    """Where the pictures go."""
    folder = pathlib.Path(os.environ.get("BROWSER_TESTS_SCREENSHOTS") or CHECKOUT / ".build" / "browser" / "screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def violations(page, rules=None):
    """What axe finds on the page as it is shown now, a line for each element."""
    choice = {"type": "rule", "values": rules} if rules else {"type": "tag", "values": RULES}
    if not page.evaluate("typeof axe === 'object'"):
        page.evaluate(AXE)
    found = page.evaluate("(choice) => axe.run(document, {resultTypes: ['violations'], runOnly: choice})", choice)
    return [
        f"{rule['id']}: {node['target'][-1]} {node['html'][:200]}\n        "
        + "; ".join(check["message"] for check in node["any"] + node["all"] + node["none"])
        for rule in found["violations"]
        for node in rule["nodes"]
    ]


def look(page, name):
    """Looks at a page in light, in dark and on a phone. Returns what is wrong, by the way of looking."""
    wrong = {}
    page.set_viewport_size(WIDE)
    page.emulate_media(color_scheme="light")
    wrong["light"] = violations(page) + picture(page, f"{name}-light")
    page.emulate_media(color_scheme="dark")
    wrong["dark"] = violations(page, COLOURS) + picture(page, f"{name}-dark")
    page.emulate_media(color_scheme="light")
    page.set_viewport_size(PHONE)
    wrong["phone"] = violations(page, NARROW) + too_wide(page) + picture(page, f"{name}-phone")
    return {way: problems for way, problems in wrong.items() if problems}


def picture(page, name):
    page.screenshot(path=folder() / f"{name}.png", full_page=True, animations="disabled")
    return []


def too_wide(page):
    """The page itself never scrolls sideways; wide tables scroll in boxes of their own."""
    inside, window = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    return [f"the page is {inside} pixels wide in a window of {window}"] if inside > window else []


def say(wrong):
    return "\n".join(f"{way}:\n    " + "\n    ".join(problems) for way, problems in wrong.items())
