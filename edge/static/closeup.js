// One tile at close range: both shots, the fused tile and what differs.

import { number } from "./numbers.js";

const KINDS = ["minus", "plus", "fused", "difference"];

export class CloseUp {
  constructor(header, cells) {
    this._header = header;
    this._cells = cells;
    this._dialog = document.getElementById("tile-dialog");
    document.getElementById("tile-close").addEventListener("click", () => this._dialog.close());
    document.getElementById("look").addEventListener("submit", (event) => {
      event.preventDefault();
      this.open(field("look-row"), field("look-column"));
    });
    document.getElementById("look-row").max = header.grid[0] - 1;
    document.getElementById("look-column").max = header.grid[1] - 1;
    for (const kind of KINDS) this._prepare(kind);
  }

  // Open the tile whose middle is nearest to a place on the slide, in its pixels.
  openAt(x, y) {
    const { grid, origin_px, step_px, field_px } = this._header;
    const nearest = (place, axis) =>
      Math.round((place - origin_px[axis] - field_px[axis] / 2) / step_px[axis]);
    const column = Math.min(Math.max(nearest(x, 0), 0), grid[1] - 1);
    const row = Math.min(Math.max(nearest(y, 1), 0), grid[0] - 1);
    this.open(row, column);
  }

  open(row, column) {
    const cell = this._cells.get(`${row}/${column}`);
    document.getElementById("tile-heading").textContent = `Tile in row ${row}, column ${column}`;
    document.getElementById("tile-facts").textContent = cell ? facts(cell) : "not captured yet";
    for (const kind of KINDS) {
      const picture = document.getElementById(`shot-${kind}`);
      picture.closest("figure").hidden = !cell;
      picture.closest("figure").classList.remove("full");
      if (cell) picture.src = `/shots/${row}/${column}/${kind}`;
    }
    if (!this._dialog.open) this._dialog.showModal();
  }

  _prepare(kind) {
    const picture = document.getElementById(`shot-${kind}`);
    const figure = picture.closest("figure");
    const button = document.createElement("button");
    button.type = "button";
    picture.replaceWith(button);
    button.append(picture);
    button.addEventListener("click", () => figure.classList.toggle("full"));
    picture.addEventListener("error", () => {
      figure.hidden = true;
    });
    picture.addEventListener("load", () => {
      figure.hidden = false;
    });
  }
}

function facts(cell) {
  const parts = [cell.status, `${cell.shots} shots`, `F ${number(cell.focus_um, 2)} µm`];
  if (cell.offset_um !== null) {
    parts.push(`best focus at F ${signed(cell.offset_um)} ± ${number(cell.sd_um, 2)} µm`);
  }
  if (cell.quality !== null) parts.push(`quality ${number(cell.quality, 2)}`);
  return parts.join(" · ");
}

function signed(value) {
  return `${value < 0 ? "−" : "+"}${number(Math.abs(value), 2)}`;
}

function field(id) {
  return Number(document.getElementById(id).value);
}
