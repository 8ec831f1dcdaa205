// What is beside the canvas: the states of members, the selected event, the story and the list of events.

const by = (id) => document.getElementById(id);
// How many events are listed at once.
const LISTED = 200;

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// A button that leads to an event.
function leading(number, className, ...children) {
  const button = make("button", { className, type: "button" }, ...children);
  button.dataset.event = number;
  button.addEventListener("click", () => go(number));
  return button;
}

function stamp(number) {
  const event = events[number];
  return make("time", {}, `${event.step}${run.clock === "order" ? "" : ` · ${timeOf(event.at)}`}`);
}

// The cells of a state, by the columns of the table.
function cells(state) {
  if (typeof state !== "object" || state === null) {
    return [state || "not seen yet", "", "", "", "", "", "", "", ""];
  }
  const { role, term, vote, leader, last, durable, committed, applied, snapshot } = state;
  const isPending = last[0] !== durable[0] || last[1] !== durable[1];
  return [
    `${LETTERS[role]} ${role}`, term, vote ?? "none", leader ?? "none", entry(last),
    isPending ? `${entry(durable)} (rest pending)` : entry(durable), committed, applied, entry(snapshot),
  ].map(String);
}

function showStates() {
  const rows = run.members.map((member, lane) => {
    const isOwn = events[view.selected]?.member === lane;
    const now = cells(COUNT > 0 ? stateAt(lane, view.selected) : null);
    const before = isOwn && view.selected > 0 ? cells(stateAt(lane, view.selected - 1)) : now;
    const row = make("tr", { className: isOwn ? "own" : "" }, make("th", { scope: "row" }, `Member ${member}`));
    row.dataset.member = member;
    now.forEach((text, column) => {
      const isChanged = text !== before[column];
      const cell = make("td", { className: isChanged ? "changed" : "" }, text);
      if (isChanged) cell.append(make("small", {}, ` was ${before[column] || "unknown"}`));
      row.append(cell);
    });
    return row;
  });
  document.querySelector("#states tbody").replaceChildren(...rows);
}

// Where a message went, or came from, as buttons.
function messageLine(number, isSent) {
  const message = messages[number];
  const fate = fateText(message);
  const line = make("div", {}, message.text, fate ? ` (${fate}) ` : " ");
  const ends = isSent ? message.arrived : message.sent === null ? [] : [message.sent];
  ends.forEach((end) => line.append(leading(end, "to", isSent ? `arrives in step ${events[end].step}` : `sent in step ${events[end].step}`)));
  return line;
}

// In which past of the failure an event is, if it is in one.
function placeInPast(number) {
  if (PASTS.relevant.has(number)) return "in the relevant past of the failure";
  return PASTS.full.has(number) && "in the full past of the failure";
}

function showEvent() {
  const event = events[view.selected];
  if (!event) return by("event").replaceChildren("Nothing happened.");
  const rows = make("dl");
  const row = (name, ...content) => rows.append(make("dt", {}, name), make("dd", {}, ...content));
  const when = [`step ${event.step}`, timeOf(event.at)].filter(Boolean).join(", ");
  row("When", `${when}, event ${view.selected + 1} of ${COUNT}`);
  if (event.member !== undefined) row("Where", nameOf(event.member));
  if (event.received === undefined) row("What", event.what);
  else row("Got", messageLine(event.received, false));
  (event.did || []).forEach((did) => row("Did", did));
  (event.sent || []).forEach((message) => row("Sent", messageLine(message, true)));
  if (event.fact) row("Means", event.fact);
  if (event.causes) row("Follows from", ...event.causes.flatMap((cause) => [leading(cause, "to", `step ${events[cause].step}`), " "]));
  const place = [inStory.has(view.selected) && "tells how the failure came about", placeInPast(view.selected)];
  if (place.some(Boolean)) row("Part", place.filter(Boolean).join("; "));
  by("event").replaceChildren(rows);
}

function showStory() {
  by("story-card").hidden = story.length === 0 && !run.failure;
  by("story-title").textContent = run.failure ? "How it came about" : "In words";
  by("story").replaceChildren(...story.map((number, position) =>
    make("li", {}, leading(number, "", `${position + 1}. `, stamp(number), events[number].fact || textOf(number)))));
  if (!run.failure) return;
  by("who").hidden = run.failure.parts.length === 0;
  by("who").replaceChildren(...run.failure.parts.map(([text, event]) =>
    make("li", {}, event === null ? text : leading(event, "", text))));
  by("inevitable").hidden = inevitable < 0;
  if (inevitable >= 0) {
    by("inevitable").replaceChildren("Inevitable from ", leading(inevitable, "to", `step ${run.inevitable}`), " on: whatever luck the run has then, it fails.");
  }
  by("failure").hidden = false;
  by("failure").textContent = `✗ ${run.failure.property}: ${run.failure.detail}`;
  const [relevant, full] = [PASTS.relevant.size, PASTS.full.size];
  by("past-size").textContent = `The relevant past has ${relevant} events, of ${full} in the full causal past; f highlights the one or the other, c goes through these ${story.length}.`;
}

// What an event means, where it means something, and what happened.
function listed(number) {
  const { fact } = events[number];
  return fact && fact !== events[number].what ? [fact, make("span", { className: "soft" }, ` · ${textOf(number)}`)] : [textOf(number)];
}

// The events that match, those around the selected one.
function showList() {
  const { matching } = view;
  const at = firstFrom(matching.length, (position) => matching[position], view.selected);
  const first = Math.max(Math.min(at - LISTED / 2, matching.length - LISTED), 0);
  const rows = matching.slice(first, first + LISTED).map((number) =>
    make("li", {}, leading(number, "", stamp(number), inStory.has(number) ? "★ " : "", ...listed(number))));
  by("list").replaceChildren(...rows);
  by("count").textContent = `${matching.length} of ${COUNT} events`;
}

function markCurrent() {
  document.querySelectorAll("li button[data-event]").forEach((button) => {
    button.setAttribute("aria-current", String(Number(button.dataset.event) === view.selected));
  });
  const list = by("list");
  const current = list.querySelector('[aria-current="true"]');
  if (current) list.scrollTop = current.offsetTop - list.offsetTop - list.clientHeight / 2;
}

function showHead() {
  const isBad = Boolean(run.failure);
  by("outcome").textContent = `${isBad ? "✗" : "✓"} ${run.outcome}`;
  by("outcome").classList.toggle("bad", isBad);
  by("left-out").hidden = run.left_out === 0;
  by("left-out").textContent = `The first ${run.left_out} steps are left out; replay --trace shows all.`;
  by("to-failure").hidden = !isBad;
}
