"use strict";
// Sorts a table by the column whose heading is clicked, and unfolds everything for printing.
// The page is whole without it.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const value = (row) => row.cells[column].textContent.trim();
      const asNumber = (text) => (/^-?[\d,.]+$/.test(text) ? parseFloat(text.replaceAll(",", "")) : NaN);
      const down = head.getAttribute("aria-sort") !== "descending" && column > 0;
      const rows = [...table.tBodies[0].rows].sort((a, b) => {
        const [x, y] = [asNumber(value(a)), asNumber(value(b))];
        const order = Number.isNaN(x) || Number.isNaN(y) ? value(a).localeCompare(value(b)) : x - y;
        return down ? -order : order;
      });
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      table.tBodies[0].append(...rows);
    });
  });
}
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
