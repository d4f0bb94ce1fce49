/* Markdown inside a paragraph: text → nodes. Whatever is not Markdown stays text, HTML included. */
import { el } from "./dom.js";

const ESCAPED = /^\\([!-/:-@[-`{-~])/;
const CODE = /^(`+)(?!`)([^]*?[^`])\1(?!`)/;
const MATH = /^\\\(([^]+?)\\\)/;
const AUTOLINK = /^<((?:https?:\/\/|mailto:)[^\s<>]+)>/i;
const BARE = /^https?:\/\/[^\s<>"'`、，。！？；：）】》」』]+/i;
const LINK = /^!?\[((?:[^[\]\\]|\\.|\[[^[\]]*\])*)\]\(\s{0,9}(?:<([^<>\n]*)>|((?:[^\s()\\]|\\.|\([^\s()]*\))*))(?:\s{1,9}(?:"[^"]*"|'[^']*'))?\s{0,9}\)/;
const BREAK = /^(?: {2,}|\\)\n[ \t]*|^<br\s*\/?>/i;
const ENTITY = /^&(amp|lt|gt|quot|nbsp|#39);/;
const ENTITIES = { amp: "&", lt: "<", gt: ">", quot: '"', nbsp: "\u00a0", "#39": "'" };
/* What may begin something; all between is plain. */
const PLAIN = /^[^\\`*_~<![&\nhH ]+|^ +(?![ \n])/;
const MARKS = [["***", "strong", "em"], ["**", "strong"], ["__", "strong"], ["~~", "del"], ["*", "em"],
    ["_", "em"]];
const DEEPEST = 12;
/* Characters that may be looked at in search of ends, so that no text takes long. */
const PATIENCE = 300000;
const LINK_LONGEST = 4096;

/* Where a link may lead; null: nowhere, for its scheme might run something. */
export function safeAddress(address) {
    try {
        const url = new URL(address);
        return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : null;
    } catch {
        return null; /* relative: to this server, which the model knows nothing of */
    }
}

function link(address, children) {
    const href = safeAddress(address.replace(/\\([!-/:-@[-`{-~])/g, "$1"));
    return href ? el("a", { href, target: "_blank", rel: "noopener noreferrer nofollow" }, ...children)
        : el("span", {}, ...children);
}

const isWord = (c) => c !== undefined && /[\p{L}\p{N}]/u.test(c);
const isBlank = (c) => c === undefined || /\s/.test(c);

/* What has the form and begins with the mark at text[at], or null. */
function spanAt(text, at, mark, form, work) {
    if (!text.startsWith(mark, at) || work.left <= 0)
        return null;
    const m = form.exec(text.slice(at));
    work.left -= m ? m[0].length : text.length - at;
    return m;
}

const codeAt = (text, at, work) => spanAt(text, at, "`", CODE, work);

/* A link at text[at], or null. Brackets that begin none are common, and cost little. */
function linkAt(text, at, work) {
    if (work.left <= 0)
        return null;
    const m = LINK.exec(text.slice(at, at + LINK_LONGEST));
    work.left -= m ? m[0].length : 1;
    return m;
}

/* The index of the mark that closes the one before text[from], or -1. */
function closing(text, from, mark, work) {
    for (let at = from; at < text.length && work.left-- > 0; at++) {
        if (text[at] === "\\") {
            at++;
            continue;
        }
        const code = codeAt(text, at, work);
        if (code) {
            at += code[0].length - 1;
            continue;
        }
        if (!text.startsWith(mark, at))
            continue;
        let run = at;
        while (text[run] === mark[0])
            run++;
        work.left -= run - at;
        const fits = mark.length === 1 ? run - at !== 2 : run - at >= mark.length;
        if (at > from && fits && !isBlank(text[at - 1]) && !(mark[0] === "_" && isWord(text[run])))
            return run - mark.length;
        at = run - 1;
    }
    return -1;
}

/* {node, length} of an emphasis that begins at text[at], or null. */
function emphasis(text, at, depth, work) {
    for (const [mark, tag, inner] of MARKS) {
        if (!text.startsWith(mark, at) || isBlank(text[at + mark.length]))
            continue;
        if (mark[0] === "_" && isWord(text[at - 1]))
            continue;
        const end = closing(text, at + mark.length, mark, work);
        if (end < 0)
            continue;
        const children = inlineNodes(text.slice(at + mark.length, end), depth + 1, work);
        const node = inner ? el(tag, {}, el(inner, {}, ...children)) : el(tag, {}, ...children);
        return { node, length: end + mark.length - at };
    }
    return null;
}

function codeText(inside) {
    const text = inside.replace(/\n/g, " ");
    return text.startsWith(" ") && text.endsWith(" ") && text.trim() ? text.slice(1, -1) : text;
}

function bareLink(found) {
    let end = found.length;
    while (".,:;!?*_~)]".includes(found[end - 1]))
        end--;
    /* a bracket that the address itself has opened is part of it */
    const address = found.slice(0, found[end] === ")" && found.includes("(") ? end + 1 : end);
    return { node: link(address, [address]), length: address.length };
}

/* What begins at text[at]: {node, length}, or null for a plain character. */
function special(text, at, depth, work) {
    const rest = text.slice(at);
    let m;
    if ((m = BREAK.exec(rest)))
        return { node: el("br"), length: m[0].length };
    if ((m = spanAt(text, at, "\\(", MATH, work)))
        return { node: el("code", { class: "math", text: m[1].trim() }), length: m[0].length };
    if ((m = ESCAPED.exec(rest)))
        return { node: m[1], length: 2 };
    if ((m = codeAt(text, at, work)))
        return { node: el("code", { text: codeText(m[2]) }), length: m[0].length };
    if ((m = AUTOLINK.exec(rest)))
        return { node: link(m[1], [m[1]]), length: m[0].length };
    if ((m = linkAt(text, at, work)))
        return { node: link(m[2] ?? m[3], inlineNodes(m[1] || (m[2] ?? m[3]), depth + 1, work)),
            length: m[0].length };
    if ((m = ENTITY.exec(rest)))
        return { node: ENTITIES[m[1]], length: m[0].length };
    if (!isWord(text[at - 1]) && (m = BARE.exec(rest)))
        return bareLink(m[0]);
    return "*_~".includes(rest[0]) ? emphasis(text, at, depth, work) : null;
}

/* text → [node or string]. */
export function inlineNodes(text, depth = 0, work = { left: PATIENCE }) {
    if (depth > DEEPEST)
        return [text];
    const nodes = [];
    let plain = "";
    for (let at = 0; at < text.length;) {
        const run = PLAIN.exec(text.slice(at, at + 4096));
        if (run) {
            plain += run[0];
            at += run[0].length;
            continue;
        }
        const found = special(text, at, depth, work);
        if (!found) {
            plain += text[at++];
            continue;
        }
        if (typeof found.node === "string") {
            plain += found.node;
        } else {
            nodes.push(plain, found.node);
            plain = "";
        }
        at += found.length;
    }
    nodes.push(plain);
    return nodes.filter((n) => n !== "");
}
