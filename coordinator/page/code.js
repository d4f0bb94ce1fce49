/* A block of code: its language, a button to copy it, and colours from a few rules that fit most
 * languages. */
import { copyButton, el } from "./dom.js";
import { t } from "./texts.js";

const WORDS = new Set(("abstract and as assert async await bool boolean break byte case catch char class " +
    "const continue crate def default defer del do double elif else end enum except export extends " +
    "extern false final finally float fn for from func function global go if impl implements import " +
    "in inline instanceof int interface is lambda let local long loop match mod module mut namespace " +
    "new nil none None nonlocal not null NULL nullptr of or package pass private protected pub public " +
    "raise ref return self short signed sizeof static string struct super switch template then this " +
    "throw throws trait true True False try type typedef typeof undefined union unsafe unsigned use " +
    "using var virtual void volatile when where while with yield " +
    "select insert update delete create table into values set join left inner on group order by limit " +
    "SELECT INSERT UPDATE DELETE CREATE TABLE INTO VALUES SET FROM WHERE JOIN LEFT INNER ON GROUP ORDER " +
    "BY LIMIT AND OR NOT AS NULL fi done echo esac").split(" "));

const STRING = /"(?:[^"\\\n]|\\.)*"?|'(?:[^'\\\n]|\\.)*'?/.source;
const NUMBER = /\b(?:0[xXbBoO][\da-fA-F_]+|\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?)\b/.source;
const NAME = /[A-Za-z_$][\w$]*/.source;
const SLASHES = /\/\/[^\n]*|\/\*[^]*?(?:\*\/|$)/.source;
const HASH = /(?<![\w$&"'])#[^\n]*/.source;
const DASHES = /--[^\n]*/.source;
const TRIPLE = /"""[^]*?(?:"""|$)|'''[^]*?(?:'''|$)/.source;
const TEMPLATE = /`(?:[^`\\]|\\.)*`?/.source;

const HASHED = /^(py|python|sh|bash|zsh|shell|console|rb|ruby|yaml|yml|toml|ini|cfg|conf|r|perl|make|makefile|cmake|docker|dockerfile|nginx)$/;
const DASHED = /^(sql|lua|haskell|hs|ada|elm)$/;
const PLAIN = /^(|text|txt|plain|plaintext|markdown|md|output|diff|patch|log|csv)$/;
const TAGGED = /^(html|xml|svg|vue|xhtml)$/;
const LONGEST = 100000; /* characters that are coloured */

function rulesFor(language) {
    const comment = HASHED.test(language) ? HASH : DASHED.test(language) ? DASHES : SLASHES;
    return new RegExp(`(?<comment>${comment})|(?<string>${TRIPLE}|${TEMPLATE}|${STRING})|` +
        `(?<number>${NUMBER})|(?<name>${NAME})`, "g");
}

const TAGS = /(?<comment><!--[^]*?(?:-->|$))|(?<string>"[^"\n]*"|'[^'\n]*')|(?<word><\/?[\w:-]+|\/?>)/g;

function kindOf(groups, behind) {
    if (groups.comment !== undefined)
        return "comment";
    if (groups.string !== undefined)
        return "string";
    if (groups.number !== undefined)
        return "number";
    if (groups.word !== undefined || WORDS.has(groups.name))
        return "word";
    return behind === "(" ? "call" : null;
}

function coloured(text, language) {
    if (PLAIN.test(language) || text.length > LONGEST)
        return [text];
    const nodes = [];
    let at = 0;
    for (const m of text.matchAll(TAGGED.test(language) ? TAGS : rulesFor(language))) {
        const end = m.index + m[0].length, kind = kindOf(m.groups, text[end]);
        if (!kind)
            continue;
        nodes.push(text.slice(at, m.index), el("span", { class: `code-${kind}`, text: m[0] }));
        at = end;
    }
    nodes.push(text.slice(at));
    return nodes;
}

export function codeBlock(text, language) {
    const name = language.toLowerCase().replace(/[{}.]/g, "");
    const label = t("code-label", { language: name });
    return el("figure", { class: "code" },
        el("figcaption", {}, el("span", { text: name }),
            copyButton(t("copy-code"), t("copied"), () => text)),
        el("pre", { tabindex: "0", role: "region", "aria-label": label },
            el("code", {}, ...coloured(text, name))));
}
