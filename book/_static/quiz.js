// Makes forms of the questions at a chapter's end. Without this script each choice opens on its
// feedback, which is all that JupyterLab shows; see mlk8s/course/quizzes/page.py.
(() => {
  "use strict";

  // A sentence that a screen reader reads out when it appears, and a list of feedback below it.
  function answer(status, said, shown) {
    const text = document.createElement("p");
    text.textContent = said;
    status.replaceChildren(text, ...shown.map((feedback) => feedback.cloneNode(true)));
  }

  function makeForm(question) {
    const choose = Number(question.dataset.choose);
    const choices = [...question.querySelectorAll("details")].map((details, at) => {
      const input = document.createElement("input");
      input.type = choose === 1 ? "radio" : "checkbox";
      input.name = question.id;
      input.id = `${question.id}-${at + 1}`;
      const label = document.createElement("label");
      label.htmlFor = input.id;
      label.append(...details.querySelector("summary").childNodes);
      const line = document.createElement("div");
      line.className = "mlk8s-choice";
      line.append(input, label);
      const choice = {
        input,
        line,
        right: "right" in details.dataset,
        feedback: details.querySelector("p"),
      };
      details.replaceWith(line);
      return choice;
    });
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Check";
    const status = document.createElement("div");
    status.className = "mlk8s-feedback";
    status.setAttribute("role", "status");
    question.append(button, status);

    question.addEventListener("change", () => {
      status.replaceChildren(); // what it says is about another answer
      delete question.dataset.state;
    });
    button.addEventListener("click", () => {
      const chosen = choices.filter(({ input }) => input.checked);
      if (chosen.length !== choose) {
        const many = choose === 1 ? "an answer" : `${choose} answers`;
        answer(status, `Choose ${many} first.`, []);
        return;
      }
      const right = chosen.every((choice) => choice.right);
      question.dataset.state = right ? "right" : "wrong";
      const shown = chosen.map(({ feedback }) => feedback);
      if (choose === 1) {
        status.replaceChildren(...shown.map((feedback) => feedback.cloneNode(true)));
      } else {
        const hits = chosen.filter((choice) => choice.right).length;
        answer(status, `${hits} of ${choose} are right.`, shown);
      }
      if (right) status.append(others(choices));
    });
  }

  // Why not the other ones: folded, for who wants to know.
  function others(choices) {
    const details = document.createElement("details");
    const summary = document.createElement("summary");
    summary.textContent = "Why not the others";
    details.append(summary);
    for (const { line, right, feedback } of choices) {
      if (right) continue;
      const text = feedback.cloneNode(true);
      text.querySelector("b").textContent = `${line.querySelector("label").textContent} `;
      details.append(text);
    }
    return details;
  }

  document.querySelectorAll(".mlk8s-question").forEach(makeForm);
})();
