// What is known of each tile, as colours over the slide: focus, offset, quality.

import { number } from "./numbers.js";

// Colours of Okabe and Ito, told apart with any colour vision; lightness runs too.
const SCALES = {
  focus: ["#2b1a5e", "#0072b2", "#2aa58a", "#e9d35b"],
  offset: ["#0072b2", "#f2f2f2", "#d55e00"],
  quality: ["#d55e00", "#f0c36a", "#0072b2"],
};
const NAMES = {
  focus: "height of best focus, µm",
  offset: "best focus minus planned focus, µm",
  quality: "quality of the fusion, 0 to 1",
};
const MOST_PX = 2048;

export class Overlay {
  constructor(slide, header, legend) {
    this._slide = slide;
    this._header = header;
    this._legend = legend;
    this._cells = new Map();
    this._kind = "none";
    this._canvas = document.createElement("canvas");
    this._canvas.className = "overlay";
    this._canvas.setAttribute("aria-hidden", "true");
    this._isAsked = false;
  }

  get cells() {
    return this._cells;
  }

  add(cells) {
    for (const cell of cells) this._cells.set(`${cell.row}/${cell.column}`, cell);
    if (cells.length) this._ask();
  }

  show(kind) {
    this._kind = kind;
    this._ask();
  }

  // Draw once before the next frame, however many changes came.
  _ask() {
    if (this._isAsked) return;
    this._isAsked = true;
    requestAnimationFrame(() => {
      this._isAsked = false;
      this._draw();
    });
  }

  _draw() {
    const { grid, origin_px, step_px, field_px } = this._header;
    this._canvas.hidden = this._legend.box.hidden = this._kind === "none";
    if (this._kind === "none" || !this._slide.viewer) return;
    const known = [...this._cells.values()].filter((cell) => value(cell, this._kind) !== null);
    const [low, high] = span(known, this._kind);
    const [rows, columns] = grid;
    const side = Math.max(1, Math.min(24, Math.floor(MOST_PX / Math.max(rows, columns))));
    this._canvas.width = columns * side;
    this._canvas.height = rows * side;
    const pen = this._canvas.getContext("2d");
    for (const cell of known) {
      const share = (value(cell, this._kind) - low) / (high - low || 1);
      pen.fillStyle = colour(SCALES[this._kind], share);
      pen.fillRect(cell.column * side, cell.row * side, side, side);
    }
    this._outline(pen, side);
    this._drawLegend(low, high);
    // Each colour is as large as the step, in the middle of its tile.
    this._slide.overlay(
      this._canvas,
      origin_px[0] + (field_px[0] - step_px[0]) / 2,
      origin_px[1] + (field_px[1] - step_px[1]) / 2,
      columns * step_px[0],
      rows * step_px[1],
    );
  }

  _outline(pen, side) {
    pen.lineWidth = Math.max(1, side / 8);
    pen.strokeStyle = "#000";
    for (const cell of this._cells.values()) {
      if (cell.status !== "flagged") continue;
      const inset = pen.lineWidth / 2;
      pen.strokeRect(
        cell.column * side + inset,
        cell.row * side + inset,
        side - 2 * inset,
        side - 2 * inset,
      );
    }
  }

  _drawLegend(low, high) {
    const { bar, lowText, highText, name } = this._legend;
    const pen = bar.getContext("2d");
    for (let x = 0; x < bar.width; x++) {
      pen.fillStyle = colour(SCALES[this._kind], x / (bar.width - 1));
      pen.fillRect(x, 0, 1, bar.height);
    }
    lowText.textContent = number(low, 2);
    highText.textContent = number(high, 2);
    name.textContent = `${NAMES[this._kind]}; outlined: flagged, clear: blank or not yet known`;
  }
}

function value(cell, kind) {
  if (cell.status === "blank") return null;
  if (kind === "quality") return cell.quality ?? null;
  if (cell.offset_um === null || cell.offset_um === undefined) return null;
  return kind === "offset" ? cell.offset_um : cell.focus_um + cell.offset_um;
}

// Flagged tiles do not set the scale: one outlier would bleach all others.
function span(cells, kind) {
  if (kind === "quality") return [0, 1];
  const sure = cells.filter((cell) => cell.status !== "flagged");
  const values = (sure.length ? sure : cells).map((cell) => value(cell, kind));
  if (!values.length) return [0, 0];
  const low = values.reduce((a, b) => Math.min(a, b));
  const high = values.reduce((a, b) => Math.max(a, b));
  const limit = Math.max(Math.abs(low), Math.abs(high));
  return kind === "offset" ? [-limit, limit] : [low, high];
}

function colour(stops, share) {
  const place = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const index = Math.min(Math.floor(place), stops.length - 2);
  const mixed = [1, 3, 5].map((at) => {
    const from = parseInt(stops[index].slice(at, at + 2), 16);
    const to = parseInt(stops[index + 1].slice(at, at + 2), 16);
    return Math.round(from + (to - from) * (place - index));
  });
  return `rgb(${mixed.join(" ")})`;
}
