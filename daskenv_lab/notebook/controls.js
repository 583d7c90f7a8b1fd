// What is done with a cluster, through Jupyter Server: it works while a cell runs, and when the
// kernel is dead. Without our extension there, the kernel is asked.

function render({ model, el }) {
  const server = jupyter();
  const rows = new Map();

  function tell(action, sentence, failed) {
    const { said, button } = rows.get(action.control);
    button.disabled = false;
    said.textContent = sentence;
    said.className = failed ? "failed" : "waits";
  }

  function send(message) {
    try {
      model.send(message);
    } catch {
      // The kernel is dead; what was done is shown here nevertheless.
    }
  }

  async function act(action, values) {
    const { said, button } = rows.get(action.control);
    button.disabled = true;
    said.className = "waits";
    said.textContent = "…";
    try {
      if (!server) throw new Error("", { cause: "missing" });
      await ask(server, action.method, action.path, values);
      tell(action, action.done, false);
      send({ said: action.control, sentence: action.done, failed: false });
    } catch (error) {
      if (error.cause === "missing") {
        button.disabled = false;
        said.textContent = "Waits for the kernel.";
        send({ make: action.control, values });
      } else {
        tell(action, error.message, true);
        send({ said: action.control, sentence: error.message, failed: true });
      }
    }
  }

  function row(action) {
    const fields = action.numbers.map((number) => {
      const input = make("input", { type: "number", min: 0, step: 1, value: number.value });
      return { number, input, label: make("label", {}, `${number.label} `, input) };
    });
    const button = make("button", { type: "submit", textContent: action.label });
    const code = make("code", {});
    const said = make("p", {});
    said.setAttribute("role", "status");
    const values = () => Object.fromEntries(fields.map(({ number, input }) => [number.name, input.valueAsNumber]));
    const write = () => {
      const typed = values();
      code.textContent = action.code.replace(/\{(\w+)\}/g, (whole, name) => (Number.isInteger(typed[name]) ? typed[name] : whole));
    };
    const form = make("form", { noValidate: true }, ...fields.map(({ label }) => label), button, " ", code, said);
    form.setAttribute("aria-label", action.label);
    rows.set(action.control, { said, button });
    form.addEventListener("input", write);
    for (const { input } of fields) {
      // JupyterLab keeps Enter for itself.
      input.addEventListener("keydown", (event) => {
        if (event.key !== "Enter") return;
        event.preventDefault();
        event.stopPropagation();
        form.requestSubmit();
      });
    }
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const wrong = fields.find(({ input }) => !Number.isInteger(input.valueAsNumber) || input.valueAsNumber < 0);
      if (wrong) {
        tell(action, `${wrong.number.label} takes a whole number from 0 upwards; correct it.`, true);
        return;
      }
      if (action.sure && button.textContent !== action.sure) {
        button.textContent = action.sure;
        return;
      }
      button.textContent = action.label;
      act(action, values());
    });
    write();
    return form;
  }

  const actions = model.get("actions");
  const whole = make("div", { className: "daskenv-controls" }, ...actions.map(row));
  el.append(whole);

  function heard() {
    const all = model.get("said");
    for (const action of actions) {
      const { sentence, busy, failed } = all[action.control] ?? {};
      if (sentence === undefined) continue;
      tell(action, busy && !sentence ? "…" : sentence, failed);
      rows.get(action.control).button.disabled = busy;
    }
  }
  model.on("change:said", heard);
  heard();
  return () => model.off("change:said", heard);
}

export default { render };
