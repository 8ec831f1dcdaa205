// What is shown of the run: a range of it, one event that is selected, and which events match the filters.

const view = {
  axis: "even",
  from: 0,
  to: 1,
  selected: 0,
  query: "",
  hiddenKinds: new Set(),
  hiddenLanes: new Set(),
  onlyPast: false,
  // The numbers of the events that match.
  matching: [],
};

// Where each event stands on the axis: its number, or its time in milliseconds.
const places = new Float64Array(COUNT);

function place() {
  events.forEach((event, number) => {
    places[number] = view.axis === "even" ? number : event.at / 1e6;
  });
}

function eventAt(place) {
  return firstFrom(COUNT, (number) => places[number], place);
}

// Where a moment that is no event stands on the axis.
function placeOfTime(at) {
  if (view.axis === "time") return at / 1e6;
  return firstFrom(COUNT, (number) => events[number].at, at);
}

function extent() {
  const last = COUNT > 0 ? places[COUNT - 1] : 1;
  const margin = Math.max((last - places[0]) * 0.02, view.axis === "even" ? 1 : 0.01) || 1;
  return [(places[0] || 0) - margin, last + margin];
}

// Shows a range, no narrower than a few events and no wider than the run.
function showRange(from, to) {
  const [first, last] = extent();
  const least = view.axis === "even" ? 6 : 0.005;
  const width = Math.min(Math.max(to - from, least), last - first);
  const start = Math.min(Math.max(from, first), last - width);
  [view.from, view.to] = [start, start + width];
}

function zoom(factor, around = places[view.selected]) {
  const middle = around >= view.from && around <= view.to ? around : (view.from + view.to) / 2;
  showRange(middle - (middle - view.from) * factor, middle + (view.to - middle) * factor);
}

// Selects an event and brings it into view.
function select(number) {
  if (COUNT === 0) return;
  view.selected = Math.min(Math.max(number, 0), COUNT - 1);
  const [place, width] = [places[view.selected], view.to - view.from];
  const margin = width * 0.08;
  if (place < view.from + margin || place > view.to - margin) showRange(place - width / 2, place + width / 2);
}

function setAxis(axis) {
  const first = Math.min(eventAt(view.from), COUNT - 1);
  const last = Math.max(Math.min(eventAt(view.to), COUNT - 1), first);
  view.axis = axis;
  place();
  if (COUNT > 0) showRange(places[first], places[last]);
}

// The texts of all events in small letters, made when they are first searched.
let texts = null;

function textToSearch(number) {
  texts ||= events.map((event, each) => `${textOf(each)} ${event.fact || ""} step ${event.step}`.toLowerCase());
  return texts[number];
}

function isShown(number) {
  const event = events[number];
  if (view.onlyPast && !past.has(number) && !inStory.has(number)) return false;
  return !view.hiddenKinds.has(event.kind) && !(event.member !== undefined && view.hiddenLanes.has(event.member));
}

function match() {
  const query = view.query.trim().toLowerCase();
  view.matching = [];
  events.forEach((_, number) => {
    if (isShown(number) && (query === "" || textToSearch(number).includes(query))) view.matching.push(number);
  });
}

// The event of some numbers in order that is `by` before or after the selected one.
function stepAmong(numbers, by) {
  if (numbers.length === 0) return view.selected;
  const next = firstFrom(numbers.length, (position) => numbers[position], view.selected);
  const isOn = numbers[next] === view.selected;
  const position = by > 0 && !isOn ? next + by - 1 : next + by;
  return numbers[Math.min(Math.max(position, 0), numbers.length - 1)];
}
