/* What the browser keeps: conversations, one entry each, and a list of them; settings; looks.
 *
 * A conversation: {id, title, created, updated, system, messages}. A message of the user:
 * {role, content}; of the model: {role, shown, versions: [{content, reasoning, …}]}. */

const INDEX = "paceline.chats";
const CHAT = "paceline.chat.";
const SETTINGS = "paceline.settings";
const LOOKS = "paceline.looks";

function read(key, otherwise) {
    try {
        return JSON.parse(localStorage.getItem(key)) ?? otherwise;
    } catch {
        return otherwise;
    }
}

/* false: the browser's space is used up, or it keeps nothing. */
function write(key, value) {
    try {
        localStorage.setItem(key, JSON.stringify(value));
        return true;
    } catch {
        return false;
    }
}

/* crypto.randomUUID() is not there without TLS. */
function newId() {
    const words = crypto.getRandomValues(new Uint32Array(3));
    return Array.from(words, (w) => w.toString(36)).join("");
}

export function newChat(system) {
    return { id: newId(), title: "", created: Date.now(), updated: Date.now(), system, messages: [] };
}

/* The newest first: [{id, title, updated}]. */
export function listChats() {
    const list = read(INDEX, []);
    return Array.isArray(list) ? list.sort((a, b) => b.updated - a.updated) : [];
}

/* null: there is none, or it was written by something else. */
export function loadChat(id) {
    const chat = read(CHAT + id, null);
    return chat && Array.isArray(chat.messages) ? chat : null;
}

function titleOf(chat) {
    const first = chat.messages.find((m) => m.role === "user");
    const line = (first?.content ?? "").trim().split("\n")[0];
    const letters = Array.from(line);
    return letters.length > 60 ? `${letters.slice(0, 59).join("")}…` : line;
}

export function saveChat(chat) {
    chat.title = titleOf(chat);
    const others = listChats().filter((c) => c.id !== chat.id);
    return write(CHAT + chat.id, chat) &&
        write(INDEX, [{ id: chat.id, title: chat.title, updated: chat.updated }, ...others]);
}

export function removeChat(id) {
    localStorage.removeItem(CHAT + id);
    write(INDEX, listChats().filter((c) => c.id !== id));
}

/* Called when another tab has changed the list. */
export function whenChatsChange(listener) {
    window.addEventListener("storage", (event) => {
        if (event.key === INDEX || event.key === null)
            listener();
    });
}

export const loadSettings = () => ({ system: "", ...read(SETTINGS, {}) });
export const saveSettings = (settings) => write(SETTINGS, settings);
export const loadLooks = () => read(LOOKS, {});
export const saveLooks = (looks) => write(LOOKS, looks);
