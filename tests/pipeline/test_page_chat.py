"""The chat of the page, in a real browser. Most answers are scripted, so that what is on the screen
can be looked at while they come; one is of a real model."""

import json
import re

import pytest

import cluster
import page_browser
import page_server

page_browser.need()

FOLDER = cluster.ROOT / "coordinator" / "page"

MARKDOWN = [
    ("one *two* **three** ***four*** ~~five~~ `six`",
     "<p>one <em>two</em> <strong>three</strong> <strong><em>four</em></strong> <del>five</del> "
     "<code>six</code></p>"),
    ("snake_case_name and 2*3*4 and __init__", "<p>snake_case_name and 2<em>3</em>4 and "
     "<strong>init</strong></p>"),
    ("中文**加粗**文本，_强调_。", "<p>中文<strong>加粗</strong>文本，<em>强调</em>。</p>"),
    ("``a ` b`` \\*not\\* &lt;b&gt; <b>", "<p><code>a ` b</code> *not* &lt;b&gt; &lt;b&gt;</p>"),
    ("two  \nlines\\\nand<br>three", "<p>two<br>lines<br>and<br>three</p>"),
    ("[a](https://x.org/y_(z)) <https://x.org/> https://x.org/q?a=1.",
     '<p><a href="https://x.org/y_(z)" target="_blank" rel="noopener noreferrer nofollow">a</a> '
     '<a href="https://x.org/" target="_blank" rel="noopener noreferrer nofollow">https://x.org/</a> '
     '<a href="https://x.org/q?a=1" target="_blank" rel="noopener noreferrer nofollow">'
     "https://x.org/q?a=1</a>.</p>"),
    ("[a](javascript:alert(1)) [b](data:text/html,x) ![c](https://x.org/i.png) [d](/cluster)",
     '<p><span>a</span> <span>b</span> <a href="https://x.org/i.png" target="_blank" '
     'rel="noopener noreferrer nofollow">c</a> <span>d</span></p>'),
    ("# One\n## Two ##\n####### seven\n# C#\n# #", "<h3>One</h3><h4>Two</h4><p>####### seven</p>"
     "<h3>C#</h3><h3></h3>"),
    ("http://x.org/(a), http://x.org/a).",
     '<p><a href="http://x.org/(a)" target="_blank" rel="noopener noreferrer nofollow">http://x.org/(a)'
     '</a>, <a href="http://x.org/a" target="_blank" rel="noopener noreferrer nofollow">http://x.org/a'
     "</a>).</p>"),
    ("- a\n- b\n  - c\n    d\n- e", "<ul><li>a</li><li>b<ul><li>c\nd</li></ul></li><li>e</li></ul>"),
    ("3. a\n4. b", '<ol start="3"><li>a</li><li>b</li></ol>'),
    ("1. a\n\n   more\n\n2. b", "<ol><li><p>a</p><p>more</p></li><li><p>b</p></li></ol>"),
    ("- [ ] a\n- [x] b", '<ul><li class="task">☐ a</li><li class="task">☑ b</li></ul>'),
    ("> a\n> > b\n\nc", "<blockquote><p>a</p><blockquote><p>b</p></blockquote></blockquote><p>c</p>"),
    ("a\n\n---\n\nb", "<p>a</p><hr><p>b</p>"),
    ("| a | b |\n|:-:|--:|\n| `x|y` | 1 |\n| z |",
     '<div class="table" tabindex="0" role="group"><table><thead><tr><th class="center" scope="col">a'
     '</th><th class="right" scope="col">b</th></tr></thead><tbody><tr><td class="center"><code>x|y'
     '</code></td><td class="right">1</td></tr><tr><td class="center">z</td><td class="right"></td>'
     "</tr></tbody></table></div>"),
    ("\\(x^2\\) and\n\n$$\ny\n$$", '<p><code class="math">x^2</code> and</p>'
     '<pre class="math" tabindex="0"><code>y</code></pre>'),
    ("\\[ a\nb \\]\n\\[ c \\] d\n$$\ne",
     '<pre class="math" tabindex="0"><code>a\nb</code></pre><p>[ c ] d</p>'
     '<pre class="math" tabindex="0"><code>e</code></pre>'),
    ("<script>alert(1)</script>", "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>"),
    ("<img src=x onerror=alert(1)>", "<p>&lt;img src=x onerror=alert(1)&gt;</p>"),
]
LONG = """# Title

A paragraph with **bold** text
over two lines.

1. first
   ```c
   int x = 1; /* a */

   return "s";
   ```
2. second
   - inner

> quote
goes on

| a | b |
|---|---|
| 1 | 2 |

~~~
plain `code`
~~~
The end, *at last*.
"""


