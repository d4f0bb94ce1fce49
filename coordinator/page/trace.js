/* The last steps as a picture: a lane for each stage, a block for each computation, time from left to
 * right. What the picture shows a table says as well. */
import { el } from "./dom.js";
import { duration, number, percent, t } from "./texts.js";
import { getJson } from "./api.js";

const MOST_STEPS = 4096;
const WINDOWS_MS = [50, 200, 1000, 5000, 20000];
const LANE = 26, GAP = 6, AXIS = 22, WIDEST_LABEL = 110;

/* The steps that came back, asked for again and again. */
export class TraceFeed {
    constructor() {
        this.steps = [];
        this.stages = [];
        this.after = null;
    }

    async read() {
        for (let more = true; more;) {
            const query = this.after === null ? "" : `?after=${this.after}`;
            const answer = await getJson(`cluster/trace${query}`, { background: true });
            /* The first answer only says where the recording stands: look back a little. */
            const isFirst = this.after === null;
            this.after = isFirst ? Math.max(answer.next - 512, 0) : answer.next;
            more = isFirst || answer.more;
            this.stages = answer.stages;
            this.steps.push(...answer.steps);
        }
        if (this.steps.length > MOST_STEPS)
            this.steps = this.steps.slice(-MOST_STEPS);
    }

    /* µs that the stage computed in each of the newest steps. */
    computed(stage) {
        return this.steps.slice(-64).map((s) => s.stages[stage]?.[1]).filter((us) => us !== undefined);
    }
}

function tickOf(windowUs, width) {
    const least = windowUs / Math.max(width / 90, 1);
    for (let unit = 1; ; unit *= 10)
        for (const step of [1, 2, 5])
            if (step * unit >= least)
                return step * unit;
}

/* What the style's variables are here, in the theme of now. */
function coloursOf(node) {
    const colours = {};
    for (const name of ["accent", "warm", "line", "muted", "sunken", "text"]) {
        node.style.color = `var(--${name})`;
        colours[name] = getComputedStyle(node).color;
    }
    return colours;
}

export class TracePicture {
    constructor(feed) {
        this.feed = feed;
        this.windowUs = 1e6;
        this.isPaused = false;
        this.selected = null;
        this.canvas = el("canvas", { class: "trace", tabindex: "0", role: "img",
            "aria-label": t("trace-label"), "aria-describedby": "trace-said" });
        this.said = el("p", { id: "trace-said", class: "muted", "aria-live": "polite", text: t("trace-hint") });
        this.body = el("tbody");
        this.pauseButton = el("button", { type: "button", class: "small", text: t("pause"),
            on: { click: () => this.pause() } });
        const choose = el("select", { on: { change: () => {
            this.windowUs = Number(choose.value) * 1000;
            this.draw();
        } } }, ...WINDOWS_MS.map((ms) => el("option", { value: ms, text: duration(ms * 1000),
            selected: ms === 1000 })));
        const heads = ["stage", "computing-median", "waiting-median", "busy"].map((key) =>
            el("th", { scope: "col", text: t(key) }));
        this.node = el("section", { class: "panel", "aria-labelledby": "trace-title" },
            el("header", {}, el("h3", { id: "trace-title", text: t("trace") }),
                el("span", { class: "legend" }, el("i", { class: "decode" }), t("decode"),
                    el("i", { class: "prefill" }), t("prefill")),
                el("label", { class: "inline" }, el("span", { text: t("window") }), choose),
                this.pauseButton),
            this.canvas, this.said,
            el("div", { class: "table", tabindex: "0", role: "group", "aria-label": t("trace-table") },
                el("table", {}, el("thead", {}, el("tr", {}, ...heads)), this.body)));
        this.listen();
    }

    listen() {
        this.canvas.addEventListener("pointermove", (event) => this.point(event.offsetX, event.offsetY));
        this.canvas.addEventListener("keydown", (event) => {
            const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
            if (!way)
                return;
            event.preventDefault();
            const seen = this.seen(), at = seen.indexOf(this.selected?.step);
            const step = at < 0 ? seen.at(-1) : seen[Math.max(0, Math.min(seen.length - 1, at + way))];
            if (step)
                this.select(step, 0);
        });
        this.watcher = new ResizeObserver(() => this.draw());
        this.watcher.observe(this.canvas);
    }

    pause() {
        this.isPaused = !this.isPaused;
        this.frozen = this.isPaused ? [...this.feed.steps] : null;
        this.pauseButton.textContent = t(this.isPaused ? "go-on" : "pause");
        this.draw();
    }

    get steps() {
        return this.frozen ?? this.feed.steps;
    }

    /* The window ends with the last step: an idle cluster keeps its last picture. */
    get end() {
        return this.steps.at(-1)?.answered_us ?? 0;
    }

