/* Building the document: elements, icons, words for screen readers. Text becomes text nodes only. */

/* props: attributes; class, text and on: {event: listener} are what they are called. null and false
 * leave an attribute out. */
export function el(tag, props = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(props)) {
        if (value === null || value === undefined || value === false)
            continue;
        if (name === "class")
            node.className = value;
        else if (name === "text")
            node.textContent = value;
        else if (name === "on")
            for (const [event, listener] of Object.entries(value))
                node.addEventListener(event, listener);
        else
            node.setAttribute(name, value === true ? "" : value);
    }
    node.append(...children.filter((c) => c !== null && c !== undefined));
    return node;
}

export const $ = (id) => document.getElementById(id);

const PATHS = {
    plus: "M12 5v14M5 12h14",
    menu: "M4 7h16M4 12h16M4 17h16",
    send: "M12 19V5M6 11l6-6 6 6",
    stop: "M7 7h10v10H7z",
    copy: "M9 9h10v11H9zM5 15V4h10",
    check: "M5 13l4.5 4.5L19 7",
    again: "M19 12a7 7 0 1 1-2.2-5.1M19 4v4.5h-4.5",
    edit: "M5 19l1-4L16 5l3 3L9 18zM14 7l3 3",
    trash: "M5 7h14M9.5 7V4.5h5V7M7 7l1 13h8l1-13",
    left: "M14.5 6l-6 6 6 6",
    right: "M9.5 6l6 6-6 6",
    down: "M12 5v14M6 13l6 6 6-6",
    sliders: "M4 8h9M17 8h3M4 16h3M11 16h9M15 5.5v5M9 13.5v5",
    light: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2.5v2M12 19.5v2M2.5 12h2M19.5 12h2M5.3 5.3l1.4 1.4" +
        "M17.3 17.3l1.4 1.4M18.7 5.3l-1.4 1.4M6.7 17.3l-1.4 1.4",
    dark: "M19.5 14.5A8 8 0 0 1 9.5 4.5a8 8 0 1 0 10 10z",
    auto: "M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16zM12 4v16M12 8h6.5M12 12h8M12 16h6.5",
    close: "M6 6l12 12M18 6L6 18",
    save: "M12 4v11M7 11l5 5 5-5M5 20h14",
    play: "M8 5.5v13l10-6.5z",
    pause: "M8.5 6v12M15.5 6v12",
};

const SVG = "http://www.w3.org/2000/svg";

export function icon(name) {
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", "0 0 24 24");
    svg.setAttribute("class", "icon");
    svg.setAttribute("aria-hidden", "true");
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", PATHS[name]);
    svg.append(path);
    return svg;
}

/* A button that shows an icon only; its name is for everybody who hovers or listens. */
export function iconButton(name, label, listener, more = {}) {
    const { class: kind = "", ...rest } = more;
    return el("button", { type: "button", class: `quiet ${kind}`, "aria-label": label, title: label,
        on: { click: listener }, ...rest }, icon(name));
}

export function setIcon(button, name, label) {
    button.replaceChildren(icon(name));
    button.setAttribute("aria-label", label);
    button.title = label;
}

/* Said by screen readers, in turn, without moving the focus. */
export function announce(words) {
    $("spoken").textContent = words;
}

/* Shown for some seconds, and said. */
export function notify(words) {
    const toast = $("toast");
    toast.textContent = words;
    toast.hidden = false;
    clearTimeout(notify.timer);
    notify.timer = setTimeout(() => { toast.hidden = true; }, 5000);
}

/* Browsers keep their clipboard from pages that came without TLS from another machine. */
export async function copyText(text) {
    if (navigator.clipboard && window.isSecureContext) {
        await navigator.clipboard.writeText(text);
        return;
    }
    const area = el("textarea", { class: "unseen", "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
}

/* A button that copies what text() gives. */
export function copyButton(label, doneLabel, text, kind = "") {
    const button = iconButton("copy", label, async () => {
        await copyText(text());
        setIcon(button, "check", doneLabel);
        announce(doneLabel);
        setTimeout(() => setIcon(button, "copy", label), 1500);
    }, { class: kind });
    return button;
}
