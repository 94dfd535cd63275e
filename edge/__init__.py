"""The on-device side: plan, capture, fuse, stitch and write the slide."""
