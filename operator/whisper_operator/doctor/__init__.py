"""`whisper-operator doctor`: what is wrong with an installation and its endpoints, in plain words, and what mends it.

`gathering` reads the cluster with the caller's own rights, `views` makes of that what the operator would see; a module for each
subject is a pure function from there to findings; `printing` prints them. Nothing is ever written, and no Secret is read.
"""
