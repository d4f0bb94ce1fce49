/* The chat: the conversation that is open, what is being written, and what people do with it. */
import { $, announce, notify } from "./dom.js";
import { generate, history, newVersion } from "./generate.js";
import { HistoryPanel } from "./history.js";
import { AnswerView, emptyView, UserView } from "./message.js";
import { SettingsPanel } from "./settings.js";
import { listChats, loadChat, newChat, saveChat } from "./store.js";
import { t } from "./texts.js";

const SAVE_EVERY_MS = 1500;
const NEAR_END = 60; /* pixels: who is that near follows what is written */

export class Chat {
    constructor() {
        this.runs = new Map(); /* of conversations that are answered: id → {chat, message, controller} */
        this.views = new Map(); /* message → view */
        this.follows = true;
        this.settings = new SettingsPanel((text) => this.setSystem(text));
        this.history = new HistoryPanel({ open: (id) => this.open(id), removed: (id) => this.removed(id),
            begin: () => this.begin() });
        this.listen();
        const last = listChats()[0];
        const chat = last && loadChat(last.id);
        this.use(chat ?? newChat(this.settings.values.system));
    }

    listen() {
        const form = $("composer"), area = $("composer-text"), pane = $("messages");
        form.addEventListener("submit", (event) => {
            event.preventDefault();
            this.send();
        });
        area.addEventListener("input", () => this.grow());
        area.addEventListener("keydown", (event) => this.onKey(event));
        $("stop").addEventListener("click", () => this.stop());
        $("to-end").addEventListener("click", () => this.scrollToEnd());
        pane.addEventListener("scroll", () => {
            this.follows = pane.scrollHeight - pane.scrollTop - pane.clientHeight < NEAR_END;
            $("to-end").hidden = this.follows;
        });
        document.addEventListener("keydown", (event) => {
            if (event.key === "Escape" && !document.querySelector("dialog[open]"))
                this.stop();
        });
        window.addEventListener("pagehide", () => {
            for (const run of this.runs.values())
                saveChat(run.chat);
        });
    }

