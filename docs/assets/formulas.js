// Typesets the formulas of a page, which pymdownx.arithmatex has marked, by the KaTeX beside it.
document$.subscribe(() => {
  for (const element of document.querySelectorAll(".arithmatex:not([data-done])")) {
    const source = element.textContent.trim();
    katex.render(source.slice(2, -2), element, {
      displayMode: source.startsWith("\\["),
      throwOnError: false,
    });
    element.dataset.done = "";
  }
});
