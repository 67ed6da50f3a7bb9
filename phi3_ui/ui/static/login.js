/** Logs in without leaving the page, so that what was typed stays if the login is refused. */
async function logIn(form) {
  const problem = form.querySelector("[role=alert]");
  const button = form.querySelector("button");
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

document.querySelector("form")?.addEventListener("submit", (event) => {
  event.preventDefault();
  logIn(event.target);
});

// Providers do not allow other sites to frame them, and browsers withhold the cookies of framed pages.
if (self !== top) document.querySelector("a.button")?.setAttribute("target", "_blank");
