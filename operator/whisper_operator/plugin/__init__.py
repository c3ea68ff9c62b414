"""`kubectl whisper`: speech to text by an endpoint, and how an endpoint is.

What needs credentials is done by the user's own kubectl, so that every way to log in works, and no rights are needed but theirs.
"""
