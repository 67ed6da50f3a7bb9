"""Where models come from: the tracking store and remote servers, behind one interface."""
