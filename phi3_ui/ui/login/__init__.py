"""Who may use the page: passwords, attempts, sessions, and the routes to log in and out."""
