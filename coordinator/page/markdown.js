/* Markdown → nodes, as models write it: headings, lists, quotes, tables, code. Lines are grouped into
 * blocks; a block is built by DOM calls alone, so nothing that a model writes is ever markup.
 *
 * While an answer streams only its last blocks can still change: MarkdownView keeps the others. */
import { codeBlock } from "./code.js";
import { el } from "./dom.js";
import { inlineNodes } from "./inline.js";

/* Each reads a line in a time that grows with its length alone. */
const FENCE = /^( {0,3})(`{3,}|~{3,})(.*)$/s;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t](.*))?$/s;
const RULE = /^ {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])(?:([ \t]+)(.*)|[ \t]*$)/;
const TABLE_RULE = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*(?:\|[ \t]*)?$/;
const MATH_BEGIN = /^ {0,3}(\$\$|\\\[)/;
const DEEPEST = 16;
/* Lines of a formula, so that marks which nothing closes do not take long. */
const MATH_LINES = 200;

const isBlank = (line) => line.trim() === "";
const indentOf = (line) => /^[ \t]*/.exec(line)[0].replace(/\t/g, "    ").length;

function outdent(line, columns) {
    let at = 0;
    while (at < line.length && at < columns && line[at] === " ")
        at++;
    return line[at] === "\t" && at < columns ? line.slice(at + 1) : line.slice(at);
}

/* ---- blocks: each reads lines from `at` and gives {node, next}, or null ---- */

function fenceOf(line) {
    const m = FENCE.exec(line);
    return m && !m[3].includes("`") ? m : null;
}

function fence(lines, at) {
    const m = fenceOf(lines[at]);
    if (!m)
        return null;
    const ends = (line) => {
        const mark = FENCE.exec(line);
        return mark !== null && mark[2].startsWith(m[2]) && isBlank(mark[3]);
    };
    let next = at + 1;
    while (next < lines.length && !ends(lines[next]))
        next++;
    const text = lines.slice(at + 1, next).map((line) => outdent(line, m[1].length)).join("\n");
    return { node: codeBlock(text, /^\s*(\S*)/.exec(m[3])[1]), next: next + 1 };
}

function math(lines, at) {
    const m = MATH_BEGIN.exec(lines[at]);
    if (!m)
        return null;
    const close = m[1] === "$$" ? "$$" : "\\]";
    const inside = [];
    let line = lines[at].slice(m[0].length), next = at + 1, end;
    while ((end = line.indexOf(close)) < 0 && next < lines.length) {
        if (inside.push(line) === MATH_LINES)
            return null;
        line = lines[next++];
    }
    if (end >= 0 && !isBlank(line.slice(end + close.length)))
        return null;
    inside.push(end < 0 ? line : line.slice(0, end));
    return { node: el("pre", { class: "math", tabindex: "0" },
        el("code", { text: inside.join("\n").trim() })), next };
}

/* A heading's text without the marks that may close it. */
function headingText(line) {
    const text = line.trim();
    let end = text.length;
    while (text[end - 1] === "#")
        end--;
    return end === 0 || isBlank(text[end - 1]) ? text.slice(0, end).trim() : text;
}

function heading(lines, at) {
    const m = HEADING.exec(lines[at]);
    if (!m)
        return null;
    /* Below the page's own headings. */
    const level = Math.min(m[1].length + 2, 6);
    return { node: el(`h${level}`, {}, ...inlineNodes(headingText(m[2] ?? ""))), next: at + 1 };
}

function rule(lines, at) {
    return RULE.test(lines[at]) ? { node: el("hr"), next: at + 1 } : null;
}

function quote(lines, at, depth) {
    if (!QUOTE.test(lines[at]))
        return null;
    const inside = [];
    let next = at;
    while (next < lines.length && (QUOTE.test(lines[next]) ||
        (!isBlank(lines[next]) && !isBlank(inside.at(-1)) && !beginsBlock(lines, next))))
        inside.push(lines[next++].replace(QUOTE, ""));
    return { node: el("blockquote", {}, ...blockNodes(inside, depth + 1)), next };
}

function cellsOf(line) {
    const cells = [];
    let cell = "";
    const text = line.trim().replace(/^\|/, "");
    for (let i = 0, inCode = false; i < text.length; i++) {
        if (text[i] === "`")
            inCode = !inCode;
        if (text[i] === "\\" && text[i + 1] === "|") {
            cell += "|";
            i++;
        } else if (text[i] === "|" && !inCode) {
            cells.push(cell.trim());
            cell = "";
        } else {
            cell += text[i];
        }
    }
    if (cell.trim())
        cells.push(cell.trim());
    return cells;
}

function alignments(line) {
    return cellsOf(line).map((c) => (c.endsWith(":") ? (c.startsWith(":") ? "center" : "right") : null));
}

function beginsTable(lines, at) {
    return lines[at].includes("|") && at + 1 < lines.length && TABLE_RULE.test(lines[at + 1]) &&
        cellsOf(lines[at]).length === cellsOf(lines[at + 1]).length;
}

function table(lines, at) {
    if (!beginsTable(lines, at))
        return null;
    const names = cellsOf(lines[at]), align = alignments(lines[at + 1]);
    const row = (cells, tag) => el("tr", {}, ...names.map((_, i) =>
        el(tag, { class: align[i], scope: tag === "th" ? "col" : null }, ...inlineNodes(cells[i] ?? ""))));
    const body = [];
    let next = at + 2;
    while (next < lines.length && lines[next].includes("|") && !isBlank(lines[next]))
        body.push(row(cellsOf(lines[next++]), "td"));
    const whole = el("table", {}, el("thead", {}, row(names, "th")), el("tbody", {}, ...body));
    return { node: el("div", { class: "table", tabindex: "0", role: "group" }, whole), next };
}

