"""What the user asks for, from words, variables and files: tables of options, their values, and errors with a fix.

It stands below everything that needs it (`init`, the host, the launch, the commands) and knows none of them.
"""
