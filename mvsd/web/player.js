// Two sounds that run together; a crossfade chooses which one is heard, so a switch keeps the position to the sample.
"use strict";

if (navigator.audioSession) navigator.audioSession.type = "playback";  // not muted by an iPhone's switch for ringing

class Player {
  static FADE = 0.015;               // seconds of crossfade: no click, and still at once
  static context = null;             // one for the page: a browser has few of them

  constructor(root) {
    this.root = root;
    root.player = this;
    this.find = selector => root.querySelector(selector);
    this.seek = this.find(".seek");
    this.duration = Number(this.seek.max);
    this.position = 0;               // seconds, while nothing runs
    this.running = null;             // {sources, gains, startedAt, from}
    this.heads = [...root.querySelectorAll(".head")];
    this.find(".play").addEventListener("click", () => this.running ? this.pause() : this.play());
    this.seek.addEventListener("input", () => this.moveTo(Number(this.seek.value)));
    this.find("input[name=loop]").addEventListener("change", event => {
      if (this.running) this.moveTo(this.now(), event.target.checked);
    });
    for (const choice of root.querySelectorAll("input[name=which]"))
      choice.addEventListener("change", () => this.listenTo(choice.value));
    for (const plot of root.querySelectorAll(".plot"))
      plot.addEventListener("click", event => {
        const box = plot.getBoundingClientRect();
        this.moveTo(this.duration * (event.clientX - box.left) / box.width);
      });
    root.addEventListener("keydown", event => this.key(event));
    root.tabIndex = -1;              // keys are heard wherever it was clicked, also where a button takes no focus
    root.addEventListener("click", () => {
      if (!root.contains(document.activeElement)) root.focus({preventScroll: true});
    });
    this.listenTo(this.which());
    this.draw();
  }

  which() { return this.find("input[name=which]:checked").value; }

  async load() {
    this.context = Player.context ??= new AudioContext();
    this.buffers ??= Promise.all(["before", "after"].map(async name => {
      const answer = await fetch(this.root.dataset[name]);
      if (!answer.ok) throw new Error("These sounds are no longer there; convert again.");
      return this.context.decodeAudioData(await answer.arrayBuffer());
    }));
    await this.context.resume();
    return this.buffers;
  }

  async play() {
    if (this.starting) return;
    this.starting = true;
    try {
      const buffers = await this.load();
      if (!this.root.isConnected) return;
      this.start(buffers);
    } catch (error) {
      this.buffers = null;
      this.find(".hint").textContent = `Not played: ${error.message}`;
    } finally {
      this.starting = false;
    }
  }

  start(buffers) {
    if (this.position >= this.duration - 0.01) this.position = 0;
    const startedAt = this.context.currentTime + 0.02;
    const parts = ["before", "after"].map((name, index) => {
      const source = new AudioBufferSourceNode(this.context, {buffer: buffers[index], loop: this.find("input[name=loop]").checked});
      const gain = new GainNode(this.context, {gain: name === this.which() ? 1 : 0});
      source.connect(gain).connect(this.context.destination);
      source.start(startedAt, this.position);
      return {source, gain};
    });
    const running = {parts, startedAt, from: this.position};
    parts[0].source.onended = () => { if (this.running === running) { this.halt(); this.position = 0; this.draw(); } };
    this.running = running;
    this.tick();
  }

  now() {
    if (!this.running) return this.position;
    const elapsed = Math.max(0, this.context.currentTime - this.running.startedAt) + this.running.from;
    return this.running.parts[0].source.loop ? elapsed % this.duration : Math.min(elapsed, this.duration);
  }

  halt() {
    const running = this.running;
    this.running = null;
    for (const part of running?.parts ?? []) { part.source.stop(); part.gain.disconnect(); }
  }

  pause() { this.position = this.now(); this.halt(); this.draw(); }

  moveTo(position) {
    const wasRunning = this.running !== null;
    this.halt();
    this.position = Math.min(Math.max(position, 0), this.duration);
    if (wasRunning) this.play(); else this.draw();
  }

  listenTo(which) {
    this.root.dataset.heard = which;
    this.running?.parts.forEach((part, index) => {
      const now = this.context.currentTime, wanted = (index === 1) === (which === "after") ? 1 : 0;
      part.gain.gain.cancelScheduledValues(now);  // not anchored at its value: Firefox does not say the present one
      part.gain.gain.setTargetAtTime(wanted, now, Player.FADE / 4);
    });
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const which = {a: "after", b: "before"}[event.key.toLowerCase()];
    if (which) {
      this.find(`input[value=${which}]`).checked = true;
      this.listenTo(which);
    } else if (event.target === this.seek && ["ArrowLeft", "ArrowRight"].includes(event.key)) {
      const step = Math.min(5, this.duration / 20);
      this.moveTo(this.now() + (event.key === "ArrowRight" ? step : -step));
    } else if (event.key === " " && !event.target.matches("button, input[type=checkbox]")) {
      this.running ? this.pause() : this.play();
    } else return;
    event.preventDefault();
  }

  tick() {
    this.draw();
    if (!this.root.isConnected) this.halt();
    if (this.running) requestAnimationFrame(() => this.tick());
  }

  draw() {
    const now = this.now(), button = this.find(".play");
    const clock = seconds => `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(1).padStart(4, "0")}`;
    this.seek.value = now;
    this.seek.setAttribute("aria-valuetext", `${now.toFixed(1)} of ${this.duration.toFixed(1)} seconds`);
    this.find(".time").textContent = `${clock(now)} / ${clock(this.duration)}`;
    this.root.dataset.position = now.toFixed(3);
    button.textContent = this.running ? "❚❚" : "▶";
    button.setAttribute("aria-label", this.running ? "Pause" : "Play");
    for (const head of this.heads) head.style.left = `${100 * now / this.duration}%`;
  }
}

let player = null;

function setUp() {
  player?.halt();
  const root = element.querySelector(".listen[data-before]");
  player = root ? new Player(root) : null;
}

setUp();
watch("value", setUp);
