// Sets the theme before anything is drawn. It is no module, because those run only when the document has been read, and a light
// page would flash dark first.
// @ts-check
"use strict"

try {
  const theme = localStorage.getItem("killfeed.theme")
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme
} catch {
  // Storage may be forbidden. Then the system's preference decides.
}
