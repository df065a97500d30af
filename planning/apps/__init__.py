"""Services behind the commands, free of printing."""

from worldmodel.resources import require_own_packages

require_own_packages()
