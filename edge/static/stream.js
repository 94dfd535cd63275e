// The server's news: goes on after a lost connection where it was cut, and rests while
// the page is not looked at.

const RETRY_MS = 1500;

export function follow({ onNews, onLost, onBack }) {
  let source = null;
  let seen = "";
  let timer = 0;

  function open() {
    clearTimeout(timer);
    close();
    source = new EventSource(seen ? `/events?after=${seen}` : "/events");
    source.onopen = onBack;
    source.onmessage = (event) => {
      seen = event.lastEventId;
      onNews(JSON.parse(event.data));
    };
    source.onerror = () => {
      onLost();
      // After an answer such as "too many pages" a browser gives up; we do not.
      if (source.readyState === EventSource.CLOSED) timer = setTimeout(open, RETRY_MS);
    };
  }

  function close() {
    if (source) source.close();
    source = null;
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      clearTimeout(timer);
      close();
    } else {
      open();
    }
  });
  window.addEventListener("pagehide", close);
  open();
}
