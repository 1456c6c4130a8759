"""One thin click command per stage; each module's command is named `command` and is loaded only when it
is asked for.
"""
