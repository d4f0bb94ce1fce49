/* What machines would do with a model, whether there are any or not: the question as a form, the
 * answer of POST /cluster/plan as a picture and in figures. */
import { getJson, postJson } from "./api.js";
import { Range } from "./bars.js";
import { announce, el, iconButton } from "./dom.js";
import { bytes, duration, number, percent, t, withUnit } from "./texts.js";

const GIB = 2 ** 30;
/* name of the figure, least, and what a machine has that nobody knows anything of */
const FIGURES = [["count", 1, 1], ["memory_gib", 0.001, 16], ["read_gb_per_s", 0.001, 35],
    ["int8_gops", 0.001, 1000], ["link_mbit_per_s", 0.001, 1000], ["link_ms", 0, 0.2]];
/* int8 operations of a core, 10⁹ a second, as deploy/what-if.cfg has them */
const CORE_GOPS = { avx2: 150, avx512: 350, amx: 1000 };

/* Bytes of a name that the server takes. */
const NAME_BYTES = 47;
/* By how much, as a share, figures of machines that are alike may differ: they are measured. */
const ALIKE = 0.25;

const round = (value) => Number(value.toPrecision(3));

/* A worker of the cluster as a machine of a plan. */
function machineOf(worker) {
    const measured = worker.machine?.measured;
    return { name: worker.name, count: 1, memory_gib: round(worker.memory_offered / GIB),
        read_gb_per_s: measured ? round(measured.read_bytes_per_s / 1e9) : 35,
        int8_gops: round(worker.threads * (CORE_GOPS[worker.isa] ?? 100)),
        link_mbit_per_s: worker.link_bytes_per_second ? round(worker.link_bytes_per_second * 8e-6) : 10000,
        link_ms: worker.round_trip_us ? round(worker.round_trip_us / 2000) : 0.05 };
}

/* As much of a name as the server takes; no character is cut in two. */
function shortName(name) {
    return name.slice(0, new TextEncoder().encodeInto(name, new Uint8Array(NAME_BYTES)).read);
}

/* Machines as kinds, each called after its first; their figures differ by no more than a share. */
function kindsOf(machines, share) {
    const kinds = [];
    for (const machine of machines) {
        const kind = kinds.find((k) => FIGURES.every(([key]) => key === "count" ||
            Math.abs(k[key] - machine[key]) <= share * k[key]));
        if (kind)
            kind.count++;
        else
            kinds.push({ ...machine });
    }
    return kinds;
}

/* As many of the kinds as a question takes. */
function withinLimits(kinds, mostKinds, mostMachines) {
    let room = mostMachines;
    return kinds.slice(0, mostKinds).map((kind) => {
        const count = Math.min(kind.count, room);
        room -= count;
        return { ...kind, count };
    }).filter((kind) => kind.count > 0);
}

function field(key, control) {
    return el("label", {}, el("span", { text: t(key) }), control);
}

function options(select, names, chosen) {
    select.replaceChildren(...names.map((name) => el("option", { value: name, text: name,
        selected: name === chosen })));
}

export class PlannerPanel {
    constructor() {
        this.workers = [];
        this.model = el("select");
        this.quant = el("select");
        this.objective = el("select");
        this.context = el("input", { type: "number", min: "1", step: "1", placeholder: "4096" });
        this.concurrency = el("input", { type: "number", min: "1", max: "1024", step: "1", value: "4",
            required: true });
        this.machines = el("tbody");
        this.leftOut = el("p", { class: "notice waiting", role: "status", hidden: true });
        this.failure = el("p", { class: "failure", role: "alert", hidden: true });
        this.result = el("div", { class: "plan", hidden: true });
        this.button = el("button", { class: "primary small", text: t("plan-it") });
        this.form = el("form", { class: "ask", on: { submit: (event) => {
            event.preventDefault();
            this.ask();
        } } },
        el("div", { class: "fields" }, field("model", this.model), field("quant", this.quant),
            field("objective", this.objective), field("context-length", this.context),
            field("concurrency", this.concurrency)),
        this.machineTable(), this.leftOut,
        el("footer", {}, this.tool("add-machine", () => this.add({})),
            this.tool("as-now", () => this.takeCluster()), this.button));
        this.body = el("div", { class: "panel-body" }, this.form, this.failure, this.result);
        this.node = el("details", { class: "panel", on: { toggle: () => this.open() } },
            el("summary", {}, el("h3", { text: t("what-if") }), el("span", { class: "muted",
                text: t("what-if-more") })), this.body);
    }

