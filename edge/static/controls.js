// Pause, resume and stop; only a browser that holds the token may.

import { text } from "./panel.js";

export class Controls {
  constructor(canAct, mayAct) {
    this._canAct = canAct;
    this._mayAct = mayAct;
    this._state = "";
    this._pause = document.getElementById("pause");
    this._stop = document.getElementById("stop");
    this._dialog = document.getElementById("stop-dialog");
    this._pause.addEventListener("click", () =>
      this._ask(this._state === "paused" ? "resume" : "pause"),
    );
    this._stop.addEventListener("click", () => this._dialog.showModal());
    on("stop-no", "click", () => this._dialog.close());
    on("stop-yes", "click", () => {
      this._dialog.close();
      this._ask("stop");
    });
    on("unlock", "submit", (event) => {
      event.preventDefault();
      this._unlock();
    });
    this._show();
  }

  show(state) {
    if (state === this._state) return;
    this._state = state;
    text("answer", "");
    this._show();
  }

  _show() {
    const isGoing = this._state === "running" || this._state === "paused";
    const isOver = this._state === "done" || this._state === "failed";
    document.getElementById("controls").hidden = !this._canAct || !this._mayAct || isOver;
    document.getElementById("unlock").hidden = !this._canAct || this._mayAct || isOver;
    this._pause.textContent = this._state === "paused" ? "Resume" : "Pause";
    this._pause.disabled = this._stop.disabled = !isGoing;
    if (isOver && this._dialog.open) this._dialog.close();
  }

  async _ask(action) {
    this._pause.disabled = true;
    const answer = await post(`/control/${action}`, {});
    if (answer.ok) {
      const after = action === "resume" ? "" : " after the tile at hand";
      text("answer", `asked to ${action}${after}`);
    } else {
      text("answer", answer.problem);
    }
    this._pause.disabled = false;
  }

  async _unlock() {
    const field = document.getElementById("token");
    const answer = await post("/session", { token: field.value });
    field.value = "";
    text("answer", answer.ok ? "" : answer.problem);
    if (!answer.ok) return;
    this._mayAct = true;
    this._show();
    this._pause.focus();
  }
}

async function post(path, body) {
  try {
    const response = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    const { problem = "" } = await response.json();
    return { ok: response.ok, problem };
  } catch {
    return { ok: false, problem: "the scan's program does not answer" };
  }
}

function on(id, event, action) {
  document.getElementById(id).addEventListener(event, action);
}
