"""A stand-in for the voice platform that runs on one machine: `python -m sandbox`."""