@pytest.fixture(scope="module", autouse=True)
def browser():
    with page_browser.browser() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def server(pair):
    scripted = page_server.PageServer(pair.http)
    yield scripted
    scripted.close()


@pytest.fixture
def page(browser, server):
    with page_browser.opened(browser, server.url) as opened:
        yield opened


def ask(page, text):
    page.fill("#composer-text", text)
    page.keyboard.press("Enter")


def answer(page, n=-1):
    """The locator of an answer's text."""
    return page.locator(".answer").nth(n).locator("> .prose")


def is_done(page):
    page.locator("#send").wait_for()


def talk(page, server, text, *parts):
    for part in parts:
        server.say(part)
    server.finish()
    ask(page, text)
    is_done(page)


def kept(page):
    """The conversations in the browser's storage, newest first."""
    return page.evaluate("""() => JSON.parse(localStorage.getItem('paceline.chats') || '[]')
        .map((c) => JSON.parse(localStorage.getItem('paceline.chat.' + c.id)))""")


def test_a_real_answer(browser, pair):
    with page_browser.opened(browser, f"{pair.url}/") as page:
        assert page.text_content("#health-words") == "tiny"
        page.click("#settings-open")
        page.fill("[name=temperature]", "0")
        page.fill("[name=max_tokens]", "40")
        page.keyboard.press("Escape")
        ask(page, "The quick brown fox")
        is_done(page)
        status, want = pair.post("/v1/chat/completions", {
            "messages": [{"role": "user", "content": "The quick brown fox"}], "temperature": 0,
            "max_tokens": 40})
        assert status == 200
        version = kept(page)[0]["messages"][1]["versions"][0]
        assert version["content"] == want["choices"][0]["message"]["content"]
        assert version["tokens"] == want["usage"]["completion_tokens"]
        assert version["finish"] == want["choices"][0]["finish_reason"]


def test_text_appears_as_it_comes(page, server):
    ask(page, "Tell me")
    server.say("First **part")
    page_browser.until(page, "document.querySelector('.answer > .prose').textContent === 'First **part'")
    assert page.locator(".answer").get_attribute("aria-busy") == "true"
    assert page.is_visible("#stop") and not page.is_visible("#send")
    server.say("** and `the` rest.")
    page_browser.until(page, "document.querySelector('.answer strong')?.textContent === 'part'")
    server.finish(tokens=7)
    is_done(page)
    assert answer(page).inner_html() == "<p>First <strong>part</strong> and <code>the</code> rest.</p>"
    assert "7\u00a0tokens" in page.text_content(".figures")
    assert page.text_content("#spoken") == "The answer is complete."
    assert page.evaluate("document.activeElement.id") == "composer-text"
    assert server.questions[-1]["messages"] == [{"role": "user", "content": "Tell me"}]
    assert server.questions[-1]["stream"] is True


