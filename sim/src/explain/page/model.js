"use strict";
// The run, as `kontiki_sim::explain::Diagram` has it, and what is found in it quickly.

const run = JSON.parse(document.getElementById("data").textContent);
const { events, messages } = run;
const COUNT = events.length;

// What is highlighted: the past of the failure, the relevant one unless the full one is asked for, and the few events
// of it that tell the story.
const PASTS = { relevant: new Set(run.failure ? run.failure.relevant : []), full: new Set(run.failure ? run.failure.past : []) };
let past = PASTS.relevant;
const { story } = run;
const inStory = new Set(story);
// The first event from which on the failure was inevitable; nothing, where that is not known.
const inevitable = run.inevitable === null ? -1 : events.findIndex((event) => event.step >= run.inevitable);

// The first position at which `at(position)` is no less than `wanted`, of `length` in order.
function firstFrom(length, at, wanted) {
  let [low, high] = [0, length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (at(middle) < wanted) low = middle + 1;
    else high = middle;
  }
  return low;
}

// The events of each lane that say what its member is: those that changed its state, crashes and restarts.
const turns = run.members.map(() => []);
// The pieces of each lane in which its member has one role in one term.
const pieces = run.members.map(() => []);
// What each event moved: the commit index, or what is applied.
const commits = new Uint8Array(COUNT);
const applies = new Uint8Array(COUNT);

function index() {
  const before = run.members.map(() => null);
  events.forEach((event, number) => {
    const lane = event.member;
    const isLife = event.kind === "crash" || event.kind === "restart";
    if (lane === undefined || !(isLife || event.state)) return;
    turns[lane].push(number);
    const [role, term] = event.state ? [event.state.role, event.state.term] : [event.kind, 0];
    const piece = pieces[lane].at(-1);
    if (!piece || piece.role !== role || piece.term !== term) pieces[lane].push({ number, role, term });
    if (event.state) {
      if (before[lane]) {
        commits[number] = event.state.committed > before[lane].committed;
        applies[number] = event.state.applied > before[lane].applied;
      }
      before[lane] = event.state;
    }
  });
}
index();

// What a member is after an event: a state; "down", "starting"; or nothing, where no step of it was seen.
function stateAt(lane, number) {
  const own = turns[lane];
  const next = firstFrom(own.length, (position) => own[position], number + 1);
  if (next === 0) return null;
  const event = events[own[next - 1]];
  if (event.state) return event.state;
  return event.kind === "crash" ? "down" : "starting";
}

const LETTERS = { follower: "F", "pre-candidate": "P", candidate: "C", leader: "L", halted: "H", crash: "✕", restart: "…" };

function nameOf(lane) {
  return `member ${run.members[lane]}`;
}

function entry([index, term]) {
  return index === 0 ? "none" : `${index}:${term}`;
}

function timeOf(at) {
  if (run.clock === "order") return "";
  return `${(at / 1e6).toFixed(3)} ms`;
}

// What became of a message, in a word; nothing, if it simply arrived.
function fateOf(message) {
  if (message.duplicated && message.arrived.length > 0) return "duplicated";
  if (message.arrived.length === 0) {
    // A recording knows nothing of the other members.
    if (run.clock === "member") return "not seen any further";
    return message.on_its_way ? "on its way" : "lost";
  }
  if (message.sent === null) return "sent unseen";
  return message.late || message.delayed ? "late" : "";
}

// The same for people, with how a message was lost where that is known.
function fateText(message) {
  const fate = fateOf(message);
  return fate === "lost" && message.lost ? `lost: ${LOSSES[message.lost]}` : fate;
}

const LOSSES = {
  dropped: "dropped by the network",
  link_cut: "the link is cut",
  queue_full: "too much waits for the link",
  connection_broken: "the connection broke",
  corrupted: "corrupted on the way",
  receiver_down: "the receiver is down",
  sender_crashed: "the sender crashed first",
};

// What a member was told, or what happened.
function causeText(event) {
  return event.received === undefined ? event.what : `got ${messages[event.received].text}`;
}

// All that there is to read of an event.
function textOf(number) {
  const event = events[number];
  const did = [...(event.did || []), ...(event.sent || []).map((message) => messages[message].text)];
  const text = did.length > 0 ? `${causeText(event)} ⇒ ${did.join("; ")}` : causeText(event);
  return event.member === undefined ? text : `${run.members[event.member]}: ${text}`;
}