    tool(key, act) {
        return el("button", { type: "button", class: "small", text: t(key), on: { click: act } });
    }

    machineTable() {
        const heads = ["machine", ...FIGURES.map(([name]) => name)].map((key) =>
            el("th", { scope: "col", text: t(`of-${key}`) }));
        return el("div", { class: "table", tabindex: "0", role: "group", "aria-label": t("machines") },
            el("table", { class: "machines" }, el("thead", {}, el("tr", {}, ...heads,
                el("td"))), this.machines));
    }

    /* What is there is the first guess of what is meant. */
    offer(cluster) {
        this.workers = cluster.workers;
    }

    async open() {
        if (!this.node.open || this.choices)
            return;
        try {
            this.choices = await getJson("cluster/plan");
            options(this.model, this.choices.models, "qwen2.5-7b");
            options(this.quant, this.choices.quants, "Q4_K_M");
            options(this.objective, this.choices.objectives, "balanced");
            for (const option of this.objective.options)
                option.textContent = t(`objective-${option.value}`);
            this.takeCluster();
        } catch (failure) {
            this.tell(failure.message);
        }
    }

    takeCluster() {
        this.machines.replaceChildren();
        const mostKinds = this.choices?.most_kinds ?? 8, mostMachines = this.choices?.most_machines ?? 32;
        const machines = this.workers.map(machineOf);
        let kinds = kindsOf(machines, 0);
        if (kinds.length > mostKinds)
            kinds = kindsOf(machines, ALIKE);
        kinds = withinLimits(kinds, mostKinds, mostMachines);
        for (const kind of kinds.length ? kinds : [{}])
            this.add(kind);
        const n = machines.length - kinds.reduce((sum, kind) => sum + kind.count, 0);
        this.leftOut.hidden = n === 0;
        this.leftOut.textContent = n ? t("left-out", { n, kinds: mostKinds, machines: mostMachines }) : "";
    }

    add(machine) {
        const cell = (key, control) => {
            control.setAttribute("aria-label", t(`of-${key}`));
            return el("td", {}, control);
        };
        const name = el("input", { name: "name", maxlength: NAME_BYTES,
            value: shortName(machine.name ?? `${t("machine")}-${this.machines.children.length + 1}`) });
        const row = el("tr", {}, cell("machine", name), ...FIGURES.map(([key, least, initial]) =>
            cell(key, el("input", { name: key, type: "number", min: least, required: true,
                step: key === "count" ? "1" : "any", value: machine[key] ?? initial }))),
        el("td", {}, iconButton("trash", t("remove-machine"), () => {
            row.remove();
            this.form.querySelector("footer button").focus();
        })));
        this.machines.append(row);
    }

    question() {
        const machines = [...this.machines.children].map((row) => Object.fromEntries(
            [...row.querySelectorAll("input")].map((input) => [input.name,
                input.type === "number" ? input.valueAsNumber : shortName(input.value)])));
        const context = this.context.valueAsNumber;
        return { model: this.model.value, quant: this.quant.value, objective: this.objective.value,
            context: Number.isFinite(context) ? context : 0,
            concurrency: this.concurrency.valueAsNumber, machines };
    }