@pytest.mark.parametrize("how", ["button", "Escape"])
def test_stop(page, server, how):
    ask(page, "Go on for ever")
    server.say("and on")
    page_browser.until(page, "document.querySelector('.answer > .prose').textContent === 'and on'")
    if how == "button":
        page.click("#stop")
    else:
        page.keyboard.press("Escape")
    assert server.gone.wait(page_browser.LIMIT_MS / 1000), "the connection stays open"
    is_done(page)
    assert page.text_content(".figures").startswith("Stopped")
    version = kept(page)[0]["messages"][1]["versions"][0]
    assert (version["content"], version["finish"]) == ("and on", "stopped")
    talk(page, server, "Again", "fine")  # it is free for the next question
    assert server.questions[-1]["messages"][1] == {"role": "assistant", "content": "and on"}


def test_other_answers_to_a_question(page, server):
    talk(page, server, "One?", "answer 1")
    server.say("answer 2")
    server.finish()
    page.click(".answer .again")
    page.locator(".count", has_text="2/2").wait_for()
    assert answer(page).text_content() == "answer 2"
    assert server.questions[-1]["messages"] == [{"role": "user", "content": "One?"}]
    page.click("[aria-label='Earlier answer']")
    assert answer(page).text_content() == "answer 1"
    talk(page, server, "Two?", "more")
    assert server.questions[-1]["messages"][1]["content"] == "answer 1"  # the one that is shown


def test_edit(page, server):
    talk(page, server, "First", "1")
    talk(page, server, "Sceond", "2")
    page.press("#composer-text", "ArrowUp")
    editor = page.locator(".editor textarea")
    assert editor.input_value() == "Sceond"
    page.keyboard.press("Escape")
    assert editor.count() == 0
    page.press("#composer-text", "ArrowUp")
    editor.fill("Second")
    server.say("3")
    server.finish()
    editor.press("Enter")
    page.locator(".answer > .prose", has_text="3").wait_for()
    is_done(page)
    assert [m["content"] for m in server.questions[-1]["messages"]] == ["First", "1", "Second"]
    assert [m.get("content") for m in kept(page)[0]["messages"]] == ["First", None, "Second", None]


def test_history_is_kept_here(page, server):
    talk(page, server, "About bicycles", "Two wheels.")
    page.click("#new-chat")
    assert page.locator(".message").count() == 0
    talk(page, server, "About <b>trains</b>", "Rails.")
    titles = page.locator("#history .entry")
    assert titles.all_text_contents() == ["About <b>trains</b>", "About bicycles"]
    page.reload()
    assert page.locator(".user .said").all_text_contents() == ["About <b>trains</b>"]
    titles.nth(1).click()
    assert answer(page).text_content() == "Two wheels."
    with page.expect_download() as download:
        page.locator("#history li").nth(1).hover()
        page.click("[aria-label='Download “About bicycles”']")
    assert download.value.suggested_filename == "About-bicycles.md"
    page.once("dialog", lambda d: d.accept())
    page.locator("#history li").nth(1).hover()
    page.click("[aria-label='Delete “About bicycles”']")
    assert titles.all_text_contents() == ["About <b>trains</b>"]
    assert page.locator(".message").count() == 0 and len(kept(page)) == 1


def test_a_tab_closed_under_way(page, server):
    ask(page, "Half")
    server.say("only ha")
    page_browser.until(page, "document.querySelector('.answer > .prose').textContent === 'only ha'")
    page.reload()
    is_done(page)
    assert answer(page).text_content() == "only ha"
    assert server.gone.wait(page_browser.LIMIT_MS / 1000)


