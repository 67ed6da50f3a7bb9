"""Small buttons inside what is drawn as HTML: in a message, in the list of chats.

Each is a `button.phi3-action` whose name says what to do and whose value says to what; the chat's own cleaning of HTML lets
nothing else through. ACTIONS_JS hears every click on one and gives it to the page's one handler.
"""

from html import escape

ACTIONS_JS = """
const message = () => document.querySelector('#phi3-message textarea');
const ask = (name, value, text) => {
  window.phi3Asked = name;
  trigger('click', { name, value, text });
  if (name === 'open' && window.innerWidth <= 1000)
    document.querySelectorAll('.sidebar.open .toggle-button').forEach((toggle) => toggle.click());
  // What is drawn anew takes the focus with it: it goes to the button's successor, or to the box that is filled.
  const successor = { delete: 'restore', rename: 'open', restore: 'open' }[name] || name;
  const wanted = `button.phi3-action[name="${successor}"][value="${value}"]`;
  const watch = new MutationObserver(() => {
    if (document.activeElement !== document.body) return;
    const next = name === 'edit' || name === 'undo' ? message() : document.querySelector(wanted);
    if (next) next.focus({ preventScroll: true });
  });
  if (name === 'edit' || name === 'undo') message().focus();
  watch.observe(document.body, { childList: true, subtree: true });
  const end = () => watch.disconnect();
  document.addEventListener('pointerdown', end, { once: true });
  document.addEventListener('keydown', end, { once: true });
};
document.addEventListener('keydown', (event) => {
  const cancel = document.querySelector('#phi3-editing button');
  if (event.key === 'Escape' && cancel && event.target === message()) cancel.click();
});
const rename = (button) => {
  const row = button.closest('.phi3-row'), title = row.querySelector('button[name="open"]');
  const input = document.createElement('input');
  input.value = title.title || title.textContent;
  input.maxLength = 200;
  input.className = 'phi3-rename';
  input.setAttribute('aria-label', button.title);
  let ended = false;
  const end = (keep) => {
    if (ended) return;
    ended = true;
    if (input.isConnected) input.replaceWith(title);
    if (keep && input.value !== title.title) ask('rename', button.value, input.value);
  };
  input.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' && event.key !== 'Escape') return;
    event.preventDefault();  // else the key would press the button that gets the focus
    end(event.key === 'Enter');
  });
  // Not at once: the list may be in the middle of being drawn anew, without this field.
  input.addEventListener('blur', () => setTimeout(() => end(true)));
  title.replaceWith(input);
  input.select();
};
document.addEventListener('click', (event) => {
  const button = event.target.closest && event.target.closest('button.phi3-action');
  if (!button) return;
  if (button.name === 'rename') rename(button);
  else ask(button.name, button.value, '');
});
"""


def action_button(name: str, value: str, words: str, title: str = "") -> str:
    """A button that does `name` to `value`; `title` says more than its words do."""
    more = f' title="{escape(title)}"' if title else ""
    return f'<button class="phi3-action" name="{escape(name)}" value="{escape(value)}"{more}>{escape(words)}</button>'
