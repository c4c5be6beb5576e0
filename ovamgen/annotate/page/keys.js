// The page's keys: one table for what they do and for the help that shows them.

// [shown, text, keys that match, what runs] - `hold` runs again with false when the key is let go.
export function listenToKeys(table, closed) {
  const run = (event, down) => {
    if (event.target.matches("input[type=text], textarea") || !closed()) return;
    for (const { match, does, hold } of table) {
      if (!match?.(event) || (!down && !hold) || (hold && event.repeat)) continue;
      // a button that has the focus keeps its own keys
      const own = event.target.matches("button") && (event.key === " " || event.key === "Enter");
      const slides = event.target.matches("input[type=range]") && event.key.startsWith("Arrow");
      if ((own && !does.urgent?.()) || slides) return;
      event.preventDefault();
      does(hold ? down : event);
      return;
    }
  };
  addEventListener("keydown", (event) => run(event, true));
  addEventListener("keyup", (event) => run(event, false));
}

const command = (event) => event.ctrlKey || event.metaKey;

// Matches one of the keys without Ctrl, Alt or Command; letters in either case.
export const key = (...names) => (event) =>
  !command(event) && !event.altKey && names.includes(event.key.length === 1 ? event.key.toLowerCase() : event.key);

export const isUndo = (event) => event.key.toLowerCase() === "z" && !event.shiftKey && !event.altKey;
export const isRedo = (event) => !event.altKey
  && (event.key.toLowerCase() === "y" || (event.key.toLowerCase() === "z" && event.shiftKey));
export const isEnter = (event) => event.key === "Enter" && !command(event);

export function describeKeys(list, table) {
  for (const { shown, text } of table) {
    const term = document.createElement("dt"), meaning = document.createElement("dd");
    shown.split(" ").forEach((name, index) => {
      const cap = document.createElement("kbd");
      cap.textContent = name;
      term.append(...(index ? [" ", cap] : [cap]));
    });
    meaning.textContent = text;
    list.append(term, meaning);
  }
}
