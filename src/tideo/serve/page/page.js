// Our page: one video, questions about it, several models side by side. Text is only ever set as text.

const $ = (id) => document.getElementById(id);
const player = $("player");
let video = null; // {file, url}: the url under which the server keeps it, once it is sent

function headers(more = {}) {
  const key = $("key").value;
  return key ? { ...more, Authorization: `Bearer ${key}` } : more;
}

async function respond(path, settings) {
  const response = await fetch(path, { ...settings, headers: headers(settings?.headers) });
  if (response.ok) return response;
  if (response.status === 401) $("key-box").open = true;
  const body = await response.json().catch(() => null);
  throw new Error(body?.error?.message ?? `the server answered ${response.status}`);
}

const request = async (path, settings) => (await respond(path, settings)).json();

// The objects of a stream of server-sent events, as they come.
async function* stream(path, settings) {
  const reader = (await respond(path, settings)).body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ; ) {
    const { value, done } = await reader.read();
    if (done) throw new Error("the answer was cut off: ask again");
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const data = event.replace(/^data: /, "");
      if (data === "[DONE]") return;
      const body = JSON.parse(data);
      if (body.error) throw new Error(body.error.message);
      yield body;
    }
  }
}

// --- the models ---

async function showModels() {
  try {
    const { data } = await request("v1/models");
    $("models").replaceChildren(
      ...data.map(({ id }, place) => {
        const label = document.createElement("label");
        const box = Object.assign(document.createElement("input"), { type: "checkbox", value: id, checked: !place });
        label.append(box, ` ${id}`);
        const line = document.createElement("div");
        line.append(label);
        return line;
      }),
    );
  } catch (error) {
    $("models").textContent = error.message;
  }
}

// --- the video ---

function take(file) {
  if (!file) return;
  video = { file, url: null };
  URL.revokeObjectURL(player.src);
  player.src = URL.createObjectURL(file);
  player.hidden = false;
  $("file-state").textContent = `${file.name} (${(file.size / 2 ** 20).toFixed(1)} MB)`;
  $("ask").disabled = false;
  $("question").focus();
}

player.addEventListener("error", () => {
  if (!video) return;
  player.hidden = true;
  $("file-state").textContent = `${video.file.name}: this browser cannot play it, but the models may read it`;
});
$("file").addEventListener("change", (event) => take(event.target.files[0]));
for (const name of ["dragover", "dragleave", "drop"]) {
  $("drop").addEventListener(name, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", name === "dragover");
    if (name === "drop") take(event.dataTransfer.files[0]);
  });
}

async function sent() {
  if (!video.url) {
    $("file-state").textContent = `sending ${video.file.name} …`;
    const { url } = await request("v1/media", { method: "POST", body: video.file });
    video.url = url;
    $("file-state").textContent = video.file.name;
  }
  return video.url;
}

// --- the options ---

function addOption() {
  const number = $("options").children.length + 1;
  const input = Object.assign(document.createElement("input"), { name: "option", ariaLabel: `Option ${number}` });
  const remove = Object.assign(document.createElement("button"), { type: "button", textContent: "×" });
  remove.ariaLabel = `Remove option ${number}`;
  const row = document.createElement("div");
  row.append(input, remove);
  const item = document.createElement("li");
  item.append(row);
  remove.addEventListener("click", () => {
    item.remove();
    $("add-option").focus();
  });
  $("options").append(item);
  input.focus();
}
$("add-option").addEventListener("click", addOption);

// --- asking ---

$("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const question = $("question").value.trim();
  const options = [...document.getElementsByName("option")].map((input) => input.value.trim()).filter(Boolean);
  const models = [...document.querySelectorAll("#models input:checked")].map((box) => box.value);
  const turn = Object.assign(document.createElement("section"), { className: "turn" });
  const heading = Object.assign(document.createElement("h3"), { textContent: question });
  const side = Object.assign(document.createElement("div"), { className: "side-by-side" });
  turn.append(heading, side);
  $("answers").prepend(turn);
  if (!models.length) return failed(side, "choose a model");
  $("ask").disabled = true;
  try {
    const url = await sent();
    await Promise.all(models.map((model) => ask(side, { url, question, options, model })));
  } catch (error) {
    failed(side, error.message);
  }
  $("ask").disabled = false;
});

async function ask(side, { url, question, options, model }) {
  const shown = $("answer-of-model").content.cloneNode(true).firstElementChild;
  shown.querySelector(".model").textContent = model;
  shown.querySelector(".text").textContent = "…";
  side.append(shown);
  const content = [
    { type: "video_url", video_url: { url } },
    { type: "text", text: question },
  ];
  const body = { model, messages: [{ role: "user", content }], pictures: true, stream: true };
  if (options.length) body.options = options;
  shown.ariaBusy = true; // a screen reader waits for the whole answer
  try {
    let text = "";
    const chunks = stream("v1/chat/completions", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    for await (const { choices, tideo } of chunks) {
      text += choices[0].delta.content ?? "";
      if (text) shown.querySelector(".text").textContent = text;
      if (tideo) show(shown, text, tideo);
    }
  } catch (error) {
    shown.querySelector(".text").remove();
    failed(shown, error.message);
    if (/send it again/.test(error.message)) video.url = null;
  }
  shown.ariaBusy = false;
}

function failed(place, message) {
  place.append(Object.assign(document.createElement("p"), { className: "failed", textContent: message }));
}

function show(shown, text, { options, choice, loglikelihoods, pts_s, pictures, grid, warning }) {
  shown.querySelector(".text").textContent = text;
  if (warning) Object.assign(shown.querySelector(".warning"), { textContent: warning, hidden: false });
  if (loglikelihoods.length) {
    const best = Math.max(...loglikelihoods);
    const weights = loglikelihoods.map((score) => Math.exp(score - best));
    const sum = weights.reduce((a, b) => a + b);
    const bars = shown.querySelector(".bars");
    bars.hidden = false;
    options.forEach((option, place) => {
      const row = bars.tBodies[0].insertRow();
      row.classList.toggle("chosen", place === choice);
      row.append(Object.assign(document.createElement("th"), { scope: "row", textContent: option }));
      const share = weights[place] / sum;
      row.insertCell().append(Object.assign(document.createElement("meter"), { value: share, max: 1 }));
      row.insertCell().textContent = `${(100 * share).toFixed(0)}%`;
    });
  }
  pts_s.forEach((time_s, place) => {
    const button = Object.assign(document.createElement("button"), { type: "button" });
    button.ariaLabel = `Go to ${time_s.toFixed(1)} seconds`;
    if (pictures[place]) button.append(Object.assign(new Image(), { src: pictures[place], alt: "" }));
    button.append(`${time_s.toFixed(1)} s`);
    button.addEventListener("click", () => {
      player.currentTime = time_s;
      player.scrollIntoView({ block: "nearest" });
    });
    const item = document.createElement("li");
    item.append(button);
    shown.querySelector(".frames").append(item);
  });
  if (grid) {
    shown.querySelector(".grid").hidden = false;
    shown.querySelector(".grid img").src = grid;
  }
}

$("key").addEventListener("change", showModels);
showModels();
