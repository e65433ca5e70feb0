// The user's own open sockets, on whatever device: look at them, end one, or all that are not of this login.

const devices = document.getElementById("devices");

if (devices) {
  const list = devices.querySelector("ul");
  const state = document.getElementById("devices-state");
  const others = devices.querySelector(":scope > button");
  const csrf = document.querySelector("[name=csrfmiddlewaretoken]").value;

  const ask = async (method, path = "") => {
    const answer = await fetch(devices.dataset.url + path, { method, headers: { "X-CSRFToken": csrf } });
    const content = await answer.json();
    if (!answer.ok) throw new Error(content.message);
    return content;
  };

  const refresh = async () => {
    const { connections } = await ask("GET");
    list.replaceChildren(...connections.map(item));
    others.hidden = connections.every(({ current }) => current);
    state.textContent = connections.length ? "" : "None is known yet: it takes a second or two.";
  };

  const end = async (path) => {
    try {
      const { ended } = await ask("DELETE", path);
      await refresh();
      state.textContent = ended.length === 1 ? "Ended." : `Ended ${ended.length}.`;
    } catch (error) {
      state.textContent = error.message;
    }
  };

  const item = ({ id, address, path, since, current }) => {
    const entry = document.createElement("li");
    const button = document.createElement("button");
    const began = new Date(since).toLocaleTimeString();
    entry.append(`${path} from ${address}, since ${began}${current ? ", this login" : ""} `, button);
    button.type = "button";
    button.className = "quiet";
    button.textContent = "End";
    button.setAttribute("aria-label", `End the connection to ${path} since ${began}`);
    button.addEventListener("click", () => end(`${id}/`));
    return entry;
  };

  others.addEventListener("click", () => end(""));
  devices.addEventListener("toggle", () => {
    if (devices.open) refresh().catch((error) => { state.textContent = error.message; });
  });
}
