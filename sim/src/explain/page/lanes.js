// The canvas: a lane for each member, what happened on it, and the messages between them. Only what is in view
// is looked at, and of that only so much is drawn as can be told apart.

const canvas = document.getElementById("canvas");
const context = canvas.getContext("2d");
const GUTTER = 104;
const TOP = 26;
const LANE = Math.max(34, Math.min(76, 520 / Math.max(run.members.length, 1)));
// How many events are drawn at most; the story is always drawn.
const MOST_EVENTS = 1500;
// How many events before the range may have sent what arrives in it.
const LOOK_BACK = 300;

// What the last drawing has shown.
const drawn = { shapes: 0, visible: 0, stride: 1, marks: [] };
let colours = {};

function readColours() {
  const style = getComputedStyle(document.documentElement);
  const names = ["ground", "card", "ink", "soft", "line", "accent", "bad", "good"];
  colours = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  colours.isDark = document.documentElement.dataset.theme === "dark";
}

// Terms that follow each other have colours that are far apart.
function colourOfTerm(term) {
  return `hsl(${(term * 137 + 200) % 360} ${colours.isDark ? "55% 64%" : "60% 38%"})`;
}

function xOf(place) {
  return GUTTER + ((place - view.from) / (view.to - view.from)) * (canvas.clientWidth - GUTTER - 8);
}

function placeAt(x) {
  return view.from + ((x - GUTTER) / (canvas.clientWidth - GUTTER - 8)) * (view.to - view.from);
}

function yOf(lane) {
  return TOP + LANE * (lane + 0.5);
}

function resize() {
  const [width, height] = [canvas.clientWidth, TOP + LANE * Math.max(run.members.length, 1) + 20];
  const scale = window.devicePixelRatio || 1;
  canvas.style.height = `${height}px`;
  [canvas.width, canvas.height] = [Math.round(width * scale), Math.round(height * scale)];
  context.setTransform(scale, 0, 0, scale, 0, 0);
}

function stroke(colour, width, dash, ...points) {
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.setLineDash(dash);
  context.beginPath();
  points.forEach(([x, y], position) => (position === 0 ? context.moveTo(x, y) : context.lineTo(x, y)));
  context.stroke();
  context.setLineDash([]);
  drawn.shapes += 1;
}

function write(text, x, y, colour, font = "11px system-ui, sans-serif", width = undefined) {
  context.fillStyle = colour;
  context.font = font;
  context.fillText(text, x, y, width);
  drawn.shapes += 1;
}

function shape(points, colour) {
  context.fillStyle = colour;
  context.beginPath();
  points.forEach(([x, y], position) => (position === 0 ? context.moveTo(x, y) : context.lineTo(x, y)));
  context.fill();
  drawn.shapes += 1;
}

function cross(x, y, size, colour) {
  stroke(colour, 2, [], [x - size, y - size], [x + size, y + size]);
  stroke(colour, 2, [], [x - size, y + size], [x + size, y - size]);
}

// A piece of a text that fits into a width.
function fitted(text, width) {
  const letters = Math.floor(width / 5.6);
  if (letters < 4) return "";
  return text.length <= letters ? text : `${text.slice(0, letters - 1)}…`;
}

function drawSpans() {
  const labelled = run.members.map(() => 0);
  const inView = run.spans.filter((span) => placeOfTime(span.to) >= view.from && placeOfTime(span.from) <= view.to);
  for (const span of inView.slice(0, 400)) {
    const left = Math.max(xOf(placeOfTime(span.from)), GUTTER);
    const right = Math.min(Math.max(xOf(placeOfTime(span.to)), left + 3), canvas.clientWidth);
    for (const lane of span.members) {
      const top = yOf(lane) - LANE / 2 + 2;
      context.globalAlpha = span.kind === "crash" ? 0.22 : 0.1;
      context.fillStyle = span.kind === "crash" ? colours.soft : colours.bad;
      context.fillRect(left, top, right - left, LANE - 4);
      context.globalAlpha = 1;
      drawn.shapes += 1;
      // Where faults overlap, the later one has no room for its words; the list has them.
      if (LANE < 30 || left < labelled[lane]) continue;
      const label = fitted(span.kind === "crash" ? "down" : span.text, right - left - 6);
      if (label) write(label, left + 3, top + 9, span.kind === "crash" ? colours.soft : colours.bad, "10px system-ui, sans-serif");
      labelled[lane] = left + label.length * 6;
    }
  }
}

