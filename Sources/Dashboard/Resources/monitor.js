// Live updates for pages that are complete without them.
(() => {
  "use strict";

  // MARK: Signing in by a link

  // './dcm up' prints a link with the token behind '#', which browsers keep to themselves. It leaves the address bar at once.
  const handed = /^#token=([^&]+)$/.exec(location.hash);
  if (handed) {
    history.replaceState(null, "", location.pathname + location.search);
    const form = document.getElementById("sign-in");
    // After a refusal the form is for the person in front of it.
    if (form && !form.querySelector("[role=alert]")) {
      form.elements.token.value = decodeURIComponent(handed[1]);
      form.requestSubmit();
    }
  }

  // MARK: Times in the reader's zone

  const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
  const day = new Intl.DateTimeFormat(undefined, { day: "2-digit", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const minute = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const date = new Intl.DateTimeFormat(undefined, { day: "2-digit", month: "short" });
  const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long", hourCycle: "h23" });

  function relative(seconds) {
    if (seconds < 5) return "now";
    if (seconds < 60) return `${Math.floor(seconds)} s ago`;
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
    if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
    return null;
  }

  function showTimes(root) {
    const now = Date.now();
    for (const element of root.querySelectorAll("time[datetime]")) {
      const moment = new Date(element.dateTime);
      const age = (now - moment) / 1000;
      const sameDay = moment.toDateString() === new Date(now).toDateString();
      // Below a chart there is room for what tells its marks apart, and no more.
      const short = element.closest(".axis") && (element.closest("[data-days]") ? date : minute);
      const text = (element.hasAttribute("data-relative") && relative(age)) || (short || (sameDay ? clock : day)).format(moment);
      if (element.textContent !== text) element.textContent = text;
      element.title = full.format(moment);
    }
  }

  // MARK: The page's live parts

  let isLoading = false;
  let isStale = false;
  let timer;
  // When the next look may begin.
  let nextLook = 0;

  // What people opened or are typing into stays as they left it.
  function isBusy(part) {
    return part.contains(document.activeElement) && document.activeElement.matches("input, textarea, button, summary")
      || part.querySelector("details.confirm[open], input[type=checkbox]:checked") !== null;
  }

  function replace(part, fresh) {
    if (part.dataset.seen === fresh.innerHTML) return;
    // Rows have the same words: what stands in one has an id.
    const name = (box) => box.id || box.querySelector("summary").textContent;
    const open = new Set([...part.querySelectorAll("details[open]")].map(name));
    const closed = new Set([...part.querySelectorAll("details:not([open])")].map(name));
    const focused = focusIn(part);
    const scrolled = [...part.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
    const markup = fresh.innerHTML;
    part.replaceChildren(...fresh.childNodes);
    part.dataset.seen = markup;
    for (const box of part.querySelectorAll("details")) {
      if (open.has(name(box))) box.open = true;
      if (closed.has(name(box))) box.open = false;
    }
    part.querySelectorAll(".scroll").forEach((box, index) => { box.scrollLeft = scrolled[index] ?? 0; });
    showTimes(part);
    focused?.();
  }

  // Whoever goes through the page by keyboard stays where they are.
  function focusIn(part) {
    const element = document.activeElement;
    if (!part.contains(element)) return null;
    const selector = element.matches("a[href]") ? `a[href="${CSS.escape(element.getAttribute("href"))}"]` : element.matches(".scroll") ? ".scroll" : null;
    if (!selector) return null;
    const index = [...part.querySelectorAll(selector)].indexOf(element);
    return () => part.querySelectorAll(selector)[index]?.focus({ preventScroll: true });
  }

  async function refresh() {
    if (isLoading) { isStale = true; return; }
    isLoading = true;
    const begun = performance.now();
    try {
      const response = await fetch(location.href.split("#")[0], { headers: { Accept: "text/html" }, redirect: "manual" });
      // To where one signs in: whoever is typing here keeps what stands here.
      if (response.type === "opaqueredirect") return leave();
      if (!response.ok) return;
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      for (const part of document.querySelectorAll("[data-live][id]")) {
        const fresh = page.getElementById(part.id);
        if (fresh && !isBusy(part)) replace(part, fresh);
      }
      readAt = new Date();
      // While much happens, a page may be a moment older than what the stream has told.
      if (Number(page.body.dataset.fact) < Number(last)) soon();
    } catch {
      // The stream's own state says that the monitor is away.
    } finally {
      isLoading = false;
      // While much happens a page looks every two and a half seconds, and asks a slow monitor less often.
      nextLook = begun + Math.max(2500, Math.min(10 * (performance.now() - begun), 10000));
      if (isStale) { isStale = false; soon(); }
    }
  }

  function soon() {
    if (!timer) timer = setTimeout(() => { timer = undefined; refresh(); }, Math.max(700, nextLook - performance.now()));
  }

  // MARK: The stream

  const body = document.body;
  const sign = document.getElementById("live");
  let source;
  let last = body.dataset.fact;

  // When the page's parts were last read.
  let readAt = new Date();

  function say(isOn, text) {
    if (!sign) return;
    sign.classList.toggle("on", isOn);
    sign.classList.toggle("off", !isOn);
    sign.textContent = isOn ? text : `${text}, as of ${clock.format(readAt)}`;
    sign.title = isOn ? "This page follows what happens." : "The monitor does not answer: what the page shows is as it was then.";
  }

  // The session is over: nothing follows until somebody has signed in again.
  let isSignedOut = false;

  function leave() {
    isSignedOut = true;
    disconnect();
    say(false, "signed out");
    if (sign) sign.title = "Load the page again to sign in. What it shows is as it was then.";
  }

  function connect() {
    if (source || isSignedOut || last === undefined || document.hidden) return;
    const query = new URLSearchParams({ after: last });
    if (body.dataset.run) query.set("run", body.dataset.run);
    source = new EventSource(`/api/v1/stream?${query}`);
    // The page knows of its newest fact, but its parts may have been read a moment before: what came in between is shown now.
    source.onopen = () => { say(true, "live"); soon(); };
    source.onerror = () => {
      say(false, "reconnecting");
      // A refusal ends the stream for good, so ask again ourselves. The page's own address says whether the session is over.
      if (source && source.readyState === EventSource.CLOSED) { disconnect(); refresh(); setTimeout(connect, 5000); }
    };
    source.addEventListener("fact", (event) => { last = event.lastEventId; soon(); });
    // What happened in between is not on record any more: the page's parts are read anew, and the stream goes on from there.
    source.addEventListener("reset", (event) => { last = event.lastEventId; soon(); });
    source.addEventListener("bulk", () => { if (document.getElementById("bulk")) soon(); });
  }

  function disconnect() {
    if (source) source.close();
    source = undefined;
  }

  // Hidden pages cost nothing. Back again, they go on where they were.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { disconnect(); } else { connect(); refresh(); tail(); }
  });
  addEventListener("pagehide", disconnect);

  // MARK: The log

  const log = document.querySelector("pre[data-log]");
  let isTailing = false;

  async function tail() {
    if (!log || !log.hasAttribute("data-tail") || isTailing || document.hidden) return;
    isTailing = true;
    let pause = 1000;
    try {
      const response = await fetch(`${log.dataset.log}&offset=${log.dataset.next}&style=${log.dataset.ansi}`);
      if (response.ok) {
        const piece = await response.json();
        if (piece.html) {
          const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
          // The monitor has escaped every character that the job printed.
          log.insertAdjacentHTML("beforeend", piece.html);
          log.dataset.ansi = piece.style;
          if (log.textContent.length > 2000000) {
            let left = 1000000;
            for (const span of [...log.childNodes].reverse()) {
              if (left <= 0) span.remove();
              left -= span.textContent.length;
            }
          }
          if (isAtEnd) log.scrollTop = log.scrollHeight;
          pause = 300;
        }
        log.dataset.next = piece.next;
        if (piece.eof) {
          log.removeAttribute("data-tail");
          document.getElementById("tail")?.remove();
        }
      }
    } catch {
      pause = 4000;
    }
    isTailing = false;
    if (log.hasAttribute("data-tail")) setTimeout(tail, pause);
  }

  // MARK: Start

  showTimes(document);
  setInterval(() => showTimes(document), 5000);
  // Durations of what runs grow although nothing happens.
  setInterval(() => { if (last !== undefined && !document.hidden && document.querySelector(".s-running, .s-active, .s-dispatched")) soon(); }, 5000);
  for (const part of document.querySelectorAll("[data-live][id]")) part.dataset.seen = "";
  for (const select of document.querySelectorAll(".filter select")) select.addEventListener("change", () => select.form.requestSubmit());
  // Empty fields say nothing: addresses stay short enough to pass on.
  document.querySelector("form.filter")?.addEventListener("formdata", (event) => {
    for (const [name, value] of [...event.formData]) if (!value) event.formData.delete(name);
  });
  if (log) {
    log.scrollTop = log.scrollHeight;
    const name = document.getElementById("tail");
    if (name) name.textContent = "live";
    tail();
  }
  connect();
  addEventListener("keydown", (event) => {
    if (event.key === "Escape") document.querySelectorAll("details.confirm[open]").forEach((box) => { box.open = false; });
    if (event.key === "/" && !event.target.matches("input, textarea")) {
      const search = document.querySelector("input[type=search]");
      if (search) { event.preventDefault(); search.focus(); }
    }
  });
})();
