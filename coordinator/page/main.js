/* The page begins here: which view is shown, looks, language, the key, how the server is. */
import { forgetKey, getJson, hasKey, whenKeyIsNeeded } from "./api.js";
import { Chat } from "./chat.js";
import { ClusterView } from "./cluster.js";
import { $, setIcon } from "./dom.js";
import { loadLooks, saveLooks } from "./store.js";
import { language, t, translateDocument } from "./texts.js";

const HEALTH_EVERY_MS = 5000;
const THEMES = ["auto", "light", "dark"];

/* ---- looks and language ---- */

function themeNow() {
    return document.documentElement.dataset.theme ?? "auto";
}

function showTheme() {
    setIcon($("theme"), themeNow(), t(`theme-${themeNow()}`));
}

function nextTheme() {
    const next = THEMES[(THEMES.indexOf(themeNow()) + 1) % THEMES.length];
    if (next === "auto")
        delete document.documentElement.dataset.theme;
    else
        document.documentElement.dataset.theme = next;
    saveLooks({ ...loadLooks(), theme: next });
    showTheme();
    cluster.redraw();
}

function nextLanguage() {
    const next = language() === "en" ? "zh-CN" : "en";
    document.documentElement.lang = next;
    saveLooks({ ...loadLooks(), language: next });
    speak();
    chat.show();
    cluster.rebuild();
    showHealth();
}

function speak() {
    translateDocument();
    $("language").lang = language() === "en" ? "zh-CN" : "en";
    showTheme();
}

/* ---- which view ---- */

function showView() {
    const isCluster = location.hash === "#cluster";
    $("chat-view").hidden = isCluster;
    $("cluster-view").hidden = !isCluster;
    $("history-open").hidden = isCluster;
    for (const [id, isHere] of [["to-chat", !isCluster], ["to-cluster", isCluster]])
        if (isHere)
            $(id).setAttribute("aria-current", "page");
        else
            $(id).removeAttribute("aria-current");
    $("skip").href = isCluster ? "#cluster-view" : "#composer-text";
    document.title = isCluster ? `${t("cluster")} – Paceline` : "Paceline";
    cluster.setShown(isCluster);
    if (!isCluster)
        chat.scrollToEnd();
}

/* ---- the key ---- */

function askForKey(wasWrong) {
    const dialog = $("key-dialog"), field = $("key");
    $("key-wrong").hidden = !wasWrong;
    field.value = "";
    dialog.returnValue = "";
    dialog.showModal();
    return new Promise((resolve) => {
        $("key-form").onsubmit = (event) => {
            event.preventDefault();
            if (field.value.trim())
                dialog.close("given");
        };
        $("key-cancel").onclick = () => dialog.close("");
        dialog.onclose = () => {
            resolve(dialog.returnValue === "given" ? field.value.trim() : null);
            field.value = "";
            $("forget-key").hidden = dialog.returnValue !== "given";
        };
    });
}

/* ---- how the server is ---- */

async function showHealth() {
    let state = "bad", words;
    try {
        const health = await getJson("health", { background: true, accept: [503] });
        state = health.status === "ok" ? "good" : "waiting";
        words = health.status === "ok" ? health.model : health.error.message;
    } catch (failure) {
        words = failure.message;
    }
    $("health").className = `health ${state}`;
    if ($("health-words").textContent !== words) {
        $("health-words").textContent = words;
        $("health").title = words;
    }
}

let showsHealth = false;

async function watchHealth() {
    if (document.hidden || showsHealth)
        return;
    showsHealth = true;
    await showHealth();
    showsHealth = false;
}

/* ---- begin ---- */

whenKeyIsNeeded(askForKey);
translateDocument();
const chat = new Chat();
const cluster = new ClusterView();
speak();
showView();
window.addEventListener("hashchange", showView);
$("theme").addEventListener("click", nextTheme);
$("language").addEventListener("click", nextLanguage);
$("forget-key").addEventListener("click", () => {
    forgetKey();
    $("forget-key").hidden = true;
});
$("forget-key").hidden = !hasKey();
$("skip").addEventListener("click", (event) => {
    event.preventDefault();
    ($("chat-view").hidden ? $("cluster-view") : $("composer-text")).focus();
});
watchHealth();
setInterval(watchHealth, HEALTH_EVERY_MS);
document.addEventListener("visibilitychange", watchHealth);
/* Whether a key is needed is known before the first question is typed. */
getJson("v1/models", { background: true }).catch(() => {});
