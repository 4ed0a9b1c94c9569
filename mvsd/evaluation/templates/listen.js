// A listening test: two sounds, one choice. The order of the questions, and which sound is A, come from the test's name
// and the listener's. The answers stay in this browser until the listener saves them to a file.
"use strict";
const test = JSON.parse(document.getElementById("test").textContent);
const find = id => document.getElementById(id);
let listener = "", order = [], place = 0, been = [], answers = {};
let unsaved = false, remembered = true;

function generator(text) {           // FNV-1a, then mulberry32
  let state = 2166136261;
  for (const character of new TextEncoder().encode(text)) state = Math.imul(state ^ character, 16777619);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

function shuffled(name) {
  const random = generator(`${test.id}|${name}`);
  const trials = test.trials.map(trial => ({...trial, sounds: random() < 0.5 ? trial.sounds : [...trial.sounds].reverse()}));
  for (let i = trials.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [trials[i], trials[j]] = [trials[j], trials[i]];
  }
  return trials;
}

const memory = {                     // a browser may refuse to remember anything for a page that is a file
  key: () => `mvsd-votes-${test.id}-${listener}`,
  load() { try { return JSON.parse(localStorage.getItem(this.key())) || {}; } catch { return {}; } },
  save() {
    unsaved = true;
    try { localStorage.setItem(this.key(), JSON.stringify(answers)); remembered = true; } catch { remembered = false; }
  },
};

function show() {
  const finished = place >= order.length;
  find("trial").classList.toggle("shown", !finished);
  find("end").hidden = !finished;
  find("progress").max = order.length;
  find("progress").value = place;
  const given = Object.keys(answers).length, all = order.length;
  find("count").textContent = !finished ? `Question ${place + 1} of ${all}`
    : given === all ? `All ${all} answered.` : `${given} of ${all} answered.`;
  find("back").disabled = place === 0;
  find("save").disabled = Object.keys(answers).length === 0;
  find("failed").hidden = true;
  if (finished) { find("save").focus(); return; }
  const trial = order[place];
  find("photo").hidden = !trial.photo;
  if (trial.photo) find("photo").querySelector("img").src = trial.photo;
  for (const [i, side] of ["a", "b"].entries()) {
    const audio = find(`sound-${side}`);
    audio.src = `sounds/${trial.sounds[i]}.flac`;
    audio.dataset.heard = "";
    find(`choose-${side}`).disabled = true;
  }
  find("hint").hidden = false;
  find("trial").focus({preventScroll: true});   // a button that was pressed is disabled now, and would keep the keys
}

function heard() {                   // a choice is possible once both have been played
  const both = ["a", "b"].every(side => find(`sound-${side}`).dataset.heard);
  for (const side of ["a", "b"]) find(`choose-${side}`).disabled = !both;
  find("hint").hidden = both;
}

function next() {                    // what is answered already is not asked again
  been.push(place);
  do place += 1; while (place < order.length && order[place].id in answers);
  pause();
  show();
}

function choose(side) {
  if (find(`choose-${side}`).disabled || place >= order.length) return;
  const {id, sounds} = order[place];
  answers[id] = {trial: id, a: sounds[0], b: sounds[1], chosen: sounds[side === "a" ? 0 : 1]};
  memory.save();
  next();
}

const other = side => side === "a" ? "b" : "a";

function pause() { for (const side of ["a", "b"]) find(`sound-${side}`).pause(); }

function play(side) {
  const audio = find(`sound-${side}`);
  if (!audio.paused) { audio.pause(); return; }
  find(`sound-${other(side)}`).pause();
  audio.play().catch(() => {});      // paused again before it began
}

for (const side of ["a", "b"]) {
  const audio = find(`sound-${side}`);
  audio.addEventListener("play", () => {
    if (!audio.paused) find(`sound-${other(side)}`).pause();  // the event comes late: the other may have its turn already
  });
  audio.addEventListener("playing", () => { audio.dataset.heard = "yes"; heard(); });
  audio.addEventListener("error", () => { find("failed").hidden = false; });
  find(`choose-${side}`).addEventListener("click", () => choose(side));
}

find("start").addEventListener("submit", event => {
  event.preventDefault();
  listener = find("listener").value.trim();
  if (!listener) return;
  order = shuffled(listener);
  answers = memory.load();
  place = order.findIndex(trial => !(trial.id in answers));
  if (place < 0) place = order.length;
  find("start").hidden = true;
  find("questions").hidden = false;
  const count = Object.keys(answers).length;
  find("resumed").hidden = count === 0;
  find("resumed").textContent = `Going on with the ${count} answers that ${listener} gave in this browser. Not you? Reload, and give another name.`;
  show();
});

find("skip").addEventListener("click", next);

window.addEventListener("beforeunload", event => { if (unsaved && !remembered) event.preventDefault(); });

find("back").addEventListener("click", () => {
  place = been.pop() ?? place - 1;
  delete answers[order[place].id];
  memory.save();
  pause();
  show();
});

find("save").addEventListener("click", () => {
  const votes = {format: "mvsd-votes-1", test: test.id, listener, answers: Object.values(answers)};
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(votes, null, 1)], {type: "application/json"}));
  link.download = `votes-${listener.replace(/[^\p{L}\p{N}-]+/gu, "-")}.json`;
  link.click();
  unsaved = false;
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
});

document.addEventListener("keydown", event => {
  if (event.repeat || find("questions").hidden || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.toLowerCase();
  if (key === "1" || key === "2") play(key === "1" ? "a" : "b");
  else if (key === "a" || key === "b") choose(key);
  else if (event.key === "Backspace" && place > 0) find("back").click();
  else return;
  event.preventDefault();
});
