"use strict";
// The page's questions, filtered and paged. The address after # holds the filter, so a view can be kept and sent.
// Whatever comes from a benchmark or a model is set as text, never as markup.
{
  const { conditions, questions, page_size } = JSON.parse(document.getElementById("data").textContent);
  const form = document.getElementById("filter");
  const list = document.getElementById("list");
  const field = (name) => form.elements.namedItem(name);
  const NAMES = ["of", "result", "unlike", "kind", "words", "page"];
  const plain = (text) => text.normalize("NFKC").toLowerCase();
  const texts = questions.map((q) =>
    plain([q.id, q.video, q.question, ...q.options, ...q.replies.map((r) => `${r?.text ?? ""} ${r?.error ?? ""}`)].join("\n")));

  function element(tag, className, ...children) {
    const made = document.createElement(tag);
    made.className = className;
    made.dir = "auto";
    made.append(...children); // a string becomes a text node
    return made;
  }

  function option(q, reply, text, place) {
    const mark = place === q.answer ? "✓" : place === reply.choice ? "✗" : "";
    const row = element("div", "option", element("span", "", mark), element("span", "", text));
    row.classList.toggle("answer", place === q.answer);
    row.classList.toggle("chosen", place === reply.choice);
    if (reply.bars) {
      const bar = element("span", "bar");
      bar.style.width = `${100 * reply.bars[place]}%`;
      row.append(element("span", "", bar), element("span", "number", reply.scores[place].toFixed(2)));
    }
    return row;
  }

  function card(q, of) {
    const reply = q.replies[of];
    const made = element("div", "card",
      element("div", "soft", `${q.kind} · ${q.video} · ${reply.outcome}`),
      element("strong", "", q.question),
      ...q.options.map((text, place) => option(q, reply, text, place)));
    made.classList.toggle("right", reply.outcome === "right");
    const outcomes = conditions.flatMap((name, i) => q.replies[i] ? [`${name}: ${q.replies[i].outcome}`] : []);
    made.append(...[reply.text, reply.error].filter(Boolean).map((text) => element("div", "soft", text)));
    if (conditions.length > 1) made.append(element("div", "soft others", outcomes.join(" · ")));
    return made;
  }

  function show() {
    const wanted = new URLSearchParams(location.hash.slice(1));
    for (const name of NAMES) {
      field(name).value = wanted.get(name) ?? "";
      if (field(name).selectedIndex === -1) field(name).selectedIndex = 0; // no such choice
    }
    const [of, result, unlike, kind] = NAMES.slice(0, 4).map((name) => field(name).value);
    const words = plain(wanted.get("words") ?? "").split(/\s+/);
    const found = questions.filter((q, i) => {
      const reply = q.replies[of], other = q.replies[unlike];
      return reply && (!result || reply.outcome === result) && (!kind || q.kind === kind)
        && (!unlike || (other && other.choice !== reply.choice)) && words.every((word) => texts[i].includes(word));
    });
    const pages = Math.max(1, Math.ceil(found.length / page_size));
    const page = Math.min(pages, Math.max(1, Math.trunc(wanted.get("page")) || 1));
    field("page").value = page;
    field("page").max = pages;
    field("pages").value = pages;
    field("count").value = `${found.length} of ${questions.length} questions`;
    for (const button of form.querySelectorAll("button")) {
      button.disabled = page + Number(button.value) < 1 || page + Number(button.value) > pages;
    }
    list.replaceChildren(...found.slice((page - 1) * page_size, page * page_size).map((q) => card(q, of)));
  }

  function go(page) {
    const chosen = NAMES.slice(0, -1).map((name) => [name, field(name).value]).filter(([, value]) => value !== "");
    location.replace("#" + new URLSearchParams([...chosen, ["page", page]]));
  }

  form.addEventListener("input", (event) => event.target !== field("page") && go(1));
  field("page").addEventListener("change", () => go(field("page").value));
  form.addEventListener("submit", (event) => event.preventDefault());
  for (const button of form.querySelectorAll("button")) {
    button.addEventListener("click", () => {
      go(Number(field("page").value) + Number(button.value));
      document.getElementById("questions").scrollIntoView();
    });
  }
  addEventListener("hashchange", show);
  form.hidden = false;
  show();
}
