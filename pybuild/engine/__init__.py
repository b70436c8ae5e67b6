"""The library: containers, images, networks and volumes, without a terminal and without HTTP."""
