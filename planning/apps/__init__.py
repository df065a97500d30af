"""Services behind the commands; they print nothing."""

from worldmodel.resources import require_own_packages

require_own_packages()
