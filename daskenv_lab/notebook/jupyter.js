// Where Jupyter Server is, which the page says and the kernel cannot know, and how it is asked.

function jupyter() {
  try {
    const told = JSON.parse(document.getElementById("jupyter-config-data").textContent);
    return { base: new URL(told.baseUrl, location.href).pathname.replace(/\/?$/, "/"), token: told.token };
  } catch {
    return null;
  }
}

// Gives what our extension answers. An error has its sentence, and the cause "missing" where the
// extension is not there.
async function ask({ base, token }, method, path, body) {
  const xsrf = document.cookie.match(/(?:^|;\s*)_xsrf=([^;]*)/);
  const headers = { "Content-Type": "application/json" };
  if (xsrf) headers["X-XSRFToken"] = decodeURIComponent(xsrf[1]);
  if (token) headers.Authorization = `token ${token}`;
  const request = { method, credentials: "same-origin", headers };
  if (method !== "DELETE") request.body = JSON.stringify(body);
  const answer = await fetch(`${base}daskenv/api/${path}`, request);
  const told = await answer.json().catch(() => null);
  if (answer.ok && told) return told;
  if (told?.message) throw new Error(`${told.message}.`);
  throw new Error("This Jupyter Server does not have the extension of daskenv_lab; install the package where the server runs, and start it again.", { cause: "missing" });
}

function make(tag, properties, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