/* Lines of the item that begins at `at`: what is indented under it, and lines that just go on. */
function itemLines(lines, at, m) {
    const columns = m[1].length + m[2].length + Math.min((m[3] ?? " ").replace(/\t/g, "    ").length, 4);
    const inside = [m[4] ?? ""];
    let next = at + 1, sawBlank = false;
    for (; next < lines.length; next++) {
        const line = lines[next];
        if (isBlank(line)) {
            inside.push("");
            sawBlank = true;
        } else if (indentOf(line) >= Math.min(columns, m[1].length + 2)) {
            inside.push(outdent(line, columns));
        } else if (sawBlank || beginsBlock(lines, next)) {
            break;
        } else {
            inside.push(line);
        }
    }
    while (inside.length > 1 && isBlank(inside.at(-1)))
        inside.pop();
    return { inside, next };
}

const sameList = (a, b) => (/\d/.test(a) && /\d/.test(b) ? a.at(-1) === b.at(-1) : a === b);

function listItem(inside, isLoose, depth) {
    const task = /^\[([ xX])\][ \t]+/.exec(inside[0]);
    if (task)
        inside[0] = inside[0].slice(task[0].length);
    const nodes = blockNodes(inside, depth + 1);
    /* A tight item's paragraphs are mere text. */
    const content = isLoose ? nodes : nodes.flatMap((n) => (n.tagName === "P" ? [...n.childNodes] : [n]));
    const box = task ? [task[1] === " " ? "☐ " : "☑ "] : [];
    return el("li", { class: task ? "task" : null }, ...box, ...content);
}

function list(lines, at, depth) {
    const first = ITEM.exec(lines[at]);
    if (!first || RULE.test(lines[at]))
        return null;
    const items = [];
    let next = at, isLoose = false;
    for (;;) {
        const m = next < lines.length ? ITEM.exec(lines[next]) : null;
        if (!m || !sameList(first[2], m[2]) || RULE.test(lines[next]))
            break;
        isLoose ||= items.length > 0 && isBlank(lines[next - 1]);
        const item = itemLines(lines, next, m);
        items.push(item.inside);
        next = item.next;
    }
    const isOrdered = /\d/.test(first[2]);
    const start = isOrdered ? parseInt(first[2], 10) : 1;
    const node = el(isOrdered ? "ol" : "ul", { start: start === 1 ? null : start },
        ...items.map((inside) => listItem(inside, isLoose, depth)));
    return { node, next };
}

const BLOCKS = [fence, math, heading, rule, quote, table, list];

/* Whether a line ends the paragraph before it. A number other than 1 may be a year. */
function beginsBlock(lines, at) {
    const line = lines[at], m = ITEM.exec(line);
    return fenceOf(line) !== null || MATH_BEGIN.test(line) || HEADING.test(line) || RULE.test(line) ||
        QUOTE.test(line) || (m !== null && m[4] !== undefined && m[4] !== "");
}

function paragraph(lines, at) {
    let next = at + 1;
    while (next < lines.length && !isBlank(lines[next]) && !beginsBlock(lines, next) &&
        !beginsTable(lines, next))
        next++;
    const text = lines.slice(at, next).map((line, i, all) =>
        (i < all.length - 1 ? line.trimStart() : line.trim())).join("\n");
    return { node: el("p", {}, ...inlineNodes(text)), next };
}

/* [{node, first}]: the blocks of these lines, and the line where each begins. */
function blocksOf(lines, depth) {
    const blocks = [];
    for (let at = 0; at < lines.length;) {
        if (isBlank(lines[at])) {
            at++;
            continue;
        }
        let found = null;
        for (let i = 0; !found && i < BLOCKS.length && depth < DEEPEST; i++)
            found = BLOCKS[i](lines, at, depth);
        found ??= paragraph(lines, at);
        blocks.push({ node: found.node, first: at });
        at = found.next;
    }
    return blocks;
}

const blockNodes = (lines, depth) => blocksOf(lines, depth).map((b) => b.node);

const linesOf = (text) => text.replace(/\r\n?/g, "\n").split("\n");

export function markdown(text) {
    const fragment = document.createDocumentFragment();
    fragment.append(...blockNodes(linesOf(text), 0));
    return fragment;
}

/* A container whose text only grows. */
export class MarkdownView {
    constructor(container) {
        this.container = container;
        this.text = "";
        this.done = 0; /* characters whose blocks are final */
        this.tail = []; /* nodes of the others */
    }

    update(text) {
        if (!text.startsWith(this.text)) {
            this.container.replaceChildren();
            this.done = 0;
            this.tail = [];
        } else if (text.length === this.text.length) {
            return;
        }
        this.text = text;
        for (const node of this.tail)
            node.remove();
        const lines = text.slice(this.done).replace(/\r/g, " ").split("\n");
        const blocks = blocksOf(lines, 0);
        this.container.append(...blocks.map((b) => b.node));
        /* A line without its end may yet turn out to belong to the block before it. */
        const isOpen = blocks.at(-1)?.first === lines.length - 1;
        const tail = blocks.slice(isOpen ? -2 : -1);
        this.tail = tail.map((b) => b.node);
        if (tail.length)
            this.done += lines.slice(0, tail[0].first).reduce((sum, line) => sum + line.length + 1, 0);
    }
}
