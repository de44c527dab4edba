// JupyterLab takes image-rendering out of Markdown: this style puts it back for films.
const style = document.createElement("style");
style.textContent =
  'img[src*="assets/"][src*=".gif"], img[src^="data:image/gif"] ' +
  "{ image-rendering: pixelated }";
document.head.append(style);
// What JupyterLab asks of an extension; this one offers nothing else.
(window._JUPYTERLAB ??= {}).pixels = { init() {}, get: async () => () => ({}) };
