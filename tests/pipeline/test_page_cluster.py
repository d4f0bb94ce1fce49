"""The page as files, and its view of the cluster, in a real browser with real workers."""

import gzip
import re
import statistics
import time

import pytest

import cluster
import page_browser

page_browser.need()

FOLDER = cluster.ROOT / "coordinator" / "page"
MOST_BYTES = 300 * 1024
SIZES = """((key) => [...performance.getEntriesByType('navigation'),
    ...performance.getEntriesByType('resource')].filter((r) => r.name.endsWith('/') ||
    r.name.includes('/page/')).reduce((sum, r) => sum + r[key], 0))"""


@pytest.fixture(scope="module", autouse=True)
def browser():
    with page_browser.browser() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def three(home):
    """Three workers, of which two have layers."""
    with cluster.Cluster(home, cluster.model_path("qwen2-tied-Q8_0"), workers=3, cuts="2",
                         options=["--alias", "tiny"]) as c:
        yield c


def work(c, n=3):
    for _ in range(n):
        status, _ = c.post("/v1/completions", {"prompt": "one two three", "max_tokens": 40,
                                               "ignore_eos": True})
        assert status == 200


def text_of(page, selector):
    return page.locator(selector).all_text_contents()


def test_every_file_is_there(pair):
    files = sorted(f.name for f in FOLDER.iterdir())
    for name in files:
        path = "/" if name == "index.html" else f"/page/{name}"
        status, headers, body = pair.request("GET", path)
        assert (status, body) == (200, (FOLDER / name).read_bytes()), name
        assert "content-encoding" not in headers
        status, headers, small = pair.request("GET", path, headers={"Accept-Encoding": "gzip"})
        assert (status, headers["content-encoding"], gzip.decompress(small)) == (200, "gzip", body), name
    named = set()
    for f in FOLDER.iterdir():
        text = f.read_text()
        named |= set(re.findall(r'"(?:page|\.)/([\w.]+)"', text))
        others = re.findall(r"https?://[^\s\"'`\\<>)]+", text)
        assert set(others) <= {"http://www.w3.org/2000/svg"}, f"{f.name} names {others}"
    assert named == set(files) - {"index.html"}
    preloaded = set(re.findall(r'modulepreload" href="page/([\w.]+)"', (FOLDER / "index.html").read_text()))
    assert preloaded == {f for f in files if f.endswith(".js")} - {"early.js", "main.js"}


def test_first_paint(browser, pair):
    """How large it is, and, for who reads it, how soon it is there: a figure of a quiet machine."""
    paints = []
    for _ in range(5):
        with page_browser.opened(browser, f"{pair.url}/") as page:
            page_browser.until(page, "performance.getEntriesByType('paint').length > 1")
            paints.append(page.evaluate("""() => performance.getEntriesByType('paint')
                .find((p) => p.name === 'first-contentful-paint').startTime"""))
            sizes = page.evaluate(f"{SIZES}('transferSize')"), page.evaluate(f"{SIZES}('decodedBodySize')")
            page.reload()
            again = page.evaluate(f"{SIZES}('transferSize')")
    print(f"\nfirst paint {sorted(round(p) for p in paints)} ms, median {statistics.median(paints):.0f}; "
          f"{sizes[0]} bytes for {sizes[1]}, {again} once they are known")
    assert 20000 < sizes[0] <= sizes[1] <= MOST_BYTES
    assert again < sizes[0] / 2


def test_machines_in_their_order(browser, three):
    work(three)
    with page_browser.opened(browser, f"{three.url}/#cluster") as page:
        page.locator("ol.pipeline .machine").nth(1).wait_for()
        status, want = three.get("/cluster")
        assert status == 200
        planned = [w for w in want["workers"] if w["stage"] is not None]
        assert text_of(page, "ol.pipeline h4") == [w["name"] for w in planned]
        assert text_of(page, "ul.pipeline h4") == [w["name"] for w in want["workers"]
                                                   if w["stage"] is None]
        assert text_of(page, "ol.pipeline .layers-words") == ["Layers 0–1 of 5", "Layers 2–4 of 5"]
        assert set(text_of(page, "ol.pipeline .state")) == {"serving"}
        assert want["workers"][2]["standby_reason"] in page.text_content("ul.pipeline")
        facts = dict(zip(text_of(page, ".facts dt"), text_of(page, ".facts dd")))
        assert (facts["Layers"], facts["Stages"], facts["Running"]) == ("5", "2", "0")


