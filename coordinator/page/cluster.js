/* The machines at work: who has which layers, how loaded they are, what their steps take. */
import { getJson, postJson } from "./api.js";
import { $, announce, el, notify } from "./dom.js";
import { MachineCard } from "./machine.js";
import { PlannerPanel } from "./planner.js";
import { number, percent, t } from "./texts.js";
import { TraceFeed, TracePicture } from "./trace.js";

const EVERY_MS = 1000;

export class ClusterView {
    constructor() {
        this.feed = new TraceFeed();
        this.isShown = false;
        this.rebuild();
        document.addEventListener("visibilitychange", () => this.run());
    }

    /* Anew, in the language of now. */
    rebuild() {
        this.cards = new Map();
        this.before = null;
        this.facts = el("dl", { class: "facts" });
        this.notice = el("p", { class: "notice", role: "status", hidden: true });
        this.epoch = el("span", { class: "muted" });
        this.pipeline = el("ol", { class: "pipeline" });
        this.standby = el("ul", { class: "pipeline" });
        this.standbyPart = el("section", { "aria-labelledby": "standby-title", hidden: true },
            el("h3", { id: "standby-title", text: t("standby") }), this.standby);
        this.picture = new TracePicture(this.feed);
        this.planner = new PlannerPanel();
        $("cluster-view").replaceChildren(el("div", { class: "wide-column" },
            el("h2", { class: "unseen", text: t("cluster") }), this.notice, this.facts,
            el("section", { "aria-labelledby": "pipeline-title" },
                el("h3", { id: "pipeline-title" }, t("pipeline"), this.epoch), this.pipeline),
            this.standbyPart, this.picture.node, this.planner.node));
        if (this.isShown)
            this.look();
    }

    redraw() {
        this.picture.draw();
    }

    setShown(isShown) {
        this.isShown = isShown;
        this.run();
    }

    run() {
        clearTimeout(this.timer);
        if (this.isShown && !document.hidden)
            this.look();
    }

    async look() {
        clearTimeout(this.timer);
        const turn = this.turn = {};
        try {
            const [cluster] = await Promise.all([getJson("cluster", { background: true }), this.feed.read()]);
            if (this.turn !== turn)
                return;
            this.show(cluster, performance.now());
        } catch (failure) {
            if (this.turn !== turn)
                return;
            this.tell(failure.message, "bad");
        }
        if (this.isShown && !document.hidden)
            this.timer = setTimeout(() => this.look(), EVERY_MS);
    }

    tell(words, kind) {
        this.notice.hidden = !words;
        this.notice.className = `notice ${kind}`;
        if (this.notice.textContent !== words)
            this.notice.textContent = words;
    }

    show(cluster, now) {
        const seconds = this.before ? (now - this.before.at) / 1000 : 0;
        const change = cluster.change ? t("change", { why: cluster.change.why }) : "";
        const journal = cluster.journal?.why ?? "";
        const isWell = cluster.ready && !journal;
        const words = [cluster.waiting_for ?? change, journal].filter(Boolean).join(" ");
        this.tell(words, isWell ? "" : "waiting");
        this.showFacts(cluster, seconds);
        const inPlan = cluster.workers.filter((w) => w.stage !== null);
        const others = cluster.workers.filter((w) => w.stage === null);
        for (const worker of cluster.workers)
            this.update(worker, seconds, cluster.layers);
        this.place(this.pipeline, inPlan);
        this.place(this.standby, others);
        this.standbyPart.hidden = others.length === 0;
        for (const name of this.cards.keys())
            if (!cluster.workers.some((w) => w.name === name))
                this.cards.delete(name);
        this.before = { at: now, generated: cluster.generated_tokens,
            workers: new Map(cluster.workers.map((w) => [w.name, w])) };
        this.picture.update();
        this.planner.offer(cluster);
    }

    update(worker, seconds, layers) {
        let card = this.cards.get(worker.name);
        if (!card) {
            card = new MachineCard(worker.name, (verb, name) => this.command(verb, name));
            this.cards.set(worker.name, card);
        }
        const before = this.before?.workers.get(worker.name) ?? null;
        card.update(worker, before, seconds, layers, worker.stage === null ? []
            : this.feed.computed(worker.stage));
    }

    /* Moves only what stands elsewhere. */
    place(list, workers) {
        const nodes = workers.map((w) => this.cards.get(w.name).node);
        if (nodes.length !== list.children.length || nodes.some((n, i) => list.children[i] !== n))
            list.replaceChildren(...nodes);
    }

    showFacts(c, seconds) {
        const used = c.kv_blocks - c.kv_blocks_free;
        const found = c.prefix_cache_hit_tokens / Math.max(c.prefix_cache_query_tokens, 1);
        const before = this.before;
        const rate = before && seconds > 0 ? (c.generated_tokens - before.generated) / seconds : 0;
        const refused = c.refused.queue_full + c.refused.tenant_limit + c.refused.timeout;
        const facts = [
            [t("layers"), number(c.layers)], [t("stages"), number(c.stages)],
            [t("running"), number(c.running)], [t("waiting"), number(c.waiting)],
            [t("tokens-rate"), number(Math.max(rate, 0), 1)],
            [t("kv-cache"), c.kv_blocks ? percent(used / c.kv_blocks) : "–"],
            [t("prefix-found"), percent(found)], [t("refused"), number(refused)]];
        this.epoch.textContent = t("plan-epoch", { epoch: c.epoch });
        this.facts.replaceChildren(...facts.map(([name, value]) => el("div", {},
            el("dt", { text: name }), el("dd", { text: value, title: value }))));
    }

    async command(verb, name) {
        if (verb === "drain" && !window.confirm(t("drain-ask", { name })))
            return;
        try {
            await postJson(`cluster/${verb}`, { worker: name });
            announce(t(`${verb}-done`, { name }));
            this.look();
        } catch (failure) {
            notify(failure.message);
        }
    }
}