// The line of a lane says the role of its member by its form, and the term by its colour and a letter.
const LINES = {
  leader: [7, []],
  candidate: [4, [5, 3]],
  "pre-candidate": [3, [2, 3]],
  follower: [2, []],
  halted: [2, [1, 5]],
  restart: [1, [1, 3]],
};

function drawPieces(lane, lastNumber) {
  const own = pieces[lane];
  const y = yOf(lane);
  const place = (piece) => places[own[piece].number];
  const first = Math.max(firstFrom(own.length, place, view.from) - 1, 0);
  const end = firstFrom(own.length, place, view.to);
  const stride = Math.max(1, Math.ceil((end - first) / 300));
  let labelled = -Infinity;
  for (let at = first; at < end; at += stride) {
    const { role, term } = own[at];
    if (role === "crash") continue;
    const next = at + stride < own.length ? places[own[at + stride].number] : places[lastNumber];
    const [left, right] = [Math.max(xOf(place(at)), GUTTER), Math.min(xOf(next), canvas.clientWidth)];
    const [width, dash] = LINES[role] || LINES.follower;
    stroke(colourOfTerm(term), width, dash, [left, y], [Math.max(right, left + 1), y]);
    if (role !== "restart" && left > labelled && right - left > 12) {
      write(`${LETTERS[role]}${term}`, left + 2, y - 7, colourOfTerm(term), "bold 11px system-ui, sans-serif");
      labelled = left + 30;
    }
  }
}

// What waits for the disk, below the lane: dotted until it is durable; a cross where a crash came first.
function drawWrites(first, end) {
  const { writes } = run;
  const from = firstFrom(writes.length, (write) => writes[write].begun, first - LOOK_BACK);
  const to = firstFrom(writes.length, (write) => writes[write].begun, end);
  const stride = Math.max(1, Math.ceil((to - from) / 600));
  for (let at = from; at < to; at += stride) {
    const { member, begun, ended, unheard } = writes[at];
    if (view.hiddenLanes.has(member)) continue;
    const y = yOf(member) + LANE * 0.22;
    const right = ended === null ? canvas.clientWidth : xOf(places[ended]);
    if (right < GUTTER) continue;
    stroke(colours.soft, 2, [2, 2], [Math.max(xOf(places[begun]), GUTTER), y], [right, y]);
    if (unheard) cross(right, y, 3, colours.bad);
    else if (ended !== null) shape([[right - 2, y - 3], [right + 3, y - 3], [right + 3, y + 3], [right - 2, y + 3]], colours.good);
  }
}

// What was asked, above the lane, until it is answered.
function drawOperations(first, end) {
  const { operations } = run;
  const from = firstFrom(operations.length, (one) => operations[one].asked, first - LOOK_BACK);
  const to = firstFrom(operations.length, (one) => operations[one].asked, end);
  const stride = Math.max(1, Math.ceil((to - from) / 400));
  for (let at = from; at < to; at += stride) {
    const { member, asked, answered, text } = operations[at];
    if (view.hiddenLanes.has(member)) continue;
    const y = yOf(member) - LANE * 0.27;
    const [left, right] = [xOf(places[asked]), answered === null ? canvas.clientWidth : xOf(places[answered])];
    if (right < GUTTER) continue;
    stroke(colours.ink, 1, answered === null ? [1, 4] : [], [Math.max(left, GUTTER), y], [right, y]);
    if (left >= GUTTER) shape([[left, y - 4], [left + 4, y], [left, y + 4], [left - 4, y]], colours.ink);
    if (answered !== null) stroke(colours.ink, 1, [], [right, y - 3], [right, y + 3]);
    const label = LANE < 44 ? "" : fitted(text, Math.min(right, canvas.clientWidth) - left - 10);
    if (label && left >= GUTTER) write(label, left + 7, y - 3, colours.ink, "10px system-ui, sans-serif");
  }
}

