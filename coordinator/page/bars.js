/* Small pictures of one figure: a bar, a range of layers, a line of the last values. */
import { el } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";

/* A share of 1, named for who cannot see it. */
export class Bar {
    constructor(label, kind = "") {
        this.fill = el("span", { class: "fill" });
        this.node = el("div", { class: `bar ${kind}`, role: "meter", "aria-label": label,
            "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": "0" }, this.fill);
    }

    set(share, words) {
        const part = Math.max(0, Math.min(1, share || 0));
        this.fill.style.width = `${100 * part}%`;
        this.node.setAttribute("aria-valuenow", String(Math.round(100 * part)));
        this.node.setAttribute("aria-valuetext", words);
    }
}

/* Where layers [first, end) are among n. */
export class Range {
    constructor() {
        this.fill = el("span", { class: "fill" });
        this.node = el("div", { class: "bar layers", "aria-hidden": "true" }, this.fill);
    }

    set(first, end, n) {
        this.fill.style.marginInlineStart = `${100 * first / n}%`;
        this.fill.style.width = `${100 * (end - first) / n}%`;
    }
}

/* The last values as a line; the words beside it say the newest. */
export class Spark {
    constructor() {
        this.line = document.createElementNS(SVG, "polyline");
        this.node = document.createElementNS(SVG, "svg");
        this.node.setAttribute("class", "spark");
        this.node.setAttribute("viewBox", "0 0 100 24");
        this.node.setAttribute("preserveAspectRatio", "none");
        this.node.setAttribute("aria-hidden", "true");
        this.node.append(this.line);
    }

    set(values) {
        const most = Math.max(...values, 1e-9), n = Math.max(values.length - 1, 1);
        this.line.setAttribute("points", values.map((v, i) =>
            `${(100 * i / n).toFixed(1)},${(22.5 - 21 * v / most).toFixed(1)}`).join(" "));
    }
}
