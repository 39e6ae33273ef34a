// The line to gatewayd-web. A browser's own reconnecting gives up for good when a proxy answers with an error, and
// does not notice a line that is dead; so this one reconnects by itself.

// The process sends a beat every 15 s when there is nothing else.
const SILENCE_MS = 40_000;
const [FIRST_PAUSE_MS, LONGEST_PAUSE_MS] = [1_000, 15_000];

/** Calls `onNews` with each piece of news, and `onState` with whether the line is up. Returns { restart }. */
export function follow(onNews, onState) {
  let source = null;
  let timer = 0;
  let pause = FIRST_PAUSE_MS;

  function open() {
    close();
    source = new EventSource("events");
    source.onmessage = (event) => {
      pause = FIRST_PAUSE_MS;
      heard();
      onNews(JSON.parse(event.data));
    };
    source.addEventListener("beat", heard);
    source.onerror = lost;
    timer = setTimeout(lost, SILENCE_MS);
  }

  function close() {
    clearTimeout(timer);
    source?.close();
    source = null;
  }

  function heard() {
    onState(true);
    clearTimeout(timer);
    timer = setTimeout(lost, SILENCE_MS);
  }

  function lost() {
    close();
    onState(false);
    timer = setTimeout(open, pause);
    pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
  }

  // A phone that wakes up does not wait for the rest of a pause.
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible" && source === null) open();
  });
  open();
  return { restart: open };
}
