"""A module for each subject: a pure function from what was read to findings. Their order is in examination."""
