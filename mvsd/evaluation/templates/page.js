// One sound at a time, a cursor on its spectrogram, and keys. Without this script every player still works by itself.
"use strict";
const sounds = [...document.querySelectorAll(".sound")];
const scenes = [...document.querySelectorAll(".scene")];
const keep = document.getElementById("keep-position");
const audioOf = sound => sound.querySelector("audio");
let playing = null;
let placed = false;                  // the listener has chosen where the next sound starts

for (const sound of sounds) {
  const audio = audioOf(sound);
  if (!audio) continue;
  const picture = sound.querySelector(".spectrogram");
  const cursor = picture.querySelector("i");
  const draw = () => {
    if (audio.duration) cursor.style.left = `${100 * audio.currentTime / audio.duration}%`;
    if (!audio.paused) requestAnimationFrame(draw);
  };
  audio.addEventListener("play", () => {
    if (playing && playing !== sound) {
      const other = audioOf(playing);
      const switches = !other.paused && playing.closest(".scene") === sound.closest(".scene");
      if (switches && keep.checked && !placed) audio.currentTime = other.currentTime;
      other.pause();
      playing.classList.remove("playing");
    }
    placed = false;
    playing = sound;
    sound.classList.add("playing");
    draw();
  });
  audio.addEventListener("seeked", draw);
  picture.addEventListener("click", event => {
    const box = picture.getBoundingClientRect();
    if (audio.duration) audio.currentTime = audio.duration * (event.clientX - box.left) / box.width;
    placed = audio.paused;
    audio.play().catch(() => {});  // paused again before it began
  });
}

function currentScene() {
  const focused = document.activeElement && document.activeElement.closest(".scene");
  const inView = box => box.bottom > 0 && box.top < window.innerHeight;
  if (focused && inView(focused.getBoundingClientRect())) return focused;
  const middle = window.innerHeight / 2;
  const distance = scene => {
    const box = scene.getBoundingClientRect();
    return Math.max(box.top - middle, middle - box.bottom, 0);
  };
  return scenes.reduce((nearest, scene) => distance(scene) < distance(nearest) ? scene : nearest, scenes[0]);
}

document.addEventListener("keydown", event => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input[type=text]")) return;
  const scene = currentScene();
  if (!scene) return;
  if (event.key >= "1" && event.key <= "9") {
    const sound = scene.querySelector(`.sound[data-number="${event.key}"]`);
    if (!sound || !audioOf(sound)) return;
    if (audioOf(sound).paused) audioOf(sound).play().catch(() => {}); else audioOf(sound).pause();
  } else if (event.key === "j" || event.key === "k") {
    const next = scenes[scenes.indexOf(scene) + (event.key === "j" ? 1 : -1)];
    if (!next) return;
    next.focus({preventScroll: true});
    next.scrollIntoView({behavior: "instant"});  // the next key means this scene, not one on the way to it
  } else if (event.key === "Escape" && playing) {
    audioOf(playing).pause();
  } else return;
  event.preventDefault();
});
