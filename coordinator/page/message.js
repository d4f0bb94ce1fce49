/* One message on the screen, and how it changes while it is written. */
import { copyButton, el, icon, iconButton } from "./dom.js";
import { MarkdownView } from "./markdown.js";
import { number, t } from "./texts.js";

/* actions: {edit(text), regenerate(), show(index), retry()} */

function userEditor(message, actions, restore) {
    const area = el("textarea", { "aria-label": t("edit-message"), rows: "3" });
    area.value = message.content;
    const form = el("form", { class: "editor", on: {
        submit: (event) => {
            event.preventDefault();
            if (area.value.trim())
                actions.edit(area.value);
        },
        keydown: (event) => {
            if (event.key === "Escape")
                restore();
            else if (event.key === "Enter" && !event.shiftKey && !event.isComposing)
                form.requestSubmit();
            else
                return;
            event.preventDefault();
            event.stopPropagation();
        } } },
    area,
    el("div", { class: "row" },
        el("button", { type: "button", text: t("cancel"), on: { click: restore } }),
        el("button", { class: "primary", text: t("edit-send") })));
    queueMicrotask(() => area.focus());
    return form;
}

export class UserView {
    constructor(message, actions) {
        this.message = message;
        this.actions = actions;
        this.node = el("article", { class: "message user", "aria-label": t("you") });
        this.show();
    }

    show() {
        const edit = iconButton("edit", t("edit-message"), () => this.edit(), { class: "edit" });
        this.node.replaceChildren(
            el("div", { class: "said", text: this.message.content }),
            el("div", { class: "tools" }, edit,
                copyButton(t("copy-message"), t("copied"), () => this.message.content)));
    }

    edit() {
        this.node.replaceChildren(userEditor(this.message, this.actions, () => {
            this.show();
            this.node.querySelector(".edit").focus();
        }));
    }
}

function seconds(from, to) {
    return number(Math.max(to - from, 0) / 1000, 1);
}

/* "120 tokens · 24.1 tokens/s · first after 0.4 s" */
function figures(v) {
    const parts = [];
    if (v.finish === "length")
        parts.push(t("cut-short"));
    else if (v.finish === "stopped")
        parts.push(t("stopped"));
    if (v.tokens)
        parts.push(t("n-tokens", { n: number(v.tokens) }));
    if (v.tokens > 1 && v.first && v.ended > v.first)
        parts.push(t("n-per-second", { n: number(1000 * (v.tokens - 1) / (v.ended - v.first), 1) }));
    if (v.first)
        parts.push(t("first-after", { s: seconds(v.started, v.first) }));
    return parts.join(" · ");
}

export class AnswerView {
    constructor(message, actions) {
        this.message = message;
        this.actions = actions;
        this.node = el("article", { class: "message answer", "aria-label": t("model") });
        this.build();
    }

    get version() {
        return this.message.versions[this.message.shown];
    }

    build() {
        this.summary = el("summary");
        this.thoughts = el("div", { class: "prose" });
        this.thinking = el("details", { class: "thinking", hidden: true }, this.summary, this.thoughts);
        this.body = el("div", { class: "prose" });
        this.foot = el("footer");
        this.bodyView = new MarkdownView(this.body);
        this.thoughtsView = new MarkdownView(this.thoughts);
        this.node.replaceChildren(this.thinking, this.body, this.foot);
        this.update();
    }

    update() {
        const v = this.version;
        this.node.classList.toggle("writing", !v.finish);
        this.node.setAttribute("aria-busy", String(!v.finish));
        this.thinking.hidden = !v.reasoning;
        if (v.reasoning) {
            const isOver = v.content || v.finish;
            this.summary.textContent = isOver
                ? t("thought", { s: seconds(v.first ?? v.started, v.answered ?? v.ended) }) : t("thinking");
            this.thinking.classList.toggle("live", !isOver);
            this.thoughtsView.update(v.reasoning);
        }
        this.bodyView.update(v.content);
        if (v.finish)
            this.showFoot(v);
        else
            this.foot.replaceChildren();
    }

    showFoot(v) {
        const parts = [];
        if (v.error)
            parts.push(el("p", { class: "failure", role: "alert" }, v.error, " ",
                el("button", { type: "button", text: t("retry"),
                    on: { click: () => this.actions.retry() } })));
        parts.push(el("div", { class: "tools" },
            copyButton(t("copy-answer"), t("copied"), () => v.content),
            iconButton("again", t("regenerate"), () => this.actions.regenerate(), { class: "again" }),
            ...this.chooser(), el("span", { class: "figures", text: figures(v) })));
        this.foot.replaceChildren(...parts);
    }

    /* ‹ 2/3 › between the answers to one question. */
    chooser() {
        const n = this.message.versions.length, shown = this.message.shown;
        if (n < 2)
            return [];
        const step = (name, label, to) => iconButton(name, label, () => this.actions.show(to),
            { disabled: to < 0 || to >= n });
        return [step("left", t("earlier-answer"), shown - 1),
            el("span", { class: "count", text: `${shown + 1}/${n}` }),
            step("right", t("later-answer"), shown + 1)];
    }
}

export function emptyView(pick) {
    const ideas = ["idea-1", "idea-2", "idea-3"].map((key) => el("button",
        { type: "button", class: "idea", on: { click: () => pick(t(key)) } }, t(key), icon("right")));
    return el("div", { class: "welcome" }, el("h2", { text: t("welcome") }),
        el("p", { text: t("welcome-more") }), el("div", { class: "ideas" }, ...ideas));
}
