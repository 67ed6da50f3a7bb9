"""`make soak`: people use the app at random while it and its models are killed; afterwards nothing may be left or lost."""
