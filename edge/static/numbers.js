// How numbers and times are written on the page; a dash where there is none.

export function number(value, digits = 0) {
  return Number.isFinite(value) ? value.toFixed(digits) : "–";
}

export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${pad(Math.round(seconds % 60) % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${pad(minutes % 60)} min`;
}

function pad(value) {
  return String(value).padStart(2, "0");
}