def test_steps_as_a_picture(browser, three):
    work(three)
    with page_browser.opened(browser, f"{three.url}/#cluster") as page:
        row = page.locator(".panel tbody tr").first
        page_browser.until(page, "document.querySelector('.panel tbody td')?.textContent.match(/\\d\\s[µm]?s/)")
        assert page.locator(".panel tbody tr").count() == 2
        assert re.search(r"\d+\s%", row.text_content())
        step = page.locator("ol.pipeline .machine").first.locator("dd").nth(2).text_content()
        assert re.match(r"[\d.]+\s(µs|ms|s)", step), step
        colours = page.evaluate("""() => {
            const c = document.querySelector('.trace');
            const data = c.getContext('2d').getImageData(c.width / 4, 13, c.width * 3 / 4, 1).data;
            const seen = new Set();
            for (let i = 0; i < data.length; i += 4)
                seen.add(`${data[i]},${data[i + 1]},${data[i + 2]}`);
            return seen.size; }""")
        assert colours > 2, "through the first lane there is ground and axis, and no block"
        page.click(".panel button")  # holds still
        page.focus(".trace")
        page.keyboard.press("ArrowLeft")
        newest = page.text_content("#trace-said")
        assert re.match(r"Step \d+: \d+ rows, \d+ of them decoding; w\d computed", newest), newest
        page.keyboard.press("ArrowLeft")
        assert page.text_content("#trace-said") != newest
        # While it is shown it lives: new steps change the figures once it goes on.
        page.click(".panel button")
        before = page.evaluate("performance.getEntriesByType('resource').length")
        work(three, 1)
        page_browser.until(page, f"performance.getEntriesByType('resource').length > {before} + 3")


def test_what_if(browser, three):
    with page_browser.opened(browser, f"{three.url}/#cluster") as page:
        page.locator("ol.pipeline .machine").nth(1).wait_for()
        page.click("summary:has-text('What if')")
        rows = page.locator(".machines tbody tr")
        rows.first.wait_for()  # as they are now; those of equal figures are one kind
        assert sum(int(r.input_value()) for r in page.locator(".machines [name=count]").all()) == 3
        assert page.locator(".machines [name=name]").first.input_value() == \
            three.get("/cluster")[1]["workers"][0]["name"]
        while rows.count() > 1:
            page.locator("[aria-label='Remove this machine']").first.click()
        for name, value in (("name", "desk"), ("count", "8"), ("memory_gib", "12"),
                            ("read_gb_per_s", "35"), ("int8_gops", "1000"),
                            ("link_mbit_per_s", "1000"), ("link_ms", "0.2")):
            page.fill(f".machines [name={name}]", value)
        page.select_option(".fields select", "qwen2.5-14b")
        page.click(".ask .primary")
        page.locator(".plan .stages tbody tr").first.wait_for()
        status, want = three.post("/cluster/plan", {
            "model": "qwen2.5-14b", "machines": [{"name": "desk", "count": 8, "memory_gib": 12,
                                                  "read_gb_per_s": 35, "int8_gops": 1000}]})
        assert status == 200 and want["fits"]
        assert text_of(page, ".plan .stages tbody th") == [s["worker"] for s in want["stages"]]
        assert want["bottleneck"] in page.text_content(".plan")
        assert page_browser.violations(page) == []
        page.fill(".machines [name=count]", "1")
        page.fill(".machines [name=memory_gib]", "1")
        page.click(".ask .primary")
        page.locator(".plan", has_text="It does not fit").wait_for()
        page.expected += ["400"]
        page.fill(".machines [name=count]", "200")
        page.click(".ask .primary")
        page.locator(".failure", has_text="'machines' are more than").wait_for()


