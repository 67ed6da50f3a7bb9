"""The API on Ray Serve: each model in replicas of its own, on one machine or many. See docs/deployment.md."""
