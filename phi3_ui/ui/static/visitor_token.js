/**
 * The secret that identifies a visitor without a login.
 * The browser creates and stores it; if storage is blocked, it lasts only as long as the page.
 */
export default function visitorToken() {
  if (globalThis.phi3VisitorToken) return globalThis.phi3VisitorToken;
  const key = "phi3-chat-who";
  let token = null;
  try {
    token = localStorage.getItem(key);
  } catch (error) {
    console.info("This browser blocks local storage:", error);
  }
  if (!token) {
    const bytes = crypto.getRandomValues(new Uint8Array(24));
    token = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(
      "",
    );
    try {
      localStorage.setItem(key, token);
    } catch (error) {
      console.info("This browser blocks local storage:", error);
    }
  }
  return globalThis.phi3VisitorToken = token;
}
