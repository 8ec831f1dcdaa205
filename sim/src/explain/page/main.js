// Puts it all together.

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  readColours();
}

// Selects an event and shows it.
function go(number) {
  select(number);
  render();
}

// Shows everything anew. The attributes of the body say what is shown, for tests.
function render() {
  draw();
  showStates();
  showEvent();
  showList();
  markCurrent();
  const event = events[view.selected];
  by("slider").value = view.selected;
  by("moment").textContent = event ? [`step ${event.step}`, timeOf(event.at)].filter(Boolean).join(" · ") : "";
  by("axis").textContent = view.axis === "even" ? "Even spacing" : "True time";
  by("axis").hidden = run.clock === "order";
  by("theme").textContent = document.documentElement.dataset.theme === "dark" ? "Dark" : "Light";
  by("thinned").hidden = drawn.stride === 1;
  by("thinned").textContent = `One of ${drawn.stride} events is drawn, and all that tell how the failure came about: zoom in for the others.`;
  canvas.setAttribute("aria-label", `${COUNT} events of ${run.members.length} members; the lists on this page say the same in words`);
  const shown = { selected: view.selected, step: event?.step, visible: drawn.visible, drawn: drawn.shapes, matches: view.matching.length };
  Object.assign(document.body.dataset, shown);
}

// Begins with the end of the run, or with all of the story where that is short.
function begin() {
  const asked = new URLSearchParams(location.hash.slice(1));
  const prefersDark = window.matchMedia("(prefers-color-scheme: dark)").matches;
  setTheme(asked.get("theme") || (prefersDark ? "dark" : "light"));
  place();
  match();
  listen();
  resize();
  showHead();
  showStory();
  const last = run.failure && run.failure.event !== null ? run.failure.event : COUNT - 1;
  const first = story.length > 0 && last - story[0] <= 250 ? story[0] : Math.max(last - 120, 0);
  showRange(first - 3, last + 4);
  if (asked.get("axis") === "time") setAxis("time");
  go(asked.has("event") ? Number(asked.get("event")) : Math.max(last, 0));
}

begin();
