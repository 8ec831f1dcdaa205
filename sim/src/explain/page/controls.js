// What a reader does: keys, the mouse, the slider, search and filters.

const KINDS = {
  timer: "timers", election: "votes and transfers", entries: "entries", heartbeat: "heartbeats",
  other: "reads, snapshots, repair", client: "clients and operators", disk: "disks", machine: "state machines",
  fault: "faults", crash: "crashes", restart: "restarts",
};

const KEYS = [
  ["← →", "the event before, the event after"],
  ["shift ← →", "the same, of the same member"],
  ["Home End", "the first event, the last"],
  ["c C", "the next event of the story, the one before"],
  ["v", "the violation"],
  ["i", "where the failure became inevitable, if that is known"],
  ["p", "only the past of the violation, or all"],
  ["f", "highlight the full causal past of the violation, or the relevant part of it"],
  ["+ −", "zoom in, zoom out; also the mouse wheel"],
  ["w", "the whole run"],
  ["t", "space events by time, or evenly"],
  ["/", "search; Enter goes to the next match"],
  ["d", "light or dark"],
  ["?", "this list; Esc closes it"],
];

const SIGNS = [
  ["thick line, L", "leader; its term is the number, and the colour"],
  ["dashed line, C", "candidate; dotted, P: pre-candidate"],
  ["thin line, F", "follower"],
  ["grey, ✕", "a member that crashed, and is down"],
  ["arrow", "a message; thick: the story tells what it brought; coloured: in the past that is highlighted"],
  ["dashed stub, ✕", "a message that did not arrive; without ✕: on its way at the end, or not seen any further"],
  ["dotted arrows", "a message that arrived twice"],
  ["dash and dot", "a message that was delayed, or that a later one overtook"],
  ["dots below a lane", "a write that is pending; ■ durable; ✕ a crash came first"],
  ["◆ above a lane", "a request of a client, until it is answered"],
  ["▲ ▼", "the commit index rises; entries are applied"],
  ["red band", "a fault that lasts"],
  ["circle, number", "an event of the story: it tells how the failure came about"],
];

function selectAmong(numbers, by) {
  go(stepAmong(numbers, by));
}

function ofSameMember() {
  const lane = events[view.selected]?.member;
  return view.matching.filter((number) => events[number].member === lane);
}

const ACTIONS = {
  "+": () => zoom(0.6),
  "=": () => zoom(0.6),
  "-": () => zoom(1 / 0.6),
  w: () => showRange(...extent()),
  t: () => setAxis(view.axis === "even" && run.clock !== "order" ? "time" : "even"),
  d: () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"),
  v: () => run.failure && run.failure.event !== null && select(run.failure.event),
  i: () => inevitable >= 0 && select(inevitable),
  c: () => select(stepAmong(story, 1)),
  C: () => select(stepAmong(story, -1)),
  Home: () => select(0),
  End: () => select(COUNT - 1),
  p: () => by("only-past").click(),
  f: () => run.failure && by("full-past").click(),
  "?": () => by("keys").showModal(),
  "/": () => by("search").focus(),
};

function onKey(key) {
  const isOpen = by("keys").open;
  const isTyping = document.activeElement === by("search");
  if (isTyping && key.key === "Enter") return selectAmong(view.matching, 1);
  if (isTyping && key.key === "Escape") return canvas.focus();
  if (isOpen || isTyping || key.ctrlKey || key.metaKey || key.altKey) return;
  if (key.key === "ArrowLeft" || key.key === "ArrowRight") {
    selectAmong(key.shiftKey ? ofSameMember() : view.matching, key.key === "ArrowRight" ? 1 : -1);
  } else if (ACTIONS[key.key]) {
    ACTIONS[key.key]();
    render();
  } else return;
  key.preventDefault();
}

function nearest(x, y) {
  const distance = (mark) => Math.hypot(mark.x - x, mark.y - y);
  const near = drawn.marks.filter((mark) => distance(mark) < 14);
  return near.sort((one, other) => distance(one) - distance(other))[0];
}

// Draws once for all that the mouse did since the last frame.
let isDue = false;

function redrawSoon() {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(() => {
    isDue = false;
    render();
  });
}

function listenToCanvas() {
  let held = null;
  canvas.addEventListener("pointerdown", (at) => {
    held = { x: at.offsetX, from: view.from, to: view.to, moved: false };
    canvas.setPointerCapture(at.pointerId);
  });
  canvas.addEventListener("pointermove", (at) => {
    if (held) {
      const by = ((held.x - at.offsetX) / (canvas.clientWidth - GUTTER)) * (held.to - held.from);
      held.moved ||= Math.abs(held.x - at.offsetX) > 3;
      if (held.moved) showRange(held.from + by, held.to + by);
      return held.moved && redrawSoon();
    }
    const mark = nearest(at.offsetX, at.offsetY);
    canvas.title = mark ? events[mark.number].fact || textOf(mark.number) : "";
  });
  canvas.addEventListener("pointerup", (at) => {
    const mark = held && !held.moved && nearest(at.offsetX, at.offsetY);
    held = null;
    if (mark) go(mark.number);
  });
  canvas.addEventListener("wheel", (wheel) => {
    wheel.preventDefault();
    const width = view.to - view.from;
    if (wheel.shiftKey || Math.abs(wheel.deltaX) > Math.abs(wheel.deltaY)) {
      const by = ((wheel.deltaX || wheel.deltaY) / canvas.clientWidth) * width;
      showRange(view.from + by, view.to + by);
    } else zoom(Math.exp(wheel.deltaY / 400), placeAt(wheel.offsetX));
    redrawSoon();
  }, { passive: false });
}

// A list of boxes, one for each thing that may be hidden.
function boxes(into, names, hidden) {
  names.forEach(([value, name]) => {
    const box = make("input", { type: "checkbox", checked: true });
    box.dataset.hides = value;
    box.addEventListener("change", () => {
      if (box.checked) hidden.delete(value);
      else hidden.add(value);
      match();
      render();
    });
    into.append(make("label", {}, box, ` ${name}`));
  });
}

function listen() {
  document.addEventListener("keydown", onKey);
  listenToCanvas();
  by("slider").max = Math.max(COUNT - 1, 0);
  by("slider").addEventListener("input", () => go(Number(by("slider").value)));
  by("search").addEventListener("input", () => {
    view.query = by("search").value;
    match();
    render();
  });
  const buttons = { "zoom-in": "+", "zoom-out": "-", whole: "w", axis: "t", theme: "d", help: "?", "to-failure": "v" };
  for (const [id, key] of Object.entries(buttons)) {
    by(id).addEventListener("click", () => {
      ACTIONS[key]();
      render();
    });
  }
  const kinds = new Set([...events, ...messages].map((one) => one.kind));
  boxes(by("kinds"), Object.entries(KINDS).filter(([kind]) => kinds.has(kind)), view.hiddenKinds);
  boxes(by("lanes"), run.members.map((member, lane) => [lane, `member ${member}`]), view.hiddenLanes);
  by("parts").hidden = !run.failure;
  by("only-past").addEventListener("change", () => {
    view.onlyPast = by("only-past").checked;
    match();
    render();
  });
  by("full-past").addEventListener("change", () => {
    past = by("full-past").checked ? PASTS.full : PASTS.relevant;
    match();
    render();
  });
  const rows = (into, pairs) => into.append(...pairs.map(([sign, text]) => make("tr", {}, make("th", {}, make("kbd", {}, sign)), make("td", {}, text))));
  rows(by("key-rows"), KEYS);
  rows(by("sign-rows"), SIGNS);
  window.addEventListener("resize", () => {
    resize();
    render();
  });
}