    onKey(event) {
        const area = event.target;
        /* While an input method is composing, Enter takes its suggestion. */
        if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229) {
            event.preventDefault();
            this.send();
        } else if (event.key === "ArrowUp" && area.value === "" && !this.run) {
            const last = this.chat.messages.findLast((m) => m.role === "user");
            if (last) {
                event.preventDefault();
                this.views.get(last).edit();
            }
        }
    }

    grow() {
        const area = $("composer-text");
        area.style.height = "auto";
        area.style.height = `${Math.min(area.scrollHeight, 260)}px`;
    }

    get run() {
        return this.runs.get(this.chat.id);
    }

    /* ---- which conversation ---- */

    begin() {
        if (this.chat.messages.length)
            this.use(newChat(this.settings.values.system));
        $("composer-text").focus();
    }

    open(id) {
        const chat = this.runs.get(id)?.chat ?? loadChat(id);
        if (chat)
            this.use(chat);
        else
            notify(t("chat-gone"));
        $("composer-text").focus();
    }

    removed(id) {
        this.runs.get(id)?.controller.abort();
        this.runs.delete(id);
        if (id === this.chat.id)
            this.use(newChat(this.settings.values.system));
    }

    use(chat) {
        this.chat = chat;
        /* What a closed tab left half written stays so. */
        for (const m of chat.messages)
            for (const v of m.versions ?? [])
                if (!v.finish && this.run?.version !== v)
                    v.finish = "stopped";
        this.settings.showSystem(chat.system);
        this.show();
    }

    setSystem(text) {
        this.chat.system = text;
        if (this.chat.messages.length)
            this.save();
    }

    save() {
        if (!saveChat(this.chat))
            notify(t("storage-full"));
        this.history.show(this.chat.id);
    }

    /* ---- showing ---- */

    viewOf(message) {
        const index = () => this.chat.messages.indexOf(message);
        if (message.role === "user")
            return new UserView(message, { edit: (text) => this.edit(index(), text) });
        return new AnswerView(message, {
            regenerate: () => this.regenerate(index(), true),
            retry: () => this.regenerate(index(), false),
            show: (shown) => this.showVersion(message, shown) });
    }

    show() {
        this.views = new Map(this.chat.messages.map((m) => [m, this.viewOf(m)]));
        const nodes = [...this.views.values()].map((v) => v.node);
        if (!nodes.length)
            nodes.push(emptyView((text) => this.suggest(text)));
        $("message-list").replaceChildren(...nodes);
        this.history.show(this.chat.id);
        this.showRun();
        this.scrollToEnd();
    }

    showRun() {
        const isRunning = Boolean(this.run);
        $("send").hidden = isRunning;
        $("stop").hidden = !isRunning;
    }

    suggest(text) {
        $("composer-text").value = text;
        this.grow();
        $("composer-text").focus();
    }

    scrollToEnd() {
        const pane = $("messages");
        pane.scrollTop = pane.scrollHeight;
        this.follows = true;
        $("to-end").hidden = true;
    }

    /* ---- asking ---- */

    send() {
        const area = $("composer-text"), content = area.value;
        if (!content.trim() || this.run)
            return;
        area.value = "";
        this.grow();
        this.chat.messages.push({ role: "user", content });
        this.ask();
    }

    edit(index, content) {
        this.stop();
        this.chat.messages.length = index;
        this.chat.messages.push({ role: "user", content });
        this.ask();
        $("composer-text").focus();
    }

    /* Another answer to the question before message index; what followed is no part of it any more. */
    regenerate(index, keep) {
        if (this.run)
            return;
        const message = this.chat.messages[index];
        this.chat.messages.length = index + 1;
        if (keep)
            message.versions.push(newVersion());
        else
            message.versions[message.shown] = newVersion();
        message.shown = keep ? message.versions.length - 1 : message.shown;
        this.show();
        this.answer(message);
    }

    showVersion(message, shown) {
        if (this.run)
            return;
        message.shown = shown;
        this.save();
        this.views.get(message).build();
    }

    ask() {
        const message = { role: "assistant", shown: 0, versions: [newVersion()] };
        this.chat.messages.push(message);
        this.show();
        this.answer(message);
    }

    async answer(message) {
        const chat = this.chat, controller = new AbortController();
        const version = message.versions[message.shown];
        const run = { chat, message, version, controller, savedAt: Date.now() };
        this.runs.set(chat.id, run);
        this.showRun();
        this.save();
        announce(t("writing"));
        const messages = history(chat, chat.messages.indexOf(message));
        await generate(messages, this.settings.values, version, controller.signal, () => this.changed(run));
        if (this.runs.get(chat.id) !== run)
            return; /* it was edited away, or removed */
        this.runs.delete(chat.id);
        this.finished(run);
    }

    /* At most once for each picture that the browser draws. */
    changed(run) {
        run.frame ??= requestAnimationFrame(() => {
            run.frame = null;
            if (this.chat === run.chat)
                this.draw(run.message);
        });
        if (Date.now() - run.savedAt > SAVE_EVERY_MS) {
            run.savedAt = Date.now();
            saveChat(run.chat);
        }
    }

    draw(message) {
        this.views.get(message)?.update();
        if (this.follows)
            this.scrollToEnd();
    }

    finished(run) {
        if (!saveChat(run.chat))
            notify(t("storage-full"));
        this.history.show(this.chat.id);
        this.showRun();
        if (this.chat === run.chat)
            this.draw(run.message);
        if (run.version.finish !== "failed")
            announce(t(run.version.finish === "stopped" ? "stopped" : "written"));
    }

    stop() {
        const run = this.run;
        if (!run)
            return;
        run.controller.abort();
        if (document.activeElement === $("stop"))
            $("composer-text").focus();
    }
}
