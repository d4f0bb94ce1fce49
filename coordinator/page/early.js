/* Before anything is painted: the theme and the language that were chosen here. */
(() => {
    const root = document.documentElement;
    try {
        const chosen = JSON.parse(localStorage.getItem("paceline.looks") || "{}");
        if (chosen.theme === "light" || chosen.theme === "dark")
            root.dataset.theme = chosen.theme;
        const spoken = chosen.language || navigator.language || "en";
        root.lang = spoken.toLowerCase().startsWith("zh") ? "zh-CN" : "en";
    } catch {
        root.lang = "en"; /* no storage here: the defaults serve */
    }
})();
