"""`make soak`: simulated users exercise the app at random while it and its models are killed; afterwards, nothing may be leaked or lost."""
