/* One answer of the model: the question to the API, and the text as it comes. */
import { streamEvents } from "./api.js";

const NUMBERS = ["temperature", "top_p", "top_k", "min_p", "max_tokens", "seed",
    "repetition_penalty", "presence_penalty", "frequency_penalty"];

/* The messages up to (not including) index end, as the API wants them. Reasoning stays out, as the
 * models' templates expect of earlier turns. */
export function history(chat, end) {
    const messages = chat.system ? [{ role: "system", content: chat.system }] : [];
    for (const m of chat.messages.slice(0, end))
        messages.push({ role: m.role,
            content: m.role === "user" ? m.content : m.versions[m.shown].content });
    return messages;
}

/* Parameters that were left empty are the server's to choose. */
export function parametersOf(settings) {
    const parameters = {};
    for (const name of NUMBERS)
        if (Number.isFinite(settings[name]))
            parameters[name] = settings[name];
    const stops = (settings.stop ?? "").split("\n").filter((line) => line);
    if (stops.length)
        parameters.stop = stops;
    if (settings.thinking === "on" || settings.thinking === "off")
        parameters.chat_template_kwargs = { enable_thinking: settings.thinking === "on" };
    return parameters;
}

function take(event, version) {
    version.model = event.model ?? version.model;
    if (event.usage)
        version.tokens = event.usage.completion_tokens;
    const choice = event.choices?.[0];
    if (!choice)
        return;
    const now = Date.now();
    const { content, reasoning_content: reasoning } = choice.delta ?? {};
    if (content || reasoning)
        version.first ??= now;
    if (reasoning)
        version.reasoning += reasoning;
    if (content && !version.content)
        version.answered = now;
    if (content)
        version.content += content;
    if (choice.finish_reason)
        version.finish = choice.finish_reason;
}

export function newVersion() {
    return { content: "", reasoning: "", started: Date.now(), finish: null };
}

/* Fills the version; changed() after each event. What fails is written into it, as words. */
export async function generate(messages, settings, version, signal, changed) {
    const question = { messages, stream: true, stream_options: { include_usage: true },
        ...parametersOf(settings) };
    try {
        for await (const event of streamEvents("v1/chat/completions", question, signal)) {
            take(event, version);
            changed();
        }
        version.finish ??= "stop";
    } catch (failure) {
        version.finish = signal.aborted ? "stopped" : "failed";
        if (!signal.aborted)
            version.error = failure.message;
    }
    version.ended = Date.now();
    changed();
}
