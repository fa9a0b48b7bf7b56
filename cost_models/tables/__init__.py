"""Tables of measurements, and the anchors that tell how fast a machine was."""
