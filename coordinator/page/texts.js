/* What the page says, in the reader's language. */
import { english } from "./texts_en.js";
import { chinese } from "./texts_zh.js";

const LANGUAGES = { en: english, "zh-CN": chinese };

export const language = () => (LANGUAGES[document.documentElement.lang] ? document.documentElement.lang
    : "en");

/* t("drain-ask", {name}): the text with {name} filled in. */
export function t(key, values = {}) {
    const text = LANGUAGES[language()][key] ?? english[key] ?? key;
    return text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/* The fixed parts of the document say by data-t (text) and data-t-label (name, tooltip) what they
 * are to be called. */
export function translateDocument(root = document) {
    for (const node of root.querySelectorAll("[data-t]"))
        node.textContent = t(node.dataset.t);
    for (const node of root.querySelectorAll("[data-t-label]")) {
        node.setAttribute("aria-label", t(node.dataset.tLabel));
        if (node.matches("button, a"))
            node.title = t(node.dataset.tLabel);
    }
    for (const node of root.querySelectorAll("[data-t-hint]"))
        node.placeholder = t(node.dataset.tHint);
}

export function number(value, digits = 0) {
    return new Intl.NumberFormat(language(), { maximumFractionDigits: digits,
        minimumFractionDigits: value < 100 ? digits : 0 }).format(value);
}

/* No line ends between a figure and its unit. */
export const withUnit = (figure, unit) => `${figure}\u00a0${unit}`;

const BYTES = ["B", "KiB", "MiB", "GiB", "TiB"];

export function bytes(value) {
    let step = 0;
    while (value >= 1024 && step < BYTES.length - 1) {
        value /= 1024;
        step++;
    }
    return withUnit(number(value, step && value < 100 ? 1 : 0), BYTES[step]);
}

export function duration(us) {
    if (us < 1000)
        return withUnit(number(us), "µs");
    return us < 1e6 ? withUnit(number(us / 1000, us < 1e5 ? 1 : 0), "ms") : withUnit(number(us / 1e6, 1), "s");
}

export const percent = (share) => withUnit(number(100 * share), "%");