function arrow(from, to, colour, width, dash) {
  stroke(colour, width, dash, from, to);
  const angle = Math.atan2(to[1] - from[1], to[0] - from[0]);
  const wing = (turn) => [to[0] - 7 * Math.cos(angle + turn), to[1] - 7 * Math.sin(angle + turn)];
  shape([to, wing(0.4), wing(-0.4)], colour);
}

// Whether a message led to the failure by this arrival.
function isPast(message, arrived) {
  return past.has(arrived) && message.sent !== null && past.has(message.sent);
}

// How a message is drawn, by what became of it.
const DASHES = { lost: [4, 3], duplicated: [2, 2], late: [9, 3, 2, 3] };

function styleOf(message, arrived) {
  const fate = fateOf(message);
  const dash = DASHES[fate] || [];
  if (fate === "lost") return [colours.bad, 1.2, dash];
  if (inStory.has(arrived)) return [colours.accent, 2.6, dash];
  return [isPast(message, arrived) ? colours.accent : colours.soft, 1, dash];
}

function drawMessage(number) {
  const message = messages[number];
  if (view.hiddenKinds.has(message.kind) || view.hiddenLanes.has(message.from) || view.hiddenLanes.has(message.to)) return;
  const [top, bottom] = [yOf(message.from), yOf(message.to)];
  const start = message.sent === null ? null : xOf(places[message.sent]);
  if (view.onlyPast && !message.arrived.some((arrived) => isPast(message, arrived))) return;
  if (message.arrived.length === 0) {
    // A stub that ends on the way: in a cross where the message is lost.
    const [colour, width, dash] = styleOf(message);
    const end = [start + 16, top + (bottom - top) * 0.35];
    stroke(colour, width, dash, [start, top], end);
    if (fateOf(message) === "lost") cross(end[0], end[1], 3, colour);
    return;
  }
  for (const arrived of message.arrived) {
    const end = xOf(places[arrived]);
    const from = start === null ? [end - 16, bottom + (top - bottom) * 0.35] : [start, top];
    if (Math.max(end, from[0]) < GUTTER) continue;
    arrow(from, [end, bottom], ...styleOf(message, arrived));
  }
}

function drawMark(number) {
  const event = events[number];
  if (event.member === undefined) return;
  const [x, y] = [xOf(places[number]), yOf(event.member)];
  const colour = past.has(number) ? colours.accent : colours.ink;
  // What a disk does by itself comes in crowds.
  const isSmall = event.kind === "disk" && !event.causes;
  const size = isSmall ? 1.5 : past.has(number) ? 4 : 3;
  if (event.kind === "crash") cross(x, y, 6, colours.bad);
  else if (event.kind === "fault") shape([[x, y - 6], [x + 5, y + 4], [x - 5, y + 4]], colours.bad);
  else if (event.kind === "client") shape([[x, y - 5], [x + 5, y], [x, y + 5], [x - 5, y]], colour);
  else if (event.kind === "timer") stroke(colour, 2, [], [x, y - 6], [x, y + 6]);
  else {
    context.fillStyle = colour;
    context.beginPath();
    if (event.kind === "disk") context.rect(x - size, y - size, 2 * size, 2 * size);
    else context.arc(x, y, size, 0, 2 * Math.PI);
    context.fill();
    drawn.shapes += 1;
  }
  if (commits[number]) shape([[x - 4, y - 8], [x, y - 15], [x + 4, y - 8]], colours.good);
  if (applies[number]) shape([[x - 4, y + 8], [x, y + 15], [x + 4, y + 8]], colours.good);
  drawn.marks.push({ number, x, y });
}

