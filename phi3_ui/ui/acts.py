"""Small buttons inside what is drawn as HTML: in a message, in the list of chats.

Each is a `button.phi3-do` whose name says what to do and whose value says to what; the chat's own cleaning of HTML lets
nothing else through. ACTS_JS hears every click on one and gives it to the page's one handler.
"""

from html import escape

ACTS_JS = """
const ask = (name, value, text) => trigger('click', { name, value, text });
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
    if (keep && input.value !== title.title) ask('rename', button.value, input.value);
    input.replaceWith(title);
  };
  input.addEventListener('keydown', (event) => {
    if (event.key === 'Enter') end(true);
    if (event.key === 'Escape') end(false);
  });
  input.addEventListener('blur', () => end(true));
  title.replaceWith(input);
  input.select();
};
document.addEventListener('click', (event) => {
  const button = event.target.closest && event.target.closest('button.phi3-do');
  if (!button) return;
  if (button.name === 'rename') rename(button);
  else ask(button.name, button.value, '');
});
"""


def act(name: str, value: str, words: str, title: str = "") -> str:
    """A button that does `name` to `value`; `title` says more than its words do."""
    more = f' title="{escape(title)}"' if title else ""
    return f'<button class="phi3-do" name="{escape(name)}" value="{escape(value)}"{more}>{escape(words)}</button>'
