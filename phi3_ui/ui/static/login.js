/** Logs in without leaving the page: what was typed stays if it is refused. */
const form = document.querySelector("form");
const problem = form.querySelector("[role=alert]");
const button = form.querySelector("button");

async function logIn() {
  problem.textContent = "";
  button.disabled = true;
  try {
    const response = await fetch(form.action, { method: "POST", body: new FormData(form) });
    if (response.ok) {
      location.reload();
      return;
    }
    const isExplained = response.status === 401 || response.status === 429;
    problem.textContent = isExplained ? (await response.json()).detail : form.dataset.unreachable;
  } catch (error) {
    console.info("The login was not sent:", error);
    problem.textContent = form.dataset.unreachable;
  }
  button.disabled = false;
  form.elements.password.select();
  form.elements.password.focus();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  logIn();
});
