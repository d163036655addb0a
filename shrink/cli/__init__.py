"""The command line: arguments -> api -> report -> exit code; one file per command.

Nothing here imports torch before a command runs, so that `shrink --help` is quick.
"""
