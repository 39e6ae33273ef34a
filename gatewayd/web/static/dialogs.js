// Dialogs that ask: whether to do something, and who one is.

import { find, say } from "./dom.js";
import { signIn } from "./server.js";
import { has, text } from "./texts.js";

/** Asks; resolves to whether the answer was yes. Escape is no. */
export function confirmed(title, question, yes) {
  const dialog = find("question");
  say(find("question-title"), title);
  say(find("question-text"), question);
  say(find("question-yes"), yes);
  return new Promise((resolve) => {
    let answer = false;
    find("question-yes").onclick = () => { answer = true; dialog.close(); };
    find("question-no").onclick = () => dialog.close();
    dialog.onclose = () => resolve(answer);
    dialog.showModal();
  });
}

/** Lets a person sign in; resolves to whether it was done. */
export function signedIn() {
  const [dialog, form, error] = [find("sign-in-dialog"), find("sign-in-form"), find("sign-in-error")];
  say(error, "");
  if (dialog.open) return Promise.resolve(false);
  return new Promise((resolve) => {
    let isDone = false;
    form.onsubmit = async (event) => {
      event.preventDefault();
      try {
        await signIn(form.elements.user.value, form.elements.password.value);
        isDone = true;
        dialog.close();
      } catch (refused) {
        say(error, "");
        say(error, refusal(refused));
        form.elements.password.select();
      }
    };
    find("sign-in-no").onclick = () => dialog.close();
    dialog.onclose = () => { form.elements.password.value = ""; resolve(isDone); };
    dialog.showModal();
  });
}

/** What an error of the server's says, in the words of the catalogue where it has any. */
export function refusal(error) {
  const key = `error.${error.code}`;
  if (has(key)) return text(key, { seconds: error.retryAfter || 30 });
  return [error.message, error.hint && `(${error.hint})`].filter(Boolean).join(" ");
}