def test_settings_are_sent(page, server):
    page.click("#settings-open")
    page.fill("[name=system]", "Be brief.")
    for name, value in [("temperature", "0.5"), ("top_k", "20"), ("seed", "7"), ("max_tokens", "0")]:
        page.fill(f"[name={name}]", value)
    page.fill("[name=stop]", "END\nSTOP")
    page.select_option("[name=thinking]", "off")
    assert page.get_attribute("[name=max_tokens]", "aria-invalid") == "true"
    page.click("#settings-form .primary")
    talk(page, server, "Hello", "Hi")
    question = server.questions[-1]
    assert question["messages"] == [{"role": "system", "content": "Be brief."},
                                    {"role": "user", "content": "Hello"}]
    assert question["temperature"] == 0.5 and question["top_k"] == 20 and question["seed"] == 7
    assert question["stop"] == ["END", "STOP"]
    assert question["chat_template_kwargs"] == {"enable_thinking": False}
    assert "max_tokens" not in question and "top_p" not in question
    page.reload()
    page.click("#settings-open")
    assert page.input_value("[name=temperature]") == "0.5"
    page.click("#settings-reset")
    assert page.input_value("[name=temperature]") == ""
    page.keyboard.press("Escape")
    talk(page, server, "Once more", "Hi")
    assert "temperature" not in server.questions[-1] and "stop" not in server.questions[-1]


def test_thinking_is_folded(page, server):
    ask(page, "Think")
    server.say(reasoning="Let me *see*")
    page.locator(".thinking summary", has_text="Thinking…").wait_for()
    server.say("42")
    page.locator(".thinking summary", has_text="Thought for").wait_for()
    server.finish()
    is_done(page)
    assert answer(page).text_content() == "42"
    assert not page.locator(".thinking em").is_visible()
    page.click(".thinking summary")
    assert page.locator(".thinking em").text_content() == "see"
    talk(page, server, "And?", "43")
    assert server.questions[-1]["messages"][1] == {"role": "assistant", "content": "42"}


def test_failures_are_told(page, server):
    page.expected += ["429"]
    server.refuse(429, "There is no room for this request.", {"Retry-After": "1"})
    ask(page, "Hello")
    failure = page.locator(".answer .failure")
    failure.wait_for()
    assert "There is no room for this request." in failure.text_content()
    server.say("Half an ans")
    server.fail("It took too long.")
    failure.get_by_role("button").click()
    page.locator(".failure", has_text="It took too long.").wait_for()
    assert answer(page).text_content() == "Half an ans"
    server.break_off()
    failure.get_by_role("button").click()
    page.locator(".failure", has_text="The answer broke off.").wait_for()
    server.say("At last")
    server.finish()
    failure.get_by_role("button").click()
    page.locator(".answer > .prose", has_text="At last").wait_for()
    is_done(page)
    assert failure.count() == 0 and page.locator(".count").count() == 0


def test_markdown(page):
    got = page.evaluate("""async (texts) => {
        const { markdown } = await import('/page/markdown.js');
        return texts.map((text) => {
            const box = document.createElement('div');
            box.append(markdown(text));
            return box.innerHTML; }); }""", [text for text, _ in MARKDOWN])
    assert got == [want for _, want in MARKDOWN]


def test_markdown_in_pieces(page):
    """However the text arrives, it ends as if it had come at once."""
    whole, pieces, kept_nodes = page.evaluate("""async (text) => {
        const { markdown, MarkdownView } = await import('/page/markdown.js');
        const whole = document.createElement('div'), box = document.createElement('div');
        whole.append(markdown(text));
        const view = new MarkdownView(box);
        let first = null, kept = true;
        for (let n = 1; n <= text.length; n++) {
            view.update(text.slice(0, n));
            first ??= box.children.length > 2 ? box.children[0] : null;
            if (first && box.children[0] !== first)
                kept = false;
        }
        return [whole.innerHTML, box.innerHTML, kept]; }""", LONG)
    assert pieces == whole
    assert kept_nodes, "finished blocks are built again and again"
    assert whole.count("<figure") == 2 and "<table" in whole


def test_markdown_takes_no_time(page):
    """Marks that never close, of every kind: a tenth of a second; without a bound on the search the
    last takes minutes."""
    took = page.evaluate("""async () => {
        const { markdown } = await import('/page/markdown.js');
        const begin = performance.now();
        for (const piece of ['*a ', '`', '[', '**_', '> ', '- ', '<', '|', '~~x', '\\\\('])
            markdown(piece.repeat(20000 / piece.length));
        let marks = '';
        for (let n = 1; n < 160; n++)
            marks += '*a ' + '`'.repeat(n) + ' ';
        markdown(marks);
        return performance.now() - begin; }""")
    assert took < 60000, took


