/* The list of conversations, and its place beside the chat or, on small screens, over it. */
import { $, announce, el, iconButton } from "./dom.js";
import { listChats, loadChat, removeChat, whenChatsChange } from "./store.js";
import { t } from "./texts.js";

/* actions: {open(id), removed(id), begin()} */
export class HistoryPanel {
    constructor(actions) {
        this.actions = actions;
        this.current = null;
        $("new-chat").addEventListener("click", () => {
            this.fold();
            actions.begin();
        });
        $("history-open").addEventListener("click", () => this.toggle());
        $("history-shade").addEventListener("click", () => this.fold());
        $("history").addEventListener("keydown", (event) => {
            if (event.key === "Escape") {
                this.fold();
                $("history-open").focus();
            }
        });
        whenChatsChange(() => this.show(this.current));
    }

    toggle() {
        const isOpen = $("history").classList.toggle("open");
        $("history-open").setAttribute("aria-expanded", String(isOpen));
        $("history-shade").hidden = !isOpen;
        if (isOpen)
            $("new-chat").focus();
    }

    fold() {
        if ($("history").classList.contains("open"))
            this.toggle();
    }

    entry(chat) {
        const title = chat.title || t("untitled");
        const open = el("button", { type: "button", class: "entry", text: title, title,
            "aria-current": chat.id === this.current ? "true" : null,
            on: { click: () => {
                this.fold();
                this.actions.open(chat.id);
            } } });
        const remove = iconButton("trash", t("remove-chat", { title }), () => this.remove(chat.id, title));
        const save = iconButton("save", t("save-chat", { title }), () => download(chat.id));
        return el("li", {}, open, el("div", { class: "tools" }, save, remove));
    }

    show(current) {
        this.current = current;
        const chats = listChats();
        $("history-list").replaceChildren(...chats.map((c) => this.entry(c)));
        $("history-none").hidden = chats.length > 0;
    }

    remove(id, title) {
        if (!window.confirm(t("remove-ask", { title })))
            return;
        removeChat(id);
        this.actions.removed(id);
        this.show(this.current);
        announce(t("removed"));
        $("new-chat").focus();
    }
}

/* The conversation as a file of Markdown. */
function download(id) {
    const chat = loadChat(id);
    if (!chat)
        return;
    const parts = chat.system ? [`## ${t("system-prompt")}\n\n${chat.system}`] : [];
    for (const m of chat.messages)
        parts.push(m.role === "user" ? `## ${t("you")}\n\n${m.content}`
            : `## ${m.versions[m.shown].model ?? t("model")}\n\n${m.versions[m.shown].content}`);
    const blob = new Blob([`# ${chat.title}\n\n${parts.join("\n\n")}\n`], { type: "text/markdown" });
    const address = URL.createObjectURL(blob);
    const name = chat.title.replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 40) || "chat";
    el("a", { href: address, download: `${name}.md` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
}
