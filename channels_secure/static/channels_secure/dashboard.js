// Brings the dashboard up to date where it stands: asks for its changing part and puts that in place, piece by piece.

const TIMEOUT = 8000;
const SLOWEST = 60000;
// Milliseconds for which a list stays as it is under a pointer that has just moved: no click meets another line.
const AIMING = 4000;

class Dashboard {
  constructor(root) {
    this.root = root;
    this.interval = Number(root.dataset.interval) * 1000;
    this.wait = this.interval;
    this.status = root.querySelector("[data-cs-status]");
    this.button = root.querySelector("[data-cs-pause]");
    this.isPaused = false;
    this.hasEnded = false;
    this.isAsking = false;
    this.movedAt = -AIMING;
    this.timer = 0;
  }

  begin() {
    this.button.hidden = false;
    this.button.addEventListener("click", () => this.toggle());
    this.root.addEventListener("pointermove", () => { this.movedAt = performance.now(); }, { passive: true });
    document.addEventListener("visibilitychange", () => (document.hidden ? this.stop() : this.update()));
    window.addEventListener("pagehide", () => this.stop());
    window.addEventListener("pageshow", (event) => { if (event.persisted) this.update(); });
    this.schedule();
  }

  get rests() {
    return this.isPaused || this.hasEnded || document.hidden;
  }

  schedule() {
    this.stop();
    if (!this.rests) this.timer = setTimeout(() => this.update(), this.wait);
  }

  stop() {
    clearTimeout(this.timer);
  }

  toggle() {
    this.isPaused = !this.isPaused;
    this.button.setAttribute("aria-pressed", String(this.isPaused));
    this.say(this.isPaused ? "paused" : "running");
    if (this.isPaused) this.stop();
    else this.update();
  }

  async update() {
    if (this.rests || this.isAsking) return;
    this.stop();
    this.isAsking = true;
    try {
      await this.ask();
    } catch {
      this.wait = Math.min(this.wait * 2, SLOWEST);
      if (!this.rests) this.say("stale");
    } finally {
      this.isAsking = false;
      this.schedule();
    }
  }

  async ask() {
    const response = await fetch(this.root.dataset.part, {
      credentials: "same-origin",
      redirect: "manual",
      signal: AbortSignal.timeout(TIMEOUT),
    });
    // A page to log in, or a refusal: asking again would not change that.
    if (response.type === "opaqueredirect" || response.status === 401 || response.status === 403) {
      this.end();
      return;
    }
    if (!response.ok) throw new Error(String(response.status));
    const text = await response.text();
    // What was asked before somebody pressed the button must not change the page after it.
    if (!this.isPaused) this.show(text);
  }

  end() {
    this.hasEnded = true;
    this.button.hidden = true;
    this.say("ended");
  }

  show(text) {
    const fresh = new DOMParser().parseFromString(text, "text/html").querySelector("[data-cs-parts]");
    if (!fresh) throw new Error("no dashboard");
    const isLate = ["stale", "paused"].includes(this.root.dataset.state);
    this.wait = this.interval;
    for (const part of fresh.querySelectorAll("[data-cs-part]")) {
      const old = this.root.querySelector(`[data-cs-part="${part.dataset.csPart}"]`);
      if (old) this.replace(old, part);
    }
    if (isLate) this.say("running");
  }

  replace(old, fresh) {
    if (this.isInUse(old)) return;
    const places = [...old.querySelectorAll(".cs-scroll")].map((each) => [each.scrollLeft, each.scrollTop]);
    old.querySelectorAll("details").forEach((each, number) => {
      const same = fresh.querySelectorAll("details")[number];
      if (same) same.open = each.open;
    });
    if (old.innerHTML === fresh.innerHTML) return;
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    const next = focused && sameIn(fresh, old, focused);
    // What has the focus is gone from the list: the list stays until the focus has left it.
    if (focused && !next) return;
    // In one step: the section itself stays, and so does where the page is scrolled to.
    old.replaceChildren(...fresh.childNodes);
    old.querySelectorAll(".cs-scroll").forEach((each, number) => {
      [each.scrollLeft, each.scrollTop] = places[number] ?? [0, 0];
    });
    if (next) next.focus({ preventScroll: true });
  }

  isInUse(part) {
    const selection = document.getSelection();
    if (selection && !selection.isCollapsed && selection.containsNode(part, true)) return true;
    return part.matches(":hover") && performance.now() - this.movedAt < AIMING;
  }

  say(state) {
    if (this.root.dataset.state === state && state !== "running") return;
    this.root.dataset.state = state;
    const time = this.root.querySelector("[data-cs-updated]")?.textContent ?? "";
    this.status.textContent = (this.root.dataset[state] ?? "").replace("{time}", time);
  }
}

// The element of the new part that is what another was in the old one.
function sameIn(fresh, old, element) {
  if (element.matches("a[href]")) {
    return [...fresh.querySelectorAll("a[href]")].find((each) => each.getAttribute("href") === element.getAttribute("href"));
  }
  const name = element.localName;
  return fresh.querySelectorAll(name)[[...old.querySelectorAll(name)].indexOf(element)];
}

for (const root of document.querySelectorAll("[data-cs-dashboard]")) new Dashboard(root).begin();