function drawStory(number, position) {
  const event = events[number];
  const [x, y] = [xOf(places[number]), event.member === undefined ? TOP - 6 : yOf(event.member)];
  if (x < GUTTER || x > canvas.clientWidth) return;
  context.strokeStyle = colours.accent;
  context.lineWidth = 2;
  context.beginPath();
  context.arc(x, y, 8, 0, 2 * Math.PI);
  context.stroke();
  drawn.shapes += 1;
  write(String(position + 1), x + 7, y + 15, colours.accent, "bold 10px system-ui, sans-serif");
  if (!drawn.marks.some((mark) => mark.number === number)) drawn.marks.push({ number, x, y });
}

function upright(place, colour, dash, label) {
  const x = xOf(place);
  if (x < GUTTER || x > canvas.clientWidth) return;
  stroke(colour, 1.5, dash, [x, TOP - 8], [x, canvas.clientHeight - 14]);
  if (!label) return;
  context.textAlign = x > canvas.clientWidth - 90 ? "right" : "left";
  write(label, x + (context.textAlign === "right" ? -4 : 4), TOP - 12, colour, "bold 11px system-ui, sans-serif");
  context.textAlign = "left";
}

function drawGutter() {
  context.fillStyle = colours.card;
  context.fillRect(0, 0, GUTTER - 6, canvas.clientHeight);
  run.members.forEach((member, lane) => {
    const state = stateAt(lane, view.selected);
    const y = yOf(lane);
    write(`Member ${member}`, 4, y - 1, view.hiddenLanes.has(lane) ? colours.soft : colours.ink, "bold 12px system-ui, sans-serif");
    const text = state === null ? "" : typeof state === "string" ? state : `${state.role}, t${state.term}`;
    write(text, 4, y + 12, typeof state === "object" && state ? colourOfTerm(state.term) : colours.soft);
  });
}

function drawScale() {
  const y = canvas.clientHeight - 3;
  for (let part = 0; part <= 4; part += 1) {
    const place = view.from + ((view.to - view.from) * (part + 0.5)) / 5;
    const number = Math.min(Math.max(eventAt(place), 0), COUNT - 1);
    const text = view.axis === "time" ? `${place.toFixed(3)} ms` : `step ${events[number].step}${run.clock === "order" ? "" : ` · ${timeOf(events[number].at)}`}`;
    write(text, xOf(place) - 30, y, colours.soft, "10px system-ui, sans-serif");
  }
}

// Draws what is in view.
function draw() {
  Object.assign(drawn, { shapes: 0, visible: 0, stride: 1, marks: [] });
  context.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
  if (COUNT === 0) return;
  const [first, end] = [eventAt(view.from), eventAt(view.to)];
  drawn.visible = end - first;
  drawn.stride = Math.max(1, Math.ceil((end - first) / MOST_EVENTS));
  context.save();
  context.beginPath();
  context.rect(GUTTER - 6, 0, canvas.clientWidth, canvas.clientHeight);
  context.clip();
  drawSpans();
  run.members.forEach((_, lane) => view.hiddenLanes.has(lane) || drawPieces(lane, COUNT - 1));
  drawWrites(first, end);
  drawOperations(first, end);
  drawMessages(first, end);
  for (let number = first; number < end; number += drawn.stride) if (isShown(number)) drawMark(number);
  story.forEach(drawStory);
  if (run.failure && run.failure.event !== null) upright(places[run.failure.event], colours.bad, [6, 3], "✗ violation");
  if (inevitable >= 0) upright(places[inevitable], colours.bad, [1, 3], "inevitable");
  upright(places[view.selected], colours.accent, [], "");
  drawScale();
  context.restore();
  drawGutter();
}

// Each message that is sent or arrives at an event that is drawn, once.
function drawMessages(first, end) {
  const seen = new Set();
  const back = drawn.stride === 1 ? LOOK_BACK : 0;
  for (let number = Math.max(first - back, 0); number < end; number += drawn.stride) {
    const event = events[number];
    if (event.received !== undefined) seen.add(event.received);
    for (const message of event.sent || []) seen.add(message);
  }
  for (const number of story) {
    if (number >= first && number < end && events[number].received !== undefined) seen.add(events[number].received);
  }
  seen.forEach(drawMessage);
}
