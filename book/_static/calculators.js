// The calculators' forms. Their arithmetic is the library's own Python: calculators.mjs runs it in
// a worker, which is started, and loads what it needs, at the first click on Calculate.
(() => {
  "use strict";

  const base = new URL(".", document.currentScript.src);
  let worker = null; // shared by the forms of the page
  let running = null; // the form that waits for an answer

  class Form {
    constructor(box) {
      this.box = box;
      this.name = box.dataset.calculator;
      this.form = box.querySelector("form");
      this.status = box.querySelector(".status");
      this.stop = box.querySelector(".stop");
      this.submit = box.querySelector(".calculate");
      this.submit.disabled = false;
      this.form.querySelector(".unscripted").remove();
      this.form.querySelector("[type=reset]").hidden = false;
      this.form.addEventListener("submit", (event) => {
        event.preventDefault();
        this.calculate();
      });
      this.form.addEventListener("input", () => this.changed());
      this.form.addEventListener("reset", () => setTimeout(() => this.changed()));
      this.stop.addEventListener("click", () => this.stopped());
      this.restore();
      this.fold();
    }

    fields() {
      return [...this.form.querySelectorAll(".field")].map((row) => ({
        row,
        control: row.querySelector("input, select"),
        error: row.querySelector(".error"),
      }));
    }

    // Show the inputs that count. One that counts only beside a hidden one does not count either.
    fold() {
      const counts = new Map();
      for (const { row, control } of this.fields()) {
        const { when, values } = row.dataset;
        const shown = !when || (counts.has(when) && JSON.parse(values).includes(counts.get(when)));
        row.hidden = !shown;
        if (shown) counts.set(control.name, control.value);
      }
    }

    given() {
      const shown = this.fields().filter(({ row }) => !row.hidden);
      return Object.fromEntries(shown.map(({ control }) => [control.name, control.value]));
    }

    changed() {
      this.fold();
      this.clear();
      if (running !== this) this.say("The answer below is to the inputs before this change.");
    }

    clear() {
      for (const { control, error } of this.fields()) {
        control.removeAttribute("aria-invalid");
        error.hidden = true;
        error.textContent = "";
      }
    }

    // What is seen elsewhere on the page is said only to those who listen to it.
    say(text, seen = false) {
      this.status.textContent = text;
      this.status.classList.toggle("heard", seen);
    }

    // The address may hold the inputs of one calculator: ?calculator=NAME&input=value
    restore() {
      const asked = new URLSearchParams(window.location.search);
      if (asked.get("calculator") !== this.name) return;
      for (const { control } of this.fields()) {
        const value = asked.get(control.name);
        const known = control.options ? [...control.options].some((o) => o.value === value) : true;
        if (value !== null && known) control.value = value;
      }
      this.say("The inputs are from the address. The answer below is not yet to them: calculate.");
      this.box.scrollIntoView();
    }

    calculate() {
      if (running) {
        if (running !== this) this.say("Another calculator of this page is at work.");
        return;
      }
      this.clear();
      running = this;
      this.busy(true);
      this.say(worker ? "Calculating…" : "Loading Python…");
      worker ??= this.start();
      worker.postMessage({ name: this.name, given: this.given() });
    }

    start() {
      const address = new URL(`calculators.mjs?${this.box.dataset.version}`, base);
      const started = new Worker(address, { type: "module" });
      started.onmessage = ({ data }) => running?.hear(data);
      started.onerror = (event) => {
        event.preventDefault();
        running?.hear({ fault: event.message || "a file of it did not come" });
      };
      return started;
    }

    hear({ stage, found, fault }) {
      if (stage) {
        this.say("Calculating…");
        return;
      }
      running = null;
      this.busy(false);
      if (fault) {
        // The next click starts anew: the network may be back.
        worker.terminate();
        worker = null;
        this.say(`Python could not compute this: ${fault}. Next: calculate again.`);
      } else if (found.field) {
        this.refuse(found);
      } else {
        this.show(found);
      }
    }

    refuse({ field, problem }) {
      const { control, error } = this.fields().find((each) => each.control.name === field);
      this.say("");
      error.textContent = problem;
      error.hidden = false;
      control.setAttribute("aria-invalid", "true");
      control.focus();
    }

    show({ finding, details, command, inputs }) {
      this.box.querySelector(".finding").innerHTML = finding;
      this.box.querySelector(".details").innerHTML = details;
      this.box.querySelector(".answer code").textContent = command;
      for (const note of document.querySelectorAll(".mlk8s-calculator .note")) note.remove();
      this.say(this.box.querySelector(".finding p").textContent, true);
      const address = new URL(window.location.href);
      address.search = new URLSearchParams({ calculator: this.name, ...inputs }).toString();
      window.history.replaceState(null, "", address);
    }

    stopped() {
      worker?.terminate();
      worker = null;
      running = null;
      this.busy(false);
      this.say("Stopped.");
      this.submit.focus();
    }

    busy(on) {
      this.form.setAttribute("aria-busy", String(on));
      this.stop.hidden = !on;
    }
  }

  for (const box of document.querySelectorAll("section.mlk8s-calculator")) new Form(box);
})();