@pytest.mark.parametrize("text", [
    "'\\\\[\\n'.repeat(6000) + '\\\\] x'",
    "'\\\\(x '.repeat(200000)",
    "'[](' + ' '.repeat(400000) + 'x'",
    "'http://' + '.'.repeat(400000) + 'x'",
    "'~'.repeat(400000) + '`'",
    "'```' + ' '.repeat(400000) + '`'",
    "'# x' + ' '.repeat(400000) + 'x'",
    "'a|b\\n-|-' + ' '.repeat(400000) + 'x'",
])
def test_marks_in_vain_take_no_time(page, text):
    """A second altogether; minutes each where the search for an end is begun anew at each mark."""
    took = page.evaluate(f"""async () => {{
        const {{ markdown }} = await import('/page/markdown.js');
        const begin = performance.now();
        markdown({text});
        return performance.now() - begin; }}""")
    assert took < 60000, took


def test_nothing_a_model_writes_runs(page, server):
    page.on("dialog", lambda d: pytest.fail("something ran"))
    talk(page, server, "Attack", "<img src=x onerror=alert(1)> <svg onload=alert(2)>\n\n",
         "[x](javascript:alert(3)) <javascript:alert(4)>\n\n```html\n<script>alert(5)</script>\n```\n")
    found = page.evaluate("""() => [...document.querySelectorAll('.answer > .prose *')]
        .filter((n) => ['SCRIPT', 'IMG', 'IFRAME', 'STYLE', 'FORM'].includes(n.tagName) ||
            [...n.attributes].some((a) => a.name.startsWith('on') || /^javascript:/i.test(a.value)))
        .length""")
    assert found == 0
    page.expected += ["Content Security Policy", "violates the following"]
    ran = page.evaluate("""() => new Promise((resolve) => {
        const script = document.createElement('script');
        script.textContent = 'window.ran = true';
        document.body.append(script);
        setTimeout(() => resolve(window.ran === true), 50); })""")
    assert not ran, "the policy lets scripts in the document run"


def test_keys_alone(page, server):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "composer-text"
    page.keyboard.type("line 1")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("line 2")
    server.say("yes")
    server.finish()
    page.keyboard.press("Enter")
    is_done(page)
    assert server.questions[-1]["messages"][0]["content"] == "line 1\nline 2"
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.getAttribute('aria-label') || "
                                  "document.activeElement.textContent"))
    assert {"New chat", "Copy answer", "Another answer", "Edit message", "Settings", "Send", "Chat",
            "Cluster"} <= reached


def test_enter_while_composing_is_not_sent(page, server):
    page.fill("#composer-text", "ni hao")
    n = len(server.questions)
    page.evaluate("""() => document.getElementById('composer-text').dispatchEvent(
        new KeyboardEvent('keydown', { key: 'Enter', isComposing: true, bubbles: true }))""")
    assert page.input_value("#composer-text") == "ni hao" and len(server.questions) == n


def test_two_languages(browser, server):
    with page_browser.opened(browser, server.url, locale="zh-CN") as page:
        assert page.text_content("#to-chat") == "对话"
        assert page.get_attribute("html", "lang") == "zh-CN"
        page.click("#language")
        assert page.text_content("#to-chat") == "Chat"
        page.reload()
        assert page.text_content("#to-chat") == "Chat"
        english, chinese, used = page.evaluate("""async () => [
            (await import('/page/texts_en.js')).english, (await import('/page/texts_zh.js')).chinese,
            [...document.querySelectorAll('[data-t], [data-t-label], [data-t-hint]')].flatMap((n) =>
                [n.dataset.t, n.dataset.tLabel, n.dataset.tHint]).filter(Boolean)]""")
    assert list(english) == list(chinese)
    assert set(used) <= set(english)
    code = "".join(f.read_text() for f in FOLDER.iterdir() if not f.name.startswith("texts_"))
    assert set(re.findall(r'\bt\("([^"]+)"', code)) <= set(english)
    computed = [re.sub(r"\\\$\\\{.*?\\\}", ".+", re.escape(p)) for p in re.findall(r"\bt\(`([^`]+)`", code)]
    words = set(re.findall(r'"([^"\n]+)"', code))
    assert [k for k in english if k not in words and not any(re.fullmatch(p, k) for p in computed)] == []
    for key, text in english.items():
        places = lambda s: sorted(p.split("}")[0] for p in s.split("{")[1:])
        assert places(text) == places(chinese[key]), key


