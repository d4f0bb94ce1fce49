"""Debian's Chromium, driven by Playwright, which brings no browser of its own here."""

import contextlib
import pathlib

import pytest

import cluster
import hosts

CHROMIUM = pathlib.Path("/usr/bin/chromium")
LIMIT_MS = 90000


def need():
    """Skips, in words, where there is no browser to drive."""
    if not CHROMIUM.exists():
        pytest.skip("there is no /usr/bin/chromium: deploy/install-packages --tests installs it",
                    allow_module_level=True)
    for package, install in (("playwright", "playwright"), ("axe_playwright_python",
                                                           "axe-playwright-python")):
        pytest.importorskip(package, reason=f"pip install {install}, as tests/run does")


@contextlib.contextmanager
def browser():
    from playwright.sync_api import sync_playwright
    # Chromium gives up what it is loading whenever an address of the machine changes.
    with hosts.nothing_but_loopback(), sync_playwright() as p:
        # The tests' user may be root, and a container may forbid what the sandbox needs, or have a
        # small /dev/shm.
        chromium = p.chromium.launch(executable_path=str(CHROMIUM), timeout=LIMIT_MS,
                                     args=["--no-sandbox", "--disable-dev-shm-usage"])
        try:
            yield chromium
        finally:
            chromium.close()


@contextlib.contextmanager
def opened(chromium, url, width=1280, height=800, scheme="light", locale="en-GB", **more):
    """A page in a context of its own. What it logs as an error, and what it asks of others than its
    own server, fails the test. page.expected: parts of errors that are part of a test."""
    context = chromium.new_context(viewport={"width": width, "height": height}, color_scheme=scheme,
                                   locale=locale, **more)
    context.set_default_timeout(LIMIT_MS)
    page = context.new_page()
    page.expected = []
    faults = []
    page.on("pageerror", lambda e: faults.append(str(e)))
    page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
    page.on("request", lambda r: None if r.url.startswith((url.split("#")[0], "blob:")) else
            faults.append(f"asked {r.url}"))
    try:
        page.goto(url)
        try:
            until(page, "document.getElementById('health-words').textContent !== ''")
        except AssertionError as e:
            raise AssertionError(f"{e}: {faults}") from None
        yield page
    finally:
        context.close()
    left = [f for f in faults if not any(e in f for e in page.expected)]
    assert not left, left


def until(page, condition):
    """Waits for what a line of JavaScript says; Playwright's own wait would need eval() in the page,
    which the page's policy forbids."""
    return cluster.wait_until(lambda: page.evaluate(condition), LIMIT_MS / 1000, condition)


def violations(page):
    """What axe-core finds, as lines."""
    from axe_playwright_python.sync_playwright import Axe
    found = Axe().run(page).response["violations"]
    return [f"{v['id']} ({v['impact']}): {n['html'][:160]} {n['failureSummary'][:300]}"
            for v in found for n in v["nodes"]]


def width_of(page):
    """Pixels that the page's parts need from left to right."""
    return page.evaluate("""() => Math.max(document.scrollingElement.scrollWidth,
        ...[...document.querySelectorAll('main:not([hidden]) *')]
            .filter((n) => !n.closest('.table, pre, .unseen, #history'))
            .map((n) => n.getBoundingClientRect().right))""")
