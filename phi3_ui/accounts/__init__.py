"""Who uses the app, on the page or through its API, and what each person may use."""
