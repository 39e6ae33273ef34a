// What the page asks of gatewayd-web besides the news. Every address is relative: the page may stand below another.

/** An answer that says no; `code` is stable. */
export class Refused extends Error {
  constructor(status, error, retryAfter) {
    super(error.message || error.code);
    Object.assign(this, { status, code: error.code, hint: error.hint ?? "", retryAfter });
  }
}

export const getSession = () => ask("session");
export const getDevice = (name) => ask(`device?name=${encodeURIComponent(name)}`);
export const signIn = (user, password) => post("session", { user, password });
export const signOut = () => post("session/end", {});
export const command = (op, targets) => post(`commands/${op}`, { targets });

function post(address, body) {
  return ask(address, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Gatewayd": "page" },
    body: JSON.stringify(body),
  });
}

async function ask(address, options = {}) {
  let response;
  try {
    response = await fetch(address, { cache: "no-store", ...options });
  } catch {
    throw new Refused(0, { code: "page_away", message: "" });
  }
  const said = await response.json().catch(() => ({}));
  if (!response.ok) {
    const error = said.error ?? { code: `http_${response.status}`, message: "" };
    throw new Refused(response.status, error, Number(response.headers.get("Retry-After")));
  }
  return said;
}