    async ask() {
        const question = this.question();
        this.button.disabled = true;
        this.tell("");
        try {
            this.show(await postJson("cluster/plan", question), question);
            announce(t("planned"));
        } catch (failure) {
            this.tell(failure.message);
        }
        this.button.disabled = false;
    }

    tell(words) {
        this.failure.hidden = !words;
        this.failure.textContent = words;
        if (words)
            this.result.hidden = true;
    }

    /* ---- the answer ---- */

    show(plan, question) {
        this.result.hidden = false;
        this.result.replaceChildren(...(plan.fits ? [this.figures(plan, question), this.stages(plan),
            this.helps(plan)] : [this.misfit(plan.missing)]));
    }

    figures(plan, question) {
        const rate = (tokens) => withUnit(number(tokens, 1), t("per-second"));
        const facts = [[t("one-stream"), rate(plan.decode_tokens_per_second)],
            [t("all-streams", { n: question.concurrency }), rate(plan.total_tokens_per_second)],
            [t("first-token"), duration(1000 * plan.ttft_ms_1000)], [t("bottleneck"), plan.bottleneck]];
        return el("dl", { class: "facts" }, ...facts.map(([name, value]) => el("div", {},
            el("dt", { text: name }), el("dd", { text: value, title: value }))));
    }

    stages(plan) {
        const layers = plan.stages.at(-1).end_layer;
        const heads = ["of-machine", "layers", "weights", "kv-cache", "memory", "step-time"].map((key, i) =>
            el("th", { scope: "col", text: t(key), colspan: i === 1 ? "2" : null }));
        const rows = plan.stages.map((s) => {
            const range = new Range();
            range.set(s.first_layer, s.end_layer, layers);
            const cells = [bytes(s.weight_bytes), bytes(s.kv_bytes), bytes(s.memory_bytes),
                duration(1000 * s.step_ms)];
            return el("tr", {}, el("th", { scope: "row", text: s.worker }),
                el("td", { text: `${s.first_layer}–${s.end_layer - 1}` }),
                el("td", { class: "picture" }, range.node),
                ...cells.map((text) => el("td", { class: "right", text })));
        });
        return el("div", { class: "table", tabindex: "0", role: "group", "aria-label": t("stages") },
            el("table", { class: "stages" }, el("thead", {}, el("tr", {}, ...heads)),
                el("tbody", {}, ...rows)));
    }

    helps(plan) {
        const gain = (value) => (Math.abs(value) < 0.005 ? percent(0)
            : `${value < 0 ? "−" : "+"}${percent(Math.abs(value))}`);
        /* One more of either of two machines that are alike is one proposal. */
        const worth = plan.helps.filter((h, i, all) => Math.max(h.total_gain, h.single_gain) >= 0.02 &&
            all.findIndex((o) => o.total_gain === h.total_gain && o.single_gain === h.single_gain) === i);
        const items = worth.slice(0, 3).map((h) => el("li", { text: t("helps-by", { what: h.what,
            all: gain(h.total_gain), one: gain(h.single_gain) }) }));
        return el("div", {}, el("h4", { text: t("would-help") }),
            items.length ? el("ul", {}, ...items) : el("p", { class: "muted", text: t("nothing-helps") }));
    }

    misfit(missing) {
        const items = missing.machines.map((m) => t("more-machines", { n: m.count, name: m.worker }));
        if (missing.quant)
            items.unshift(t("smaller-quant", { quant: missing.quant }));
        if (missing.context)
            items.unshift(t("shorter-context", { n: number(missing.context) }));
        return el("div", {}, el("p", { class: "notice waiting", text: t("does-not-fit",
            { needed: bytes(missing.needed_bytes), offered: bytes(missing.offered_bytes) }) }),
        el("h4", { text: t("would-fit") }),
        items.length ? el("ul", {}, ...items.map((text) => el("li", { text })))
            : el("p", { class: "muted", text: t("nothing-fits") }));
    }
}