def test_two_themes(browser, server):
    ground = "getComputedStyle(document.body).backgroundColor"
    with page_browser.opened(browser, server.url, scheme="dark") as page:
        assert page.evaluate(ground) != "rgb(255, 255, 255)"
        page.click("#theme")  # from the system's to light
        assert page.evaluate(ground) == "rgb(255, 255, 255)"
        page.reload()
        assert page.evaluate(ground) == "rgb(255, 255, 255)"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_for_everybody(browser, server, scheme, width):
    """axe-core finds nothing, and nothing is wider than the screen."""
    with page_browser.opened(browser, server.url, scheme=scheme, width=width, height=740,
                             reduced_motion="reduce") as page:
        assert page_browser.violations(page) == []
        server.say(reasoning="Hm.")
        talk(page, server, "Show all of it " + "long" * 40, LONG,
             "```python\ndef f(x):  # comment\n    return \"s\" + str(12)\n```\n[link](https://x.org/)")
        page.click(".thinking summary")
        assert page_browser.violations(page) == []
        assert page_browser.width_of(page) <= width
        if width < 700:
            page.click("#history-open")
            assert page.is_visible("#new-chat")
            assert page_browser.violations(page) == []
            page.keyboard.press("Escape")
            assert not page.is_visible("#new-chat")
        page.click("#settings-open")
        assert page_browser.violations(page) == []


def test_a_key_is_asked_for(browser, home):
    keys = home / "page-keys"
    keys.write_text("secret-of-the-page\n")
    keys.chmod(0o600)
    with cluster.Cluster(home, cluster.model_path("qwen2-tied-Q8_0"), workers=1,
                         options=["--api-key-file", keys]) as c, \
            page_browser.opened(browser, f"{c.url}/") as page:
        page.expected += ["401"]
        page.locator("#key-dialog[open]").wait_for()
        assert page_browser.violations(page) == []
        page.fill("#key", "wrong")
        page.keyboard.press("Enter")
        page.locator("#key-wrong").wait_for()
        page.keyboard.press("Escape")
        page.click("#to-cluster")
        page.locator(".notice", has_text="key").wait_for()  # it does not ask again by itself
        assert not page.is_visible("#key-dialog")
        page.click("#to-chat")
        ask(page, "Hello")
        page.fill("#key", "schlüssel-密钥")  # no header can hold it
        page.keyboard.press("Enter")
        page_browser.until(page, "document.getElementById('key').value === '' && "
                                 "document.getElementById('key-dialog').open")
        assert page.is_visible("#key-wrong")
        assert page.evaluate("Object.values({...sessionStorage})") == ["wrong"]
        page.fill("#key", "secret-of-the-page")
        page.keyboard.press("Enter")
        is_done(page)
        assert page.locator(".answer .failure").count() == 0
        assert "secret-of-the-page" not in json.dumps(page.evaluate("({...localStorage})"))
        page.reload()
        page.click("#to-cluster")
        page.locator(".machine").wait_for()
        page.click("#forget-key")
        assert page.evaluate("sessionStorage.length") == 0
        page.evaluate("""() => {
            Storage.prototype.removeItem = () => { throw new Error('there is no storage'); };
            document.getElementById('forget-key').click(); }""")
