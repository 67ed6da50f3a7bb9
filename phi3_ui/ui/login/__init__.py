"""Authentication: passwords, throttling, sessions, and the routes to log in and out."""
