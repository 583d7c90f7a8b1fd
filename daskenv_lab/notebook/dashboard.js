// Asks Jupyter Server for a path of the dashboard, and shows it in a sandbox.
// The page itself says where Jupyter is, which the kernel cannot know.

function jupyter() {
  try {
    const told = JSON.parse(document.getElementById("jupyter-config-data").textContent);
    return { base: new URL(told.baseUrl, location.href).pathname.replace(/\/?$/, "/"), token: told.token };
  } catch {
    return null;
  }
}

async function ticket({ base, token }, name, pane) {
  const xsrf = document.cookie.match(/(?:^|;\s*)_xsrf=([^;]*)/);
  const headers = { "Content-Type": "application/json" };
  if (xsrf) headers["X-XSRFToken"] = decodeURIComponent(xsrf[1]);
  if (token) headers.Authorization = `token ${token}`;
  const url = `${base}daskenv/api/clusters/${encodeURIComponent(name)}/dashboard`;
  const body = JSON.stringify({ pane });
  const answer = await fetch(url, { method: "POST", credentials: "same-origin", headers, body });
  const told = await answer.json().catch(() => ({}));
  if (answer.ok && told.path) return told.path;
  if (told.message) throw new Error(`${told.message}.`);
  throw new Error("This Jupyter Server does not have the extension of daskenv_lab; install the package where the server runs, and start it again.", { cause: "missing" });
}

function make(tag, properties, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

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
      const path = await ticket(server, name, pane);
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
