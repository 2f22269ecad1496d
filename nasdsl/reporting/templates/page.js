"use strict";
(() => {
  const texts = JSON.parse(document.getElementById("texts").textContent);
  const bar = document.getElementById("scrub");
  const slider = document.getElementById("epoch");
  const shown = document.getElementById("shown");
  const figures = [...document.querySelectorAll("[data-step]")].map((box) => {
    const svg = box.querySelector("svg");
    const mark = document.createElementNS("http://www.w3.org/2000/svg", "path");
    mark.setAttribute("class", "mark");
    svg.append(mark);
    return { box, svg, mark, now: box.querySelector(".now"), texts: texts.figures[box.id] };
  });

  const show = (index) => {
    const epoch = texts.epochs[index];
    slider.setAttribute("aria-valuetext", "epoch " + epoch);
    shown.textContent = "epoch " + epoch + " of " + texts.epochs[texts.epochs.length - 1];
    for (const f of figures) {
      const x = Number(f.box.dataset.first) + Number(f.box.dataset.step) * epoch;
      f.mark.setAttribute("d", "M" + x + " " + f.box.dataset.top + "V" + f.box.dataset.bottom);
      f.now.textContent = f.texts[index];
    }
  };

  const nearest = (epoch) => {
    let best = 0;
    texts.epochs.forEach((e, i) => {
      if (Math.abs(e - epoch) < Math.abs(texts.epochs[best] - epoch)) best = i;
    });
    return best;
  };

  const point = (f, event) => {
    const edges = f.svg.getBoundingClientRect();
    const x = ((event.clientX - edges.left) / edges.width) * f.svg.viewBox.baseVal.width;
    slider.value = nearest((x - Number(f.box.dataset.first)) / Number(f.box.dataset.step));
    show(Number(slider.value));
  };

  for (const f of figures) {
    f.svg.addEventListener("pointermove", (event) => point(f, event));
    f.svg.addEventListener("pointerdown", (event) => point(f, event));
  }
  slider.addEventListener("input", () => show(Number(slider.value)));
  bar.hidden = false;
  show(Number(slider.value));
})();