def as_now(page, workers):
    """What "as they are now" makes of workers: the machines of the question, and what is said."""
    return page.evaluate("""async (workers) => {
        const { PlannerPanel } = await import('/page/planner.js');
        const panel = new PlannerPanel();
        panel.offer({ workers });
        panel.takeCluster();
        return [panel.question().machines, panel.leftOut.hidden ? '' : panel.leftOut.textContent];
    }""", workers)


def test_many_machines_as_they_are_now(browser, three):
    def worker(name, gib, read=35e9):
        return {"name": name, "memory_offered": gib * 2**30, "threads": 4, "isa": "avx2",
                "machine": {"measured": {"read_bytes_per_s": read}}, "link_bytes_per_second": 125e6,
                "round_trip_us": 200}

    def is_taken(machines):
        return three.post("/cluster/plan", {"model": "qwen2.5-7b", "machines": machines})[0] == 200

    def kinds(machines):
        return [(m["name"], m["count"], m["memory_gib"]) for m in machines]

    with page_browser.opened(browser, f"{three.url}/#cluster") as page:
        few, said = as_now(page, [worker("a", 16), worker("b", 16), worker("c", 16, 36e9)])
        assert (kinds(few), said) == ([("a", 2, 16), ("c", 1, 16)], "")
        noisy, said = as_now(page, [worker(f"m{i}", 16, (35 + i / 4) * 1e9) for i in range(12)])
        assert (kinds(noisy), said) == ([("m0", 12, 16)], "") and is_taken(noisy)
        kept, said = as_now(page, [worker(f"m{i}", 2**i) for i in range(11)])
        assert kinds(kept) == [(f"m{i}", 1, 2**i) for i in range(8)] and is_taken(kept)
        assert said == "Left out: 3. A plan is made of at most 8 kinds and 32 machines."
        kept, said = as_now(page, [worker(f"m{i}", 16) for i in range(40)] + [worker("x", 99)])
        assert kinds(kept) == [("m0", 32, 16)] and said.startswith("Left out: 9.") and is_taken(kept)
        named, _ = as_now(page, [worker("机" * 30, 16)])
        assert named[0]["name"] == "机" * 15 and is_taken(named)


def test_drain_and_resume(browser, three):
    with page_browser.opened(browser, f"{three.url}/#cluster") as page:
        name = page.locator("ol.pipeline h4").first.text_content()
        page.once("dialog", lambda d: d.dismiss())
        page.click(f"[aria-label='Drain {name}']")
        time.sleep(0.2)
        assert three.get("/cluster")[1]["workers"][0]["name"] == name  # nothing has happened
        page.once("dialog", lambda d: d.accept())
        page.click(f"[aria-label='Drain {name}']")
        page.locator("ul.pipeline .machine", has_text=name).locator(".state", has_text="drained").wait_for()
        assert name not in text_of(page, "ol.pipeline h4")
        page.click(f"[aria-label='Resume {name}']")
        page.locator(f"[aria-label='Drain {name}']").wait_for()


def test_a_server_that_is_gone(browser, home):
    c = cluster.Cluster(home, cluster.model_path("qwen2-tied-Q8_0"), workers=1)
    try:
        with page_browser.opened(browser, f"{c.url}/#cluster") as page:
            page.expected += ["Failed to load resource", "ERR_CONNECTION"]
            page.locator(".machine").wait_for()
            c.close()
            page.locator(".notice", has_text="The server cannot be reached.").wait_for()
    finally:
        c.close(check=False)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_for_everybody(browser, three, scheme, width):
    work(three, 1)
    with page_browser.opened(browser, f"{three.url}/#cluster", scheme=scheme, width=width, height=740,
                             reduced_motion="reduce") as page:
        page.locator("ol.pipeline .machine").nth(1).wait_for()
        page_browser.until(page, "document.querySelector('.panel tbody td')?.textContent.match(/\\d\\s[µm]?s/)")
        assert page_browser.violations(page) == []
        assert page_browser.width_of(page) <= width
