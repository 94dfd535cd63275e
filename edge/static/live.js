// The live page of one scan: reads its state once, then follows the server's news.

import { CloseUp } from "./closeup.js";
import { Controls } from "./controls.js";
import { Overlay } from "./overlay.js";
import { Panel } from "./panel.js";
import { Slide } from "./slide.js";
import { follow } from "./stream.js";

const OVERVIEW_MS = 1000;
const byId = (id) => document.getElementById(id);

async function begin() {
  const response = await fetch("/state.json");
  const state = await response.json();
  if (!response.ok) throw new Error(state.problem);
  const hasViewer = typeof OpenSeadragon !== "undefined";
  byId("title").textContent = state.header.title;
  byId("simulated").hidden = byId("stamp").hidden = !state.header.simulated;
  byId("no-viewer").hidden = hasViewer;

  const slide = new Slide(byId("viewer"), (x, y) => closeUp.openAt(x, y));
  const overlay = new Overlay(slide, state.header, {
    box: byId("legend"),
    bar: byId("legend-bar"),
    lowText: byId("legend-low"),
    highText: byId("legend-high"),
    name: byId("legend-name"),
  });
  const closeUp = new CloseUp(state.header, overlay.cells);
  const panel = new Panel();
  const controls = new Controls(state.can_act, state.may_act);
  slide.onOpen = () => overlay.show(chosenOverlay());
  byId("overlays").addEventListener("change", () => overlay.show(chosenOverlay()));
  byId("zoom-in").addEventListener("click", () => slide.zoom(1.6));
  byId("zoom-out").addEventListener("click", () => slide.zoom(1 / 1.6));
  byId("zoom-home").addEventListener("click", () => slide.home());

  let hasBegun = false;
  follow({
    onNews(news) {
      // A server that tells everything anew is another one: so begin anew.
      if (news.begins && hasBegun) return location.reload();
      hasBegun = true;
      const shape = news.progress.slide;
      byId("waiting").hidden = shape !== null;
      if (shape && hasViewer) {
        slide.open(shape);
        slide.refresh(news.tiles);
      } else if (shape && news.tiles.length + news.begins) {
        showOverview();
      }
      if (news.progress.state === "done") {
        byId("lost-text").textContent =
          "– the scan is done and its program has ended. bifocus live SCAN shows it again.";
      }
      panel.show(news.progress);
      controls.show(news.progress.state);
      overlay.add(news.cells);
    },
    onLost: () => (byId("lost").hidden = false),
    onBack: () => (byId("lost").hidden = true),
  });
  globalThis.bifocusLive = { slide }; // for whoever measures the page from outside
}

let overviewTimer = 0;

function showOverview() {
  if (overviewTimer) return;
  overviewTimer = setTimeout(() => {
    overviewTimer = 0;
    byId("overview").src = `/overview.jpg?at=${Date.now()}`;
  }, OVERVIEW_MS);
}

function chosenOverlay() {
  return document.querySelector("input[name=overlay]:checked").value;
}

begin().catch((error) => {
  byId("state").textContent = "Not reachable";
  byId("reason").textContent = error.message;
});
