/* One worker as a card that changes in place, so that a focused button stays what it is. */
import { Bar, Range, Spark } from "./bars.js";
import { el } from "./dom.js";
import { bytes, duration, number, percent, t, withUnit } from "./texts.js";

const HISTORY = 60; /* values of the line of step times */
const STATES = ["joined", "loading", "serving", "standby", "unfit", "expelled", "draining", "drained",
    "kept-out"];

/* A row of a description list. */
function row(label, value, picture) {
    return el("div", { class: "row" }, el("dt", { text: label }), el("dd", {}, value, picture ?? ""));
}

function median(values) {
    const sorted = [...values].sort((a, b) => a - b);
    return sorted.length ? sorted[sorted.length >> 1] : null;
}

export class MachineCard {
    /* command(verb, name): "drain" or "resume" */
    constructor(name, command) {
        this.name = name;
        this.loads = [];
        this.state = el("span", { class: "state" });
        this.layers = el("p", { class: "layers-words" });
        this.range = new Range();
        this.load = new Bar(t("load"));
        this.memory = new Bar(t("memory"));
        this.progress = new Bar(t("progress"), "progress");
        this.spark = new Spark();
        this.figures = {};
        for (const key of ["load", "memory", "step", "sent", "ping", "hop", "more"])
            this.figures[key] = el("span");
        this.progressWords = el("span");
        this.coming = el("div", { class: "coming", hidden: true }, this.progressWords, this.progress.node);
        this.reason = el("p", { class: "muted reason", hidden: true });
        this.button = el("button", { type: "button", class: "small", on: {
            click: () => command(this.verb, this.name) } });
        this.stepRow = row(t("step-time"), this.figures.step, this.spark.node);
        this.node = el("li", { class: "machine" },
            el("header", {}, el("h4", { text: name }), this.state),
            this.layers, this.range.node,
            el("dl", {}, row(t("load"), this.figures.load, this.load.node),
                row(t("memory"), this.figures.memory, this.memory.node), this.stepRow,
                row(t("sent"), this.figures.sent), row(t("ping"), this.figures.ping),
                this.hopRow = row(t("next-hop"), this.figures.hop)),
            this.coming, this.reason,
            el("footer", {}, this.figures.more, this.button));
    }

    /* before: the worker a while ago (seconds), or null. spans: its last steps' compute µs. */
    update(worker, before, seconds, layers, spans) {
        this.state.textContent = STATES.includes(worker.state) ? t(`state-${worker.state}`) : worker.state;
        this.state.className = `state ${worker.state}`;
        this.showLayers(worker, layers);
        this.showLoad(worker, before, seconds);
        this.showMemory(worker);
        this.showSteps(spans);
        this.showComing(worker);
        this.showLinks(worker);
        this.showReason(worker);
        this.showMore(worker);
        const isAway = worker.state === "draining" || worker.state === "drained";
        this.verb = isAway ? "resume" : "drain";
        this.button.textContent = t(this.verb);
        this.button.setAttribute("aria-label", t(`${this.verb}-name`, { name: this.name }));
    }

    showLayers(worker, layers) {
        const [first, end] = worker.layers ?? [0, 0];
        this.range.node.hidden = !worker.layers;
        this.range.set(first, end, layers);
        let words = !worker.layers ? t("no-layers")
            : t(end - first === 1 ? "layer-of" : "layers-of", { first, last: end - 1, n: layers });
        const next = worker.next_layers;
        if (next && (next[0] !== first || next[1] !== end))
            words += ` → ${t("layers-next", { first: next[0], last: next[1] - 1 })}`;
        this.layers.textContent = words;
    }

    showLoad(worker, before, seconds) {
        const busy = before && seconds > 0 ? Math.max(worker.busy_us - before.busy_us, 0) / 1e6 / seconds : 0;
        const share = Math.min(busy, 1);
        this.load.set(share, percent(share));
        this.figures.load.textContent = percent(share);
        const sent = before && seconds > 0 ? Math.max(worker.sent_bytes - before.sent_bytes, 0) / seconds : 0;
        this.figures.sent.textContent = `${bytes(sent)}/s`;
    }

    showLinks(worker) {
        const parts = [worker.round_trip_us === null ? "–" : duration(worker.round_trip_us)];
        if (worker.link_bytes_per_second)
            parts.push(`${bytes(worker.link_bytes_per_second)}/s`);
        this.figures.ping.textContent = parts.join(" · ");
        const hop = worker.next_hop;
        this.hopRow.hidden = !hop;
        if (hop)
            this.figures.hop.textContent = [hop.least_us && duration(hop.least_us),
                hop.bytes_per_second && `${bytes(hop.bytes_per_second)}/s`].filter(Boolean).join(" · ");
    }

    /* Why it has no layers, or what it makes ready meanwhile. */
    showReason(worker) {
        const packs = worker.standby;
        let words = worker.expelled ?? worker.standby_reason ?? "";
        if (worker.kept_out)
            words = t("kept-out", { n: worker.kept_out.losses, s: number(worker.kept_out.seconds) });
        else if (packs)
            words += ` ${t(packs.ready ? "packed" : "packing", { first: packs.layers[0],
                last: packs.layers[1] - 1 })}`;
        this.reason.hidden = !words.trim();
        this.reason.textContent = words;
    }

    showMemory(worker) {
        const words = t("of", { part: bytes(worker.memory_claimed), whole: bytes(worker.memory_offered) });
        this.memory.set(worker.memory_claimed / worker.memory_offered, words);
        this.figures.memory.textContent = words;
    }

    showSteps(spans) {
        const middle = median(spans.slice(-50));
        this.figures.step.textContent = middle === null ? "–" : duration(middle);
        this.spark.set(spans.slice(-HISTORY));
    }

    showComing(worker) {
        const isLoading = worker.load_total > 0 && worker.load_done < worker.load_total;
        const isFetching = worker.fetch_total > 0 && worker.fetch_done < worker.fetch_total;
        this.coming.hidden = !isLoading && !isFetching;
        if (this.coming.hidden)
            return;
        const [done, total] = isFetching ? [worker.fetch_done, worker.fetch_total]
            : [worker.load_done, worker.load_total];
        const words = t(isFetching ? "fetching" : "loading", { part: bytes(done), whole: bytes(total),
            rate: bytes(worker.fetch_bytes_per_second) });
        this.progressWords.textContent = words;
        this.progress.set(done / total, words);
    }

    showMore(worker) {
        const parts = [t(worker.threads === 1 ? "one-thread" : "n-threads", { n: worker.threads }), worker.isa];
        if (worker.temperature_celsius !== null && worker.temperature_celsius !== undefined)
            parts.push(withUnit(number(worker.temperature_celsius), "°C"));
        if (worker.machine?.measured)
            parts.push(withUnit(number(worker.machine.measured.read_bytes_per_s / 1e9, 1), "GB/s"));
        this.figures.more.textContent = parts.join(" · ");
        this.figures.more.title = worker.address;
    }
}
