#!/bin/sh
# Entry point of bids_interp and bids_interp_tools in the image: only the packages of the image are
# used, regardless of PYTHON* variables and user packages of the host.
unset PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONUSERBASE PYTHONEXECUTABLE
exec /opt/venv/bin/python -I "/opt/venv/bin/${0##*/}" "$@"