    seen() {
        const begin = this.end - this.windowUs;
        return this.steps.filter((s) => s.answered_us >= begin);
    }

    update() {
        if (!this.isPaused)
            this.draw();
    }

    draw() {
        const n = Math.max(this.feed.stages.length, 1);
        const width = this.canvas.clientWidth, height = n * (LANE + GAP) + AXIS;
        if (!width)
            return;
        const scale = window.devicePixelRatio || 1;
        this.canvas.style.height = `${height}px`;
        this.canvas.width = width * scale;
        this.canvas.height = height * scale;
        const g = this.canvas.getContext("2d");
        g.scale(scale, scale);
        this.colours = coloursOf(this.canvas);
        g.font = `11px ${getComputedStyle(this.canvas).fontFamily}`;
        this.left = Math.min(WIDEST_LABEL, 10 + Math.max(0, ...this.feed.stages.map((s) =>
            g.measureText(s.worker).width)));
        this.right = width;
        this.drawAxis(g, height);
        this.blocks = [];
        for (const step of this.seen())
            this.drawStep(g, step);
        this.drawLabels(g);
        this.showTable();
    }

    /* Pixels of a length, and of a moment. */
    long(us) {
        return (this.right - this.left) * us / this.windowUs;
    }

    x(us) {
        return this.right - this.long(this.end - us);
    }

    drawAxis(g, height) {
        const c = this.colours, tick = tickOf(this.windowUs, this.right - this.left);
        g.fillStyle = c.sunken;
        for (let i = 0; i < this.feed.stages.length; i++)
            g.fillRect(this.left, i * (LANE + GAP), this.right - this.left, LANE);
        for (let us = 0; us < this.windowUs; us += tick) {
            const x = this.right - this.long(us);
            g.fillStyle = c.line;
            g.fillRect(Math.round(x), 0, 1, height - AXIS + 4);
            g.fillStyle = c.muted;
            g.textAlign = us === 0 ? "right" : "center";
            g.fillText(us === 0 ? t("now") : `−${duration(us)}`, x, height - 6);
        }
    }

    drawStep(g, step) {
        step.stages.forEach(([start, compute], lane) => {
            const end = start === null ? this.left : this.x(start + compute);
            if (end <= this.left)
                return;
            const x = Math.max(this.x(start), this.left), y = lane * (LANE + GAP), w = Math.max(end - x, 1);
            const isChosen = this.selected?.step === step;
            g.fillStyle = step.prefill_rows > 0 ? this.colours.warm : this.colours.accent;
            g.globalAlpha = isChosen ? 1 : 0.75;
            g.fillRect(x, y + 3, w > 3 ? w - 1 : w, LANE - 6);
            g.globalAlpha = 1;
            if (isChosen) {
                g.strokeStyle = this.colours.text;
                g.strokeRect(x - 0.5, y + 2.5, w + 1, LANE - 5);
            }
            this.blocks.push({ step, lane, x, y, w });
        });
    }

    drawLabels(g) {
        g.textAlign = "left";
        g.fillStyle = this.colours.text;
        this.feed.stages.forEach((stage, lane) => {
            let name = stage.worker;
            while (name.length > 1 && g.measureText(name).width > this.left - 8)
                name = `${name.slice(0, -2)}…`;
            g.fillText(name, 0, lane * (LANE + GAP) + LANE / 2 + 4);
        });
    }

    point(x, y) {
        const hit = this.blocks?.find((b) => x >= b.x - 1 && x <= b.x + b.w + 1 && y >= b.y &&
            y <= b.y + LANE);
        if (hit && (hit.step !== this.selected?.step || hit.lane !== this.selected.lane))
            this.select(hit.step, hit.lane);
    }

    select(step, lane) {
        this.selected = { step, lane };
        const [, compute, wait] = step.stages[lane];
        this.said.textContent = t("trace-step", { step: step.step, rows: step.rows,
            decode: step.decode_rows, worker: this.feed.stages[lane]?.worker ?? "", compute: duration(compute),
            wait: duration(wait), all: duration(step.answered_us - step.sent_us) });
        this.draw();
    }

    showTable() {
        const middle = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];
        const seen = this.seen();
        const span = seen.length ? this.end - Math.max(seen[0].sent_us, this.end - this.windowUs) : 0;
        this.body.replaceChildren(...this.feed.stages.map((stage, i) => {
            const spans = seen.map((s) => s.stages[i]).filter(Boolean);
            const sum = spans.reduce((all, s) => all + s[1], 0);
            const cells = spans.length
                ? [duration(middle(spans.map((s) => s[1]))), duration(middle(spans.map((s) => s[2]))),
                    percent(Math.min(sum / Math.max(span, 1), 1))] : ["–", "–", "–"];
            return el("tr", {}, el("th", { scope: "row", text: stage.worker }),
                ...cells.map((text) => el("td", { class: "right", text })));
        }));
    }
}
