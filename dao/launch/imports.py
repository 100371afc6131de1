"""What every process of a run imports, for the server that they are forked from: torch, its friends and all of ours."""

from dao.register import import_all_modules_for_register

import_all_modules_for_register()
