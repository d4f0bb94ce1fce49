/* Questions to the server that the page came from. The API key, where one is needed, stays in
 * sessionStorage: it is forgotten with the tab. */
import { t } from "./texts.js";

const KEY = "paceline.key";
/* Of others no header can be made. */
const KEY_FORM = /^[\x21-\x7e]+$/;

export class ApiError extends Error {
    constructor(status, message, code = null, retryAfter = 0) {
        super(message);
        this.status = status;
        this.code = code;
        this.retryAfter = retryAfter;
    }
}

let ask = null; /* (was wrong) => Promise of a key or null */
let asking = null;
let declined = false;

export function whenKeyIsNeeded(dialog) {
    ask = dialog;
}

function storedKey() {
    try {
        return sessionStorage.getItem(KEY);
    } catch {
        return null;
    }
}

let key = storedKey();

export function forgetKey() {
    key = null;
    declined = false;
    try {
        sessionStorage.removeItem(KEY);
    } catch {
        /* then it was not kept there either */
    }
}

export const hasKey = () => key !== null;

async function askedKey() {
    let given = await ask(key !== null);
    while (given !== null && !KEY_FORM.test(given))
        given = await ask(true);
    return given;
}

/* One dialog, whoever asks meanwhile. Resolves to whether there is a new key. */
function newKey() {
    asking ??= askedKey().then((given) => {
        asking = null;
        declined = given === null;
        if (given === null)
            return false;
        key = given;
        try {
            sessionStorage.setItem(KEY, given);
        } catch {
            /* then it is asked for again after a reload */
        }
        return true;
    });
    return asking;
}

async function errorOf(answer) {
    let error = null;
    try {
        error = (await answer.json()).error;
    } catch {
        /* not ours: a proxy's perhaps */
    }
    const words = error?.message ?? t("error-status", { status: answer.status });
    return new ApiError(answer.status, words, error?.code ?? null,
        Number(answer.headers.get("Retry-After")) || 0);
}

async function fetchOnce(path, options) {
    const headers = { ...options.headers };
    if (key !== null)
        headers.Authorization = `Bearer ${key}`;
    try {
        return await fetch(new URL(path, document.baseURI), { ...options, headers, cache: "no-store" });
    } catch (failure) {
        if (failure.name === "AbortError")
            throw failure;
        throw new ApiError(0, t("error-network"));
    }
}

/* background: a question that nobody waits for does not ask for a key that was declined. */
async function call(path, options, background) {
    for (;;) {
        const used = key;
        const answer = await fetchOnce(path, options);
        if (answer.status !== 401)
            return answer;
        if (used !== key)
            continue; /* somebody has given another one meanwhile */
        if ((background && declined) || !(await newKey()))
            throw await errorOf(answer);
    }
}

/* accept: statuses besides 2xx that are answers as well. */
export async function getJson(path, { background = false, accept = [] } = {}) {
    const answer = await call(path, {}, background);
    if (!answer.ok && !accept.includes(answer.status))
        throw await errorOf(answer);
    return answer.json();
}

function posted(value, signal) {
    return { method: "POST", headers: { "Content-Type": "application/json" },
        body: JSON.stringify(value), signal };
}

export async function postJson(path, value, signal = null) {
    const answer = await call(path, posted(value, signal), false);
    if (!answer.ok)
        throw await errorOf(answer);
    return answer.json();
}

/* Lines of text as they become complete. Whoever wants no more of them closes the connection. */
async function* linesOf(body) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    try {
        for (;;) {
            const { value, done } = await reader.read();
            if (done)
                return;
            const lines = (rest + value).split("\n");
            rest = lines.pop();
            yield* lines;
        }
    } finally {
        reader.cancel().catch(() => {});
    }
}

/* Events of a streamed answer, parsed, up to [DONE]. */
export async function* streamEvents(path, value, signal) {
    const answer = await call(path, posted(value, signal), false);
    if (!answer.ok)
        throw await errorOf(answer);
    for await (const line of linesOf(answer.body)) {
        if (!line.startsWith("data: "))
            continue;
        if (line === "data: [DONE]")
            return;
        const event = JSON.parse(line.slice(6));
        if (event.error)
            throw new ApiError(answer.status, event.error.message, event.error.code);
        yield event;
    }
    throw new ApiError(answer.status, t("error-broken"));
}
