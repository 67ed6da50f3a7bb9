"""The API on Ray Serve: separate replicas for each model, on one or more machines. See docs/ray.md."""
