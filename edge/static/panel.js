// The numbers beside the slide.

import { duration, number } from "./numbers.js";

const STATES = {
  running: "Scanning",
  paused: "Paused",
  stopping: "Stopping",
  done: "Done",
  failed: "Failed",
};
const SAID_SHARE = 0.25;

export class Panel {
  constructor() {
    this._state = "";
    this._said = 0;
    this._faults = -1;
  }

  show(progress) {
    const { captured, total, state } = progress;
    text("captured", number(captured));
    text("total", number(total));
    text("left", duration(progress.left_s));
    text("elapsed", duration(progress.elapsed_s));
    text("rate", number(progress.tiles_per_minute, 1));
    text("fused", number(progress.fused));
    text("blank", number(progress.blank));
    text("flagged", number(progress.flagged));
    text("reason", progress.reason);
    const bar = document.getElementById("progress");
    bar.max = total || 1;
    bar.value = captured;
    const pill = document.getElementById("state");
    pill.textContent = STATES[state] || state;
    pill.className = `pill ${state}`;
    this._say(progress);
    this._showFaults(progress);
    fill("waits", Object.entries(progress.waits_s), ([name, seconds]) => [
      name.replace(/_s$/, ""),
      number(seconds, 1),
    ]);
    fill("timings", Object.entries(progress.timings_ms), ([name, times]) => [
      name,
      number(times.p50, 0),
      number(times.p95, 0),
      number(times.p99, 0),
    ]);
    document.title = `${Math.floor((100 * captured) / (total || 1))} % – ${STATES[state] || state} – bifocus`;
  }

  // Tell those who listen instead of look: each change of state, and now and then.
  _say({ state, captured, total }) {
    const share = captured / (total || 1);
    const isStep = Math.floor(share / SAID_SHARE) > Math.floor(this._said / SAID_SHARE);
    if (state === this._state && !isStep) return;
    this._state = state;
    this._said = share;
    text("told", `${STATES[state] || state}: ${captured} of ${total} tiles captured`);
  }

  _showFaults({ faults, n_faults: count }) {
    if (count === this._faults) return;
    this._faults = count;
    const list = document.getElementById("faults");
    const items = faults.map((fault) => item(fault, "")).reverse();
    if (count > faults.length) items.push(item(`and ${count - faults.length} earlier`, "soft"));
    list.replaceChildren(...(items.length ? items : [item("none", "soft")]));
  }
}

export function text(id, value) {
  const element = document.getElementById(id);
  if (element.textContent !== value) element.textContent = value;
}

function item(content, kind) {
  const element = document.createElement("li");
  element.textContent = content;
  if (kind) element.className = kind;
  return element;
}

function fill(id, entries, cells) {
  const body = document.querySelector(`#${id} tbody`);
  const rows = entries.map((entry) => {
    const row = document.createElement("tr");
    cells(entry).forEach((content, index) => {
      const cell = document.createElement(index ? "td" : "th");
      if (!index) {
        cell.className = "text";
        cell.scope = "row";
      }
      cell.textContent = content;
      row.append(cell);
    });
    return row;
  });
  if (!rows.length) {
    const row = document.createElement("tr");
    row.append(document.createElement("td"));
    row.firstChild.textContent = "–";
    rows.push(row);
  }
  body.replaceChildren(...rows);
}
