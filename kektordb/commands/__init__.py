"""What the command line can do: one module for each family of commands.

Each has ``add(commands)``, which describes its commands to argparse. A command is a function of the parsed arguments
that returns an `Answer`; what it needs is imported when it runs.
"""

from kektordb.commands.answer import Answer, table

__all__ = ["Answer", "table"]
