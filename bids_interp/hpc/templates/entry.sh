#!/bin/sh
# bids_interp and bids_interp_tools inside the image: only the image's own packages are seen,
# whatever PYTHON* variables and user packages came along from the host.
unset PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONUSERBASE PYTHONEXECUTABLE
exec /opt/venv/bin/python -I "/opt/venv/bin/${0##*/}" "$@"
