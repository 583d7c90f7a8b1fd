// Asks Jupyter Server for a path of the dashboard, and shows it in a sandbox.

function render({ model, el }) {
  const name = model.get("name");
  const server = jupyter();
  const chooser = make("select", {}, ...model.get("panes").map((pane) => new Option(pane)));
  chooser.setAttribute("aria-label", "Pane");
  const reload = make("button", { type: "button", textContent: "Reload" });
  const tab = make("a", { target: "_blank", rel: "noopener noreferrer", textContent: "Open in a tab" });
  const said = make("p", { hidden: true });
  said.setAttribute("role", "status");
  const frame = make("iframe", { referrerPolicy: "no-referrer" });
  frame.setAttribute("sandbox", "allow-scripts");
  const label = make("label", {}, "Pane ", chooser);
  const bar = make("div", { className: "daskenv-dashboard-bar" }, make("strong", {}, `Dask: ${name}`), label, reload, tab);
  const whole = make("div", { className: "daskenv-dashboard" }, bar, said, frame);
  whole.setAttribute("role", "group");
  whole.setAttribute("aria-label", `Dask dashboard of ${name}`);
  el.append(whole);
  let turn = 0;

  function explain(why, missing) {
    const link = missing ? model.get("link") : "";
    frame.hidden = true;
    frame.removeAttribute("src");
    said.hidden = false;
    said.replaceChildren(why);
    if (/^https?:/.test(link)) {
      const direct = make("a", { href: link, target: "_blank", rel: "noopener noreferrer", textContent: link });
      said.append(" The dashboard's own address is ", direct, ".");
    }
  }

  async function show() {
    const mine = ++turn;
    const pane = model.get("pane");
    chooser.value = pane;
    frame.title = `Dask dashboard of ${name}: ${pane}`;
    frame.style.height = `${model.get("height")}px`;
    if (!server) {
      label.hidden = reload.hidden = tab.hidden = true;
      explain("This is no page of a Jupyter Server, through which the dashboard could be shown here.", true);
      return;
    }
    tab.href = `${server.base}daskenv/open/${encodeURIComponent(name)}/${encodeURIComponent(pane)}`;
    try {
      const { path } = await ask(server, "POST", `clusters/${encodeURIComponent(name)}/dashboard`, { pane });
      if (mine !== turn) return;
      said.hidden = true;
      frame.hidden = false;
      frame.src = path;
    } catch (error) {
      if (mine === turn) explain(error.message, error.cause === "missing");
    }
  }

  const resize = () => (frame.style.height = `${model.get("height")}px`);
  chooser.addEventListener("change", () => {
    model.set("pane", chooser.value);
    model.save_changes();
  });
  reload.addEventListener("click", show);
  model.on("change:pane", show);
  model.on("change:height", resize);
  show();
  return () => {
    model.off("change:pane", show);
    model.off("change:height", resize);
  };
}

export default { render };
