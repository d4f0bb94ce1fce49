/* The panel with system prompt and parameters. Fields that are empty leave the choice to the server. */
import { $ } from "./dom.js";
import { loadSettings, saveSettings } from "./store.js";

const NUMBERS = ["temperature", "top_p", "top_k", "min_p", "max_tokens", "seed",
    "repetition_penalty", "presence_penalty", "frequency_penalty"];

export class SettingsPanel {
    /* systemChanged(text): of the conversation that is open. */
    constructor(systemChanged) {
        this.values = loadSettings();
        this.dialog = $("settings");
        this.form = $("settings-form");
        for (const name of NUMBERS)
            this.form.elements[name].value = this.values[name] ?? "";
        this.form.elements.stop.value = this.values.stop ?? "";
        this.form.elements.thinking.value = this.values.thinking ?? "auto";
        this.form.addEventListener("input", (event) => this.take(event.target, systemChanged));
        this.form.addEventListener("submit", (event) => {
            event.preventDefault();
            this.dialog.close();
        });
        $("settings-open").addEventListener("click", () => this.dialog.showModal());
        $("settings-close").addEventListener("click", () => this.dialog.close());
        $("settings-reset").addEventListener("click", () => this.reset());
        this.dialog.addEventListener("click", (event) => {
            if (event.target === this.dialog)
                this.dialog.close(); /* beside it */
        });
        this.mark();
    }

    take(field, systemChanged) {
        if (field.name === "system") {
            systemChanged(field.value);
            this.values.system = field.value; /* and of the next conversations */
        } else if (NUMBERS.includes(field.name)) {
            this.values[field.name] = field.value === "" || !field.validity.valid ? undefined
                : field.valueAsNumber;
            field.setAttribute("aria-invalid", String(!field.validity.valid));
        } else {
            this.values[field.name] = field.value;
        }
        saveSettings(this.values);
        this.mark();
    }

    showSystem(text) {
        this.form.elements.system.value = text;
    }

    reset() {
        for (const name of [...NUMBERS, "stop"]) {
            this.form.elements[name].value = "";
            this.form.elements[name].removeAttribute("aria-invalid");
            this.values[name] = undefined;
        }
        this.form.elements.thinking.value = this.values.thinking = "auto";
        saveSettings(this.values);
        this.mark();
    }

    /* The button shows when something is not as the server has it. */
    mark() {
        const v = this.values;
        const isChanged = NUMBERS.some((name) => Number.isFinite(v[name])) || Boolean(v.stop) ||
            (v.thinking ?? "auto") !== "auto" || Boolean(v.system);
        $("settings-open").classList.toggle("changed", isChanged);
    }
}
